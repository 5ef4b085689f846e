"""SKUs as documents: strict reading and plain writing. Pure; called by `api.py`, `store.py` and `ostler provision sku`.

gpus = 8                    # exact
gpu_model = "H100"          # contained in the model, ignoring case
cpus = 192                  # logical processors, exact
memory_gib = 2048
memory_tolerance = 0.05     # share of memory_gib
nics = 10                   # at least
disks = 10                  # at least
psus = 6                    # at least
order = ["HGX_FW_BMC_0", "BIOS"]      # default: as written
[firmware.BIOS]
version = "2.1.0"
image = "http://files/BIOS-2.1.0.fwpkg"
activation = "power-cycle"  # or "none", the default
fabric_adapter = false      # default: true for names that begin with hca, ib, mlx or connectx
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ostler.acceptance.model import Activation, FirmwareTarget, Sku
from ostler.core.errors import BadInput

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FABRIC = re.compile(r"(hca|ib|mlx|connectx)", re.IGNORECASE)
_COUNTS = ("gpus", "cpus", "nics", "disks", "psus")
_KEYS = frozenset({*_COUNTS, "gpu_model", "memory_gib", "memory_tolerance", "order", "firmware"})
_TARGET_KEYS = frozenset({"version", "image", "activation", "fabric_adapter"})
_MOST = 10_000


def parse(name: str, document: Any) -> Sku:
    """A SKU from a plain document. Raises `BadInput` naming the key that is wrong."""
    where = f"sku {name[:64]}"
    if not _NAME.fullmatch(name):
        raise BadInput("is no name for a SKU: letters, digits, '.', '_', '-', at most 64", where=where)
    if not isinstance(document, Mapping):
        raise BadInput("must be a table of keys", where=where)
    _known(document, _KEYS, where)
    counts = {key: _count(document.get(key), f"{where}: {key}") for key in _COUNTS}
    memory = _number(document.get("memory_gib"), f"{where}: memory_gib", 0.0, 1e6)
    tolerance = _number(document.get("memory_tolerance"), f"{where}: memory_tolerance", 0.0, 0.5)
    return Sku(
        name=name,
        gpu_model=_text(document.get("gpu_model", ""), f"{where}: gpu_model"),
        memory_gib=memory,
        memory_tolerance=0.05 if tolerance is None else tolerance,
        firmware=_firmware(document, where),
        **counts,
    )


def document(sku: Sku) -> dict[str, Any]:
    """The document that `parse` reads back to the same SKU."""
    found: dict[str, Any] = {key: getattr(sku, key) for key in _COUNTS if getattr(sku, key) is not None}
    if sku.gpu_model:
        found["gpu_model"] = sku.gpu_model
    if sku.memory_gib is not None:
        found |= {"memory_gib": sku.memory_gib, "memory_tolerance": sku.memory_tolerance}
    if sku.firmware:
        found["order"] = [target.component for target in sku.firmware]
        found["firmware"] = {
            target.component: {
                "version": target.version,
                "image": target.image,
                "activation": target.activation.value,
                "fabric_adapter": target.fabric_adapter,
            }
            for target in sku.firmware
        }
    return found


def _firmware(document: Mapping[str, Any], where: str) -> tuple[FirmwareTarget, ...]:
    declared = document.get("firmware", {})
    if not isinstance(declared, Mapping):
        raise BadInput("must be a table of components", where=f"{where}: firmware")
    order = document.get("order", list(declared))
    if not isinstance(order, list) or not all(isinstance(name, str) for name in order):
        raise BadInput("must be a list of components", where=f"{where}: order")
    if sorted(order) != sorted(map(str, declared)):
        raise BadInput("must name every component of 'firmware' once", where=f"{where}: order")
    return tuple(_target(name, declared[name], f"{where}: firmware.{name}") for name in order)


def _target(component: str, entry: Any, where: str) -> FirmwareTarget:
    if not isinstance(entry, Mapping):
        raise BadInput("must be a table with at least 'version'", where=where)
    _known(entry, _TARGET_KEYS, where)
    version = _text(entry.get("version", ""), f"{where}.version").strip()
    if not version:
        raise BadInput("is missing", where=f"{where}.version")
    image = _text(entry.get("image", ""), f"{where}.image")
    if image and not image.startswith(("http://", "https://")):
        raise BadInput("must be an http:// or https:// URL that the BMC can fetch", where=f"{where}.image")
    try:
        activation = Activation(entry.get("activation", Activation.NONE))
    except ValueError:
        raise BadInput(f"must be one of {', '.join(Activation)}", where=f"{where}.activation") from None
    adapter = entry.get("fabric_adapter", _FABRIC.match(component) is not None)
    if not isinstance(adapter, bool):
        raise BadInput("must be true or false", where=f"{where}.fabric_adapter")
    return FirmwareTarget(component, version, image, activation, adapter)


def _known(document: Mapping[str, Any], keys: frozenset[str], where: str) -> None:
    for name in document:
        if name not in keys:
            raise BadInput(f"the key '{str(name)[:64]}' is not one of {', '.join(sorted(keys))}", where=where)


def _count(value: Any, where: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise BadInput(f"must be a whole number from 0 to {_MOST}", where=where)
    return value


def _number(value: Any, where: str, least: float, most: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise BadInput(f"must be a number from {least:g} to {most:g}", where=where)
    return float(value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > 1024 or "\0" in value:
        raise BadInput("must be text of at most 1024 characters", where=where)
    return value
