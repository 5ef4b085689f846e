"""The agent's side of its monitors: when to ask them, what of theirs travels, and when. Used by agent.py alone.

What monitors say is bounded by their periods and is never folded: a fault that ends right after it began, or begins
again, is two facts, and in another order they would mean something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ostler.agent.monitors.port import Monitors
from ostler.core.clock import Clock
from ostler.wire.agent import AgentSettings, Readings, Signal

STEP_S = 5.0
"""Real seconds between two steps of monitors that live in a process of their own: a descriptor wakes the agent for
what they say, this for what they do not."""
EARLY = 0.25
"""Share of a heartbeat by which readings may come early, so that they do not wait for a whole further one."""


class Watch:
    """`None` for the monitors: there are none. `now` is monotonic real seconds, as everywhere in the agent."""

    def __init__(self, monitors: Monitors | None, clock: Clock, now: float) -> None:
        self._monitors = monitors
        self._clock = clock
        self._readings_due = now

    def step(self, now: float) -> Sequence[Signal]:
        """What to report."""
        return () if self._monitors is None else self._monitors.step(now / self._clock.real_seconds(1.0))

    def next_due(self, now: float) -> float:
        """When to step again if no descriptor wakes the agent first."""
        return now + STEP_S if self.fileno() is not None else float("inf")

    def fileno(self) -> int | None:
        return None if self._monitors is None else self._monitors.fileno()

    def worked(self) -> Mapping[str, float]:
        """For the heartbeat."""
        return {} if self._monitors is None else self._monitors.worked()

    def readings(self, now: float, settings: AgentSettings) -> Readings | None:
        """What goes with a heartbeat now, if it is time; the next are due `readings_s` later, taken or not: they are
        the newest only, and old ones are worth nothing."""
        early = self._clock.real_seconds(settings.heartbeat_s) * EARLY
        if self._monitors is None or now + early < self._readings_due:
            return None
        found = self._monitors.readings()
        if found is not None:
            self._readings_due = now + self._clock.real_seconds(settings.readings_s)
        return found

    def refused(self, until: float) -> None:
        """The server does not take these readings: none before `until`."""
        self._readings_due = until

    def close(self) -> None:
        if self._monitors is not None:
            self._monitors.close()
