"""What the console says: events in words, lengths of time, a node's states as a strip, natural order."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ostler.console.model import Life
from ostler.console.queries import natural
from ostler.console.rendering import inventory_line, strip
from ostler.console.sentences import clock_time, duration, line, reasons_of

NAMES = {"node_1": "gpu-0001"}


@pytest.mark.parametrize(
    ("type_", "subject", "data", "said"),
    [
        (
            "node.state_changed",
            "node_1",
            {"node_id": "node_1", "from": "production", "to": "reboot", "reason": "XID 79"},
            ("gpu-0001", "production → reboot · XID 79", "reboot", "node_1"),
        ),
        (
            "node.state_changed",
            "node_1",
            {"node_id": "node_1", "from": None, "to": "discovered"},
            ("gpu-0001", "entered as discovered", "discovered", "node_1"),
        ),
        ("node.cordoned", "node_1", {"reason": "swap"}, ("gpu-0001", "cordoned · swap", "note", "node_1")),
        (
            "ticket.opened",
            "ticket_1",
            {"node_id": "node_1", "cause": "psu", "instruction": "swap it"},
            ("gpu-0001", "ticket opened psu", "note", "node_1"),
        ),
        (
            "automation.paused",
            "fleet",
            {"scope": "fleet", "reason": "x"},
            ("fleet", "automation paused · x", "note", None),
        ),
        ("odd", "thing", {}, ("thing", "odd odd", "note", None)),
        ("node.state_changed", "node_gone", {"to": "test", "name": "old"}, ("old", "entered as test", "test", None)),
    ],
)
def test_events_in_words(
    type_: str, subject: str, data: dict[str, Any], said: tuple[str, str, str, str | None]
) -> None:
    found = line({"id": "event_1", "type": type_, "subject": subject, "data": data, "at": 1.0}, NAMES)
    assert (found.who, found.text, found.tone, found.node_id) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"),
        (-5, "0 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (5940, "99 min"),
        (6000, "1 h 40 min"),
        (172_000, "47 h 47 min"),
        (200_000, "2 d"),
    ],
)
def test_durations(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_times_show_the_date_on_another_day() -> None:
    assert clock_time(1_795_208_400.0, 1_795_208_500.0) == "21:00:00"
    assert clock_time(1_795_208_400.0, 1_795_300_000.0) == "2026-11-20 21:00"


def _life(*spans: tuple[str, float]) -> Life:
    rows, at = [], 0.0
    for state, seconds in spans:
        rows.append({"to_state": state, "at": at})
        at += seconds
    return Life(now=at, position=0, node={}, slot=None, macs=(), transitions=rows[::-1])


def test_the_strip_is_filled_and_shows_the_short_states_too() -> None:
    drawn = strip(_life(("discovered", 1.0), ("test", 0.0), ("production", 1e7), ("triage", 60.0)))
    assert [part.state for part in drawn] == ["discovered", "test", "production", "triage"]
    assert sum(part.width for part in drawn) == pytest.approx(1000, abs=0.1)
    assert min(part.width for part in drawn) > 10
    for before, after in itertools.pairwise(drawn):
        assert after.x == pytest.approx(before.x + before.width, abs=0.05)


def test_the_strip_of_nothing_and_of_a_hundred_states() -> None:
    assert strip(_life()) == []
    assert strip(_life(("test", 0.0)))[0].width == 1000
    assert sum(part.width for part in strip(_life(*[("test", 1.0)] * 100))) == pytest.approx(1000, abs=1)


def test_natural_order() -> None:
    names = ["r10", "r2", "r1", "rb", "r02", "", "R1", "r²", "r" + "9" * 30]
    assert sorted(names, key=natural)[:5] == ["", "R1", "r1", "r2", "r02"]


@pytest.mark.parametrize("inventory", [{}, {"gpus": None}, {"gpus": []}])
def test_no_inventory(inventory: dict[str, Any]) -> None:
    assert inventory_line(inventory) == ""


def test_an_inventory_and_reasons_in_any_form() -> None:
    assert inventory_line({"gpus": [{"model": "H100"}, {"model": "H100"}, {"model": ""}]}) == "3 × GPU, H100"
    assert reasons_of({"reasons": ["a.", {"reason": "b"}, {"x": 1}]}) == ["a", "b", "x: 1"]
    assert reasons_of({"reasons": {"reason": "only"}}) == ["only"]
    assert reasons_of({"reasons": []}) == []
