"""The room `RMA cases`: parts and chassis on their way to the vendor and back. For `rooms.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ostler.breakfix import store
from ostler.console.model import Happened, Row, Rules
from ostler.console.queries import happened, names_of, position
from ostler.db.schema import rma_case, ticket
from ostler.db.tx import Tx

PAST = 50
"""Cases that are closed, on one page."""
MOST = 500


@dataclass(frozen=True)
class Cases:
    """The list: rows of `rma_case`, newest first."""

    now: float
    position: int
    opened: Sequence[Row]
    closed: Sequence[Row]
    names: Mapping[str, str]
    """Node id → name."""
    older: str | None


@dataclass(frozen=True)
class OneCase:
    """One case on a page."""

    now: float
    position: int
    case: Row
    node: str
    tickets: Sequence[Row]
    story: Sequence[Happened]


def listed(tx: Tx, rules: Rules, asked: Mapping[str, str]) -> Cases:
    """`asked`: `after`, the id of the last closed case that was seen."""
    opened = store.cases(tx, open_only=True, limit=MOST)
    query = sa.select(rma_case).where(rma_case.c.closed_at.is_not(None)).order_by(rma_case.c.id.desc()).limit(PAST)
    if after := asked.get("after"):
        query = query.where(rma_case.c.id < after)
    closed = tx.all(query)
    return Cases(
        now=tx.now,
        position=position(tx),
        opened=[dict(row) for row in opened],
        closed=[dict(row) for row in closed],
        names=names_of(tx, (row["node_id"] for row in (*opened, *closed))),
        older=closed[-1]["id"] if len(closed) == PAST else None,
    )


def one(tx: Tx, rules: Rules, asked: Mapping[str, str]) -> OneCase:
    """`asked`: `id`. Raises `NotFound`."""
    case = store.case(tx, asked["id"])
    node_id = case["node_id"]
    rows = tx.all(sa.select(ticket).where(ticket.c.node_id == node_id).order_by(ticket.c.opened_at.desc()).limit(100))
    return OneCase(
        now=tx.now,
        position=position(tx),
        case=dict(case),
        node=names_of(tx, [node_id]).get(node_id, node_id),
        tickets=[dict(row) for row in rows if row["evidence"].get("rma") == case["id"]],
        story=happened(tx, case["id"]),
    )
