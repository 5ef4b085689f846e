"""What explains many nodes at once, as a table: sympathy, NVLink domains, heat and power, rollouts; and what does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.faults.model import Action, Severity
from ostler.health.causes import fold, latecomers
from ostler.health.model import Cause, HealthSettings, OpenCause, Struck

SETTINGS = HealthSettings()
LOST = {"fault": "gpu-off-bus", "component": "gpu", "action": Action.REBOOT, "severity": Severity.FATAL}
SOLO = {"fault": "xid-45", "component": "gpu", "action": Action.RESTART_SERVICE}
LINK = {"fault": "xid-149", "component": "gpu", "action": Action.RESET_GPU, "severity": Severity.FATAL}


def struck(n: int, at: float = 100.0, *, of: dict[str, Any], **domains: str) -> Struck:
    return Struck(f"node_{n}", f"finding_{n}", at=at, domains=domains, **of)


def said(causes: list[Cause]) -> list[tuple[str, str, str, int]]:
    return [(one.cause, one.scope, one.subject, len(one.finding_ids)) for one in causes]


def test_peers_that_clean_up_after_one_fold_into_it() -> None:
    all_ = [struck(0, of=LOST, nvlink="d1"), *[struck(n, 105.0, of=SOLO, nvlink="d1") for n in range(1, 18)]]
    (cause,) = fold(all_, {}, SETTINGS)
    assert said([cause]) == [("sympathetic", "nvlink", "d1", 17)]
    assert cause.root == "finding_0"
    assert "finding_0" not in cause.finding_ids, "the root keeps its claim to action"
    own = replace(struck(0, of=SOLO, nvlink="d1"), finding_id="finding_own")
    assert fold([all_[0], own], {}, SETTINGS) == [], "a node is no peer of itself"


@pytest.mark.parametrize(
    ("root", "peers"),
    [
        (struck(0, of=LOST, nvlink="d2"), [struck(1, of=SOLO, nvlink="d1")]),
        (struck(0, 1000.0, of=LOST, nvlink="d1"), [struck(1, of=SOLO, nvlink="d1")]),
        (struck(0, of=LOST, fabric="leaf"), [struck(1, of=SOLO, fabric="leaf")]),
        (struck(0, of={**LOST, "action": Action.WATCH}, nvlink="d1"), [struck(1, of=SOLO, nvlink="d1")]),
    ],
    ids=["another domain", "long before", "one peer on a leaf", "nothing serious"],
)
def test_what_does_not_follow_stands_for_itself(root: Struck, peers: list[Struck]) -> None:
    assert fold([root, *peers], {}, SETTINGS) == []


def test_many_that_clean_up_without_a_root_are_not_to_blame() -> None:
    nodes = [struck(n, of=SOLO, fabric="leaf") for n in range(5)]
    assert said(fold(nodes, {}, SETTINGS)) == [("sympathetic", "fabric", "leaf", 5)]
    assert fold(nodes[:2], {}, SETTINGS) == []


def test_an_nvlink_domain_is_one_cause_whatever_each_node_calls_it() -> None:
    names = ["xid-149", "xid-145", "gpu-nvlink-down", "sxid-20034"]
    nodes = [struck(n, of={**LINK, "fault": name}, nvlink="d1") for n, name in enumerate(names)]
    kinds = fold(nodes[:3], {}, SETTINGS)
    assert said(kinds) == [("shared-domain", "nvlink", "d1", 3)]
    assert kinds[0].family == ("gpu-nvlink-down", "xid-145", "xid-149")


def test_of_two_ends_of_a_link_the_first_is_the_root() -> None:
    (cause,) = fold([struck(1, 110.0, of=LINK, nvlink="d1"), struck(2, 100.0, of=LINK, nvlink="d1")], {}, SETTINGS)
    assert (cause.root, cause.finding_ids) == ("finding_2", ("finding_1",))
    assert fold([struck(1, 131.0, of=LINK, nvlink="d1"), struck(2, 100.0, of=LINK, nvlink="d1")], {}, SETTINGS) == []


def test_a_hot_rack_is_cooling_and_one_hot_node_its_own() -> None:
    slow = {"fault": "gpu-hw-slowdown", "component": "gpu", "action": Action.TRIAGE}
    hot = {"fault": "bmc-hot", "component": "chassis", "action": Action.TRIAGE}
    nodes = [struck(0, of=slow, rack="r1"), struck(1, of=slow, rack="r1"), struck(2, of=hot, rack="r1")]
    assert said(fold(nodes, {}, SETTINGS)) == [("shared-domain", "rack", "r1", 3)]
    assert fold(nodes[:2], {}, SETTINGS) == []


def test_a_leak_is_taken_from_no_node() -> None:
    leak = {"fault": "bmc-leak", "component": "chassis", "action": Action.POWER_OFF, "severity": Severity.FATAL}
    nodes = [struck(n, of=leak, rack="r1", cooling="c1", sku="h100") for n in range(12)]
    assert fold(nodes, {"h100": 12}, SETTINGS) == []
    assert latecomers(nodes, [OpenCause("i", "shared-domain", "rack", "r1", "bmc-leak")]) == {}


def test_a_rollout_is_judged_among_those_that_have_it() -> None:
    gsp = {"fault": "xid-119", "component": "gpu", "action": Action.RESET_GPU}
    new = [struck(n, 100.0 + 3600 * n, of=gsp, sku="h100", driver="h100 driver 2") for n in range(3)]
    sizes = {"h100": 200, "h100 driver 1": 195, "h100 driver 2": 5}
    assert said(fold(new, sizes, SETTINGS)) == [("configuration", "driver", "h100 driver 2", 3)]
    assert fold(new, {**sizes, "h100 driver 2": 6}, SETTINGS) == [], "half of them is not most"
    assert fold(new[:2], sizes, SETTINGS) == [], "two are no storm"
    late = [struck(n, 90_000.0 * n, of=gsp, sku="h100", driver="h100 driver 2") for n in range(3)]
    assert fold(late, sizes, SETTINGS) == [], "days apart is no rollout"


@pytest.mark.parametrize(("count", "causes"), [(3, 0), (9, 0), (10, 1)])
def test_a_small_fleet_does_not_swallow_wear(count: int, causes: int) -> None:
    nodes = [struck(n, of=LOST, sku="h100") for n in range(count)]
    assert len(fold(nodes, {"h100": count}, SETTINGS)) == causes


def test_late_followers_join_only_while_it_is_fresh() -> None:
    known = [OpenCause("i", "sympathetic", "nvlink", "d1", "", ("xid-45",), 100.0, "finding_0")]
    assert latecomers([struck(7, 350.0, of=SOLO, nvlink="d1")], known) == {"i": ["finding_7"]}
    assert latecomers([struck(7, 401.0, of=SOLO, nvlink="d1")], known) == {}
    assert latecomers([struck(0, 100.0, of={**SOLO}, nvlink="d1")], known) == {}, "the root itself never"


PLACES = st.fixed_dictionaries({"nvlink": st.sampled_from(["d1", "d2"]), "rack": st.sampled_from(["r1", "r2"])})


@given(
    st.lists(st.tuples(st.sampled_from([LOST, SOLO, LINK]), st.floats(0.0, 600.0), PLACES), max_size=12),
    st.randoms(use_true_random=False),
)
def test_a_finding_belongs_to_at_most_one_cause_and_a_root_to_none(given_: list[Any], random: Any) -> None:
    nodes = [struck(n, at, of=of, **places) for n, (of, at, places) in enumerate(given_)]
    causes = fold(nodes, {}, SETTINGS)
    taken = [finding_id for one in causes for finding_id in one.finding_ids]
    assert len(taken) == len(set(taken))
    lost = {one.finding_id for one in nodes if one.fault == "gpu-off-bus"}
    assert lost.isdisjoint(taken), "a lost GPU is nobody else's fault in a fleet without a SKU"
    shuffled = list(nodes)
    random.shuffle(shuffled)
    assert {frozenset(one.finding_ids) for one in fold(shuffled, {}, SETTINGS)} == {
        frozenset(one.finding_ids) for one in causes
    }
