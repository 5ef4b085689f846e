"""Writes a file through to the disk, drops it from the cache, reads it back and compares: finds a disk that lies.

Measures MB/s (10^6 bytes) both ways, with the final fsync inside the write. Small on purpose: fio is the benchmark;
this answers whether the disk works at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from pathlib import Path

from ostler.checks.model import Arguments, CheckResult, CheckVerdict, number

_CHUNK = 1 << 20


def run(arguments: Arguments, budget_s: float) -> CheckResult:
    """`mib` written to and read from a new file in `path`, which is removed whatever happens."""
    mib = int(number(arguments, "mib", 64, 1, 1 << 20))
    folder = Path(arguments.get("path", tempfile.gettempdir()))
    end = time.monotonic() + budget_s
    measured: dict[str, str | int | float | bool] = {"mib": mib, "path": str(folder)}
    try:
        descriptor, name = tempfile.mkstemp(prefix="ostler-check-", dir=folder)
    except OSError as error:
        return CheckResult("disk-write", CheckVerdict.INCONCLUSIVE, measured, f"no file can be made: {error.strerror}")
    try:
        return _measure(descriptor, mib, end, measured)
    except OSError as error:
        full = error.errno in (28, 122)  # ENOSPC, EDQUOT: says nothing about the disk's health
        verdict = CheckVerdict.INCONCLUSIVE if full else CheckVerdict.FAILED
        return CheckResult("disk-write", verdict, measured, f"{folder}: {error.strerror}")
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        with contextlib.suppress(OSError):
            Path(name).unlink()


def _measure(descriptor: int, mib: int, end: float, measured: dict[str, str | int | float | bool]) -> CheckResult:
    seed = os.urandom(_CHUNK)
    wrote, began = hashlib.sha256(), time.perf_counter()
    for index in range(mib):
        if time.monotonic() > end:
            return CheckResult("disk-write", CheckVerdict.INCONCLUSIVE, measured, "no time left to write it all")
        chunk = index.to_bytes(8, "little") + seed[8:]
        wrote.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)
    measured["write_mb_s"] = round(mib * 1.048576 / (time.perf_counter() - began), 1)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.lseek(descriptor, 0, os.SEEK_SET)
    read, began = hashlib.sha256(), time.perf_counter()
    while chunk := os.read(descriptor, _CHUNK):
        read.update(chunk)
        if time.monotonic() > end:
            return CheckResult("disk-write", CheckVerdict.INCONCLUSIVE, measured, "no time left to read it all")
    measured["read_mb_s"] = round(mib * 1.048576 / (time.perf_counter() - began), 1)
    if read.digest() != wrote.digest():
        return CheckResult("disk-write", CheckVerdict.FAILED, measured, "what was read is not what was written")
    return CheckResult("disk-write", CheckVerdict.PASSED, measured)
