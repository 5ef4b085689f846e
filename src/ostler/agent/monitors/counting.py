"""Counters of hardware as what was added, and how much of it within a window. Used by the host's monitors.

A counter may be set back (driver loaded anew, somebody cleared it) and may be full: an InfiniBand port counter of 4, 8
or 16 bits stays at its maximum, where it proves nothing any more.
"""

from __future__ import annotations

from collections import deque

_POINTS = 4096


class Counter:
    """One counter, read again and again."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._last: int | None = None
        self.full = False
        """At its maximum: what came since cannot be counted."""
        self.set_back = False
        """The last reading was below the one before it."""

    @property
    def value(self) -> int | None:
        return self._last

    def rebase(self) -> None:
        """The next reading is a first one."""
        self._last = None

    def read(self, value: int) -> int:
        """What was added since the last reading, at least; 0 for the first one."""
        before, self._last = self._last, value
        self.full = self._most is not None and value >= self._most
        self.set_back = before is not None and value < before
        if before is None:
            return 0
        return value if self.set_back else value - before


class Window:
    """Amounts with their times, as far back as `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._points: deque[tuple[float, int]] = deque(maxlen=_POINTS)
        self._sum = 0

    def add(self, now: float, amount: int) -> None:
        if amount > 0:
            if len(self._points) == _POINTS:
                self._sum -= self._points[0][1]
            self._points.append((now, amount))
            self._sum += amount

    def total(self, now: float) -> int:
        while self._points and self._points[0][0] <= now - self._seconds:
            self._sum -= self._points.popleft()[1]
        return self._sum


class Steady:
    """Hysteresis by looks: so many in a row to begin to stand, so many to be over."""

    def __init__(self, begin: int = 2, end: int = 2) -> None:
        self._begin, self._end = begin, end
        self._against = 0
        self.stands = False

    def see(self, wrong: bool) -> bool:
        """One look; whether it stands now."""
        self._against = self._against + 1 if wrong != self.stands else 0
        if self._against >= (self._end if self.stands else self._begin):
            self.stands, self._against = not self.stands, 0
        return self.stands
