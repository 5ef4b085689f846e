"""Which checks there are. Read by `python -m ostler.checks`, the agent and `ostler checks list`; loads them one by one.

To add one: a module here with `run(arguments, budget_s)`, and a line below (docs/adding-a-check.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

from ostler.checks.model import Arguments, CheckResult
from ostler.core.errors import NotFound


@dataclass(frozen=True, slots=True)
class Check:
    """One entry: how it is called, what it tells, what it takes."""

    name: str
    module: str
    summary: str
    seconds: float
    """About how long it runs unless told otherwise."""
    arguments: Mapping[str, str]
    """Name to what it means, with the default."""

    def run(self, arguments: Arguments, budget_s: float) -> CheckResult:
        """Runs it in this process, within about `budget_s` real seconds. Raises BadInput for a bad argument."""
        run: Callable[[Arguments, float], CheckResult] = import_module(self.module).run
        return run(arguments, budget_s)


CHECKS: Mapping[str, Check] = {
    check.name: check
    for check in (
        Check(
            "cpu-arith",
            "ostler.checks.cpu_arith",
            "repeats the same arithmetic on every core and compares the digests: finds silent corruption",
            10.0,
            {"seconds": "how long in all (10)"},
        ),
        Check(
            "memory-pattern",
            "ostler.checks.memory_pattern",
            "writes patterns over memory and reads them back",
            10.0,
            {"mib": "how much memory at a time (256)", "seconds": "how long in all (10)"},
        ),
        Check(
            "disk-write",
            "ostler.checks.disk_write",
            "writes a file through to the disk, reads it back, compares digests, measures both",
            10.0,
            {"path": "folder on the disk to test (the temporary folder)", "mib": "size of the file (64)"},
        ),
        Check(
            "gpu-present",
            "ostler.checks.gpu_present",
            "counts the NVIDIA GPUs on the PCI bus and compares with what is expected",
            0.1,
            {"expected": "how many there must be (required)"},
        ),
    )
}


def find(name: str) -> Check:
    """The check of that name. Raises NotFound, which lists the names."""
    check = CHECKS.get(name)
    if check is None:
        raise NotFound(f"no check is called {name[:64]!r}; there are {', '.join(sorted(CHECKS))}")
    return check
