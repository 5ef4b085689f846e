"""The lifecycle table says what DESIGN section 2 says, and refuses everything else with the reason."""

from __future__ import annotations

import itertools

import pytest

from ostler.core.errors import Refused
from ostler.nodes import lifecycle
from ostler.nodes.model import Capability, Facts, State

S = State

LEAVES_TO = {
    S.DISCOVERED: {S.ONBOARD, S.TRIAGE, S.RETIRED},
    S.ONBOARD: {S.SEATRIAL, S.TRIAGE, S.RETIRED},
    S.SEATRIAL: {S.ZAP, S.TRIAGE},
    S.ZAP: {S.TEST, S.ZAP_FAIL},
    S.ZAP_FAIL: {S.ZAP, S.TRIAGE},
    S.TEST: {S.PRODUCTION, S.TRIAGE},
    S.PRODUCTION: {S.REBOOT, S.TRIAGE, S.ZAP, S.RETIRED},
    S.REBOOT: {S.PRODUCTION, S.TRIAGE},
    S.TRIAGE: {S.TEST, S.DEBUG, S.RMA, S.ONBOARD},
    S.DEBUG: {S.TEST, S.ONBOARD, S.RMA, S.RETIRED},
    S.RMA: {S.ONBOARD, S.RETIRED},
    S.RETIRED: set(),
}
"""The design's table, written down a second time on purpose."""

EVERYTHING = Facts(
    by_person=True,
    joined=True,
    certified=True,
    passed=frozenset({"seatrial", "test", "verification"}),
    firmware_current=True,
    idle=True,
    permit=True,
    granted=frozenset(Capability),
)
NOTHING = Facts()


def test_every_state_has_a_row_and_ways_out() -> None:
    assert set(lifecycle.STATES) == set(lifecycle.TRANSITIONS) == set(State)


@pytest.mark.parametrize(("start", "to"), list(itertools.product(State, State)))
def test_ways_are_those_of_the_design(start: State, to: State) -> None:
    designed = LEAVES_TO[start] | (set() if start in (S.PRODUCTION, S.RETIRED, S.DEBUG) else {S.DEBUG})
    if to in designed:
        lifecycle.check(start, to, EVERYTHING)
    else:
        with pytest.raises(Refused, match=f"cannot go from {start} to {to}"):
            lifecycle.check(start, to, EVERYTHING)


@pytest.mark.parametrize(
    ("start", "to", "facts", "why"),
    [
        (S.DISCOVERED, S.ONBOARD, NOTHING, "has not joined"),
        (S.ONBOARD, S.SEATRIAL, NOTHING, "nobody has certified"),
        (S.SEATRIAL, S.ZAP, NOTHING, "'seatrial' has not passed"),
        (S.ZAP, S.TEST, NOTHING, "firmware is not verified"),
        (S.TEST, S.PRODUCTION, Facts(passed=frozenset({"seatrial"})), "'test' has not passed"),
        (S.REBOOT, S.PRODUCTION, Facts(by_person=True), "'verification' has not passed"),
        (S.PRODUCTION, S.REBOOT, Facts(granted=frozenset({Capability.REBOOT})), "no permit"),
        (S.PRODUCTION, S.REBOOT, Facts(permit=True), "grants neither reboot"),
        (S.PRODUCTION, S.REBOOT, Facts(by_person=True), "no permit"),
        (S.PRODUCTION, S.REBOOT, Facts(permit=True, unmanaged=True, granted=frozenset(Capability)), "unmanaged"),
        (S.PRODUCTION, S.TRIAGE, NOTHING, "does not grant cordon"),
        (S.PRODUCTION, S.TRIAGE, Facts(granted=frozenset(Capability), unmanaged=True), "does not grant cordon"),
        (S.PRODUCTION, S.ZAP, Facts(by_person=True), "workload still runs"),
        (S.PRODUCTION, S.RETIRED, Facts(idle=True), "only a person"),
        (S.PRODUCTION, S.RETIRED, Facts(by_person=True), "workload still runs"),
        (S.SEATRIAL, S.DEBUG, NOTHING, "only a person"),
        (S.TRIAGE, S.TEST, NOTHING, "only a person"),
    ],
)
def test_guards_refuse_with_the_reason(start: State, to: State, facts: Facts, why: str) -> None:
    with pytest.raises(Refused, match=why):
        lifecycle.check(start, to, facts)


def test_hands_on_a_node_keep_ostler_from_rebooting_it() -> None:
    facts = Facts(permit=True, granted=frozenset(Capability), maintenance_by="person:mara")
    with pytest.raises(Refused, match="person:mara has hands on the node"):
        lifecycle.check(S.PRODUCTION, S.REBOOT, facts)


def test_return_to_production_always_runs_through_a_passed_check() -> None:
    ways_in = [start for start, ways in lifecycle.TRANSITIONS.items() if S.PRODUCTION in ways]
    without_checks = Facts(**{**{f: getattr(EVERYTHING, f) for f in Facts.__dataclass_fields__}, "passed": frozenset()})
    for start in ways_in:
        with pytest.raises(Refused, match="has not passed"):
            lifecycle.check(start, S.PRODUCTION, without_checks)


def test_overdue_states_lead_where_the_table_allows() -> None:
    for state, row in lifecycle.STATES.items():
        if row.overdue is not None:
            assert row.deadline is not None
            lifecycle.check(state, row.overdue, NOTHING)
    assert lifecycle.STATES[S.ZAP].deadline == 6 * 3600


def test_only_production_takes_new_work() -> None:
    assert [state for state, row in lifecycle.STATES.items() if not row.cordoned] == [S.PRODUCTION]
