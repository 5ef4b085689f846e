"""Plans and the table of thresholds: complete, with sources, and in the form in which settings name checks."""

from __future__ import annotations

import pytest

from ostler.checks.plans import PLANS, plan
from ostler.checks.registry import CHECKS
from ostler.checks.thresholds import SKUS, find
from ostler.core.errors import NotFound
from ostler.health.model import split_check


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("sku", [sku.name for sku in SKUS])
def test_every_plan_is_made_of_checks_and_arguments_that_exist(name: str, sku: str) -> None:
    planned = plan(sku, name)
    assert planned
    for one in planned:
        assert split_check(one.text) == (one.check, dict(one.arguments))
        assert set(one.arguments) <= set(CHECKS[one.check].arguments)


def test_the_verification_plan_takes_about_twenty_minutes() -> None:
    seconds = sum(float(one.arguments.get("seconds", CHECKS[one.check].seconds)) for one in plan("h100"))
    assert 15 * 60 <= seconds <= 25 * 60


def test_a_plan_carries_the_thresholds_of_its_sku() -> None:
    texts = [one.text for one in plan("NVIDIA H100 80GB HBM3")]
    assert "pcie-bandwidth gpus=8 min_h2d_gb_s=48 min_d2h_gb_s=48 peer_percent=10" in texts
    assert "nvlink-p2p gpus=8 min_gb_s=335 peer_percent=10" in texts
    assert "gpu-present expected=8" in texts
    a100 = {one.check: one.arguments for one in plan("hgx-a100-8", "quick")}
    assert a100["gemm"]["dtypes"] == "fp16,bf16,tf32"
    assert "min_fp8_tflops" not in a100["gemm"]


def test_a_node_with_one_gpu_has_no_checks_between_gpus() -> None:
    assert not {"nvlink-p2p", "nccl-allreduce"} & {one.check for one in plan("h200", gpus=1)}


def test_every_floor_has_a_source_and_lies_below_its_ceiling() -> None:
    ceilings = {
        "gemm/min_bf16_tflops": "bf16_tflops",
        "gemm/min_fp16_tflops": "fp16_tflops",
        "gemm/min_fp8_tflops": "fp8_tflops",
        "gemm/min_tf32_tflops": "tf32_tflops",
        "hbm-bandwidth/min_gb_s": "hbm_gb_s",
        "pcie-bandwidth/min_h2d_gb_s": "pcie_gb_s",
        "pcie-bandwidth/min_d2h_gb_s": "pcie_gb_s",
        "nvlink-p2p/min_gb_s": "nvlink_gb_s",
        "nccl-allreduce/min_busbw_gb_s": "",
        "ib-write-bw/min_gbit_s": "",
    }
    for sku in SKUS:
        assert sku.source
        for key, floor in sku.floors.items():
            check, _, argument = key.partition("/")
            assert argument in CHECKS[check].arguments
            assert floor.source
            assert floor.value > 0
            if ceilings[key]:
                assert floor.value < sku.ceilings[ceilings[key]]


@pytest.mark.parametrize(
    ("text", "sku"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("hgx-h200-8", "h200"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
    ],
)
def test_a_gpu_is_found_by_its_model(text: str, sku: str) -> None:
    assert find(text).name == sku


@pytest.mark.parametrize(
    "text",
    ["", "NVIDIA GH200 480GB", "NVIDIA H100 PCIe", "NVIDIA H100 NVL", "NVIDIA A100-SXM4-40GB", "AMD Instinct MI300X"],
)
def test_a_gpu_of_another_kind_has_no_thresholds(text: str) -> None:
    with pytest.raises(NotFound, match="no thresholds are known"):
        find(text)


def test_an_unknown_plan_is_refused() -> None:
    with pytest.raises(NotFound, match="no plan is called 'x'; there are quick"):
        plan("h100", "x")
