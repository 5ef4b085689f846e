"""SQL about the weekly rounds. Called by `rounds.py` and faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.core.errors import NotFound
from ostler.db.schema import fabric_round
from ostler.db.tx import Tx


def insert(tx: Tx, values: Mapping[str, Any]) -> None:
    tx.execute(fabric_round.insert().values(**values))


def update(tx: Tx, round_id: str, values: Mapping[str, Any]) -> None:
    tx.execute(fabric_round.update().where(fabric_round.c.id == round_id).values(**values))


def latest(tx: Tx, fabric: str) -> sa.RowMapping | None:
    mine = sa.select(fabric_round).where(fabric_round.c.fabric == fabric)
    return tx.one(mine.order_by(fabric_round.c.id.desc()).limit(1))


def get(tx: Tx, fabric: str, round_id: str, *, lock: bool = False) -> sa.RowMapping:
    query = sa.select(fabric_round).where(fabric_round.c.fabric == fabric, fabric_round.c.id == round_id)
    row = tx.one(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound(f"The fabric '{fabric}' has no round '{round_id}'.")
    return row


def listed(tx: Tx, fabric: str, *, after: str | None = None, limit: int = 100) -> Sequence[sa.RowMapping]:
    """Newest first; `after` is the id of the last one seen."""
    query = sa.select(fabric_round).where(fabric_round.c.fabric == fabric)
    if after is not None:
        query = query.where(fabric_round.c.id < after)
    return tx.all(query.order_by(fabric_round.c.id.desc()).limit(limit))
