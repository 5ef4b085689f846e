"""From what agent and BMC report to one list of parts with serial numbers: pure. Called by `service.py` and the bundle.

Where both know a part, the BMC's serial number stands beside the agent's: a disagreement is for people to see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ostler.breakfix.model import Part


def parts_of(inventory: Mapping[str, Any], bmc: Mapping[str, Any], firmware: Mapping[str, Any]) -> list[Part]:
    """`inventory` as wire.agent.Inventory has it, `bmc` and `firmware` as `bmc_watch` keeps them; any may be empty."""
    found = [*_agent(inventory), *_bmc(bmc)]
    named = {part.name for part in found}
    found += [Part("firmware", name, firmware=str(version), source="bmc") for name, version in sorted(firmware.items())]
    said = inventory.get("firmware")
    for name, version in sorted(said.items()) if isinstance(said, Mapping) else ():
        if name not in named:
            found.append(Part("firmware", str(name), firmware=str(version)))
    return found


def serial_of(parts: list[Part], kind: str, name: str) -> str:
    """The serial number of the part of this kind that is called so (a PCI address without function counts), or ""."""
    for part in parts:
        if (
            part.kind == kind
            and part.serial
            and part.name.lower().removesuffix(".0") == name.lower().removesuffix(".0")
        ):
            return part.serial
    return ""


def _agent(inventory: Mapping[str, Any]) -> Iterator[Part]:
    system = _table(inventory.get("system"))
    if system:
        model = f"{system.get('manufacturer', '')} {system.get('model', '')}".strip()
        yield Part("chassis", "system", model, _text(system.get("serial")))
    if board := _text(system.get("board_serial")):
        yield Part("baseboard", "board", serial=board)
    for gpu in _list(inventory.get("gpus")):
        yield Part(
            "gpu", _text(gpu.get("pci")), _text(gpu.get("model")), _text(gpu.get("serial")), _text(gpu.get("vbios"))
        )
    for nic in _list(inventory.get("nics")):
        yield Part(
            "nic", _text(nic.get("name")), _text(nic.get("pci")), _text(nic.get("mac")), _text(nic.get("firmware"))
        )
    for disk in _list(inventory.get("disks")):
        yield Part("disk", _text(disk.get("name")), _text(disk.get("model")), _text(disk.get("serial")))
    for psu in _list(inventory.get("psus")):
        yield Part("psu", _text(psu.get("name")))


def _bmc(inventory: Mapping[str, Any]) -> Iterator[Part]:
    identity = _table(inventory.get("identity"))
    if identity:
        model = f"{identity.get('manufacturer', '')} {identity.get('model', '')}".strip()
        yield Part("chassis", "bmc", model, _text(identity.get("serial")), source="bmc")
    for kind, key in (("baseboard", "boards"), ("cpu", "cpus"), ("gpu", "gpus"), ("nic", "nics"), ("psu", "psus")):
        for one in _list(inventory.get(key)):
            serial = _text(one.get("serial")) or (_text(one.get("mac")) if kind == "nic" else "")
            yield Part(kind, _text(one.get("name")), _text(one.get("model")), serial, source="bmc")
    for drive in _list(inventory.get("drives")):
        yield Part(
            "disk", _text(drive.get("name")), _text(drive.get("model")), _text(drive.get("serial")), source="bmc"
        )


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list | tuple) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
