"""Full load on all GPUs at once for minutes: heat, clocks that are held down, and a rate that sinks as it warms.

The load is one BF16 product after another. Once a second each GPU is read through NVML; a slowdown for heat or by the
power brake is a failure whatever the temperature says, and so is a rate that has sunk by more than `drift_percent`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ostler.checks.gpu.bench import Bench, guard, measure
from ostler.checks.gpu.kernels import gemm, pattern
from ostler.checks.gpu.nvml import Sample
from ostler.checks.model import Arguments, CheckResult, floor, number
from ostler.checks.tally import Tally

NAME = "thermal-soak"


@dataclass
class Course:
    """One GPU over the time of the soak."""

    rates: list[float] = field(default_factory=list)
    """TFLOP/s of each period, in order."""
    samples: list[Sample] = field(default_factory=list)
    blind: int = 0
    """Periods in which NVML did not answer."""


def run(arguments: Arguments, budget_s: float, bench: Bench | None = None) -> CheckResult:
    """`seconds` of load; less than that fits into `budget_s`: a gap."""
    seconds = number(arguments, "seconds", 300.0, 0.1, 86_400.0)
    size = int(number(arguments, "size", 0, 16, 32_768)) // 16 * 16
    hottest, drift = floor(arguments, "max_temp_c"), number(arguments, "drift_percent", 10.0, 0.0, 100.0)
    peer = floor(arguments, "peer_percent")

    def body(ready: Bench, tally: Tally) -> None:
        courses = _soak(ready, tally, size or ready.small(8192, 64), min(seconds, budget_s), ready.small(1000, 50))
        if budget_s < seconds:
            tally.gap(f"soaked for {budget_s:.0f} of {seconds:.0f} s")
        judge(tally, courses, hottest, drift)
        tally.near_peers("rate under load", {k: max(c.rates) for k, c in courses.items() if c.rates}, peer)

    return measure(NAME, arguments, body, bench)


def _soak(bench: Bench, tally: Tally, n: int, seconds: float, period_ms: int) -> dict[int, Course]:
    courses: dict[int, Course] = {device.index: Course() for device in bench.devices}
    inputs: dict[int, tuple[Any, Any]] = {}
    for device in bench.devices:
        with guard(tally, device):
            a, b = (pattern(bench.torch, (n, n), f"soak:{which}", "bf16") for which in "ab")
            inputs[device.index] = (bench.put(device, a), bench.put(device, b))
    alive = [device for device in bench.devices if device.index in inputs]
    batch, work = 1, 2.0 * n**3
    began = bench.now()
    while alive and bench.now() - began < seconds:
        started = bench.now()
        spans = {}
        for device in alive:
            with guard(tally, device):
                first = bench.stamp(device)
                for _ in range(batch):
                    bench.compute(device, gemm, inputs[device.index])
                spans[device.index] = (first, bench.stamp(device))
        # Read while the queues are full: what counts is the state under load.
        samples = {device.index: bench.sample(device) for device in alive}
        for device in alive:
            course, sample = courses[device.index], samples[device.index]
            with guard(tally, device):
                if device.index in spans:
                    course.rates.append(work * batch / bench.between(*spans[device.index]) / 1e12)
            if sample is None:
                course.blind += 1
            else:
                course.samples.append(sample)
        took = max(bench.now() - started, 1e-6)
        if took < period_ms / 2000:
            batch = min(batch * 2, 4096)
    tally.note("seconds", bench.now() - began)
    return courses


def judge(tally: Tally, courses: dict[int, Course], hottest: float | None, drift_percent: float) -> None:
    """What each GPU's course says."""
    peaks, sunk = {}, {}
    for index, course in sorted(courses.items()):
        if len(course.rates) < 4:
            tally.gap(f"GPU {index}: {len(course.rates)} periods are too few to see a drift")
        else:
            sunk[index] = drift(course.rates)
            if sunk[index] > drift_percent:
                tally.fail(f"GPU {index}: the rate sank by {sunk[index]:.1f} % under load, {drift_percent:g} % may be")
        if not course.samples or course.blind > len(course.samples):
            tally.gap(f"GPU {index}: temperature and clocks could not be read (NVML)")
            continue
        peaks[index] = max(sample.temperature_c for sample in course.samples)
        held = sorted({reason for sample in course.samples for reason in sample.reasons})
        if held:
            share = sum(1 for sample in course.samples if sample.reasons) / len(course.samples)
            tally.fail(f"GPU {index}: clocks held down in {share:.0%} of the time: {', '.join(held)}")
        if hottest is not None and peaks[index] > hottest:
            tally.fail(f"GPU {index}: {peaks[index]:.0f} °C, at most {hottest:.0f} are wanted")
        tally.fine()
    tally.spread("temp_c", peaks)
    tally.spread("drift_percent", sunk)
    tally.spread("tflops", {k: sorted(c.rates)[len(c.rates) // 2] for k, c in courses.items() if c.rates})
    clocks = {k: min(sample.sm_mhz for sample in c.samples) for k, c in courses.items() if c.samples}
    tally.spread("sm_mhz", clocks)


def drift(rates: Sequence[float]) -> float:
    """How many per cent the last quarter is slower than the best quarter before it; 0 when it is not.

    The first quarter may be slow for itself (clocks rise, batches grow), so the best one is what counts.
    """
    quarter = max(1, len(rates) // 4)
    parts = [rates[at : at + quarter] for at in range(0, len(rates) - quarter + 1, quarter)]
    means = [sum(part) / len(part) for part in parts]
    return max(0.0, 100 * (1 - means[-1] / max(means)))
