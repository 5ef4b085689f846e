"""A node's own ports against the blueprint, from what the node itself found at the other end of its cables. Pure.

Seatrial calls it (`acceptance/cabling.py`) with the measurements of the check `ib-neighbours`. It is no second
diagnosis: the measurements become a small sweep in which only this host and its neighbours have answered, and
`places` and `diagnosis` do the rest. What they cannot know from one host (whether a leaf is down or a cable is out)
comes down to this host's plugs here.

The measurements come from a node: anything may stand in them. What cannot be read is left out, and a cable of which
nothing is left is unknown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ostler.fabric.diagnosis import diagnose
from ostler.fabric.diagnosis.keys import key
from ostler.fabric.model import Blueprint, Cause, CauseKind, DesignedCable, DesignedChassis, Port, Snapshot, Verdict
from ostler.fabric.places.locate import locate
from ostler.fabric.report import Names
from ostler.fabric.sweep import SPEEDS, End, Node, NodeKind, Physical, PortFacts, PortState, Sweep

SOURCE = "ib-neighbours"
MOST_PORTS = 128
"""Of one node that are looked at; the check tells 70 at most."""
_TEXT = 128
_GUID = re.compile(r"0x[0-9a-f]{16}")
_HCA = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ROWS = re.compile(r"ports(_\d{1,2})?")
_ABOUT_PLUGS = frozenset(
    (CauseKind.MISCABLED, CauseKind.SHIFTED, CauseKind.EXCHANGED, CauseKind.CABLE_ABSENT, CauseKind.DEGRADED)
)
_BAD = (Verdict.WRONG, Verdict.ABSENT, Verdict.DEGRADED)


@dataclass(frozen=True)
class OwnCable:
    """One designed cable of this host."""

    port: Port
    """The host's end."""
    cable: DesignedCable
    verdict: Verdict
    line: str
    """What was found, for people; empty where it is ok."""


@dataclass(frozen=True)
class OwnPorts:
    """What became of a host's designed cables."""

    chassis: str
    cables: tuple[OwnCable, ...]
    causes: tuple[Cause, ...]
    """Everything that hands have to do at this host, each a ticket; together they explain every bad cable."""
    strays: tuple[str, ...]
    """Cables of this host to boxes of this design that nobody designed, in words."""
    blueprint: Blueprint
    """As much of it as was looked at."""
    snapshot: Snapshot

    @property
    def bad(self) -> tuple[OwnCable, ...]:
        """Wrong, absent or degraded."""
        return tuple(one for one in self.cables if one.verdict in _BAD)

    @property
    def unknown(self) -> tuple[OwnCable, ...]:
        return tuple(one for one in self.cables if one.verdict is Verdict.UNKNOWN)

    @property
    def ok(self) -> bool:
        """Every designed cable of the host is where it belongs, with all its lanes and speed; there is at least one."""
        return bool(self.cables) and all(one.verdict is Verdict.OK for one in self.cables)

    @property
    def do(self) -> tuple[str, ...]:
        """What to do, one line a cause."""
        return tuple(cause.do or cause.message for cause in self.causes)


def judge_ports(
    blueprint: Blueprint, chassis: str, measured: Mapping[str, Any], *, names: Mapping[str, str] = {}
) -> OwnPorts:
    """Judge every designed cable of `chassis`. `names`: what a host calls itself → what the design calls it.

    Never raises for what stands in `measured`.
    """
    told = _consistent(list(_told(measured)))
    sweep = _sweep(chassis, told)
    own = {number: Port(chassis, hca) for hca, number in _numbers(told).items()}
    mine = blueprint.by_chassis.get(chassis, ())
    seen = locate(sweep, _part(blueprint, mine, every_chassis=True), known=own, names=names, vantage=chassis)
    seen.monitor = ""  # a host whose ports all are down has seen just that
    beside = [blueprint.by_port[peer] for port, peer in seen.links.items() if peer in blueprint.by_port]
    part = _part(blueprint, dict.fromkeys((*mine, *beside)))
    found = diagnose(part, seen)
    verdicts = {cable: found.verdicts.get(cable, Verdict.OK) for cable in mine}
    speak = _Speech(part, seen, chassis, told)
    cables = tuple(
        OwnCable(end, cable, verdict, speak.line(end, cable, verdict))
        for cable, verdict in sorted(verdicts.items(), key=lambda item: _end(item[0], chassis))
        for end in (_end(cable, chassis),)
    )
    if (dark := _none_up(chassis, cables)) is not None:
        causes = [dark]
    else:
        causes = [*_sure(cause for cause in found.causes if _ours(cause, chassis))]
        causes += _left(cables, causes, speak)
    return OwnPorts(chassis, cables, tuple(causes), tuple(speak.strays(blueprint)), part, seen)


# ── measurements → a sweep ──────────────────────────────────────────────────────────────────────────────────────────


