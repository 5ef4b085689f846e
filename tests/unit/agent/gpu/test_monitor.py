"""The GPU monitor through the real nvidia-ml-py and a library that answers as it is told: what is there, what hangs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from ostler.agent.monitors import nvml
from ostler.agent.monitors.gpu import GpuMonitor
from ostler.agent.monitors.port import Look
from ostler.faults.metrics import METRICS
from tests.nvml import machine
from tests.nvml.machine import Machine

GPU_IS_LOST = f"error:{pynvml.NVML_ERROR_GPU_IS_LOST}"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine.load()
    here = Machine(tmp_path)
    monkeypatch.setenv(machine.VARIABLE, str(here.state))
    return here


class Watcher:
    """A monitor whose time is a number."""

    def __init__(self, here: Machine, bound_s: float = 5.0, expected: int = -1) -> None:
        self.now = 0.0
        self.monitor = GpuMonitor(here.root, expected=expected, bound_s=bound_s, ticks=lambda: self.now)

    def look(self, times: int = 1) -> list[str]:
        """`FAULT@DEVICE` of what stands after the last look."""
        found = Look()
        for _ in range(times):
            found = self.monitor.look(self.now)
            self.now += 30.0
        self.last = found
        return [f"{fault.kind}-{fault.code}@{fault.device}" for fault in found.standing]


@pytest.fixture
def watcher(made: Machine) -> Iterator[Watcher]:
    watching = Watcher(made)
    yield watching
    watching.monitor.release()
    nvml.start()  # it is left so that it can be opened again
    nvml.stop()


@pytest.mark.parametrize("profile", machine.PROFILES)
def test_a_healthy_machine_of_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str) -> None:
    machine.load()
    here = Machine(tmp_path, profile)
    monkeypatch.setenv(machine.VARIABLE, str(here.state))
    watching = Watcher(here)
    assert watching.look(30) == []
    readings = watching.last.readings
    assert sorted(readings) == here.addresses
    assert set(readings[here.addresses[0]]) <= set(METRICS)
    missing = {"h100": set(), "b200": set(), "a100-mig": {"utilisation", "memory_utilisation"}}[profile]
    without = set(METRICS) - set(readings[here.addresses[0]])
    assert missing <= without
    assert ("nvlink_tx_mb_s" in without) == (profile == "a100-mig")
    first = watching.monitor.serials()[0]
    assert (first.pci, first.serial) == ("0000:1b:00.0", "1652322000000")
    assert first.model.startswith("NVIDIA ")
    watching.monitor.release()


CHANGES: list[tuple[str, dict[str, object]]] = [
    ("gpu-ecc-uncorrected", {"ecc.uncorrected": 2}),
    ("gpu-sram-threshold", {"sram_exceeded": 1}),
    ("gpu-row-remap-pending", {"remap.pending": 1}),
    ("gpu-row-remap-failed", {"remap.failed": 1}),
    ("gpu-hot", {"temperature": 90}),
    ("gpu-hot", {"margin": 0}),
    ("gpu-memory-hot", {f"field.{pynvml.NVML_FI_DEV_MEMORY_TEMP}": 96}),
    ("gpu-power-capped", {"power_limit_mw": 350_000}),
    ("gpu-pcie-width", {"pcie_width": 4}),
    ("gpu-pcie-gen", {"pcie_gen": 3, "utilisation.gpu": 99}),
    ("gpu-nvlink-down", {"link.7": 0}),
    ("gpu-gsp", {"gsp.on": 0}),
    ("gpu-gsp", {"gsp.version": "550.54.15"}),
    ("gpu-persistence-off", {"persistence": 0}),
    ("gpu-fabric", {"fabric.status": 999}),
    ("gpu-fabric", {"fabric.health": "0x1"}),
    ("gpu-identity", {"serial": "1652322000001"}),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_what_the_library_says_becomes_a_fault_of_that_gpu(
    made: Machine, watcher: Watcher, name: str, change: dict[str, object]
) -> None:
    assert watcher.look(2) == []
    made.set(change, gpu=0)
    found = watcher.look(2)
    expected = [f"{name}@{made.addresses[0]}"]
    if name == "gpu-identity":
        expected.append(f"{name}@{made.addresses[1]}")
    assert found == expected


def test_a_gpu_that_retires_pages(made: Machine, watcher: Watcher) -> None:
    old: dict[str, object] = {"remap.pending": f"error:{pynvml.NVML_ERROR_NOT_SUPPORTED}"}
    made.set({**old, "pages_pending": 1, "pages.corrected": 40, "pages.uncorrected": 20}, gpu=2)
    address = made.addresses[2]
    assert watcher.look() == [f"gpu-pages-pending@{address}", f"gpu-pages-retired@{address}"]
    made.set({"pages_pending": 0, "pages.uncorrected": 19}, gpu=2)
    assert watcher.look() == []


def test_counters_are_read_from_the_fields_of_either_generation(made: Machine, watcher: Watcher) -> None:
    newer = pynvml.NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_EVENTS
    made.set({f"field.{newer}": 3}, gpu=4)
    assert watcher.look(2) == []
    made.set({f"field.{pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY}.5": 6}, gpu=1)
    made.set({f"field.{newer}.9": 9}, gpu=4)
    assert watcher.look() == [f"gpu-nvlink-errors@{made.addresses[1]}", f"gpu-nvlink-errors@{made.addresses[4]}"]
    assert "5 (6)" in watcher.last.standing[0].message and "9 (6)" in watcher.last.standing[1].message


def test_a_lost_gpu(made: Machine, watcher: Watcher) -> None:
    assert watcher.look(2) == []
    made.set({"ecc.uncorrected": 1}, gpu=3)
    watcher.look()
    made.set(all=GPU_IS_LOST, gpu=3)
    address = made.addresses[3]
    assert watcher.look() == [f"gpu-ecc-uncorrected@{address}"], "once may be somebody's reset"
    assert watcher.look() == [f"gpu-ecc-uncorrected@{address}", f"gpu-lost@{address}"], "what stood was not seen to end"
    assert address not in watcher.last.readings and len(watcher.last.readings) == 7
    watcher.look(25)  # the library was opened anew meanwhile
    made.set({"all": None, "ecc.uncorrected": 0}, gpu=3)
    assert watcher.look(2) == []


def test_one_question_that_fails_costs_that_answer_only(made: Machine, watcher: Watcher) -> None:
    made.set({"temperature": "error:999", "pcie_width": "error:10", "fields": "error:3"}, gpu=0)
    assert watcher.look(3) == []
    assert "temperature_c" not in watcher.last.readings[made.addresses[0]]
    assert "power_w" in watcher.last.readings[made.addresses[0]]


def test_gpus_that_are_missing(made: Machine, watcher: Watcher) -> None:
    assert watcher.look(2) == []
    made.unplug(made.addresses[5])
    assert watcher.look() == []
    assert watcher.look() == [f"gpu-missing@{made.addresses[5]}"]
    made.set({"pci": "elsewhere"}, gpu=6)
    watcher.look()
    assert watcher.look() == [f"gpu-missing@{address}" for address in made.addresses[5:7]]
    made.plug(made.addresses[5])
    made.set({"pci": made.addresses[6]}, gpu=6)
    assert watcher.look(2) == []


@pytest.mark.parametrize(("expected", "found"), [(9, ["gpu-missing@"]), (8, []), (7, []), (-1, [])])
def test_the_count_against_what_the_server_expects(made: Machine, expected: int, found: list[str]) -> None:
    watching = Watcher(made, expected=expected)
    assert watching.look() == []
    assert watching.look() == found
    watching.monitor.release()


def test_a_gpu_that_was_passed_through_is_not_missing(made: Machine) -> None:
    made.plug(made.addresses[0], "vfio-pci")
    made.set({"pci": "not ours"}, gpu=0)
    watching = Watcher(made, expected=8)
    assert watching.look(3) == []
    made.plug(made.addresses[0], "")
    assert watching.look(3) == [f"gpu-missing@{made.addresses[0]}"], "bound to nothing it is"
    watching.monitor.release()


def test_a_machine_without_gpus_says_nothing_and_needs_no_library(tmp_path: Path) -> None:
    watching = Watcher(Machine(tmp_path, gpus=0))
    assert watching.look(3) == []
    none_but_eight = Watcher(Machine(tmp_path, gpus=0), expected=8)
    assert none_but_eight.look(2) == ["gpu-missing@"]


@pytest.mark.parametrize(
    ("code", "stale"),
    [(pynvml.NVML_ERROR_DRIVER_NOT_LOADED, False), (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, True)],
)
def test_a_driver_that_does_not_answer(made: Machine, watcher: Watcher, code: int, stale: bool) -> None:
    assert watcher.look(2) == []
    made.set(init=f"error:{code}")
    made.set({"handle": f"error:{code}"}, gpu=0)
    assert watcher.look() == []
    assert watcher.look() == ["gpu-driver@"]
    assert watcher.last.readings == {}
    assert watcher.monitor.stale == stale, "a library that no longer fits needs a new process"
    made.set(init=0)
    made.set({"handle": None}, gpu=0)
    assert watcher.look(2) == []


def test_a_library_that_never_fitted_is_not_tried_again_at_once(made: Machine) -> None:
    made.set(init=f"error:{pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH}")
    watching = Watcher(made)
    assert watching.look(3) == ["gpu-driver@"]
    assert not watching.monitor.stale
    watching.now = 700.0
    watching.look()
    assert watching.monitor.stale


def test_a_gpu_that_hangs_the_driver_starves_itself_only(made: Machine) -> None:
    watching = Watcher(made, bound_s=0.2)
    assert watching.look(2) == []
    made.set({"remap.failed": 1}, gpu=2)
    watching.look()
    made.set({"power_mw": "hang"}, gpu=2)
    address = made.addresses[2]
    stands = [f"gpu-row-remap-failed@{address}", f"monitor-dead@gpu/{address}"]
    assert watching.look() == stands
    assert len(watching.last.readings) == 7
    made.set({"remap.pending": 1}, gpu=5)
    assert watching.look(3) == [*stands, f"gpu-row-remap-pending@{made.addresses[5]}"], "the others are watched"
    hung = watching.monitor._hung[address]
    made.set({"power_mw": None, "remap.failed": 0}, gpu=2)
    with hung._changed:
        assert hung._changed.wait_for(lambda: hung.done, 60)
    assert watching.look() == [f"gpu-row-remap-pending@{made.addresses[5]}"]
    assert len(watching.last.readings) == 8
    watching.monitor.release()


def test_a_driver_that_hangs_is_the_whole_monitors_death(made: Machine) -> None:
    watching = Watcher(made, bound_s=0.2)
    made.set(init="hang")
    with pytest.raises(OSError, match="the driver does not answer"):
        watching.look()
    with pytest.raises(OSError, match="still hangs"):
        watching.look()
    watching.monitor.release()  # must not wait for what hangs
    stuck = watching.monitor._stuck
    assert stuck is not None
    made.set(init=None)
    with stuck._changed:
        assert stuck._changed.wait_for(lambda: stuck.done, 60)
    assert watching.look(2) == []
    watching.monitor.release()


def test_released_it_begins_anew(made: Machine, watcher: Watcher) -> None:
    made.set({"pcie_replays": 5}, gpu=0)
    assert watcher.look(2) == []
    watcher.monitor.release()
    made.set({"pcie_replays": 5_000}, gpu=0)
    assert watcher.look(2) == [], "what came while nobody looked is no rate"
