"""Downs, flaps, drops, and the restarts that explain them."""

from __future__ import annotations

from typing import Any

import pytest

from ostler.fabric.links.judge import judge
from ostler.fabric.links.model import LinkEvent
from ostler.fabric.model import Port, Snapshot
from ostler.fabric.sweep import Problem, ProblemKind
from tests.unit.fabric.links.scene import DOWN, HOST, LEAF, START, event, kinds, look

H12 = 43_200.0
SHORT = [(0, 24), (100, 124), (200, 224)]
LONG = [(0, 25), (100, 125), (200, 225)]


def downs(*spans: tuple[float, float | None]) -> list[LinkEvent]:
    return [
        one for start, end in spans for one in (event("down", start), *([event("up", end)] if end is not None else []))
    ]


@pytest.mark.parametrize(
    ("events", "at", "said"),
    [
        (LONG, 300, [("flapping", True)]),
        (SHORT, 300, [("flapping", False)]),
        (LONG[:2], 300, []),
        (LONG, H12, [("flapping", True)]),
        (LONG, H12 + 1, []),  # the first has left the window
        ([*LONG[:2], (200, None)], 225, [("flapping", True)]),
        ([*LONG[:2], (200, None)], 224, [("flapping", False)]),
    ],
)
def test_flaps_in_the_window(events: Any, at: float, said: list[tuple[str, bool]]) -> None:
    assert kinds(look(at), events=downs(*events)) == said


@pytest.mark.parametrize(
    ("count", "seconds", "said"),
    [
        (1, 900, [("downed", False)]),
        (2, 900, [("downed", False)]),
        (3, 900, [("flapping", True)]),
        (17, 21_600, [("flapping", False)]),  # 2.8 an hour
        (18, 21_600, [("flapping", True)]),
    ],
)
def test_downs_that_only_the_counter_saw(count: int, seconds: float, said: list[tuple[str, bool]]) -> None:
    assert kinds(look(seconds, {LEAF: {"link_downed": count}}), look(0)) == said


def test_both_ends_count_one_down_once() -> None:
    _, events = judge(look(900, {LEAF: {"link_downed": 1}, HOST: {"link_downed": 1}}), look(0))
    assert events == [LinkEvent(HOST, LEAF, "flap", START + 900, 1)]


@pytest.mark.parametrize(("leaf", "host"), [(3, 1), (1, 3)])
@pytest.mark.parametrize(("down", "kind"), [(False, "flap"), (True, "down")])
def test_the_end_that_counted_more_is_right(leaf: int, host: int, down: bool, kind: str) -> None:
    after = look(900, {LEAF: {"link_downed": leaf}, HOST: {"link_downed": host}}, down=down)
    assert [(one.kind, one.count) for one in judge(after, look(0))[1]] == [(kind, 3)]


def test_a_down_that_lasts_counts_with_its_length_until_now() -> None:
    assert kinds(look(225, down=True), events=downs(*LONG[:2], (200, None))) == [("flapping", True)]
    assert kinds(look(224, down=True), events=downs(*LONG[:2], (200, None))) == [("flapping", False)]


def test_the_look_that_saw_it_down_does_not_see_it_up() -> None:
    assert judge(look(900), events=[event("down", 900)])[1] == []


def test_three_looks_of_one_down_each_within_the_hour() -> None:
    earlier = [event("flap", 900), event("flap", 1_800)]
    after, before = look(2_700, {LEAF: {"link_downed": 3}}), look(1_800, {LEAF: {"link_downed": 2}})
    assert kinds(after, before, events=earlier) == [("flapping", True)]
    assert kinds(after, before, events=[event("flap", -1_000), event("flap", 1_800)]) == [("flapping", False)]


def test_down_and_up_are_told_once_each() -> None:
    _, down = judge(look(900, {LEAF: {"link_downed": 1}}, down=True), look(0))
    assert [(one.kind, one.count) for one in down] == [("down", 1)]
    still = look(1_000, {LEAF: {"link_downed": 1}}, down=True)
    assert judge(still, look(900, {LEAF: {"link_downed": 1}}, down=True), events=down)[1] == []
    _, up = judge(look(1_200, {LEAF: {"link_downed": 1}}), still, events=down)
    assert [one.kind for one in up] == ["up"]
    assert (
        judge(look(1_500, {LEAF: {"link_downed": 1}}), look(1_200, {LEAF: {"link_downed": 1}}), events=[*down, *up])[1]
        == []
    )


