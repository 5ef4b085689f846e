"""Observations and diagnoses as values. Used by the policies here and in `remediation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ostler.faults.model import Action, Severity
from ostler.nodes.model import Condition


class Confidence(StrEnum):
    """How sure diagnosis is: `low` is shown and never acted on."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True)
class FaultRule:
    """`[health.rules.FAULT]`: what an operator wants of one fault; what is left out stays as shipped."""

    count: int = 0
    """So many reports within `window_s`, counting what the agent folded, make it a finding; 0: as shipped."""
    window_s: float = 3600.0
    """The window of `count` (domain seconds)."""
    action: str = ""
    """The action it asks for: none, watch, reset-gpu, restart-service, reboot, power-cycle, drain, triage, rma."""
    severity: str = ""
    """info, warning, error or fatal; fatal is acted on at once, the others when the workload ends."""

    def __post_init__(self) -> None:
        if self.action and self.action not in set(Action) - {Action.POWER_OFF}:
            known = ", ".join(sorted(set(Action) - {Action.POWER_OFF}))
            raise ValueError(f"action is one of {known}; power-off belongs to leaks alone")
        if self.severity and self.severity not in set(Severity):
            raise ValueError(f"severity is one of {', '.join(Severity)}")


@dataclass(frozen=True)
class HealthSettings:
    """`[health]` of the configuration. Spans are domain seconds."""

    heartbeat_s: float = 30.0
    """How often an agent says that it is alive."""
    readings_s: float = 60.0
    """How often it sends the newest measurements of its GPUs, for the comparison of peers."""
    silent_after_s: float = 120.0
    """A node not heard of for so long is silent: four heartbeats."""
    silent_share: float = 0.05
    """More of the fleet silent together, and Ostler suspects itself (DESIGN, principle 5)."""
    grace_s: float = 600.0
    """After the server's start silence proves nothing for so long (DESIGN, principle 5)."""
    window_s: float = 300.0
    """Signals this close together are diagnosed together."""
    repeat_limit: int = 5
    """Isolated application errors of one kind on one GPU, within `repeat_window_s`, that make a finding."""
    repeat_window_s: float = 3600.0
    clock_skew_s: float = 60.0
    """A clock further off than this is a finding: certificates and logs lose their sense."""
    storm_nodes: int = 3
    """So many nodes of one domain with the same fault within `window_s` are one incident, not so many faults."""
    peer_share: float = 0.5
    """More of a SKU's nodes than this with one fault: configuration; nothing is rebooted (principle 6)."""
    rollout_s: float = 24 * 3600.0
    """Peers whose faults began within so long of each other are compared: a rollout takes hours, not seconds."""
    wear_peers: int = 10
    """A fault that wear explains (memory errors, a lost GPU) is a configuration only when so many peers have it."""
    boot_grace_s: float = 120.0
    """What a monitor finds this soon after a boot may still be coming up: low confidence until it outlasts it."""
    by_product_s: float = 30.0
    """NVLink errors so close to a link failure of the partition are its by-products (NVIDIA's NVLink failure flow)."""
    link_repeats: int = 2
    """XID 74 more often than this on one link within `repeat_window_s` is hardware (NVIDIA's WORKFLOW_NVLINK_ERR)."""
    rules: Mapping[str, FaultRule] = field(default_factory=dict)
    """`[health.rules.FAULT]`, e.g. `[health.rules.xid-13]`: an operator's own count, window, action and severity."""

    def __post_init__(self) -> None:
        if not 0.1 <= self.heartbeat_s < self.silent_after_s:
            raise ValueError("heartbeat_s is at least 0.1 s, and less than silent_after_s")
        if self.storm_nodes < 2:
            raise ValueError("storm_nodes is at least 2: one node is no storm")

    @property
    def lookback_s(self) -> float:
        """How far back a node's signals are read."""
        return max([self.window_s, self.repeat_window_s, *(rule.window_s for rule in self.rules.values())])


@dataclass(frozen=True)
class Observed:
    """One signal as diagnosis sees it. `received_at` (domain time) orders nodes among each other, `seq` within one."""

    seq: int
    kind: str
    code: str
    device: str
    component: str
    severity: Severity
    action: Action
    message: str
    received_at: float
    workflow: str = ""
    recovery: str = ""
    repeats: int = 0
    """Further equal lines that the agent folded into this one."""
    source: str = "kernel"
    monitor: str = ""
    """The monitor that says it; empty for a line that was said once."""
    over: bool = False
    """The monitor says that the fault has ended."""
    standing: tuple[str, ...] | None = None
    """A monitor's census: everything that stands now, as `FAULT@DEVICE`; what it does not name is over."""
    link: str = ""
    """The NVLink that the line names."""
    decoded: str = ""
    """How the line's registers were decoded: the class of an XID 74."""


@dataclass(frozen=True)
class Diagnosis:
    """What a node's recent signals amount to, for one fault on one device."""

    fault: str
    component: str
    device: str
    severity: Severity
    confidence: Confidence
    action: Action
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """`rule` and `source` (which rule says so, after whom), `why`, `signals`, `count`, `last`, `witnesses` (who else
    told the same fault), `explains` (FAULT@DEVICE of what it explains)."""
    renews: bool = True
    """False: nothing new was said of the fault itself, it only explains more than before."""


@dataclass(frozen=True)
class Standing:
    """An active finding of the node, as diagnosis sees it: what is already known can explain what is said now."""

    fault: str
    component: str
    device: str
    severity: Severity
    confidence: Confidence
    action: Action
    message: str
    last_at: float
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Struck:
    """One node with one active fault, as correlation sees it. `domains` as in its slot, plus `sku` and `driver`."""

    node_id: str
    finding_id: str
    fault: str
    component: str
    at: float
    domains: Mapping[str, str] = field(default_factory=dict)
    last_at: float | None = None
    """When it was last said; None: when it was first."""
    action: Action = Action.WATCH
    severity: Severity = Severity.ERROR


@dataclass(frozen=True)
class Cause:
    """One cause behind many findings. None of these is acted on; with a `root`, that finding alone is."""

    cause: str
    scope: str
    subject: str
    summary: str
    finding_ids: tuple[str, ...]
    fault: str = ""
    """The fault that all of them report; empty where it does not matter."""
    family: tuple[str, ...] = ()
    """Faults that it explains beside `fault`: whoever reports one of them later belongs to it too."""
    root: str = ""
    """The finding that is to blame, which is none of `finding_ids`."""


@dataclass(frozen=True)
class OpenCause:
    """An incident that is still open, as correlation sees it."""

    incident_id: str
    cause: str
    scope: str
    subject: str
    fault: str
    family: tuple[str, ...] = ()
    opened_at: float = 0.0
    root: str = ""
    """The finding that it blames; never one of its own."""


def condition_of(component: str) -> Condition:
    """Which condition a finding on this component makes true."""
    if component in ("gpu", "nvswitch"):
        return Condition.GPU_UNHEALTHY
    if component in ("nic", "fabric"):
        return Condition.LINK_UNHEALTHY
    return Condition.HARDWARE_UNHEALTHY


def split_check(text: str) -> tuple[str, dict[str, str]]:
    """`memory-pattern mib=512` as the check's name and its arguments. Raises `ValueError`."""
    name, *rest = text.split() or [""]
    pairs = [part.partition("=") for part in rest]
    if not name or "=" in name or not all(key and equals for key, equals, _ in pairs):
        raise ValueError(f"'{text[:80]}' is no check: write NAME or NAME key=value …")
    return name, {key: value for key, _, value in pairs}
