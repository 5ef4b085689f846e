"""Windows, cases and parts as values. Used by this feature's services and faces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ostler.core.clock import iso_or_none


class Kind(StrEnum):
    """What a maintenance is for. `retirement` has no end: its nodes do not come back."""

    PLANNED = "planned"
    IMMEDIATE = "immediate"
    RETIREMENT = "retirement"


class Phase(StrEnum):
    """How far a maintenance is."""

    ANNOUNCED = "announced"
    """Known to everybody; nothing is done yet."""
    DRAINING = "draining"
    """Begun: its nodes take no new work, and what runs leaves."""
    RUNNING = "running"
    """Every node is out of service, in people's hands."""
    DONE = "done"
    CANCELLED = "cancelled"


OPEN = (Phase.ANNOUNCED, Phase.DRAINING, Phase.RUNNING)


class CaseState(StrEnum):
    """Where a part is on its way to the vendor and back."""

    OPEN = "open"
    SHIPPED = "shipped"
    REPLACED = "replaced"
    REFUSED = "refused"


@dataclass(frozen=True)
class BreakfixSettings:
    """`[breakfix]` of the configuration. Spans are domain seconds."""

    drain_s: float = 3600.0
    """Work has so long to leave once a planned maintenance has begun."""
    replace_after: int = 3
    """So many repairs of one part within `replace_window_s` entitle to a replacement without a person's judgement."""
    replace_window_s: float = 30 * 24 * 3600.0
    wait_s: float = 12 * 3600.0
    """A pending repair waits for planned maintenance that begins so soon: one interruption instead of two."""
    excerpt: int = 500
    """Lines of log in a vendor's bundle."""


@dataclass(frozen=True)
class Part:
    """One replaceable part of a node. Empty where nobody says."""

    kind: str
    """chassis, baseboard, cpu, gpu, nic, disk, psu, firmware: what spare parts are counted by."""
    name: str
    """The name by which its own reporter knows it: PCI address, interface, Redfish id."""
    model: str = ""
    serial: str = ""
    firmware: str = ""
    source: str = "agent"
    """agent or bmc: who says so."""


@dataclass(frozen=True)
class Window:
    """One maintenance."""

    id: str
    scope: str
    kind: Kind
    phase: Phase
    summary: str
    actor: str
    starts_at: float
    ends_at: float | None
    started_at: float | None
    finished_at: float | None
    nodes: Mapping[str, str] = field(default_factory=dict)
    """Node id → how far it is: `waiting`, `draining`, `out`, `out before`, `returned`, or why it cannot go on."""

    def view(self) -> dict[str, Any]:
        """As every face shows it."""
        return {
            "id": self.id,
            "scope": self.scope,
            "kind": self.kind,
            "state": self.phase,
            "summary": self.summary,
            "actor": self.actor,
            "starts_at": iso_or_none(self.starts_at),
            "ends_at": iso_or_none(self.ends_at),
            "started_at": iso_or_none(self.started_at),
            "finished_at": iso_or_none(self.finished_at),
            "nodes": dict(self.nodes),
        }
