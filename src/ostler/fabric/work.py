"""A cause as a technician's work: where hands go, what stays, whom it harms, whether it is safe. Pure.

Called by `books.py` for every confirmed cause. The words on a front panel come from `report.Names`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ostler.fabric.hosts import Host
from ostler.fabric.model import Cause, CauseKind, ChassisKind, DesignedCable, Move, Port, Snapshot
from ostler.fabric.report import Names
from ostler.nodes.model import State
from ostler.tickets.model import Harms, Plug, Safety, Step, Subject, Work

RESEAT = "Take the plug out, look at it and at the port, put it back until it clicks."
MOVE = "Move the plug."
PULL = "Pull the plug, and put it in when its new port is free."
_NO_PART = frozenset({CauseKind.MISCABLED, CauseKind.EXCHANGED, CauseKind.SHIFTED, CauseKind.UNDESIGNED})
"""Nothing is broken: a plug is in another's place."""
_NAMED = 6


def key_of(fabric: str, cause_key: str) -> str:
    """The ticket's key: causes of two fabrics never share a ticket."""
    return f"{fabric}:{cause_key}"


def work(
    fabric: str,
    cause: Cause,
    names: Names,
    hosts: Mapping[str, Host],
    seen: Snapshot,
    *,
    snapshot_id: str,
    seen_at: float,
) -> Work:
    """What a technician has to do about a cause."""
    concerned = [hosts[name] for name in dict.fromkeys(_chassis(cause)) if name in hosts]
    place = next((found for name in cause.where if (found := names.place(name))), "")
    return Work(
        key=key_of(fabric, cause.key),
        subject=_subject(cause, seen),
        cause=cause.message,
        instruction=cause.do or cause.message,
        place=place,
        node_ids=tuple(host.id for host in concerned),
        steps=tuple(_steps(cause, names)),
        harms=_harms(concerned),
        safe=_safety(cause, concerned, seen),
        fabric=fabric,
        ports=tuple((port.chassis, port.name) for port in cause.ports),
        evidence={"kind": cause.kind.value, "snapshot_id": snapshot_id, "source": seen.source, "vantage": seen.vantage},
        escalates=cause.kind not in _NO_PART,
        seen_at=seen_at,
    )


def _chassis(cause: Cause) -> Iterable[str]:
    yield from cause.where
    for port in cause.ports:
        yield port.chassis


def _subject(cause: Cause, seen: Snapshot) -> Subject:
    if cause.kind is CauseKind.SWITCH_DOWN:
        return Subject.SWITCH
    if cause.kind in (CauseKind.NODE_DOWN, CauseKind.DUPLICATE_GUID):
        return Subject.NODE
    if cause.kind is CauseKind.EXCHANGED:
        kinds = {seen.chassis[name].kind for name in cause.where if name in seen.chassis}
        return Subject.SWITCH if kinds == {ChassisKind.SWITCH} else Subject.NODE
    return Subject.CABLE


def _steps(cause: Cause, names: Names) -> Iterable[Step]:
    if cause.kind is CauseKind.EXCHANGED:
        # The boxes, or as many plugs as they have: never both. The plugs are listed with the cause.
        for name in cause.where[:2]:
            yield Step(cause.do, Plug(name, "", names.spot(name)))
        return
    serials = {port: cable.serial for cable in cause.cables for port in cable.ends if cable.serial}
    for pair in cause.removes:
        for port in pair:
            yield Step("Take the plug out; nothing is designed there.", plug(port, names))
    for number, move in enumerate(cause.moves):
        taken = any(later.now == move.then for later in cause.moves[number + 1 :])
        yield _move(move, names, serials, PULL if taken else MOVE)
    if cause.moves or cause.removes or cause.kind in (CauseKind.SWITCH_DOWN, CauseKind.NODE_DOWN):
        return
    cables = cause.cables or ((DesignedCable(cause.ports[0], cause.ports[1]),) if len(cause.ports) > 1 else ())
    for cable in cables[:_NAMED]:
        for port in sorted(cable.ends, key=lambda one: one.chassis not in cause.where):
            yield Step(RESEAT, plug(port, names), cable_serial=cable.serial)


def _move(move: Move, names: Names, serials: Mapping[Port, str], do: str) -> Step:
    # The serial is the designed cable's at the end that stays: that is the cable in the hand unless it is a stranger.
    return Step(
        do,
        plug(move.now, names),
        plug(move.then, names),
        plug(move.stays, names),
        serials.get(move.stays, ""),
    )


def plug(port: Port, names: Names) -> Plug:
    """One end of a cable in the words of who stands before it."""
    return Plug(port.chassis, port.name, names.spot(port.chassis), names.label(port))


def _harms(concerned: list[Host]) -> Harms:
    busy = [host.name for host in concerned if host.busy]
    told = f"a workload runs on {', '.join(busy[:_NAMED])}" if busy else ""
    if len(busy) > _NAMED:
        told += f" and {len(busy) - _NAMED} more"
    return Harms(tuple(host.name for host in concerned[:50]), told)


def _safety(cause: Cause, concerned: list[Host], seen: Snapshot) -> Safety:
    """Hands are safe where nothing runs: a link that is down carries nothing, a drained host neither."""
    up = [port for port in cause.ports if port in seen.links]
    trunks = [port for port in up if seen.chassis[port.chassis].kind is ChassisKind.SWITCH and _is_trunk(port, seen)]
    if not up:
        return Safety(True, "no link is up on these ports")
    working = [host for host in concerned if host.busy]
    if working:
        return Safety(False, f"{working[0].name} runs a workload over it; drain it first (ostler nodes drain)")
    serving = [host for host in concerned if host.state is State.PRODUCTION and not host.cordoned]
    if serving:
        return Safety(False, f"{serving[0].name} is in production and may get work; cordon it first")
    if trunks:
        return Safety(None, f"{trunks[0]} is a link between switches and carries the work of others")
    if concerned:
        return Safety(True, "its nodes are out of production, or cordoned and idle")
    return Safety(None, "nobody knows what runs on these hosts")


def _is_trunk(port: Port, seen: Snapshot) -> bool:
    peer = seen.links[port]
    return peer.chassis in seen.chassis and seen.chassis[peer.chassis].kind is ChassisKind.SWITCH
