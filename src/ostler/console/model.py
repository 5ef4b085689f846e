"""What the templates draw, as plain values. Made by `queries.py`; times are UTC epoch seconds of domain time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ostler.nodes.model import State
from ostler.remediation.why import Link

NEEDS_PERSON = frozenset({State.ZAP_FAIL, State.TRIAGE, State.DEBUG})
"""States that a node does not leave without somebody."""


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

    @property
    def state(self) -> State:
        return State(self.node["state"])
