"""What a look at the fabric changes in the books: causes, tickets, findings, known parts. One transaction, no I/O.

Called by `service.py` with what was diagnosed. Level, not edge: what is seen stands, what was seen to be over is
cleared, and what nobody could see stays as it was: *unknown* opens nothing and closes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from ostler.audit.canonical import clean
from ostler.core.ids import new_id
from ostler.db.tx import Tx
from ostler.events import service as events
from ostler.fabric import node_findings, store
from ostler.fabric.link_proof import needed
from ostler.fabric.look import Look
from ostler.fabric.model import Cause, CauseKind, Port, Verdict
from ostler.fabric.node_findings import Consider
from ostler.fabric.report import Names, move_document
from ostler.fabric.work import key_of, work
from ostler.health.model import HealthSettings
from ostler.tickets import service as tickets

_PORTS_TOLD = 50
_LISTS = frozenset({CauseKind.PART_REPLACED, CauseKind.OTHER_FABRIC, CauseKind.HCA_ORDER})
"""Causes about the books rather than about cables: no port of theirs has to be covered for them to be over."""


BATCH = 100
"""Causes of one transaction: a cause with its ticket takes 4 to 8 ms, and claims and heartbeats wait behind it."""


@dataclass(frozen=True)
class Rest:
    """What of a look is still to be written: more causes than one transaction should hold."""

    standing: Sequence[sa.RowMapping]
    pairs: Sequence[tuple[Cause, sa.RowMapping | None]]
    done: int = 0
    spoken: frozenset[str | None] = frozenset()
    """Tickets that this look has said something of."""


def converge(tx: Tx, look: Look, health: HealthSettings, consider: Consider) -> Rest | None:
    """Bring causes, tickets and findings in line with what was seen. The caller holds `lock`.

    Returns what is left for `go_on`; None: that was all. What a process that dies leaves undone the next look does.
    """
    standing = store.open_causes(tx, look.fabric)
    if any(cause.kind is CauseKind.OTHER_FABRIC for cause in look.diagnosis.causes):
        # Nothing that this look says is about the fabric whose books these are.
        matched = {cause.key: row for cause, row in _pairs(look.diagnosis.causes, standing)}
        for cause in look.diagnosis.causes:
            _stand(tx, look, cause, matched.get(cause.key))
        return None
    return go_on(tx, look, Rest(standing, list(_pairs(look.diagnosis.causes, standing))), health, consider)


def go_on(tx: Tx, look: Look, rest: Rest, health: HealthSettings, consider: Consider) -> Rest | None:
    """The next causes, and behind the last of them what is over. Nothing once a newer look has come in between."""
    last = store.latest(tx, look.fabric)
    if last is not None and last["id"] != look.snapshot_id:
        return None
    until = rest.done + BATCH
    spoken = rest.spoken | {_stand(tx, look, cause, row) for cause, row in rest.pairs[rest.done : until]}
    if until < len(rest.pairs):
        return replace(rest, done=until, spoken=spoken)
    _settle(tx, look, rest.standing, rest.pairs, spoken, health, consider)
    return None


def _settle(
    tx: Tx,
    look: Look,
    standing: Sequence[sa.RowMapping],
    pairs: Sequence[tuple[Cause, sa.RowMapping | None]],
    spoken: frozenset[str | None],
    health: HealthSettings,
    consider: Consider,
) -> None:
    """Clear what is over, close its tickets, say to the nodes what stands."""
    held = {row["id"] for _, row in pairs if row is not None}
    left = [row for row in standing if row["id"] not in held]
    gone = [row for row in left if _is_over(tx, row, look)]
    over = {row["id"] for row in gone}
    unseen = [row for row in left if row["id"] not in over]
    for row in gone:
        _clear(tx, look, row)
    keys = {key_of(look.fabric, key) for key in (*(cause.key for cause, _ in pairs), *(row["key"] for row in unseen))}
    _close_tickets(tx, look, gone, spoken | {row["ticket_id"] for row in unseen}, keys)
    node_findings.say(tx, look, standing, unseen, health, consider)


def lock(tx: Tx, fabric: str) -> None:
    """One look at a fabric is written down at a time."""
    tx.lock(f"fabric:{fabric}")


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


def _stand(tx: Tx, look: Look, cause: Cause, row: sa.RowMapping | None) -> str | None:
    """Write down that a cause stands. Returns the id of its ticket.

    What was confirmed once stays so until it is over: that a second witness is silent now takes nothing back.
    """
    names = Names(look.blueprint, look.seen)
    confirmed = cause.confirmed or (row is not None and bool(row["confirmed"]))
    values: dict[str, Any] = {
        "key": cause.key,
        "kind": cause.kind.value,
        "confirmed": confirmed,
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
        store.insert_cause(tx, clean({**first, **values, "ticket_id": ticket_id}))
    else:
        cause_id = row["id"]
        changed = clean({**values, "ticket_id": ticket_id, "sightings": row["sightings"] + 1})
        store.update_cause(tx, cause_id, changed)
    if cause.confirmed and (row is None or not row["confirmed"]):
        _tell_found(tx, look, cause, cause_id, ticket_id)
    return ticket_id


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


def _is_over(tx: Tx, row: sa.RowMapping, look: Look) -> bool:
    """Whether this look would have seen it: every port of it is known now."""
    kind = CauseKind(row["kind"])
    if kind in _LISTS:
        return True
    if kind is CauseKind.DUPLICATE_GUID:
        return look.diagnosis.coverage.complete
    ports = [Port(chassis, name) for chassis, name in row["ports"]]
    if not all(_known(port, look) for port in ports):
        return False
    return kind is not CauseKind.LINK or _is_well(tx, look, ports, row)


def _known(port: Port, look: Look) -> bool:
    cable = None if look.blueprint is None else look.blueprint.by_port.get(port)
    if cable is not None:
        return look.diagnosis.verdicts.get(cable, Verdict.OK) is not Verdict.UNKNOWN
    if port in look.seen.links:
        return True
    if look.seen.answered(port.chassis):
        return not look.seen.blinded
    # A box that nobody designed, or no more: where everything else was seen, it is gone.
    foreign = look.blueprint is not None and port.chassis not in look.blueprint.chassis
    return foreign and look.diagnosis.coverage.complete


def _is_well(tx: Tx, look: Look, ports: Sequence[Port], row: sa.RowMapping) -> bool:
    """Whether a link that was ill is proved to be well.

    What convicted it was read again, at an end at least: without counters no counter is clean. And its counters were
    quiet for a while; when a technician says that it is done, the next look is the proof.
    """
    needs = needed(store.health_of(tx, row["snapshot_id"]), ports)
    if "counters" in {reading for one in needs for reading in one} and look.taken_at - row["last_seen"] < look.quiet_s:
        done = store.waits_for_proof(tx, row["ticket_id"])
        return done and _measured(look, ports, needs)
    return _measured(look, ports, needs)


def _measured(look: Look, ports: Sequence[Port], needs: Iterable[tuple[str, ...]]) -> bool:
    counted = look.before is not None and any(
        port in look.seen.counters and port in look.before.counters for port in ports
    )
    have = {
        "counters": counted,
        "bers": any(port in look.seen.bers for port in ports),
        "modules": any(port in look.seen.modules for port in ports),
    }
    return all(any(have[reading] for reading in one) for one in needs)


def _clear(tx: Tx, look: Look, row: sa.RowMapping) -> None:
    values = {"state": "cleared", "cleared_at": look.taken_at, "snapshot_id": look.snapshot_id}
    store.update_cause(tx, row["id"], values)
    if row["confirmed"]:
        told = {
            "fabric": look.fabric,
            "cause_id": row["id"],
            "kind": row["kind"],
            "message": row["message"],
            "snapshot_id": look.snapshot_id,
        }
        events.publish(tx, "fabric.cause_cleared", f"fabric:{look.fabric}", told)


def _close_tickets(
    tx: Tx, look: Look, gone: Sequence[sa.RowMapping], spoken: Collection[str | None], keys: Collection[str]
) -> None:
    """Close every ticket whose cause is over, also one that no open cause has: Seatrial's, and one that a technician
    called done while a look was under way.
    """
    ended = {row["ticket_id"] for row in gone}
    told = {port for cause in look.diagnosis.causes for port in cause.ports}
    evidence = f"snapshot {look.snapshot_id} by {look.seen.vantage or look.seen.source} shows it right"
    detail = {"snapshot_id": look.snapshot_id, "vantage": look.seen.vantage, "source": look.seen.source}
    for row, ports in store.unfinished_tickets(tx, look.fabric):
        if row["id"] in spoken or row["key"] in keys:
            continue
        alone = ports and not told.intersection(ports) and all(_known(port, look) for port in ports)
        if alone and row["evidence"].get("kind") == CauseKind.LINK:
            alone = _measured(look, ports, needed(store.health_of(tx, row["evidence"].get("snapshot_id")), ports))
        if alone or row["id"] in ended:
            tickets.confirm(tx, row["key"], evidence, detail=detail, seen_at=look.taken_at)
