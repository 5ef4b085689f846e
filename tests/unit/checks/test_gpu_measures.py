"""GEMM, memory, bandwidth and soak on stand-ins: right ones pass, wrong and slow ones are named, the rest is unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: make torch")

from ostler.checks.gpu import bandwidth, gemm, hbm_march, thermal_soak
from ostler.checks.gpu.bench import Bench, Device
from ostler.checks.gpu.nvml import Sample
from ostler.checks.gpu.thermal_soak import Course
from ostler.checks.model import Arguments, CheckResult, CheckVerdict
from ostler.checks.tally import Tally
from ostler.core.errors import BadInput
from tests.unit.checks.liars import Lying, torch

PASSED, FAILED, INCONCLUSIVE = CheckVerdict.PASSED, CheckVerdict.FAILED, CheckVerdict.INCONCLUSIVE
TINY = "0.000000001"


def test_gemm_is_right_and_fast_enough() -> None:
    arguments = {"dtypes": "fp8,fp16,bf16", **{f"min_{name}_tflops": TINY for name in ("fp8", "fp16", "bf16")}}
    result = gemm.run(arguments, 60.0, Lying(2))
    assert result.verdict is PASSED, result.message
    assert 0 < float(result.measured["bf16_error"]) < 1
    assert float(result.measured["gpu1_fp8_tflops"]) > 0


@pytest.mark.parametrize("name", ["fp8", "fp16", "bf16"])
def test_a_wrong_product_is_found_against_float64(name: str) -> None:
    known = gemm.reference(torch, name, 64)
    right = gemm.TYPES[name][0](torch, known.a, known.b)
    assert gemm.residual(torch, known, right) < 1
    row = int(known.rows[3])
    wrong = right.clone()
    wrong[row, 7] = wrong[row, 7] * 1.05 + 0.1
    assert gemm.residual(torch, known, wrong) > 1
    wrong = right.clone()
    wrong[1, 1] = float("nan")  # in a row that is not sampled, or is: either way
    assert gemm.residual(torch, known, wrong) == float("inf")


def test_gemm_with_a_wrong_result_fails_however_fast() -> None:
    result = gemm.run({"dtypes": "bf16", "min_bf16_tflops": TINY}, 60.0, _Zeroing(3, 2))
    assert (result.verdict, "GPU 2: bf16 GEMM is wrong" in result.message) == (FAILED, True)


class _Zeroing(Lying):
    """One GPU whose results are zeros."""

    def __init__(self, count: int, broken: int) -> None:
        super().__init__(count)
        self.broken = broken

    def compute(self, device: Device, kernel: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        result = super().compute(device, kernel, inputs)
        return result.zero_() if device.index == self.broken else result


def _paced(seconds: float, slow: dict[int, float], count: int = 4) -> Lying:
    bench = Lying(count)
    bench.pace = dict.fromkeys(range(count), seconds) | slow
    return bench


@pytest.mark.parametrize(
    ("arguments", "slow", "verdict", "says"),
    [
        ({"min_bf16_tflops": "0.5"}, {}, PASSED, ""),
        ({"min_bf16_tflops": "0.6"}, {}, FAILED, "GPU 0: bf16 GEMM 0.5243 TFLOP/s, at least 0.6 are wanted"),
        ({"baseline": "bf16:0.54", "drop_percent": "5"}, {}, PASSED, ""),
        ({"baseline": "bf16:0.56", "drop_percent": "5"}, {}, FAILED, "its history being 0.56"),
        ({"peer_percent": "5"}, {}, PASSED, ""),
        ({"peer_percent": "5"}, {2: 1.2e-6}, FAILED, "GPU 2: bf16 GEMM 0.4369 is 16.7 % below its siblings"),
        ({"baseline": "fp8:1"}, {}, INCONCLUSIVE, "nobody said how fast"),
    ],
)
def test_gemm_is_judged_by_what_was_given(
    arguments: dict[str, str], slow: dict[int, float], verdict: CheckVerdict, says: str
) -> None:
    result = gemm.run({"dtypes": "bf16", "size": "64", **arguments}, 60.0, _paced(1e-6, slow))
    assert (result.verdict, says in result.message) == (verdict, True), result.message
    assert "GPU 1" not in result.message or not slow


def test_a_type_that_is_not_there_is_a_gap() -> None:
    result = gemm.run({"dtypes": "bf16,tf32", "min_bf16_tflops": TINY}, 60.0, Lying(2))
    assert (result.verdict, "GPU 1 tf32: unsupported" in result.message) == (INCONCLUSIVE, True)


@pytest.mark.parametrize("baseline", ["bf16", "int3:7", "bf16:x", "bf16:-1"])
def test_a_bad_history_is_refused(baseline: str) -> None:
    with pytest.raises(BadInput, match="baseline:"):
        gemm.run({"baseline": baseline}, 60.0, Lying(1))


def test_march_passes_on_sound_memory() -> None:
    result = hbm_march.run({"mib": "4", "chunk_mib": "1"}, 60.0, Lying(2))
    assert (result.verdict, result.measured["share_min"]) == (PASSED, 1.0)


@pytest.mark.parametrize(
    ("always", "at", "bits", "pattern", "expected"),
    [
        ("set", 3 << 20, 1, "march step 2", "expected 0x0000000000000000, found 0x0000000000000001"),
        ("set", (2 << 20) + 4096, 1 << 40, "march step 2", "expected 0x0000000000000000, found 0x0000010000000000"),
        ("clear", 1 << 20, 1 << 4, "march step 3", "expected 0xffffffffffffffff, found 0xffffffffffffffef"),
    ],
)
def test_march_names_the_first_stuck_bit(always: str, at: int, bits: int, pattern: str, expected: str) -> None:
    bench = Lying(3)
    (bench.stuck if always == "set" else bench.dead)[1] = (at, bits)
    result = hbm_march.run({"mib": "4", "chunk_mib": "1"}, 60.0, bench)
    assert result.verdict is FAILED
    assert f"GPU 1 (serial-1): pattern {pattern}: at byte {at:#x} of the area {expected}" in result.message
    assert (result.measured["wrong_gpu"], result.measured["wrong_offset"]) == (1, at)


def test_march_finds_an_address_line_that_is_tied_to_another() -> None:
    class Aliased(Lying):
        """The second chunk's address is the first's as well, for patterns of more than one value."""

        first: Any = None

        def fill(self, device: Device, area: Any, values: Any, offset: int) -> None:
            super().fill(device, area, values, offset)
            if not isinstance(values, int):
                self.first = area if self.first is None else self.first
                if offset:
                    self.first.copy_(area)

    result = hbm_march.run({"mib": "2", "chunk_mib": "1"}, 60.0, Aliased(1))
    assert (result.verdict, "pattern address: at byte 0x0" in result.message) == (FAILED, True)


def test_march_over_too_little_memory_is_inconclusive() -> None:
    bench = Lying(1)
    bench.total = (4 << 20, 64 << 20)
    result = hbm_march.run({"chunk_mib": "1"}, 60.0, bench)
    assert (result.verdict, "6% of its memory was free to test, not 90%" in result.message) == (INCONCLUSIVE, True)


def test_march_without_time_is_inconclusive() -> None:
    result = hbm_march.run({"mib": "2"}, 0.0, Lying(1))
    assert (result.verdict, "the time was over before all patterns" in result.message) == (INCONCLUSIVE, True)


Bandwidth: TypeAlias = Callable[[Arguments, float, Bench | None], CheckResult]
BANDWIDTHS: list[tuple[Bandwidth, tuple[str, ...]]] = [
    (bandwidth.hbm_bandwidth, ("min_gb_s",)),
    (bandwidth.pcie_bandwidth, ("min_h2d_gb_s", "min_d2h_gb_s")),
    (bandwidth.nvlink_p2p, ("min_gb_s",)),
]


@pytest.mark.parametrize(("check", "names"), BANDWIDTHS)
def test_bandwidth_is_judged_only_by_what_was_given(check: Bandwidth, names: tuple[str, ...]) -> None:
    assert check({"mib": "1"}, 60.0, Lying(3)).verdict is INCONCLUSIVE
    assert check({"mib": "1", **dict.fromkeys(names, TINY)}, 60.0, Lying(3)).verdict is PASSED
    slow = check({"mib": "1", **dict.fromkeys(names, "1000000")}, 60.0, Lying(3))
    assert (slow.verdict, "at least 1e+06 are wanted" in slow.message) == (FAILED, True)
    assert check({"mib": "1", **dict.fromkeys(names, TINY)}, 0.0, Lying(3)).verdict is INCONCLUSIVE


@pytest.mark.parametrize(("check", "names"), BANDWIDTHS)
def test_a_slow_gpu_is_seen_beside_its_siblings(check: Bandwidth, names: tuple[str, ...]) -> None:
    result = check({"mib": "1", "peer_percent": "10"}, 60.0, _paced(1e-3, {2: 2e-3}))
    assert (result.verdict, "GPU 2" in result.message) == (FAILED, True)
    assert check({"mib": "1", "peer_percent": "10"}, 60.0, _paced(1e-3, {})).verdict is PASSED


def test_one_gpu_has_no_peer() -> None:
    assert bandwidth.nvlink_p2p({}, 60.0, Lying(1)).verdict is INCONCLUSIVE


def test_bytes_that_arrive_different_fail() -> None:
    class Losing(Lying):
        """What is fetched from GPU 1 is not what is there."""

        def fetch(self, device: Device, tensor: Any) -> Any:
            found = super().fetch(device, tensor)
            if device.index == 1:
                found[7] += 1
            return found

    p2p = bandwidth.nvlink_p2p({"mib": "1", "min_gb_s": TINY}, 60.0, Losing(3))
    assert (p2p.verdict, "GPU 0 to 1: what arrived is not" in p2p.message) == (FAILED, True)
    pcie = bandwidth.pcie_bandwidth({"mib": "1", "min_h2d_gb_s": TINY, "min_d2h_gb_s": TINY}, 60.0, Losing(2))
    assert (pcie.verdict, "GPU 1: what came back over PCIe" in pcie.message) == (FAILED, True)


def test_the_matrix_of_pairs_names_the_slow_link() -> None:
    tally = Tally("nvlink-p2p")
    pairs = {(a, b): 390.0 for a in range(4) for b in range(4) if a != b} | {(1, 3): 200.0}
    bandwidth.judge_pairs(tally, pairs, 335.0, 10.0)
    assert tally.failures == ["GPU 1 to 3: 200 GB/s, at least 351 are wanted (median 390)"]
    assert tally.measured["gpu1_to_gb_s"] == "0:390 2:390 3:200"
    assert tally.measured["slowest_pair"] == "1-3"


COOL = Sample(60.0, 1980.0, 650.0)


def test_a_soak_passes_when_it_stays_cool_and_steady() -> None:
    tally = Tally("thermal-soak")
    thermal_soak.judge(tally, {0: Course([1.0] * 8, [COOL] * 8), 1: Course([1.0] * 8, [COOL] * 8)}, 87.0, 10.0)
    assert tally.result().verdict is PASSED
    assert (tally.measured["temp_c_min"], tally.measured["sm_mhz_min"]) == (60.0, 1980.0)


@pytest.mark.parametrize(
    ("course", "verdict", "says"),
    [
        (Course([1.0] * 8, [Sample(91.0, 1980.0, 650.0)] * 8), FAILED, "GPU 0: 91 °C, at most 87"),
        (
            Course([1.0] * 8, [COOL] * 6 + [Sample(80, 1200, 600, ("hw-thermal",))] * 2),
            FAILED,
            "25% of the time: hw-th",
        ),
        (Course([0.4, 0.4, 1.0, 1.0, 1.0, 1.0, 0.8, 0.8], [COOL] * 8), FAILED, "sank by 20.0 %"),
        (Course([0.4, 0.4, 1.0, 1.0, 1.0, 1.0, 0.95, 0.95], [COOL] * 8), PASSED, ""),
        (Course([1.0] * 8, [], blind=8), INCONCLUSIVE, "could not be read"),
        (Course([1.0] * 8, [COOL], blind=7), INCONCLUSIVE, "could not be read"),
        (Course([1.0] * 3, [COOL] * 3), INCONCLUSIVE, "too few"),
    ],
)
def test_a_soak_names_heat_throttling_and_drift(course: Course, verdict: CheckVerdict, says: str) -> None:
    tally = Tally("thermal-soak")
    thermal_soak.judge(tally, {0: course}, 87.0, 10.0)
    result = tally.result()
    assert (result.verdict, says in result.message) == (verdict, True), result.message


def test_a_soak_runs_here_and_says_what_it_could_not_read() -> None:
    blind = thermal_soak.run({"seconds": "0.3", "drift_percent": "100"}, 60.0, Lying(2))
    assert (blind.verdict, "NVML" in blind.message) == (INCONCLUSIVE, True)
    bench = Lying(2)
    bench.sampled = {0: COOL, 1: COOL}
    seeing = thermal_soak.run({"seconds": "0.3", "drift_percent": "100"}, 60.0, bench)
    assert seeing.verdict is PASSED, seeing.message
    short = thermal_soak.run({"seconds": "60", "drift_percent": "100"}, 0.3, bench)
    assert (short.verdict, "soaked for 0 of 60 s" in short.message) == (INCONCLUSIVE, True)
