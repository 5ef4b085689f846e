"""What to do about a node's findings: pure, tested as a table. Called by `deciding.py` in the deciding transaction.

The worst finding decides. Incidents have taken their findings out of the case before this is asked; a confirmed leak
is in the case whatever incident explains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ostler.adapters.cluster.port import DrainMode
from ostler.faults.model import Action, Severity
from ostler.health.model import Confidence
from ostler.health.rules import LADDER
from ostler.nodes.model import Capability, State, Timing
from ostler.remediation.model import Case, Complaint, Drain, Plan, RemediationSettings, Verdict
from ostler.remediation.parts import is_address, parent_gpu

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

HOT_SWAP = {
    "bmc-psu": "power supply",
    "bmc-fan": "fan",
    "power-psu-failure": "power supply",
    "power-psu-degraded": "power supply",
    "thermal-fan": "fan",
}
"""Parts that are changed while the node serves: a ticket, and the node stays. A fatal finding is none of these."""


def decide(case: Case, settings: RemediationSettings) -> Plan:
    """The plan for a node, with its reasons in the order they were found."""
    if (leak := leak_of(case, settings)) is not None:
        return _power_off(case, leak, settings)
    if case.state is not State.PRODUCTION:
        return Plan(Verdict.RECORD, Action.NONE, (f"the node is in {case.state}, which has a procedure of its own",))
    urgent = [one for one in _heard(case, settings) if _rank(_wanted(one, settings)) > _rank(Action.WATCH)]
    if not urgent:
        return Plan(Verdict.RECORD, Action.WATCH, ("no finding asks for more than watching",))
    worst = max(urgent, key=lambda one: (_rank(_wanted(one, settings)), one.severity is Severity.FATAL, -one.first_at))
    rule = settings.rule(worst.fault)
    action = _wanted(worst, settings)
    reasons = [f"{worst.fault}{' on ' + worst.device if worst.device else ''} is {worst.severity}: {action}"]
    if action is not worst.action:
        reasons.append(f"configured for {worst.fault}, instead of {worst.action}")
    action = _climbed(action, worst, case, settings, reasons)
    devices = _devices(urgent, settings)
    if not devices and is_address(worst.device):
        devices = (parent_gpu(worst.device),)
    if action is Action.RESET_GPU and not devices:
        action = Action.REBOOT
        reasons.append("no GPU is named, so the node is rebooted")
    action = _granted_means(action, case, reasons)
    timing = Timing(rule.timing) if rule.timing else _timing(worst)
    reasons.append(
        "its work is lost already: immediate"
        if timing is Timing.IMMEDIATE
        else "running work may survive: pending until it ends or the deadline passes"
    )
    plan = Plan(
        Verdict.WOULD_ACT,
        action,
        tuple(reasons),
        timing,
        State.REBOOT if action in IN_PLACE else State.TRIAGE,
        worst,
        devices if action is Action.RESET_GPU else (),
        drain_of(case.pool, worst.fault, settings, gpus_only=action is Action.RESET_GPU),
        case.hold_until if timing is Timing.PENDING else None,
    )
    return _may(plan, case, settings)


def leak_of(case: Case, settings: RemediationSettings) -> Complaint | None:
    """The confirmed leak (or whatever else asks for the power to go) in a case: it goes before everything."""
    found = [one for one in _heard(case, settings) if _wanted(one, settings) is Action.POWER_OFF]
    return min(found, key=lambda one: one.first_at, default=None)


def cordon_now(case: Case, settings: RemediationSettings) -> Complaint | None:
    """The fatal finding to cordon for before causes are known: only a cordon may come before correlation."""
    if case.state is not State.PRODUCTION or case.unmanaged or Capability.CORDON not in case.granted:
        return None
    fatal = [
        one
        for one in _heard(case, settings)
        if one.severity is Severity.FATAL and _wanted(one, settings) in NEEDS and not settings.rule(one.fault).dry_run
    ]
    return fatal[0] if fatal else None


def hot_swaps(case: Case, settings: RemediationSettings) -> tuple[Complaint, ...]:
    """Findings that a technician settles while the node goes on serving."""
    if case.state is not State.PRODUCTION:
        return ()
    enabled = (one for one in case.complaints if settings.rule(one.fault).enabled)
    return tuple(one for one in enabled if one.confidence != Confidence.LOW and _hot(one, settings))


def drain_of(pool: str, fault: str, settings: RemediationSettings, *, gpus_only: bool) -> Drain:
    """How work leaves a node of this pool for this fault: the fault's word, else the pool's, else the general one."""
    rule, of_pool = settings.rule(fault), settings.pool_rule(pool)
    deadlines = (rule.drain_deadline_s, of_pool.drain_deadline_s, settings.drain_deadline_s)
    return Drain(
        DrainMode(rule.drain_mode or of_pool.drain_mode or settings.drain_mode),
        next(one for one in deadlines if one is not None),
        gpus_only and of_pool.partial_drain,
    )


def next_means(action: Action, granted: frozenset[Capability], fault: str, settings: RemediationSettings) -> Action:
    """What follows when a repair in place could not be done: the ladder's next granted repair in place, or triage."""
    for rung in _rungs(fault, settings):
        if rung in IN_PLACE and rung is not Action.RESET_GPU and _rank(rung) > _rank(action) and NEEDS[rung] in granted:
            return rung
    return Action.TRIAGE


