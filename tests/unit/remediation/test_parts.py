"""Which part a device is: by the inventory of its node, in every spelling."""

from __future__ import annotations

from typing import Any

import pytest

from ostler.remediation.parts import gpu_indices, parent_gpu, part_of, serial_of, wanted

INVENTORY: dict[str, Any] = {
    "gpus": [
        {"pci": "00000000:1B:00.0", "serial": "G0", "model": "H100"},
        {"pci": "0000:43:00.0", "serial": "G1", "model": "H100"},
    ],
    "disks": [{"name": "nvme0n1", "serial": "D0", "model": "PM9A3"}],
    "nics": [{"name": "mlx5_0", "pci": "0000:18:00.0"}],
}


@pytest.mark.parametrize(
    ("device", "parent"),
    [
        ("0000:1b:00", "0000:1b:00"),
        ("PCI:0000:1B:00.0", "0000:1b:00"),
        ("0000:1b:00.0/gi3/ci0", "0000:1b:00"),
        ("1b:00.0", "0000:1b:00"),
        ("mlx5_0/1", "mlx5_0/1"),
        ("GPU-1b:00", "GPU-1b:00"),
    ],
)
def test_a_mig_instance_is_its_parent(device: str, parent: str) -> None:
    assert parent_gpu(device) == parent


def test_indices_in_inventory_order_or_the_whole_node() -> None:
    assert gpu_indices(INVENTORY, ["0000:43:00", "0000:1b:00.0/gi1"]) == (0, 1)
    assert gpu_indices(INVENTORY, ["0000:43:00", "0000:99:00"]) is None, "one that nobody knows: the whole node"
    assert gpu_indices(INVENTORY, []) is None
    assert gpu_indices({}, ["0000:43:00"]) is None


@pytest.mark.parametrize(
    ("device", "serial"),
    [("0000:43:00", "G1"), ("/dev/nvme0n1", "D0"), ("mlx5_0/1", "NODE"), ("", "NODE"), ("FAN_3", "NODE")],
)
def test_repeats_are_counted_by_the_part_else_by_the_node(device: str, serial: str) -> None:
    assert serial_of(INVENTORY, device, "NODE") == serial


def test_a_replacement_request_names_part_serial_and_place() -> None:
    rows = [
        {"fault": "gpu-row-remap-failed", "component": "gpu", "device": "0000:43:00"},
        {"fault": "gpu-off-bus", "component": "gpu", "device": "0000:43:00"},
        {"fault": "bmc-fan", "component": "chassis", "device": "FAN_3"},
    ]
    gpu, fan = wanted(INVENTORY, "fra1/a/r1/u1", "NODE", rows)
    assert gpu == {
        "part": "gpu",
        "serial": "G1",
        "model": "H100",
        "place": "GPU 1 at 0000:43:00.0",
        "slot": "fra1/a/r1/u1",
        "faults": ["gpu-row-remap-failed", "gpu-off-bus"],
    }
    assert (fan["part"], fan["serial"], fan["place"]) == ("chassis", "", "FAN_3")


def test_an_inventory_of_nonsense_is_no_inventory() -> None:
    assert part_of({"gpus": "many", "disks": [1, None]}, "0000:1b:00") is None
