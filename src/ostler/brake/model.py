"""Limits, usage and the refusal. Used by `remediation`, `acceptance` and the faces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ostler.core.errors import Unavailable


class Held(Unavailable):
    """The brake holds this action back for now; the message says which limit, and the delay when to ask again."""

    title = "Held by the brake"


@dataclass(frozen=True)
class Rule:
    """How many nodes of one group may be disrupted: at a time, and per window. None means no such limit."""

    group: str
    """`fleet`, or a kind of domain: `rack`, `nvlink`, `fabric`, `sku`, …"""
    share: float | None = None
    """Of the group's nodes, at a time; at least one node."""
    at_once: int | None = None
    per_window: int | None = None
    window_s: float = 3600.0


DEFAULT_RULES: tuple[Rule, ...] = (
    Rule("fleet", share=0.02, per_window=10),
    Rule("rack", at_once=1),
    Rule("nvlink", at_once=1),
    Rule("fabric", share=0.02),
    Rule("sku", share=0.02),
)
"""A share AND a count: max(1, 2 %) and 10 nodes/hour per fleet, 1 per rack or NVLink domain (DESIGN, principle 7)."""


@dataclass(frozen=True)
class Live:
    """One permit that counts: who holds it, what it counts against, and since when (domain time)."""

    unit: str
    """The workload, or the node where none is known: nodes of one job count as one."""
    groups: Mapping[str, str]
    granted_at: float
    released: bool


@dataclass(frozen=True)
class Request:
    """What somebody wants to disrupt."""

    unit: str
    groups: Mapping[str, str] = field(default_factory=dict)
    """Group kind → name, e.g. `{"fleet": "fleet", "rack": "fra1/a/r3"}`; empty: serves nobody, counts for nothing."""
