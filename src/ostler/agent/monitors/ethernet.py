"""Physical Ethernet interfaces by /sys/class/net: a carrier that went away, or that comes and goes.

An interface without a carrier at the first look may have no cable by design. Bridges, bonds, virtual functions and
IPoIB are left out; an interface that moved into a container's network namespace cannot be watched from here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ostler.agent.monitors import sysfs
from ostler.agent.monitors.counting import Counter, Window
from ostler.agent.monitors.port import Look
from ostler.agent.monitors.sysfs import Age, Misses
from ostler.faults.limits import Limits
from ostler.faults.model import Fault
from ostler.faults.monitored import fault

NAME = "ethernet"
_ETHER = 1
"""ARPHRD_ETHER (linux/if_arp.h)."""
_IFF_UP = 1


class EthernetMonitor:
    """A `Monitor`."""

    name = NAME
    period_s = 10.0
    deadline_s = 10.0

    def __init__(self, root: Path = Path("/"), limits: Limits | None = None) -> None:
        self._folder = root / "sys/class/net"
        self._limits = limits or Limits()
        self._age = Age(root)
        self._misses = Misses(self._limits.gone_looks)
        self._interfaces: dict[str, _Interface] = {}

    def look(self, now: float) -> Look:
        """Raises `OSError` when interfaces are there and cannot be listed."""
        age = self._age.at(now)
        found: list[Fault] = []
        listed = [name for name in sysfs.names(self._folder) if self._is_physical(name)]
        for name in listed:
            one = self._interfaces.setdefault(name, _Interface(name, self._folder / name, self._limits))
            one.look(now, age)
            self._misses.found(name)
        for name, one in self._interfaces.items():
            if name not in listed and one.had_carrier and not one.moved() and self._misses.miss(name):
                found.append(fault("eth-carrier-down", name, f"{name} had a carrier, and the interface is gone"))
            elif name in listed:
                found += one.standing(now)
        return Look(tuple(found))

    def _is_physical(self, name: str) -> bool:
        folder = self._folder / name
        if not sysfs.present(folder / "device") or sysfs.present(folder / "device/physfn"):
            return False
        return sysfs.number(folder / "type") == _ETHER


class _Interface:
    def __init__(self, name: str, folder: Path, limits: Limits) -> None:
        self._name = name
        self._folder = folder
        self._device = os.path.realpath(folder / "device")
        self._limits = limits
        self.had_carrier = False
        self._since: float | None = None
        self._ups = 0
        self._down = False
        self._off = False
        self._losses = Counter()
        self._window = Window(limits.eth_losses_window_s)

    def moved(self) -> bool:
        """Its device is still there, so the interface is in another network namespace."""
        return sysfs.present(self._device)

    def look(self, now: float, age: float) -> None:
        carrier = sysfs.number(self._folder / "carrier")  # cannot be read while it is switched off
        flags = sysfs.number(self._folder / "flags")
        self._off = flags is not None and not flags & _IFF_UP
        if carrier == 1 and not self._off:
            self.had_carrier, self._since = True, None
            self._ups += 1
            self._down = self._down and self._ups < 2
        elif self.had_carrier:
            self._ups = 0
            self._since = now if self._since is None else self._since
            self._down = self._down or now - self._since >= self._limits.eth_down_s
        losses = sysfs.number(self._folder / "carrier_down_count")
        if losses is None:
            changes = sysfs.number(self._folder / "carrier_changes")
            losses = None if changes is None else changes // 2
        if losses is not None and losses >= 0:
            added = self._losses.read(losses)
            if age >= self._limits.ib_flap_grace_s and not self._losses.set_back:
                self._window.add(now, added)

    def standing(self, now: float) -> Iterator[Fault]:
        if self._down:
            why = "is switched off" if self._off else "has none"
            state = sysfs.text(self._folder / "operstate", 32) or "unknown"
            said = f"{self._name} had a carrier and {why}"
            yield fault("eth-carrier-down", self._name, said, detail={"state": state})
        if (losses := self._window.total(now)) >= self._limits.eth_losses:
            hours = self._limits.eth_losses_window_s / 3600
            times = f"{self._limits.eth_losses} times and more in {hours:g} h"
            yield fault(
                "eth-flapping", self._name, f"{self._name} lost its carrier {times}", detail={"losses": str(losses)}
            )
