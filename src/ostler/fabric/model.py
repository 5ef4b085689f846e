"""The words of the fabric: ports by place, cables, blueprints, snapshots, verdicts, causes. All plain values.

A port is known by its place (`leaf01` port `17`, `gpu-0001` port `mlx5_0`); the GUID found there is an attribute, so
that a replaced HCA is no cabling fault. `sweep.py` holds what comes before: what a source said, by GUID.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from ostler.fabric.sweep import Ber, End, Module, PortFacts, PortState, Problem


class Port(NamedTuple):
    """A plug's place: a chassis (host or switch) and the port's name there.

    Names of ports: an HCA's is its device, `mlx5_0`, and `mlx5_0/2` for its second port; a switch's is the InfiniBand
    port number, `17`, behind the module's name where a chassis has several, `L11/U1/4`. What stands on the front panel
    is for people: `places/front_panel.py`.
    """

    chassis: str
    name: str

    def __str__(self) -> str:
        return f"{self.chassis} {self.name}"


class ChassisKind(StrEnum):
    HOST = "host"
    SWITCH = "switch"
    OTHER = "other"
    """Routers, gateways, and what nobody designed."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a box stands; empty: not known."""

    site: str = ""
    row: str = ""
    rack: str = ""
    unit: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.site, self.row, self.rack, self.unit) if part)


# ── what was designed ───────────────────────────────────────────────────────────────────────────────────────────────


class Role(StrEnum):
    """What a cable is for."""

    HOST = "host"
    """A host's port to its leaf."""
    TRUNK = "trunk"
    """Switch to switch."""


@dataclass(frozen=True, slots=True)
class DesignedChassis:
    """A box of the design."""

    name: str
    kind: ChassisKind
    model: str = ""
    place: Place = Place()


class DesignedCable(NamedTuple):
    """A cable of the design. `a` < `b`; what is empty or 0 is not said."""

    a: Port
    b: Port
    role: Role = Role.TRUNK
    rail: str = ""
    """Which rail it belongs to: `0` to `7`; empty: none."""
    serial: str = ""
    length_m: float = 0.0
    width: int = 0
    """Lanes it must run with; 0: as many as both ends can."""
    speed: str = ""
    """A key of `sweep.SPEEDS` it must run at; empty: as fast as both ends can."""
    line: int = 0
    """Of the file it was read from."""

    @property
    def ends(self) -> tuple[Port, Port]:
        return self.a, self.b


@dataclass(frozen=True)
class Blueprint:
    """The designed fabric. Every port is in at most one cable: readers refuse a file where one is in two."""

    name: str
    source: str
    """The format it was read from: `ostler-csv`, `ostler-yaml`, `ndt`, `topo`, `point-to-point`, `netbox`,
    `fat-tree`, `snapshot`."""
    chassis: Mapping[str, DesignedChassis]
    cables: tuple[DesignedCable, ...]
    proven: bool = True
    """False: taken over from a snapshot; it says what was there, not what should be."""
    guids: Mapping[int, Port] = field(default_factory=dict)
    """Node GUID → place, where the design names them. A switch's port name is empty then."""

    @cached_property
    def by_port(self) -> Mapping[Port, DesignedCable]:
        return {port: cable for cable in self.cables for port in (cable.a, cable.b)}

    @cached_property
    def by_chassis(self) -> Mapping[str, tuple[DesignedCable, ...]]:
        found: dict[str, list[DesignedCable]] = {}
        for cable in self.cables:
            found.setdefault(cable.a.chassis, []).append(cable)
            if cable.b.chassis != cable.a.chassis:
                found.setdefault(cable.b.chassis, []).append(cable)
        return {name: tuple(cables) for name, cables in found.items()}


@dataclass(frozen=True, slots=True)
class Lint:
    """What is doubtful about a blueprint. `error`: it cannot be used so."""

    kind: str
    """`port-twice`, `self-cable`, `rail-crossing`, `uneven-trunk`, `unknown-chassis`, `no-place`, …"""
    message: str
    line: int = 0
    error: bool = False


