"""Memory that shrinks or errs, at the edges of each rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostler.agent.monitors.baseline import Baseline
from ostler.agent.monitors.memory import MemoryMonitor
from tests.unit.agent.monitors.tree import Machine

GIB = 1 << 20
MC = "sys/devices/system/edac/mc/mc0"


class Memory(Machine):
    def size(self, gib: float, corrupted: int = 0) -> None:
        self.write({"proc/meminfo": f"MemTotal: {int(gib * GIB)} kB\nHardwareCorrupted: {corrupted} kB"})

    def errors(self, ue: object = 0, ce: object = 0, dimm: str = "dimm0") -> None:
        folder = f"{MC}/{dimm}"
        self.write({f"{folder}/dimm_ue_count": ue, f"{folder}/dimm_ce_count": ce, f"{folder}/dimm_label": "CPU0_A1"})


@pytest.fixture
def node(tmp_path: Path) -> Memory:
    node = Memory(tmp_path)
    node.size(2048)
    node.write({f"{MC}/ue_count": 0, f"{MC}/ce_count": 0, "proc/sys/kernel/random/boot_id": "boot-1"})
    node.errors()
    return node


@pytest.fixture
def monitor(node: Memory) -> MemoryMonitor:
    monitor = MemoryMonitor(node.root)
    assert node.look(monitor) == set()
    return monitor


def test_more_than_four_gib_less_at_three_looks(node: Memory, monitor: MemoryMonitor) -> None:
    node.size(2044)
    assert node.look(monitor, times=5) == set()
    node.size(2043.9)
    assert node.look(monitor, times=2) == set()
    assert node.look(monitor) == {"host-memory-missing@"}
    node.size(2048)
    assert node.look(monitor, times=2) == set()


def test_a_quarter_less_on_a_small_machine(tmp_path: Path) -> None:
    node = Memory(tmp_path)
    node.size(8)
    monitor = MemoryMonitor(tmp_path)
    node.look(monitor)
    node.size(6)
    assert node.look(monitor, times=5) == set()
    node.size(5.9)
    assert node.look(monitor, times=5) == {"host-memory-missing@"}


def test_memory_that_a_reboot_lost(node: Memory) -> None:
    keep = node.root / "baseline.json"
    node.look(MemoryMonitor(node.root, baseline=Baseline(node.root, keep)))
    node.size(1984)
    assert node.look(MemoryMonitor(node.root, baseline=Baseline(node.root, keep)), times=3) == {"host-memory-missing@"}


def test_an_uncorrected_error_stands_until_the_next_boot(node: Memory) -> None:
    keep = node.root / "baseline.json"
    monitor = MemoryMonitor(node.root, baseline=Baseline(node.root, keep))
    assert node.look(monitor) == set()
    node.errors(ue=1)
    node.write({f"{MC}/ue_count": 1})
    assert node.look(monitor) == {"host-memory-uncorrected@mc0/dimm0"}
    assert node.look(monitor, 1e6) == {"host-memory-uncorrected@mc0/dimm0"}
    restarted = MemoryMonitor(node.root, baseline=Baseline(node.root, keep))
    assert node.look(restarted) == {"host-memory-uncorrected@mc0/dimm0"}, "a restart of the agent is no evidence"
    node.write({"proc/sys/kernel/random/boot_id": "boot-2"})
    assert node.look(MemoryMonitor(node.root, baseline=Baseline(node.root, keep))) == set()


def test_errors_of_before_the_first_look_are_the_baseline(node: Memory) -> None:
    node.errors(ue=3, ce=4000)
    assert node.look(MemoryMonitor(node.root), times=3) == set()


def test_an_error_that_no_dimm_owns_is_the_controllers(node: Memory, monitor: MemoryMonitor) -> None:
    node.write({f"{MC}/ue_count": 1})
    assert node.look(monitor) == {"host-memory-uncorrected@mc0"}


def test_fifty_corrected_errors_in_a_day(node: Memory, monitor: MemoryMonitor) -> None:
    node.errors(ce=49)
    assert node.look(monitor) == set()
    node.errors(ce=50)
    assert node.look(monitor) == {"host-memory-corrected-rate@mc0/dimm0"}
    assert node.look(monitor, 86401.0) == set()


def test_corrected_errors_of_two_dimms_do_not_add_up(node: Memory) -> None:
    node.errors(dimm="dimm1")
    monitor = MemoryMonitor(node.root)
    node.look(monitor)
    node.errors(ce=40)
    node.errors(ce=40, dimm="dimm1")
    node.write({f"{MC}/ce_count": 80})
    assert node.look(monitor) == set()


def test_pages_taken_out_of_use(node: Memory, monitor: MemoryMonitor) -> None:
    node.size(2048, corrupted=4)
    assert node.look(monitor) == {"host-memory-corrected-rate@pages"}


def test_pages_that_were_out_at_first_are_the_baseline(node: Memory) -> None:
    node.size(2048, corrupted=8)
    assert node.look(MemoryMonitor(node.root), times=2) == set()


def test_counts_that_cannot_be_read_any_more(node: Memory, monitor: MemoryMonitor) -> None:
    node.remove(MC)
    assert node.look(monitor, times=2) == set()
    assert node.look(monitor) == {"monitor-dead@memory:mc0", "monitor-dead@memory:mc0/dimm0"}


@pytest.mark.parametrize("junk", [b"", b"\xff" * 9000, b"-5", b"many", b"1" * 50])
def test_junk_is_borne(node: Memory, monitor: MemoryMonitor, junk: bytes) -> None:
    node.write({f"{MC}/{name}": junk for name in ("ue_count", "ce_count", "dimm0/dimm_ue_count", "dimm0/dimm_label")})
    assert node.look(monitor, times=2) == set()


def test_without_meminfo_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="meminfo"):
        MemoryMonitor(tmp_path).look(1.0)


def test_a_spoilt_baseline_is_a_new_one(node: Memory) -> None:
    keep = node.root / "baseline.json"
    for junk in (b"", b"[]", b"{", b'{"machine": "", "sections": {"memory": {"total_kib": "much"}}}', b"[" * 99999):
        keep.write_bytes(junk)
        assert node.look(MemoryMonitor(node.root, baseline=Baseline(node.root, keep)), times=4) == set()
