"""The progress of the demo: a live display when a person watches, plain lines when not. Used by `cli/demo.py`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ostler.demo.account import Transition

_STATES = ("discovered", "onboard", "seatrial", "zap", "test", "production", "reboot", "triage")
_LATEST = 10


class Watch(Protocol):
    """Shown as the demo goes on."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def say(self, sentence: str) -> None:
        """A new chapter."""
        ...

    def progress(self, states: Counter[str], latest: Sequence[Transition], clock: str) -> None:
        """How many nodes are where, and what moved last."""
        ...


class Quiet:
    """One line per chapter on standard error; nothing with `--json`."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to let go."""

    def say(self, sentence: str) -> None:
        if not self._silent:
            sys.stderr.write(f"{sentence}\n")
            sys.stderr.flush()

    def progress(self, states: Counter[str], latest: Sequence[Transition], clock: str) -> None:
        """Only a terminal shows it."""


class Lively:
    """A display that is redrawn in place."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._chapters: list[str] = []
        self._live = Live(console=self._console, refresh_per_second=5, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, sentence: str) -> None:
        self._console.print(sentence)

    def progress(self, states: Counter[str], latest: Sequence[Transition], clock: str) -> None:
        counts = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        total = max(1, states.total())
        shown = [*_STATES, *(state for state in states if state not in _STATES)]
        for state in shown:
            counts.add_row(state, str(states[state]), Text("█" * round(40 * states[state] / total), style="green"))
        moves = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        for one in reversed(latest[-_LATEST:]):
            moves.add_row(one.node, f"{one.start or ''} → {one.to}", Text((one.reason or one.cause)[:80], style="dim"))
        self._live.update(Group(Text(clock, style="bold"), counts, Text(""), moves))
