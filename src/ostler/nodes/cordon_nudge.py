"""Tells the cordon controllers of this process that a hold came or went, after its commit; they would look anyway.

`service.py` calls `cordon_wanted`, `cordon.py` listens. It only shortens a wait: nothing is lost with a nudge.
"""

from __future__ import annotations

import threading
import weakref

_waiting: weakref.WeakSet[threading.Event] = weakref.WeakSet()


def listen(event: threading.Event) -> None:
    """Have `event` set whenever a hold came or went; forgotten when it is."""
    _waiting.add(event)


def cordon_wanted() -> None:
    """A hold came or went."""
    for event in list(_waiting):
        event.set()
