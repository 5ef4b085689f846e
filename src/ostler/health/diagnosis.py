"""From one node's recent signals to diagnoses: pure, so that tests, replays and people can run it. For `intake.py`.

The rules, in their order:
1. What XID 154 says about a GPU outranks the static table for every fault of that GPU in the window.
2. Root before symptom: 43 and 45 beside a worse fault of the node are its echo, not faults of their own.
3. A solo 45 is the fabric manager's: restart it (NVIDIA's WORKFLOW_XID_45).
4. XID 79 and "fallen off the bus" are one fault told twice.
5. An isolated application error is only recorded; repeats on one GPU are a finding to look at, never a reboot.
6. A link that came up again ends what its going down said.

Source of 1–3: NVIDIA's XID catalogue (immediate-action column and workflows).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ostler.faults.model import Action, Severity
from ostler.health.model import Confidence, Diagnosis, HealthSettings, Observed

ECHOES = frozenset({"xid-43", "xid-45"})
RECOVERY_XID = "xid-154"
GPU_LOST = "gpu-off-bus"

RECOVERY_ACTIONS = {
    "none": Action.WATCH,
    "gpu-reset": Action.RESET_GPU,
    "node-reboot": Action.REBOOT,
    "drain-p2p": Action.DRAIN,
    "drain-and-reset": Action.RESET_GPU,
}
"""XID 154's text → action (NVIDIA: "GPU recovery action changed from … to …")."""

ENDS = {"ib-link-up": "ib-link-down"}
"""A fault's end → the fault."""

_RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2, Severity.FATAL: 3}


def fault_of(signal: Observed) -> str:
    """The fault's name: `xid-79` and the driver's own words for it are both `gpu-off-bus`."""
    return fault_name(signal.kind, signal.code, signal.device)[0]


def device_of(signal: Observed) -> str:
    """The device in one spelling: lower case, without the driver's `PCI:` and the function `.0`."""
    return fault_name(signal.kind, signal.code, signal.device)[1]


def fault_name(kind: str, code: str, device: str) -> tuple[str, str]:
    """(fault, device) as findings have them."""
    name = f"{kind}-{code}" if code else str(kind)
    name = GPU_LOST if name in ("xid-79", "gpu-off-bus", "gpu-off-bus-79") else name
    return name, device.lower().removeprefix("pci:").removesuffix(".0")


def diagnose(signals: Sequence[Observed], settings: HealthSettings) -> list[Diagnosis]:
    """What these signals of one node amount to now; worst first. All of them lie within the windows of `settings`."""
    if not signals:
        return []
    newest = max(signal.received_at for signal in signals)
    recent = [one for one in signals if one.received_at >= newest - settings.window_s and one.standing is None]
    groups: dict[tuple[str, str], list[Observed]] = defaultdict(list)
    for signal in recent:
        groups[fault_of(signal), device_of(signal)].append(signal)
    for over in ended(recent):
        groups.pop(over, None)
    recovery = _recovery(recent)
    roots = [key for key, group in groups.items() if key[0] not in ECHOES and _is_fault(group)]
    found: list[Diagnosis] = []
    for (fault, device), group in groups.items():
        if fault == RECOVERY_XID:
            if device in recovery and not any(root[1] == device and root[0] != RECOVERY_XID for root in roots):
                found.append(_diagnosis(fault, device, group, recovery[device], "what XID 154 asks for"))
        elif fault in ECHOES:
            if not roots and fault == "xid-45":
                found.append(_diagnosis(fault, device, group, Action.RESTART_SERVICE, "a solo 45", Severity.ERROR))
        elif _is_fault(group):
            action, why = group[-1].action, "the catalogue's action"
            if device in recovery:
                action, why = recovery[device], "XID 154 outranks the catalogue"
            found.append(_diagnosis(fault, device, group, action, why))
    found += _repeats(signals, settings)
    return sorted(found, key=lambda one: (-_RANK[one.severity], one.fault, one.device))


def ended(signals: Iterable[Observed]) -> set[tuple[str, str]]:
    """(fault, device) pairs that the newest word about them says are over."""
    over: set[tuple[str, str]] = set()
    for signal in signals:
        fault, device = fault_of(signal), device_of(signal)
        if signal.over:
            over.add((fault, device))
            continue
        over.discard((fault, device))
        if fault in ENDS:
            over.add((ENDS[fault], device))
    return over


def census(signals: Iterable[Observed]) -> dict[str, frozenset[str]]:
    """Monitor → what stands according to its last census, as `fault@device`; a monitor that said none is absent."""
    said: dict[str, frozenset[str]] = {}
    for signal in signals:
        if signal.standing is not None:
            said[signal.monitor] = frozenset(one.lower() for one in signal.standing)
        elif signal.monitor in said:  # said after its census: known to stand, or to be over
            name = f"{fault_of(signal)}@{device_of(signal)}"
            said[signal.monitor] = said[signal.monitor] - {name} if signal.over else said[signal.monitor] | {name}
    return said


def echoes(diagnoses: Iterable[Diagnosis]) -> str | None:
    """The fault that explains 43 and 45 on the same node, if there is one."""
    roots = [one.fault for one in diagnoses if one.fault not in ECHOES and _RANK[one.severity] >= _RANK[Severity.ERROR]]
    return roots[0] if roots else None


def _is_fault(group: Sequence[Observed]) -> bool:
    return any(signal.action is not Action.NONE and not signal.over for signal in group)


def _recovery(signals: Sequence[Observed]) -> dict[str, Action]:
    """Device → what the newest XID 154 about it asks for; texts we do not know say nothing."""
    said: dict[str, Action] = {}
    for signal in signals:
        if fault_of(signal) == RECOVERY_XID and signal.recovery in RECOVERY_ACTIONS:
            said[device_of(signal)] = RECOVERY_ACTIONS[signal.recovery]
    return said


def _repeats(signals: Sequence[Observed], settings: HealthSettings) -> list[Diagnosis]:
    newest = max(signal.received_at for signal in signals)
    counted: dict[tuple[str, str], list[Observed]] = defaultdict(list)
    for signal in signals:
        recorded_only = signal.kind == "xid" and signal.action is Action.NONE and fault_of(signal) not in ECHOES
        if recorded_only and signal.received_at >= newest - settings.repeat_window_s:
            counted[fault_of(signal), device_of(signal)].append(signal)
    return [
        _diagnosis(fault, device, group, Action.WATCH, f"{_times(group)} within the hour", Severity.WARNING)
        for (fault, device), group in counted.items()
        if _times(group) >= settings.repeat_limit
    ]


def _times(group: Sequence[Observed]) -> int:
    """How often it was said, counting what the agent folded."""
    return sum(1 + signal.repeats for signal in group)


def _diagnosis(
    fault: str,
    device: str,
    group: Sequence[Observed],
    action: Action,
    why: str,
    severity: Severity | None = None,
) -> Diagnosis:
    worst = max((signal.severity for signal in group), key=lambda one: _RANK[one])
    last = group[-1]
    evidence = {
        "why": why,
        "signals": [signal.seq for signal in group][-20:],
        "count": _times(group),
        "last": last.message,
    }
    if last.workflow:
        evidence["workflow"] = last.workflow
    if last.monitor:
        evidence["monitor"] = last.monitor
    return Diagnosis(fault, last.component, device, severity or worst, Confidence.HIGH, action, last.message, evidence)
