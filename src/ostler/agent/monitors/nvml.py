"""NVML as one function: what a GPU says of itself now. The only module that speaks to nvidia-ml-py; used by gpu.py.

Every part that a GPU or a driver does not support is None and nothing more. What means that the whole GPU or the whole
driver does not answer is raised: `Lost`, `DriverFault`. Calls block in the driver; gpu.py sees to that.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pynvml

T = TypeVar("T")

LINKS = 18
"""NVLinks of the largest GPU so far (Hopper and Blackwell)."""
SLOWDOWN = {0x08: "hardware", 0x40: "thermal", 0x80: "power brake"}
"""Bits of the clocks-event reasons by which the hardware slows itself down (nvml.h, nvmlClocksEventReasons)."""

_LOST = frozenset({pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED})
_NO_DRIVER = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)
_F = pynvml
_RECOVERIES = (_F.NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY, _F.NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY)
_RECOVERIES_5 = (_F.NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_EVENTS,)
"""NVLink 5 counts its recoveries elsewhere; a GPU answers one of the two."""
_CRC = (_F.NVML_FI_DEV_NVLINK_ERROR_DL_CRC,)
_ALL_LINKS = 0xFFFFFFFF
_HEALTH = (
    ("degraded bandwidth", _F.NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_DEGRADED_BW),
    ("route recovery", _F.NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_ROUTE_RECOVERY),
    ("route unhealthy", _F.NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_ROUTE_UNHEALTHY),
    ("access timeout recovery", _F.NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_ACCESS_TIMEOUT_RECOVERY),
)


class Lost(OSError):
    """The driver lists the GPU and cannot talk to it."""


class DriverFault(OSError):
    """The driver, or its library, does not answer at all."""

    def __init__(self, message: str, *, mismatch: bool = False) -> None:
        super().__init__(message)
        self.mismatch = mismatch
        """Library and kernel module are of different versions: the driver was replaced under us."""


@dataclass(slots=True)
class Link:
    """One NVLink. Counters since the driver was loaded."""

    active: bool
    recoveries: int | None = None
    crc: int | None = None


@dataclass(slots=True)
class Fabric:
    """How the GPU stands with its NVLink fabric."""

    state: str
    """not-started, in-progress or completed"""
    status: str = ""
    """Why registration failed; empty: it did not."""
    unhealthy: tuple[str, ...] = ()


@dataclass(slots=True)
class Sample:
    """One look at one GPU. None: it does not say. °C, watts, MHz, bytes; counters as the driver has them."""

    serial: str | None = None
    uuid: str | None = None
    vbios: str | None = None
    model: str | None = None
    mig: bool = False
    temperature: float | None = None
    slowdown_at: float | None = None
    shutdown_at: float | None = None
    memory_temperature: float | None = None
    memory_limit: float | None = None
    margin: float | None = None
    power: float | None = None
    power_limit: float | None = None
    power_default: float | None = None
    energy_j: float | None = None
    sm_clock: float | None = None
    memory_clock: float | None = None
    utilisation: float | None = None
    memory_utilisation: float | None = None
    memory_used: float | None = None
    memory_total: float | None = None
    reasons: int | None = None
    pcie_gen: int | None = None
    pcie_gen_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    pcie_tx: float | None = None
    pcie_rx: float | None = None
    pcie_replays: int | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    ecc_uncorrected_ever: int | None = None
    sram_exceeded: bool | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    pages_pending: bool | None = None
    pages_retired: int | None = None
    gsp: bool | None = None
    gsp_default: bool | None = None
    gsp_version: str | None = None
    persistence: bool | None = None
    fabric: Fabric | None = None
    links: dict[int, Link] = field(default_factory=dict)
    nvlink_tx_kib: float | None = None
    nvlink_rx_kib: float | None = None


def start() -> None:
    """Loads the library and opens the driver. Raises DriverFault."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        mismatch = error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
        raise DriverFault(f"NVML cannot start: {error}", mismatch=mismatch) from None


def stop() -> None:
    """Closes the driver; harmless when it is closed."""
    try:
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return


def listed(address: str) -> Any:
    """The handle of the GPU at a PCI address; None when the driver does not list it. Raises Lost, DriverFault."""
    try:
        return pynvml.nvmlDeviceGetHandleByPciBusId(address.encode())
    except pynvml.NVMLError as error:
        if error.value in (pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_INVALID_ARGUMENT):
            return None
        raise _raised(error) from None


