"""When a fabric is looked at: planned times with jitter, counters, repairs."""

from __future__ import annotations

from typing import Any

import pytest

from ostler.fabric.policy import due, jitter, last_slot
from ostler.fabric.settings import FabricSettings

DAY = 20_000 * 86_400.0
"""A midnight, UTC."""
SETTINGS = FabricSettings(sweep_at=("06:00", "18:00"), jitter_s=600.0, counters_every_s=900.0, repair_look_s=30.0)


def at(hour: float) -> float:
    return DAY + hour * 3600


@pytest.mark.parametrize(
    ("now", "looked", "repaired", "why"),
    [
        (at(9), None, None, "nobody"),
        (at(9), at(9) - 60, None, None),
        (at(9), at(9) - 900, None, "counters"),
        (at(9), at(9) - 899, None, None),
        (at(6.2), at(5.99), None, "time of day"),  # 06:00 and at most ten minutes
        (at(9), at(9) - 40, at(9) - 20, "repair"),
        (at(9), at(9) - 29, at(9) - 20, None),  # a look was just taken: the next comes soon
        (at(9), at(9) - 40, at(9) - 50, None),  # the look came after the repair: it has proved or refuted it
        (at(9), at(10), None, None),  # a clock that was set back
    ],
)
def test_when_a_look_is_due(now: float, looked: float | None, repaired: float | None, why: str | None) -> None:
    found = due("compute", SETTINGS, now=now, looked_at=looked, repaired_at=repaired)
    assert found is None if why is None else why in str(found)


def test_the_last_planned_time_is_found_across_midnight() -> None:
    slot = last_slot("compute", SETTINGS, at(1))
    assert slot is not None
    assert at(-6) <= slot <= at(-6) + 600


def test_without_planned_times_there_is_none() -> None:
    assert last_slot("compute", FabricSettings(sweep_at=()), at(1)) is None


def test_the_jitter_is_the_same_for_every_replica_and_another_for_each_fabric() -> None:
    values = {name: jitter(name, "06:00", DAY, 600.0) for name in ("a", "b", "c", "d")}
    assert len(set(values.values())) == len(values)
    assert all(0 <= value < 600 for value in values.values())
    assert jitter("a", "06:00", DAY, 600.0) == values["a"]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"collector": "magic"}, "magic"),
        ({"sweep_at": ("25:00",)}, "25:00"),
        ({"collector": "folder"}, "folder"),
        ({"counters_every_s": 0.0}, "above 0"),
        ({"keep_bodies": 1}, "keep_bodies"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        FabricSettings(**wrong)
