"""SQL about tickets. Called by `tickets/service.py` and readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.core.errors import NotFound
from ostler.db.schema import ticket
from ostler.db.tx import Tx


def insert(tx: Tx, values: Mapping[str, Any]) -> None:
    tx.execute(ticket.insert().values(**values))


def update(tx: Tx, ticket_id: str, values: Mapping[str, Any]) -> None:
    tx.execute(ticket.update().where(ticket.c.id == ticket_id).values(**values))


def get(tx: Tx, ticket_id: str) -> sa.RowMapping:
    row = tx.one(sa.select(ticket).where(ticket.c.id == ticket_id))
    if row is None:
        raise NotFound(f"No ticket has the id '{ticket_id}'.")
    return row


def locked(tx: Tx, ticket_id: str) -> sa.RowMapping:
    """A ticket that no other transaction changes until this one ends."""
    tx.execute(sa.select(ticket.c.id).where(ticket.c.id == ticket_id).with_for_update())
    return get(tx, ticket_id)


def unfinished(tx: Tx, node_id: str, cause: str) -> sa.RowMapping | None:
    """The ticket for this cause on this node that is not done yet."""
    return tx.one(
        sa.select(ticket).where(ticket.c.node_id == node_id, ticket.c.cause == cause, ticket.c.state != "done").limit(1)
    )


def last_closed(tx: Tx, node_id: str, cause: str) -> float | None:
    """When (domain time) the latest ticket for this cause on this node was closed; None: there was none."""
    mine = (ticket.c.node_id == node_id, ticket.c.cause == cause, ticket.c.state == "done")
    at: float | None = tx.scalar(sa.select(sa.func.max(ticket.c.closed_at)).where(*mine))
    return at


def claimed_on(tx: Tx, node_id: str) -> Sequence[sa.RowMapping]:
    """The tickets that somebody has hands on the node for, oldest claim first."""
    mine = sa.select(ticket).where(ticket.c.node_id == node_id, ticket.c.state == "claimed")
    return tx.all(mine.order_by(ticket.c.claimed_at, ticket.c.id))


def listed(
    tx: Tx, *, state: str | None = None, node_id: str | None = None, after: str | None = None, limit: int = 100
) -> Sequence[sa.RowMapping]:
    """Tickets, newest first; `after` is the id of the last one seen."""
    query = sa.select(ticket).order_by(ticket.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(ticket.c.state == state)
    if node_id is not None:
        query = query.where(ticket.c.node_id == node_id)
    if after is not None:
        query = query.where(ticket.c.id < after)
    return tx.all(query)
