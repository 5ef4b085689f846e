"""The words of detection: what kind of fault, how bad, what the catalogue recommends. Used by everything that detects
(agent, scan, collectors) and everything that reads a detection (wire, health).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

EMPTY: Mapping[str, str] = MappingProxyType({})


class Kind(StrEnum):
    """The family of a fault. It names the source that reported it, not the part that is broken."""

    XID = "xid"
    SXID = "sxid"
    GPU_OFF_BUS = "gpu-off-bus"
    NVLINK = "nvlink"
    ROW_REMAP = "row-remap"
    AER = "aer"
    MCE = "mce"
    EDAC = "edac"
    NVME = "nvme"
    IB_LINK = "ib-link"
    IB_MODULE = "ib-module"
    IB_HEALTH = "ib-health"
    OOM = "oom"
    LOCKUP = "lockup"
    FS = "fs"
    THERMAL = "thermal"
    POWER = "power"
    GPU = "gpu"
    IB = "ib"
    ETH = "eth"
    HOST = "host"
    BMC = "bmc"
    MONITOR = "monitor"
    OTHER = "other"


class Severity(StrEnum):
    """How bad one report is by itself, before diagnosis has seen its neighbours.

    - `info`: recorded only. The hardware works; an application failed, an error was corrected, or a fault ended.
    - `warning`: the hardware works but is less than it should be, or did something that must not repeat.
    - `error`: a part does not do its work, or will not after the next restart; running work may survive.
    - `fatal`: running work on the part is lost or wrong, or the node is about to stop.
    """

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    FATAL = "fatal"


class Action(StrEnum):
    """What remediation can do, from nothing to sending the part back."""

    NONE = "none"
    WATCH = "watch"
    RESET_GPU = "reset-gpu"
    RESTART_SERVICE = "restart-service"
    REBOOT = "reboot"
    POWER_CYCLE = "power-cycle"
    POWER_OFF = "power-off"
    DRAIN = "drain"
    TRIAGE = "triage"
    RMA = "rma"


@dataclass(frozen=True, slots=True)
class Fault:
    """What one line says. `action` is the catalogue's answer to this line alone; diagnosis may replace it."""

    kind: Kind
    code: str
    """The reporter's own number or word ("79", "20034", "soft-lockup"); empty when it has none."""
    device: str
    """PCI address, port, block device or sensor exactly as it stands in the line; empty when the line names none."""
    component: str
    """What is broken: gpu, nvswitch, nic, pcie, cpu, memory, disk, filesystem, power, thermal, kernel, fabric, "
      "chassis."""
    severity: Severity
    action: Action
    message: str
    """The line without its stamp, printable, at most 1024 characters."""
    meaning: str = ""
    """What it means in one phrase, for people."""
    workflow: str = ""
    """The name of the vendor's procedure where one line is not enough to decide ("WORKFLOW_XID_45")."""
    recovery: str = ""
    """XID 154 only, what the driver asks for: none, gpu-reset, node-reboot, drain-p2p, drain-and-reset or unknown."""
    detail: Mapping[str, str] = field(default_factory=lambda: EMPTY, hash=False)
    """Small facts of the line: pid, link, sensor, how a code was decoded."""


class Hit(NamedTuple):
    """A fault and where in a log it stood. `time` is an ISO string, the stamp as written where it has no year, seconds
    since boot as text, or None."""

    line_no: int
    time: str | None
    fault: Fault
