"""A `Sweep` becomes a `Snapshot`: every port under its place, both ways of every link, counters and readings beside.

Called by the command line, the server and the benches, once a sweep. `identity.py` says which node is where,
`planes.py` makes one port of four; this is the walk over all ports, of which there may be 100,000.

What a nameless node has is kept too, under a chassis called by its GUID. Left out are only aggregation nodes (SHARP),
which are inside switches, with the ports that lead to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ostler.fabric.formats.bind import bind
from ostler.fabric.model import Blueprint, Chassis, ChassisKind, Port, Snapshot
from ostler.fabric.places import front_panel, naming
from ostler.fabric.places.identity import Identity, Seat, identify
from ostler.fabric.places.planes import Folded, fold, plane
from ostler.fabric.sweep import End, Node, NodeKind, PortFacts, ProblemKind, Sweep, guid_text

_NUMBERS = [str(number) for number in range(256)]
_KINDS = {NodeKind.SWITCH: ChassisKind.SWITCH, NodeKind.HCA: ChassisKind.HOST, NodeKind.ROUTER: ChassisKind.OTHER}


def locate(
    sweep: Sweep,
    blueprint: Blueprint | None = None,
    *,
    known: Mapping[int, Port] = {},
    names: Mapping[str, str] = {},
    extra: Sequence[Sweep] = (),
    vantage: str = "",
) -> Snapshot:
    """Give everything its place. Never raises for what is in a sweep: what is doubtful is a problem of the snapshot.

    known: the registry, approved GUID → place; a host's port is called by its device, a switch's not or by its module.
    names: a host's own name → what the design calls it. extra: counters and readings of the same moment.
    """
    doubts = Sweep(sweep.source, problems=list(sweep.problems))
    sweep = _with_silent(sweep)
    identity = identify(sweep, blueprint, known, names, doubts)
    folded = fold(sweep, identity.seats, doubts)
    snapshot = Snapshot(sweep.source, vantage, sweep.taken_at, sweep.states)
    snapshot.chassis = _chassis(sweep, identity)
    snapshot.replaced, snapshot.unplaced = identity.replaced, identity.unplaced
    places = _walk(sweep, identity, folded, snapshot, doubts)
    for one in (sweep, *(bind(other, sweep) for other in extra)):
        _beside(one, places, folded.leads, snapshot)
        if one is not sweep:
            _doubts_of(one, doubts)
    if sweep.origin is not None and (seat := identity.seats.get(sweep.origin)) is not None:
        snapshot.monitor = seat.chassis
    snapshot.problems = doubts.problems
    return snapshot


def _with_silent(sweep: Sweep) -> Sweep:
    """With a node for every GUID that only a neighbour names."""
    nodes = sweep.nodes
    missing: dict[int, Node] = {}
    for end, facts in sweep.ports.items():
        if end[0] not in nodes:
            missing[end[0]] = Node(end[0], NodeKind.HCA, answered=False)
        peer = facts[0]
        if peer is not None and peer[0] not in nodes:
            missing.setdefault(peer[0], Node(peer[0], NodeKind.HCA, answered=False))
    return replace(sweep, nodes={**nodes, **missing}) if missing else sweep


def _chassis(sweep: Sweep, identity: Identity) -> dict[str, Chassis]:
    found: dict[str, Chassis] = {}
    for guid, node in sweep.nodes.items():
        seat = identity.seats.get(guid)
        if seat is None:
            continue
        kind = _KINDS[node.kind]
        chassis = found.get(seat.chassis)
        if chassis is None:
            chassis = found[seat.chassis] = Chassis(seat.chassis, kind, answered=False)
        elif kind is ChassisKind.SWITCH:
            chassis.kind = kind
        chassis.guids.append(guid)
        chassis.answered = chassis.answered or node.answered
        if seat.model and (kind is ChassisKind.SWITCH or not chassis.model):
            chassis.model = front_panel.split_model(seat.model, node.ports)
    return found


class _Namer:
    """Ports of one node by their number."""

    def __init__(self, node: Node, seat: Seat) -> None:
        self._chassis = seat.chassis
        self._device = seat.module if node.kind is NodeKind.HCA else ""
        self._before = "" if self._device or seat.nameless else naming.prefix(seat.module)
        self._panel = 0
        if plane(seat) and (known := front_panel.panel(seat.model)) is not None:
            self._panel, self._before = known.ports, seat.module

    def port(self, number: int) -> Port:
        if self._device:
            return Port(self._chassis, self._device if number == 1 else f"{self._device}/{number}")
        if self._before and number > self._panel:
            return Port(self._chassis, f"{self._before}/{number}")
        return Port(self._chassis, _NUMBERS[number] if 0 <= number < 256 else str(number))


def _walk(sweep: Sweep, identity: Identity, folded: Folded, snapshot: Snapshot, doubts: Sweep) -> dict[End, Port]:
    """Places of all ports, their facts and their links."""
    nodes, seats, internal, ports = sweep.nodes, identity.seats, identity.internal, folded.ports
    namers: dict[int, _Namer] = {guid: _Namer(nodes[guid], seat) for guid, seat in seats.items()}
    silent = {guid for guid, node in nodes.items() if not node.answered}
    places: dict[End, Port] = {}
    for end, facts in ports.items():
        peer = facts[0]
        if end[0] in internal or (peer is not None and peer[0] in internal):
            continue
        if end not in places:
            places[end] = namers[end[0]].port(end[1])
        if peer is not None and peer not in places:
            places[peer] = namers[peer[0]].port(peer[1])
    snapshot.ends = ends = {place: end for end, place in places.items()}
    if len(ends) != len(places):
        _collisions(places, ends, doubts)
    into, links = snapshot.facts, snapshot.links
    for end, facts in ports.items():
        place = places.get(end)
        if place is None:
            continue
        if end[0] not in silent:
            into[place] = facts
        peer = facts[0]
        if peer is None:
            continue
        there = places.get(peer)
        if there is None:
            continue
        back = ports.get(peer)
        if back is not None and back[0] == end:
            links[place] = there
        elif (back is None or back[0] is None) and peer != end and links.get(there, place) == place:
            links[place] = there
            links[there] = place
        else:
            _torn(end, peer, back, doubts)
    return places


def _collisions(places: dict[End, Port], ends: dict[Port, End], doubts: Sweep) -> None:
    """Two ports under one name, which takes a strange registry: the last keeps it, the other is left out."""
    for end, place in list(places.items()):
        if ends[place] != end:
            doubts.trouble(
                ProblemKind.DUPLICATE_PLACE,
                f"{place} is claimed by {guid_text(end.guid)} and {guid_text(ends[place].guid)}; the second has it",
                guid=end.guid,
            )
            del places[end]


def _torn(end: End, peer: End, back: PortFacts | None, doubts: Sweep) -> None:
    said = back.peer if back is not None else None
    other = f", which names {guid_text(said.guid)} port {said.port}" if said else ", as another port does"
    doubts.trouble(
        ProblemKind.CONTRADICTION,
        f"{guid_text(end.guid)} port {end.port} names {guid_text(peer.guid)} port {peer.port} as its neighbour{other}",
        guid=end.guid,
    )


def _beside(one: Sweep, places: Mapping[End, Port], leads: Mapping[End, End], snapshot: Snapshot) -> None:
    """Counters and readings, under the port they are of. Of planes: the sum of the counters, the first reading."""
    sums: dict[Port, dict[str, int]] = {}
    for end, counters in one.counters.items():
        if (lead := leads.get(end)) is None:
            if (place := places.get(end)) is not None:
                before = snapshot.counters.get(place)
                snapshot.counters[place] = {**before, **counters} if before else counters
        elif (place := places.get(lead)) is not None:
            total = sums.setdefault(place, {})
            for name, count in counters.items():
                total[name] = total.get(name, 0) + count
    for place, total in sums.items():
        snapshot.counters[place] = {**snapshot.counters.get(place, {}), **total}
    for end, module in one.modules.items():
        if (place := places.get(leads.get(end, end))) is not None:
            snapshot.modules.setdefault(place, module)
    for end, reading in one.bers.items():
        if (place := places.get(leads.get(end, end))) is not None:
            snapshot.bers.setdefault(place, reading)


def _doubts_of(one: Sweep, doubts: Sweep) -> None:
    """What went wrong with counters hides nothing of the cables."""
    for problem in one.problems:
        doubts.trouble(problem.kind, problem.message, line=problem.line, guid=problem.guid, hides=False)
