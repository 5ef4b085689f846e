"""What a monitor is, and what the agent asks of all of them together. Called by `agent.py`; written by each monitor.

A monitor says what is wrong *now*: a level, not an edge. Whoever runs it compares with what stood before and reports
what is new and what is over. Windows, deltas and hysteresis are the monitor's own. Stdlib and nvidia-ml-py only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ostler.faults.model import Fault
from ostler.wire.agent import Readings, Signal


@dataclass(frozen=True, slots=True)
class Look:
    """One look of one monitor. What does not stand here is over; what cannot be looked at is raised, not left out."""

    standing: tuple[Fault, ...] = ()
    readings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Device → metric (names of `faults.metrics`) → value, for the fleet view; a metric that is not said is absent."""


class Monitor(Protocol):
    """One monitor. `look` may block for its deadline at most; it raises OSError when it cannot look at all."""

    @property
    def name(self) -> str: ...

    @property
    def period_s(self) -> float:
        """Domain seconds between two looks."""
        ...

    @property
    def deadline_s(self) -> float:
        """Real seconds after which a look counts as hung."""
        ...

    def look(self, now: float) -> Look:
        """`now` is monotonic domain seconds: only differences mean something."""
        ...


class Monitors(Protocol):
    """All monitors of a node as the agent steps them: never blocks. The real one talks to a child process."""

    def step(self, now: float) -> Sequence[Signal]:
        """What became wrong or ended since the last step, and each monitor's census, without sequences.

        Signals carry `detail["monitor"]`; one that ends a fault has `detail["over"]` true and severity info. A census
        (kind `monitor`, code `census`, device = the monitor's name, `detail["standing"]` = list of
        `FAULT@DEVICE`) is said by each monitor after its first look in the agent's life and after it was dead: the
        server ends what it does not name.
        """
        ...

    def readings(self) -> Readings | None:
        """The newest measurements of all GPUs, once per interval of the settings; None when there are none to send."""
        ...

    def worked(self) -> Mapping[str, float]:
        """Monitor → domain seconds since it last worked; -1: never did. Goes with each heartbeat."""
        ...

    def fileno(self) -> int | None:
        """A descriptor whose readability should end the agent's wait."""
        ...

    def close(self) -> None:
        """End the child; never waits for one that hangs in the kernel."""
        ...
