"""Folds a flood of equal faults into one signal, so that a broken part cannot drown the node, the wire or the server.

Called by the agent for each fault it detects. The first of a key (kind, code, device, severity, action) goes through at
once. What follows within the window (10 domain seconds) is counted; when the window ends, one more signal says
`repeats`, `first_at` and `last_at` in its detail, with the last message. A fault that changes what is wrong, how bad it
is or what to do has another key and is never folded. Keys are bounded too: beyond `KEYS` live ones (a flood of invented
devices) faults are folded by kind and severity alone, with code and device left empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from ostler.wire.agent import Signal

WINDOW_S = 10.0
"""Domain seconds in which equal faults become one signal."""
KEYS = 512
"""Distinct faults within one window that are told apart."""

_Key: TypeAlias = tuple[str, str, str, str, str]


@dataclass(slots=True)
class _Window:
    until: float
    repeats: int = 0
    first_at: float = 0.0
    last: Signal | None = None


class Throttle:
    """Memory of one window per key. Times are the agent's monotonic real seconds."""

    def __init__(self, window: float) -> None:
        """`window` in real seconds."""
        self._window = window
        self._open: dict[_Key, _Window] = {}  # in the order of `until`, because every window is equally long

    def admit(self, signal: Signal, now: float) -> bool:
        """True: send it. False: it is counted and will be told by `due`."""
        key: _Key = (signal.kind, signal.code, signal.device, signal.severity, signal.action)
        if key not in self._open and len(self._open) >= KEYS:
            key = (signal.kind, "", "", signal.severity, "")
            signal = replace(signal, code="", device="", detail={})
        window = self._open.get(key)
        if window is None:
            self._open[key] = _Window(now + self._window)
            return True
        window.repeats += 1
        if window.repeats == 1:
            window.first_at = signal.at
        window.last = signal
        return False

    def due(self, now: float) -> Iterator[Signal]:
        """The sums of windows that have ended; each starts a new window, so a lasting flood is one signal a window."""
        for key, window in list(self._open.items()):
            if window.until > now:
                return
            del self._open[key]
            if window.last is not None:
                self._open[key] = _Window(now + self._window)
                told = {"repeats": window.repeats, "first_at": window.first_at, "last_at": window.last.at}
                yield replace(window.last, detail={**window.last.detail, **told})

    def holds(self) -> bool:
        """Something was counted and not yet told."""
        return any(window.repeats for window in self._open.values())

    def next_due(self) -> float | None:
        """When `due` has something to do next; None: nothing is open."""
        for window in self._open.values():
            return window.until
        return None
