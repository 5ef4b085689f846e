"""The words of technicians' work: what a ticket is about, where hands go, how it is proved. All plain values.

`Work` is what a feature hands to `service.report`; the rest is what it is made of. Used by `fabric` and by every face.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Subject(StrEnum):
    """What kind of thing a ticket is about."""

    NODE = "node"
    CABLE = "cable"
    """Plugs, cables and their modules."""
    SWITCH = "switch"


class Proof(StrEnum):
    """What closes a ticket."""

    PERSON = "person"
    """A technician's word."""
    FABRIC = "fabric"
    """A covered, clean snapshot, whatever a technician says."""


class TicketState(StrEnum):
    """Where a ticket is."""

    OPEN = "open"
    CLAIMED = "claimed"
    """Somebody has hands on it."""
    VERIFYING = "verifying"
    """A technician says that it is done; the proof has not come."""
    DONE = "done"


class Stage(StrEnum):
    """What is to be suspected of a link that comes back bad, one after the other."""

    CABLE = "cable"
    MODULE = "module"
    HCA = "hca"
    """The HCA, or the switch's port."""


@dataclass(frozen=True, slots=True)
class Plug:
    """One end of a cable: where a hand goes. What is empty is not known."""

    chassis: str
    port: str = ""
    """As the design names it: `mlx5_0`, `35`."""
    place: str = ""
    """Rack and unit in the words on the rack: `R03 U17`."""
    label: str = ""
    """What stands on the front panel, where that is another word: `18/1`."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do with the hands."""

    do: str
    """One line: `Move the plug.`, `Reseat the cable.`"""
    at: Plug | None = None
    """Where the hand goes first."""
    to: Plug | None = None
    """Where the plug goes, if it moves."""
    stays: Plug | None = None
    """The cable's other end, which is left alone."""
    cable_serial: str = ""


@dataclass(frozen=True, slots=True)
class Harms:
    """Who is worse off until it is done."""

    nodes: tuple[str, ...] = ()
    """Names."""
    workload: str = ""
    """What runs there, in words; empty: nothing that is known of."""


@dataclass(frozen=True, slots=True)
class Safety:
    """Whether hands may go there now."""

    safe: bool | None = None
    """None: nobody can tell."""
    why: str = ""
    """One line: state of the ports, workload, maintenance."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """One physical cause as a run sees it: what `service.report` opens a ticket for, or finds the ticket of."""

    key: str
    """Stable over runs, and of one fabric only; at most one unfinished ticket has it."""
    subject: Subject
    cause: str
    """What is wrong, in one sentence."""
    instruction: str
    """What to do, in one line."""
    place: str = ""
    """`site/row/rack/U`, as much of it as is known."""
    node_ids: tuple[str, ...] = ()
    """Nodes that hands would be on: a claim locks them all. They exist."""
    steps: tuple[Step, ...] = ()
    harms: Harms = Harms()
    safe: Safety = Safety()
    fabric: str = ""
    """Whose ports `ports` are."""
    ports: tuple[tuple[str, str], ...] = ()
    """(chassis, port) of every plug concerned; `fabric.model.Port` is one."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    proof: Proof = Proof.FABRIC
    escalates: bool = True
    """Whether a part may be to blame, so that the next one is suspected when it comes back. A misplaced plug: no."""
    seen_at: float | None = None
    """When it was seen (domain time), the same for all that one run saw; None: now."""
    incident_id: str | None = None
