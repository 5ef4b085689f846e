"""Names of one part: PCI addresses in every spelling, adapters by inventory, disks by controller; and serial numbers."""

from __future__ import annotations

import pytest

from ostler.health.parts import changed_gpus, part, serial

INVENTORY = {
    "gpus": [{"pci": "0000:18:00.0", "serial": "G1"}, {"pci": "0000:2a:00.0", "serial": ""}, "broken"],
    "nics": [{"name": "mlx5_0", "pci": "0000:5e:00.0"}],
    "disks": [{"name": "nvme0n1", "serial": "D1"}],
}


@pytest.mark.parametrize(
    ("device", "same"),
    [
        ("PCI:0000:18:00", "0000:18:00"),
        ("0000:18:00.0", "0000:18:00"),
        ("00000000:18:00.0", "0000:18:00"),
        ("18:00.0", "0000:18:00"),
        ("0001:18:00.0", "0001:18:00"),
        ("mlx5_0/1", "0000:5e:00"),
        ("mlx5_1/1", "mlx5_1"),
        ("nvme0n1", "nvme0"),
        ("nvme0n1p2", "nvme0"),
        ("sda", "sda"),
        ("", ""),
    ],
)
def test_one_part_has_one_name(device: str, same: str) -> None:
    assert part(device, INVENTORY) == same


def test_serials_of_parts() -> None:
    assert serial("gpu", "0000:18:00", INVENTORY) == "G1"
    assert serial("disk", "nvme0", INVENTORY) == "D1"
    assert serial("gpu", "0000:2a:00", INVENTORY) is None
    assert serial("node", "", INVENTORY) is None
    assert serial("gpu", "0000:18:00", {"gpus": "nonsense"}) is None


def test_a_gpu_that_is_another_one() -> None:
    now = {"gpus": [{"pci": "0000:18:00.0", "serial": "G2"}, {"pci": "0000:2a:00.0", "serial": "G3"}]}
    assert changed_gpus(INVENTORY, now) == [("0000:18:00", "G1", "G2")]
    assert changed_gpus(now, {"gpus": [{"pci": "0000:18:00.0"}]}) == [], "one that does not say is no change"
