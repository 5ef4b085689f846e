"""From what differs to causes: each in one line that says what is wrong, and one that says what to do.

`diagnose` calls it. The bigger cause takes its cables first, and a cable is in one cause only: switches and nodes that
are down, boxes exchanged, a wrong map of HCA names, bundles shifted, then each component on its own, absent cables,
cables of nobody, slow ones. Absent or wrong cables of a box that is not technicians' work (a node that is off is
health's business, a wrong map the designer's, an unknown box whoever keeps the design's) make causes without a ticket.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from ostler.fabric.diagnosis.cabling_folds import exchanged, reordered, shifted
from ostler.fabric.diagnosis.compare import Comparison
from ostler.fabric.diagnosis.components import Component, components
from ostler.fabric.diagnosis.down import Down, boxes_down
from ostler.fabric.diagnosis.evidence import Said
from ostler.fabric.diagnosis.keys import key
from ostler.fabric.diagnosis.moves import Plan, plan, told
from ostler.fabric.diagnosis.strangers import strangers
from ostler.fabric.model import Cause, CauseKind, ChassisKind, DesignedCable, Port, Verdict
from ostler.fabric.report import Names


def causes_of(found: Comparison, names: Names) -> list[Cause]:
    """All causes of what differs from the design, the biggest kinds first."""
    down = boxes_down(found)
    dark = {cable for one in down for cable in one.cables}
    designed = [*found.of(Verdict.WRONG), *(cable for cable in found.of(Verdict.ABSENT) if cable not in dark)]
    every = components(designed, found.strays)
    mixed = [one for one in every if one.cables and len(one.ports) > 2]
    lone = [one.cables[0] for one in every if one.cables and len(one.ports) == 2]
    loose = [(one.ports[0], one.ports[1]) for one in every if not one.cables]
    return [
        *(_down(one, names) for one in down),
        *_miscabled(found, mixed, names),
        *(_absent(found, cable, names) for cable in lone),
        *strangers(found, loose, names),
        *(_degraded(found, cable, names) for cable in found.of(Verdict.DEGRADED)),
    ]


def _down(one: Down, names: Names) -> Cause:
    what = f"{one.name} {one.module}".rstrip()
    told_of = f"{len(one.cables)} of its {one.designed} cables are dark"
    if one.kind is ChassisKind.SWITCH:
        doubt = "" if one.confirmed else "; seen from one vantage point only"
        return Cause(
            CauseKind.SWITCH_DOWN,
            key(CauseKind.SWITCH_DOWN, (what,)),
            (one.name,),
            one.ports,
            f"{what} does not answer and {told_of}, as its neighbours say{doubt}.",
            f"See whether {names.where(one.name)} has power and runs; then look at its cables.",
            cables=one.cables,
            confirmed=one.confirmed,
        )
    return Cause(
        CauseKind.NODE_DOWN,
        key(CauseKind.NODE_DOWN, (what,)),
        (one.name,),
        one.ports,
        f"No HCA of {what} answers and {told_of}: it is off, starting or cut off.",
        f"See whether {names.where(one.name)} is on; its cables are looked at once it runs.",
        cables=one.cables,
        ticket=False,
    )


def _miscabled(found: Comparison, every: Sequence[Component], names: Names) -> list[Cause]:
    """The wrong cables, folded where one reason explains many."""

    @cache
    def planned(number: int) -> Plan:
        return plan(every[number], found.blueprint, found.evidence)

    causes, left = [], dict.fromkeys(range(len(every)))
    for box in exchanged(found, every):
        parts = [every[number] for number in box.components]
        pair = (box.one, box.two)
        causes.append(
            _cabling(
                CauseKind.EXCHANGED,
                key(CauseKind.EXCHANGED, pair),
                parts,
                [planned(number) for number in box.components],
                f"{box.one} and {box.two} stand in each other's place, or bear each other's name: "
                f"{sum(len(one.cables) for one in parts)} cables agree.",
                f"Exchange {names.where(box.one)} and {names.where(box.two)}, or their names if only those are wrong.",
                where=pair,
            )
        )
        _drop(left, box.components)
    rest = list(left)
    for order in reordered(found, [every[number] for number in rest]):
        numbers = [rest[number] for number in order.components]
        pairs = ", ".join(f"{seen} where {wanted} should be" for seen, wanted in order.names[:4])
        causes.append(
            _cabling(
                CauseKind.HCA_ORDER,
                "",
                [every[number] for number in numbers],
                [],
                f"{len(order.hosts)} hosts ({_some(order.hosts)}) have the same other order of HCAs: {pairs}"
                f"{' and more' if len(order.names) > 4 else ''}. The map of HCA names is wrong, not the cables.",
                "Correct the HCA names in the design (or how the hosts number their HCAs); move no plug.",
                where=order.hosts,
                ticket=False,
            )
        )
        _drop(left, numbers)
    for shift in shifted([number for number in left if len(every[number].ports) > 2], planned):
        plans = [planned(number) for number in shift.components]
        count = sum(len(one.moves) for one in plans)
        direction = "above" if shift.by > 0 else "below"
        beside = "one port" if abs(shift.by) == 1 else "two ports"
        ports = sorted((move.then for one in plans for move in one.moves), key=_natural)
        causes.append(
            _cabling(
                CauseKind.SHIFTED,
                "",
                [every[number] for number in shift.components],
                plans,
                f"{count} plugs in a row on {shift.switch} sit {beside} {direction} their place "
                f"({names.port(ports[0])} to {names.port(ports[-1])} are meant).",
                f"At {names.where(shift.switch)} move the {count} plugs {beside} "
                f"{'down' if shift.by > 0 else 'up'}, in the order listed.",
            )
        )
        _drop(left, shift.components)
    for number in left:
        done = planned(number)
        causes.append(
            _cabling(
                CauseKind.MISCABLED,
                "",
                [every[number]],
                [done],
                _wrong(done, names),
                told(done, names.port),
            )
        )
    return causes


def _drop(left: dict[int, None], numbers: Iterable[int]) -> None:
    for number in numbers:
        left.pop(number, None)


def _cabling(
    kind: CauseKind,
    known: str,
    parts: Sequence[Component],
    plans: Sequence[Plan],
    message: str,
    do: str,
    *,
    where: tuple[str, ...] | None = None,
    ticket: bool = True,
) -> Cause:
    ports = tuple(sorted(port for one in parts for port in one.ports))
    if where is None:
        where = tuple(dict.fromkeys(name for done in plans for name in done.chassis))
    return Cause(
        kind,
        known or key(kind, ports),
        where,
        ports,
        message,
        do,
        tuple(move for done in plans for move in done.moves),
        tuple(cable for one in parts for cable in one.cables),
        ticket=ticket,
        removes=tuple(pair for done in plans for pair in done.removes),
    )


def _wrong(done: Plan, names: Names) -> str:
    first = [
        f"the cable of {names.port(move.stays)} is in {names.port(move.now)} and belongs in {names.port(move.then)}"
        for move in done.moves[:2]
    ]
    more = len(done.moves) - len(first)
    text = "; ".join(first) + (f"; {more} more" if more else "")
    count = len(done.moves) + len(done.removes)
    return f"{'One cable is' if count == 1 else f'{count} cables are'} in the wrong place: {text}."


def _absent(found: Comparison, cable: DesignedCable, names: Names) -> Cause:
    a, b = (names.port(port) for port in cable.ends)
    off = [port for port in cable.ends if found.evidence.disabled(port)]
    called = f" (serial {cable.serial})" if cable.serial else ""
    do = f"Reseat the cable{called} at {a} and at {b}; if it stays dark, change the cable, then the transceivers."
    if off:
        do = f"{names.port(off[0])} is disabled: find out why and enable it; only then look at the cable."
    else:
        silent = [port.chassis for port in cable.ends if found.evidence.says(port) is Said.SILENT]
        alone = [name for name in silent if not found.evidence.answered(name)]
        if alone:
            do = f"See that {names.where(alone[0])} is on. {do}"
    return Cause(
        CauseKind.CABLE_ABSENT,
        key(CauseKind.CABLE_ABSENT, cable.ends),
        _hosts_first(found, cable),
        cable.ends,
        f"No link between {a} and {b}{', a port is disabled' if off else ''}.",
        do,
        cables=(cable,),
        ticket=not off,
    )


def _degraded(found: Comparison, cable: DesignedCable, names: Names) -> Cause:
    a, b = (names.port(port) for port in cable.ends)
    facts = [
        known
        for view in found.evidence.views
        for port in cable.ends
        if (known := view.snapshot.facts.get(port)) is not None
    ]
    width = min((one.width for one in facts if one.width), default=0)
    speed = next((one.speed for one in facts if one.speed), "")
    most = cable.width or min((one.width_supported for one in facts if one.width_supported), default=0)
    best = cable.speed or next((one.speed_supported for one in facts if one.speed_supported), "")
    runs, should = f"{width or '?'}x {speed or '?'}", f"{most or width or '?'}x {best or speed or '?'}"
    called = f" (serial {cable.serial})" if cable.serial else ""
    return Cause(
        CauseKind.DEGRADED,
        key(CauseKind.DEGRADED, cable.ends),
        _hosts_first(found, cable),
        cable.ends,
        f"{a} to {b} runs at {runs}, not at {should}.",
        f"Reseat the cable{called} at {a} and at {b}; if it stays slow, change the cable.",
        cables=(cable,),
    )


def _hosts_first(found: Comparison, cable: DesignedCable) -> tuple[str, ...]:
    boxes = found.blueprint.chassis

    def order(name: str) -> tuple[bool, str]:
        box = boxes.get(name)
        return box is None or box.kind is not ChassisKind.HOST, name

    return tuple(sorted({cable.a.chassis, cable.b.chassis}, key=order))


def _natural(port: Port) -> tuple[str, int, str]:
    tail = port.name.rpartition("/")[2]
    return port.chassis, int(tail) if tail.isascii() and tail.isdigit() and len(tail) < 9 else 0, port.name


def _some(hosts: Sequence[str]) -> str:
    return ", ".join(hosts[:3]) + (f" to {hosts[-1]}" if len(hosts) > 3 else "")
