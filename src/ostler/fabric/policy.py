"""When a fabric is looked at. Pure; called by `tasks.py` for the server's own collectors, by `api.py` for others."""

from __future__ import annotations

import hashlib

from ostler.fabric.settings import FabricSettings

_DAY = 86_400.0


def due(
    fabric: str,
    settings: FabricSettings,
    *,
    now: float,
    looked_at: float | None,
    repaired_at: float | None = None,
) -> str | None:
    """Why a look is due, in words, or None.

    `looked_at`: when the last look was taken; `repaired_at`: when a technician last said that a cable of this fabric is
    done which no look has proved since. Domain seconds.
    """
    if looked_at is None:
        return "nobody has looked yet"
    if repaired_at is not None and repaired_at >= looked_at and now - looked_at >= settings.repair_look_s:
        return "a repair waits for its proof"
    if (slot := last_slot(fabric, settings, now)) is not None and slot > looked_at:
        return "its time of day has come"
    if now - looked_at >= settings.counters_every_s:
        return "the counters are to be read"
    return None


def last_slot(fabric: str, settings: FabricSettings, now: float) -> float | None:
    """The latest planned time of day, with its jitter, that is not after now; None: none is planned."""
    midnight = now - now % _DAY
    slots = [
        day + (int(time[:2]) * 60 + int(time[3:])) * 60 + jitter(fabric, time, day, settings.jitter_s)
        for day in (midnight - _DAY, midnight)
        for time in settings.sweep_at
    ]
    return max((slot for slot in slots if slot <= now), default=None)


def jitter(fabric: str, time: str, day: float, most: float) -> float:
    """The same for every replica and restart, another one for each fabric, day and time."""
    digest = hashlib.sha256(f"{fabric}|{time}|{day:.0f}".encode()).digest()
    return int.from_bytes(digest[:4]) / 2**32 * most
