"""Which part a finding's device is, by the node's inventory: its serial number, its index, what a ticket asks for.

Pure; called by `policy.py`, `service.py` and the steps. Devices come as kernel lines, monitors and BMCs write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_PCI = re.compile(r"^(?:pci:)?(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})(?:\.[0-7])?(?=$|[^0-9a-z])")


def parent_gpu(device: str) -> str:
    """The PCI address in a device's name: a MIG instance (`0000:1b:00.0/gi3/ci0`) is its parent. Else as it is."""
    found = _PCI.match(device.lower())
    if found is None:
        return device
    return f"{found[1] or '0000'}:{found[2]}:{found[3]}"


def is_address(device: str) -> bool:
    """Whether a device is named by its PCI address."""
    return _PCI.match(device.lower()) is not None


def _address(device: str) -> tuple[int, str, str] | None:
    found = _PCI.match(device.lower())
    return None if found is None else (int(found[1] or "0", 16), found[2], found[3])


def gpu_index(inventory: Mapping[str, Any], device: str) -> int | None:
    """The place of a GPU in the order of the node's inventory; None for one that it does not list."""
    wanted = _address(device)
    if wanted is None:
        return None
    for index, gpu in enumerate(_rows(inventory, "gpus")):
        if _address(str(gpu.get("pci", ""))) == wanted:
            return index
    return None


def gpu_indices(inventory: Mapping[str, Any], devices: Iterable[str]) -> tuple[int, ...] | None:
    """The indices of all these GPUs, in order; None when one of them is not known: then the whole node is meant."""
    found = [gpu_index(inventory, device) for device in devices]
    if not found or any(one is None for one in found):
        return None
    return tuple(sorted({one for one in found if one is not None}))


def part_of(inventory: Mapping[str, Any], device: str) -> Mapping[str, Any] | None:
    """`{part, serial, model, place}` of a GPU, disk or adapter; None where the inventory does not have it."""
    index = gpu_index(inventory, device)
    if index is not None:
        gpu = _rows(inventory, "gpus")[index]
        return _part("gpu", gpu, f"GPU {index} at {gpu.get('pci', device)}")
    name = device.lower().removeprefix("/dev/").split("/")[0]
    for kind, key in (("disk", "disks"), ("nic", "nics"), ("psu", "psus")):
        for row in _rows(inventory, key):
            if name and (str(row.get("name", "")).lower() == name or str(row.get("pci", "")).lower() == device.lower()):
                return _part(kind, row, str(row.get("name", device)))
    return None


def serial_of(inventory: Mapping[str, Any], device: str, node_serial: str | None) -> str | None:
    """The serial number that repeats are counted by: the part's, else the node's."""
    part = part_of(inventory, device) if device else None
    return (part["serial"] or None if part is not None else None) or node_serial


def wanted(
    inventory: Mapping[str, Any], slot: str | None, node_serial: str | None, findings: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The replacement request of a ticket: a row per part that a finding names, with serial number and place.

    `findings`: rows with `fault`, `component`, `device`. A device that the inventory does not list is asked for by the
    name that the finding gives it.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for finding in findings:
        device = str(finding["device"])
        part = part_of(inventory, device) if device else None
        if part is None:
            named = str(finding["component"]) if device else "chassis"
            part = {"part": named, "serial": "" if device else node_serial or "", "model": "", "place": device}
        row = {**part, "slot": slot or "", "faults": [str(finding["fault"])]}
        key = (str(row["part"]), str(row["place"]))
        if key in rows:
            rows[key]["faults"] = list(dict.fromkeys([*rows[key]["faults"], *row["faults"]]))
        else:
            rows[key] = row
    return list(rows.values())


def _part(kind: str, row: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    return {"part": kind, "serial": str(row.get("serial", "")), "model": str(row.get("model", "")), "place": place}


def _rows(inventory: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    rows = inventory.get(key, ())
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list | tuple) else []
