"""SQL about outcomes. Called by `trends/service.py` and by readers above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.db.schema import outcome
from ostler.db.tx import Tx


def insert(tx: Tx, values: Mapping[str, Any]) -> None:
    tx.execute(outcome.insert().values(**values))


def of_node(tx: Tx, node_id: str, *, limit: int = 200) -> Sequence[sa.RowMapping]:
    """The latest outcomes of a node, newest first."""
    return tx.all(
        sa.select(outcome).where(outcome.c.node_id == node_id).order_by(outcome.c.finished_at.desc()).limit(limit)
    )


def since(tx: Tx, node_id: str, at: float) -> Sequence[sa.RowMapping]:
    """Outcomes of tests that began at or after a moment, oldest first."""
    return tx.all(
        sa.select(outcome)
        .where(outcome.c.node_id == node_id, outcome.c.started_at >= at)
        .order_by(outcome.c.finished_at, outcome.c.id)
    )
