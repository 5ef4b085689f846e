"""Cases, plans and settings. The policy maps the one to the other; the steps of `tasks.py` carry a plan out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ostler.adapters.cluster.port import DrainMode
from ostler.faults.model import Action, Severity
from ostler.health.model import split_check
from ostler.nodes.model import Capability, State, Timing

REPAIRS = ("restart-service", "reset-gpu", "reboot", "power-cycle", "triage", "rma")
"""The actions that a ladder may have, from mild to drastic."""


class Verdict(StrEnum):
    """What becomes of a decision."""

    ACT = "act"
    WOULD_ACT = "would-act"
    """The pool does not grant it, or the rule is a dry run: recorded and reported, nothing else."""
    HELD = "held"
    """The brake, a pause or a hands-on lock holds it back for now."""
    RECORD = "record"
    """Nothing is to be done."""


@dataclass(frozen=True)
class FaultRule:
    """`[remediation.faults.NAME]`: what this site wants otherwise for one fault; empty keys keep the general rule."""

    enabled: bool = True
    """False: the fault is shown and never acted on."""
    dry_run: bool = False
    """True: what would be done is recorded and reported, and not done."""
    action: str = ""
    """One of the actions, instead of what diagnosis asks for."""
    timing: str = ""
    """`pending` or `immediate`."""
    repair_limit: int | None = None
    """In-place repairs within `repair_window_s` before triage."""
    ladder: tuple[str, ...] = ()
    """What is tried one after the other, from mild to drastic."""
    drain_mode: str = ""
    """`allow-completion` or `evict`."""
    drain_deadline_s: float | None = None

    def __post_init__(self) -> None:
        _one_of("action", self.action, tuple(Action))
        _one_of("timing", self.timing, tuple(Timing))
        _one_of("drain_mode", self.drain_mode, _MODES)
        _ladder(self.ladder)


@dataclass(frozen=True)
class PoolRule:
    """`[remediation.pools.NAME]`: how the nodes of one pool are drained; empty keys keep the general rule."""

    drain_mode: str = ""
    """`allow-completion` or `evict`."""
    drain_deadline_s: float | None = None
    partial_drain: bool = False
    """A reset of some GPUs drains only those; the node's other GPUs work on. The scheduler must know whose they are."""

    def __post_init__(self) -> None:
        _one_of("drain_mode", self.drain_mode, _MODES)


@dataclass(frozen=True)
class RemediationSettings:
    """`[remediation]` of the configuration. Spans are domain seconds."""

    settle_s: float = 30.0
    """Disruptive actions wait so long for what else is reported (DESIGN, principle 6)."""
    drain_mode: str = "allow-completion"
    """How work is asked to leave before a pending action: `allow-completion` waits for it, `evict` asks it to go."""
    drain_deadline_s: float = 24 * 3600.0
    """What has not left after so long is ended, budget or not."""
    force_wait_s: float = 120.0
    """Work that was ended by force has so long to be gone; then the action goes ahead all the same."""
    in_band_reboot: bool = True
    """A reboot that is not urgent asks the node's agent first, so that the system stops its services in order."""
    in_band_s: float = 300.0
    """A node that has not booted so long after its agent was asked is reset through its BMC."""
    boot_timeout_s: float = 1800.0
    """A rebooted node that is not heard of for so long gets the next means; a server boots in about 20 min
    (CoreWeave)."""
    ladder: tuple[str, ...] = ("reset-gpu", "reboot", "power-cycle", "triage", "rma")
    """What is tried one after the other when a fault comes back, or when a means fails."""
    repair_limit: int = 2
    """In-place repairs of one fault of one part within `repair_window_s`; then triage (gpud: 2 reboots)."""
    repair_window_s: float = 7 * 24 * 3600.0
    probation_s: float = 24 * 3600.0
    """A part that shows its fault again so soon after its return goes one rung further at once."""
    verification_checks: tuple[str, ...] = ("cpu-arith", "memory-pattern")
    """Checks that the agent runs before a node returns, `NAME` or `NAME key=value …`; all of them must pass."""
    verification_deadline_s: float = 1800.0
    leak_racks: int = 2
    """Confirmed leaks in so many racks within `leak_window_s` page as one: the cooling plant may be at fault."""
    leak_window_s: float = 3600.0
    faults: Mapping[str, FaultRule] = field(default_factory=dict)
    pools: Mapping[str, PoolRule] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.verification_checks:
            raise ValueError("verification_checks is empty: a node returns to production only through a check")
        for text in self.verification_checks:
            split_check(text)
        if self.drain_mode not in _MODES:
            raise ValueError(f"drain_mode is one of {', '.join(_MODES)}")
        if not self.ladder:
            raise ValueError("ladder is empty: a fault that comes back would be repaired for ever")
        _ladder(self.ladder)
        if self.leak_racks < 1:
            raise ValueError("leak_racks is at least 1")

    def rule(self, fault: str) -> FaultRule:
        """What is said about a fault."""
        return self.faults.get(fault, _NO_RULE)

    def pool_rule(self, pool: str) -> PoolRule:
        """What is said about a pool."""
        return self.pools.get(pool, _NO_POOL_RULE)


_MODES = (DrainMode.ALLOW_COMPLETION.value, DrainMode.EVICT.value)


def _one_of(key: str, value: str, known: Collection[str]) -> None:
    if value and value not in known:
        raise ValueError(f"{key} is one of {', '.join(known)}, not '{value[:40]}'")


def _ladder(ladder: tuple[str, ...]) -> None:
    ranks = [REPAIRS.index(one) if one in REPAIRS else -1 for one in ladder]
    if -1 in ranks or ranks != sorted(set(ranks)):
        raise ValueError(f"ladder is a part of {', '.join(REPAIRS)}, in this order")


_NO_RULE = FaultRule()
_NO_POOL_RULE = PoolRule()


@dataclass(frozen=True)
class Past:
    """What was done about one fault of one part within the window, on whatever node the part was."""

    repairs: int = 0
    """In-place repairs."""
    last: Action | None = None
    """The last of them."""
    returned_at: float | None = None
    """When the part last came back through its checks."""
    triages: int = 0
    """How often it went to a technician."""


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
    serial: str | None = None
    """Of the part, else of the node: what its past is counted by."""
    past: Past = Past()


@dataclass(frozen=True)
class Case:
    """Everything the policy may look at for one node."""

    state: State
    complaints: tuple[Complaint, ...]
    granted: frozenset[Capability]
    unmanaged: bool = False
    pool: str = "default"
    now: float = 0.0
    """Domain time; only probation depends on it."""
    hold_until: float | None = None
    """A maintenance window begins then: what can wait waits for it."""


@dataclass(frozen=True)
class Drain:
    """How the work leaves before a pending action."""

    mode: DrainMode = DrainMode.ALLOW_COMPLETION
    deadline_s: float = 24 * 3600.0
    """After so long: by force."""
    partial: bool = False
    """Only the work on the plan's devices."""


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
    drain: Drain = Drain()
    hold_until: float | None = None
    """A pending action waits for this moment."""

    @property
    def fault(self) -> str:
        """What it is about: a fault, or `ordered` by a person."""
        return "ordered" if self.complaint is None else self.complaint.fault

    @property
    def key(self) -> str:
        """What a job remembers of the plan that it prepares: another one is another decision."""
        return f"{self.action}:{self.to}"
