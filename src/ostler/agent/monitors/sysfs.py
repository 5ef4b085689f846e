"""Reading /sys and /proc without trusting them: bounded, printable, and "cannot be read" apart from "is not there".

Used by the host's monitors. Every path hangs below a root, so that tests read recorded trees.
"""

from __future__ import annotations

import os
from pathlib import Path

from ostler.faults.model import Fault
from ostler.faults.monitored import fault

LIMIT = 4096
ENTRIES = 4096
"""Names taken of one folder at most."""


def text(path: Path | str, limit: int = LIMIT) -> str | None:
    """The file's text, stripped and printable; None when it cannot be read. Never blocks on what is no plain file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        raw = os.read(handle, limit)
    except OSError:
        return None
    finally:
        os.close(handle)
    said = raw.decode("utf-8", "replace").strip().replace("\x00", "")
    return said if said.isprintable() else "".join(c if c.isprintable() or c == "\n" else " " for c in said)


def number(path: Path | str) -> int | None:
    """A whole number, decimal or with 0x; None for anything else."""
    said = text(path, 64)
    if not said:
        return None
    try:
        found = int(said, 16) if said[:2] in ("0x", "0X") else int(said)
    except ValueError:
        return None
    return found if -(1 << 64) < found < 1 << 64 else None


def names(path: Path | str) -> list[str]:
    """The names in a folder, sorted; empty when there is no such folder. Raises `OSError` when it cannot be listed."""
    try:
        return sorted(os.listdir(path))[:ENTRIES]  # noqa: PTH208  half the cost, and this runs all day
    except (FileNotFoundError, NotADirectoryError):
        return []


def present(path: Path | str) -> bool:
    return os.path.lexists(path)


def uptime(root: Path) -> float | None:
    """Seconds since boot; None when the kernel does not say."""
    words = (text(root / "proc/uptime", 64) or "").split()
    try:
        return float(words[0])
    except (IndexError, ValueError):
        return None


class Age:
    """How long ago the machine booted, by one look at /proc/uptime and the monitor's own seconds since."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._booted: float | None = None

    def at(self, now: float) -> float:
        """Seconds since boot. A machine that does not say counts as booted long ago."""
        if self._booted is None:
            up = uptime(self._root)
            self._booted = now - (1e9 if up is None else up)
        return now - self._booted


class Misses:
    """Parts that could not be found or read, look by look: only several looks in a row count."""

    def __init__(self, needed: int) -> None:
        self._needed = needed
        self._counts: dict[str, int] = {}

    def miss(self, part: str) -> bool:
        """One more look without it; whether it counts by now."""
        self._counts[part] = min(self._counts.get(part, 0) + 1, self._needed)
        return self._counts[part] >= self._needed

    def found(self, part: str) -> None:
        self._counts.pop(part, None)


def unwatched(monitor: str, part: str, what: str) -> Fault:
    """What could be read before cannot be read any more: this part is unwatched, the monitor itself is alive."""
    return fault("monitor-dead", f"{monitor}:{part}"[:256], f"{part}: {what} cannot be read any more")
