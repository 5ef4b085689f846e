"""Carriers that go away or come and go, and what is none of our business."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostler.agent.monitors.ethernet import EthernetMonitor
from tests.unit.agent.monitors.tree import Machine

NET = "sys/class/net"


class Interfaces(Machine):
    def add(self, name: str, carrier: int = 1, kind: int = 1) -> None:
        self.link(f"{NET}/{name}/device", f"sys/devices/{name}")
        self.write({f"{NET}/{name}/type": kind, f"{NET}/{name}/flags": "0x1003", f"{NET}/{name}/carrier": carrier})
        self.write({f"{NET}/{name}/operstate": "up", f"{NET}/{name}/carrier_down_count": 1})


@pytest.fixture
def node(tmp_path: Path) -> Interfaces:
    node = Interfaces(tmp_path)
    node.add("eth0")
    return node


@pytest.fixture
def monitor(node: Interfaces) -> EthernetMonitor:
    monitor = EthernetMonitor(node.root)
    assert node.look(monitor) == set()
    return monitor


def test_a_carrier_that_is_away_for_25_seconds(node: Interfaces, monitor: EthernetMonitor) -> None:
    node.write({f"{NET}/eth0/carrier": 0})
    assert node.look(monitor, times=3) == set()
    assert node.look(monitor) == {"eth-carrier-down@eth0"}
    node.write({f"{NET}/eth0/carrier": 1})
    assert node.look(monitor) == {"eth-carrier-down@eth0"}
    assert node.look(monitor) == set()


def test_an_interface_that_was_switched_off_says_so(node: Interfaces, monitor: EthernetMonitor) -> None:
    node.write({f"{NET}/eth0/flags": "0x1002"})
    node.remove(f"{NET}/eth0/carrier")
    node.look(monitor, times=4)
    (said,) = monitor.look(node.at + 10).standing
    assert said.message.endswith("switched off")


def test_an_interface_without_a_cable_is_nobodys_fault(node: Interfaces) -> None:
    node.add("eth1", carrier=0)
    assert node.look(EthernetMonitor(node.root), times=20) == set()


@pytest.mark.parametrize("kind", [32, 772])
def test_what_is_no_ethernet_is_left_out(node: Interfaces, kind: int) -> None:
    node.add("ib0", kind=kind)
    monitor = EthernetMonitor(node.root)
    node.look(monitor)
    node.write({f"{NET}/ib0/carrier": 0})
    assert node.look(monitor, times=10) == set()


def test_bridges_and_virtual_functions_are_left_out(node: Interfaces) -> None:
    node.write({f"{NET}/br0/type": 1, f"{NET}/br0/carrier": 1, f"{NET}/br0/flags": "0x1003"})
    node.add("eth0v0")
    node.link("sys/devices/eth0v0/physfn", "sys/devices/eth0")
    monitor = EthernetMonitor(node.root)
    node.look(monitor)
    node.write({f"{NET}/br0/carrier": 0, f"{NET}/eth0v0/carrier": 0})
    assert node.look(monitor, times=10) == set()


def test_three_losses_in_six_hours_flap(node: Interfaces, monitor: EthernetMonitor) -> None:
    for losses in (2, 3):
        node.write({f"{NET}/eth0/carrier_down_count": losses})
        assert node.look(monitor) == set()
    node.write({f"{NET}/eth0/carrier_down_count": 4})
    assert node.look(monitor) == {"eth-flapping@eth0"}
    assert node.look(monitor, 6 * 3600.0 + 1) == set()


def test_an_older_kernel_counts_changes_both_ways(node: Interfaces) -> None:
    node.remove(f"{NET}/eth0/carrier_down_count")
    node.write({f"{NET}/eth0/carrier_changes": 2})
    monitor = EthernetMonitor(node.root)
    node.look(monitor)
    node.write({f"{NET}/eth0/carrier_changes": 6})
    assert node.look(monitor) == set()
    node.write({f"{NET}/eth0/carrier_changes": 8})
    assert node.look(monitor) == {"eth-flapping@eth0"}


def test_losses_in_the_first_half_hour_do_not_count(tmp_path: Path) -> None:
    node = Interfaces(tmp_path, up="60.0 1.0")
    node.add("eth0")
    monitor = EthernetMonitor(tmp_path)
    node.look(monitor)
    node.write({f"{NET}/eth0/carrier_down_count": 50})
    assert node.look(monitor) == set()


def test_gone_with_its_device_or_into_a_container(node: Interfaces, monitor: EthernetMonitor) -> None:
    node.remove(f"{NET}/eth0")
    assert node.look(monitor, times=10) == set(), "the device is there: another network namespace has it"
    node.remove("sys/devices/eth0")
    assert node.look(monitor, times=2) == set()
    assert node.look(monitor) == {"eth-carrier-down@eth0"}
