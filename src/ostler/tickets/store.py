"""SQL about tickets, the nodes and the plugs they are about. Called by `tickets/service.py` and readers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.core.errors import NotFound
from ostler.db.schema import slot, ticket, ticket_node, ticket_port
from ostler.db.tx import Tx

_SOME = 400
"""Values in one `IN`: SQLite takes 32,766 in a statement, and a plan for a few hundred is quick on both."""
UNFINISHED = "unfinished"
"""Any state but done, where a state is asked for."""


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
    """The ticket for this cause on this node that is not done yet; none of those that have a key."""
    return tx.one(sa.select(ticket).where(*_of_node(node_id, cause), ticket.c.state != "done").limit(1))


def last_closed(tx: Tx, node_id: str, cause: str) -> float | None:
    """When (domain time) the latest ticket for this cause on this node was closed; None: there was none."""
    mine = (*_of_node(node_id, cause), ticket.c.state == "done")
    at: float | None = tx.scalar(sa.select(sa.func.max(ticket.c.closed_at)).where(*mine))
    return at


def by_key(tx: Tx, key: str) -> sa.RowMapping | None:
    """The ticket of this cause that is not done yet."""
    return tx.one(sa.select(ticket).where(ticket.c.key == key, ticket.c.state != "done"))


def verifying(tx: Tx, fabric: str | None = None) -> Sequence[sa.RowMapping]:
    """Tickets that a technician says are done and that wait for the proof, the longest wait first."""
    query = sa.select(ticket).where(ticket.c.state == "verifying").order_by(ticket.c.verifying_at, ticket.c.id)
    return tx.all(query if fabric is None else query.where(ticket.c.fabric == fabric))


def listed(
    tx: Tx,
    *,
    state: str | None = None,
    node_id: str | None = None,
    subject: str | None = None,
    place: str | None = None,
    assignee: str | None = None,
    after: str | None = None,
    limit: int = 100,
) -> Sequence[sa.RowMapping]:
    """Tickets, newest first; `after` is the id of the last one seen, `place` the first parts of `site/row/rack/U`."""
    query = sa.select(ticket).order_by(ticket.c.id.desc()).limit(limit)
    if state == UNFINISHED:
        query = query.where(ticket.c.state != "done")
    elif state is not None:
        query = query.where(ticket.c.state == state)
    if node_id is not None:
        mine = sa.select(ticket_node.c.ticket_id).where(ticket_node.c.node_id == node_id)
        query = query.where(sa.or_(ticket.c.node_id == node_id, ticket.c.id.in_(mine)))
    if subject is not None:
        query = query.where(ticket.c.subject == subject)
    if place := (place or "").strip("/"):
        query = query.where(sa.or_(ticket.c.place == place, ticket.c.place.startswith(f"{place}/", autoescape=True)))
    if assignee is not None:
        query = query.where(ticket.c.assignee == assignee)
    if after is not None:
        query = query.where(ticket.c.id < after)
    return tx.all(query)


def place_of(tx: Tx, slot_name: str | None) -> str:
    """A slot in the words of a ticket's place: `site/row/rack/U`; its name if that is all there is."""
    row = None if slot_name is None else tx.one(sa.select(slot).where(slot.c.name == slot_name))
    parts = [] if row is None else [row[part] for part in ("site", "row", "rack", "unit") if row[part]]
    return "/".join(parts) or slot_name or ""


# Nodes ----------------------------------------------------------------------------------------------------------------


def nodes_of(tx: Tx, ticket_id: str) -> list[str]:
    """Ids of the nodes that it is about, in the order in which they are locked."""
    mine = sa.select(ticket_node.c.node_id).where(ticket_node.c.ticket_id == ticket_id)
    of_row = sa.select(ticket.c.node_id).where(ticket.c.id == ticket_id, ticket.c.node_id.is_not(None))
    return sorted(tx.conn.scalars(mine.union(of_row)))


def set_nodes(tx: Tx, ticket_id: str, node_ids: Iterable[str]) -> None:
    tx.execute(ticket_node.delete().where(ticket_node.c.ticket_id == ticket_id))
    tx.execute(ticket_node.insert(), [{"ticket_id": ticket_id, "node_id": one} for one in dict.fromkeys(node_ids)])


def claimed_on(tx: Tx, node_id: str) -> Sequence[sa.RowMapping]:
    """The tickets that somebody has hands on the node for, oldest claim first."""
    theirs = sa.select(ticket_node.c.ticket_id).where(ticket_node.c.node_id == node_id)
    mine = sa.or_(ticket.c.node_id == node_id, ticket.c.id.in_(theirs))
    query = sa.select(ticket).where(mine, ticket.c.state == "claimed")
    return tx.all(query.order_by(ticket.c.claimed_at, ticket.c.id))


# Plugs ----------------------------------------------------------------------------------------------------------------


