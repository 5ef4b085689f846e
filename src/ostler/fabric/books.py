"""What a look at the fabric changes in the books: causes, tickets, findings, known parts. One transaction, no I/O.

Called by `service.py` with what was diagnosed. Level, not edge: what is seen stands, what was seen to be over is
cleared, and what nobody could see stays as it was: *unknown* opens nothing and closes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa

from ostler.core.ids import new_id
from ostler.db.tx import Tx
from ostler.events import service as events
from ostler.fabric import store
from ostler.fabric.hosts import Hosts
from ostler.fabric.model import Blueprint, Cause, CauseKind, Diagnosis, Port, Snapshot, Verdict
from ostler.fabric.node_faults import node_faults
from ostler.fabric.report import Names, move_document
from ostler.fabric.sweep import guid_text
from ostler.fabric.work import key_of, work
from ostler.faults.model import Fault
from ostler.health import levels
from ostler.health.model import Diagnosis as NodeDiagnosis
from ostler.health.model import HealthSettings
from ostler.nodes.model import State
from ostler.tickets import service as tickets

Consider: TypeAlias = Callable[[Tx, str, Sequence[NodeDiagnosis]], object]
"""What remediation makes of a node's findings."""

_PORTS_TOLD = 50
_LISTS = frozenset({CauseKind.PART_REPLACED, CauseKind.OTHER_FABRIC, CauseKind.HCA_ORDER})
"""Causes about the books rather than about cables: no port of theirs has to be covered for them to be over."""


@dataclass(frozen=True)
class Look:
    """One look at a fabric, diagnosed."""

    fabric: str
    snapshot_id: str
    seen: Snapshot
    diagnosis: Diagnosis
    blueprint: Blueprint | None
    hosts: Hosts
    taken_at: float
    """Domain seconds."""


def converge(tx: Tx, look: Look, health: HealthSettings, consider: Consider) -> None:
    """Bring causes, tickets and findings in line with what was seen."""
    tx.lock(f"fabric:{look.fabric}")
    standing = store.open_causes(tx, look.fabric)
    if any(cause.kind is CauseKind.OTHER_FABRIC for cause in look.diagnosis.causes):
        # Nothing that this look says is about the fabric whose books these are.
        matched = {cause.key: row for cause, row in _pairs(look.diagnosis.causes, standing)}
        for cause in look.diagnosis.causes:
            _stand(tx, look, cause, matched.get(cause.key))
        return
    pairs = list(_pairs(look.diagnosis.causes, standing))
    for cause, row in pairs:
        _stand(tx, look, cause, row)
    held = {row["id"] for _, row in pairs if row is not None}
    gone = [row for row in standing if row["id"] not in held and _is_over(row, look)]
    for row in gone:
        _clear(tx, look, row)
    _findings(tx, look, standing, health, consider)


def learn_parts(tx: Tx, look: Look) -> None:
    """Which GUID is where: what is new is learnt, what replaces a known part waits for a person's word."""
    known = store.part_places(tx, look.fabric)
    waiting = {found for _, found in look.seen.replaced.values()}
    fresh: dict[int, Port] = {}
    for port, end in look.seen.ends.items():
        if end.guid not in known and end.guid not in waiting and look.seen.answered(port.chassis):
            fresh[end.guid] = registry_place(port)
    told = "\n".join(look.seen.unplaced)
    placed = {guid: at for guid, at in fresh.items() if at.chassis != guid_text(guid) and guid_text(guid) not in told}
    store.insert_parts(tx, look.fabric, placed, "known")
    replaced = {found: registry_place(port) for port, (_, found) in look.seen.replaced.items() if found not in known}
    store.insert_parts(tx, look.fabric, replaced, "replaced")


def registry_place(port: Port) -> Port:
    """The place of the part that has this port: an HCA without its port's number, a switch's module."""
    head, slash, tail = port.name.rpartition("/")
    if tail.isdecimal():
        return Port(port.chassis, head)
    return port if not slash else Port(port.chassis, port.name)


# ── causes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _pairs(causes: Iterable[Cause], standing: Sequence[sa.RowMapping]) -> Iterable[tuple[Cause, sa.RowMapping | None]]:
    """Each cause with the row it goes on in: the same key, else one of its family that shares a port.

    A component shrinks while a technician works: what is left of it is the same cause still.
    """
    by_key = {row["key"]: row for row in standing}
    by_port: dict[tuple[str, str], list[sa.RowMapping]] = {}
    for row in standing:
        for chassis, name in row["ports"]:
            by_port.setdefault((chassis, name), []).append(row)
    taken: set[str] = set()
    pending: list[Cause] = []
    for cause in causes:
        same = by_key.get(cause.key)
        if same is not None and same["id"] not in taken:
            taken.add(same["id"])
            yield cause, same
        else:
            pending.append(cause)
    for cause in pending:
        near = (row for port in cause.ports for row in by_port.get((port.chassis, port.name), ()))
        akin = next((one for one in near if one["id"] not in taken and _akin(cause.kind, one["kind"])), None)
        if akin is not None:
            taken.add(akin["id"])
        yield cause, akin


_CABLING = frozenset({
    CauseKind.MISCABLED, CauseKind.CABLE_ABSENT, CauseKind.UNDESIGNED, CauseKind.SHIFTED, CauseKind.EXCHANGED,
    CauseKind.RAIL, CauseKind.PORT_NUMBER, CauseKind.TRUNK,
})  # fmt: skip


