"""The remediation policy as a table: case in, plan out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ostler.adapters.cluster.port import DrainMode
from ostler.faults.model import Action, Severity
from ostler.nodes.model import OBSERVE_ONLY, Capability, State, Timing
from ostler.remediation import policy
from ostler.remediation.model import (
    Case,
    Complaint,
    Drain,
    FaultRule,
    Past,
    PoolRule,
    RemediationSettings,
    Verdict,
)

SETTINGS = RemediationSettings()
ALL = frozenset(Capability)


NOW = 1_000_000.0


def complaint(
    action: Action = Action.REBOOT,
    severity: Severity = Severity.FATAL,
    fault: str = "gpu-off-bus",
    confidence: str = "high",
    device: str = "0000:18:00",
    past: Past = Past(),
) -> Complaint:
    return Complaint(f"finding_{fault}", fault, device, severity, confidence, action, 0.0, serial="GPU-SN-1", past=past)


def case(*complaints: Complaint, granted: frozenset[Capability] = ALL, **more: Any) -> Case:
    return replace(Case(State.PRODUCTION, complaints, granted, now=NOW), **more)


def been(repairs: int, last: Action, *, ago: float | None, triages: int = 0) -> Past:
    return Past(repairs, last, None if ago is None else NOW - ago, triages)


@pytest.mark.parametrize(
    ("given", "verdict", "action", "timing", "to"),
    [
        (case(), Verdict.RECORD, Action.WATCH, None, None),
        (case(complaint(Action.WATCH)), Verdict.RECORD, Action.WATCH, None, None),
        (case(complaint(confidence="low")), Verdict.RECORD, Action.WATCH, None, None),
        (case(complaint(), state=State.ZAP), Verdict.RECORD, Action.NONE, None, None),
        (case(complaint()), Verdict.ACT, Action.REBOOT, Timing.IMMEDIATE, State.REBOOT),
        (case(complaint(severity=Severity.ERROR)), Verdict.ACT, Action.REBOOT, Timing.PENDING, State.REBOOT),
        (case(complaint(Action.RESET_GPU)), Verdict.ACT, Action.RESET_GPU, Timing.IMMEDIATE, State.REBOOT),
        (case(complaint(Action.TRIAGE)), Verdict.ACT, Action.TRIAGE, Timing.IMMEDIATE, State.TRIAGE),
        (case(complaint(Action.RMA)), Verdict.ACT, Action.RMA, Timing.IMMEDIATE, State.TRIAGE),
        (case(complaint(), granted=OBSERVE_ONLY), Verdict.WOULD_ACT, Action.REBOOT, Timing.IMMEDIATE, State.REBOOT),
        (case(complaint(), unmanaged=True), Verdict.WOULD_ACT, Action.REBOOT, Timing.IMMEDIATE, State.REBOOT),
        (
            case(complaint(Action.RESET_GPU), granted=OBSERVE_ONLY | {Capability.REBOOT}),
            Verdict.ACT,
            Action.REBOOT,
            Timing.IMMEDIATE,
            State.REBOOT,
        ),
        (
            case(complaint(Action.RESET_GPU, fault="xid-48"), complaint(Action.TRIAGE, fault="nvme")),
            Verdict.ACT,
            Action.TRIAGE,
            Timing.IMMEDIATE,
            State.TRIAGE,
        ),
    ],
)
def test_decisions(given: Case, verdict: Verdict, action: Action, timing: Timing | None, to: State | None) -> None:
    plan = policy.decide(given, SETTINGS)
    assert (plan.verdict, plan.action, plan.timing, plan.to) == (verdict, action, timing, to)
    assert plan.reasons, "a decision explains itself"


def test_only_a_cordon_comes_before_correlation() -> None:
    assert policy.cordon_now(case(complaint()), SETTINGS) is not None
    assert policy.cordon_now(case(complaint(severity=Severity.ERROR)), SETTINGS) is None
    assert policy.cordon_now(case(complaint(), granted=OBSERVE_ONLY), SETTINGS) is None
    assert policy.cordon_now(case(complaint(), unmanaged=True), SETTINGS) is None
    dry = replace(SETTINGS, faults={"gpu-off-bus": FaultRule(dry_run=True)})
    assert policy.cordon_now(case(complaint()), dry) is None


def test_every_action_that_disrupts_needs_a_grant() -> None:
    assert set(policy.NEEDS) == set(Action) - {Action.NONE, Action.WATCH}
    assert Capability.OBSERVE not in policy.NEEDS.values()


DAY = 86_400.0


@pytest.mark.parametrize(
    ("action", "past", "becomes"),
    [
        # on probation: one rung further than what was tried last, at once
        (Action.RESET_GPU, been(1, Action.RESET_GPU, ago=DAY - 1), Action.REBOOT),
        (Action.REBOOT, been(1, Action.REBOOT, ago=DAY - 1), Action.POWER_CYCLE),
        (Action.RESET_GPU, been(1, Action.REBOOT, ago=60), Action.POWER_CYCLE),
        (Action.RESTART_SERVICE, been(1, Action.RESTART_SERVICE, ago=60), Action.RESET_GPU),
        # near misses: probation is over, or it never came back, or nothing was tried
        (Action.RESET_GPU, been(1, Action.RESET_GPU, ago=DAY), Action.RESET_GPU),
        (Action.RESET_GPU, been(1, Action.RESET_GPU, ago=None), Action.RESET_GPU),
        (Action.RESET_GPU, Past(), Action.RESET_GPU),
        # the limit of repairs in place
        (Action.REBOOT, been(2, Action.REBOOT, ago=2 * DAY), Action.TRIAGE),
        (Action.REBOOT, been(1, Action.REBOOT, ago=2 * DAY), Action.REBOOT),
        # a technician had it already: the vendor's turn
        (Action.RESET_GPU, been(0, Action.RESET_GPU, ago=None, triages=1), Action.RMA),
        (Action.TRIAGE, been(0, Action.RESET_GPU, ago=None, triages=1), Action.RMA),
        (Action.TRIAGE, been(9, Action.RESET_GPU, ago=60), Action.TRIAGE),
    ],
)
def test_a_part_that_fails_again_climbs_the_ladder(action: Action, past: Past, becomes: Action) -> None:
    plan = policy.decide(case(complaint(action, Severity.ERROR, past=past)), SETTINGS)
    assert plan.action is becomes
    assert (becomes is action) or "GPU-SN-1" in " ".join(plan.reasons), "it names the part"


def test_a_rung_that_is_not_granted_is_passed_over() -> None:
    no_power = ALL - {Capability.POWER}
    again = complaint(Action.REBOOT, past=been(1, Action.REBOOT, ago=60))
    assert policy.decide(case(again, granted=no_power), SETTINGS).action is Action.TRIAGE
    assert policy.next_means(Action.REBOOT, no_power, "x", SETTINGS) is Action.TRIAGE
    assert policy.next_means(Action.REBOOT, ALL, "x", SETTINGS) is Action.POWER_CYCLE
    assert policy.next_means(Action.RESTART_SERVICE, ALL, "x", SETTINGS) is Action.REBOOT, "not a reset of no GPU"
    assert policy.next_means(Action.POWER_CYCLE, ALL, "x", SETTINGS) is Action.TRIAGE


def test_a_ladder_of_its_own_and_a_limit_of_its_own() -> None:
    short = FaultRule(ladder=("reset-gpu", "triage"), repair_limit=3)
    settings = replace(SETTINGS, faults={"xid-48": short})
    again = complaint(Action.RESET_GPU, fault="xid-48", past=been(1, Action.RESET_GPU, ago=60))
    assert policy.decide(case(again), settings).action is Action.TRIAGE
    old = complaint(Action.RESET_GPU, fault="xid-48", past=been(2, Action.RESET_GPU, ago=3 * DAY))
    assert policy.decide(case(old), settings).action is Action.RESET_GPU
    back = complaint(Action.RESET_GPU, fault="xid-48", past=been(0, Action.RESET_GPU, ago=None, triages=1))
    assert policy.decide(case(back), settings).action is Action.RESET_GPU, "this ladder has no RMA"


def test_what_a_site_wants_otherwise_for_one_fault() -> None:
    def plan(rule: FaultRule, fault: str = "gpu-off-bus") -> tuple[Verdict, Action, Timing | None]:
        found = policy.decide(case(complaint()), replace(SETTINGS, faults={fault: rule}))
        return found.verdict, found.action, found.timing

    assert plan(FaultRule(dry_run=True)) == (Verdict.WOULD_ACT, Action.REBOOT, Timing.IMMEDIATE)
    assert plan(FaultRule(enabled=False)) == (Verdict.RECORD, Action.WATCH, None)
    assert plan(FaultRule(action="triage")) == (Verdict.ACT, Action.TRIAGE, Timing.IMMEDIATE)
    assert plan(FaultRule(timing="pending")) == (Verdict.ACT, Action.REBOOT, Timing.PENDING)
    assert plan(FaultRule(dry_run=True), "xid-48") == (Verdict.ACT, Action.REBOOT, Timing.IMMEDIATE), "another fault's"


def test_the_drain_is_the_faults_word_then_the_pools_then_the_general_one() -> None:
    settings = replace(
        SETTINGS,
        pools={"h100": PoolRule(drain_mode="evict", drain_deadline_s=60.0, partial_drain=True)},
        faults={"xid-48": FaultRule(drain_mode="allow-completion"), "xid-94": FaultRule(drain_deadline_s=5.0)},
    )

    def drain(pool: str, fault: str, action: Action = Action.RESET_GPU) -> Drain:
        return policy.decide(case(complaint(action, Severity.ERROR, fault), pool=pool), settings).drain

    assert drain("default", "xid-1") == Drain(DrainMode.ALLOW_COMPLETION, DAY, False)
    assert drain("h100", "xid-1") == Drain(DrainMode.EVICT, 60.0, True)
    assert drain("h100", "xid-48") == Drain(DrainMode.ALLOW_COMPLETION, 60.0, True)
    assert drain("h100", "xid-94") == Drain(DrainMode.EVICT, 5.0, True)
    assert not drain("h100", "xid-1", Action.REBOOT).partial, "a reboot takes all GPUs"


def test_a_mig_instance_is_reset_with_its_parent() -> None:
    found = policy.decide(case(complaint(Action.RESET_GPU, device="0000:18:00.0/gi3/ci0")), SETTINGS)
    assert (found.action, found.devices) == (Action.RESET_GPU, ("0000:18:00",))


LEAK = complaint(Action.POWER_OFF, fault="bmc-leak", device="leak0")


@pytest.mark.parametrize("state", sorted(State))
def test_a_confirmed_leak_goes_before_everything_in_every_state(state: State) -> None:
    plan = policy.decide(case(complaint(Action.RMA), LEAK, state=state), SETTINGS)
    assert (plan.verdict, plan.action, plan.timing) == (Verdict.ACT, Action.POWER_OFF, Timing.IMMEDIATE)


@pytest.mark.parametrize(
    "given",
    [
        case(complaint(Action.WATCH, Severity.WARNING, "bmc-leak-suspected", device="leak0")),
        case(replace(LEAK, confidence="low")),
    ],
)
def test_a_leak_that_is_not_sure_powers_nothing(given: Case) -> None:
    assert policy.decide(given, SETTINGS).verdict is Verdict.RECORD


def test_a_leak_where_power_is_not_granted_is_said_and_not_done() -> None:
    assert policy.decide(case(LEAK, granted=ALL - {Capability.POWER}), SETTINGS).verdict is Verdict.WOULD_ACT
    assert policy.decide(case(LEAK, unmanaged=True), SETTINGS).verdict is Verdict.WOULD_ACT


def test_a_part_that_is_changed_while_the_node_serves_takes_it_nowhere() -> None:
    fan = complaint(Action.TRIAGE, Severity.ERROR, "bmc-fan", device="FAN_3")
    psu = complaint(Action.WATCH, Severity.WARNING, "bmc-psu", device="PSU_1")
    assert policy.decide(case(fan, psu), SETTINGS).verdict is Verdict.RECORD
    assert policy.hot_swaps(case(fan, psu), SETTINGS) == (fan, psu)
    # near misses: what burns, what a site wants otherwise, what is no such part, a node that serves nobody
    fatal = replace(fan, severity=Severity.FATAL)
    assert (
        policy.decide(case(fatal), SETTINGS).action is Action.TRIAGE and policy.hot_swaps(case(fatal), SETTINGS) == ()
    )
    own = replace(SETTINGS, faults={"bmc-fan": FaultRule(action="triage")})
    assert policy.decide(case(fan), own).action is Action.TRIAGE and policy.hot_swaps(case(fan), own) == ()
    assert policy.hot_swaps(case(complaint(Action.TRIAGE, Severity.ERROR, "bmc-hot")), SETTINGS) == ()
    assert policy.hot_swaps(case(fan, state=State.TRIAGE), SETTINGS) == ()


def test_only_what_can_wait_waits_for_a_window() -> None:
    pending = complaint(severity=Severity.ERROR)
    assert policy.decide(case(pending, hold_until=NOW + 60), SETTINGS).hold_until == NOW + 60
    assert policy.decide(case(complaint(), hold_until=NOW + 60), SETTINGS).hold_until is None
