"""A table that the engine's tests may fill as they like: named leases, used as plain rows."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from ostler.db.schema import lease
from ostler.db.tx import Tx


def add(name: str) -> Callable[[Tx], str]:
    """A use case that inserts one row and returns its name."""

    def use_case(tx: Tx) -> str:
        tx.execute(lease.insert().values(name=name))
        return name

    return use_case


def names(tx: Tx) -> set[str]:
    """Every row that is there."""
    return set(tx.execute(sa.select(lease.c.name)).scalars())
