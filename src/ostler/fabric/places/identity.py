"""Which node sits where: by GUID, else by its own name, else nowhere.

Called by `locate.py`. The order, and why:

1. GUIDs of the blueprint, then the registry of approved GUIDs. Nobody gives a GUID another name by mistake.
2. The description, if no other node claims the same and, with a blueprint, if it names a chassis of the design. One
   that names a chassis which nobody designed is believed too: that is a stranger, under its own name.
3. Nothing: a nameless node (factory name, `localhost`, a name that two nodes claim) is a chassis of its own, called by
   its GUID, with a line in `unplaced`. With a blueprint that line says what its cable makes of it: the port that should
   be at that end, if that is not seen elsewhere. It is not put there: its cable would then be its only witness, and
   could not be found wrong. So the verdict on that cable stays unknown until a person approves the GUID, while a
   nameless HCA in the place of one that is seen elsewhere still shows as the exchange that it is.

A place that the registry gives to another GUID, which is not seen: the part was replaced. If it is seen, two claim the
place and the known one keeps it. A registry that contradicts a name wins, and a problem says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ostler.fabric.model import Blueprint, ChassisKind, Port
from ostler.fabric.places import naming
from ostler.fabric.places.devices import by_order
from ostler.fabric.sweep import NodeKind, ProblemKind, Sweep, guid_text


class Seat(NamedTuple):
    """Where a node sits."""

    chassis: str
    module: str
    """A host's device; of a switch `U1`, `L11/U1`; empty where the node has no name."""
    model: str = ""
    nameless: bool = False
    """The chassis is the node itself, called by its GUID."""


class Identity(NamedTuple):
    """What was found out of all nodes."""

    seats: dict[int, Seat]
    """By GUID."""
    internal: set[int]
    """Aggregation nodes: no place, and their links are no cables."""
    replaced: dict[Port, tuple[int, int]]
    unplaced: list[str]


class _Names:
    """Chassis names: of the design in any spelling, or as hosts give them."""

    def __init__(self, blueprint: Blueprint | None, renamed: Mapping[str, str]) -> None:
        self._renamed = {name.lower(): to for name, to in renamed.items()}
        self._design = blueprint is not None
        self._known: dict[str, str] = {}
        """Lower case → name of the design; empty where two of the design differ in their domain only."""
        for name in blueprint.chassis if blueprint else ():
            for spelling in {name.lower(), naming.without_domain(name).lower()} - {name}:
                self._known[spelling] = name if self._known.get(spelling, name) == name else ""
        if blueprint:
            self._known.update({name: name for name in blueprint.chassis})
        self._short: dict[str, str] = {}

    def learn(self, name: str) -> None:
        """Without a design: domains are cut off where that makes no two names one."""
        short = naming.without_domain(name)
        if short != name and self._short.setdefault(short, name) != name:
            self._short[short] = ""

    def of(self, name: str) -> str:
        """What the chassis that calls itself so is called here."""
        to = self._renamed.get(name.lower()) or self._renamed.get(naming.without_domain(name).lower()) or name
        if self._design:
            for spelling in (to, to.lower(), naming.without_domain(to).lower()):
                if found := self._known.get(spelling):
                    return found
            return to
        short = naming.without_domain(to)
        return short if self._short.get(short, "") else to


def identify(
    sweep: Sweep,
    blueprint: Blueprint | None,
    known: Mapping[int, Port],
    names: Mapping[str, str],
    problems: Sweep,
) -> Identity:
    """Seats of all nodes that have one. `problems` takes what is doubtful (`Sweep.trouble`)."""
    work = _Work(sweep, blueprint, known, problems)
    work.by_guid()
    work.by_name(_Names(blueprint, names))
    work.devices()
    work.nameless(work.hints(blueprint) if blueprint else {})
    return Identity(work.seats, work.internal, work.replaced, work.unplaced)


