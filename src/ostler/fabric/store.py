"""SQL about fabrics. Called by the services of this folder; decides nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.core.errors import NotFound
from ostler.db.schema import (
    agent_session,
    blueprint,
    fabric_cause,
    fabric_part,
    fabric_snapshot,
    finding,
    job,
    link_event,
    ticket,
    ticket_port,
)
from ostler.db.tx import Tx
from ostler.fabric.model import Port
from ostler.fabric.sweep import guid_text

_LIGHT = [column for column in fabric_snapshot.c if column.name not in ("body", "report")]
_CHUNK = 400
"""Rows of one statement that names keys: SQLite takes 32,766 parameters."""

# ── blueprints ──────────────────────────────────────────────────────────────────────────────────────────────────────


def activate_blueprint(tx: Tx, values: Mapping[str, Any]) -> None:
    """The new design of its fabric; the one before becomes history."""
    tx.lock(f"blueprint:{values['fabric']}")
    mine = (blueprint.c.fabric == values["fabric"], blueprint.c.active.is_(sa.true()))
    tx.execute(blueprint.update().where(*mine).values(active=False))
    tx.execute(blueprint.insert().values(**values))


def active_blueprint(tx: Tx, fabric: str) -> sa.RowMapping | None:
    """The design that counts, without its body."""
    columns = [column for column in blueprint.c if column.name != "body"]
    return tx.one(sa.select(*columns).where(blueprint.c.fabric == fabric, blueprint.c.active.is_(sa.true())))


def blueprint_body(tx: Tx, blueprint_id: str) -> bytes:
    body = tx.scalar(sa.select(blueprint.c.body).where(blueprint.c.id == blueprint_id))
    if body is None:
        raise NotFound(f"No blueprint has the id '{blueprint_id}'.")
    return bytes(body)


def blueprints(tx: Tx, fabric: str) -> Sequence[sa.RowMapping]:
    """Every version, newest first, without bodies."""
    columns = [column for column in blueprint.c if column.name != "body"]
    return tx.all(sa.select(*columns).where(blueprint.c.fabric == fabric).order_by(blueprint.c.id.desc()).limit(200))


def set_proven(tx: Tx, blueprint_id: str) -> None:
    tx.execute(blueprint.update().where(blueprint.c.id == blueprint_id).values(proven=True))


def active_blueprints(tx: Tx) -> Sequence[sa.RowMapping]:
    """The design of every fabric, without bodies."""
    columns = [column for column in blueprint.c if column.name != "body"]
    return tx.all(sa.select(*columns).where(blueprint.c.active.is_(sa.true())).order_by(blueprint.c.fabric))


# ── snapshots ───────────────────────────────────────────────────────────────────────────────────────────────────────


def insert_snapshot(tx: Tx, values: Mapping[str, Any]) -> None:
    tx.execute(fabric_snapshot.insert().values(**values))


def snapshot(tx: Tx, fabric: str, snapshot_id: str) -> sa.RowMapping:
    """One snapshot with its report, without its body."""
    columns = [column for column in fabric_snapshot.c if column.name != "body"]
    mine = (fabric_snapshot.c.fabric == fabric, fabric_snapshot.c.id == snapshot_id)
    row = tx.one(sa.select(*columns).where(*mine))
    if row is None:
        raise NotFound(f"The fabric '{fabric}' has no snapshot '{snapshot_id}'.")
    return row


def body(tx: Tx, snapshot_id: str) -> bytes | None:
    """What was seen, packed; None: forgotten by now."""
    found = tx.scalar(sa.select(fabric_snapshot.c.body).where(fabric_snapshot.c.id == snapshot_id))
    return None if found is None else bytes(found)


def snapshots(tx: Tx, fabric: str, *, after: str | None = None, limit: int = 100) -> Sequence[sa.RowMapping]:
    """Newest first, without bodies and reports; `after` is the id of the last one seen."""
    query = sa.select(*_LIGHT).where(fabric_snapshot.c.fabric == fabric)
    if after is not None:
        query = query.where(fabric_snapshot.c.id < after)
    return tx.all(query.order_by(fabric_snapshot.c.id.desc()).limit(limit))


def latest(tx: Tx, fabric: str, vantage: str | None = None) -> sa.RowMapping | None:
    """The newest snapshot, of this vantage point if one is named, without body and report."""
    query = sa.select(*_LIGHT).where(fabric_snapshot.c.fabric == fabric)
    if vantage is not None:
        query = query.where(fabric_snapshot.c.vantage == vantage)
    return tx.one(query.order_by(fabric_snapshot.c.taken_at.desc(), fabric_snapshot.c.id.desc()).limit(1))


def health_of(tx: Tx, snapshot_id: str | None) -> list[Mapping[str, Any]]:
    """What a look's report says ails links; nothing once it is forgotten."""
    found = tx.scalar(sa.select(fabric_snapshot.c.report["health"]).where(fabric_snapshot.c.id == snapshot_id))
    return found or []