def on_probation(complaint: Complaint, now: float, settings: RemediationSettings) -> bool:
    """Whether the part came back with this very fault so lately that repeating the repair would help nobody."""
    back = complaint.past.returned_at
    return back is not None and now < back + settings.probation_s


def _heard(case: Case, settings: RemediationSettings) -> list[Complaint]:
    """What is sure enough, not switched off, and nothing to be changed while the node serves."""
    sure = [one for one in case.complaints if one.confidence != Confidence.LOW and settings.rule(one.fault).enabled]
    return [one for one in sure if not _hot(one, settings)]


def _hot(one: Complaint, settings: RemediationSettings) -> bool:
    return one.fault in HOT_SWAP and one.severity is not Severity.FATAL and not settings.rule(one.fault).action


def _wanted(one: Complaint, settings: RemediationSettings) -> Action:
    configured = settings.rule(one.fault).action
    return Action(configured) if configured else one.action


def _devices(urgent: Sequence[Complaint], settings: RemediationSettings) -> tuple[str, ...]:
    """The GPUs to reset; a MIG instance is its parent."""
    asked = [parent_gpu(one.device) for one in urgent if _wanted(one, settings) is Action.RESET_GPU and one.device]
    return tuple(dict.fromkeys(asked))


def _climbed(action: Action, worst: Complaint, case: Case, settings: RemediationSettings, reasons: list[str]) -> Action:
    """The rung that the part's past asks for; never a milder one than diagnosis does."""
    past, rule = worst.past, settings.rule(worst.fault)
    whose = f" of {worst.serial}" if worst.serial else ""
    limit = settings.repair_limit if rule.repair_limit is None else rule.repair_limit
    if past.triages and _rank(action) < _rank(Action.RMA) and Action.RMA in _rungs(worst.fault, settings):
        reasons.append(f"{worst.fault}{whose} came back after a technician had it: return it to the vendor")
        return Action.RMA
    if action not in IN_PLACE:
        return action
    if past.repairs >= limit:
        reasons.append(f"{worst.fault}{whose} came back after {past.repairs} repairs in place: a person looks")
        return Action.TRIAGE
    if past.last is not None and on_probation(worst, case.now, settings):
        further = _further(max(action, past.last, key=_rank), worst.fault, case, settings)
        if further is not None:
            reasons.append(f"{worst.fault}{whose} came back on probation, after {past.last}: {further}")
            return further
    return action


def _further(action: Action, fault: str, case: Case, settings: RemediationSettings) -> Action | None:
    """The next rung that the pool grants."""
    for rung in _rungs(fault, settings):
        if _rank(rung) > _rank(action) and NEEDS[rung] in case.granted:
            return rung
    return None


def _rungs(fault: str, settings: RemediationSettings) -> tuple[Action, ...]:
    return tuple(Action(one) for one in settings.rule(fault).ladder or settings.ladder)


def _power_off(case: Case, leak: Complaint, settings: RemediationSettings) -> Plan:
    on = f" on {leak.device}" if leak.device else ""
    reasons = (f"{leak.fault}{on} is {leak.severity}: power off at once, without drain or settling",)
    plan = Plan(Verdict.WOULD_ACT, Action.POWER_OFF, reasons, Timing.IMMEDIATE, State.TRIAGE, leak)
    return _may(plan, case, settings)


def _may(plan: Plan, case: Case, settings: RemediationSettings) -> Plan:
    """A plan made to act, if pool, service and rule allow it; else with the reason why it is not."""
    if case.unmanaged:
        return _with(plan, Verdict.WOULD_ACT, "the node is unmanaged: no automatic lifecycle action")
    if NEEDS[plan.action] not in case.granted:
        why = f"the pool does not grant {NEEDS[plan.action]}: recorded as what Ostler would do"
        return _with(plan, Verdict.WOULD_ACT, why)
    if plan.complaint is not None and settings.rule(plan.complaint.fault).dry_run:
        why = f"the rule for {plan.complaint.fault} is a dry run: recorded as what Ostler would do"
        return _with(plan, Verdict.WOULD_ACT, why)
    return _with(plan, Verdict.ACT)


def _with(plan: Plan, verdict: Verdict, *why: str) -> Plan:
    return replace(plan, verdict=verdict, reasons=(*plan.reasons, *why))


def _granted_means(action: Action, case: Case, reasons: list[str]) -> Action:
    if NEEDS[action] in case.granted:
        return action
    for stronger in DRASTIC_ENOUGH.get(action, ()):
        if NEEDS[stronger] in case.granted:
            reasons.append(f"{NEEDS[action]} is not granted, {stronger} is and does it too")
            return stronger
    return action


def _timing(worst: Complaint) -> Timing:
    return Timing.IMMEDIATE if worst.severity is Severity.FATAL else Timing.PENDING


def _rank(action: Action) -> int:
    return LADDER.index(action)
