"""Host memory and processor: EDAC, machine checks, firmware-first hardware errors, out of memory. Joined by
`catalogue.py`. Message forms: Linux drivers/edac, arch/x86/kernel/cpu/mce, drivers/firmware/efi/cper.c, mm/oom_kill.c.
"""

from __future__ import annotations

import re

from ostler.faults.entry import Entry, text
from ostler.faults.model import EMPTY, Action, Fault, Kind, Severity

STATUS_UC = 1 << 61
"""MCi_STATUS: the error was not corrected (Intel SDM vol. 3B 16.3.2.2, AMD APM vol. 2 9.3)."""


def _edac(match: re.Match[bytes], message: str, _driver: str | None) -> Fault:
    uncorrected = match["level"] == b"UE"
    return Fault(
        Kind.EDAC,
        text(match["level"]),
        text(match["device"]),
        "memory",
        Severity.FATAL if uncorrected else Severity.WARNING,
        Action.TRIAGE if uncorrected else Action.WATCH,
        message,
        "uncorrectable host memory error" if uncorrected else "corrected host memory error",
        detail={"controller": text(match["mc"]), "count": text(match["count"])},
    )


def _machine_check(match: re.Match[bytes], message: str, _driver: str | None) -> Fault:
    status = int(match["status"], 16) if match["status"] else 0
    bad = bool(status & STATUS_UC) or match["exception"] is not None
    return Fault(
        Kind.MCE,
        "uncorrected" if bad else "corrected",
        f"CPU {text(match['cpu'])}",
        "cpu",
        Severity.FATAL if bad else Severity.WARNING,
        Action.REBOOT if bad else Action.WATCH,
        message,
        "machine check, not corrected" if bad else "machine check, corrected",
        detail={"bank": text(match["bank"])} if match["bank"] else EMPTY,
    )


_CPER = {
    b"info": (Severity.INFO, Action.NONE),
    b"corrected": (Severity.WARNING, Action.WATCH),
    b"recoverable": (Severity.ERROR, Action.WATCH),
    b"fatal": (Severity.FATAL, Action.REBOOT),
}


def _cper(match: re.Match[bytes], message: str, _driver: str | None) -> Fault:
    level = match["level"]
    severity, action = _CPER[level]
    return Fault(
        Kind.MCE, f"ghes-{text(level)}", "", "cpu", severity, action, message,
        "hardware error that the firmware reported",
    )  # fmt: skip


_HW = rb"(?:\{\d{1,9}\}|mce: )?\[Hardware Error\]: "
_OOM_VICTIM = rb"(?:Killed|Kill) process (?P<pid>\d{1,9})"

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "edac", (b"EDAC MC",),
        re.compile(
            rb"EDAC (?P<mc>MC\d{1,3}): (?P<count>\d{1,9}) (?P<level>CE|UE) [^\n]{0,80}? on (?P<device>[^\s(]{1,80})"
        ),
        Kind.EDAC, "memory", Severity.WARNING, Action.WATCH, "host memory error", build=_edac,
    ),
    Entry(
        "machine-check", (b"[Hardware Error]: ",),
        re.compile(
            _HW + rb"CPU (?P<cpu>\d{1,5}): Machine Check(?P<exception> Exception)?: [0-9a-fA-F]{1,4}"
            rb"(?: Bank (?P<bank>\d{1,3}): (?P<status>[0-9a-fA-F]{1,16}))?"
        ),
        Kind.MCE, "cpu", Severity.WARNING, Action.WATCH, "machine check", build=_machine_check,
    ),
    Entry(
        "machine-check-logged", (b"[Hardware Error]: ",),
        re.compile(_HW + rb"Machine check events logged"),
        Kind.MCE, "cpu", Severity.WARNING, Action.WATCH, "machine checks were logged elsewhere", "logged",
    ),
    Entry(
        "machine-check-uncorrected", (b"[Hardware Error]: ",),
        re.compile(_HW + rb"(?:Uncorrected|Deferred) error|" + _HW + rb"Uncorrected, software "),
        Kind.MCE, "cpu", Severity.ERROR, Action.WATCH, "machine check, not corrected", "uncorrected",
    ),
    Entry(
        "machine-check-corrected", (b"[Hardware Error]: ",),
        re.compile(_HW + rb"Corrected error, no action required"),
        Kind.MCE, "cpu", Severity.WARNING, Action.WATCH, "machine check, corrected", "corrected",
    ),
    Entry(
        "ghes", (b"[Hardware Error]: ",),
        re.compile(_HW + rb"event severity: (?P<level>info|corrected|recoverable|fatal)\b"),
        Kind.MCE, "cpu", Severity.WARNING, Action.WATCH, "hardware error that the firmware reported", build=_cper,
    ),
    Entry(
        "ghes-source", (b"[Hardware Error]: ",),
        re.compile(_HW + rb"Hardware error from APEI Generic Hardware Error Source: (?P<source>\d{1,6})"),
        Kind.MCE, "cpu", Severity.WARNING, Action.WATCH, "hardware error that the firmware reported", "ghes",
    ),
    Entry(
        "memory-failure", (b"Memory failure: 0x",),
        re.compile(rb"Memory failure: (?P<device>0x[0-9a-fA-F]{1,16}): "),
        Kind.MCE, "memory", Severity.ERROR, Action.WATCH, "the kernel took a bad page of host memory out of use",
        "memory-failure",
    ),
    Entry(
        "oom-kill", (b"ut of memory: Kill",),
        re.compile(rb"Out of memory: " + _OOM_VICTIM),
        Kind.OOM, "memory", Severity.WARNING, Action.NONE, "the node ran out of memory and killed a process", "killed",
    ),
    Entry(
        "oom-kill-cgroup", (b"ut of memory: Kill",),
        re.compile(rb"Memory cgroup out of memory: " + _OOM_VICTIM),
        Kind.OOM, "memory", Severity.INFO, Action.NONE, "a container passed its memory limit", "cgroup-killed",
    ),
    Entry(
        "oom-constraint-cgroup", (b"oom-kill",),
        re.compile(rb"oom-kill:constraint=CONSTRAINT_MEMCG\b"),
        Kind.OOM, "memory", Severity.INFO, Action.NONE, "a container passed its memory limit", "cgroup",
    ),
    Entry(
        "oom-constraint", (b"oom-kill",),
        re.compile(rb"oom-kill:constraint="),
        Kind.OOM, "memory", Severity.WARNING, Action.NONE, "the node ran out of memory", "global",
    ),
    Entry(
        "oom-invoked", (b"oom-kill",),
        re.compile(rb"(?P<process>[^\n]{1,64}?) invoked oom-killer: "),
        Kind.OOM, "memory", Severity.INFO, Action.NONE, "a process met the out-of-memory killer", "invoked",
    ),
    Entry(
        "oom-reaped", (b"oom_reaper: reaped",),
        re.compile(rb"oom_reaper: reaped process (?P<pid>\d{1,9}) \((?P<process>[^)\n]{1,64})\)"),
        Kind.OOM, "memory", Severity.INFO, Action.NONE, "the memory of a killed process was taken back", "reaped",
    ),
)  # fmt: skip
