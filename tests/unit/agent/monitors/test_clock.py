"""The clock's rules at their edges, and one real question to the kernel."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from ostler.agent.monitors import clock
from ostler.agent.monitors.clock import ClockMonitor, Reading, adjtimex, reading
from tests.unit.agent.monitors.tree import LONG_UP, Machine

GOOD = Reading(True, 0.0, 0.01)
UNSYNCED = Reading(False, 0.0, 16.0)


class Clock:
    """A monitor of a clock that a test sets."""

    def __init__(self, root: Path, up: str = LONG_UP) -> None:
        self.machine = Machine(root, up)
        self.reading = GOOD
        self.monitor = ClockMonitor(root, read=lambda: self.reading)

    def says(self, reading: Reading, times: int = 1, seconds: float | None = None) -> set[str]:
        self.reading = reading
        return self.machine.look(self.monitor, seconds, times)


def test_the_kernel_answers() -> None:
    found = adjtimex()
    assert found.max_error_s >= 0
    assert abs(found.offset_s) <= 0.5, "the kernel's limit is half a second"


def test_the_structure_has_the_kernels_layout() -> None:
    """linux/timex.h, 64 bit: modes at 0, offset at 8, maxerror at 24, status at 40; 208 bytes in all."""
    fields = clock._Timex
    assert (fields.modes.offset, fields.offset.offset, fields.maxerror.offset, fields.status.offset) == (0, 8, 24, 40)
    assert ctypes.sizeof(fields) >= 208


def test_unsynced_at_two_looks_and_right_at_two(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    assert clock.says(GOOD) == set()
    assert clock.says(UNSYNCED) == set()
    assert clock.says(UNSYNCED) == {"host-clock-unsynced@"}
    assert clock.says(GOOD) == {"host-clock-unsynced@"}
    assert clock.says(GOOD) == set()


def test_one_bad_look_is_nothing(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    for _ in range(5):
        assert clock.says(UNSYNCED) == set()
        assert clock.says(GOOD) == set()


def test_after_boot_it_has_ten_minutes_to_be_right(tmp_path: Path) -> None:
    clock = Clock(tmp_path, up="1.0 1.0")
    assert clock.says(UNSYNCED, 9, 60.0) == set()
    assert clock.says(UNSYNCED, 3, 60.0) == {"host-clock-unsynced@"}


@pytest.mark.parametrize("offset", [0.129, -0.129])
def test_further_off_than_ntpd_lets_pass(tmp_path: Path, offset: float) -> None:
    clock = Clock(tmp_path)
    assert clock.says(Reading(True, offset, 0.01), 2) == {"host-clock-offset@"}


def test_just_within(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    assert clock.says(Reading(True, 0.128, 1.5), 5) == set()


def test_a_bound_beyond_the_protocols(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    assert clock.says(Reading(True, 0.0, 1.51), 2) == {"host-clock-offset@"}


def test_a_clock_that_was_right_gets_no_time_to_be(tmp_path: Path) -> None:
    clock = Clock(tmp_path, up="1.0 1.0")
    assert clock.says(GOOD) == set()
    assert clock.says(UNSYNCED, 2) == {"host-clock-unsynced@"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0x2001, Reading(True, 0.002, 0.5)),  # STA_PLL | STA_NANO
        (0x0001, Reading(True, 2.0, 0.5)),
        (0x0041, Reading(False, 2.0, 0.5)),  # STA_UNSYNC
    ],
)
def test_the_status_says_the_unit_and_the_sync(status: int, expected: Reading) -> None:
    found = reading(status, 2_000_000, 500_000)
    assert (found.synced, round(found.offset_s, 9), found.max_error_s) == (
        expected.synced,
        expected.offset_s,
        expected.max_error_s,
    )
