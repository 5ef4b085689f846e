"""One transaction, as every store and service sees it. Made by `db/engine.py` only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

_log = logging.getLogger(__name__)


@dataclass
class Tx:
    """An open transaction with its moment. `now` (domain) and `real` (wall) are read once, so that all rows agree."""

    conn: sa.Connection
    now: float
    real: float
    dialect: str
    """`sqlite` or `postgresql`."""
    after: list[Callable[[], None]] = field(default_factory=list)
    """What `after_commit` was given."""

    def execute(
        self, statement: sa.Executable, rows: Sequence[Mapping[str, Any]] | None = None
    ) -> sa.CursorResult[Any]:
        """Run a statement, once or for each of `rows`; for no rows at all it does nothing."""
        if rows is not None and not rows:
            # SQLAlchemy would run the statement once, with no values.
            return self.conn.execute(sa.select(sa.literal(1)).where(sa.false()))
        return self.conn.execute(statement, rows)

    def one(self, statement: sa.Executable) -> sa.RowMapping | None:
        """The only row, or None."""
        return self.conn.execute(statement).mappings().one_or_none()

    def all(self, statement: sa.Executable) -> Sequence[sa.RowMapping]:
        """Every row."""
        return self.conn.execute(statement).mappings().all()

    def scalar(self, statement: sa.Executable) -> Any:
        """The first column of the first row, or None."""
        return self.conn.execute(statement).scalar()

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run once the transaction is durable: a nudge for a loop. Never needed for correctness; should not raise."""
        self.after.append(call)

    def lock(self, name: str) -> None:
        """Hold a named lock until the transaction ends, so that check-then-write is safe across replicas.

        SQLite has one writer anyway; PostgreSQL takes a transaction-level advisory lock. `Unavailable` when another
        transaction holds it for longer than the database's busy time.
        """
        if self.dialect == "postgresql":
            self.conn.execute(sa.text("select pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


def run_after_commit(calls: Sequence[Callable[[], None]]) -> None:
    """Run what a committed use case asked for. The commit stands whatever happens here, so a failure is only logged."""
    for call in calls:
        try:
            call()
        except Exception:
            _log.exception("a call after commit failed")
