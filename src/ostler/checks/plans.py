"""Which checks run when, with arguments from the SKU's row. Used by `ostler checks run PLAN` and whoever orders checks.

A plan is a list of texts such as `gemm gpus=8 min_bf16_tflops=593.4`, the form in which settings name checks. Pairs of
nodes (`nccl-allreduce role=…`, `ib-write-bw`) are no part of a plan: who is whose partner is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ostler.checks.registry import CHECKS
from ostler.checks.thresholds import MAX_TEMP_C, PEER_PERCENT, Sku, find
from ostler.core.errors import NotFound


@dataclass(frozen=True, slots=True)
class Planned:
    """One check of a plan."""

    check: str
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """`name key=value …`."""
        return " ".join([self.check, *(f"{key}={value}" for key, value in self.arguments.items())])


PLANS: Mapping[str, str] = {
    "quick": "minutes: is every GPU there, right and about as fast as it should be",
    "verification": "about 20 minutes, for idle nodes, hourly: all GPUs at full load",
    "repair": "about an hour, before a repaired node returns: verification, longer, and NVIDIA's own diagnostics",
}

_PEERS = ("gemm", "hbm-bandwidth", "pcie-bandwidth", "nvlink-p2p", "thermal-soak")
_NO_GPUS = ("cpu-arith", "memory-pattern", "storage", "disk-write", "gpu-present")

_STEPS: Mapping[str, tuple[tuple[str, Mapping[str, str]], ...]] = {
    "quick": (
        ("gpu-present", {}),
        ("sdc", {"seconds": "20"}),
        ("gemm", {"repeats": "10"}),
        ("pcie-bandwidth", {}),
        ("hbm-bandwidth", {}),
        ("nccl-allreduce", {}),
    ),
    "verification": (
        ("gpu-present", {}),
        ("cpu-arith", {"seconds": "30"}),
        ("memory-pattern", {"mib": "4096", "seconds": "30"}),
        ("storage", {"mib": "256"}),
        ("sdc", {"seconds": "240"}),
        ("gemm", {}),
        ("hbm-bandwidth", {}),
        ("hbm-march", {"share": "0.9"}),
        ("pcie-bandwidth", {}),
        ("nvlink-p2p", {}),
        ("nccl-allreduce", {}),
        ("thermal-soak", {"seconds": "600"}),
    ),
    "repair": (
        ("gpu-present", {}),
        ("cpu-arith", {"seconds": "60"}),
        ("memory-pattern", {"mib": "16384", "seconds": "120"}),
        ("storage", {"mib": "1024"}),
        ("dcgm-diag", {"level": "3"}),
        ("sdc", {"seconds": "600"}),
        ("gemm", {"repeats": "100"}),
        ("hbm-bandwidth", {}),
        ("hbm-march", {"share": "0.9"}),
        ("pcie-bandwidth", {}),
        ("nvlink-p2p", {}),
        ("nccl-allreduce", {}),
        ("thermal-soak", {"seconds": "1200"}),
    ),
}


def plan(sku: str, name: str = "verification", gpus: int | None = None) -> list[Planned]:
    """The checks of a plan for nodes of this SKU, in order. Raises NotFound for an unknown plan or SKU."""
    steps = _STEPS.get(name)
    if steps is None:
        raise NotFound(f"no plan is called {name[:64]!r}; there are {', '.join(PLANS)}")
    row = find(sku)
    count = row.gpus if gpus is None else gpus
    planned = []
    for check, fixed in steps:
        arguments = _arguments(row, check, count) | dict(fixed)
        known = CHECKS[check].arguments
        if check in ("nvlink-p2p", "nccl-allreduce") and count < 2:
            continue
        planned.append(Planned(check, {key: value for key, value in arguments.items() if key in known}))
    return planned


def _arguments(row: Sku, check: str, gpus: int) -> dict[str, str]:
    arguments: dict[str, str] = {"expected": str(gpus)} if check == "gpu-present" else {}
    if check not in _NO_GPUS:
        arguments["gpus"] = str(gpus)
    for key, floor in row.floors.items():
        owner, _, argument = key.partition("/")
        if owner == check:
            arguments[argument] = f"{floor.value:g}"
    if check in _PEERS:
        arguments["peer_percent"] = f"{PEER_PERCENT.value:g}"
    if check == "thermal-soak":
        arguments["max_temp_c"] = f"{MAX_TEMP_C.value:g}"
    if check == "gemm":
        arguments["dtypes"] = ",".join(row.dtypes)
    return arguments
