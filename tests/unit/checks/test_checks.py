"""Checks: each passes on a sound machine, fails on a broken one, and says inconclusive when it could not tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ostler.checks import cpu_arith, disk_write, gpu_present, memory_pattern
from ostler.checks.__main__ import main
from ostler.checks.model import CheckVerdict
from ostler.checks.registry import CHECKS, find
from ostler.core.errors import BadInput, NotFound

PASSED, FAILED, INCONCLUSIVE = CheckVerdict.PASSED, CheckVerdict.FAILED, CheckVerdict.INCONCLUSIVE


def test_every_check_can_be_found_and_loaded() -> None:
    for name, check in CHECKS.items():
        assert find(name) is check
        assert name == check.name
    with pytest.raises(NotFound, match="no check is called 'x'"):
        find("x")


def test_the_same_arithmetic_gives_the_same_digest_in_another_process() -> None:
    code = "from ostler.checks.cpu_arith import block; print(block(64))"
    other = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True).stdout.strip()
    assert other == cpu_arith.block(64)
    assert other != cpu_arith.block(80)


def test_cpu_arith_passes_here_and_gives_the_cores_back() -> None:
    before = os.sched_getaffinity(0)
    result = find("cpu-arith").run({"seconds": "2"}, 60.0)
    assert (result.verdict, result.measured["cores"]) == (PASSED, len(before))
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(
    ("runs", "verdict", "says"),
    [
        ({0: ["a", "a"], 1: ["a", "a"]}, PASSED, ""),
        ({0: ["a", "a"], 1: ["a", "b"], 2: ["a", "a"]}, FAILED, "core 1"),
        ({0: ["b", "b"], 1: ["a", "a"], 2: ["a", "a"]}, FAILED, "core 0"),
        ({0: ["a", "a"], 1: ["a"]}, INCONCLUSIVE, "1 cores ran less than twice"),
        ({0: ["a", "b"], 1: []}, FAILED, "core 0"),
        ({0: [], 1: []}, INCONCLUSIVE, "no time"),
    ],
)
def test_cpu_arith_names_the_core_that_differs(runs: dict[int, list[str]], verdict: CheckVerdict, says: str) -> None:
    result = cpu_arith.judge(runs)
    assert result.verdict is verdict
    assert says in result.message


def test_memory_pattern_passes_here() -> None:
    result = find("memory-pattern").run({"mib": "2", "seconds": "1"}, 60.0)
    assert result.verdict is PASSED
    assert result.measured["mb_s"]


class Stuck(bytearray):
    """Memory with one bit that is always set."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setitem__(70_000, self[70_000] | 0x10)


def test_memory_pattern_finds_a_stuck_bit() -> None:
    area = Stuck(1 << 18)
    found = [memory_pattern.pass_over(area, page, turn) for turn, (_, page) in enumerate(memory_pattern.patterns())]
    assert found[0] == 70_000
    assert found[1] is None, "all ones hides it"


def test_too_little_time_for_all_patterns_is_inconclusive() -> None:
    assert find("memory-pattern").run({"mib": "4"}, 0.0).verdict is INCONCLUSIVE


def test_memory_that_there_is_not_is_inconclusive() -> None:
    assert find("memory-pattern").run({"mib": str(1 << 20)}, 0.1).verdict is INCONCLUSIVE


def test_disk_write_passes_and_cleans_up(tmp_path: Path) -> None:
    result = find("disk-write").run({"path": str(tmp_path), "mib": "3"}, 60.0)
    assert result.verdict is PASSED
    assert float(result.measured["write_mb_s"]) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_slow_to_write_is_not_read(tmp_path: Path) -> None:
    result = disk_write.run({"path": str(tmp_path), "mib": "4"}, 0.0)
    assert (result.verdict, result.message) == (INCONCLUSIVE, "no time left to write it all")
    assert "write_mb_s" not in result.measured


def test_a_disk_that_lies_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.read
    monkeypatch.setattr(os, "read", lambda fd, size: real(fd, size).replace(b"\x02\x00\x00", b"\x03\x00\x00", 1))
    result = disk_write.run({"path": str(tmp_path), "mib": "3"}, 60.0)
    assert (result.verdict, result.message) == (FAILED, "what was read is not what was written")


def test_an_io_error_fails_and_a_full_disk_is_inconclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, verdict in ((5, FAILED), (28, INCONCLUSIVE)):

        def broken(fd: int, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", broken)
        result = disk_write.run({"path": str(tmp_path), "mib": "1"}, 60.0)
        assert (result.verdict, list(tmp_path.iterdir())) == (verdict, [])


def test_a_folder_that_is_not_there_is_inconclusive() -> None:
    assert disk_write.run({"path": "/nonexistent"}, 60.0).verdict is INCONCLUSIVE


def test_a_really_full_disk_is_inconclusive(tmp_path: Path) -> None:
    mount = ("mount", "-t", "tmpfs", "-o", "size=2m", "ostler-test", str(tmp_path))
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount the small file system that this fills")
    try:
        result = disk_write.run({"path": str(tmp_path), "mib": "3"}, 60.0)
        left = list(tmp_path.iterdir())
    finally:
        subprocess.run(("umount", str(tmp_path)), check=True)
    assert (result.verdict, left) == (INCONCLUSIVE, [])
    assert "No space left" in result.message


@pytest.fixture
def pci(tmp_path: Path) -> Path:
    for address, vendor, kind in (
        ("0000:18:00.0", "0x10de", "0x030200"),
        ("0000:2a:00.0", "0x10de", "0x030000"),
        ("0000:3a:00.0", "0x10de", "0x068000"),
        ("0000:4a:00.0", "0xffff", "0xffffff"),
        ("0000:5a:00.0", "0x1234", "0x030000"),
    ):
        folder = tmp_path / address
        folder.mkdir()
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "class").write_text(f"{kind}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "verdict"),
    [({"expected": "2"}, PASSED), ({"expected": "3"}, FAILED), ({"expected": "1"}, FAILED), ({}, INCONCLUSIVE)],
)
def test_gpu_present_counts_gpus_that_answer(pci: Path, arguments: dict[str, str], verdict: CheckVerdict) -> None:
    result = gpu_present.run(arguments, 1.0, pci)
    assert (result.verdict, result.measured["found"]) == (verdict, 2)


def test_gpu_present_without_pci_is_unsupported(tmp_path: Path) -> None:
    result = gpu_present.run({"expected": "8"}, 1.0, tmp_path / "none")
    assert result.verdict is INCONCLUSIVE
    assert "unsupported" in result.message


@pytest.mark.parametrize("value", ["x", "-1", "nan", "inf", "1e9"])
def test_arguments_are_checked(value: str) -> None:
    with pytest.raises(BadInput, match=r"mib: (expected a number|must be between)"):
        find("memory-pattern").run({"mib": value}, 1.0)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu-present", "--set", "expected=63", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] in ("failed", "inconclusive")
    assert main([]) == 0
    assert "cpu-arith" in capsys.readouterr().out
    for bad in (["nope"], ["gpu-present", "--set", "expected"], ["gpu-present", "--set", "surprise=1"]):
        assert main(bad) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
