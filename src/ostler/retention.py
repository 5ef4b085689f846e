"""How long what is kept: a daily schedule of `app.py` that deletes in small transactions, table by table.

History of nodes, the audit log, outcomes and tickets are kept for ever; raw material is not (DESIGN, section 6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.events import service as events
from ostler.events import store as webhooks
from ostler.health import store as health
from ostler.oncall import store as oncall

_DAY = 86_400.0
_BATCH = 1000
"""Rows per transaction: a sweep never holds SQLite's writer for long."""


@dataclass(frozen=True)
class RetentionSettings:
    """`[retention]` of the configuration. Days of domain time; webhook attempts are real days."""

    signals_days: float = 30.0
    """Raw observations; findings keep what mattered of them."""
    attempts_days: float = 14.0
    """Tries of webhook deliveries, and pages whose end was told."""
    events_days: float = 400.0
    """The event ledger; a cursor older than that answers 410."""


def sweep(db: Database, settings: RetentionSettings) -> None:
    """Delete what is too old."""
    now, real = db.clock.now(), db.clock.real()
    signals, attempts = now - settings.signals_days * _DAY, real - settings.attempts_days * _DAY
    _until_none(db, lambda tx: health.forget_signals(tx, signals, _BATCH))
    _until_none(db, lambda tx: webhooks.forget_attempts(tx, attempts, _BATCH))
    _until_none(db, lambda tx: oncall.forget(tx, attempts))
    _until_none(db, lambda tx: events.forget(tx, now - settings.events_days * _DAY, limit=_BATCH))


def _until_none(db: Database, delete: Callable[[Tx], int]) -> None:
    while db.write(delete) > 0:
        pass
