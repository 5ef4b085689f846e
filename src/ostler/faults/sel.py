"""The BMC's event log as text (`ipmitool sel list`, and what its daemons copy to syslog): power, heat, memory,
processor, bus. Joined by `catalogue.py`; a line is "sensor | event | Asserted" once `formats.py` has taken number and
time off.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ostler.faults.entry import BMC_LOG, Entry, text
from ostler.faults.model import Action, Fault, Kind, Severity


class SelRow(NamedTuple):
    sensor: re.Pattern[str]
    event: re.Pattern[str]
    kind: Kind
    component: str
    severity: Severity
    action: Action
    code: str
    meaning: str


def _row(
    sensor: str, event: str, kind: Kind, component: str, severity: Severity, action: Action, code: str, meaning: str
) -> SelRow:
    return SelRow(re.compile(sensor), re.compile(event), kind, component, severity, action, code, meaning)


_W, _E, _F = Severity.WARNING, Severity.ERROR, Severity.FATAL
_BEYOND = r"^(?:Upper|Lower) (?:Critical|Non-recoverable)"
_NEAR = r"^(?:Upper|Lower) Non-critical"

ROWS: tuple[SelRow, ...] = (
    _row(r"^Power Supply", r"[Ff]ailure detected|AC lost|input lost|Config(?:uration)? [Ee]rror", Kind.POWER, "power",
         _E, Action.TRIAGE, "psu-failure", "a power supply failed or lost its input"),
    _row(r"^Power Supply", r"[Pp]redictive failure|Redundancy (?:Lost|Degraded)", Kind.POWER, "power",
         _W, Action.TRIAGE, "psu-degraded", "power supplies are no longer redundant"),
    _row(r"^Power Unit", r"[Pp]ower off|[Ss]oft-power control failure|Failure detected|Redundancy [Ll]ost|AC lost",
         Kind.POWER, "power", _E, Action.TRIAGE, "power-unit", "the machine's power failed or is not redundant"),
    _row(r"^(?:Voltage|Current)", _BEYOND, Kind.POWER, "power", _E, Action.TRIAGE, "voltage-critical",
         "a voltage or current is out of its limits"),
    _row(r"^(?:Voltage|Current)", _NEAR, Kind.POWER, "power", _W, Action.WATCH, "voltage",
         "a voltage or current nears its limits"),
    _row(r"^(?:Temperature|Temp)", _BEYOND, Kind.THERMAL, "thermal", _E, Action.TRIAGE, "temperature-critical",
         "a temperature is out of its limits"),
    _row(r"^(?:Temperature|Temp)", _NEAR, Kind.THERMAL, "thermal", _W, Action.WATCH, "temperature",
         "a temperature nears its limits"),
    _row(r"^Fan", rf"{_BEYOND}|{_NEAR}|[Ff]ailure|Redundancy Lost|Device Absent", Kind.THERMAL, "thermal",
         _W, Action.TRIAGE, "fan", "a fan is slow or gone"),
    _row(r"^Processor", r"Thermal Trip", Kind.THERMAL, "cpu", _F, Action.TRIAGE, "thermal-trip",
         "a processor switched itself off because of heat"),
    _row(r"^Processor", r"IERR|Machine [Cc]heck|Uncorrectable|Configuration Error", Kind.MCE, "cpu", _F, Action.REBOOT,
         "processor", "a processor reported an internal error"),
    _row(r"^Memory", r"Uncorrectable", Kind.EDAC, "memory", _F, Action.TRIAGE, "UE", "uncorrectable host memory error"),
    _row(r"^Memory", r"Correctable ECC", Kind.EDAC, "memory", _W, Action.WATCH, "CE", "corrected host memory error"),
    _row(r"^Critical Interrupt", r"Bus (?:Fatal|Uncorrectable)|PCI (?:SERR|PERR)|NMI", Kind.AER, "pcie", _F,
         Action.REBOOT, "bus-fatal", "a PCIe device failed"),
    _row(r"^Critical Interrupt", r"Bus (?:Correctable|Degraded)", Kind.AER, "pcie", _W, Action.WATCH, "bus-corrected",
         "a PCIe link corrected an error or is degraded"),
    _row(r"^Drive Slot", r"Drive Fault|Predictive Failure", Kind.OTHER, "disk", _E, Action.TRIAGE, "drive-fault",
         "a drive failed or is about to"),
    _row(r"^Physical Security", r"intrusion", Kind.OTHER, "chassis", _W, Action.NONE, "chassis-intrusion",
         "the chassis was opened"),
)  # fmt: skip


def _build(match: re.Match[bytes], message: str, _driver: str | None) -> Fault | None:
    """A deasserted event ends a fault: the same row, for the record only."""
    sensor, event = text(match["sensor"]).strip(), text(match["event"]).strip()
    for row in ROWS:
        if row.sensor.search(sensor) and row.event.search(event):
            over = match["state"] == b"Deasserted"
            return Fault(
                row.kind,
                row.code,
                sensor,
                row.component,
                Severity.INFO if over else row.severity,
                Action.NONE if over else row.action,
                message,
                f"over: {row.meaning}" if over else row.meaning,
                detail={"state": text(match["state"]).lower()},
            )
    return None


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "sel", (b"| Asserted", b"| Deasserted"),
        re.compile(rb"(?P<sensor>[^|\n]{1,80}?) ?\| (?P<event>[^|\n]{1,120}?) ?\| (?P<state>Asserted|Deasserted)"),
        Kind.OTHER, "chassis", Severity.WARNING, Action.WATCH, "BMC event", programs=BMC_LOG, build=_build,
    ),
)  # fmt: skip