def latest_by_vantage(tx: Tx, fabric: str, since: float) -> Sequence[sa.RowMapping]:
    """The snapshots of each vantage point taken after `since` (domain seconds) that are kept in full, newest first."""
    mine = (
        fabric_snapshot.c.fabric == fabric,
        fabric_snapshot.c.taken_at >= since,
        fabric_snapshot.c.body.is_not(None),
    )
    query = sa.select(*_LIGHT).where(*mine)
    return tx.all(query.order_by(fabric_snapshot.c.taken_at.desc(), fabric_snapshot.c.id.desc()).limit(100))


def before(tx: Tx, fabric: str, vantage: str, source: str, taken_at: float) -> sa.RowMapping | None:
    """The last snapshot in full of the same vantage point and format until then: what deltas are taken from."""
    mine = (
        fabric_snapshot.c.fabric == fabric,
        fabric_snapshot.c.vantage == vantage,
        fabric_snapshot.c.source == source,
        fabric_snapshot.c.taken_at <= taken_at,
        fabric_snapshot.c.body.is_not(None),
    )
    return tx.one(
        sa.select(*_LIGHT)
        .where(*mine)
        .order_by(fabric_snapshot.c.taken_at.desc(), fabric_snapshot.c.id.desc())
        .limit(1)
    )


def forget_bodies(tx: Tx, fabric: str, keep: int, limit: int) -> int:
    """Drop what was seen in all but the newest `keep` snapshots; says how many.

    Of the `keep` vantage points that looked last, the last look in each format stays too: deltas are taken from it.
    """
    mine = (fabric_snapshot.c.fabric == fabric, fabric_snapshot.c.body.is_not(None))
    columns = (fabric_snapshot.c.id, fabric_snapshot.c.vantage, fabric_snapshot.c.source)
    rows = tx.all(sa.select(*columns).where(*mine).order_by(fabric_snapshot.c.id.desc()).limit(limit + 2 * keep))
    last = {(row["vantage"], row["source"]): row["id"] for row in reversed(rows)}
    kept = {row["id"] for row in rows[:keep]} | set(sorted(last.values(), reverse=True)[:keep])
    old = [row["id"] for row in rows if row["id"] not in kept]
    if old:
        tx.execute(fabric_snapshot.update().where(fabric_snapshot.c.id.in_(old)).values(body=None))
    return len(old)


def forget_snapshots(tx: Tx, fabric: str, before: float, limit: int) -> int:
    """Delete reports that were taken before (domain seconds); says how many."""
    mine = (fabric_snapshot.c.fabric == fabric, fabric_snapshot.c.taken_at < before)
    old = [row["id"] for row in tx.all(sa.select(fabric_snapshot.c.id).where(*mine).limit(limit))]
    if old:
        tx.execute(fabric_snapshot.delete().where(fabric_snapshot.c.id.in_(old)))
    return len(old)