class _Work:
    """The seats while they are being filled."""

    def __init__(self, sweep: Sweep, blueprint: Blueprint | None, known: Mapping[int, Port], problems: Sweep) -> None:
        self._nodes, self._ports, self._problems = sweep.nodes, sweep.ports, problems
        self._designed = blueprint.guids if blueprint else {}
        self._blueprint, self._known = blueprint, known
        self.seats: dict[int, Seat] = {}
        self.internal: set[int] = set()
        self.replaced: dict[Port, tuple[int, int]] = {}
        self.unplaced: list[str] = []
        self._named: dict[int, naming.Named] = {}
        self._taken: dict[Port, int] = {}
        """Chassis and module → the GUID that sits there."""
        self._open: dict[int, str] = {}
        """Nodes without a seat, and why."""
        self._by_own_name: list[int] = []

    def _seat(self, guid: int, seat: Seat) -> None:
        self.seats[guid] = seat
        self._taken[Port(seat.chassis, seat.module)] = guid

    def by_guid(self) -> None:
        """The blueprint's GUIDs before the registry's; a place that has two keeps the first."""
        for guid, node in self._nodes.items():
            found = naming.read(node.description, node.kind)
            if found.internal:
                self.internal.add(guid)
            else:
                self._named[guid] = found
        for source in (self._designed, self._known):
            for guid in self._named if len(self._named) < len(source) else source:
                if guid in self.seats or guid not in self._named or (place := source.get(guid)) is None:
                    continue
                named = self._named[guid]
                module = place.name
                if self._nodes[guid].kind is not NodeKind.HCA:
                    module = module or named.module or naming.ONE
                else:
                    module = module.partition("/")[0]
                if (other := self._taken.get(Port(place.chassis, module))) is not None:
                    self._twice(Port(place.chassis, module), [guid], other)
                    self._open[guid] = "is known for a place that another node has"
                    continue
                self._seat(guid, Seat(place.chassis, module, named.model))

    def by_name(self, names: _Names) -> None:
        """Descriptions, where one node only claims the place."""
        if self._blueprint is None:
            for named in self._named.values():
                if named.chassis:
                    names.learn(named.chassis)
        cache: dict[str, str] = {}
        claims: dict[Port, list[int]] = {}
        nameless: dict[str, list[int]] = {}
        for guid, named in self._named.items():
            seat = self.seats.get(guid)
            if not named.chassis:
                if seat is None:
                    self._open.setdefault(guid, named.why)
                    if self._nodes[guid].kind is NodeKind.HCA:
                        nameless.setdefault(self._nodes[guid].description, []).append(guid)
                continue
            chassis = cache.get(named.chassis)
            if chassis is None:
                chassis = cache[named.chassis] = names.of(named.chassis)
            if seat is None:
                if guid not in self._open:
                    claims.setdefault(Port(chassis, named.module), []).append(guid)
            elif chassis != seat.chassis and (self._blueprint is None or chassis in self._blueprint.chassis):
                self._contradicts(guid, chassis, named, seat)
        known = {_part(place): guid for guid, place in self._known.items()} if claims else {}
        for place, guids in claims.items():
            if len(guids) > 1 or place in self._taken:
                self._twice(place, guids, self._taken.get(place))
                for guid in guids:
                    self._open[guid] = f"calls itself {_words(place)}, as another node does"
                continue
            (guid,) = guids
            self._seat(guid, Seat(place.chassis, place.name, self._named[guid].model))
            self._by_own_name.append(guid)
            at = place._replace(name=naming.prefix(place.name)) if self._nodes[guid].kind is NodeKind.SWITCH else place
            if (before := known.get(at)) is not None and before not in self._nodes:
                self.replaced[at] = (before, guid)
        for description, guids in nameless.items():
            if len(guids) > 1 and description.strip():
                self._problems.trouble(
                    ProblemKind.DUPLICATE_PLACE,
                    f"{len(guids)} nodes are called {naming.shown(description)}; their names say nothing",
                    hides=False,
                )

    def devices(self) -> None:
        """Hosts whose HCAs the design calls otherwise: `HCA-1` for `mlx5_0`."""
        if self._blueprint is None:
            return
        hosts: dict[str, dict[str, int]] = {}
        for guid in self._by_own_name:
            if self._nodes[guid].kind is NodeKind.HCA:
                seat = self.seats[guid]
                hosts.setdefault(seat.chassis, {})[seat.module] = guid
        renamed, ambiguous = by_order(hosts, self._blueprint)
        for guid, device in renamed.items():
            seat = self.seats[guid]
            self._taken.pop(Port(seat.chassis, seat.module), None)
            self._seat(guid, seat._replace(module=device))
        if ambiguous:
            self._problems.trouble(
                ProblemKind.CONTRADICTION,
                f"the HCAs of {len(ambiguous)} hosts have other names than the design gives them, and which is which "
                f"cannot be told: {', '.join(ambiguous[:3])}",
                hides=False,
            )

    def hints(self, blueprint: Blueprint) -> dict[int, Port]:
        """Of HCAs without a seat: what should be at that end of their cable, if it is not seen elsewhere."""
        waiting = {guid for guid in self._open if self._nodes[guid].kind is NodeKind.HCA}
        found: dict[int, set[Port]] = {guid: set() for guid in waiting}
        for end, facts in self._ports.items() if waiting else ():
            own, far = (end, facts.peer) if end.guid in waiting else (facts.peer, end)
            if own is None or far is None or own.guid not in waiting or (seat := self.seats.get(far.guid)) is None:
                continue
            before = naming.prefix(seat.module)
            port = Port(seat.chassis, f"{before}/{far.port}" if before else str(far.port))
            if (cable := blueprint.by_port.get(port)) is not None:
                found[own.guid].add(cable.b if cable.a == port else cable.a)
        hints = {}
        for guid, ports in found.items():
            wanted = ports.pop() if len(ports) == 1 else None
            if wanted is None or _part(wanted) in self._taken:
                continue
            if (chassis := blueprint.chassis.get(wanted.chassis)) and chassis.kind is ChassisKind.HOST:
                hints[guid] = wanted
        return hints

    def nameless(self, hints: Mapping[int, Port]) -> None:
        """The rest: chassis of their own."""
        for guid, why in self._open.items():
            self.seats[guid] = Seat(guid_text(guid), "", self._named[guid].model, nameless=True)
            hint = f"; by its cable it should be {hints[guid]}" if guid in hints else ""
            self.unplaced.append(f"{self._told(guid)} {why}{hint}")

    def _told(self, guid: int) -> str:
        node = self._nodes[guid]
        return f"{node.kind} {guid_text(guid)} ({naming.shown(node.description.strip())})"

    def _twice(self, place: Port, guids: list[int], holder: int | None) -> None:
        texts = ", ".join(guid_text(guid) for guid in guids[:3])
        more = f" and {len(guids) - 3} more" if len(guids) > 3 else ""
        whose = f"; it is known to be {guid_text(holder)}'s" if holder is not None else ""
        self._problems.trouble(
            ProblemKind.DUPLICATE_PLACE, f"{_words(place)} is claimed by {texts}{more}{whose}", hides=False
        )

    def _contradicts(self, guid: int, chassis: str, named: naming.Named, seat: Seat) -> None:
        self._problems.trouble(
            ProblemKind.CONTRADICTION,
            f"{guid_text(guid)} is known as {seat.chassis} {seat.module} and calls itself {chassis} {named.module}; "
            f"taken for the first",
            guid=guid,
            hides=False,
        )


def _part(place: Port) -> Port:
    """What has this port: an HCA without the number of its port."""
    head, _, port = place.name.rpartition("/")
    return Port(place.chassis, head) if port.isdecimal() and head else place


def _words(place: Port) -> str:
    return " ".join(part for part in (place.chassis, naming.prefix(place.name)) if part)
