"""The rules of diagnosis as data: which faults are one fault told twice, and which follow from another. Pure.

Read by `companions.py`, which applies them. A name that ends in `*` stands for every fault that begins so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ostler.faults.model import Action, Severity
from ostler.faults.xid_table import XIDS

LADDER = (
    Action.NONE,
    Action.WATCH,
    Action.RESTART_SERVICE,
    Action.RESET_GPU,
    Action.DRAIN,
    Action.REBOOT,
    Action.POWER_CYCLE,
    Action.TRIAGE,
    Action.RMA,
    Action.POWER_OFF,
)
"""From mild to drastic."""

RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2, Severity.FATAL: 3}

GPU_LOST = "gpu-off-bus"
RECOVERY_XID = "xid-154"
SOLO = "xid-45"
ECHOES = frozenset({"xid-43", "xid-45"})

RECOVERY_ACTIONS = {
    "none": Action.WATCH,
    "gpu-reset": Action.RESET_GPU,
    "node-reboot": Action.REBOOT,
    "drain-p2p": Action.DRAIN,
    "drain-and-reset": Action.RESET_GPU,
}
"""XID 154's text → action (NVIDIA: "GPU recovery action changed from … to …")."""

AFTER_DRAIN = frozenset({"drain-p2p", "drain-and-reset"})
"""Texts of XID 154 that let running work end first."""

ENDS = {"ib-link-up": "ib-link-down"}
"""A fault's end → the fault."""

APPLICATION = frozenset(f"xid-{code}" for code, row in XIDS.items() if row.bucket in ("RESTART_APP", "IGNORE"))
"""XIDs that ask for nothing by themselves (NVIDIA's catalogue: RESTART_APP, IGNORE)."""

NVLINK = ("xid-74", *(f"xid-{code}" for code in range(144, 151)), "nvlink-training")
"""What the kernel says of a link between GPUs."""

NVLINK_FACTS = ("gpu-nvlink-down", "gpu-nvlink-errors", "gpu-fabric")
"""What monitors find of the same."""

HARDWARE_LINK = frozenset({"ecc", "mechanical", "signal", "repeated", "other", ""})
"""Classes of an XID 74 that are hardware once they repeat; the others go on working or echo something else."""

ECC_EVENTS = ("xid-48", "xid-94")
"""An uncorrectable memory error (48), and one that was contained to its application (94)."""
UNCONTAINED = "xid-95"
REMAPPED = ("xid-63", "xid-64", "gpu-row-remap-pending", "gpu-row-remap-failed", "row-remap-*")
"""A row is remapped with the next reset, or could not be."""


@dataclass(frozen=True)
class Family:
    """Witnesses of one fault: on one part they make one finding, which asks for what the strongest of them asks for."""

    name: str
    faults: tuple[str, ...]
    source: str
    of_node: bool = False
    """They name no common part: one fault per node."""


@dataclass(frozen=True)
class ByProduct:
    """Symptoms that a root on the same node explains: they add evidence and neither strengthen nor weaken it."""

    name: str
    roots: tuple[str, ...]
    symptoms: tuple[str, ...]
    source: str
    same_part: bool = True
    near_link: bool = False
    """Only within `by_product_s` of the root, not the whole window."""
    least: Action = Action.RESTART_SERVICE
    """The root asks for at least this, or it explains nothing."""
    most: Action = Action.REBOOT
    """A symptom that asks for more (a person, a new part) stands for itself."""


