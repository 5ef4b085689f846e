"""What a GPU of each SKU can do and must do, each figure with its source: the one table. Read by plans.py.

`Ceiling` is the vendor's datasheet (dense rates, without sparsity; per direction for links). `Floor` is what a check
asks for: a published figure of somebody who runs such fleets where there is one, else a share of the ceiling that is
ours and says so. No figure here was measured by us; a floor that is a share should be replaced by a site's own history.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ostler.core.errors import NotFound

AZURE = "Azure NHC (azurehpc-health-checks)"
OCI = "Oracle Cloud Infrastructure, GPU scanner"


@dataclass(frozen=True, slots=True)
class Floor:
    """A minimum and where it comes from."""

    value: float
    source: str


@dataclass(frozen=True, slots=True)
class Sku:
    """One GPU model on its usual 8-GPU (or NVL) baseboard."""

    name: str
    words: tuple[str, ...]
    """Words of its model or of a node's SKU that mean it, in lower case."""
    gpus: int
    ceilings: Mapping[str, float]
    """`bf16_tflops`, `hbm_gb_s`, `pcie_gb_s`, `nvlink_gb_s`, …"""
    floors: Mapping[str, Floor]
    """`min_*` of a check, as `check/argument`."""
    source: str
    """Of the ceilings."""
    dtypes: tuple[str, ...] = ("fp8", "fp16", "bf16", "tf32")


def _share(ceiling: float, share: float, what: str) -> Floor:
    return Floor(round(ceiling * share, 1), f"ours, not calibrated: {share:.0%} of the datasheet's {what}")


def _rates(ceilings: Mapping[str, float]) -> dict[str, Floor]:
    """GEMM floors: large products on random data reach 60 to 85 % of a datasheet rate; FP8 without fast sums less."""
    shares = {"fp8": 0.45, "fp16": 0.6, "bf16": 0.6, "tf32": 0.55}
    return {
        f"gemm/min_{name}_tflops": _share(ceilings[f"{name}_tflops"], share, f"{name} rate")
        for name, share in shares.items()
        if f"{name}_tflops" in ceilings
    }


def _memory(ceilings: Mapping[str, float]) -> dict[str, Floor]:
    """OCI asks 3000 GB/s of its own program on H100 (3350 by datasheet); a PyTorch copy reaches a little less."""
    return {"hbm-bandwidth/min_gb_s": _share(ceilings["hbm_gb_s"], 0.8, "memory bandwidth")}


def _pcie(value: float, source: str) -> dict[str, Floor]:
    return {f"pcie-bandwidth/min_{way}_gb_s": Floor(value, source) for way in ("h2d", "d2h")}


_HOPPER = {"fp8_tflops": 1979.0, "fp16_tflops": 989.0, "bf16_tflops": 989.0, "tf32_tflops": 494.0}
_A100 = {
    "fp16_tflops": 312.0,
    "bf16_tflops": 312.0,
    "tf32_tflops": 156.0,
    "hbm_gb_s": 2039.0,
    "pcie_gb_s": 32.0,
    "nvlink_gb_s": 300.0,
}
_H100 = {**_HOPPER, "hbm_gb_s": 3350.0, "pcie_gb_s": 64.0, "nvlink_gb_s": 450.0}
_H200 = {**_HOPPER, "hbm_gb_s": 4800.0, "pcie_gb_s": 64.0, "nvlink_gb_s": 450.0}
_B200 = {
    "fp8_tflops": 4500.0,
    "fp16_tflops": 2250.0,
    "bf16_tflops": 2250.0,
    "tf32_tflops": 1125.0,
    "hbm_gb_s": 8000.0,
    "pcie_gb_s": 64.0,
    "nvlink_gb_s": 900.0,
}
_B300 = {**_B200}
_GB200 = {**_B200, "fp8_tflops": 5000.0, "fp16_tflops": 2500.0, "bf16_tflops": 2500.0, "tf32_tflops": 1250.0}
del _GB200["pcie_gb_s"]  # the host is reached over NVLink-C2C there

