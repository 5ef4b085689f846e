"""One tick over a fleet of GPUs, on one core: `python -m bench.fleet [--quick]`.

80,000 GPUs × 20 metrics (10,000 nodes of 8, two SKUs, 30 % of the nodes idle) with 20 slow GPUs, which have to be
found, and nobody else. Each round brings a sample of every GPU; then the two halves of a tick are timed apart: the
histories (means, variances, z-scores, limits) and the comparison with siblings and SKU. Figures are CPU time of this
process, the least of the rounds; the median and the wall time stand beside them. The comparison is whole in every tick;
nothing is spread over ticks, and medians are of all GPUs, not of a sample.

The baselines run on the same samples: the same rules in plain Python loops (on some nodes, scaled up to all), and in
straightforward numpy (float64, whole-array expressions, `nanmedian`).
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.report import document, target
from ostler.health.fleet_metrics import INDEX, METRICS, Against, FleetSettings
from ostler.health.fleet_view import FleetView

NODES, PER_NODE, EVERY_S = 10_000, 8, 30.0
USUAL = (62, 78, 20, 640, 1755, 2619, 99, 60, 0, 5, 0, 0, 9e3, 9e3, 9e4, 9e4, 0, 0, 0, 0)
SPREAD = (3, 3, 3, 12, 8, 0, 0.5, 5, 0, 3, 0, 0.2, 800, 800, 6e3, 6e3, 0.5, 0.2, 0.05, 0.3)


def resident_mb() -> float:
    """Resident memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


