"""The document that every benchmark prints last: what ran where, what was measured, against what. Used by bench/*."""

from __future__ import annotations

import json
import operator
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def machine() -> str:
    """Processor, cores, memory and Python in one line; nothing that identifies the host."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def target(goal: float, measured: float, better: str = ">=") -> dict[str, Any]:
    """One target. `better` is ">=" or "<="."""
    compare: Callable[[float, float], bool] = operator.ge if better == ">=" else operator.le
    return {"target": f"{better} {goal:g}", "measured": round(measured, 3), "met": compare(measured, goal)}


def document(
    bench: str,
    metrics: Mapping[str, Any],
    baseline: Mapping[str, Any],
    ratio: Mapping[str, float],
    targets: Mapping[str, Mapping[str, Any]],
    *,
    notes: str = "",
) -> str:
    """The last line of a benchmark, as JSON. `notes` names what is simulated or thin."""
    found = {
        "bench": bench,
        "machine": machine(),
        "metrics": dict(metrics),
        "baseline": dict(baseline),
        "ratio": dict(ratio),
        "targets": {name: dict(row) for name, row in targets.items()},
    }
    return json.dumps(found | ({"notes": notes} if notes else {}))