class _Told(NamedTuple):
    """One row that could be read."""

    hca: str
    port: int
    guid: int
    facts: PortFacts
    why: str
    there: Node | None
    there_port: int


def _told(measured: Mapping[str, Any]) -> Iterator[_Told]:
    """The rows of `ports`, `ports_2`, …, of each port the first."""
    seen: set[tuple[str, int]] = set()
    for name in sorted(name for name in measured if isinstance(name, str) and _ROWS.fullmatch(name)):
        rows = measured[name]
        for row in rows if isinstance(rows, list | tuple) else ():
            one = _row(row) if len(seen) < MOST_PORTS and isinstance(row, Mapping) else None
            if one is not None and (one.hca, one.port) not in seen:
                seen.add((one.hca, one.port))
                yield one


def _consistent(told: list[_Told]) -> list[_Told]:
    """Two ports that name one port as their neighbour: neither is believed."""
    claims = Counter((one.there.guid, one.there_port) for one in told if one.there is not None)
    return [
        one._replace(there=None, there_port=0, why="another port of this node names the same neighbour")
        if one.there is not None and claims[one.there.guid, one.there_port] > 1
        else one
        for one in told
    ]


def _row(row: Mapping[Any, Any]) -> _Told | None:
    hca, port = row.get("hca"), _number(row.get("port"), 254)
    if not isinstance(hca, str) or not _HCA.fullmatch(hca) or not port:
        return None
    word = row.get("state")
    state = PortState(word) if isinstance(word, str) and word in set(PortState) else PortState.UNKNOWN
    node, number = _neighbour(row.get("neighbour"))
    if node is not None and state in (PortState.UNKNOWN, PortState.DOWN):
        state = PortState.ACTIVE if state is PortState.UNKNOWN else state
    physical = {PortState.UNKNOWN: Physical.UNKNOWN, PortState.DOWN: Physical.POLLING}.get(state, Physical.LINK_UP)
    facts = PortFacts(
        None,
        state,
        physical,
        _number(row.get("width"), 64),
        _speed(row.get("speed")),
        _number(row.get("width_able"), 64),
        _speed(row.get("speed_able")),
    )
    return _Told(hca, port, _guid(row.get("guid")), facts, _text(row.get("why")), node, number)


def _neighbour(value: Any) -> tuple[Node | None, int]:
    if not isinstance(value, Mapping):
        return None, 0
    guid, port, kind = _guid(value.get("guid")), _number(value.get("port"), 254), value.get("kind")
    if not guid or not port or not isinstance(kind, str) or kind not in set(NodeKind):
        return None, 0
    system = _guid(value.get("system_guid"))
    return Node(guid, NodeKind(kind), _text(value.get("description")), system_guid=system), port


