"""Reads, writes and latency of the file systems on given folders: slow or stalling disks, one verdict for each mount.

Written with an fsync at the end, read back past the page cache (O_DIRECT where the file system has it), and small
synchronous writes for the latency that a checkpoint or a log feels. MB are 10^6 bytes. fio says more; this runs
anywhere and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import tempfile
import time
from pathlib import Path

from ostler.checks.model import Arguments, CheckResult, floor, number
from ostler.checks.tally import Tally

NAME = "storage"
_BLOCK = 1 << 20
_SMALL = 4096
_NO_FAULT = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)
"""Errors that say nothing about the disk's health. A file system that has become read-only is told by the monitors."""


class OutOfTime(Exception):
    """The budget is spent."""


def run(arguments: Arguments, budget_s: float) -> CheckResult:
    """Each folder of `paths` (separated by commas) in turn."""
    folders = [Path(one) for one in arguments.get("paths", tempfile.gettempdir()).split(",") if one]
    mib = int(number(arguments, "mib", 256, 1, 1 << 20))
    writes = int(number(arguments, "small_writes", 200, 1, 100_000))
    least = {way: floor(arguments, f"min_{way}_mb_s") for way in ("write", "read")}
    slowest = floor(arguments, "max_p99_ms")
    tally = Tally(NAME)
    tally.note("mounts", len(folders))
    end = time.monotonic() + budget_s
    for index, folder in enumerate(folders):
        tally.note(f"m{index}_path", str(folder)[:200])
        try:
            figures = _measure(folder, mib, writes, end)
        except OutOfTime:
            tally.gap(f"{folder}: no time was left")
            continue
        except OSError as error:
            (tally.gap if error.errno in _NO_FAULT else tally.fail)(f"{folder}: {error.strerror}")
            continue
        for name, value in figures.items():
            if name != "same":
                tally.note(f"m{index}_{name}", value)
        judge(tally, folder, figures, least, slowest)
    return tally.result()


def judge(
    tally: Tally, folder: Path, figures: dict[str, float], least: dict[str, float | None], slowest: float | None
) -> None:
    """One mount's figures. What it holds is always judged; speed only against what was given."""
    if not figures["same"]:
        tally.fail(f"{folder}: what was read is not what was written")
        return
    tally.fine()
    for way, wanted in least.items():
        found = figures[f"{way}_mb_s"]
        if wanted is not None and found < wanted:
            tally.fail(f"{folder}: {way} {found:.4g} MB/s, at least {wanted:.4g} are wanted")
    if slowest is not None and figures["sync_p99_ms"] > slowest:
        tally.fail(f"{folder}: one synchronous write in a hundred takes over {figures['sync_p99_ms']:.4g} ms")


def _measure(folder: Path, mib: int, writes: int, end: float) -> dict[str, float]:
    descriptor, name = tempfile.mkstemp(prefix="ostler-check-", dir=folder)
    try:
        sent, write_s = _write(descriptor, mib, end)
        found, read_s = _read(descriptor, name, end)
        delays = sorted(_small_writes(descriptor, writes, end))
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        with contextlib.suppress(OSError):
            Path(name).unlink()
    size = mib * 1.048576
    return {
        "write_mb_s": size / max(write_s, 1e-9),
        "read_mb_s": size / max(read_s, 1e-9),
        "sync_p50_ms": delays[len(delays) // 2] * 1000,
        "sync_p99_ms": delays[min(len(delays) - 1, len(delays) * 99 // 100)] * 1000,
        "same": float(sent == found),
    }


def _write(descriptor: int, mib: int, end: float) -> tuple[str, float]:
    seed, digest, spent = os.urandom(_BLOCK), hashlib.sha256(), 0.0
    for index in range(mib):
        block = index.to_bytes(8, "little") + seed[8:]
        digest.update(block)
        view, began = memoryview(block), time.perf_counter()
        while view:
            view = view[os.write(descriptor, view) :]
        spent += time.perf_counter() - began
        _in_time(end)
    began = time.perf_counter()
    os.fsync(descriptor)
    return digest.hexdigest(), spent + time.perf_counter() - began


def _read(descriptor: int, name: str, end: float) -> tuple[str, float]:
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        source = os.open(name, os.O_RDONLY | os.O_DIRECT)
    except OSError:  # tmpfs and some network file systems have no O_DIRECT
        source = os.open(name, os.O_RDONLY)
    digest, spent = hashlib.sha256(), 0.0
    try:
        with mmap.mmap(-1, _BLOCK) as page:  # O_DIRECT wants aligned memory
            while True:
                began = time.perf_counter()
                count = os.readv(source, [page])
                spent += time.perf_counter() - began
                if count == 0:
                    return digest.hexdigest(), spent
                digest.update(memoryview(page)[:count].tobytes())
                _in_time(end)
    finally:
        os.close(source)


def _small_writes(descriptor: int, writes: int, end: float) -> list[float]:
    block, delays = os.urandom(_SMALL), []
    for turn in range(writes):
        began = time.perf_counter()
        os.pwrite(descriptor, block, turn * _SMALL)
        os.fdatasync(descriptor)
        delays.append(time.perf_counter() - began)
        _in_time(end)
    return delays


def _in_time(end: float) -> None:
    if time.monotonic() > end:
        raise OutOfTime
