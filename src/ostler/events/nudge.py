"""Tells the senders in this process that something was published, so that a webhook leaves in milliseconds.

Never needed: a sender looks by itself every `poll_s`. So it does not matter that it reaches only this process, or that
a sender of another database is woken for nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

_lock = threading.Lock()
_listeners: list[Callable[[], None]] = []


def listen(call: Callable[[], None]) -> Callable[[], None]:
    """Have `call` run after every publication. Returns what ends it. `call` must be quick and must not raise."""
    with _lock:
        _listeners.append(call)

    def end() -> None:
        with _lock:
            if call in _listeners:
                _listeners.remove(call)

    return end


def nudge() -> None:
    with _lock:
        listeners = tuple(_listeners)
    for call in listeners:
        call()
