"""How fast data moves: within a GPU's memory, between host and GPU, between GPUs. Three checks, one way to measure.

Rates are GB/s of 10^9 bytes, from the median over repeats; memory traffic counts bytes read and bytes written, a copy
between two places counts its bytes once (as nvbandwidth does). What arrived is compared with what was sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from ostler.checks.gpu.bench import Bench, Device, guard, measure
from ostler.checks.gpu.kernels import pattern
from ostler.checks.model import Arguments, CheckResult, floor, number
from ostler.checks.tally import Tally

_SEED_BYTES = 1 << 20


def hbm_bandwidth(arguments: Arguments, budget_s: float, bench: Bench | None = None) -> CheckResult:
    """Copy (a = b) and triad (a = b + 3c) within each GPU's memory."""
    end = time.monotonic() + budget_s
    mib, repeats = _size(arguments)
    least, peer = floor(arguments, "min_gb_s"), floor(arguments, "peer_percent")

    def body(ready: Bench, tally: Tally) -> None:
        size = (mib or ready.small(4096, 4)) << 20
        copies, triads = {}, {}
        for device in _in_time(ready, tally, end):
            with guard(tally, device):
                b = _noise(ready, device, size)
                c, a = ready.torch.flip(b, (0,)), ready.torch.empty_like(b)
                times = repeats or ready.small(20, 3)
                copies[device.index] = _rate(ready, device, _mover(a, b), 2 * size, times)
                _same(ready, tally, device, a, b, "a copy within its memory")
                triads[device.index] = _rate(
                    ready, device, partial(ready.torch.add, b, c, alpha=3, out=a), 3 * size, times
                )
                del a, b, c
                ready.release()
        for name, rates in (("copy", copies), ("triad", triads)):
            tally.spread(f"{name}_gb_s", rates)
            _judge(tally, f"memory {name}", rates, least, peer, "min_gb_s")

    return measure("hbm-bandwidth", arguments, body, bench)


def pcie_bandwidth(arguments: Arguments, budget_s: float, bench: Bench | None = None) -> CheckResult:
    """Pinned memory to each GPU and back, one GPU at a time."""
    end = time.monotonic() + budget_s
    mib, repeats = _size(arguments)
    least = {way: floor(arguments, f"min_{way}_gb_s") for way in ("h2d", "d2h")}
    peer = floor(arguments, "peer_percent")

    def body(ready: Bench, tally: Tally) -> None:
        size = (mib or ready.small(1024, 4)) << 20
        rates: dict[str, dict[int, float]] = {"h2d": {}, "d2h": {}}
        pinned = ready.kind == "cuda"
        for device in _in_time(ready, tally, end):
            with guard(tally, device):
                there = _noise(ready, device, size)
                sent = ready.torch.empty(there.shape, dtype=there.dtype, pin_memory=pinned)
                back = ready.torch.empty(there.shape, dtype=there.dtype, pin_memory=pinned)
                sent.copy_(there)
                there.zero_()
                times = repeats or ready.small(10, 3)
                rates["h2d"][device.index] = _rate(ready, device, _mover(there, sent), size, times)
                rates["d2h"][device.index] = _rate(ready, device, _mover(back, there), size, times)
                ready.finish(device)
                arrived = ready.fetch(device, there)
                if not ready.torch.equal(arrived, sent) or not ready.torch.equal(back, sent):
                    tally.fail(f"GPU {device.index}: what came back over PCIe is not what was sent")
                del there, sent, back
                ready.release()
        for way, found in rates.items():
            tally.spread(f"{way}_gb_s", found)
            _judge(tally, f"PCIe {way.upper()}", found, least[way], peer, f"min_{way}_gb_s")

    return measure("pcie-bandwidth", arguments, body, bench)


