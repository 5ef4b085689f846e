"""Deterministic arithmetic, repeated on each core: any difference between two digests is silent data corruption.

The same block of integer, floating-point and hash work runs on every core that this process may use, pinned one after
the other, again and again. IEEE 754 and integers leave no freedom, so all digests must be equal. The reference is the
majority, so a broken core is named even if it was first.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
import time
from collections import Counter
from statistics import median

from ostler.checks.model import Arguments, CheckResult, CheckVerdict, floor, number

_ROUNDS = 4000


def block(rounds: int = _ROUNDS) -> str:
    """One unit of work: about 10 ms. The digest covers every intermediate value."""
    digest = hashlib.sha256()
    whole, real = 0x9E3779B97F4A7C15, 0.5
    for step in range(1, rounds + 1):
        whole = (whole * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        real = math.sqrt(real * real + 1.0 / step) - (whole >> 60) * 1e-3
        real = math.fma(real, 0.999, 0.001) if hasattr(math, "fma") else real * 0.999 + 0.001
        if step % 16 == 0:
            digest.update(struct.pack("<Qd", whole, real))
            whole ^= int.from_bytes(digest.digest()[:8], "little")
    return digest.hexdigest()


def run(arguments: Arguments, budget_s: float) -> CheckResult:
    """`seconds` of work, at most `budget_s`; every core at least twice, else inconclusive."""
    seconds = min(number(arguments, "seconds", 10.0, 0.1, 86_400.0), budget_s)
    allowed = os.sched_getaffinity(0)
    cores = sorted(allowed)
    percent = floor(arguments, "peer_percent")
    runs: dict[int, list[str]] = {core: [] for core in cores}
    fastest: dict[int, float] = {}
    end = time.monotonic() + seconds
    turn = 0
    try:
        while time.monotonic() < end:
            core = cores[turn % len(cores)]
            os.sched_setaffinity(0, {core})
            began = time.perf_counter()
            runs[core].append(block())
            fastest[core] = min(fastest.get(core, math.inf), time.perf_counter() - began)
            turn += 1
    finally:
        os.sched_setaffinity(0, allowed)
    return judge(runs, fastest, percent)


def judge(
    runs: dict[int, list[str]], fastest: dict[int, float] | None = None, percent: float | None = None
) -> CheckResult:
    """Digests and best seconds per core to a result. A slow core counts only where somebody said how slow it may be."""
    count = Counter(digest for digests in runs.values() for digest in digests)
    measured: dict[str, str | int | float | bool] = {"cores": len(runs), "repeats": sum(count.values())}
    if not count:
        return CheckResult("cpu-arith", CheckVerdict.INCONCLUSIVE, measured, "no time to run a single block")
    right = count.most_common(1)[0][0]
    wrong = sorted(core for core, digests in runs.items() if any(digest != right for digest in digests))
    measured["wrong_digests"] = sum(count.values()) - count[right]
    if wrong:
        named = ", ".join(map(str, wrong[:16]))
        return CheckResult("cpu-arith", CheckVerdict.FAILED, measured, f"different results on core {named}")
    middle = median(fastest.values()) if fastest else 0.0
    if fastest:
        measured |= {
            "block_ms_median": round(middle * 1e3, 3),
            "block_ms_slowest": round(max(fastest.values()) * 1e3, 3),
        }
    slow = [
        core for core, took in (fastest or {}).items() if percent is not None and took > middle * (1 + percent / 100)
    ]
    if slow:
        named = ", ".join(map(str, sorted(slow)[:16]))
        message = f"more than {percent:g} % slower than the median core: {named}"
        return CheckResult("cpu-arith", CheckVerdict.FAILED, measured, message)
    thin = sum(1 for digests in runs.values() if len(digests) < 2)
    if thin:
        return CheckResult("cpu-arith", CheckVerdict.INCONCLUSIVE, measured, f"{thin} cores ran less than twice")
    return CheckResult("cpu-arith", CheckVerdict.PASSED, measured)
