"""Two kinds of time, both parameters and never globals. Everyone who asks "when" is handed a `Clock`.

Times are UTC seconds since the epoch as `float`: one representation in memory, in SQLite and in PostgreSQL, precise to
below a microsecond. `iso()` is the only rendering.

*Domain* time (`now`) runs deadlines, burn-in and windows, and may be sped up in a simulation. *Real* time (`real`) runs
leases, TLS, signatures and network time-outs, and is never scaled (DESIGN, section 4).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the time is."""

    def now(self) -> float:
        """Domain time, UTC seconds since the epoch."""
        ...

    def real(self) -> float:
        """Wall time, UTC seconds since the epoch."""
        ...

    def real_seconds(self, domain_seconds: float) -> float:
        """How long a span of domain time lasts on the wall, in seconds: what a loop sleeps."""
        ...


class SystemClock:
    """Production: domain time is wall time."""

    def now(self) -> float:
        return time.time()

    def real(self) -> float:
        return time.time()

    def real_seconds(self, domain_seconds: float) -> float:
        return domain_seconds


@dataclass(frozen=True)
class ScaledClock:
    """`[simulation] speed`: domain time runs `speed` times faster from `origin` (real UTC seconds) on.

    Server and twin agree because both get the same two numbers.
    """

    speed: float
    origin: float

    def now(self) -> float:
        return self.origin + (time.time() - self.origin) * self.speed

    def real(self) -> float:
        return time.time()

    def real_seconds(self, domain_seconds: float) -> float:
        return domain_seconds / self.speed


@dataclass
class ManualClock:
    """Tests: time stands still until `advance` is called. Both kinds of time move together."""

    at: float = 1_800_000_000.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def now(self) -> float:
        with self._lock:
            return self.at

    def real(self) -> float:
        return self.now()

    def real_seconds(self, domain_seconds: float) -> float:
        return domain_seconds

    def advance(self, seconds: float) -> None:
        with self._lock:
            self.at += seconds


def iso(at: float) -> str:
    """RFC 3339 in UTC with milliseconds, e.g. `2026-11-20T20:58:00.123Z`: how every face shows a time."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_or_none(at: float | None) -> str | None:
    """`iso`, for a time that may not have come yet."""
    return None if at is None else iso(at)
