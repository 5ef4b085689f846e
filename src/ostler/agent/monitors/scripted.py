"""Monitors that a program speaks: the twin's hardware, and the source of tests. Costs a few dictionaries while quiet.

What stands is set as a level, as a real monitor finds it; the comparison, the census and the deadness are those of the
real ones (rounds.py). A monitor works on its own, as often as the agent steps, until it is killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ostler.agent.monitors.port import Look
from ostler.agent.monitors.rounds import Rounds, table
from ostler.core.clock import Clock
from ostler.faults.metrics import METRICS
from ostler.faults.model import Fault
from ostler.wire.agent import Readings, Signal

NAMES = ("gpu", "infiniband", "ethernet", "clock", "disks", "filesystems", "memory", "services")
PERIOD_S = 30.0


class ScriptedMonitors:
    """A `Monitors` without a process."""

    def __init__(self, clock: Clock, names: Sequence[str] = NAMES, period_s: float = PERIOD_S) -> None:
        self._rounds = Rounds(clock.now)
        self._names = tuple(names)
        self._period_s = period_s
        self._standing: dict[str, dict[tuple[str, str], Fault]] = {name: {} for name in names}
        self._readings: dict[str, dict[str, float]] = {}
        self._dead: dict[str, str] = {}
        self._now = 0.0
        self._begun = False

    # ── the script ───────────────────────────────────────────────────────────────────────────────────────────────────

    def stand(self, monitor: str, *faults: Fault) -> None:
        """These begin to stand; others of that monitor go on. Raises KeyError for an unknown monitor."""
        for found in faults:
            self._standing[monitor][(f"{found.kind.value}-{found.code}", found.device)] = found

    def end(self, monitor: str, name: str | None = None, device: str | None = None) -> None:
        """The fault `name` (kind and code, joined by a dash; None: any) ends, on one device or on all."""
        gone = [
            key
            for key in self._standing[monitor]
            if (name is None or key[0] == name) and (device is None or key[1] == device)
        ]
        for key in gone:
            del self._standing[monitor][key]

    def measure(self, readings: Mapping[str, Mapping[str, float]]) -> None:
        """What the GPUs read from now on: device → metric → value; devices that are not named keep theirs."""
        for device, values in readings.items():
            self._readings.setdefault(device, {}).update(values)

    def forget(self, devices: Iterable[str]) -> None:
        """These GPUs say nothing any more."""
        for device in devices:
            self._readings.pop(device, None)

    def kill(self, monitor: str, reason: str = "") -> None:
        """It dies: at once with a reason, or (without) by not working for two periods."""
        self._dead[monitor] = reason
        if reason:
            self._rounds.failed(monitor, reason)

    def revive(self, monitor: str) -> None:
        """It works again with the next step."""
        self._dead.pop(monitor, None)

    # ── Monitors ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def step(self, now: float) -> Sequence[Signal]:
        self._now = now
        if not self._begun:
            self._begun = True
            for name in self._names:
                self._rounds.expect(name, self._period_s, now)
        for name in self._names:
            if name not in self._dead:
                readings = self._readings if name == "gpu" else {}
                self._rounds.looked(name, Look(tuple(self._standing[name].values()), readings), now)
        return self._rounds.step(now)

    def readings(self) -> Readings | None:
        return table(self._rounds.readings(), METRICS)

    def worked(self) -> Mapping[str, float]:
        return self._rounds.worked(self._now)

    def fileno(self) -> int | None:
        """None: whoever sets something polls the agent, or its next heartbeat finds it."""
        return None

    def close(self) -> None:
        """Nothing to end."""
