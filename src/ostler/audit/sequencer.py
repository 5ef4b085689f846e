"""Gives sealed rows their one order: dense positions for the audit log and for the event ledger, within a second.

Domain transactions insert rows without a position, because the order in which transactions begin, insert and commit
differs. One leased loop, here, takes every committed row that has none and numbers it; so a reader who has seen
position n has seen everything up to n, and a late commit gets a later number instead of slipping in behind a reader's
cursor. Claiming the lease, reading the last position and writing the next ones is one transaction that holds the
lease's row: two sequencers can never give out a position twice, whatever their clocks say.

Started by `app.py` (`Sequencer.start`), which passes the event table in, since audit knows nothing of events.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from ostler.audit import store
from ostler.audit.merkle import Frontier
from ostler.audit.model import leaf_of
from ostler.core.errors import OstlerError
from ostler.db import lease
from ostler.db.engine import Database
from ostler.db.schema import audit, event
from ostler.db.tx import Tx

LEASE = "sequencer"
LEASE_SECONDS = 5.0
"""Real seconds. Short, since the transaction and not the lease keeps two sequencers apart; it only saves them work."""

POLL_SECONDS = 0.25
"""Real seconds between looks. A look that finds nothing is one indexed read and writes nothing."""

BATCH = 1000
"""Rows of each table sealed in one transaction, which bounds how long it holds SQLite's writer (tens of ms)."""

_log = structlog.get_logger()


@dataclass(frozen=True)
class Sealed:
    """How many rows one run gave a position to."""

    audit: int = 0
    others: int = 0

    def __bool__(self) -> bool:
        return bool(self.audit or self.others)


class Sequencer:
    """The leased loop.

    `ledgers` are append-only tables with id, at, subject, seq and position, sealed without leaves.
    """

    def __init__(self, db: Database, owner: str, *, ledgers: Sequence[sa.Table] = (event,)) -> None:
        self._db = db
        self._owner = owner
        self._ledgers = tuple(ledgers)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.last_success: float | None = None
        """Real time of the last look that found the log in order: what `/readyz` and `/metrics` show."""

    def run_once(self) -> Sealed:
        """Seal one batch of what waits. Nothing sealed means: nothing waits, or another replica holds the lease."""
        sealed = Sealed()
        if self._db.read(self._waiting):
            sealed = self._db.write(self._seal)
        self.last_success = self._db.clock.real()
        return sealed

    def start(self) -> None:
        """Run in a thread until `stop`."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._loop, name="ostler-sequencer", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Finish the batch at hand and return."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def nudge(self) -> None:
        """Look now. Never needed; it shortens the wait."""
        self._wake.set()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            pause = POLL_SECONDS
            try:
                if self.run_once():
                    pause = 0.0
            except OstlerError as error:
                _log.warning("sequencer.delayed", error=str(error))
                pause = 1.0
            except Exception:
                # Anything else is a bug; the log must go on being sealed, and the bug must be seen.
                _log.exception("sequencer.failed")
                pause = 1.0
            self._wake.wait(pause)

    def _waiting(self, tx: Tx) -> bool:
        return any(store.any_unsealed(tx, table) for table in (audit, *self._ledgers))

    def _seal(self, tx: Tx) -> Sealed:
        if lease.claim_named(tx, LEASE, owner=self._owner, seconds=LEASE_SECONDS) is None:
            return Sealed()
        return Sealed(_seal_audit(tx), sum(_seal_ledger(tx, table) for table in self._ledgers))


def _seal_audit(tx: Tx) -> int:
    entries = store.unsealed_entries(tx, BATCH)
    if not entries:
        return 0
    head = store.head(tx)
    frontier = Frontier() if head is None else Frontier(head.size, [bytes.fromhex(h) for h in head.frontier])
    rows = []
    nodes = []
    for entry in entries:
        position = frontier.size + 1
        leaf = leaf_of(entry, position)
        nodes += frontier.append(leaf)
        rows.append({"row": entry.id, "position": position, "leaf": leaf.hex()})
    store.seal(tx, audit, rows)
    store.insert_nodes(tx, nodes)
    store.insert_head(tx, frontier)
    return len(rows)


def _seal_ledger(tx: Tx, table: sa.Table) -> int:
    ids = store.unsealed_in_subject_order(tx, table, BATCH)
    if ids:
        start = store.last_position(tx, table) + 1
        store.seal(tx, table, [{"row": key, "position": start + i} for i, key in enumerate(ids)])
    return len(ids)
