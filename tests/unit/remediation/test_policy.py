"""The remediation policy as a table: case in, plan out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ostler.faults.model import Action, Severity
from ostler.nodes.model import OBSERVE_ONLY, Capability, State, Timing
from ostler.remediation import policy
from ostler.remediation.model import Case, Complaint, RemediationSettings, Verdict

SETTINGS = RemediationSettings()
ALL = frozenset(Capability)


def complaint(
    action: Action = Action.REBOOT,
    severity: Severity = Severity.FATAL,
    fault: str = "gpu-off-bus",
    confidence: str = "high",
) -> Complaint:
    return Complaint(f"finding_{fault}", fault, "0000:18:00", severity, confidence, action, 0.0)


def case(*complaints: Complaint, granted: frozenset[Capability] = ALL, **more: Any) -> Case:
    return replace(Case(State.PRODUCTION, complaints, granted), **more)


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
        (case(complaint(), repairs={"gpu-off-bus": 1}), Verdict.ACT, Action.REBOOT, Timing.IMMEDIATE, State.REBOOT),
        (case(complaint(), repairs={"gpu-off-bus": 2}), Verdict.ACT, Action.TRIAGE, Timing.IMMEDIATE, State.TRIAGE),
        (case(complaint(), repairs={"xid-48": 9}), Verdict.ACT, Action.REBOOT, Timing.IMMEDIATE, State.REBOOT),
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
    assert policy.cordon_now(case(complaint())) is not None
    assert policy.cordon_now(case(complaint(severity=Severity.ERROR))) is None
    assert policy.cordon_now(case(complaint(), granted=OBSERVE_ONLY)) is None
    assert policy.cordon_now(case(complaint(), unmanaged=True)) is None


def test_every_action_that_disrupts_needs_a_grant() -> None:
    assert set(policy.NEEDS) == set(Action) - {Action.NONE, Action.WATCH}
    assert Capability.OBSERVE not in policy.NEEDS.values()
