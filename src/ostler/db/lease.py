"""Claiming rows so that one replica works on each, shared by the three loops: jobs, controllers, webhook sender.

A claim raises the row's `fence`; whoever writes a result says which fence it holds, and a write with an old fence is
refused (`LostLease`). So a worker that slept through its lease cannot undo what its successor did. Leases run on real
time. The fence protects our rows, not the outside world: what a worker does outside must be safe to repeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ostler.core.errors import Temporary
from ostler.db.schema import lease as lease_table
from ostler.db.tx import Tx


class LostLease(Temporary):
    """Another replica took over; this result is dropped."""


@dataclass(frozen=True)
class Claim:
    """The right to work on one row until `until` (real time)."""

    row: sa.RowMapping
    """The row as it stands after the claim."""
    key: str
    owner: str
    fence: int
    until: float


def claim(
    tx: Tx,
    table: sa.Table,
    due: sa.ColumnElement[bool],
    *,
    owner: str,
    seconds: float,
    limit: int,
    order: sa.ColumnElement[Any],
) -> list[Claim]:
    """Take up to `limit` rows that are due and free (never leased, or the lease ran out), each for `seconds`."""
    key = _key(table)
    free = sa.or_(table.c.lease_until.is_(None), table.c.lease_until < tx.real)
    chosen = sa.select(key).where(due, free).order_by(order).limit(limit)
    if tx.dialect == "postgresql":
        chosen = chosen.with_for_update(skip_locked=True)
    keys = [row[0] for row in tx.execute(chosen)]
    if not keys:
        return []
    until = tx.real + seconds
    taken = (
        table.update()
        .where(key.in_(keys))
        .values(lease_owner=owner, lease_until=until, fence=table.c.fence + 1)
        .returning(*table.c)
    )
    rows = {row[key.name]: row for row in tx.execute(taken).mappings()}
    return [Claim(rows[k], k, owner, rows[k]["fence"], until) for k in keys if k in rows]


def renew(tx: Tx, table: sa.Table, held: Claim, *, seconds: float) -> Claim:
    """Hold on for `seconds` more. Raises `LostLease`."""
    until = tx.real + seconds
    _fenced(tx, table, held, {"lease_until": until})
    return Claim(held.row, held.key, held.owner, held.fence, until)


def settle(tx: Tx, table: sa.Table, held: Claim, values: Mapping[str, Any]) -> None:
    """Write the result of the work and let go, in one fenced update. Raises `LostLease`."""
    _fenced(tx, table, held, {**values, "lease_owner": None, "lease_until": None})


def claim_named(tx: Tx, name: str, *, owner: str, seconds: float) -> Claim | None:
    """Take or keep the lease of a loop that runs in one replica at a time; None while another holds it."""
    insert_ignore(tx, lease_table, {"name": name})
    mine_or_free = sa.or_(
        lease_table.c.lease_until.is_(None),
        lease_table.c.lease_until < tx.real,
        lease_table.c.lease_owner == owner,
    )
    until = tx.real + seconds
    taken = tx.one(
        lease_table.update()
        .where(lease_table.c.name == name, mine_or_free)
        .values(
            lease_until=until,
            # Keeping one's own lease keeps the fence; taking it from another raises it.
            fence=sa.case((lease_table.c.lease_owner == owner, lease_table.c.fence), else_=lease_table.c.fence + 1),
            lease_owner=owner,
        )
        .returning(*lease_table.c)
    )
    return None if taken is None else Claim(taken, name, owner, taken["fence"], until)


def check(tx: Tx, table: sa.Table, held: Claim) -> None:
    """Raise `LostLease` unless the claim still stands; the row stays locked until the transaction ends."""
    _fenced(tx, table, held, {"fence": held.fence})


def _fenced(tx: Tx, table: sa.Table, held: Claim, values: Mapping[str, Any]) -> None:
    done = tx.execute(
        table.update()
        .where(_key(table) == held.key, table.c.fence == held.fence, table.c.lease_owner == held.owner)
        .values(**values)
    )
    if done.rowcount != 1:
        raise LostLease(where=f"{table.name} {held.key}")


def _key(table: sa.Table) -> sa.Column[Any]:
    (column,) = table.primary_key.columns
    return column


def insert_ignore(tx: Tx, table: sa.Table, values: Mapping[str, Any]) -> None:
    """Insert a row unless one with its key is there, whoever else does so at the same time."""
    insert = postgresql.insert if tx.dialect == "postgresql" else sqlite.insert
    tx.execute(insert(table).values(**values).on_conflict_do_nothing())
