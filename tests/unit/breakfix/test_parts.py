"""From inventories to one list of parts."""

from __future__ import annotations

from typing import Any

import pytest

from ostler.breakfix.model import Part
from ostler.breakfix.parts import parts_of, serial_of

INVENTORY: dict[str, Any] = {
    "system": {"manufacturer": "Twin", "model": "HGX", "serial": "SN1"},
    "gpus": [{"pci": "0000:1b:00.0", "model": "H100", "serial": "165", "vbios": "96.00"}],
    "nics": [{"name": "mlx5_0", "pci": "0000:19:00.0", "mac": "aa:bb", "firmware": "28.39"}],
    "disks": [{"name": "nvme0n1", "model": "PM9A3", "serial": "S6"}],
    "psus": [{"name": "PSU1"}],
    "firmware": {"bios": "2.1"},
}
BMC: dict[str, Any] = {
    "identity": {"serial": "SN1", "manufacturer": "Twin", "model": "HGX"},
    "cpus": [{"name": "CPU_0", "model": "8480C", "serial": "C1"}],
    "psus": [{"name": "PSU1", "model": "3 kW", "serial": "P1"}],
    "nics": [{"name": "NIC_1", "mac": "aa:bb"}],
}


def test_every_part_has_its_number() -> None:
    found = parts_of(INVENTORY, BMC, {"HGX_FW_BMC_0": "24.09"})
    assert Part("gpu", "0000:1b:00.0", "H100", "165", "96.00") in found
    assert Part("nic", "mlx5_0", "0000:19:00.0", "aa:bb", "28.39") in found
    assert Part("cpu", "CPU_0", "8480C", "C1", source="bmc") in found
    assert Part("psu", "PSU1", "3 kW", "P1", source="bmc") in found
    assert Part("firmware", "HGX_FW_BMC_0", firmware="24.09", source="bmc") in found
    assert Part("firmware", "bios", firmware="2.1") in found
    assert [part.source for part in found if part.kind == "chassis"] == ["agent", "bmc"]


@pytest.mark.parametrize(
    ("kind", "name", "serial"),
    [
        ("gpu", "0000:1b:00.0", "165"),
        ("gpu", "0000:1B:00", "165"),
        ("gpu", "0000:1c:00.0", ""),
        ("nic", "0000:1b:00", ""),
    ],
)
def test_a_parts_number_by_the_name_in_a_finding(kind: str, name: str, serial: str) -> None:
    assert serial_of(parts_of(INVENTORY, {}, {}), kind, name) == serial


@pytest.mark.parametrize(
    "inventory", [{}, {"gpus": None}, {"gpus": [3, None]}, {"gpus": {"a": 1}}, {"system": 7, "firmware": [1]}]
)
def test_nonsense_is_no_part(inventory: dict[str, Any]) -> None:
    assert parts_of(inventory, {"cpus": "x", "identity": None}, {}) == []
