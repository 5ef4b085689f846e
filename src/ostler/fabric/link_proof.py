"""What has to be read again before an ill link is well: a look without counters proves nothing of counters. Pure.

Called by `books.py` when a cause about a link is no more among what a look found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ostler.fabric.model import Port, TroubleKind

_COUNTERS = ("counters",)
_NEEDS: Mapping[TroubleKind, tuple[str, ...]] = {
    TroubleKind.SYMBOL_ERRORS: ("counters", "bers"),
    TroubleKind.RECOVERIES: _COUNTERS,
    TroubleKind.INTEGRITY: _COUNTERS,
    TroubleKind.RCV_ERRORS: _COUNTERS,
    TroubleKind.DISCARDS: _COUNTERS,
    TroubleKind.DOWNED: _COUNTERS,
    TroubleKind.FLAPPING: _COUNTERS,
    TroubleKind.BER: ("bers",),
    TroubleKind.HOT: ("modules",),
    TroubleKind.RX_POWER: ("modules",),
}
"""Readings of which one is enough; whether a link is up, how wide and how fast, every look says."""


def needed(health: Iterable[Mapping[str, Any]], ports: Sequence[Port]) -> list[tuple[str, ...]]:
    """For every severe trouble that a report tells of these ports, the readings of which one has to be there."""
    mine = {str(port) for port in ports}
    found: list[tuple[str, ...]] = []
    for row in health:
        if not row["severe"] or not mine & {row["port"], row["peer"]}:
            continue
        for sign in (row, *row["measured"].get("also", ())):
            kind = TroubleKind(sign["kind"])
            measured = sign["measured"] if sign is row else sign
            if kind in _NEEDS and not (kind is TroubleKind.FLAPPING and "lasting" in measured):
                found.append(_NEEDS[kind])
    return found