SKUS: tuple[Sku, ...] = (
    Sku(
        "gb200",
        ("gb200",),
        4,
        _GB200,
        {
            **_rates(_GB200),
            **_memory(_GB200),
            "nccl-allreduce/min_busbw_gb_s": Floor(350.0, f"{OCI}: 350 (GB200)"),
            "ib-write-bw/min_gbit_s": Floor(380.0, f"{AZURE}: ib_bw_gdr 380 on a 400 Gbit/s port"),
        },
        "NVIDIA GB200 NVL72 datasheet, per GPU",
    ),
    Sku(
        "b300",
        ("b300",),
        8,
        _B300,
        {
            **_rates(_B300),
            **_memory(_B300),
            **_pcie(48.0, f"{AZURE}: 48 (H100, the same PCIe 5.0 x16)"),
            "nccl-allreduce/min_busbw_gb_s": Floor(800.0, f"{OCI}: 800 (B300)"),
            "ib-write-bw/min_gbit_s": Floor(760.0, "ours, not calibrated: 95 % of the 800 Gbit/s port"),
        },
        "NVIDIA HGX B300 datasheet, per GPU",
    ),
    Sku(
        "b200",
        ("b200",),
        8,
        _B200,
        {
            **_rates(_B200),
            **_memory(_B200),
            **_pcie(48.0, f"{AZURE}: 48 (H100, the same PCIe 5.0 x16)"),
            "nccl-allreduce/min_busbw_gb_s": Floor(440.0, f"{OCI}: 440 (H100, H200, B200)"),
            "ib-write-bw/min_gbit_s": Floor(380.0, f"{AZURE}: ib_bw_gdr 380 on a 400 Gbit/s port"),
        },
        "NVIDIA HGX B200 datasheet, per GPU",
    ),
    Sku(
        "h200",
        ("h200",),
        8,
        _H200,
        {
            **_rates(_H200),
            **_memory(_H200),
            **_pcie(48.0, f"{AZURE}: 48 (H100; the same host link)"),
            "nvlink-p2p/min_gb_s": Floor(335.0, f"{AZURE}: 335 (H100; the same links)"),
            "nccl-allreduce/min_busbw_gb_s": Floor(440.0, f"{OCI}: 440; {AZURE} asks 480"),
            "ib-write-bw/min_gbit_s": Floor(380.0, f"{AZURE}: 400 for H200, which is line rate; 380 as for H100"),
        },
        "NVIDIA H200 SXM datasheet",
    ),
    Sku(
        "h100",
        ("h100",),
        8,
        _H100,
        {
            **_rates(_H100),
            **_memory(_H100),
            **_pcie(48.0, f"{AZURE}: HtoD/DtoH 48"),
            "nvlink-p2p/min_gb_s": Floor(335.0, f"{AZURE}: P2P 335"),
            "nccl-allreduce/min_busbw_gb_s": Floor(440.0, f"{OCI}: 440; {AZURE} asks 460"),
            "ib-write-bw/min_gbit_s": Floor(380.0, f"{AZURE}: ib_bw_gdr 380"),
        },
        "NVIDIA H100 SXM datasheet",
    ),
    Sku(
        "a100",
        ("a100",),
        8,
        _A100,
        {
            **_rates(_A100),
            **_memory(_A100),
            **_pcie(20.0, "ours, not calibrated: 62 % of PCIe 4.0 x16, 32 GB/s"),
            "nvlink-p2p/min_gb_s": _share(300.0, 0.7, "NVLink rate per direction"),
            "nccl-allreduce/min_busbw_gb_s": Floor(185.0, f"{OCI}: 185; {AZURE} asks 228"),
            "ib-write-bw/min_gbit_s": Floor(180.0, f"{AZURE}: ib_bw_gdr 180"),
        },
        "NVIDIA A100 80GB SXM datasheet",
        ("fp16", "bf16", "tf32"),
    ),
)

_OTHERS = {"pcie", "nvl", "40gb", "mig"}
"""Models of the same generation that these figures are not of."""

MAX_TEMP_C = Floor(87.0, "ours, not calibrated: a little under where these GPUs begin to slow down")

PEER_PERCENT = Floor(10.0, "ours: twice the 5 % between runs that SuperBench takes as noise (arXiv 2402.06194)")
"""How much slower than its siblings' median a GPU may be."""


def find(text: str) -> Sku:
    """The row for a GPU model or a node's SKU (`NVIDIA H100 80GB HBM3`, `hgx-h100-8`). Raises NotFound."""
    words = set(re.findall(r"[a-z0-9]+", text.lower()))
    for sku in SKUS:
        if words & set(sku.words) and not words & _OTHERS:
            return sku
    known = ", ".join(sku.name for sku in SKUS)
    raise NotFound(f"no thresholds are known for {text[:64]!r}; there are rows for {known}")
