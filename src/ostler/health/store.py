"""SQL about agent sessions, signals, findings and incidents. Called by this feature's services and by readers above."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.core.errors import NotFound
from ostler.db.schema import agent_session, finding, incident, node, signal, slot
from ostler.db.tx import Tx
from ostler.faults.model import Action, Severity
from ostler.health.model import OpenCause, Struck
from ostler.nodes.model import State

# Sessions and signals -------------------------------------------------------------------------------------------------


def session(tx: Tx, node_id: str, boot_id: str) -> sa.RowMapping | None:
    return tx.one(
        sa.select(agent_session).where(agent_session.c.node_id == node_id, agent_session.c.boot_id == boot_id)
    )


def open_session(tx: Tx, node_id: str, boot_id: str) -> None:
    tx.execute(
        agent_session.insert().values(node_id=node_id, boot_id=boot_id, last_seq=0, first_seen=tx.now, last_seen=tx.now)
    )


def advance_session(tx: Tx, node_id: str, boot_id: str, last_seq: int, *, judged: bool = True) -> None:
    """Note what is stored; not `judged`: it is still to be diagnosed (`backlog`)."""
    values: dict[str, Any] = {"last_seq": last_seq, "last_seen": tx.now}
    tx.execute(
        agent_session.update()
        .where(agent_session.c.node_id == node_id, agent_session.c.boot_id == boot_id)
        .values(**values, **({"judged_seq": last_seq} if judged else {}))
    )


def insert_signals(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        tx.execute(signal.insert(), rows)


def signals(tx: Tx, node_id: str, *, limit: int = 200) -> Sequence[sa.RowMapping]:
    """A node's latest signals, newest first."""
    return tx.all(
        sa.select(signal)
        .where(signal.c.node_id == node_id)
        .order_by(signal.c.received_at.desc(), signal.c.seq.desc())
        .limit(limit)
    )


# Findings -------------------------------------------------------------------------------------------------------------


def active(tx: Tx, node_id: str) -> Sequence[sa.RowMapping]:
    """A node's findings that nothing has cleared, oldest first."""
    return tx.all(
        sa.select(finding)
        .where(finding.c.node_id == node_id, finding.c.cleared_at.is_(None))
        .order_by(finding.c.first_at, finding.c.id)
    )


def find_active(tx: Tx, node_id: str, fault: str, device: str) -> sa.RowMapping | None:
    return tx.one(
        sa.select(finding).where(
            finding.c.node_id == node_id,
            finding.c.fault == fault,
            finding.c.device == device,
            finding.c.cleared_at.is_(None),
        )
    )


def get(tx: Tx, finding_id: str) -> sa.RowMapping:
    row = tx.one(sa.select(finding).where(finding.c.id == finding_id))
    if row is None:
        raise NotFound(f"No finding has the id '{finding_id}'.")
    return row


def insert(tx: Tx, values: Mapping[str, Any]) -> None:
    tx.execute(finding.insert().values(**values))


def update(tx: Tx, finding_id: str, values: Mapping[str, Any]) -> None:
    tx.execute(finding.update().where(finding.c.id == finding_id).values(**values))