def _akin(kind: CauseKind, other: str) -> bool:
    """Whether one can have become the other while hands were on it."""
    return kind == other or (kind in _CABLING and CauseKind(other) in _CABLING)


def _stand(tx: Tx, look: Look, cause: Cause, row: sa.RowMapping | None) -> None:
    names = Names(look.blueprint, look.seen)
    values: dict[str, Any] = {
        "key": cause.key,
        "kind": cause.kind.value,
        "confirmed": cause.confirmed,
        "message": cause.message,
        "do": cause.do,
        "where": list(cause.where),
        "ports": [[port.chassis, port.name] for port in cause.ports],
        "moves": [move_document(move, names) for move in cause.moves],
        "snapshot_id": look.snapshot_id,
        "last_seen": look.taken_at,
    }
    ticket_id = None if row is None else row["ticket_id"]
    if cause.ticket and cause.confirmed:
        wanted = work(
            look.fabric,
            cause,
            names,
            look.hosts.by_chassis,
            look.seen,
            snapshot_id=look.snapshot_id,
            seen_at=look.taken_at,
        )
        ticket_id = tickets.report(tx, wanted)
    if row is None:
        cause_id = new_id("cause")
        first = {"id": cause_id, "fabric": look.fabric, "state": "open", "first_seen": look.taken_at, "sightings": 1}
        store.insert_cause(tx, {**first, **values, "ticket_id": ticket_id})
    else:
        cause_id = row["id"]
        store.update_cause(tx, cause_id, {**values, "ticket_id": ticket_id, "sightings": row["sightings"] + 1})
    if cause.confirmed and (row is None or not row["confirmed"]):
        _tell_found(tx, look, cause, cause_id, ticket_id)


def _tell_found(tx: Tx, look: Look, cause: Cause, cause_id: str, ticket_id: str | None) -> None:
    concerned = {
        look.hosts.by_chassis[port.chassis].id for port in cause.ports if port.chassis in look.hosts.by_chassis
    }
    told = {
        "fabric": look.fabric,
        "cause_id": cause_id,
        "kind": cause.kind.value,
        "message": cause.message,
        "ports": [str(port) for port in cause.ports[:_PORTS_TOLD]],
        "do": cause.do or None,
        "ticket_id": ticket_id,
        "nodes": sorted(concerned)[:_PORTS_TOLD],
    }
    events.publish(tx, "fabric.cause_found", f"fabric:{look.fabric}", told)


def _is_over(row: sa.RowMapping, look: Look) -> bool:
    """Whether this look would have seen it: every port of it is known now."""
    kind = CauseKind(row["kind"])
    if kind in _LISTS:
        return True
    if kind is CauseKind.DUPLICATE_GUID:
        return look.diagnosis.coverage.complete
    return all(_known(Port(chassis, name), look) for chassis, name in row["ports"])


def _known(port: Port, look: Look) -> bool:
    cable = None if look.blueprint is None else look.blueprint.by_port.get(port)
    if cable is not None:
        return look.diagnosis.verdicts.get(cable, Verdict.OK) is not Verdict.UNKNOWN
    if port in look.seen.links:
        return True
    return look.seen.answered(port.chassis) and not look.seen.blinded


def _clear(tx: Tx, look: Look, row: sa.RowMapping) -> None:
    store.update_cause(
        tx, row["id"], {"state": "cleared", "cleared_at": look.taken_at, "snapshot_id": look.snapshot_id}
    )
    evidence = f"snapshot {look.snapshot_id} by {look.seen.vantage or look.seen.source} shows it right"
    if row["ticket_id"] is not None:
        detail = {"snapshot_id": look.snapshot_id, "vantage": look.seen.vantage, "source": look.seen.source}
        tickets.confirm(tx, key_of(look.fabric, row["key"]), evidence, detail=detail, seen_at=look.taken_at)
    if row["confirmed"]:
        told = {
            "fabric": look.fabric,
            "cause_id": row["id"],
            "kind": row["kind"],
            "message": row["message"],
            "snapshot_id": look.snapshot_id,
        }
        events.publish(tx, "fabric.cause_cleared", f"fabric:{look.fabric}", told)


# ── findings ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _findings(tx: Tx, look: Look, before: Sequence[sa.RowMapping], health: HealthSettings, consider: Consider) -> None:
    """Say to health what stands at nodes' ports; of a node that was not wholly seen nothing is said to be over."""
    found = node_faults(look.diagnosis.causes, look.diagnosis.health)
    concerned = {chassis for row in before for chassis, _ in row["ports"]} | set(found)
    source = f"fabric-{look.fabric}"
    for chassis in sorted(concerned & set(look.hosts.by_chassis)):
        host = look.hosts.by_chassis[chassis]
        if host.state is not State.PRODUCTION:
            continue  # Day 1 has its own look at the cables (acceptance/cabling.py), and repairs end in it
        faults: Sequence[Fault] = found.get(chassis, ())
        if _covered(chassis, look):
            diagnoses = levels.converge(tx, host.id, source, faults, health)
        else:
            diagnoses = levels.say(tx, host.id, source, faults, (), health)
        if diagnoses:
            consider(tx, host.id, diagnoses)


def _covered(chassis: str, look: Look) -> bool:
    """Whether every designed cable of a chassis is known."""
    cables: Mapping[str, Any] = {} if look.blueprint is None else look.blueprint.by_chassis
    verdicts = look.diagnosis.verdicts
    return all(verdicts.get(cable, Verdict.OK) is not Verdict.UNKNOWN for cable in cables.get(chassis, ()))
