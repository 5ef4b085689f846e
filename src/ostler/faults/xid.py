"""From an XID line to a Fault: the bucket's policy, the exceptions to it, and what XID 154 says. Called by `gpu.py`.

NVIDIA's immediate action leads to ours like this (`BUCKETS`):

| bucket | action | why |
|---|---|---|
| RESTART_APP | none | the application restarts itself; the GPU is well. Recorded, and repeats are diagnosis' business |
| IGNORE | none | recorded only |
| RESET_GPU | reset-gpu | |
| RESTART_BM | reboot | |
| RESTART_VM | reboot | on bare metal the node is the machine that owns the GPU |
| CHECK_MECHANICALS | triage | someone must look at seating and power cables |
| CONTACT_SUPPORT | triage | no remedy is published |
| UPDATE_SWFW | watch | a new version is a rollout, not a remedy for one node |
| CHECK_UVM | watch | reset only if unified memory is in use; the driver's XID 154 beside it says which |
| WORKFLOW_XID_45 | watch | alone it restarts the fabric manager, beside others it is ignored: diagnosis decides |
| WORKFLOW_XID_48 | reset-gpu | with 63 or 64 after a drain |
| WORKFLOW_NVLINK_ERR | `nvlink4.py` | seven registers |
| WORKFLOW_NVLINK5_ERR | `nvlink5.py` | two registers, by driver version |
| XID_154 | its text | |
| none given (162-172) | `NO_BUCKET` | by what the code means, never disruptive unless work is lost |

A code listed as unused that shows up all the same, and a code above the table, is watched: a driver newer than the
catalogue says something that nobody can act on yet, and repeats go to a person. What XID 154 says outranks all of this;
it is in `Fault.recovery` for diagnosis.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ostler.faults import nvlink4, nvlink5
from ostler.faults.entry import text
from ostler.faults.model import EMPTY, Action, Fault, Kind, Severity
from ostler.faults.xid_table import XIDS

PATTERN = re.compile(
    rb"NVRM: Xid \((?:PCI:)?(?P<pci>(?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)"
    rb"(?: GPU-I:(?P<instance>\d{1,3}))?\): (?P<code>\d{1,6})(?=,| \(|\s*$)(?P<rest>[^\n]*)"
)
_PROCESS = re.compile(rb", pid='?(\d+|<unknown>)'?(?:, name=([^,]{0,64}))?")
_RECOVERY = re.compile(
    rb"GPU recovery action changed from 0x[0-9a-fA-F]{1,8} \([^)]{0,40}\) to (0x[0-9a-fA-F]{1,8})(?: "
    rb"\(([^)]{0,40})\)?)?"
)


class Policy(NamedTuple):
    severity: Severity
    action: Action
    workflow: str = ""


BUCKETS: dict[str, Policy] = {
    "RESTART_APP": Policy(Severity.WARNING, Action.NONE),
    "IGNORE": Policy(Severity.INFO, Action.NONE),
    "RESET_GPU": Policy(Severity.FATAL, Action.RESET_GPU),
    "RESTART_BM": Policy(Severity.FATAL, Action.REBOOT),
    "RESTART_VM": Policy(Severity.FATAL, Action.REBOOT),
    "CHECK_MECHANICALS": Policy(Severity.ERROR, Action.TRIAGE),
    "CONTACT_SUPPORT": Policy(Severity.ERROR, Action.TRIAGE),
    "UPDATE_SWFW": Policy(Severity.WARNING, Action.WATCH),
    "CHECK_UVM": Policy(Severity.WARNING, Action.WATCH, "CHECK_UVM"),
    "WORKFLOW_XID_45": Policy(Severity.WARNING, Action.WATCH, "WORKFLOW_XID_45"),
    "WORKFLOW_XID_48": Policy(Severity.FATAL, Action.RESET_GPU, "WORKFLOW_XID_48"),
    "WORKFLOW_NVLINK_ERR": Policy(Severity.ERROR, Action.WATCH, "WORKFLOW_NVLINK_ERR"),
    "WORKFLOW_NVLINK5_ERR": Policy(Severity.ERROR, Action.WATCH, "WORKFLOW_NVLINK5_ERR"),
    "XID_154": Policy(Severity.WARNING, Action.WATCH, "XID_154"),
}

NO_BUCKET: dict[int, Policy] = {
    162: Policy(Severity.INFO, Action.NONE),  # power smoothing back: the end of a fault
    163: Policy(Severity.WARNING, Action.WATCH),
    164: Policy(Severity.WARNING, Action.WATCH),
    165: Policy(Severity.WARNING, Action.WATCH),  # computes as before; replacement is planned work
    166: Policy(Severity.WARNING, Action.WATCH),  # confidential mode only
    167: Policy(Severity.FATAL, Action.REBOOT),  # like 79: the path to the GPU is gone
    168: Policy(Severity.ERROR, Action.TRIAGE),
    169: Policy(Severity.FATAL, Action.RESET_GPU),  # a halted controller, like 62
    170: Policy(Severity.WARNING, Action.WATCH),  # confidential mode only
    171: Policy(Severity.WARNING, Action.WATCH, "WORKFLOW_XID_48"),  # names the part; the 48 beside it acts
    172: Policy(Severity.WARNING, Action.WATCH, "WORKFLOW_XID_48"),
}

EXCEPTIONS: dict[int, Policy] = {
    # An application's own fault, by NVIDIA's investigatory workflow; repeats on one GPU are for diagnosis.
    13: Policy(Severity.INFO, Action.NONE, "WORKFLOW_XID_13"),
    31: Policy(Severity.INFO, Action.NONE, "WORKFLOW_XID_31"),
    # Ignored for now, but the spare that they used up or lack is gone for good.
    63: Policy(Severity.WARNING, Action.NONE),
    92: Policy(Severity.WARNING, Action.NONE),
    157: Policy(Severity.WARNING, Action.NONE),
    161: Policy(Severity.WARNING, Action.NONE),
    # A reset is due, but running work goes on until then.
    64: Policy(Severity.ERROR, Action.RESET_GPU),
    110: Policy(Severity.ERROR, Action.RESET_GPU),
    136: Policy(Severity.ERROR, Action.RESET_GPU),
    155: Policy(Severity.ERROR, Action.RESET_GPU),
    156: Policy(Severity.ERROR, Action.RESET_GPU),
}

UNUSED = Policy(Severity.WARNING, Action.WATCH)
"""A code that the catalogue lists as unused with no harmless bucket, or does not list at all."""

RECOVERIES: dict[str, tuple[str, Severity, Action]] = {
    # The driver's words (open-gpu-kernel-modules, NV_GPU_RECOVERY_ACTION 0-4), by text and by number.
    "none": ("none", Severity.INFO, Action.NONE),
    "gpu reset required": ("gpu-reset", Severity.FATAL, Action.RESET_GPU),
    "node reboot required": ("node-reboot", Severity.FATAL, Action.REBOOT),
    "drain p2p": ("drain-p2p", Severity.ERROR, Action.DRAIN),
    "drain and reset": ("drain-and-reset", Severity.ERROR, Action.RESET_GPU),
}
_BY_NUMBER = dict(enumerate(RECOVERIES))
_UNKNOWN_RECOVERY = ("unknown", Severity.WARNING, Action.WATCH)


def policy(code: int) -> Policy:
    """What one report of this code leads to, before its registers and neighbours are looked at."""
    row = XIDS.get(code)
    if row is None:
        return UNUSED
    if code in EXCEPTIONS:
        return EXCEPTIONS[code]
    if not row.bucket:
        return NO_BUCKET[code]
    return UNUSED if row.unused and row.bucket != "IGNORE" else BUCKETS[row.bucket]


_POLICIES = {code: policy(code) for code in XIDS}


def recovery(rest: bytes) -> tuple[str, Severity, Action]:
    """What an XID 154 line asks for: (normalised word, severity, action). Text first, its number when cut off."""
    every = list(_RECOVERY.finditer(rest))
    if not every:
        return _UNKNOWN_RECOVERY
    found = every[-1]  # the driver's own text ends the line; a process name before it cannot outrank it
    said = text(found[2]).strip().lower()
    if said in RECOVERIES:
        return RECOVERIES[said]
    number = _BY_NUMBER.get(int(found[1], 16))
    return RECOVERIES[number] if number is not None and number.startswith(said) else _UNKNOWN_RECOVERY


def build(match: re.Match[bytes], message: str, driver: str | None) -> Fault:
    """The fault of one XID line."""
    pci, instance, digits, rest = match.groups()
    code = int(digits)
    row = XIDS.get(code)
    severity, action, workflow = _POLICIES.get(code, UNUSED)
    meaning = row.meaning if row is not None else "a code that the catalogue does not know"
    said = ""
    detail: dict[str, str] = {}
    if rest:
        process = _PROCESS.match(rest)
        if process is not None and process[1] != b"<unknown>":
            detail["pid"] = text(process[1])
            if process[2] is not None:
                detail["process"] = text(process[2])
    if instance is not None:
        detail["gpu_instance"] = text(instance)
    if code == 154:
        said, severity, action = recovery(rest)
        meaning = f"the driver asks for: {said}"
    elif workflow == "WORKFLOW_NVLINK5_ERR":
        decoded = nvlink5.decode_line(code, rest, driver)
        severity, action = decoded.severity, decoded.action
        detail.update(decoded.detail)
    elif code == 74:
        verdict = nvlink4.decode_line(rest)
        severity, action = verdict.severity, verdict.action
        detail.update(verdict.detail)
    return Fault(
        Kind.XID,
        str(code),
        pci.decode("ascii"),
        "gpu",
        severity,
        action,
        message,
        meaning,
        workflow,
        said,
        detail or EMPTY,
    )