def live_look(tx: Tx, key: str) -> sa.RowMapping | None:
    """The look that is under way or waited for."""
    return tx.one(sa.select(job).where(job.c.key == key, job.c.finished_at.is_(None)))


def last_look(tx: Tx, subject: str, procedure: str) -> sa.RowMapping | None:
    """The newest look that has ended, however."""
    mine = (job.c.subject == subject, job.c.procedure == procedure, job.c.finished_at.is_not(None))
    return tx.one(sa.select(job).where(*mine).order_by(job.c.created_at.desc(), job.c.id.desc()).limit(1))


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def known_parts(tx: Tx, fabric: str) -> dict[int, Port]:
    """GUID → place, of every part whose place is settled."""
    mine = (fabric_part.c.fabric == fabric, fabric_part.c.state == "known")
    rows = tx.all(sa.select(fabric_part.c.guid, fabric_part.c.chassis, fabric_part.c.port).where(*mine))
    return {int(row["guid"], 16): Port(row["chassis"], row["port"]) for row in rows}


def parts(
    tx: Tx, fabric: str, *, state: str | None = None, chassis: str | None = None, limit: int = 1000
) -> Sequence[sa.RowMapping]:
    query = sa.select(fabric_part).where(fabric_part.c.fabric == fabric)
    if state is not None:
        query = query.where(fabric_part.c.state == state)
    if chassis is not None:
        query = query.where(fabric_part.c.chassis == chassis)
    return tx.all(query.order_by(fabric_part.c.chassis, fabric_part.c.port, fabric_part.c.guid).limit(limit))


def insert_parts(tx: Tx, fabric: str, places: Mapping[int, Port], state: str) -> None:
    """Parts that were not known."""
    rows = [
        {
            "fabric": fabric,
            "guid": guid_text(guid),
            "chassis": port.chassis,
            "port": port.name,
            "state": state,
            "first_seen": tx.now,
            "last_seen": tx.now,
        }
        for guid, port in places.items()
    ]
    if rows:
        tx.execute(fabric_part.insert(), rows)


def set_part(tx: Tx, fabric: str, guid: int, values: Mapping[str, Any]) -> None:
    mine = (fabric_part.c.fabric == fabric, fabric_part.c.guid == guid_text(guid))
    tx.execute(fabric_part.update().where(*mine).values(**values))


def forget_part(tx: Tx, fabric: str, guid: int) -> bool:
    """Whether there was one."""
    mine = (fabric_part.c.fabric == fabric, fabric_part.c.guid == guid_text(guid))
    return tx.execute(fabric_part.delete().where(*mine)).rowcount > 0


def part_places(tx: Tx, fabric: str) -> dict[int, tuple[Port, str]]:
    """GUID → (place, state) of every part with a row."""
    rows = tx.all(sa.select(fabric_part).where(fabric_part.c.fabric == fabric))
    return {int(row["guid"], 16): (Port(row["chassis"], row["port"]), row["state"]) for row in rows}


# ── causes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def open_causes(tx: Tx, fabric: str) -> Sequence[sa.RowMapping]:
    mine = (fabric_cause.c.fabric == fabric, fabric_cause.c.state == "open")
    return tx.all(sa.select(fabric_cause).where(*mine).order_by(fabric_cause.c.id))


def count_causes(tx: Tx, fabric: str) -> Sequence[sa.RowMapping]:
    """How many stand: rows of kind, confirmed, count."""
    mine = (fabric_cause.c.fabric == fabric, fabric_cause.c.state == "open")
    grouped = (fabric_cause.c.kind, fabric_cause.c.confirmed)
    return tx.all(sa.select(*grouped, sa.func.count().label("count")).where(*mine).group_by(*grouped))


