"""What the templates draw, as plain values. Made by `queries.py`; times are UTC epoch seconds of domain time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ostler.breakfix.model import Part, Window
from ostler.nodes.model import Condition, State
from ostler.oncall.model import OncallSettings
from ostler.remediation.model import RemediationSettings
from ostler.remediation.why import Link

NEEDS_PERSON = frozenset({State.ZAP_FAIL, State.TRIAGE, State.DEBUG})
"""States that a node does not leave without somebody."""

PAGED_FROM = 5000
"""A fleet with more nodes than this is drawn some racks at a time: a browser takes long to lay out more tiles."""
PAGE = 2000
"""Tiles of one page then, unless a single rack has more."""


@dataclass(frozen=True)
class Rules:
    """What the console has to know of the configuration to say what others will do."""

    oncall: OncallSettings = field(default_factory=OncallSettings)
    remediation: RemediationSettings = field(default_factory=RemediationSettings)
    pause_file: Path | None = None


@dataclass(frozen=True)
class Happened:
    """One event in the life of a maintenance or an RMA case."""

    at: float
    word: str
    reason: str


@dataclass(frozen=True)
class Tile:
    """One node on the map."""

    id: str
    name: str
    serial: str
    pool: str
    rack: str
    slot: str
    state: State
    since: float
    pending: str | None
    pending_reason: str
    cordoned: bool
    """Held by a person or by remediation; what the state brings with it is not shown again."""
    silent: bool

    @property
    def marks(self) -> tuple[str, ...]:
        """What is true beside the state, in words that are also CSS classes."""
        found = (("pending", self.pending is not None), ("cordoned", self.cordoned), ("silent", self.silent))
        return tuple(name for name, true in found if true)

    @property
    def find(self) -> str:
        """What the filter looks in."""
        return " ".join((self.name, self.serial, self.slot, self.rack, self.pool)).lower()


@dataclass(frozen=True)
class Rack:
    """One card of the map; `key` is safe as an HTML id."""

    name: str
    key: str
    place: str
    tiles: tuple[Tile, ...]

    @property
    def well(self) -> int:
        return sum(tile.state is State.PRODUCTION for tile in self.tiles)

    @property
    def needs_person(self) -> int:
        return sum(tile.state in NEEDS_PERSON for tile in self.tiles)


@dataclass(frozen=True)
class Pause:
    """Automation held by a person."""

    scope: str
    actor: str
    reason: str
    since: float | None
    until: float | None


@dataclass(frozen=True)
class Brake:
    """What is held, and what was let through in the last hour of domain time."""

    pauses: tuple[Pause, ...]
    permits: int
    held: int


@dataclass(frozen=True)
class Line:
    """One event as the ticker shows it. `tone` is a state, or `note`; `node_id` is where a click leads."""

    id: str
    at: float
    who: str
    text: str
    tone: str
    node_id: str | None


@dataclass(frozen=True)
class Fleet:
    """The whole first room. `position` is the last sealed event that it has seen."""

    now: float
    position: int
    racks: tuple[Rack, ...]
    counts: Mapping[State, int]
    marks: Mapping[str, int]
    brake: Brake
    ticker: tuple[Line, ...]
    tickets: int

    @property
    def total(self) -> int:
        return sum(self.counts.values()) - self.counts[State.RETIRED]

    @property
    def in_production(self) -> int:
        return self.counts[State.PRODUCTION]

    @property
    def needs_person(self) -> int:
        return sum(self.counts[state] for state in NEEDS_PERSON)

    @property
    def pages(self) -> tuple[tuple[Rack, ...], ...]:
        """The racks in the groups in which they are drawn: one, unless the fleet is large."""
        if self.total <= PAGED_FROM:
            return (self.racks,)
        groups: list[list[Rack]] = [[]]
        size = 0
        for rack in self.racks:
            if groups[-1] and size + len(rack.tiles) > PAGE:
                groups.append([])
                size = 0
            groups[-1].append(rack)
            size += len(rack.tiles)
        return tuple(tuple(group) for group in groups)

    @property
    def density(self) -> str:
        """How much room a tile has: `roomy` shows name and state, `medium` the name, `dense` the shape alone."""
        return "roomy" if self.total <= 48 else "medium" if self.total <= 240 else "dense"


@dataclass(frozen=True)
class Change:
    """What happened past a position: nodes to draw again, or too much of it (`everything`)."""

    position: int
    node_ids: frozenset[str]
    everything: bool


Row = Mapping[str, Any]


@dataclass(frozen=True)
class Rung:
    """One means of repair, and how often it was tried within the window."""

    action: str
    times: int


@dataclass(frozen=True)
class Climb:
    """How far one fault of one part has come on its ladder."""

    fault: str
    serial: str
    device: str
    rungs: Sequence[Rung]
    """Empty: none was tried yet."""
    says: str
    active: bool


@dataclass(frozen=True)
class Life:
    """Everything about one node: rows as the tables have them (`db/schema`), newest first."""

    now: float
    position: int
    node: Row
    slot: Row | None
    macs: tuple[str, ...]
    holds: Sequence[Row] = ()
    conditions: Sequence[Row] = ()
    transitions: Sequence[Row] = ()
    findings: Sequence[Row] = ()
    decisions: Sequence[Row] = ()
    outcomes: Sequence[Row] = ()
    tickets: Sequence[Row] = ()
    jobs: Sequence[Row] = ()
    permits: Sequence[Row] = ()
    pauses: Sequence[Pause] = ()
    summary: str = ""
    """Where the node stands, in one sentence."""
    chain: Sequence[Link] = ()
    """Why, newest first."""
    parts: Sequence[Part] = ()
    cases: Sequence[Row] = ()
    """RMA cases."""
    windows: Sequence[Window] = ()
    """Maintenance that is not over, soonest first."""
    ladder: Sequence[Climb] = ()

    @property
    def active(self) -> list[Row]:
        """Findings that stand, worst first."""
        worst = {"fatal": 0, "error": 1, "warning": 2}
        found = [row for row in self.findings if row["cleared_at"] is None]
        return sorted(found, key=lambda row: (worst.get(row["severity"], 3), -row["last_at"]))

    @property
    def probation(self) -> Row | None:
        of_type = (row for row in self.conditions if row["type"] == Condition.PROBATION and row["until"] is None)
        return next(of_type, None)

    @property
    def power_lock(self) -> Row | None:
        """The condition behind `power_locked`, which says since when and why."""
        of_type = (row for row in self.conditions if row["type"] == Condition.POWER_LOCKED and row["until"] is None)
        return next(of_type, None)

    @property
    def state(self) -> State:
        return State(self.node["state"])