FAMILIES = (
    Family(
        "gpu-lost",
        (GPU_LOST, "gpu-lost", "gpu-missing", "gpu-driver", "other-gpu-init"),
        "XID 79, the driver's own words, NVML and the count of GPUs are four witnesses of one loss",
    ),
    Family(
        "gpu-memory",
        (
            "xid-48", "xid-63", "xid-64", "xid-94", "xid-95", "xid-171", "xid-172", "row-remap-*",
            "gpu-ecc-uncorrected", "gpu-row-remap-pending", "gpu-row-remap-failed", "gpu-sram-threshold",
            "gpu-pages-pending",
        ),
        "NVIDIA, WORKFLOW_XID_48 and GPU memory error management: 48, 63, 64 and NVML's counters tell one error",
    ),
    Family("gsp", ("xid-119", "xid-120", "other-gsp-rpc"), "NVIDIA's XID catalogue: 119 and 120 are the GSP's silence"),
    Family(
        "port",
        (
            "ib-link-down", "ib-link-lost-carrier", "ib-port-down", "ib-dropped", "ib-missing", "ib-flapping",
            "ib-link-downed", "ib-recoveries", "ib-rcv-errors", "ib-symbol-errors", "ib-integrity", "ib-port-rate",
            "ib-module-*", "ib-health-*",
        ),
        "the driver's line, sysfs and the counters see one port",
    ),
    Family(
        "disk",
        ("nvme-*", "host-disk-failing", "host-disk-missing", "host-disk-errors"),
        "the driver's errors and the disk's own health data are about one disk",
    ),
    Family("memory-ue", ("edac-UE", "host-memory-uncorrected"), "EDAC's line and its counter are one error", True),
    Family("memory-ce", ("edac-CE", "host-memory-corrected-rate"), "EDAC's lines and their rate are one thing", True),
    Family("read-only", ("fs-read-only", "host-fs-readonly"), "the kernel's line and the mount table agree", True),
    Family("leak", ("bmc-leak", "bmc-leak-suspected"), "a confirmed leak was a suspicion first", True),
)  # fmt: skip

BY_PRODUCTS = (
    ByProduct(
        "leak-first",
        ("bmc-leak",),
        ("bmc-power-off", "bmc-silent"),
        "DESIGN, principle 8: a confirmed leak switches off; what follows of that is its consequence",
        same_part=False,
        most=Action.POWER_CYCLE,
    ),
    ByProduct(
        "gpu-lost",
        (GPU_LOST, "gpu-lost", "gpu-missing"),
        ("xid-*", "gpu-*", "other-gsp-rpc", "other-gpu-init", "nvlink-training"),
        "a GPU that left the bus answers nothing: what else is said of it follows",
    ),
    ByProduct(
        "gpu-lost-bus",
        (GPU_LOST,),
        ("aer-*",),
        "PCIe errors beside XID 79 are its other side (RSC-1: 43 to 63 % of them come together)",
        same_part=False,
    ),
    ByProduct(
        "nvlink-partition",
        (GPU_LOST, "sxid-*"),
        (*NVLINK, *NVLINK_FACTS, "sxid-*"),
        "NVIDIA, CHECK_NVLINK_FAILURE_FLOW: link errors within 30 s of a partition's failure are by-products",
        same_part=False,
        near_link=True,
    ),
    ByProduct(
        "nvlink-told-twice",
        NVLINK,
        NVLINK_FACTS,
        "a monitor that finds the link down tells what the driver said of it",
    ),
    ByProduct(
        "cooling",
        ("bmc-fan", "bmc-hot", "thermal-*"),
        ("gpu-hot", "gpu-memory-hot", "gpu-hw-slowdown"),
        "a chassis that is too hot slows its GPUs",
        same_part=False,
        most=Action.TRIAGE,
    ),
)  # fmt: skip

CATALOGUE_SOURCE = "the catalogue's action (docs/adding-a-fault.md)"

NEVER_FOLDED = frozenset({"bmc-leak", "bmc-leak-suspected"})
"""Danger first: no correlation takes these from a node."""


@cache
def matches(fault: str, patterns: tuple[str, ...]) -> bool:
    """Whether a fault's name is one of these."""
    return any(fault.startswith(one[:-1]) if one.endswith("*") else fault == one for one in patterns)


@cache
def family_of(fault: str) -> Family | None:
    """The family of a fault, if it has one."""
    return next((one for one in FAMILIES if matches(fault, one.faults)), None)


def stronger(one: Action, other: Action) -> Action:
    """The more drastic of two actions."""
    return max(one, other, key=LADDER.index)


def worse(one: Severity, other: Severity) -> Severity:
    return max(one, other, key=RANK.__getitem__)
