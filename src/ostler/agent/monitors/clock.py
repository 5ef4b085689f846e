"""Whether the clock follows a time source, and how far off it can be: the kernel's own books, by adjtimex(2).

chronyd, ntpd, timesyncd and phc2sys all tell the kernel, so none of them is asked. No privilege is needed to read.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ostler.agent.monitors.counting import Steady
from ostler.agent.monitors.port import Look
from ostler.agent.monitors.sysfs import Age
from ostler.faults.limits import Limits
from ostler.faults.model import Fault
from ostler.faults.monitored import fault

NAME = "clock"
_STA_UNSYNC = 0x0040
_STA_NANO = 0x2000


@dataclass(frozen=True, slots=True)
class Reading:
    """What the kernel says of its clock, in seconds."""

    synced: bool
    offset_s: float
    """What is being slewed away."""
    max_error_s: float
    """The bound that the time daemon gave, grown by 500 ppm since."""


class _Timex(ctypes.Structure):
    """`struct timex` (linux/timex.h) with room for its reserved fields."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def adjtimex() -> Reading:
    """Ask the kernel; changes nothing. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    timex = _Timex()
    if libc.adjtimex(ctypes.byref(timex)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return reading(timex.status, timex.offset, timex.maxerror)


def reading(status: int, offset: int, max_error: int) -> Reading:
    """The kernel's figures in seconds: the offset in ns or µs, as the status says; the bound in µs."""
    return Reading(not status & _STA_UNSYNC, offset * (1e-9 if status & _STA_NANO else 1e-6), max_error * 1e-6)


class ClockMonitor:
    """A `Monitor`. `read` is `adjtimex`, or what a test says of the clock."""

    name = NAME
    period_s = 30.0
    deadline_s = 5.0

    def __init__(
        self, root: Path = Path("/"), limits: Limits | None = None, read: Callable[[], Reading] = adjtimex
    ) -> None:
        self._limits = limits or Limits()
        self._age = Age(root)
        self._read = read
        self._was_synced = False
        self._unsynced, self._offset = Steady(), Steady()

    def look(self, now: float) -> Look:
        said = self._read()
        self._was_synced = self._was_synced or said.synced
        # A clock that was never right since boot gets time to be; one that was right does not.
        settling = not self._was_synced and self._age.at(now) < self._limits.settle_s
        off = abs(said.offset_s) > self._limits.clock_offset_s
        vague = said.synced and said.max_error_s > self._limits.clock_max_error_s
        found: list[Fault] = []
        detail = {"offset_s": f"{said.offset_s:.6f}", "max_error_s": f"{said.max_error_s:.3f}"}
        if self._unsynced.see(not said.synced and not settling):
            found.append(fault("host-clock-unsynced", "", "the clock follows no time source", detail=detail))
        if self._offset.see(off or vague):
            limits = self._limits
            what = f"the clock is more than {limits.clock_offset_s:g} s off"
            if not off:
                what = f"the clock may be more than {limits.clock_max_error_s:g} s off: its source is not heard"
            found.append(fault("host-clock-offset", "", what, detail=detail))
        return Look(tuple(found))