# ── what is there ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Chassis:
    """A box as it was seen."""

    name: str
    kind: ChassisKind
    model: str = ""
    guids: list[int] = field(default_factory=list)
    """Node GUIDs found in it."""
    answered: bool = True
    """False: only its neighbours named it."""


@dataclass(slots=True)
class Snapshot:
    """A sweep by place: what stands where, and what is plugged into what. Built by `places/locate.py`, then left alone.

    A port of an answering chassis that has no link is *empty* if `states` is set and its facts say so; where the source
    lists no such ports (`states` is False), one that is not among `links` is taken for empty unless something hides it.
    """

    source: str
    vantage: str = ""
    """Who looked, where there is more than one: host name or `sm`."""
    taken_at: float | None = None
    states: bool = False
    chassis: dict[str, Chassis] = field(default_factory=dict)
    links: dict[Port, Port] = field(default_factory=dict)
    """Both ways."""
    facts: dict[Port, PortFacts] = field(default_factory=dict)
    ends: dict[Port, End] = field(default_factory=dict)
    """Which GUID and port number was found at a place."""
    counters: dict[Port, dict[str, int]] = field(default_factory=dict)
    modules: dict[Port, Module] = field(default_factory=dict)
    bers: dict[Port, Ber] = field(default_factory=dict)
    monitor: str = ""
    """The chassis from which it was taken."""
    problems: list[Problem] = field(default_factory=list)
    replaced: dict[Port, tuple[int, int]] = field(default_factory=dict)
    """Ports where another GUID than the known one was found: place → (known, found). `places` tells them."""
    unplaced: list[str] = field(default_factory=list)
    """Nodes whose place could not be told, described in words."""

    def answered(self, chassis: str) -> bool:
        """Whether any node of this chassis gave an answer of its own."""
        found = self.chassis.get(chassis)
        return found is not None and found.answered

    def port_answered(self, port: Port) -> bool:
        """Whether the node that has this port gave an answer: every HCA of a host answers for itself."""
        return port in self.facts and self.answered(port.chassis)

    @property
    def blinded(self) -> bool:
        """Whether something may have hidden a part of the fabric."""
        return any(problem.hides for problem in self.problems)

    def up(self, port: Port) -> bool | None:
        """Whether the port has a link; None: not said."""
        if port in self.links:
            return True
        facts = self.facts.get(port)
        if facts is None or facts.state is PortState.UNKNOWN:
            return None
        return facts.state is not PortState.DOWN


# ── what differs ────────────────────────────────────────────────────────────────────────────────────────────────────


class Verdict(StrEnum):
    """What became of a designed cable. `unknown` never opens or closes a ticket."""

    OK = "ok"
    WRONG = "wrong"
    """Another port is at one of its ends."""
    ABSENT = "absent"
    """No link where it should be, and someone who answered says so."""
    DEGRADED = "degraded"
    """In its place, with fewer lanes or slower than designed or than both ends can."""
    UNKNOWN = "unknown"
    """Nobody who could tell has answered."""


class Move(NamedTuple):
    """One plug to move: the cable whose other end stays in `stays` goes from `now` to `then`."""

    stays: Port
    now: Port
    then: Port


class CauseKind(StrEnum):
    """What one ticket is about."""

    MISCABLED = "miscabled"
    """Plugs to move; `moves` says which."""
    CABLE_ABSENT = "cable-absent"
    """Both ends are there and nothing connects them: unplugged, broken, or a dead module."""
    UNDESIGNED = "undesigned"
    """A cable that nobody designed."""
    DEGRADED = "degraded"
    NODE_DOWN = "node-down"
    SWITCH_DOWN = "switch-down"
    EXCHANGED = "chassis-exchanged"
    """Two boxes stand (or are named) in each other's place."""
    SHIFTED = "bundle-shifted"
    """A run of plugs sits one port beside its place."""
    HCA_ORDER = "hca-order"
    """Many hosts have the same permutation: the map of HCA names is wrong, not the cables."""
    PART_REPLACED = "part-replaced"
    """Another GUID in a known place. No fault."""
    DUPLICATE_GUID = "duplicate-guid"
    OTHER_FABRIC = "other-fabric"
    """Blueprint and snapshot have hardly anything in common."""
    RAIL = "rail-crossed"
    """Without a design: an HCA on a leaf that the same HCA of other hosts is not on."""
    PORT_NUMBER = "port-differs"
    """Without a design: a host has other port numbers on one rail than on the rest."""
    TRUNK = "trunk-uneven"
    """Without a design: a pair of switches has fewer cables between it than its peers."""
    LINK = "link-trouble"
    """The cable is in its place and does not carry as it should: see `links/`."""


