"""GPU and NVSwitch: XID, SXid, a GPU that left the bus, row remapping, the system processor, NVLink, fabric manager.
Joined by `catalogue.py`. Message forms: NVIDIA open-gpu-kernel-modules and lines captured from machines.
"""

from __future__ import annotations

import re

from ostler.faults import xid
from ostler.faults.entry import FABRIC_MANAGER, Entry, text
from ostler.faults.model import EMPTY, Action, Fault, Kind, Severity

_PCI = rb"(?P<device>[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)"
_LINK = re.compile(rb"Link (-?\d{1,3})")


def _sxid(match: re.Match[bytes], message: str, _driver: str | None) -> Fault:
    """The text says how bad it is. Lines without that word go on describing the error above them (Severity, Data), or
    come from the switch's own controller (SOE), which stops reporting when it halts."""
    rest = match["rest"]
    detail = {"switch": text(match["switch"])}
    if link := _LINK.search(rest):
        detail["link"] = text(link[1])
    if rest.startswith(b"Fatal"):
        # A fatal switch error stops every NVLink job on the node until switches and GPUs are reset together
        # (Fabric Manager user guide); a reboot does that and needs no other service's help.
        severity, action, meaning = Severity.FATAL, Action.REBOOT, "NVSwitch error, fatal to the node's NVLink fabric"
    elif rest.startswith(b"Non-fatal"):
        severity, action, meaning = Severity.WARNING, Action.WATCH, "NVSwitch error, not fatal"
    elif rest.startswith((b"Severity", b"Data")):
        severity, action, meaning = Severity.INFO, Action.NONE, "NVSwitch error, more about the line before"
    elif rest.startswith(b"SOE"):
        severity, action, meaning = Severity.ERROR, Action.WATCH, "NVSwitch controller failed"
    else:
        severity, action, meaning = Severity.WARNING, Action.WATCH, "NVSwitch error of unstated severity"
    return Fault(
        Kind.SXID, text(match["code"]), text(match["device"]), "nvswitch", severity, action, message, meaning,
        detail=detail,
    )  # fmt: skip


def _fabric_manager(match: re.Match[bytes], message: str, _driver: str | None) -> Fault:
    fatal = match["non"] is None
    return Fault(
        Kind.SXID,
        text(match["code"]),
        text(match["device"]),
        "nvswitch",
        Severity.FATAL if fatal else Severity.WARNING,
        Action.REBOOT if fatal else Action.WATCH,
        message,
        "the fabric manager saw an NVSwitch error",
        detail={"link": text(match["port"])} if match["port"] else EMPTY,
    )


def _row_remap(match: re.Match[bytes], message: str, _driver: str | None) -> Fault:
    failed = re.search(rb"fail|no (?:more )?(?:spare|reserved)|all reserved", match[0], re.IGNORECASE) is not None
    device = re.search(rb"(?:PCI:)?" + _PCI, match[0])
    return Fault(
        Kind.ROW_REMAP,
        "failure" if failed else "pending",
        text(device["device"]) if device else "",
        "gpu",
        Severity.ERROR if failed else Severity.WARNING,
        Action.RMA if failed else Action.RESET_GPU,
        message,
        "a GPU memory row could not be remapped" if failed else "a remapped GPU memory row waits for a reset",
    )


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "xid", (b"NVRM: Xid (",), xid.PATTERN,
        Kind.XID, "gpu", Severity.WARNING, Action.WATCH, "an XID", build=xid.build,
    ),
    Entry(
        "sxid", (b": SXid (PCI:",),
        re.compile(
            rb"nvidia-nvswitch(?P<switch>\d{1,3}): SXid \(PCI:" + _PCI + rb"\): (?P<code>\d{1,6}),? (?P<rest>[^\n]*)"
        ),
        Kind.SXID, "nvswitch", Severity.WARNING, Action.WATCH, "an SXid", build=_sxid,
    ),
    Entry(
        "gpu-off-bus", (b" fallen off the bus",),
        re.compile(
            rb"NVRM: (?:(?:GPU (?:at )?(?:PCI:)?|The NVIDIA GPU )" + _PCI + rb")?"
            rb"(?:(?! Xid )[^\n]){0,160}? has fallen off the bus"
        ),
        Kind.GPU_OFF_BUS, "gpu", Severity.FATAL, Action.REBOOT, "the GPU no longer answers on the PCIe bus",
    ),
    Entry(
        "gsp-rpc", (b"GSP RPC error prints",),
        re.compile(rb"NVRM: Rate limiting GSP RPC error prints for GPU at (?:PCI:)?" + _PCI),
        Kind.OTHER, "gpu", Severity.ERROR, Action.RESET_GPU,
        "so many calls to the GPU's system processor fail that the driver stopped printing them", "gsp-rpc",
    ),
    Entry(
        "gpu-init", (b"RmInitAdapter failed",),
        re.compile(rb"NVRM: GPU " + _PCI + rb": RmInitAdapter failed! \((?P<status>[0-9a-fA-Fx:]{1,40})\)"),
        Kind.OTHER, "gpu", Severity.ERROR, Action.REBOOT, "the driver could not start the GPU", "gpu-init",
    ),
    Entry(
        "gpu-power-cable", (b"necessary power cables",),
        re.compile(rb"NVRM: GPU " + _PCI + rb": GPU does not have the necessary power cables connected"),
        Kind.POWER, "gpu", Severity.ERROR, Action.TRIAGE, "the GPU's power cable is not connected", "power-cable",
    ),
    Entry(
        "row-remap", (b"Row Remap", b"Row remap", b"row remap"),
        re.compile(rb"NVRM: (?!Xid )[^\n]{0,160}?[Rr]ow [Rr]emap[^\n]{0,160}"),
        Kind.ROW_REMAP, "gpu", Severity.WARNING, Action.RESET_GPU, "row remapping", build=_row_remap,
    ),
    Entry(
        "nvlink-training", (b"training failed",),
        re.compile(
            rb"(?:NVRM|nvidia-nvlink|nvidia-nvswitch\d{1,3}): (?!Xid )[^\n]{0,160}?[Ll]inks? training failed"
        ),
        Kind.NVLINK, "gpu", Severity.ERROR, Action.WATCH, "an NVLink did not train", "training",
    ),
    Entry(
        "peermem", (b"nv_get_p2p_free_callback",),
        re.compile(rb"nvidia-peermem (?:nvidia_peermem:)?nv_get_p2p_free_callback:\d{1,5} ERROR detected "
                   rb"invalid context"),
        Kind.OTHER, "gpu", Severity.WARNING, Action.NONE,
        "GPU memory registered for RDMA was freed late, as a rule by an application that crashed", "peermem",
    ),
    Entry(
        "fabric-manager", (b"detected NVSwitch ",),
        re.compile(
            rb"detected NVSwitch (?P<non>non-)?fatal error (?P<code>\d{1,6}) on fid \d{1,4} on NVSwitch pci bus id "
            + _PCI + rb"(?: physical id \d{1,4})?(?: port (?P<port>\d{1,4}))?"
        ),
        Kind.SXID, "nvswitch", Severity.WARNING, Action.WATCH, "the fabric manager saw an NVSwitch error",
        programs=FABRIC_MANAGER, build=_fabric_manager,
    ),
)  # fmt: skip
"""Tried in this order; the first that matches wins."""