def nvlink_p2p(arguments: Arguments, budget_s: float, bench: Bench | None = None) -> CheckResult:
    """From each GPU to each other, one pair at a time; every pair against the minimum and against the median pair."""
    end = time.monotonic() + budget_s
    mib, repeats = _size(arguments)
    least, peer = floor(arguments, "min_gb_s"), floor(arguments, "peer_percent")

    def body(ready: Bench, tally: Tally) -> None:
        if len(ready.devices) < 2:
            tally.gap("one GPU alone has no peer")
            return
        size = (mib or ready.small(1024, 1)) << 20
        pairs: dict[tuple[int, int], float] = {}
        for one in ready.devices:
            source = sent = None
            with guard(tally, one):
                source = _noise(ready, one, size)
                sent = ready.fetch(one, source)
            if source is None:
                continue
            for other in ready.devices:
                if other is one:
                    continue
                if time.monotonic() >= end:
                    tally.gap(f"no time was left for GPU {one.index} to {other.index}")
                    continue
                with guard(tally, other, f"from GPU {one.index}"):
                    if not ready.peers(one, other):
                        tally.remark(f"GPU {one.index} does not reach GPU {other.index} directly")
                    target = ready.torch.empty(source.shape, dtype=source.dtype, device=other.place)
                    move = _mover(target, source)
                    times = repeats or ready.small(10, 3)
                    pairs[one.index, other.index] = _rate(ready, one, move, size, times, other)
                    if not ready.torch.equal(ready.fetch(other, target), sent):
                        tally.fail(f"GPU {one.index} to {other.index}: what arrived is not what was sent")
                    del target, move
        judge_pairs(tally, pairs, least, peer)

    return measure("nvlink-p2p", arguments, body, bench)


def judge_pairs(tally: Tally, pairs: dict[tuple[int, int], float], least: float | None, percent: float | None) -> None:
    """The matrix, one text per sending GPU, and what is too slow in it."""
    if not pairs:
        return
    middle = float(median(pairs.values()))
    slowest = min(pairs, key=lambda pair: pairs[pair])
    tally.note("pairs", len(pairs))
    tally.note("pair_gb_s_min", pairs[slowest])
    tally.note("pair_gb_s_median", middle)
    tally.note("slowest_pair", f"{slowest[0]}-{slowest[1]}")
    for one in sorted({pair[0] for pair in pairs}):
        row = " ".join(f"{other}:{rate:.4g}" for (start, other), rate in sorted(pairs.items()) if start == one)
        tally.note(f"gpu{one}_to_gb_s", row)
    if least is None and (percent is None or len(pairs) < 3):
        tally.gap("nobody said how fast (min_gb_s or peer_percent)")
        return
    wanted = max(least or 0.0, middle * (1 - percent / 100) if percent is not None and len(pairs) > 2 else 0.0)
    slow = {pair: rate for pair, rate in pairs.items() if rate < wanted}
    for (one, other), rate in sorted(slow.items(), key=lambda item: item[1]):
        tally.fail(f"GPU {one} to {other}: {rate:.4g} GB/s, at least {wanted:.4g} are wanted (median {middle:.4g})")
    if not slow:
        tally.fine()


def _size(arguments: Arguments) -> tuple[int, int]:
    return int(number(arguments, "mib", 0, 1, 65_536)), int(number(arguments, "repeats", 0, 1, 10_000))


def _in_time(bench: Bench, tally: Tally, end: float) -> list[Device]:
    chosen = []
    for device in bench.devices:
        if time.monotonic() >= end:
            tally.gap(f"no time was left for GPU {device.index}")
        else:
            chosen.append(device)
    return chosen


def _noise(bench: Bench, device: Device, size: int) -> Any:
    """`size` bytes that do not repeat within a MiB, on the device."""
    seed = bench.put(device, pattern(bench.torch, (_SEED_BYTES // 4,), "bandwidth", "fp32"))
    return seed.repeat(max(1, size // _SEED_BYTES))


def _mover(target: Any, source: Any) -> Callable[[], object]:
    return lambda: target.copy_(source, non_blocking=True)


def _rate(
    bench: Bench, device: Device, work: Callable[[], object], size: int, repeats: int, other: Device | None = None
) -> float:
    took = bench.typical(device, work, repeats)
    bench.finish(*([device] if other is None else [device, other]))
    return size / took / 1e9


def _same(bench: Bench, tally: Tally, device: Device, found: Any, sent: Any, what: str) -> None:
    bench.finish(device)
    if not bench.torch.equal(found, sent):  # on the GPU: gigabytes that come back would take longer than the check
        tally.fail(f"GPU {device.index}: {what} is not what was copied")


def _judge(
    tally: Tally, what: str, rates: dict[int, float], least: float | None, peer: float | None, name: str
) -> None:
    judged = tally.at_least(what, rates, least, "GB/s")
    judged |= tally.near_peers(what, rates, peer)
    if rates and not judged:
        tally.gap(f"{what}: nobody said how fast ({name} or peer_percent)")
