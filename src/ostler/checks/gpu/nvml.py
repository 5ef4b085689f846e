"""What NVML knows about a GPU that CUDA does not: serial number, MIG, temperature, clocks, why clocks are held down.

nvidia-ml-py is optional: without it, or without a driver, every answer is None and the caller says what it could not
read. Used by `bench.py` for identity and by `thermal_soak.py` while it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

REASONS = {
    0x0000000000000008: "hw-slowdown",
    0x0000000000000020: "sw-thermal",
    0x0000000000000040: "hw-thermal",
    0x0000000000000080: "hw-power-brake",
}
"""Clocks-event reasons that a sound GPU in a sound room does not show (nvml.h, nvmlClocksEventReason*).

Idle (0x1), application clocks (0x2), the software power cap (0x4) and sync boost (0x10) are ordinary."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One GPU at one moment."""

    temperature_c: float
    sm_mhz: float
    power_w: float
    reasons: tuple[str, ...] = ()
    """Of REASONS only."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a GPU is called by the driver."""

    serial: str
    """The board's serial number, or the GPU's UUID where the board has none."""
    mig: bool
    driver: str


class Nvml:
    """An open NVML. `open_nvml` makes it."""

    def __init__(self, library: Any) -> None:
        self._nvml = library

    def identity(self, uuid: str) -> Identity | None:
        """Of the GPU with this UUID (as CUDA numbers may differ from NVML's); None when it cannot be read."""
        handle = self._handle(uuid)
        if handle is None:
            return None
        serial = self._ask(self._nvml.nvmlDeviceGetSerial, handle) or uuid
        mode = self._ask(self._nvml.nvmlDeviceGetMigMode, handle)
        driver = self._ask(self._nvml.nvmlSystemGetDriverVersion) or ""
        return Identity(_text(serial), bool(mode and mode[0]), _text(driver))

    def sample(self, uuid: str) -> Sample | None:
        """Temperature, clock, power and slowdown reasons now; None when they cannot be read."""
        handle = self._handle(uuid)
        if handle is None:
            return None
        nvml = self._nvml
        temperature = self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
        clock = self._ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM)
        ask = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        bits = self._ask(ask, handle)
        if temperature is None or clock is None or bits is None:
            return None
        power = self._ask(nvml.nvmlDeviceGetPowerUsage, handle) or 0
        held = tuple(name for bit, name in REASONS.items() if int(bits) & bit)
        return Sample(float(temperature), float(clock), float(power) / 1000, held)

    def _handle(self, uuid: str) -> Any:
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        return self._ask(self._nvml.nvmlDeviceGetHandleByUUID, name)

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except self._nvml.NVMLError:
            return None


def open_nvml() -> Nvml | None:
    """NVML, ready; None where the package, the library or the driver is missing."""
    try:
        library: Any = import_module("pynvml")
    except ImportError:
        return None
    try:
        library.nvmlInit()
    except library.NVMLError:
        return None
    return Nvml(library)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
