"""Polls every BMC, spread over the interval, from one process. Built and started by `app.py`; one replica at a time.

A dispatcher thread holds the lease, keeps the list of BMCs, and hands what is due to worker threads; a worker holds
one conversation, reads, judges by `bmc_policy`, and writes by `bmc_books` only when there is news. A BMC that hangs
costs one worker for its deadline; the doubtful ones together have a quarter of the workers, so that a dead rack delays
nobody else. Reads only: nothing here takes a permit.
"""

from __future__ import annotations

import contextlib
import heapq
import queue
import resource
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from ostler.adapters.bmc.port import Bmc
from ostler.adapters.bmc.redfish_transport import Limits
from ostler.core.errors import OstlerError
from ostler.db.engine import Database
from ostler.db.lease import claim_named
from ostler.health import bmc_books as books
from ostler.health import bmc_policy as policy
from ostler.health import bmc_store
from ostler.health.bmc_policy import BmcWatchSettings
from ostler.health.bmc_target import Declared, Reader, Target
from ostler.health.model import HealthSettings
from ostler.nodes.model import Node

log = structlog.get_logger(__name__)

LEASE_SECONDS = 30.0
ROUND_SECONDS = 0.25
"""The dispatcher looks at least this often (real seconds) what is due."""
REFRESH_SECONDS = 15.0
"""How often it renews its lease, reads which BMCs there are and writes who answered (real seconds)."""
LEAST_REAL_S = 5.0
RECHECK_REAL_S = 0.5
"""However fast a simulation runs, no BMC is asked more often than this, nor a wet detector again sooner."""
FAREWELL_SECONDS = 5.0
"""How long stopping waits for BMCs to take our log-outs."""


def limits(settings: BmcWatchSettings) -> Limits:
    """What one operation of the watch may cost: for the factory that `app.py` opens its conversations with."""
    deadline = settings.deadline_s
    return Limits(read_seconds=min(15.0, deadline), request_seconds=deadline, operation_seconds=deadline)


@dataclass(frozen=True)
class Counts:
    """How the watch is doing, for `/metrics` and benchmarks."""

    watched: int
    silent: int
    polls: int
    failures: int
    running: int
    late_p99_s: float
    """Domain seconds between being due and being asked, of the last polls."""


