"""Services that the GPUs need: the fabric manager where there are NVSwitches, and what ran before.

Asked without D-Bus: a systemd service runs when its control group has a process. A driver that comes in a container
brings its services along, so a process of the service's name counts as well. Without systemd nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ostler.agent.monitors import sysfs
from ostler.agent.monitors.counting import Steady
from ostler.agent.monitors.port import Look
from ostler.agent.monitors.sysfs import Age
from ostler.faults.limits import Limits
from ostler.faults.model import Fault
from ostler.faults.monitored import fault

NAME = "services"
_NVIDIA = "0x10de"
_BRIDGE = "0x0680"
"""PCI class of an NVSwitch: bridge, other."""
_UNITS = ("etc/systemd/system", "run/systemd/system", "lib/systemd/system", "usr/lib/systemd/system")
_GROUPS = ("sys/fs/cgroup/system.slice", "sys/fs/cgroup/systemd/system.slice", "sys/fs/cgroup/unified/system.slice")
"""The second for control groups of version 1."""


@dataclass(frozen=True, slots=True)
class Service:
    """`command` as /proc/PID/comm cuts it."""

    name: str
    command: str


FABRIC_MANAGER = Service("nvidia-fabricmanager", "nv-fabricmanage")
WATCHED = (
    FABRIC_MANAGER,
    Service("nvidia-persistenced", "nvidia-persiste"),
    Service("nvidia-imex", "nvidia-imex"),
    Service("nvidia-dcgm", "nv-hostengine"),
)


class ServicesMonitor:
    """A `Monitor`. The names are those that the order `restart-service` takes."""

    name = NAME
    period_s = 15.0
    deadline_s = 10.0

    def __init__(self, root: Path = Path("/"), limits: Limits | None = None) -> None:
        self._root = root
        self._limits = limits or Limits()
        self._age = Age(root)
        self._ran: set[str] = set()
        self._down = {one.name: Steady(2, 2) for one in WATCHED}

    def look(self, now: float) -> Look:
        if not any(sysfs.present(self._root / folder) for folder in _GROUPS):
            return Look()  # no systemd: unsupported
        settled = self._age.at(now) >= self._limits.settle_s
        found: list[Fault] = []
        commands: set[str] | None = None
        for one in WATCHED:
            runs = self._in_group(one)
            needed = one.name in self._ran or (settled and self._is_needed(one))
            if not runs and needed:
                commands = self._commands() if commands is None else commands
                runs = one.command in commands
            if runs:
                self._ran.add(one.name)
            # A unit that was removed is wanted no more, unless the hardware needs it.
            wrong = needed and not runs and (self._is_installed(one) or self._is_needed(one))
            if self._down[one.name].see(wrong):
                why = "and there are NVSwitches" if one is FABRIC_MANAGER and self._switches() else "any more"
                found.append(fault("host-service-down", one.name, f"{one.name} does not run {why}"))
        return Look(tuple(found))

    def _is_needed(self, one: Service) -> bool:
        """Before it was seen running: by the hardware, or because systemd is told to start it."""
        if one is FABRIC_MANAGER and self._switches():
            return True
        return sysfs.present(self._root / f"etc/systemd/system/multi-user.target.wants/{one.name}.service")

    def _is_installed(self, one: Service) -> bool:
        return any(sysfs.present(self._root / folder / f"{one.name}.service") for folder in _UNITS)

    def _in_group(self, one: Service) -> bool:
        return any(self._has_process(self._root / folder / f"{one.name}.service") for folder in _GROUPS)

    def _has_process(self, group: Path) -> bool:
        return bool(sysfs.text(group / "cgroup.procs", 64))

    def _commands(self) -> set[str]:
        """What runs, by name; only asked when a service's control group is empty."""
        folder = self._root / "proc"
        return {
            sysfs.text(folder / process / "comm", 64) or "" for process in sysfs.names(folder) if process.isdecimal()
        }

    def _switches(self) -> bool:
        return any(True for _ in self._nvswitches())

    def _nvswitches(self) -> Iterator[str]:
        folder = self._root / "sys/bus/pci/devices"
        for address in sysfs.names(folder):
            kind = sysfs.text(folder / address / "class", 32) or ""
            if kind.startswith(_BRIDGE) and sysfs.text(folder / address / "vendor", 32) == _NVIDIA:
                yield address