def _raised(error: Any) -> OSError:
    if error.value in _NO_DRIVER:
        return DriverFault(str(error), mismatch=error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    return Lost(str(error))


def _ask(function: Callable[..., T], *arguments: object) -> T | None:
    """None where there is no answer to this one question. Raises Lost or DriverFault for what is no answer at all."""
    try:
        return function(*arguments)
    except pynvml.NVMLError as error:
        if error.value in _LOST or error.value in _NO_DRIVER:
            raise _raised(error) from None
        return None


def _text(value: str | bytes | None) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _scaled(value: int | None, unit: float) -> float | None:
    return None if value is None else value / unit


def sample(handle: Any) -> Sample:
    """About 60 calls. Raises Lost and DriverFault."""
    found = Sample(
        serial=_text(_ask(_F.nvmlDeviceGetSerial, handle)),
        uuid=_text(_ask(_F.nvmlDeviceGetUUID, handle)),
        vbios=_text(_ask(_F.nvmlDeviceGetVbiosVersion, handle)),
        model=_text(_ask(_F.nvmlDeviceGetName, handle)),
    )
    mig = _ask(_F.nvmlDeviceGetMigMode, handle)
    found.mig = mig is not None and mig[0] == 1
    _heat(found, handle)
    _work(found, handle)
    _bus(found, handle)
    _memory(found, handle)
    _firmware(found, handle)
    _links(found, handle)
    return found


def _heat(found: Sample, handle: Any) -> None:
    found.temperature = _ask(_F.nvmlDeviceGetTemperatureV, handle, _F.NVML_TEMPERATURE_GPU)
    if found.temperature is None:
        found.temperature = _ask(_F.nvmlDeviceGetTemperature, handle, _F.NVML_TEMPERATURE_GPU)
    limit = _F.nvmlDeviceGetTemperatureThreshold
    found.slowdown_at = _ask(limit, handle, _F.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
    found.shutdown_at = _ask(limit, handle, _F.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN)
    found.memory_limit = _ask(limit, handle, _F.NVML_TEMPERATURE_THRESHOLD_MEM_MAX)
    found.margin = _ask(_F.nvmlDeviceGetMarginTemperature, handle)
    if found.margin is None and found.temperature is not None and found.slowdown_at is not None:
        found.margin = found.slowdown_at - found.temperature
    found.power = _scaled(_ask(_F.nvmlDeviceGetPowerUsage, handle), 1000)
    found.power_limit = _scaled(_ask(_F.nvmlDeviceGetEnforcedPowerLimit, handle), 1000)
    found.power_default = _scaled(_ask(_F.nvmlDeviceGetPowerManagementDefaultLimit, handle), 1000)
    found.energy_j = _scaled(_ask(_F.nvmlDeviceGetTotalEnergyConsumption, handle), 1000)


def _work(found: Sample, handle: Any) -> None:
    found.sm_clock = _ask(_F.nvmlDeviceGetClockInfo, handle, _F.NVML_CLOCK_SM)
    found.memory_clock = _ask(_F.nvmlDeviceGetClockInfo, handle, _F.NVML_CLOCK_MEM)
    rates = _ask(_F.nvmlDeviceGetUtilizationRates, handle)
    if rates is not None:
        found.utilisation, found.memory_utilisation = rates.gpu / 100, rates.memory / 100
    memory = _ask(_F.nvmlDeviceGetMemoryInfo, handle)
    if memory is not None and memory.total:
        found.memory_used, found.memory_total = memory.used / memory.total, float(memory.total)
    found.reasons = _ask(_F.nvmlDeviceGetCurrentClocksEventReasons, handle)
    if found.reasons is None:  # drivers before R535 know the former name only
        found.reasons = _ask(_F.nvmlDeviceGetCurrentClocksThrottleReasons, handle)


def _bus(found: Sample, handle: Any) -> None:
    found.pcie_gen = _ask(_F.nvmlDeviceGetCurrPcieLinkGeneration, handle)
    found.pcie_gen_max = _ask(_F.nvmlDeviceGetMaxPcieLinkGeneration, handle)
    found.pcie_width = _ask(_F.nvmlDeviceGetCurrPcieLinkWidth, handle)
    found.pcie_width_max = _ask(_F.nvmlDeviceGetMaxPcieLinkWidth, handle)
    found.pcie_tx = _scaled(_ask(_F.nvmlDeviceGetPcieThroughput, handle, _F.NVML_PCIE_UTIL_TX_BYTES), 1000)
    found.pcie_rx = _scaled(_ask(_F.nvmlDeviceGetPcieThroughput, handle, _F.NVML_PCIE_UTIL_RX_BYTES), 1000)
    found.pcie_replays = _ask(_F.nvmlDeviceGetPcieReplayCounter, handle)


def _memory(found: Sample, handle: Any) -> None:
    ecc = _F.nvmlDeviceGetTotalEccErrors
    corrected, uncorrected = _F.NVML_MEMORY_ERROR_TYPE_CORRECTED, _F.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    found.ecc_corrected = _ask(ecc, handle, corrected, _F.NVML_VOLATILE_ECC)
    found.ecc_uncorrected = _ask(ecc, handle, uncorrected, _F.NVML_VOLATILE_ECC)
    found.ecc_uncorrected_ever = _ask(ecc, handle, uncorrected, _F.NVML_AGGREGATE_ECC)
    status = _F.c_nvmlEccSramErrorStatus_v1_t()
    if _ask(_F.nvmlDeviceGetSramEccErrorStatus, handle, ctypes.byref(status)) is not None:
        found.sram_exceeded = bool(status.bThresholdExceeded)
    rows = _ask(_F.nvmlDeviceGetRemappedRows, handle)
    if rows is not None:
        found.remap_pending, found.remap_failed = bool(rows[2]), bool(rows[3])
        return  # a GPU that remaps rows retires no pages
    pending = _ask(_F.nvmlDeviceGetRetiredPagesPendingStatus, handle)
    found.pages_pending = None if pending is None else bool(pending)
    causes = (
        _F.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS,
        _F.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
    )
    pages = [_ask(_F.nvmlDeviceGetRetiredPages, handle, cause) for cause in causes]
    if any(retired is not None for retired in pages):
        found.pages_retired = sum(len(retired) for retired in pages if retired is not None)


def _firmware(found: Sample, handle: Any) -> None:
    mode = _ask(_F.nvmlDeviceGetGspFirmwareMode, handle)
    if mode is not None:
        found.gsp, found.gsp_default = bool(mode[0]), bool(mode[1])
        if found.gsp:
            found.gsp_version = _text(_ask(_F.nvmlDeviceGetGspFirmwareVersion, handle))
    persistence = _ask(_F.nvmlDeviceGetPersistenceMode, handle)
    found.persistence = None if persistence is None else bool(persistence)
    found.fabric = _fabric(handle)


def _fabric(handle: Any) -> Fabric | None:
    info = _F.c_nvmlGpuFabricInfo_v2_t()
    mask = 0
    if _ask(_F.nvmlDeviceGetGpuFabricInfoV, handle, ctypes.byref(info)) is not None:
        mask = info.healthMask
    else:
        info = _F.c_nvmlGpuFabricInfo_t()
        if _ask(_F.nvmlDeviceGetGpuFabricInfo, handle, ctypes.byref(info)) is None:
            return None
    if info.state == _F.NVML_GPU_FABRIC_STATE_COMPLETED:
        status = "" if info.status == _F.NVML_SUCCESS else str(_F.NVMLError(info.status))
        unhealthy = tuple(what for what, shift in _HEALTH if (mask >> shift) & 0x3 == 1)
        return Fabric("completed", status, unhealthy)
    if info.state == _F.NVML_GPU_FABRIC_STATE_NOT_STARTED:
        return Fabric("not-started")
    if info.state == _F.NVML_GPU_FABRIC_STATE_IN_PROGRESS:
        return Fabric("in-progress")
    return None


def _links(found: Sample, handle: Any) -> None:
    for number in range(LINKS):
        active = _ask(_F.nvmlDeviceGetNvLinkState, handle, number)
        if active is None:
            break
        found.links[number] = Link(bool(active))
    used = [number for number, link in found.links.items() if link.active]
    kinds = (*_RECOVERIES, *_RECOVERIES_5, *_CRC)
    asked = [(_F.NVML_FI_DEV_MEMORY_TEMP, 0)]
    if used:
        asked += [
            (_F.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, _ALL_LINKS),
            (_F.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, _ALL_LINKS),
            *((kind, number) for number in used for kind in kinds),
        ]
    answers = _fields(handle, asked)
    found.memory_temperature = answers.get((_F.NVML_FI_DEV_MEMORY_TEMP, 0))
    found.nvlink_tx_kib = answers.get((_F.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, _ALL_LINKS))
    found.nvlink_rx_kib = answers.get((_F.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, _ALL_LINKS))
    for number in used:
        link = found.links[number]
        link.recoveries = _sum(answers, number, (*_RECOVERIES, *_RECOVERIES_5))
        link.crc = _sum(answers, number, _CRC)
        if link.recoveries is None and link.crc is None:
            _older(link, handle, number)


def _older(link: Link, handle: Any, number: int) -> None:
    """Drivers before R530 have these counters in a call of their own."""
    ask = _F.nvmlDeviceGetNvLinkErrorCounter
    replay = _ask(ask, handle, number, _F.NVML_NVLINK_ERROR_DL_REPLAY)
    recovery = _ask(ask, handle, number, _F.NVML_NVLINK_ERROR_DL_RECOVERY)
    if replay is not None or recovery is not None:
        link.recoveries = (replay or 0) + (recovery or 0)
    link.crc = _ask(ask, handle, number, _F.NVML_NVLINK_ERROR_DL_CRC_FLIT)


def _sum(answers: dict[tuple[int, int], int], link: int, kinds: Iterable[int]) -> int | None:
    said = [answers[(kind, link)] for kind in kinds if (kind, link) in answers]
    return sum(said) if said else None


def _fields(handle: Any, asked: list[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Field values that the GPU has, in one call."""
    found: dict[tuple[int, int], int] = {}
    values = _ask(_F.nvmlDeviceGetFieldValues, handle, asked)
    for value in values or ():
        if value.nvmlReturn == _F.NVML_SUCCESS:
            wide = value.valueType in (_F.NVML_VALUE_TYPE_UNSIGNED_LONG, _F.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG)
            found[(value.fieldId, value.scopeId)] = value.value.ullVal if wide else value.value.uiVal
    return found
