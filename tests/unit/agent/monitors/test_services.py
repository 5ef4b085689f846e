"""Services that must run, by their control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostler.agent.monitors import host
from ostler.agent.monitors.services import ServicesMonitor
from tests.unit.agent.monitors.tree import LONG_UP, Machine

GROUPS = "sys/fs/cgroup/system.slice"
UNITS = "usr/lib/systemd/system"


class Systemd(Machine):
    def __init__(self, root: Path, up: str = LONG_UP) -> None:
        super().__init__(root, up)
        self.write({f"{GROUPS}/ssh.service/cgroup.procs": 1})

    def switch(self, vendor: str = "0x10de", kind: str = "0x068000") -> None:
        device = "sys/bus/pci/devices/0000:07:00.0"
        self.write({f"{device}/class": kind, f"{device}/vendor": vendor})

    def service(self, name: str, pid: object = 42) -> None:
        self.write({f"{UNITS}/{name}.service": "[Unit]", f"{GROUPS}/{name}.service/cgroup.procs": pid})

    def stop(self, name: str) -> None:
        self.remove(f"{GROUPS}/{name}.service")


FM = "nvidia-fabricmanager"


@pytest.fixture
def node(tmp_path: Path) -> Systemd:
    return Systemd(tmp_path)


def test_nvswitches_need_the_fabric_manager(node: Systemd) -> None:
    node.switch()
    monitor = ServicesMonitor(node.root)
    assert node.look(monitor) == set()
    assert node.look(monitor) == {f"host-service-down@{FM}"}
    node.service(FM)
    assert node.look(monitor, times=2) == set()


@pytest.mark.parametrize(("vendor", "kind"), [("0x15b3", "0x068000"), ("0x10de", "0x030200"), ("0x10de", "")])
def test_what_is_no_nvswitch_needs_none(node: Systemd, vendor: str, kind: str) -> None:
    node.switch(vendor, kind)
    assert node.look(ServicesMonitor(node.root), times=5) == set()


def test_after_boot_it_has_ten_minutes_to_start(tmp_path: Path) -> None:
    node = Systemd(tmp_path, up="1.0 1.0")
    node.switch()
    monitor = ServicesMonitor(tmp_path)
    assert node.look(monitor, 60.0, times=9) == set()
    assert node.look(monitor, 60.0, times=3) == {f"host-service-down@{FM}"}


def test_a_service_that_ran_and_runs_no_more(node: Systemd) -> None:
    node.service("nvidia-persistenced")
    monitor = ServicesMonitor(node.root)
    assert node.look(monitor) == set()
    node.stop("nvidia-persistenced")
    assert node.look(monitor) == set(), "a restart takes a moment"
    assert node.look(monitor) == {"host-service-down@nvidia-persistenced"}


def test_an_empty_control_group_is_not_running(node: Systemd) -> None:
    node.service("nvidia-dcgm")
    monitor = ServicesMonitor(node.root)
    node.look(monitor)
    node.service("nvidia-dcgm", pid="")
    assert node.look(monitor, times=2) == {"host-service-down@nvidia-dcgm"}


def test_a_service_that_is_installed_and_not_wanted(node: Systemd) -> None:
    node.write({f"{UNITS}/nvidia-imex.service": "[Unit]"})
    assert node.look(ServicesMonitor(node.root), times=5) == set()


def test_a_service_that_is_enabled_and_never_ran(node: Systemd) -> None:
    name = "nvidia-persistenced"
    node.write({f"{UNITS}/{name}.service": "[Unit]"})
    node.write({f"etc/systemd/system/multi-user.target.wants/{name}.service": ""})
    assert node.look(ServicesMonitor(node.root), times=2) == {f"host-service-down@{name}"}


def test_a_service_that_was_removed_is_wanted_no_more(node: Systemd) -> None:
    node.service("nvidia-imex")
    monitor = ServicesMonitor(node.root)
    node.look(monitor)
    node.stop("nvidia-imex")
    node.remove(f"{UNITS}/nvidia-imex.service")
    assert node.look(monitor, times=5) == set()


def test_a_fabric_manager_in_a_container_runs_too(node: Systemd) -> None:
    node.switch()
    node.write({"proc/77/comm": "nv-fabricmanage"})
    monitor = ServicesMonitor(node.root)
    assert node.look(monitor, times=5) == set()
    node.remove("proc/77")
    assert node.look(monitor, times=2) == {f"host-service-down@{FM}"}


def test_without_systemd_nothing_is_said(tmp_path: Path) -> None:
    node = Systemd(tmp_path)
    node.switch()
    node.remove("sys/fs")
    assert node.look(ServicesMonitor(tmp_path), times=5) == set()


def test_all_monitors_of_the_host_can_look_at_this_machine() -> None:
    names = set()
    for monitor in host.monitors():
        monitor.look(1.0)
        names.add(monitor.name)
        assert monitor.deadline_s > 0
    assert names == {"infiniband", "ethernet", "clock", "disks", "filesystems", "memory", "services"}
