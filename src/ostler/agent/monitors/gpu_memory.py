"""How the GPU monitor remembers: counters that are reset, wrap or saturate, and values that must agree twice.

Pure; used by gpu_rules.py and gpu_links.py.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ostler.agent.monitors.counting import Window

_SATURATED = frozenset({(1 << 32) - 1, (1 << 64) - 1})
"""All bits set: the counter is full, or the read came back empty from a dead bus."""
_WRAP = 1 << 32
MOST_SPAN_S = 60.0
"""Seconds that one look can speak for, when the one before it is long ago."""


class Rise:
    """What a counter grew by since the last look, and within the last window. The first look is the baseline."""

    def __init__(self, window_s: float) -> None:
        self._window = Window(window_s)
        self._last: tuple[float, int] | None = None
        self.per_s = 0.0
        """Over the last interval."""

    def read(self, now: float, value: int | None) -> None:
        """None and a saturated counter say nothing. A lower value is a reset, unless 32 bits wrapped."""
        self.per_s = 0.0
        if value is None or value in _SATURATED:
            return
        if self._last is not None and now > self._last[0]:
            before = self._last[1]
            grown = value - before
            if grown < 0:
                wrapped = before < _WRAP and before > _WRAP // 16 * 15 and value < _WRAP // 16
                grown = value + _WRAP - before if wrapped else 0
            self._window.add(now, grown)
            self.per_s = grown / (now - self._last[0])
        self._last = (now, value)

    def known(self) -> bool:
        """It has said something at least once."""
        return self._last is not None

    def total(self, now: float) -> int:
        """Within the window."""
        return self._window.total(now)


@dataclass(slots=True)
class Mean:
    """The mean rate of a large counter between two looks: energy, traffic."""

    last: tuple[float, float] | None = None

    def read(self, now: float, value: float | None) -> float | None:
        """Per second; None for a first look, a reset, and no answer."""
        before, self.last = self.last, None if value is None else (now, value)
        if value is None or before is None or now <= before[0] or value < before[1]:
            return None
        return (value - before[1]) / (now - before[0])


@dataclass(slots=True)
class Agreed:
    """A fault stands after so many looks in a row that say so, and is over after as many that do not."""

    looks: int
    stands: bool = False
    _contrary: int = 0

    def read(self, said: bool | None) -> bool:
        """None: this look cannot say; nothing changes."""
        if said is None:
            return self.stands
        self._contrary = self._contrary + 1 if said != self.stands else 0
        if self._contrary >= self.looks:
            self.stands, self._contrary = said, 0
        return self.stands


class Share:
    """For how much of the window something was so, as far as looks can tell: each speaks for the time before it."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._spans: deque[tuple[float, float]] = deque()
        self._last: float | None = None

    def read(self, now: float, so: bool) -> float:
        """0 to 1. A window that is not full yet counts as if it had not been so before."""
        span = 0.0 if self._last is None else min(now - self._last, MOST_SPAN_S)
        self._last = now
        if so and span > 0:
            self._spans.append((now, span))
        while self._spans and self._spans[0][0] <= now - self._window_s:
            self._spans.popleft()
        return sum(span for _, span in self._spans) / self._window_s
