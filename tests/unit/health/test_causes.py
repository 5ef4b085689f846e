"""Correlation as a table: many nodes' findings in, causes out; each with a near-miss that must stay apart."""

from __future__ import annotations

from ostler.health.causes import fold
from ostler.health.model import HealthSettings, Struck
from ostler.health.silence import judge

SETTINGS = HealthSettings()


def struck(n: int, fault: str = "ib-link-down", component: str = "nic", at: float = 100.0, **domains: str) -> Struck:
    return Struck(f"node_{n}", f"finding_{n}", fault, component, at, domains)


def test_a_rack_of_links_down_is_one_cause() -> None:
    causes = fold([struck(n, rack="r1", at=100 + n) for n in range(8)], {}, SETTINGS)
    assert [(one.cause, one.scope, one.subject, len(one.finding_ids)) for one in causes] == [
        ("shared-domain", "rack", "r1", 8)
    ]


def test_the_most_specific_shared_domain_is_named() -> None:
    causes = fold([struck(n, rack="r1", fabric="leaf-7") for n in range(4)], {}, SETTINGS)
    assert [(one.scope, one.subject) for one in causes] == [("fabric", "leaf-7")]


def test_two_nodes_are_no_storm() -> None:
    assert fold([struck(n, rack="r1") for n in range(2)], {}, SETTINGS) == []


def test_far_apart_in_time_they_are_separate() -> None:
    assert fold([struck(n, rack="r1", at=n * 1000.0) for n in range(5)], {}, SETTINGS) == []


def test_a_gpus_own_memory_is_no_neighbours_fault() -> None:
    assert (
        fold([struck(n, fault="xid-48", component="gpu", rack="r1") for n in range(5)], {"h100": 100}, SETTINGS) == []
    )


def test_most_peers_of_a_sku_are_a_configuration() -> None:
    many = [struck(n, fault="xid-119", component="gpu", sku="h100") for n in range(6)]
    assert [one.cause for one in fold(many, {"h100": 10}, SETTINGS)] == ["configuration"]
    assert fold(many, {"h100": 12}, SETTINGS) == [], "half of them is not most"


def test_silence_of_one_is_the_nodes_and_of_many_is_ours() -> None:
    assert not judge(1, 16, 3600, SETTINGS).suspect_self
    assert judge(2, 16, 3600, SETTINGS).suspect_self
    assert not judge(5, 100, 3600, SETTINGS).suspect_self, "5 % is not more than 5 %"
    assert judge(6, 100, 3600, SETTINGS).suspect_self
    assert judge(1, 1000, 60, SETTINGS).suspect_self, "just started: nothing is proven"
