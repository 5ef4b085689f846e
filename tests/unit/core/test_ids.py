"""Ids name their kind, do not repeat, and sort by their making."""

from __future__ import annotations

import re

import pytest

from ostler.core.ids import new_id


def test_shape() -> None:
    assert re.fullmatch(r"node_[0-9a-hjkmnp-tv-z]{26}", new_id("node"))


def test_no_two_are_equal() -> None:
    assert len({new_id("x") for _ in range(10_000)}) == 10_000


def test_later_ones_sort_later(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for millisecond in (1, 2, 31, 32, 1_000_000, 1_800_000_000_000):
        monkeypatch.setattr("time.time", lambda at=millisecond: at / 1000)
        made.append(new_id("x"))
    assert made == sorted(made)


def test_those_of_one_millisecond_sort_by_their_making(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers take the last decision about a finding by its id."""
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.5)
    made = [new_id("x") for _ in range(1000)]
    assert made == sorted(made)
    assert len(set(made)) == 1000


def test_the_time_can_be_read_back_as_the_ulid_specification_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The specification's example: 01ARYZ6S41 are the first ten characters for 1469918176385 ms."""
    monkeypatch.setattr("time.time", lambda: 1_469_918_176.385)
    assert new_id("x")[2:12] == "01aryz6s41"
