"""The brake's limits as a table: share and count, per group and window; nodes of one job count as one."""

from __future__ import annotations

import re

import pytest

from ostler.brake.model import DEFAULT_RULES, Live, Request, Rule
from ostler.brake.policy import allowed_at_once, held_by

NOW = 1_000_000.0
FLEET = {"fleet": "fleet"}
R1 = {**FLEET, "rack": "r1"}
R2 = {**FLEET, "rack": "r2"}


def live(unit: str, groups: dict[str, str] = FLEET, ago: float = 60.0, released: bool = False) -> Live:
    return Live(unit, groups, NOW - ago, released)


@pytest.mark.parametrize(
    ("rule", "size", "limit"),
    [
        (Rule("fleet", share=0.02), 16, 1),
        (Rule("fleet", share=0.02), 49, 1),
        (Rule("fleet", share=0.02), 100, 2),
        (Rule("fleet", share=0.02), 10_000, 200),
        (Rule("fleet", share=0.02, at_once=5), 10_000, 5),
        (Rule("rack", at_once=1), 18, 1),
        (Rule("fleet", per_window=10), 100, None),
    ],
)
def test_at_a_time_is_the_stricter_of_share_and_count(rule: Rule, size: int, limit: int | None) -> None:
    assert allowed_at_once(rule, size) == limit


@pytest.mark.parametrize(
    ("permits", "groups", "sizes", "says"),
    [
        pytest.param([], R1, {"fleet": 16, "rack": 8}, None, id="nothing under way"),
        pytest.param(
            [live("b", R2)], R1, {"fleet": 16, "rack": 8}, "1 of at most 1 at a time .* the fleet", id="share"
        ),
        pytest.param([live("b", R2)], R1, {"fleet": 200, "rack": 8}, None, id="a larger fleet has room"),
        pytest.param([live("b", R1)], R1, {"fleet": 200, "rack": 8}, "rack r1", id="one per rack"),
        pytest.param([live("b", R1, released=True)], R1, {"fleet": 200, "rack": 8}, None, id="released: rack is free"),
        pytest.param(
            [live(f"n{i}", R2, released=True) for i in range(10)],
            R1,
            {"fleet": 10_000, "rack": 8},
            "10 of at most 10 per 60 min",
            id="count per window, even when released",
        ),
        pytest.param(
            [live(f"n{i}", R2, ago=3601, released=True) for i in range(10)],
            R1,
            {"fleet": 10_000, "rack": 8},
            None,
            id="the window has passed",
        ),
        pytest.param(
            [live("job-7", R2, released=True) for _ in range(30)],
            R1,
            {"fleet": 10_000},
            None,
            id="one job counts as one",
        ),
        pytest.param([live("a", R1)], R1, {"fleet": 16, "rack": 8}, None, id="its own permit does not hold it back"),
        pytest.param([live(f"n{i}", R1) for i in range(50)], {}, {}, None, id="what serves nobody counts nothing"),
    ],
)
def test_default_limits(permits: list[Live], groups: dict[str, str], sizes: dict[str, int], says: str | None) -> None:
    verdict = held_by(Request("a", groups), DEFAULT_RULES, permits, sizes, NOW)
    if says is None:
        assert verdict is None
    else:
        assert verdict is not None
        assert re.search(says, verdict[0])


def test_the_wait_is_until_the_oldest_leaves_the_window() -> None:
    permits = [live(f"n{i}", R2, ago=3000 - i, released=True) for i in range(10)]
    verdict = held_by(Request("a", R1), DEFAULT_RULES, permits, {"fleet": 10_000}, NOW)
    assert verdict is not None
    assert verdict[1] == pytest.approx(600)


def test_none_per_window_holds_the_first() -> None:
    held = held_by(Request("n1", FLEET), [Rule("fleet", per_window=0, window_s=600.0)], [], {}, NOW)
    assert held is not None and held[1] == 600.0, held
