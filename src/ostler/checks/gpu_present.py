"""Counts the NVIDIA GPUs on the PCI bus: the one GPU check that needs no driver.

A GPU that fell off the bus reads as all ones, its class file included, so such a device is not counted.
"""

from __future__ import annotations

from pathlib import Path

from ostler.checks.model import Arguments, CheckResult, CheckVerdict, number

PCI = Path("/sys/bus/pci/devices")
NVIDIA = "0x10de"
GPU_CLASSES = ("0x0300", "0x0302")
"""VGA controller, 3D controller (PCI Code and ID Assignment Specification, base class 03h)."""


def nvidia_gpus(pci: Path = PCI) -> list[str]:
    """PCI addresses of the GPUs that answer, sorted."""
    found = []
    for device in sorted(pci.iterdir()) if pci.is_dir() else ():
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except (OSError, UnicodeDecodeError):
            continue
        if vendor == NVIDIA and kind.startswith(GPU_CLASSES):
            found.append(device.name)
    return found


def run(arguments: Arguments, budget_s: float, pci: Path = PCI) -> CheckResult:
    """Compares with `expected`; without it, or on a machine without PCI, inconclusive."""
    found = nvidia_gpus(pci)
    measured: dict[str, str | int | float | bool] = {"found": len(found), "addresses": " ".join(found)}
    if "expected" not in arguments:
        return CheckResult("gpu-present", CheckVerdict.INCONCLUSIVE, measured, "nobody said how many to expect")
    expected = int(number(arguments, "expected", 0, 0, 64))
    measured["expected"] = expected
    if not pci.is_dir():
        return CheckResult("gpu-present", CheckVerdict.INCONCLUSIVE, measured, f"unsupported: {pci} is not here")
    if len(found) != expected:
        message = f"{len(found)} of {expected} GPUs are on the PCI bus"
        return CheckResult("gpu-present", CheckVerdict.FAILED, measured, message)
    return CheckResult("gpu-present", CheckVerdict.PASSED, measured)
