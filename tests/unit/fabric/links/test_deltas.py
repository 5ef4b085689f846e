"""Deltas: saturation, counters that went back, other parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.fabric.links.deltas import FULL, Delta, between, full
from ostler.fabric.sweep import End
from tests.unit.fabric.links.scene import HOST, LEAF, look


@pytest.mark.parametrize(
    ("name", "then", "now", "delta"),
    [
        ("symbol_error", 5, 5, None),
        ("symbol_error", 5, 9, Delta(4, 900.0)),
        ("symbol_error", 65_000, 65_535, Delta(535, 900.0, at_least=True)),
        ("symbol_error", 65_535, 65_535, None),
        ("symbol_error", 65_535, 70_000, Delta(4_465, 900.0)),
        ("link_downed", 250, 255, Delta(5, 900.0, at_least=True)),
        ("link_downed", 255, 255, None),
        ("local_link_integrity_errors", 14, 15, Delta(1, 900.0, at_least=True)),
        ("symbol_error", 9, 4, Delta(4, None)),
        ("symbol_error", 9, 0, None),
        ("port_rcv_switch_relay_errors", 0, 5_000, None),
    ],
)
def test_one_counter(name: str, then: int, now: int, delta: Delta | None) -> None:
    found, _ = between(look(900, {LEAF: {name: now}}), look(0, {LEAF: {name: then}}))
    assert found.get(LEAF, {}).get(name) == delta


def test_a_lower_bound_says_so() -> None:
    assert str(Delta(5, 900.0, at_least=True)) == "at least 5" and str(Delta(5, 900.0)) == "5"


def test_a_full_counter_is_no_knowledge() -> None:
    after, before = look(900, {LEAF: {"symbol_error": 65_535}}), look(0, {LEAF: {"symbol_error": 65_535}})
    assert full(after, before, LEAF, "symbol_error") and not full(after, before, HOST, "symbol_error")


@pytest.mark.parametrize("traffic", ["port_xmit_data", "port_rcv_data"])
def test_traffic_that_went_back_takes_the_rate_from_the_errors(traffic: str) -> None:
    after = look(900, {LEAF: {"symbol_error": 7, "link_downed": 2, traffic: 1}})
    found, cleared = between(after, look(0, {LEAF: {"symbol_error": 5, "link_downed": 2}}))
    assert found == {LEAF: {"symbol_error": Delta(2, None, at_least=True)}} and cleared == {LEAF}


def test_another_part_in_the_place_has_no_delta() -> None:
    after, before = look(900, {LEAF: {"symbol_error": 50}}), look(0)
    assert between(after, before)[0]
    after.ends[LEAF] = End(77, 1)
    assert between(after, before) == ({}, set())
    after.ends, after.replaced = {}, {LEAF: (1, 2)}
    assert between(after, before) == ({}, set())


def test_a_port_that_was_not_counted_before_has_no_delta() -> None:
    before = look(0)
    del before.counters[LEAF]
    del before.counters[HOST]["symbol_error"]
    assert between(look(900, {LEAF: {"symbol_error": 50}, HOST: {"symbol_error": 50}}), before) == ({}, set())


@pytest.mark.parametrize(("then", "now"), [(None, 900.0), (0.0, None), (900.0, 0.0), (0.0, 0.0)])
def test_without_times_in_order_there_is_no_rate(then: float | None, now: float | None) -> None:
    before = look(then, {LEAF: {"port_xmit_data": 1, "port_rcv_data": 1}})
    found, _ = between(look(now, {LEAF: {"symbol_error": 5}}), before)
    assert found[LEAF]["symbol_error"] == Delta(5, None, at_least=True)


@given(st.dictionaries(st.sampled_from(sorted(FULL)), st.integers(0, 70_000)))
def test_the_same_look_twice_says_nothing(counters: dict[str, int]) -> None:
    assert between(look(900, {LEAF: counters}), look(900, {LEAF: counters})) == ({}, set())
