"""All monitors of the host: everything but the GPUs. Called by the monitors' process, and by tests over a tree."""

from __future__ import annotations

from pathlib import Path

from ostler.agent.monitors.baseline import Baseline
from ostler.agent.monitors.clock import ClockMonitor
from ostler.agent.monitors.disks import DisksMonitor
from ostler.agent.monitors.ethernet import EthernetMonitor
from ostler.agent.monitors.filesystems import FilesystemsMonitor
from ostler.agent.monitors.infiniband import InfinibandMonitor
from ostler.agent.monitors.memory import MemoryMonitor
from ostler.agent.monitors.port import Monitor
from ostler.agent.monitors.services import ServicesMonitor
from ostler.faults.limits import Limits


def monitors(root: Path = Path("/"), limits: Limits | None = None, keep: Path | None = None) -> list[Monitor]:
    """One of each. `keep` is the file in which HCAs, disks and memory are remembered over restarts (`baseline.py`)."""
    baseline = Baseline(root, keep)
    return [
        InfinibandMonitor(root, limits, baseline),
        EthernetMonitor(root, limits),
        ClockMonitor(root, limits),
        DisksMonitor(root, limits, baseline),
        FilesystemsMonitor(root, limits),
        MemoryMonitor(root, limits, baseline),
        ServicesMonitor(root, limits),
    ]
