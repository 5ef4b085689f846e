"""PCI Express: advanced error reporting, downstream port containment, links that train below their width, hot removal.
Joined by `catalogue.py`. Message forms: Linux drivers/pci/pcie/{aer,dpc}.c, pci.c and hotplug/pciehp_ctrl.c there.
"""

from __future__ import annotations

import re

from ostler.faults.entry import Entry, text
from ostler.faults.model import EMPTY, Action, Fault, Kind, Severity

_BDF = rb"[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]"

_LEVELS = {
    "corrected": ("corrected", Severity.WARNING, Action.WATCH, "the PCIe link corrected an error"),
    "nonfatal": ("uncorrected-nonfatal", Severity.ERROR, Action.WATCH, "a PCIe transaction was lost"),
    "fatal": ("uncorrected-fatal", Severity.FATAL, Action.REBOOT, "the PCIe link failed"),
}


def _level(words: bytes) -> str:
    low = words.lower()
    if b"non-fatal" in low or b"nonfatal" in low:
        return "nonfatal"
    return "fatal" if b"fatal" in low else "corrected" if low.startswith(b"correct") else "nonfatal"


def _aer(match: re.Match[bytes], message: str, _driver: str | None) -> Fault:
    """The device is the one that erred where the line names it, else the one that reports."""
    code, severity, action, meaning = _LEVELS[_level(match["level"])]
    groups = match.groupdict()
    source = groups.get("source")
    detail = {"layer": text(groups["layer"]).strip()} if groups.get("layer") else EMPTY
    if source is not None:
        detail = {"reporter": text(groups["port"])}
    return Fault(
        Kind.AER, code, text(source or groups["port"]), "pcie", severity, action, message, meaning, detail=detail
    )


_LEVEL_WORDS = rb"(?P<level>(?:Correct(?:ed|able)|Uncorrect(?:ed|able))(?: \((?:Non-)?Fatal\))?)"

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "aer-bus-error", (b"PCIe Bus Error: severity=",),
        re.compile(
            rb"[\w.-]{1,32} (?P<port>" + _BDF + rb"): (?:[\w.-]{1,32}: )?(?:AER: )?PCIe Bus Error: severity="
            + _LEVEL_WORDS + rb"(?:, type=(?P<layer>[A-Za-z ]{1,40}))?"
        ),
        Kind.AER, "pcie", Severity.WARNING, Action.WATCH, "PCIe error", build=_aer,
    ),
    Entry(
        "aer-received", (b": AER: ",),
        re.compile(
            rb"pcieport (?P<port>" + _BDF + rb"): AER: (?:Multiple )?" + _LEVEL_WORDS
            + rb" error (?:message )?received(?::| from)? ?(?P<source>" + _BDF + rb")?"
        ),
        Kind.AER, "pcie", Severity.WARNING, Action.WATCH, "PCIe error", build=_aer,
    ),
    Entry(
        "aer-recovery-failed", (b": AER: ",),
        re.compile(rb"pcieport (?P<device>" + _BDF + rb"): AER: (?:subordinate )?device recovery failed"),
        Kind.AER, "pcie", Severity.FATAL, Action.REBOOT, "a device did not recover from a PCIe error",
        "recovery-failed",
    ),
    Entry(
        "dpc", (b": DPC: ",),
        re.compile(
            rb"pcieport (?P<device>" + _BDF + rb"): DPC: (?:containment event, status:|unmasked uncorrectable error"
            rb"|ERR_(?:FATAL|NONFATAL) (?:detected|received))"
        ),
        Kind.AER, "pcie", Severity.FATAL, Action.REBOOT, "a port cut off the device below it after an error", "dpc",
    ),
    Entry(
        "pcie-limited", (b"PCIe bandwidth, limited by",),
        re.compile(
            rb"(?:pci|pcieport|nvidia|nvme|mlx5_core) (?P<device>" + _BDF + rb"): (?P<available>[\d.]{1,12}) "
                rb"Gb/s available "
            rb"PCIe bandwidth, limited by [\d.]{1,6} GT/s PCIe x\d{1,2} link at (?P<upstream>" + _BDF + rb")"
            rb"(?: \(capable of (?P<capable>[\d.]{1,12}) Gb/s)?"
        ),
        Kind.OTHER, "pcie", Severity.WARNING, Action.WATCH, "the slot or link above gives less than the device can use",
        "bandwidth-limited", build=lambda m, message, _driver: _limited(m, message),
    ),
    Entry(
        "pcie-retrain", (b"broken device, retraining", b"training failed"),
        re.compile(rb"(?:pci|pcieport) (?P<device>" + _BDF + rb"): (?:broken device, retraining|retraining failed)"),
        Kind.OTHER, "pcie", Severity.ERROR, Action.REBOOT, "a PCIe link came up broken", "retrain",
    ),
    Entry(
        "pcie-removed", (b"pciehp: Slot(",),
        re.compile(rb"pcieport (?P<device>" + _BDF + rb"): pciehp: Slot\((?P<slot>[\w-]{1,16})\): (?:Link "
            rb"Down|Card not present)"),
        Kind.OTHER, "pcie", Severity.ERROR, Action.REBOOT, "the device in a hot-plug slot is gone", "slot-down",
    ),
    Entry(
        "probe-failed", (b" failed with error -",),
        re.compile(
            rb"(?P<driver>nvidia|mlx5_core|nvme): probe of (?P<device>" + _BDF + rb") failed with error "
                rb"(?P<errno>-\d{1,4})"
        ),
        Kind.OTHER, "pcie", Severity.ERROR, Action.REBOOT, "the driver could not start the device", "probe-failed",
    ),
)  # fmt: skip


def _limited(match: re.Match[bytes], message: str) -> Fault:
    nic = match[0].startswith(b"mlx5_core")
    return Fault(
        Kind.IB_HEALTH if nic else Kind.OTHER,
        "bandwidth-limited",
        text(match["device"]),
        "nic" if nic else "pcie",
        Severity.WARNING,
        Action.WATCH,
        message,
        "the slot or link above gives less than the device can use",
        detail={n: text(match[n]) for n in ("available", "capable", "upstream") if match[n]},
    )
