"""A log that a program speaks: the twin's kernel, and the source of tests."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ostler.agent.sources.port import LINES_PER_READ, Item, LogLine, Missed


class ScriptedSource:
    """Lines are said with `say` and read once, in order. Costs a deque while it is silent."""

    interval = 60.0

    def __init__(self, name: str = "kernel") -> None:
        self.name = name
        self._said: deque[Item] = deque()
        self._count = 0
        self._read = 0

    def say(self, at: float, message: str) -> None:
        """The kernel writes `message` at the domain time `at`."""
        self._count += 1
        self._said.append(LogLine(at, message.encode(), str(self._count)))

    def miss(self, reason: str, detail: str = "") -> None:
        """Lines went by unread."""
        self._count += 1
        self._said.append(Missed(reason, detail, str(self._count)))

    def start(self, position: str | None) -> None:
        self._read = int(position) if position is not None and position.isdecimal() else 0
        self._count = max(self._count, self._read)

    def read(self) -> Sequence[Item]:
        if not self._said:
            return ()
        items = [self._said.popleft() for _ in range(min(len(self._said), LINES_PER_READ))]
        self._read = int(items[-1].position)
        return items

    def position(self) -> str | None:
        return str(self._read)

    def fileno(self) -> int | None:
        return None

    def close(self) -> None:
        self._said.clear()