@pytest.mark.parametrize(("seconds", "said"), [(239, []), (240, [("dropped", True)])])
def test_a_drop_is_four_minutes(seconds: float, said: list[tuple[str, bool]]) -> None:
    assert kinds(look(seconds, down=True), events=[event("down", 0)]) == said
    assert kinds(look(seconds), events=[event("down", 0)]) == [], "it is back"


def test_nobody_says_that_a_link_is_down_whose_box_is_silent() -> None:
    after = look(900, down=True)
    after.chassis["gpu-0001"].answered = False
    assert judge(after, look(0)) == ([], [])
    assert kinds(after, events=[event("down", 0)]) == []
    hidden = look(900, down=True)
    hidden.states, hidden.facts = False, {}
    assert [one.kind for one in judge(hidden, look(0))[1]] == ["down"], "not listed is down where nothing hides it"
    hidden.problems = [Problem(ProblemKind.TIMEOUT, "lost")]
    assert judge(hidden, look(0)) == ([], [])


def test_a_cable_that_was_moved_is_not_down() -> None:
    after = look(900, links={LEAF: Port("gpu-0002", "mlx5_0")})
    after.facts[HOST] = DOWN
    after.chassis |= look(0).chassis
    assert judge(after, look(0)) == ([], [])


@pytest.mark.parametrize(
    ("chassis", "at", "filtered"),
    [
        ("gpu-0001", 450.0, True),
        ("leaf01", 450.0, True),
        ("gpu-0001", -600.0, True),
        ("gpu-0001", -601.0, False),
        ("gpu-0001", 1_500.0, True),
        ("gpu-0001", 1_501.0, False),
        ("gpu-0002", 450.0, False),
    ],
)
def test_a_restart_of_either_end_within_ten_minutes(chassis: str, at: float, filtered: bool) -> None:
    after = look(900, {LEAF: {"link_downed": 5}})
    found, events = judge(after, look(0), restarted={chassis: START + at})
    assert (found == [] and events == []) is filtered


def test_one_restart_explains_five_downs_and_not_six() -> None:
    found, events = judge(look(900, {LEAF: {"link_downed": 6}}), look(0), restarted={"gpu-0001": START + 450})
    assert [one.count for one in events] == [1] and str(found[0].kind) == "downed"


def test_an_event_whose_restart_was_heard_of_later() -> None:
    events = [event("flap", at) for at in (0, 100, 200)]
    assert kinds(look(4_000), events=events) == [("flapping", False)]
    assert kinds(look(4_000), events=events, restarted={"leaf01": START + 300}) == []


def rails(at: float, counters: dict[Port, dict[str, int]] | None = None, hosts: int = 3) -> Snapshot:
    links = {Port(f"leaf{r}", str(h)): Port(f"gpu-{h}", f"mlx5_{r}") for h in range(hosts) for r in range(2)}
    return look(at, counters, links=links)


def test_all_links_of_a_host_together_are_its_restart() -> None:
    both = {Port("gpu-1", f"mlx5_{r}"): {"link_downed": 1} for r in range(2)}
    assert judge(rails(900, both), rails(0)) == ([], [])
    one = {Port("gpu-1", "mlx5_0"): {"link_downed": 1}}
    assert kinds(rails(900, one), rails(0)) == [("downed", False)]


def test_all_counters_of_a_host_back_are_its_restart() -> None:
    both = {Port("gpu-1", f"mlx5_{r}"): {"port_xmit_data": 1, "port_rcv_data": 1} for r in range(2)}
    seen = {**both, Port("leaf0", "1"): {"link_downed": 1}}
    assert judge(rails(900, seen), rails(0)) == ([], [])
    half = {Port("gpu-1", "mlx5_0"): {"port_xmit_data": 1}, Port("leaf0", "1"): {"link_downed": 1}}
    assert kinds(rails(900, half), rails(0)) == [("downed", False)]


def test_counters_that_somebody_cleared_everywhere_excuse_nobody() -> None:
    before = rails(0)
    everywhere = {port: {"port_xmit_data": 1, "port_rcv_data": 1} for port in before.links}
    everywhere[Port("leaf0", "1")] = {"link_downed": 2, "port_xmit_data": 1, "port_rcv_data": 1}
    assert kinds(rails(900, everywhere), before) == [("downed", False)]


def test_without_times_there_are_no_events() -> None:
    found, events = judge(look(None, {LEAF: {"link_downed": 1}}), look(None))
    assert events == [] and [str(one.kind) for one in found] == ["downed"]
