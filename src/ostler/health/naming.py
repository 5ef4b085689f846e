"""The names of faults and devices in findings, whatever spelling a witness has. Pure; for diagnosis and levels."""

from __future__ import annotations

from functools import lru_cache

from ostler.health.model import Observed
from ostler.health.rules import GPU_LOST


def fault_of(signal: Observed) -> str:
    """The fault's name: `xid-79` and the driver's own words for it are both `gpu-off-bus`."""
    return fault_name(signal.kind, signal.code, signal.device)[0]


def device_of(signal: Observed) -> str:
    """The device in one spelling: lower case, without the driver's `PCI:` and the function `.0`."""
    return fault_name(signal.kind, signal.code, signal.device)[1]


@lru_cache(maxsize=8192)
def fault_name(kind: str, code: str, device: str) -> tuple[str, str]:
    """(fault, device) as findings have them."""
    name = f"{kind}-{code}" if code else str(kind)
    name = GPU_LOST if name in ("xid-79", "gpu-off-bus", "gpu-off-bus-79") else name
    return name, device.lower().removeprefix("pci:").removesuffix(".0")