class Fleet:
    """Samples of a fleet: what is usual, the differences between boards, the idle nodes, the slow GPUs."""

    def __init__(self, nodes: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        size = (nodes * PER_NODE, len(METRICS))
        self.sku = np.repeat(np.arange(nodes) % 2, PER_NODE)
        own = self._rng.normal(0, 0.5, size)
        self._usual = np.array(USUAL) * (1 - 0.05 * self.sku[:, None]) + own * np.array(SPREAD)
        self._usual[:, INDEX["utilisation"]] = 99
        idle = np.repeat(self._rng.random(nodes) < 0.3, PER_NODE)
        self._usual[idle, INDEX["utilisation"]] = 0
        self.slow = np.flatnonzero(~idle)[:: nodes // 5][:20]
        self._usual[self.slow, INDEX["sm-clock"]] -= 400
        self._noise = self._rng.normal(0, 0.5, size).astype(np.float32) * np.array(SPREAD, np.float32)

    def sample(self, round_: int) -> NDArray[np.float32]:
        """[GPU, metric] of one round."""
        found = (self._usual + np.roll(self._noise, 8 * round_, axis=0)).astype(np.float32)
        counts = [column for column, metric in enumerate(METRICS) if metric.least == 0]
        found[:, counts] = np.maximum(found[:, counts], 0)
        return np.asarray(found, np.float32)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(CPU milliseconds, wall milliseconds)."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return 1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - wall)


def in_plain_python(sample: NDArray[np.float32], nodes: int, scale: float) -> tuple[float, float]:
    """CPU milliseconds of both halves for `nodes` nodes, times `scale`."""
    values = sample[: nodes * PER_NODE].T.astype(float).tolist()
    mean = [[x - 1 for x in row] for row in values]
    fast = [list(row) for row in mean]
    variance = [[4.0] * len(row) for row in values]
    weight = [[50.0] * len(row) for row in values]
    load = values[INDEX["utilisation"]]

    def histories() -> None:
        for m, metric in enumerate(METRICS):
            for i, x in enumerate(values[m]):
                if x != x or (metric.at_load and load[i] < 80):
                    continue
                delta = x - mean[m][i]
                weight[m][i] = weight[m][i] * 0.994 + 1
                gain = 1 / weight[m][i]
                fast[m][i] += max(gain, 0.16) * (x - fast[m][i])
                z = metric.sign * delta / max(math.sqrt(variance[m][i]), metric.floor / 6)
                _ = z > 6 or (metric.limit is not None and metric.sign * x >= metric.sign * metric.limit)
                mean[m][i] += gain * delta
                variance[m][i] = (1 - gain) * (variance[m][i] + gain * delta * delta)

    def peers() -> None:
        for m, metric in enumerate(METRICS):
            if not metric.judged:
                continue
            said = [i for i in range(len(load)) if not metric.at_load or load[i] >= 80]
            middle = statistics.median(fast[m][i] for i in said)
            far = statistics.median(abs(fast[m][i] - middle) for i in said)
            for i in said:
                first = i // PER_NODE * PER_NODE
                others = [fast[m][k] for k in range(first, first + PER_NODE) if k != i]
                own = statistics.median(others)
                mad = statistics.median(abs(x - own) for x in others)
                _ = abs(fast[m][i] - own) > max(metric.floor, 6 * 1.4826 * mad) and (
                    abs(fast[m][i] - middle) > max(metric.floor, 6 * 1.4826 * far)
                )

    return timed(histories)[0] * scale, timed(peers)[0] * scale


def in_naive_numpy(sample: NDArray[np.float32], sku: NDArray[np.int64]) -> tuple[float, float]:
    """CPU milliseconds of both halves, as one writes it first."""
    gated = np.array([metric.at_load for metric in METRICS])
    x = sample.astype(float)
    x = np.where(gated & (x[:, [INDEX["utilisation"]]] < 80), np.nan, x)
    floor = np.array([metric.floor for metric in METRICS])
    limit = np.array([np.inf if metric.limit is None else metric.limit for metric in METRICS])
    start = np.nan_to_num(x) - 1
    state = {"mean": start, "fast": start.copy(), "variance": np.full(x.shape, 4.0), "weight": np.full(x.shape, 50.0)}

    def histories() -> None:
        said = ~np.isnan(x)
        delta = np.where(said, x - state["mean"], 0)
        state["weight"] = state["weight"] * 0.994 + said
        gain = np.where(said, 1 / state["weight"], 0)
        state["fast"] = state["fast"] + np.maximum(gain, 0.16) * np.where(said, x - state["fast"], 0)
        z = delta / np.maximum(np.sqrt(state["variance"]), floor / 6)
        _ = (z > 6) | (x >= limit)
        state["mean"] = state["mean"] + gain * delta
        state["variance"] = (1 - gain) * (state["variance"] + gain * delta**2)

    def peers() -> None:
        values = np.where(np.isnan(x), np.nan, state["fast"])
        boards = values.reshape(-1, PER_NODE, len(METRICS))
        far = np.zeros(boards.shape, bool)
        for slot in range(PER_NODE):
            others = np.delete(boards, slot, axis=1)
            middle = np.nanmedian(others, axis=1)
            mad = np.nanmedian(np.abs(others - middle[:, None]), axis=1)
            far[:, slot] = np.abs(boards[:, slot] - middle) > np.maximum(floor, 6 * 1.4826 * mad)
        for number in range(2):
            mine = values[sku == number]
            middle = np.nanmedian(mine, axis=0)
            mad = np.nanmedian(np.abs(mine - middle), axis=0)
            _ = np.abs(mine - middle) > np.maximum(floor, 6 * 1.4826 * mad)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return timed(histories)[0], timed(peers)[0]


def filled(nodes: int, settings: FleetSettings) -> tuple[FleetView, NDArray[np.intp]]:
    """A view with a row for each GPU."""
    view = FleetView(nodes * PER_NODE, settings)
    rows = [
        view.row(f"node_{node:06d}", gpu, "H100" if node % 2 == 0 else "H200")
        for node in range(nodes)
        for gpu in range(PER_NODE)
    ]
    return view, np.array(rows, np.intp)


def ticks(
    settings: FleetSettings, fleet: Fleet, samples: list[NDArray[np.float32]], rounds: int
) -> tuple[FleetView, dict[str, list[tuple[float, float]]]]:
    """`rounds` rounds: the view at the end, and per step what each round took (CPU ms, wall ms)."""
    view, rows = filled(NODES, settings)
    spent: dict[str, list[tuple[float, float]]] = {"update": [], "histories": [], "peers": [], "standing": []}
    now = 1_000_000.0
    for number in range(rounds):
        now += EVERY_S
        spent["update"].append(timed(partial(view.update, rows, samples[number % len(samples)], now)))
        spent["histories"].append(timed(partial(view.fold, now)))
        spent["peers"].append(timed(partial(view.compare, now)))
        spent["standing"].append(timed(view.standing))
    found = {(one.node_id, one.gpu) for one in view.standing() if one.metric == "sm-clock"}
    wanted = {(f"node_{row // PER_NODE:06d}", int(row % PER_NODE)) for row in fleet.slow}
    if found != wanted:
        raise SystemExit(
            f"{len(wanted)} slow GPUs, and found were {len(found & wanted)} and {len(found - wanted)} others"
        )
    return view, spent


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--quick", action="store_true", help="fewer rounds, under 50 s on two cores")
    quick = arguments.parse_args().quick
    rounds, plain_nodes = (60, 40) if quick else (400, 400)
    fleet = Fleet(NODES, 7)
    samples = [fleet.sample(number) for number in range(8)]
    before = resident_mb()
    view, spent = ticks(FleetSettings(), fleet, samples, rounds)
    metrics: dict[str, float] = {"view_rss_mb": round(resident_mb() - before, 1), "outliers": len(view.standing())}
    del view
    _, alone = ticks(FleetSettings(against=Against.SIBLINGS), fleet, samples, rounds // 2)
    spent["peers_siblings_only"] = alone["peers"]
    # The first rounds touch fresh memory, and build what is kept.
    for name, rows in spent.items():
        cpu, wall = zip(*rows[5:], strict=True)
        metrics[f"{name}_cpu_ms"] = round(min(cpu), 2)
        metrics[f"{name}_cpu_ms_median"] = round(statistics.median(cpu), 2)
        metrics[f"{name}_wall_ms"] = round(min(wall), 2)
        print(f"{name}: {min(cpu):.2f} ms CPU at best, {statistics.median(cpu):.2f} ms in the middle")
    plain = in_plain_python(samples[0], plain_nodes, NODES / plain_nodes)
    naive = [min(times) for times in zip(*(in_naive_numpy(samples[0], fleet.sku) for _ in range(2)), strict=True)]
    baseline = {
        "plain_python_histories_ms": round(plain[0], 1),
        "plain_python_peers_ms": round(plain[1], 1),
        "naive_numpy_histories_ms": round(naive[0], 1),
        "naive_numpy_peers_ms": round(naive[1], 1),
    }
    ratio = {
        "histories_plain_python": round(plain[0] / metrics["histories_cpu_ms"], 1),
        "histories_naive_numpy": round(naive[0] / metrics["histories_cpu_ms"], 1),
        "peers_plain_python": round(plain[1] / metrics["peers_cpu_ms"], 1),
        "peers_naive_numpy": round(naive[1] / metrics["peers_cpu_ms"], 1),
    }
    targets = {
        "histories_ms": target(10, metrics["histories_cpu_ms"], "<="),
        "peers_ms": target(30, metrics["peers_cpu_ms"], "<="),
    }
    metrics["peak_rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    notes = (
        f"samples are generated; every GPU speaks before every tick; plain Python ran on {plain_nodes} nodes and is "
        f"scaled to {NODES}; peak_rss_mb includes the generated samples and the baselines, view_rss_mb is the view "
        "alone; taking samples in (update) and making the list (standing) are timed apart, outside the targets"
    )
    print(document("fleet", metrics, baseline, ratio, targets, notes=notes))


if __name__ == "__main__":
    main()
