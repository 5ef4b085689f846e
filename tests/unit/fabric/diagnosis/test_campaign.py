"""A few hundred random fabrics; `make proof` runs thousands through the same function."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.fabric.diagnosis.components import Component, components
from ostler.fabric.model import Cause, DesignedCable, Port
from tests.unit.fabric.diagnosis.campaign import campaign, carry_out
from tests.unit.fabric.diagnosis.worlds import World

CASES = int(os.environ.get("OSTLER_FABRIC_CASES", "200"))


def test_random_fabrics_are_restored_and_never_slandered() -> None:
    tried = campaign(CASES, seed=20)
    assert tried["fabrics"] == tried["partial"] == CASES
    assert tried["wrong"] > CASES
    assert tried["claims"] > 10 * CASES


@pytest.mark.parametrize("fault", ["nothing is moved", "one plug goes elsewhere"])
def test_the_campaign_sees_a_wrong_plan(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be no use if it passed whatever the moves are."""

    def carry_out_badly(it: World, cause: Cause) -> None:
        if fault == "one plug goes elsewhere":
            carry_out(it, cause)
            if cause.moves:
                it.pull(cause.moves[0].then)
                it.plug(cause.moves[0].stays, Port(cause.moves[0].then.chassis, "99"))

    monkeypatch.setattr("tests.unit.fabric.diagnosis.campaign.carry_out", carry_out_badly)
    with pytest.raises(AssertionError, match="case 1:"):
        campaign(30, seed=1)


PORTS = [Port("s", str(n)) for n in range(14)]


@settings(max_examples=200, deadline=None)
@given(st.permutations(PORTS), st.permutations(PORTS), st.integers(0, 7), st.integers(0, 7))
def test_any_two_matchings_split_into_alternating_paths_and_cycles(
    one: list[Port], two: list[Port], designed: int, observed: int
) -> None:
    cables = [DesignedCable(min(one[2 * n], one[2 * n + 1]), max(one[2 * n], one[2 * n + 1])) for n in range(designed)]
    links = [(two[2 * n], two[2 * n + 1]) for n in range(observed)]
    same = {frozenset(cable.ends) for cable in cables} & {frozenset(link) for link in links}
    cables = [cable for cable in cables if frozenset(cable.ends) not in same]
    links = [link for link in links if frozenset(link) not in same]
    found = components(cables, links)
    assert sorted(cable for part in found for cable in part.cables) == sorted(cables)
    assert sorted(map(sorted, (pair for part in found for pair in part.observed))) == sorted(map(sorted, links))
    ports = [port for part in found for port in part.ports]
    assert len(ports) == len(set(ports))
    for part in found:
        assert abs(len(part.cables) - len(list(part.observed))) <= (0 if part.cycle else 1)
        assert isinstance(part, Component)
