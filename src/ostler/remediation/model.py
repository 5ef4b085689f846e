"""Cases, plans and settings. The policy maps the one to the other; `tasks.py` carries a plan out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ostler.faults.model import Action, Severity
from ostler.health.model import split_check
from ostler.nodes.model import Capability, State, Timing


class Verdict(StrEnum):
    """What becomes of a decision."""

    ACT = "act"
    WOULD_ACT = "would-act"
    """The pool does not grant it: recorded and reported, nothing else."""
    HELD = "held"
    """The brake, a pause or a hands-on lock holds it back for now."""
    RECORD = "record"
    """Nothing is to be done."""


@dataclass(frozen=True)
class RemediationSettings:
    """`[remediation]` of the configuration. Spans are domain seconds."""

    settle_s: float = 30.0
    """Disruptive actions wait so long for what else is reported (DESIGN, principle 6)."""
    pending_deadline_s: float = 24 * 3600.0
    """A pending transition waits so long for the workload to end."""
    boot_timeout_s: float = 1800.0
    """A rebooted node that is not heard of for so long goes to triage; a server boots in about 20 min (CoreWeave)."""
    repair_limit: int = 2
    """In-place repairs of one fault within `repair_window_s`; the next time it goes to triage (gpud: 2 reboots)."""
    repair_window_s: float = 7 * 24 * 3600.0
    verification_checks: tuple[str, ...] = ("cpu-arith", "memory-pattern")
    """Checks that the agent runs before a node returns, `NAME` or `NAME key=value …`; all of them must pass."""
    verification_deadline_s: float = 1800.0

    def __post_init__(self) -> None:
        if not self.verification_checks:
            raise ValueError("verification_checks is empty: a node returns to production only through a check")
        for text in self.verification_checks:
            split_check(text)


@dataclass(frozen=True)
class Complaint:
    """One active finding, as far as deciding goes."""

    finding_id: str
    fault: str
    device: str
    severity: Severity
    confidence: str
    action: Action
    first_at: float
    incident_id: str | None = None


@dataclass(frozen=True)
class Case:
    """Everything the policy may look at for one node."""

    state: State
    complaints: tuple[Complaint, ...]
    granted: frozenset[Capability]
    unmanaged: bool = False
    repairs: Mapping[str, int] = field(default_factory=dict)
    """Fault → in-place repairs of this node within the window."""


@dataclass(frozen=True)
class Plan:
    """What is to be done about a case, and why."""

    verdict: Verdict
    action: Action
    reasons: tuple[str, ...]
    timing: Timing | None = None
    to: State | None = None
    complaint: Complaint | None = None
    """The finding that decided."""
    devices: tuple[str, ...] = ()
    """PCI addresses of the GPUs that a reset is asked for."""
