"""What every source of log lines offers the agent (and the twin, which brings its own script)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

LINES_PER_READ = 2048
"""Items one `read` may answer: in a flood the agent still comes round to reporting."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One message, without its stamp."""

    at: float
    """Domain time, UTC seconds, as well as the source knows it."""
    message: bytes
    position: str
    """Opaque; `start(position)` goes on after this line."""
    program: str = "kernel"
    """Who wrote it, as `faults.formats` tells: the catalogue believes each program only about itself."""


@dataclass(frozen=True, slots=True)
class Missed:
    """The source knows that lines went by unread: becomes a declared gap."""

    reason: str
    detail: str
    position: str


Item: TypeAlias = LogLine | Missed


class Source(Protocol):
    """A log that is followed. Never blocks."""

    @property
    def name(self) -> str:
        """Stable: positions are stored under it, heartbeats name it as a monitor."""
        ...

    def start(self, position: str | None) -> None:
        """Called once, before the first `read`: go on after `position`, or where this source begins by nature."""
        ...

    def read(self) -> Sequence[Item]:
        """What is there now, in order, at most `LINES_PER_READ`; empty: nothing. Raises OSError when it cannot read."""
        ...

    def position(self) -> str | None:
        """Where it stands: behind the last item that `read` answered. None: not started."""
        ...

    def fileno(self) -> int | None:
        """A descriptor that becomes readable when lines come; None: look again after `interval`."""
        ...

    @property
    def interval(self) -> float:
        """Real seconds after which to read again when there is no descriptor to wait for."""
        ...

    def close(self) -> None:
        """Lets go of descriptors and processes."""
        ...
