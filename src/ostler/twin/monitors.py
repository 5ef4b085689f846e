"""What a simulated node's monitors find, whichever boot it is in: faults that stand, readings, a dead monitor.

The strikes set it from any thread; the machine's own thread brings the agent's monitors up to it before each step.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Mapping, Sequence

from ostler.agent.monitors.scripted import NAMES, ScriptedMonitors
from ostler.core.clock import Clock
from ostler.faults.model import Fault, Kind
from ostler.faults.monitored import MONITORED
from ostler.twin.spec import GPU_ADDRESSES, NodeSpec

MONITORS = NAMES
_BY_KIND = {Kind.GPU: "gpu", Kind.IB: "infiniband", Kind.ETH: "ethernet"}
_BY_WORD = {"clock": "clock", "disk": "disks", "fs": "filesystems", "memory": "memory", "service": "services"}
_NOBODYS = frozenset({"gpu-slower-than-peers"})
"""Found by the server, from the readings."""

# metric: (idle, at work)
_TYPICAL: Mapping[str, tuple[float, float]] = {
    "temperature_c": (33.0, 61.0),
    "memory_temperature_c": (41.0, 72.0),
    "temperature_margin_c": (54.0, 26.0),
    "power_w": (118.0, 640.0),
    "power_limit_w": (700.0, 700.0),
    "sm_clock_mhz": (345.0, 1980.0),
    "memory_clock_mhz": (2619.0, 2619.0),
    "utilisation": (0.0, 0.98),
    "memory_utilisation": (0.0, 0.55),
    "memory_used": (0.01, 0.86),
    "pcie_replays_per_h": (0.0, 0.0),
    "nvlink_errors_per_h": (0.0, 0.0),
    "ecc_corrected_per_h": (0.0, 0.0),
    "ecc_uncorrected_per_h": (0.0, 0.0),
    "slowdown_share": (0.0, 0.0),
}
"""What an H100 of 700 W reads, roughly: figures of a simulation, from no particular machine."""
_SPREAD = 0.02
"""How far temperature and power of two good GPUs differ, as a share."""
_VARIES = frozenset({"temperature_c", "memory_temperature_c", "power_w"})


def monitor_of(name: str) -> str | None:
    """Which of a node's monitors finds a fault; None for what no monitor of a node does."""
    row = MONITORED.get(name)
    if row is None or name in _NOBODYS:
        return None
    return _BY_KIND.get(row.kind) or (_BY_WORD.get(row.code.split("-")[0]) if row.kind is Kind.HOST else None)


class TwinMonitors:
    """One machine's. Thread-safe, except that `booted` and `apply` are its own thread's."""

    def __init__(self, spec: NodeSpec, clock: Clock) -> None:
        self._spec = spec
        self._clock = clock
        self._lock = threading.Lock()
        self._standing: tuple[Fault, ...] = ()
        self._dead = ""
        self._otherwise: Mapping[str, Mapping[str, float]] = {}
        self._works = False
        self._changed = True
        self._monitors: ScriptedMonitors | None = None

    def stand(self, faults: Sequence[Fault]) -> None:
        """These stand from now on, in this boot and the next, and nothing else does."""
        with self._lock:
            self._standing, self._changed = tuple(faults), True

    def kill(self, monitor: str) -> None:
        """This one works no more; an empty name: all do."""
        with self._lock:
            self._dead, self._changed = monitor, True

    def read(self, otherwise: Mapping[str, Mapping[str, float]]) -> None:
        """Device → metric → value that a GPU reads instead of what is typical."""
        with self._lock:
            self._otherwise, self._changed = otherwise, True

    def work(self, on: bool) -> None:
        """The GPUs are busy, or idle."""
        with self._lock:
            self._works, self._changed = on, True

    def booted(self) -> ScriptedMonitors:
        """The monitors of a new boot's agent."""
        self._monitors = ScriptedMonitors(self._clock)
        with self._lock:
            self._changed = True
        self.apply()
        return self._monitors

    def apply(self) -> None:
        """Brings the running agent's monitors up to what holds now."""
        with self._lock:
            if not self._changed or self._monitors is None:
                return
            self._changed = False
            standing, dead, readings = self._standing, self._dead, self._readings()
        for name in MONITORS:
            self._monitors.end(name)
            if name == dead:
                self._monitors.kill(name)
            else:
                self._monitors.revive(name)
        for found in standing:
            if (whose := monitor_of(f"{found.kind.value}-{found.code}")) is not None:
                self._monitors.stand(whose, found)
        self._monitors.measure(readings)

    def _readings(self) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for device, serial in zip(GPU_ADDRESSES, self._spec.gpu_serials, strict=True):
            share = 1.0 + (zlib.crc32(serial.encode()) % 1000 / 1000 - 0.5) * 2 * _SPREAD
            typical = {name: pair[self._works] * (share if name in _VARIES else 1.0) for name, pair in _TYPICAL.items()}
            found[device] = {**typical, **self._otherwise.get(device, {})}
        return found