def ports_of(tx: Tx, ticket_id: str) -> list[tuple[str, str]]:
    """(chassis, port) of the plugs that it is about."""
    mine = sa.select(ticket_port.c.chassis, ticket_port.c.port).where(ticket_port.c.ticket_id == ticket_id)
    return sorted((row["chassis"], row["port"]) for row in tx.all(mine))


def set_ports(tx: Tx, ticket_id: str, fabric: str, ports: Mapping[tuple[str, str], str]) -> None:
    """`ports`: (chassis, port) → serial number of the cable there, or empty."""
    tx.execute(ticket_port.delete().where(ticket_port.c.ticket_id == ticket_id))
    rows = [
        {"ticket_id": ticket_id, "fabric": fabric, "chassis": chassis, "port": port, "serial": serial}
        for (chassis, port), serial in ports.items()
    ]
    tx.execute(ticket_port.insert(), rows)


def overlapping(tx: Tx, fabric: str, ports: Collection[tuple[str, str]], *, subject: str) -> Sequence[sa.RowMapping]:
    """Tickets of this kind, not done, that are about any of these plugs: the one with most of them first."""
    shared = Counter[str]()
    for row in _at_ports(tx, fabric, ports, (ticket.c.state != "done", ticket.c.subject == subject)):
        shared[row] += 1
    rows = _by_ids(tx, shared)
    return sorted(rows, key=lambda row: (-shared[row["id"]], row["id"]))


def of_chassis(tx: Tx, fabric: str, chassis: str) -> Sequence[sa.RowMapping]:
    """Tickets that are not done with a plug in this box, oldest first."""
    there = sa.select(ticket_port.c.ticket_id).where(ticket_port.c.fabric == fabric, ticket_port.c.chassis == chassis)
    return tx.all(sa.select(ticket).where(ticket.c.state != "done", ticket.c.id.in_(there)).order_by(ticket.c.id))


def past(
    tx: Tx, fabric: str, ports: Mapping[tuple[str, str], str], *, subject: str, since: float = 0.0, limit: int = 20
) -> Sequence[sa.RowMapping]:
    """Tickets of this kind that were closed after `since` for the same plugs or the same cables, newest first.

    One that became part of another is none of them: nothing was done for it.
    """
    closed = (ticket.c.state == "done", ticket.c.subject == subject, ticket.c.closed_at >= since)
    ids = set(_at_ports(tx, fabric, ports, closed))
    serials = sorted({serial for serial in ports.values() if serial})
    for some in _chunks(serials):
        query = sa.select(ticket_port.c.ticket_id).join(ticket, ticket.c.id == ticket_port.c.ticket_id)
        ids |= set(
            tx.conn.scalars(query.where(*closed, ticket_port.c.fabric == fabric, ticket_port.c.serial.in_(some)))
        )
    rows = [row for row in _by_ids(tx, ids) if "into" not in row["closing"]]
    return sorted(rows, key=lambda row: (row["closed_at"], row["id"]), reverse=True)[:limit]


def earlier(tx: Tx, ticket_id: str, *, limit: int = 20) -> Sequence[sa.RowMapping]:
    """What was closed before for the plugs or cables of this ticket, newest first."""
    row = get(tx, ticket_id)
    mine = tx.all(sa.select(ticket_port).where(ticket_port.c.ticket_id == ticket_id))
    ports = {(one["chassis"], one["port"]): str(one["serial"]) for one in mine}
    found = past(tx, row["fabric"], ports, subject=row["subject"], limit=limit + 1)
    return [one for one in found if one["id"] != ticket_id and one["closed_at"] <= (row["closed_at"] or tx.now)][:limit]


def _at_ports(
    tx: Tx, fabric: str, ports: Collection[tuple[str, str]], which: Sequence[sa.ColumnElement[bool]]
) -> Iterator[str]:
    """The id of a ticket for each of these plugs that it is about."""
    wanted = set(ports)
    for some in _chunks(sorted({chassis for chassis, _ in wanted})):
        query = (
            sa.select(ticket_port.c.ticket_id, ticket_port.c.chassis, ticket_port.c.port)
            .join(ticket, ticket.c.id == ticket_port.c.ticket_id)
            .where(*which, ticket_port.c.fabric == fabric, ticket_port.c.chassis.in_(some))
        )
        yield from (row["ticket_id"] for row in tx.all(query) if (row["chassis"], row["port"]) in wanted)


def _by_ids(tx: Tx, ids: Iterable[str]) -> list[sa.RowMapping]:
    return [row for some in _chunks(sorted(ids)) for row in tx.all(sa.select(ticket).where(ticket.c.id.in_(some)))]


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + _SOME] for start in range(0, len(values), _SOME))


def _of_node(node_id: str, cause: str) -> tuple[sa.ColumnElement[bool], ...]:
    return ticket.c.node_id == node_id, ticket.c.cause == cause, ticket.c.key.is_(None)
