"""What Ostler asks of whatever looks at a fabric. Called by `fabric/tasks.py`; `ground.py` makes it of `[fabrics]`.

A collector hands over what the tools printed, word for word, with what they complained of: an exit status of 0 proves
nothing. `fabric/collect.py` makes sweeps of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

MOST_BYTES = 512 << 20
"""Of one output; a cache file of 98,304 ports has 14 MB, opensm's list of them 37 MB."""
MOST_STDERR = 1 << 20


@dataclass(frozen=True, slots=True)
class Want:
    """How much to ask for."""

    counters: bool = False
    """Read the counters of all ports too. Never resets any."""
    around: tuple[tuple[int, ...], ...] = ()
    """Directed routes from the vantage: look only at what is at their ends and what that is plugged into, not at the
    whole fabric. `(0,)` is the vantage's own port, `(0, 1)` the leaf that it is plugged into; others end at switches.
    Needs neither a subnet manager nor LIDs."""


@dataclass(frozen=True, slots=True)
class Output:
    """One tool's output, or one file that something else wrote."""

    tool: str
    """`ibnetdiscover` (its text), `ibnetdiscover-cache`, `ibqueryerrors`, `iblinkinfo`, `opensm-subnet`, `sminfo`,
    `file` (a file whose format has to be found out)."""
    argv: tuple[str, ...]
    """The command; of a file, its path."""
    data: bytes
    stderr: str = ""
    status: int | None = 0
    """Exit status, negative for a signal; None: it was stopped by its deadline."""
    seconds: float = 0.0
    taken_at: float | None = None
    """UTC seconds when a file was written; None: during the collection."""


@dataclass(frozen=True, slots=True)
class Collection:
    """Everything of one look at the fabric."""

    vantage: str
    """Who looked: a host's name."""
    started_at: float
    """UTC seconds of real time."""
    seconds: float
    outputs: tuple[Output, ...]


class Collector(Protocol):
    """One vantage point."""

    @property
    def vantage(self) -> str: ...

    def collect(self, what: Want) -> Collection:
        """Look now. Takes seconds to minutes, never longer than its deadlines.

        Raises `BadInput` (a tool is missing, a setting makes no sense), `Forbidden` (the device may not be opened),
        `Unavailable` (no InfiniBand device now, stopped by `close`), `Unreachable` (the host with the tools). A tool
        that fails or hangs is no error: its `Output` says so, and what the others brought is handed over.
        """
        ...

    def close(self) -> None:
        """Stop what runs, from any thread."""
        ...
