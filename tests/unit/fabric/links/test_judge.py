"""Width and speed, limits, and what holds of every judgement."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.fabric.links.deltas import FULL
from ostler.fabric.links.judge import judge
from ostler.fabric.links.limits import Limits
from ostler.fabric.model import Blueprint, DesignedCable, Port
from ostler.fabric.sweep import PortFacts
from tests.unit.fabric.links.scene import HOST, LEAF, START, UP, kinds, look, troubles


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        (UP, UP, []),
        (UP._replace(width=2), UP, [("width", True)]),
        (UP, UP._replace(width=2), [("width", True)]),
        (UP._replace(width=0), UP._replace(width=2), [("width", True)]),
        (UP._replace(width=2), UP._replace(width=2, width_supported=2), []),
        (UP._replace(width=2), UP._replace(width=2, width_supported=0), []),
        (UP._replace(width_supported=12), UP._replace(width_supported=12), []),
        (UP._replace(speed="HDR"), UP._replace(speed="HDR"), [("speed", True)]),
        (UP._replace(speed="HDR"), UP._replace(speed="HDR", speed_supported="HDR"), []),
        (UP._replace(speed="HDR"), UP._replace(speed="HDR", speed_supported=""), []),
        (UP._replace(speed="FDR10", width=1), UP, [("width", True)]),
        (PortFacts(), UP, []),
    ],
)
def test_width_and_speed_that_both_ends_can(here: PortFacts, there: PortFacts, said: list[tuple[str, bool]]) -> None:
    after = look()
    after.facts = {LEAF: here, HOST: there}
    assert kinds(after) == said


def test_every_narrow_link_is_told_though_they_are_alike() -> None:
    links = {Port("leaf01", str(n)): Port(f"gpu-{n}", "mlx5_0") for n in range(3)}
    assert kinds(look(links=links, facts=UP._replace(width=2))) == [("width", True)] * 3


@pytest.mark.parametrize(
    ("width", "speed", "said"),
    [(2, "HDR", []), (4, "HDR", [("width", True)]), (2, "NDR", [("speed", True)]), (0, "", [("width", True)])],
)
def test_a_design_goes_before_what_the_ends_can(width: int, speed: str, said: list[tuple[str, bool]]) -> None:
    cable = DesignedCable(HOST, LEAF, width=width, speed=speed)
    blueprint = Blueprint("b", "test", {}, (cable,))
    assert kinds(look(facts=UP._replace(width=2, speed="HDR")), blueprint=blueprint) == said


def test_the_severe_come_first() -> None:
    after = look(720, {LEAF: {"port_xmit_discards": 60_000 * 2}}, facts=UP._replace(width=1))
    assert [one.severe for one in troubles(after, look(0))] == [True, False]


counters = st.dictionaries(st.sampled_from(sorted(FULL)), st.integers(0, 70_000), max_size=6)


@given(counters, counters, st.floats(1, 1e5))
def test_the_same_look_twice_adds_nothing(then: dict[str, int], now: dict[str, int], seconds: float) -> None:
    after = look(seconds, {LEAF: now})
    assert judge(after, after) == ([], [])
    _, events = judge(after, look(0, {LEAF: then}))
    again, more = judge(after, after, events=events)
    assert more == []
    assert len(again) <= 2


@given(counters, st.floats(60, 1e4), st.floats(0, 1e5))
def test_more_quiet_time_never_makes_a_link_ill(now: dict[str, int], seconds: float, more: float) -> None:
    def severe(length: float) -> bool:
        return any(one.severe for one in troubles(look(length, {LEAF: now}), look(0)))

    if not severe(seconds):
        assert not severe(seconds + more)


@given(counters, counters)
def test_every_trouble_is_one_line_and_every_event_is_of_now(then: dict[str, int], now: dict[str, int]) -> None:
    found, events = judge(look(900, {LEAF: now}), look(0, {HOST: then}))
    assert all("\n" not in one.message and one.source for one in found)
    assert all(one.at == START + 900 and one.count >= 0 for one in events)
    assert len({frozenset((one.port, one.peer)) for one in found}) <= 1


def test_every_limit_says_its_source_and_refuses_nonsense() -> None:
    for one in fields(Limits):
        if one.name != "tx_well_dbm":
            nothing: dict[str, Any] = {one.name: 0.0}
            with pytest.raises(ValueError, match=one.name):
                Limits(**nothing)
    with pytest.raises(ValueError, match="below 1"):
        Limits(confidence=1.0)
