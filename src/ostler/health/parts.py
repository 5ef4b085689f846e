"""Which part of a node a device name means: two names of one part are one part. Pure; for diagnosis and findings.

The kernel calls a GPU `PCI:0000:18:00`, NVML `00000000:18:00.0`; it calls an adapter `mlx5_core 0000:5e:00.0` where
sysfs says `mlx5_0/1`. What belongs together is known from the node's inventory, where it is known at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_PCI = re.compile(r"(?:pci:)?(?:[0-9a-f]*?([0-9a-f]{4}):)?([0-9a-f]{2}):([0-9a-f]{2})(?:\.[0-7])?$")
_NAMESPACE = re.compile(r"(nvme\d+)n\d+(?:p\d+)?$")


def part(device: str, inventory: Mapping[str, Any] | None = None) -> str:
    """The part that a device name means: a PCI address as `0000:18:00`, a disk by its controller, else the name."""
    name = device.strip().lower()
    if (found := _PCI.match(name)) is not None:
        return f"{found[1] or '0000'}:{found[2]}:{found[3]}"
    if (disk := _NAMESPACE.match(name)) is not None:
        return disk[1]
    name = name.split("/")[0]  # the port of an adapter, the sensor of a unit
    for nic in _items(inventory, "nics"):
        if name and str(nic.get("name", "")).lower() == name and nic.get("pci"):
            return _address(str(nic["pci"]))
    return name


def serial(component: str, device: str, inventory: Mapping[str, Any]) -> str | None:
    """The serial number of the part that a finding is about, as the node's inventory has it; None when it has none."""
    wanted = part(device, inventory)
    if not wanted:
        return None
    for kind, key in (("gpus", "pci"), ("nics", "pci"), ("disks", "name"), ("psus", "name")):
        for item in _items(inventory, kind):
            if part(str(item.get(key, ""))) == wanted and item.get("serial"):
                return str(item["serial"])
    return None


def changed_gpus(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(address, serial before, serial now) of GPUs whose serial number is another one; unknown ones are no change."""
    known = {part(str(gpu.get("pci", ""))): str(gpu.get("serial") or "") for gpu in _items(before, "gpus")}
    found = []
    for gpu in _items(now, "gpus"):
        address, said = part(str(gpu.get("pci", ""))), str(gpu.get("serial") or "")
        if address and said and known.get(address) and known[address] != said:
            found.append((address, known[address], said))
    return found


def _address(pci: str) -> str:
    found = _PCI.match(pci.lower())
    return pci.lower() if found is None else f"{found[1] or '0000'}:{found[2]}:{found[3]}"


def _items(inventory: Mapping[str, Any] | None, kind: str) -> Sequence[Mapping[str, Any]]:
    """The parts of a kind; an inventory is what a node said, so nothing about it is taken for granted."""
    items = (inventory or {}).get(kind, ())
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list | tuple) else ()