class BmcWatch:
    """One per server process. `declared` says which firmware a node must run."""

    def __init__(
        self,
        db: Database,
        open_bmc: Callable[[Node], Bmc],
        settings: BmcWatchSettings,
        health: HealthSettings,
        on_diagnoses: books.OnDiagnoses,
        *,
        owner: str,
        declared: Declared = lambda _node: {},
        least_real_s: float = LEAST_REAL_S,
    ) -> None:
        self._db = db
        self._reader = Reader(db, open_bmc, settings, health, on_diagnoses, declared)
        self._settings = settings
        self._health = health
        self._owner = owner
        self._least_real_s = least_real_s
        self._targets: dict[str, Target] = {}
        self._heap: list[tuple[float, str]] = []
        self._work: queue.SimpleQueue[Target | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._running = 0
        self._doubtful = 0
        self._open = 0
        self._polls = 0
        self._failed = 0
        self._failing = 0
        """BMCs whose last poll failed: many at once are held against us before a single one is blamed."""
        self._late: deque[float] = deque(maxlen=20_000)
        self._heard: dict[str, float] = {}
        self._suspects: bool | None = None
        self._started = db.clock.now()
        self._refreshed: float | None = None
        self._mine = False
        self._done = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._room = settings.kept if soft == resource.RLIM_INFINITY else min(settings.kept, soft // 2)
        self.last_success = 0.0
        """Real time of the dispatcher's last round, for `/readyz`."""

    def start(self) -> None:
        if self._settings.enabled:
            self._thread = threading.Thread(target=self._loop, name="ostler-bmc-watch", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Finish what runs if it ends soon, and log out."""
        self._stop.set()
        self._done.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        until = time.monotonic() + FAREWELL_SECONDS
        goodbye = [one for one in self._targets.values() if one.bmc is not None]
        for one in goodbye:
            self._let_go(one)
        for _ in range(self._threads):
            self._work.put(None)
        while time.monotonic() < until and any(one.bmc is not None for one in goodbye):
            self._done.clear()
            self._done.wait(0.1)

    def counts(self) -> Counts:
        with self._lock:
            late = list(self._late)
            targets, polls, failures, running = list(self._targets.values()), self._polls, self._failed, self._running
        late.sort()
        return Counts(
            watched=len(targets),
            silent=sum(1 for one in targets if self._is_silent(one)),
            polls=polls,
            failures=failures,
            running=running,
            late_p99_s=late[len(late) * 99 // 100] if late else 0.0,
        )

    def forget_lateness(self) -> None:
        """Count lateness from now on: for benchmarks, after the first round."""
        with self._lock:
            self._late.clear()

    def run_due(self) -> None:
        """Everything that is due by now, to its end: for tests and tools, instead of `start`. Renews the list first."""
        self._refresh()
        while self._mine:
            self._dispatch()
            with self._lock:
                waits = self._running > 0
            if not waits and (not self._heap or self._heap[0][0] > self._db.clock.now()):
                return
            self._done.wait(0.05)
            self._done.clear()

    # ── the dispatcher ───────────────────────────────────────────────────────────────────────────────────────────────

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                if self._refreshed is None or time.monotonic() - self._refreshed >= REFRESH_SECONDS:
                    self._refresh()
                if self._mine:
                    self._dispatch()
                self.last_success = self._db.clock.real()
            except OstlerError as error:
                log.warning("bmc_watch.round_failed", error=str(error))
                self._stop.wait(1.0)
            except Exception:
                log.exception("bmc_watch.round_broken")
                self._stop.wait(1.0)
            self._done.wait(ROUND_SECONDS)
            self._done.clear()

    def _refresh(self) -> None:
        """Renew the lease, learn which BMCs there are, write who answered, judge whether too many are silent."""
        claim = self._db.write(lambda tx: claim_named(tx, "bmc-watch", owner=self._owner, seconds=LEASE_SECONDS))
        self._refreshed = time.monotonic()
        if claim is None or not self._mine:
            for one in self._targets.values():
                self._let_go(one)
            with self._lock:
                self._targets, self._heap, self._suspects = {}, [], None
        self._mine = claim is not None
        if not self._mine:
            return
        self._learn()
        with self._lock:
            heard, self._heard = self._heard, {}
        if heard:
            self._db.write(lambda tx: bmc_store.answered(tx, heard))
        if self._db.clock.now() - self._started >= self._health.grace_s:
            silent = sum(1 for one in self._targets.values() if self._is_silent(one))
            why = policy.suspects_itself(silent, len(self._targets), self._settings)
            if self._suspects is not (why is not None):
                self._db.write(lambda tx: books.together(tx, why))
                self._suspects = why is not None

    def _learn(self) -> None:
        rows = self._db.read(bmc_store.watched)
        now, settings = self._db.clock.now(), self._settings
        for row in rows:
            login = (row["bmc_address"], row["bmc_secret"])
            runs = books.should_run(row["state"], row["maintenance_by"], row["power_locked"])
            present = self._targets.get(row["id"])
            if present is not None and present.login == login:
                present.should_run = runs
                continue
            if present is not None:
                self._let_go(present)
            phase = zlib.crc32(row["id"].encode()) / (1 << 32)
            one = Target(
                node_id=row["id"],
                login=login,
                due=now + phase * settings.every_s,
                log_due=now + phase * settings.log_every_s,
                parts_due=now + phase * settings.parts_every_s,
                should_run=runs,
                position=row["position"] or "",
                fresh=row["position"] is None or row["position"] == "",
                failures=row["failures"] or 0,
            )
            self._targets[one.node_id] = one
            with self._lock:
                heapq.heappush(self._heap, (one.due, one.node_id))
        with self._lock:
            self._failing = sum(1 for one in self._targets.values() if one.error is not None)
        for node_id in set(self._targets) - {row["id"] for row in rows}:
            self._let_go(self._targets.pop(node_id))

    def _let_go(self, one: Target) -> None:
        """Not watched any more; its worker, if it has one, closes the conversation."""
        with self._lock:
            one.gone = True
            idle = not one.running
        if idle and one.bmc is not None:
            self._hand_out(one)

    def _dispatch(self) -> None:
        now = self._db.clock.now()
        aside: list[tuple[float, str]] = []
        while True:
            with self._lock:
                full = self._running >= self._settings.workers
                crowded = self._doubtful >= max(1, self._settings.workers // 4)
                if full or not self._heap or self._heap[0][0] > now:
                    break
                entry = heapq.heappop(self._heap)
            one = self._targets.get(entry[1])
            if one is None or one.gone or one.running or one.due != entry[0]:
                continue
            if one.failures and crowded:
                aside.append(entry)
                continue
            with self._lock:
                self._late.append(now - one.due)
            self._hand_out(one)
        with self._lock:
            for entry in aside:
                heapq.heappush(self._heap, entry)

    def _hand_out(self, one: Target) -> None:
        with self._lock:
            one.running = True
            self._running += 1
            self._doubtful += one.failures > 0
            more = self._threads < min(self._settings.workers, self._running)
            self._threads += more
        if more:
            threading.Thread(target=self._serve, name="ostler-bmc", daemon=True).start()
        self._work.put(one)

    def _is_silent(self, one: Target) -> bool:
        error = one.error
        return error is not None and (one.failures >= self._settings.silent_polls or policy.refused(error))

    # ── a worker ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _serve(self) -> None:
        while (one := self._work.get()) is not None:
            doubtful = one.failures > 0
            try:
                if not one.gone:
                    self._poll(one)
            except OstlerError as error:  # of the database: told again with the next poll
                one.said = None
                log.warning("bmc_watch.not_written", node=one.node_id, error=str(error))
            except Exception:
                one.said = None
                log.exception("bmc_watch.poll_broken", node=one.node_id)
            self._finish(one, doubtful)

    def _poll(self, one: Target) -> None:
        had = one.bmc is not None
        before = one.error is not None
        try:
            answered = self._reader.poll(one, hold_silence=self._holds_silence)
        finally:
            with self._lock:
                self._open += (one.bmc is not None) - had
                self._failing += (one.error is not None) - before
        with self._lock:
            self._polls += 1
            self._failed += not answered
            if answered:
                self._heard[one.node_id] = self._db.clock.now()

    def _holds_silence(self) -> bool:
        """Too young to speak of silence, or too many fail at once for any of them to be blamed."""
        if self._db.clock.now() - self._started < self._health.grace_s:
            return True
        return policy.suspects_itself(self._failing, len(self._targets), self._settings) is not None

    def _finish(self, one: Target, doubtful: bool) -> None:
        now = self._db.clock.now()
        ahead = policy.next_in(one.failures, one.error, one.track, self._settings)
        again = one.error is None and ahead < self._settings.every_s
        ahead = max(ahead, (RECHECK_REAL_S if again else self._least_real_s) / self._db.clock.real_seconds(1.0))
        regular = one.error is None and not again
        # One that is late keeps its place in the interval, or, later still, takes its turn after everybody else.
        one.due = max(one.due + ahead, now + ahead / 2) if regular else now + ahead
        if one.gone or self._open > self._room:
            self._close(one)
        with self._lock:
            one.running = False
            self._running -= 1
            self._doubtful -= doubtful
            left = one.gone
            if not left:
                heapq.heappush(self._heap, (one.due, one.node_id))
        if left:  # it may have been let go since we looked
            self._close(one)
        self._done.set()

    def _close(self, one: Target) -> None:
        bmc, one.bmc = one.bmc, None
        if bmc is not None:
            with contextlib.suppress(Exception):
                bmc.close()
            with self._lock:
                self._open -= 1