def unfinished_tickets(tx: Tx, fabric: str) -> Iterator[tuple[sa.RowMapping, list[Port]]]:
    """Tickets that only the fabric's proof closes, oldest first: id, key and evidence of each, and its ports."""
    mine = (ticket.c.fabric == fabric, ticket.c.proof == "fabric", ticket.c.state != "done")
    ports: dict[str, list[Port]] = {}
    asked = sa.select(ticket_port.c.ticket_id, ticket_port.c.chassis, ticket_port.c.port)
    for row in tx.all(asked.join(ticket, ticket.c.id == ticket_port.c.ticket_id).where(*mine)):
        ports.setdefault(row["ticket_id"], []).append(Port(row["chassis"], row["port"]))
    for row in tx.all(sa.select(ticket.c.id, ticket.c.key, ticket.c.evidence).where(*mine).order_by(ticket.c.id)):
        yield row, ports.get(row["id"], [])


def waits_for_proof(tx: Tx, ticket_id: str | None) -> bool:
    """Whether a technician says that this ticket is done."""
    state: str | None = tx.scalar(sa.select(ticket.c.state).where(ticket.c.id == ticket_id))
    return state == "verifying"


def nodes_told_of(tx: Tx, monitor: str) -> Sequence[str]:
    """Ids of the nodes with a finding that this monitor said last and that still stands."""
    mine = (finding.c.cleared_at.is_(None), finding.c.evidence["monitor"].as_string() == monitor)
    return tx.conn.scalars(sa.select(finding.c.node_id).where(*mine).distinct().order_by(finding.c.node_id)).all()


def causes(
    tx: Tx, fabric: str, *, state: str | None = None, after: str | None = None, limit: int = 100
) -> Sequence[sa.RowMapping]:
    """Newest first; `after` is the id of the last one seen."""
    query = sa.select(fabric_cause).where(fabric_cause.c.fabric == fabric)
    if state is not None:
        query = query.where(fabric_cause.c.state == state)
    if after is not None:
        query = query.where(fabric_cause.c.id < after)
    return tx.all(query.order_by(fabric_cause.c.id.desc()).limit(limit))


def insert_cause(tx: Tx, values: Mapping[str, Any]) -> None:
    tx.execute(fabric_cause.insert().values(**values))


def update_cause(tx: Tx, cause_id: str, values: Mapping[str, Any]) -> None:
    tx.execute(fabric_cause.update().where(fabric_cause.c.id == cause_id).values(**values))


# ── links ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def insert_events(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        tx.execute(link_event.insert(), [dict(row) for row in rows])


def events(
    tx: Tx, fabric: str, since: float, *, chassis: str | None = None, limit: int = 100_000
) -> Sequence[sa.RowMapping]:
    """What links did after `since` (domain seconds), oldest first."""
    query = sa.select(link_event).where(link_event.c.fabric == fabric, link_event.c.at >= since)
    if chassis is not None:
        query = query.where(link_event.c.chassis == chassis)
    return tx.all(query.order_by(link_event.c.at, link_event.c.id).limit(limit))


def boots(tx: Tx, since: float) -> dict[str, float]:
    """Node id → when its present boot was first heard of, of nodes that booted after `since` (domain seconds)."""
    newest = sa.func.max(agent_session.c.first_seen).label("at")
    # A boot id that begins with @ is a watcher's stream, no boot.
    mine = (agent_session.c.first_seen >= since, agent_session.c.boot_id.not_like("@%"))
    rows = tx.all(sa.select(agent_session.c.node_id, newest).where(*mine).group_by(agent_session.c.node_id))
    return {row["node_id"]: row["at"] for row in rows}


def forget_events(tx: Tx, fabric: str, before: float, limit: int) -> int:
    mine = (link_event.c.fabric == fabric, link_event.c.at < before)
    old = [row["id"] for row in tx.all(sa.select(link_event.c.id).where(*mine).limit(limit))]
    if old:
        tx.execute(link_event.delete().where(link_event.c.id.in_(old)))
    return len(old)
