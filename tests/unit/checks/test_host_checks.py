"""Storage, and what CPU and memory checks say beside right and wrong: slow cores, counted errors, rates."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ostler.checks import cpu_arith, memory_pattern, storage
from ostler.checks.model import CheckVerdict
from ostler.checks.registry import find
from ostler.checks.tally import Tally
from ostler.core.errors import BadInput

PASSED, FAILED, INCONCLUSIVE = CheckVerdict.PASSED, CheckVerdict.FAILED, CheckVerdict.INCONCLUSIVE
SMALL = {"mib": "2", "small_writes": "3"}


def test_storage_measures_each_mount_and_leaves_nothing(tmp_path: Path) -> None:
    two = tmp_path / "two"
    two.mkdir()
    result = find("storage").run({**SMALL, "paths": f"{tmp_path},{two}"}, 60.0)
    assert result.verdict is PASSED
    assert result.measured["mounts"] == 2
    for name in ("write_mb_s", "read_mb_s", "sync_p50_ms", "sync_p99_ms"):
        assert float(result.measured[f"m1_{name}"]) > 0
    assert (list(two.iterdir()), list(tmp_path.iterdir())) == ([], [two])


@pytest.mark.parametrize(
    ("change", "verdict", "says"),
    [
        ({}, PASSED, ""),
        ({"same": 0.0}, FAILED, "what was read is not what was written"),
        ({"write_mb_s": 90.0}, FAILED, "write 90 MB/s, at least 100"),
        ({"read_mb_s": 190.0}, FAILED, "read 190 MB/s, at least 200"),
        ({"sync_p99_ms": 30.0}, FAILED, "takes over 30 ms"),
    ],
)
def test_storage_is_judged_by_what_was_given(change: dict[str, float], verdict: CheckVerdict, says: str) -> None:
    tally = Tally("storage")
    figures = {"write_mb_s": 110.0, "read_mb_s": 210.0, "sync_p50_ms": 1.0, "sync_p99_ms": 9.0, "same": 1.0} | change
    storage.judge(tally, Path("/data"), figures, {"write": 100.0, "read": 200.0}, 10.0)
    result = tally.result()
    assert (result.verdict, says in result.message) == (verdict, True)


def test_a_disk_that_returns_other_bytes_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def wrong(fd: int, data: bytes) -> int:
        return real(fd, bytes(data).replace(b"\x01\x00\x00\x00", b"\x02\x00\x00\x00", 1))

    monkeypatch.setattr(os, "write", wrong)
    result = storage.run({**SMALL, "paths": str(tmp_path)}, 60.0)
    assert (result.verdict, "not what was written" in result.message) == (FAILED, True)


@pytest.mark.parametrize(("number", "verdict"), [(5, FAILED), (28, INCONCLUSIVE), (30, INCONCLUSIVE)])
def test_io_errors_fail_and_full_disks_do_not(
    number: int, verdict: CheckVerdict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", broken)
    result = storage.run({**SMALL, "paths": str(tmp_path)}, 60.0)
    assert (result.verdict, list(tmp_path.iterdir())) == (verdict, [])


def test_storage_without_time_or_folder_is_inconclusive(tmp_path: Path) -> None:
    assert storage.run({**SMALL, "paths": str(tmp_path)}, -1.0).verdict is INCONCLUSIVE
    assert list(tmp_path.iterdir()) == []
    assert storage.run({**SMALL, "paths": "/nonexistent"}, 60.0).verdict is INCONCLUSIVE
    with pytest.raises(BadInput, match="max_p99_ms"):
        storage.run({"max_p99_ms": "-1"}, 60.0)


def test_a_slow_core_counts_only_where_somebody_said_so() -> None:
    runs = {core: ["a", "a"] for core in range(4)}
    took = {0: 0.010, 1: 0.010, 2: 0.014, 3: 0.010}
    assert cpu_arith.judge(runs, took).verdict is PASSED
    result = cpu_arith.judge(runs, took, 20.0)
    assert (result.verdict, result.message) == (FAILED, "more than 20 % slower than the median core: 2")
    assert result.measured["block_ms_slowest"] == 14.0
    assert cpu_arith.judge(runs, took, 50.0).verdict is PASSED


def test_memory_errors_that_the_kernel_counted_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index, count in enumerate(("3", "4", "garbage")):
        (tmp_path / f"mc{index}").mkdir()
        (tmp_path / f"mc{index}" / "ue_count").write_text(f"{count}\n")
    assert memory_pattern.uncorrected(tmp_path) == 7
    assert memory_pattern.uncorrected(tmp_path / "none") == 0
    counts = iter((7, 8))
    monkeypatch.setattr(memory_pattern, "uncorrected", lambda: next(counts))
    result = memory_pattern.run({"mib": "1", "seconds": "0.1"}, 60.0)
    assert (result.verdict, "1 uncorrectable memory errors" in result.message) == (FAILED, True)


def test_memory_that_is_too_slow_fails() -> None:
    result = memory_pattern.run({"mib": "1", "seconds": "0.1", "min_mb_s": "100000000"}, 60.0)
    assert (result.verdict, "at least 100000000" in result.message) == (FAILED, True)