def _number(value: Any, most: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else 0


def _guid(value: Any) -> int:
    return int(value, 16) if isinstance(value, str) and _GUID.fullmatch(value) else 0


def _speed(value: Any) -> str:
    return value if isinstance(value, str) and value in SPEEDS else ""


def _text(value: Any) -> str:
    said = value[:_TEXT] if isinstance(value, str) else ""
    return "".join(char if char.isprintable() else " " for char in said).strip()


def _numbers(told: Sequence[_Told]) -> dict[str, int]:
    """HCA → the GUID that it gets here: the node's own place is known, so that no GUID it claims can move it."""
    return {hca: number for number, hca in enumerate(dict.fromkeys(one.hca for one in told), 1)}


def _sweep(chassis: str, told: Sequence[_Told]) -> Sweep:
    sweep = Sweep(SOURCE, f"{SOURCE} of {chassis}", states=True)
    numbers = _numbers(told)
    real = {one.guid: numbers[one.hca] for one in told if one.guid}
    for hca, number in numbers.items():
        sweep.nodes[number] = Node(number, NodeKind.HCA, f"{chassis} {hca}")
    for one in told:
        here = End(numbers[one.hca], one.port)
        there = one.there
        if there is None or one.facts.state is PortState.DOWN:
            sweep.ports[here] = one.facts
            continue
        guid = real.get(there.guid, there.guid)
        sweep.nodes.setdefault(guid, replace(there, guid=guid))
        peer = End(guid, one.there_port)
        sweep.ports[here] = one.facts._replace(peer=peer)
        sweep.ports.setdefault(peer, one.facts._replace(peer=here))
    return sweep


def _part(blueprint: Blueprint, cables: Iterable[DesignedCable], *, every_chassis: bool = False) -> Blueprint:
    """The blueprint with these cables only."""
    kept = tuple(cables)
    chassis: Mapping[str, DesignedChassis] = blueprint.chassis
    if not every_chassis:
        names = dict.fromkeys(port.chassis for cable in kept for port in cable.ends)
        chassis = {name: blueprint.chassis[name] for name in names if name in blueprint.chassis}
    return replace(blueprint, chassis=chassis, cables=kept)


# ── words and causes ────────────────────────────────────────────────────────────────────────────────────────────────


def _end(cable: DesignedCable, chassis: str) -> Port:
    return cable.a if cable.a.chassis == chassis else cable.b


def _other(cable: DesignedCable, port: Port) -> Port:
    return cable.b if cable.a == port else cable.a


def _ours(cause: Cause, chassis: str) -> bool:
    """Whether the cause is about this host's plugs. That a neighbour is down cannot be told from one host."""
    return cause.kind in _ABOUT_PLUGS and any(port.chassis == chassis for port in cause.ports)


def _sure(causes: Iterable[Cause]) -> Iterator[Cause]:
    """One vantage point is enough for this host's own plugs."""
    for cause in causes:
        yield cause._replace(confirmed=True, ticket=True)


def _left(cables: Sequence[OwnCable], causes: Sequence[Cause], speak: _Speech) -> Iterator[Cause]:
    """A cause for every bad cable that no cause explains: a leaf that may be down is a plug without a link here."""
    told = {port for cause in causes for port in cause.ports} | {p for c in causes for x in c.cables for p in x.ends}
    for one in cables:
        if one.verdict not in _BAD or one.port in told:
            continue
        kind = CauseKind.DEGRADED if one.verdict is Verdict.DEGRADED else CauseKind.CABLE_ABSENT
        ends = one.cable.ends
        yield Cause(
            kind,
            key(kind, ends),
            (one.port.chassis,),
            ends,
            one.line,
            f"Look at the cable between {speak.port(one.port)} and {speak.port(_other(one.cable, one.port))}: "
            "reseat it at both ends; if it stays so, change it.",
            cables=(one.cable,),
        )


def _none_up(chassis: str, cables: Sequence[OwnCable]) -> Cause | None:
    """A host without a single link is one trouble and one ticket: the one that a sweep has for a host it cannot see."""
    if len(cables) < 2 or any(one.verdict is not Verdict.ABSENT for one in cables):
        return None
    return Cause(
        CauseKind.NODE_DOWN,
        key(CauseKind.NODE_DOWN, (chassis,)),
        (chassis,),
        tuple(port for one in cables for port in one.cable.ends),
        f"None of the {len(cables)} InfiniBand ports of {chassis} has a link, and its agent runs.",
        f"See that all {len(cables)} cables are plugged in at {chassis}, and that its leaf switches are on.",
        cables=tuple(one.cable for one in cables),
    )


class _Speech:
    """What is said of one host's ports."""

    def __init__(self, blueprint: Blueprint, seen: Snapshot, chassis: str, told: Sequence[_Told]) -> None:
        self._names = Names(blueprint, seen)
        self._seen = seen
        self._chassis = chassis
        self._by_port = blueprint.by_port
        self._why = {_own(chassis, one): one.why for one in told}
        self._hcas = {one.hca for one in told}

    def port(self, port: Port) -> str:
        """The host's own ports without its name: it stands at the head of the ticket."""
        return port.name if port.chassis == self._chassis else self._names.port(port)

    def line(self, end: Port, cable: DesignedCable, verdict: Verdict) -> str:
        """What was found at a designed cable; empty where it is ok."""
        belongs = f"it belongs to {self.port(_other(cable, end))}"
        match verdict:
            case Verdict.OK:
                return ""
            case Verdict.WRONG:
                peer = self._seen.links.get(end)
                if peer is None:
                    return f"{end.name}: another cable is in {self.port(_other(cable, end))}, where it belongs"
                return f"{end.name} is plugged into {self.port(peer)}; {belongs}"
            case Verdict.ABSENT:
                why = self._why.get(end, "")
                return f"{end.name} has {why or 'no link'}; {belongs}"
            case Verdict.DEGRADED:
                facts = self._seen.facts[end]
                width, speed = cable.width or facts.width_supported, cable.speed or facts.speed_supported
                return (
                    f"{end.name} runs at {facts.width}X {facts.speed}, {width}X {speed} is wanted "
                    f"(to {self.port(_other(cable, end))})"
                )
            case Verdict.UNKNOWN:
                hca = end.name.partition("/")[0]
                if hca not in self._hcas:
                    return f"{end.name}: the node has no such HCA; {belongs}"
                return f"{end.name}: {self._why.get(end) or 'what is at the other end is not certain'}; {belongs}"

    def strays(self, blueprint: Blueprint) -> Iterator[str]:
        """Cables at ports that the design leaves free, into boxes that the design has: the rest is another fabric's."""
        for port, peer in sorted(self._seen.links.items()):
            mine = port.chassis == self._chassis and port not in blueprint.by_port
            if mine and peer.chassis in blueprint.chassis:
                yield f"{port.name} is plugged into {self.port(peer)}; nothing is designed there"


def _own(chassis: str, one: _Told) -> Port:
    return Port(chassis, one.hca if one.port == 1 else f"{one.hca}/{one.port}")
