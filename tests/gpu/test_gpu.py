"""The GPU checks on real GPUs (`make test-gpu`): they pass on sound ones, find what is broken on purpose, and print
what they measured beside the datasheet's figure. Skipped where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from ostler.checks.gpu import bench as bench_module
from ostler.checks.gpu import hbm_march, sdc
from ostler.checks.gpu.bench import Bench, Device, open_bench
from ostler.checks.model import CheckResult, CheckVerdict
from ostler.checks.plans import plan
from ostler.checks.registry import find
from ostler.checks.runner import run_apart
from ostler.checks.thresholds import Sku
from ostler.checks.thresholds import find as find_sku
from ostler.core.errors import NotFound

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed: make torch")

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here; run this on a GPU machine"),
    pytest.mark.timeout(1800),
]

SHORTER = {"sdc": {"seconds": "30"}, "thermal-soak": {"seconds": "90"}, "gemm": {"repeats": "20"}}
ON_GPUS = (
    "sdc",
    "gemm",
    "hbm-march",
    "hbm-bandwidth",
    "pcie-bandwidth",
    "nvlink-p2p",
    "nccl-allreduce",
    "thermal-soak",
)
BETWEEN = ("nvlink-p2p", "nccl-allreduce")
CEILINGS = {
    "fp8_tflops_median": "fp8_tflops",
    "fp16_tflops_median": "fp16_tflops",
    "bf16_tflops_median": "bf16_tflops",
    "tf32_tflops_median": "tf32_tflops",
    "copy_gb_s_median": "hbm_gb_s",
    "triad_gb_s_median": "hbm_gb_s",
    "h2d_gb_s_median": "pcie_gb_s",
    "d2h_gb_s_median": "pcie_gb_s",
    "pair_gb_s_median": "nvlink_gb_s",
    "busbw_gb_s": "nvlink_gb_s",
    "tflops_median": "bf16_tflops",
}
_figures: dict[str, CheckResult] = {}


def _gpus() -> int:
    return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0


def _model() -> str:
    return str(torch.cuda.get_device_name(0)) if _gpus() else ""


def _sku() -> Sku | None:
    try:
        return find_sku(_model())
    except NotFound:
        return None


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Prints the figures when all is over."""
    yield
    sku = _sku()
    print(f"\n\n{_gpus()} x {_model()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    print(f"ceilings: {sku.source if sku else 'no row for this GPU'}\n")
    print(f"{'check':16} {'figure':24} {'measured':>12} {'ceiling':>9} {'share':>6}  verdict")
    for name, result in _figures.items():
        for key, value in result.measured.items():
            if key.startswith(("gpu", "digest", "device", "kernels")) or isinstance(value, str):
                continue
            ceiling = sku.ceilings.get(CEILINGS.get(key, "")) if sku else None
            share = f"{float(value) / ceiling:.0%}" if ceiling else ""
            print(f"{name:16} {key:24} {value:>12} {ceiling or '':>9} {share:>6}  {result.verdict.value}")
        if result.message:
            print(f"{'':16} {result.message}")


def _arguments(name: str) -> dict[str, str]:
    if _sku() is None:
        return {"gpus": str(_gpus())}
    planned = {one.check: dict(one.arguments) for one in plan(_model(), gpus=_gpus())}
    return planned.get(name, {}) | SHORTER.get(name, {})


@pytest.mark.parametrize("name", ON_GPUS)
def test_sound_gpus_are_within_specification(name: str) -> None:
    if name in BETWEEN and _gpus() < 2:
        pytest.skip("one GPU alone has no peer")
    result = _figures[name] = run_apart(name, _arguments(name), 900.0)
    assert result.verdict is not CheckVerdict.FAILED, result.message
    if result.verdict is CheckVerdict.INCONCLUSIVE:  # the only reasons that a sound machine may have
        allowed = ("no second GPU and no golden", "nobody said how fast", "NVML", "unsupported")
        assert any(reason in result.message for reason in allowed), result.message


def test_digests_are_the_same_in_another_process_and_on_every_gpu() -> None:
    one, other = (run_apart("sdc", {"seconds": "1", "seed": "7"}, 300.0) for _ in range(2))
    digests = {key: value for key, value in one.measured.items() if key.startswith("digest_")}
    assert digests
    assert digests == {key: value for key, value in other.measured.items() if key.startswith("digest_")}


class Flipping(Bench):
    """The last GPU flips one bit of each result after the third."""

    turns = 0

    def compute(self, device: Device, kernel: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        result = super().compute(device, kernel, inputs)
        if device is self.devices[-1]:
            self.turns += 1
            if self.turns > 3:
                result = result.contiguous()
                result.view(torch.uint8).view(-1)[11] ^= 4
        return result


class Stuck(Bench):
    """One bit of the last GPU's memory is always set."""

    def fill(self, device: Device, area: Any, values: Any, offset: int) -> None:
        super().fill(device, area, values, offset)
        at = 300 << 20
        if device is self.devices[-1] and offset <= at < offset + area.numel() * 8:
            area[(at - offset) // 8] |= 1 << 17


def _broken(kind: type[Bench]) -> Bench:
    ready = open_bench({})
    return kind(ready.torch, ready.kind, ready.devices, ready.asked, ready.versions, ready.nvml)


def test_a_flipped_bit_is_found() -> None:
    result = sdc.run({"seconds": "2", "kernels": "gemm-bf16", "size": "2048"}, 120.0, _broken(Flipping))
    assert (result.verdict, f"GPU {_gpus() - 1}: gemm-bf16" in result.message) == (CheckVerdict.FAILED, True)


def test_a_stuck_bit_is_found_where_it_is() -> None:
    result = hbm_march.run({"mib": "1024", "share": "0"}, 120.0, _broken(Stuck))
    assert result.verdict is CheckVerdict.FAILED
    assert (result.measured["wrong_gpu"], result.measured["wrong_offset"]) == (_gpus() - 1, 300 << 20)


def test_asking_for_more_memory_than_there_is_becomes_a_reason() -> None:
    def body(bench: Bench, tally: Any) -> None:
        with bench_module.guard(tally, bench.devices[0]):
            torch.empty(1 << 45, dtype=torch.uint8, device=bench.devices[0].place)

    result = bench_module.measure("x", {}, body)
    assert (result.verdict, "out of memory" in result.message) == (CheckVerdict.INCONCLUSIVE, True)


def test_more_gpus_than_there_are_is_inconclusive() -> None:
    asked = {"gpus": str(_gpus() + 1), "mib": "64", "min_gb_s": "0"}
    result = find("hbm-bandwidth").run(asked, 60.0)
    assert (result.verdict, f"ran on {_gpus()} of" in result.message) == (CheckVerdict.INCONCLUSIVE, True)
