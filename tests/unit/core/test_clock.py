"""Domain time and real time, and their one rendering."""

from __future__ import annotations

import pytest

from ostler.core.clock import ManualClock, ScaledClock, SystemClock, iso, iso_or_none


def test_a_manual_clock_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(100.0)
    assert (clock.now(), clock.real()) == (100.0, 100.0)
    clock.advance(5)
    assert (clock.now(), clock.real()) == (105.0, 105.0)


def test_a_scaled_clock_runs_faster_from_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_010.0)
    clock = ScaledClock(speed=60.0, origin=1_000.0)
    assert clock.now() == 1_600.0
    assert clock.real() == 1_010.0
    assert clock.real_seconds(120.0) == 2.0


def test_in_production_both_are_wall_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 7.0)
    clock = SystemClock()
    assert (clock.now(), clock.real(), clock.real_seconds(3.0)) == (7.0, 7.0, 3.0)


@pytest.mark.parametrize(
    ("at", "text"),
    [(0.0, "1970-01-01T00:00:00.000Z"), (1_800_000_000.25, "2027-01-15T08:00:00.250Z")],
)
def test_iso(at: float, text: str) -> None:
    assert iso(at) == iso_or_none(at) == text


def test_iso_of_nothing() -> None:
    assert iso_or_none(None) is None