def update_many(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Several findings at once: rows of the same fields, with the finding's id as `which`."""
    if rows:
        fields: dict[str, Any] = {name: sa.bindparam(name) for name in rows[0] if name != "which"}
        tx.execute(finding.update().where(finding.c.id == sa.bindparam("which")).values(**fields), rows)


def end(tx: Tx, finding_id: str, by: str) -> bool:
    """Clear a finding; False if it was cleared already."""
    active_one = sa.and_(finding.c.id == finding_id, finding.c.cleared_at.is_(None))
    return tx.execute(finding.update().where(active_one).values(cleared_at=tx.now, cleared_by=by)).rowcount > 0


def listed(
    tx: Tx, *, node_id: str | None = None, active_only: bool = True, after: str | None = None, limit: int = 100
) -> Sequence[sa.RowMapping]:
    """Findings, newest first; `after` is the id of the last one seen."""
    query = sa.select(finding).order_by(finding.c.id.desc()).limit(limit)
    if node_id is not None:
        query = query.where(finding.c.node_id == node_id)
    if active_only:
        query = query.where(finding.c.cleared_at.is_(None))
    if after is not None:
        query = query.where(finding.c.id < after)
    return tx.all(query)


def actionable(tx: Tx) -> Sequence[sa.RowMapping]:
    """Active findings that ask for more than watching: one row per node, the sweep of remediation."""
    return tx.all(
        sa.select(finding.c.node_id, sa.func.min(finding.c.first_at).label("first_at"))
        .where(
            finding.c.cleared_at.is_(None),
            finding.c.incident_id.is_(None),
            finding.c.action.not_in([Action.NONE.value, Action.WATCH.value]),
        )
        .group_by(finding.c.node_id)
        .order_by(sa.func.min(finding.c.first_at))
    )


def struck(tx: Tx, since: float) -> list[Struck]:
    """Active findings of nodes in service that were seen since a moment and belong to no incident yet."""
    rows = tx.all(
        sa.select(finding, node.c.sku, node.c.driver, slot.c.domains)
        .join(node, node.c.id == finding.c.node_id)
        .outerjoin(slot, slot.c.name == node.c.slot)
        .where(
            finding.c.cleared_at.is_(None),
            finding.c.incident_id.is_(None),
            finding.c.last_at >= since,
            finding.c.severity != Severity.INFO.value,
            node.c.state.in_([State.PRODUCTION.value, State.REBOOT.value]),
        )
    )
    return [
        Struck(
            node_id=row["node_id"],
            finding_id=row["id"],
            fault=row["fault"],
            component=row["component"],
            at=row["first_at"],
            domains={**(row["domains"] or {}), **_peers(row)},
            last_at=row["last_at"],
            action=Action(row["action"]),
            severity=Severity(row["severity"]),
        )
        for row in rows
    ]


def _peers(row: sa.RowMapping) -> dict[str, str]:
    """Whom a node is compared with: its SKU, and those of it that run the same driver."""
    if not row["sku"]:
        return {}
    return {"sku": row["sku"], **({"driver": _with_driver(row["sku"], row["driver"])} if row["driver"] else {})}


def _with_driver(sku: str, driver: str) -> str:
    return f"{sku} driver {driver}"


class Serving(Mapping[str, int]):
    """Nodes in service by SKU, and by `SKU driver VERSION`: each counted when asked for, and only those of `struck`."""

    def __init__(self, tx: Tx, struck: Sequence[Struck]) -> None:
        self._tx = tx
        kinds = ("sku", "driver")
        self._peers = {one.domains[kind]: one.domains for one in struck for kind in kinds if kind in one.domains}

    def __getitem__(self, peers: str) -> int:
        of = self._peers[peers]
        mine = [node.c.state.in_([State.PRODUCTION.value, State.REBOOT.value]), node.c.sku == of["sku"]]
        if peers != of["sku"]:
            mine.append(node.c.driver == peers.removeprefix(_with_driver(of["sku"], "")))
        return int(self._tx.scalar(sa.select(sa.func.count()).select_from(node).where(*mine)) or 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._peers)

    def __len__(self) -> int:
        return len(self._peers)


# Incidents ------------------------------------------------------------------------------------------------------------


def open_incident(tx: Tx, cause: str, scope: str, subject: str) -> sa.RowMapping | None:
    return tx.one(
        sa.select(incident)
        .where(
            incident.c.cause == cause,
            incident.c.scope == scope,
            incident.c.subject == subject,
            incident.c.closed_at.is_(None),
        )
        .limit(1)
    )


def insert_incident(tx: Tx, values: Mapping[str, Any]) -> None:
    tx.execute(incident.insert().values(**values))


def get_incident(tx: Tx, incident_id: str) -> sa.RowMapping:
    row = tx.one(sa.select(incident).where(incident.c.id == incident_id))
    if row is None:
        raise NotFound(f"No incident has the id '{incident_id}'.")
    return row


def update_incident(tx: Tx, incident_id: str, values: Mapping[str, Any]) -> None:
    tx.execute(incident.update().where(incident.c.id == incident_id).values(**values))


def findings_of(tx: Tx, incident_id: str, *, active_only: bool) -> Sequence[sa.RowMapping]:
    query = sa.select(finding).where(finding.c.incident_id == incident_id).order_by(finding.c.first_at)
    return tx.all(query.where(finding.c.cleared_at.is_(None)) if active_only else query)


def nodes_of(tx: Tx, incident_id: str) -> int:
    """Of how many nodes an incident's findings are, the cleared ones too."""
    nodes = sa.select(sa.func.count(finding.c.node_id.distinct()))
    return int(tx.scalar(nodes.where(finding.c.incident_id == incident_id)) or 0)


def goes_on(tx: Tx, incident_id: str) -> bool:
    """Whether an incident still has an active finding."""
    mine = sa.and_(finding.c.incident_id == incident_id, finding.c.cleared_at.is_(None))
    return tx.scalar(sa.select(finding.c.id).where(mine).limit(1)) is not None


def incidents(
    tx: Tx, *, open_only: bool = False, after: str | None = None, limit: int = 100
) -> Sequence[sa.RowMapping]:
    """Incidents, newest first."""
    query = sa.select(incident).order_by(incident.c.id.desc()).limit(limit)
    if open_only:
        query = query.where(incident.c.closed_at.is_(None))
    if after is not None:
        query = query.where(incident.c.id < after)
    return tx.all(query)


def outlived(tx: Tx, limit: int = 500) -> Sequence[sa.RowMapping]:
    """Active findings of nodes that came to production after they were last seen; no incident's."""
    # Hidden from the planner, which would begin with the whole fleet, by its state.
    in_production = sa.func.coalesce(node.c.state, "") == State.PRODUCTION.value
    return tx.all(
        sa.select(finding)
        .join(node, node.c.id == finding.c.node_id)
        .where(
            finding.c.cleared_at.is_(None),
            finding.c.incident_id.is_(None),
            in_production,
            finding.c.last_at < node.c.state_since,
        )
        .order_by(finding.c.id)
        .limit(limit)
    )


def open_causes(tx: Tx) -> list[OpenCause]:
    """The open incidents that say which faults they explain."""
    rows = tx.all(sa.select(incident).where(incident.c.closed_at.is_(None)).order_by(incident.c.opened_at))
    return [
        OpenCause(
            row["id"],
            row["cause"],
            row["scope"],
            row["subject"],
            str(row["evidence"].get("fault", "")),
            tuple(row["evidence"].get("family", ())),
            row["opened_at"],
            str(row["evidence"].get("root", "")),
        )
        for row in rows
        if row["evidence"].get("fault") or row["evidence"].get("family")
    ]


def followers(tx: Tx, root_ids: Sequence[str]) -> Sequence[sa.RowMapping]:
    """Open incidents that blame one of these findings."""
    rows = tx.all(sa.select(incident).where(incident.c.closed_at.is_(None), incident.c.cause == "sympathetic"))
    return [row for row in rows if row["evidence"].get("root") in root_ids]


def ripe(tx: Tx, limit: int = 500) -> Sequence[sa.RowMapping]:
    """Active findings that a first look after a boot made, and that outlasted the time in which things come up."""
    return tx.all(
        sa.select(finding)
        .where(
            finding.c.cleared_at.is_(None),
            finding.c.confidence == "low",
            finding.c.evidence["low_until"].as_float() <= tx.now,  # most that is low never ripens: silence, for one
        )
        .order_by(finding.c.first_at)
        .limit(limit)
    )


# Silence --------------------------------------------------------------------------------------------------------------


def unheard(tx: Tx, before: float) -> Sequence[sa.RowMapping]:
    """Nodes that once reported, should be running, and were last heard of before a moment."""
    return tx.all(
        sa.select(node.c.id, node.c.name, node.c.last_seen, node.c.state)
        .where(
            node.c.state.in_(_EXPECTED),
            node.c.last_seen.is_not(None),
            node.c.last_seen < before,
            node.c.state_since < before,  # back from a state in which it had no need to talk
        )
        .order_by(node.c.last_seen)
    )


def heard_again(tx: Tx, since: float) -> Sequence[sa.RowMapping]:
    """Active `silent` findings of nodes that have been heard of since."""
    return tx.all(
        sa.select(finding)
        .join(node, node.c.id == finding.c.node_id)
        .where(finding.c.fault == "silent", finding.c.cleared_at.is_(None), node.c.last_seen >= since)
    )


def silences(tx: Tx) -> Sequence[sa.RowMapping]:
    """Active `silent` findings: `node_id, incident_id`."""
    columns = (finding.c.node_id, finding.c.incident_id)
    return tx.all(sa.select(*columns).where(finding.c.fault == "silent", finding.c.cleared_at.is_(None)))


def reporting(tx: Tx) -> int:
    """Nodes that should be heard of."""
    return int(
        tx.scalar(
            sa.select(sa.func.count())
            .select_from(node)
            .where(node.c.state.in_(_EXPECTED), node.c.last_seen.is_not(None))
        )
        or 0
    )


_EXPECTED = [
    State.ONBOARD.value,
    State.SEATRIAL.value,
    State.TEST.value,
    State.PRODUCTION.value,
]
"""States in which an agent should be talking; in `zap` and `reboot` silence is part of the work."""


def forget_signals(tx: Tx, before: float, limit: int) -> int:
    """Retention: delete up to `limit` signals received before a moment; returns how many."""
    key = (signal.c.node_id, signal.c.boot_id, signal.c.seq)
    old = tx.execute(sa.select(*key).where(signal.c.received_at < before).order_by(signal.c.received_at).limit(limit))
    keys = [tuple(row) for row in old]
    if keys:
        tx.execute(signal.delete().where(sa.tuple_(*key).in_(keys)))
    return len(keys)
