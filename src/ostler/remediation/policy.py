"""What to do about a node's findings: pure, tested as a table. Called by `tasks.py` in the deciding transaction.

The worst finding decides. Incidents have taken their findings out of the case before this is asked.
"""

from __future__ import annotations

from ostler.faults.model import Action, Severity
from ostler.health.model import Confidence
from ostler.nodes.model import Capability, State, Timing
from ostler.remediation.model import Case, Complaint, Plan, RemediationSettings, Verdict

LADDER = (
    Action.NONE,
    Action.WATCH,
    Action.RESTART_SERVICE,
    Action.RESET_GPU,
    Action.DRAIN,
    Action.REBOOT,
    Action.POWER_CYCLE,
    Action.TRIAGE,
    Action.RMA,
    Action.POWER_OFF,
)
"""From mild to drastic."""

NEEDS = {
    Action.RESTART_SERVICE: Capability.GPU_RESET,
    Action.RESET_GPU: Capability.GPU_RESET,
    Action.REBOOT: Capability.REBOOT,
    Action.POWER_CYCLE: Capability.POWER,
    Action.DRAIN: Capability.CORDON,
    Action.TRIAGE: Capability.CORDON,
    Action.RMA: Capability.CORDON,
    Action.POWER_OFF: Capability.POWER,
}
"""What the pool must grant for each action."""

IN_PLACE = frozenset({Action.RESTART_SERVICE, Action.RESET_GPU, Action.REBOOT, Action.POWER_CYCLE})
"""Solved by a reboot or reset: the node stays in the cluster, cordoned, and returns through a check."""

DRASTIC_ENOUGH = {Action.RESET_GPU: (Action.REBOOT,), Action.REBOOT: (Action.POWER_CYCLE,)}
"""Stronger means to the same end, taken when the pool grants only them."""


def decide(case: Case, settings: RemediationSettings) -> Plan:
    """The plan for a node, with its reasons in the order they were found."""
    if case.state is not State.PRODUCTION:
        return Plan(Verdict.RECORD, Action.NONE, (f"the node is in {case.state}, which has a procedure of its own",))
    sure = [one for one in case.complaints if one.confidence != Confidence.LOW]
    urgent = [one for one in sure if LADDER.index(one.action) > LADDER.index(Action.WATCH)]
    if not urgent:
        return Plan(Verdict.RECORD, Action.WATCH, ("no finding asks for more than watching",))
    worst = max(urgent, key=lambda one: (LADDER.index(one.action), one.severity is Severity.FATAL, -one.first_at))
    action = worst.action
    reasons = [f"{worst.fault}{' on ' + worst.device if worst.device else ''} is {worst.severity}: {action}"]
    if action in IN_PLACE and case.repairs.get(worst.fault, 0) >= settings.repair_limit:
        action = Action.TRIAGE
        reasons.append(f"{worst.fault} came back after {case.repairs[worst.fault]} repairs in place: a person looks")
    devices = tuple(dict.fromkeys(one.device for one in urgent if one.action is Action.RESET_GPU and one.device))
    if action is Action.RESET_GPU and not devices:
        action = Action.REBOOT
        reasons.append("no GPU is named, so the node is rebooted")
    action, reasons = _granted_means(action, case, reasons)
    timing = Timing.IMMEDIATE if worst.severity is Severity.FATAL else Timing.PENDING
    reasons.append(
        "its work is lost already: immediate"
        if timing is Timing.IMMEDIATE
        else "running work may survive: pending until it ends or the deadline passes"
    )
    to = State.REBOOT if action in IN_PLACE else State.TRIAGE
    if case.unmanaged:
        reasons.append("the node is unmanaged: no automatic lifecycle action")
        return Plan(Verdict.WOULD_ACT, action, tuple(reasons), timing, to, worst)
    if NEEDS[action] not in case.granted:
        reasons.append(f"the pool does not grant {NEEDS[action]}: recorded as what Ostler would do")
        return Plan(Verdict.WOULD_ACT, action, tuple(reasons), timing, to, worst)
    return Plan(Verdict.ACT, action, tuple(reasons), timing, to, worst, devices)


def cordon_now(case: Case) -> Complaint | None:
    """The fatal finding to cordon for before causes are known: only a cordon may come before correlation."""
    if case.state is not State.PRODUCTION or case.unmanaged or Capability.CORDON not in case.granted:
        return None
    fatal = [
        one
        for one in case.complaints
        if one.severity is Severity.FATAL and one.confidence != Confidence.LOW and one.action in NEEDS
    ]
    return fatal[0] if fatal else None


def _granted_means(action: Action, case: Case, reasons: list[str]) -> tuple[Action, list[str]]:
    if NEEDS[action] in case.granted:
        return action, reasons
    for stronger in DRASTIC_ENOUGH.get(action, ()):
        if NEEDS[stronger] in case.granted:
            return stronger, [*reasons, f"{NEEDS[action]} is not granted, {stronger} is and does it too"]
    return action, reasons