class Cause(NamedTuple):
    """One physical cause: one ticket, or none."""

    kind: CauseKind
    key: str
    """Stable over runs: made of the ports concerned."""
    where: tuple[str, ...]
    """The chassis where hands are needed, fewest first."""
    ports: tuple[Port, ...]
    message: str
    """One line: what is wrong."""
    do: str = ""
    """One line: what to do; empty where nothing is."""
    moves: tuple[Move, ...] = ()
    cables: tuple[DesignedCable, ...] = ()
    """The designed cables that it explains."""
    confirmed: bool = True
    """False: seen from one vantage point only where two are needed. Opens no ticket."""
    ticket: bool = True
    """Whether it is technicians' work at all."""
    removes: tuple[tuple[Port, Port], ...] = ()
    """Cables to take out before anything is moved: nobody designed them, and no designed cable lacks them."""


class TroubleKind(StrEnum):
    """What ails a link that is where it belongs."""

    FLAPPING = "flapping"
    DROPPED = "dropped"
    DOWNED = "downed"
    SYMBOL_ERRORS = "symbol-errors"
    RECOVERIES = "recoveries"
    INTEGRITY = "integrity"
    RCV_ERRORS = "rcv-errors"
    DISCARDS = "discards"
    BER = "ber"
    HOT = "hot"
    RX_POWER = "rx-power"
    WIDTH = "width"
    SPEED = "speed"


class Trouble(NamedTuple):
    """One thing wrong with one link, measured."""

    kind: TroubleKind
    port: Port
    """The end that is to be looked at first."""
    peer: Port | None
    severe: bool
    """True: it becomes a finding and a ticket; False: it is shown and counted."""
    message: str
    measured: Mapping[str, Any]
    source: str = ""
    """Of the limit."""


@dataclass(frozen=True)
class Coverage:
    """How much of the design was seen, and by whom."""

    source: str
    vantages: tuple[str, ...]
    chassis: int
    answered: int
    """Designed chassis, and how many of them answered."""
    cables: int
    known: int
    """Designed cables, and how many of them got a verdict other than unknown."""
    silent: tuple[str, ...]
    """Designed chassis that did not answer, 50 at most."""
    problems: tuple[Problem, ...] = ()

    @property
    def share(self) -> float:
        """Of the designed cables, 0.0 to 1.0; 1.0 where nothing was designed."""
        return self.known / self.cables if self.cables else 1.0

    @property
    def complete(self) -> bool:
        return self.known == self.cables and not any(problem.hides for problem in self.problems)


@dataclass(frozen=True)
class Diagnosis:
    """What a comparison found."""

    coverage: Coverage
    counts: Mapping[Verdict, int]
    verdicts: Mapping[DesignedCable, Verdict]
    """Of every designed cable that is not ok."""
    causes: tuple[Cause, ...]
    designed: bool = True
    """False: no blueprint was given; the causes are what the fabric says against itself."""
    health: tuple[Trouble, ...] = ()

    @property
    def clean(self) -> bool:
        """Nothing for anyone to do, and everything seen."""
        to_do = any(cause.kind is not CauseKind.PART_REPLACED for cause in self.causes)
        return not to_do and not any(trouble.severe for trouble in self.health) and self.coverage.complete
