"""Writes patterns over anonymous memory and compares: finds stuck and coupled bits that ECC does not report.

Small beside memtest86 or stressapptest and meant as the check that runs anywhere: all-zero, all-one, alternating and
address-dependent patterns, each written over the whole area before any of it is read back.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator
from pathlib import Path

from ostler.checks.model import Arguments, CheckResult, CheckVerdict, floor, number

_PAGE = 1 << 16
EDAC = Path("/sys/devices/system/edac/mc")


def patterns() -> Iterator[tuple[str, bytes]]:
    """Name and one page of each pattern."""
    for name, byte in (("zeros", 0x00), ("ones", 0xFF), ("0x55", 0x55), ("0xaa", 0xAA)):
        yield name, bytes((byte,)) * _PAGE
    yield "walk", bytes(1 << (index % 8) for index in range(_PAGE))
    yield "count", bytes((index * 167 + 13) & 0xFF for index in range(_PAGE))


def run(arguments: Arguments, budget_s: float) -> CheckResult:
    """`mib` of memory, whole rounds of all patterns until `seconds` (at most `budget_s`) are over."""
    mib = int(number(arguments, "mib", 256, 1, 1 << 20))
    seconds = min(number(arguments, "seconds", 10.0, 0.1, 86_400.0), budget_s)
    least = floor(arguments, "min_mb_s")
    before, began = uncorrected(), time.monotonic()
    try:
        area = mmap.mmap(-1, mib << 20)
    except (OSError, OverflowError, ValueError) as error:
        return CheckResult("memory-pattern", CheckVerdict.INCONCLUSIVE, {"mib": mib}, f"no such memory: {error}")
    with area:
        passes = 0
        while True:
            for name, page in patterns():
                wrong = pass_over(area, page, passes)
                passes += 1
                if wrong is not None:
                    measured = {"mib": mib, "passes": passes, "offset": wrong}
                    message = f"pattern {name} read back differently at offset {wrong} of the area"
                    return CheckResult("memory-pattern", CheckVerdict.FAILED, measured, message)
                if time.monotonic() - began >= seconds:
                    return _end(mib, passes, time.monotonic() - began, least, uncorrected() - before)


def pass_over(area: mmap.mmap | bytearray, page: bytes, turn: int) -> int | None:
    """Writes and verifies the whole area; the offset of the first wrong byte, or None."""
    size = len(area)
    for offset in range(0, size, _PAGE):
        shift = (turn + offset // _PAGE) % 251  # each page differs from its neighbour, so a wrong address shows
        area[offset : offset + _PAGE] = page[shift:] + page[:shift]
    for offset in range(0, size, _PAGE):
        shift = (turn + offset // _PAGE) % 251
        expected, found = page[shift:] + page[:shift], area[offset : offset + _PAGE]
        if found != expected:
            return offset + next(i for i, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b)
    return None


def uncorrected(edac: Path = EDAC) -> int:
    """Uncorrectable memory errors that the kernel has counted since boot; 0 where it counts none."""
    total = 0
    for counter in edac.glob("mc*/ue_count") if edac.is_dir() else ():
        try:
            total += int(counter.read_text())
        except (OSError, ValueError):
            continue
    return total


def _end(mib: int, passes: int, took: float, least: float | None = None, errors: int = 0) -> CheckResult:
    rate = passes * 2 * mib * 1.048576 / max(took, 1e-9)
    measured = {"mib": mib, "passes": passes, "mb_s": round(rate, 1), "uncorrected": errors}
    if errors > 0:
        message = f"{errors} uncorrectable memory errors were counted meanwhile (EDAC)"
        return CheckResult("memory-pattern", CheckVerdict.FAILED, measured, message)
    if least is not None and rate < least:
        message = f"{rate:.0f} MB/s, at least {least:.0f} are wanted"
        return CheckResult("memory-pattern", CheckVerdict.FAILED, measured, message)
    whole = sum(1 for _ in patterns())
    if passes < whole:
        message = f"only {passes} of {whole} patterns fitted into the time"
        return CheckResult("memory-pattern", CheckVerdict.INCONCLUSIVE, measured, message)
    return CheckResult("memory-pattern", CheckVerdict.PASSED, measured)
