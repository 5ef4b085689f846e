"""Matrix products in FP8, FP16, BF16 and TF32: are they right, and as fast as they should be.

Right: sampled rows against float64 on the CPU, each element within what its type's rounding allows. Fast: the median
rate against a minimum (`min_bf16_tflops`, from the SKU's row in thresholds.py), against this GPU's own history
(`baseline=bf16:712,fp8:1310`) and against its siblings (`peer_percent`).
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from math import inf, isnan
from typing import Any

from ostler.checks.gpu.bench import Bench, Device, guard, measure
from ostler.checks.gpu.kernels import Kernel, full_sums, gemm, gemm_fp8, gemm_tf32, pattern
from ostler.checks.model import Arguments, CheckResult, floor, number, words
from ostler.checks.tally import Tally
from ostler.core.errors import BadInput

NAME = "gemm"
TYPES: dict[str, tuple[Kernel, float, float]] = {
    "fp8": (gemm_fp8, 2**-8, 2**-11),
    "fp16": (gemm, 2**-11, 2**-17),
    "bf16": (gemm, 2**-8, 2**-17),
    "tf32": (gemm_tf32, 2**-23, 2**-11),
}
"""Kernel, rounding of the result, rounding of the sum. |error| <= 2·result·|c| + sum·(|A|·|B|), as for any product in
floating point (Higham, Accuracy and Stability of Numerical Algorithms, §3.5), with the sum's unit far above float32's
2^-24 because tensor cores keep fewer bits (FP8 on Hopper about 13, arXiv 2412.19437 §3.3.2)."""
_ROWS = 16
"""Rows that are recomputed in float64."""


def run(arguments: Arguments, budget_s: float, bench: Bench | None = None) -> CheckResult:
    """Each type on each GPU; types that the GPU or PyTorch does not have are gaps."""
    chosen = words(arguments, "dtypes", "fp8,fp16,bf16,tf32", TYPES)
    size = int(number(arguments, "size", 0, 16, 32_768)) // 16 * 16
    repeats = int(number(arguments, "repeats", 0, 1, 10_000))
    history = _history(arguments.get("baseline", ""))
    drop = number(arguments, "drop_percent", 5.0, 0.0, 100.0)
    peer = floor(arguments, "peer_percent")
    least = {name: floor(arguments, f"min_{name}_tflops") for name in TYPES}
    end = time.monotonic() + budget_s

    def body(ready: Bench, tally: Tally) -> None:
        n = size or ready.small(8192, 64)
        tally.note("size", n)
        for name in chosen:
            rates = {}
            known = reference(ready.torch, name, n)
            for device in ready.devices:
                if time.monotonic() >= end:
                    tally.gap(f"no time was left for {name} on GPU {device.index}")
                    continue
                with guard(tally, device, name), full_sums(ready.torch):
                    rates[device.index] = _one(ready, tally, device, name, known, repeats or ready.small(30, 3))
            tally.spread(f"{name}_tflops", rates)
            judged = tally.at_least(f"{name} GEMM", rates, least[name], "TFLOP/s")
            if name in history:
                judged |= tally.at_least(
                    f"{name} GEMM, its history being {history[name]:.4g}:",
                    rates,
                    history[name] * (1 - drop / 100),
                    "TFLOP/s",
                )
            judged |= tally.near_peers(f"{name} GEMM", rates, peer)
            if rates and not judged:
                tally.gap(f"{name}: nobody said how fast (min_{name}_tflops, baseline or peer_percent)")

    return measure(NAME, arguments, body, bench)


@dataclass(frozen=True, slots=True)
class Reference:
    """Inputs on the CPU, and what sampled rows of their product must be."""

    a: Any
    b: Any
    rows: Any
    right: Any
    allowed: Any
    """The largest error of each element that rounding explains."""


def reference(torch: Any, name: str, n: int) -> Reference:
    """For an n × n product in this type, from float64."""
    _, round_result, round_sum = TYPES[name]
    a, b = (pattern(torch, (n, n), f"gemm:{name}:{which}", name) for which in ("a", "b"))
    rows = torch.linspace(0, n - 1, min(_ROWS, n)).round().long()
    exact_a, exact_b = a[rows].double(), (b.t() if name == "fp8" else b).double()  # gemm_fp8 takes b transposed
    right = exact_a @ exact_b
    allowed = 2 * round_result * right.abs() + round_sum * (exact_a.abs() @ exact_b.abs_())
    return Reference(a, b, rows, right, allowed.clamp_min(1e-30))


def residual(torch: Any, known: Reference, found: Any) -> float:
    """The largest error of the sampled rows, as a multiple of what rounding allows; infinite for a NaN anywhere."""
    value = float(((found[known.rows].double() - known.right).abs() / known.allowed).max())
    whole = bool(torch.isfinite(found.float()).all())
    return value if whole and not isnan(value) else inf


def _one(bench: Bench, tally: Tally, device: Device, name: str, known: Reference, repeats: int) -> float:
    """Checks the result, then answers the rate in TFLOP/s."""
    kernel = TYPES[name][0]
    a, b = bench.put(device, known.a), bench.put(device, known.b)
    worst = residual(bench.torch, known, bench.fetch(device, bench.compute(device, kernel, (a, b))))
    tally.note(f"{name}_error", max(worst, float(tally.measured.get(f"{name}_error", 0.0))))
    if not worst <= 1.0:
        tally.fail(f"GPU {device.index}: {name} GEMM is wrong: an element is off by {worst:.3g} × the rounding allowed")
    else:
        tally.fine()
    took = bench.typical(device, lambda: bench.compute(device, kernel, (a, b)), repeats, bench.small(5, 1))
    return float(2.0 * known.a.shape[0] ** 3 / took / 1e12)


def _history(text: str) -> dict[str, float]:
    history = {}
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"(\w+):([0-9]+(?:\.[0-9]+)?)", part)
        if match is None or match[1] not in TYPES:
            raise BadInput(f"{part[:40]!r} is no TYPE:TFLOPS such as bf16:712", where="baseline")
        history[match[1]] = float(match[2])
    return history
