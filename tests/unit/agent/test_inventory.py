"""What a node says it is made of: from a small tree of /sys, from hostile files, from this very machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ostler.agent.inventory import RealNode
from ostler.agent.monitors.lines import Serial
from ostler.wire.agent import Disk, Gpu, Inventory, Nic
from ostler.wire.decode import decode, encode


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One GPU that answers, one that fell off the bus, a bridge that is no hardware, an HCA, a disk, a loop device."""
    files = {
        "proc/uptime": "123.45 99.0\n",
        "proc/meminfo": "MemTotal:       2113413120 kB\n",
        "proc/driver/nvidia/gpus/0000:18:00.0/information": "Model: \t\t NVIDIA H100\nVideo BIOS: \t 96.00.89\n",
        "sys/module/nvidia/version": "570.124.06\n",
        "sys/class/dmi/id/sys_vendor": "Acme\n",
        "sys/class/dmi/id/product_serial": "SN-1\n",
        "sys/class/dmi/id/product_uuid": "ABCD-1\n",
        "sys/class/dmi/id/bios_version": "1.2\n",
        "sys/bus/pci/devices/0000:18:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:18:00.0/class": "0x030200\n",
        "sys/bus/pci/devices/0000:2a:00.0/vendor": "0xffff\n",
        "sys/bus/pci/devices/0000:2a:00.0/class": "0xffffff\n",
        "sys/bus/pci/devices/0000:07:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:07:00.0/class": "0x068000\n",
        "sys/class/net/eth0/address": "AA:BB:CC:DD:EE:01\n",
        "sys/class/net/eth0/speed": "100000\n",
        "sys/class/net/br0/address": "aa:bb:cc:dd:ee:02\n",
        "sys/class/infiniband/mlx5_0/fw_ver": "28.43.2026\n",
        "sys/class/infiniband/mlx5_0/ports/1/rate": "400 Gb/sec (4X NDR)\n",
        "sys/block/nvme0n1/size": "7501476528\n",
        "sys/block/nvme0n1/device/model": "Disk  X\n",
        "sys/block/nvme0n1/device/serial": "D-1\n",
        "sys/block/loop0/size": "100\n",
        "sys/class/nvme/nvme0/firmware_rev": "7.0\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "pci/0000:3b:00.0").mkdir(parents=True)
    for link in ("sys/class/net/eth0/device", "sys/class/infiniband/mlx5_0/device"):
        (tmp_path / link).symlink_to(tmp_path / "pci/0000:3b:00.0")
    return tmp_path


def test_reads_what_is_there(root: Path) -> None:
    node = RealNode(root)
    inventory = node.inventory()
    assert inventory.system.serial == "SN-1"
    assert inventory.system.uuid == "abcd-1"
    assert inventory.gpus == (Gpu("0000:18:00.0", "NVIDIA H100", vbios="96.00.89"),)
    assert inventory.nics == (
        Nic("eth0", "aa:bb:cc:dd:ee:01", "0000:3b:00.0", speed="100000"),
        Nic("mlx5_0", "", "0000:3b:00.0", "28.43.2026", "400 Gb/sec (4X NDR)"),
    )
    assert inventory.disks == (Disk("nvme0n1", "Disk  X", "D-1", 7501476528 * 512 / 1e9),)
    assert inventory.firmware == {"bios": "1.2", "nic:mlx5_0": "28.43.2026", "disk:nvme0": "7.0"}
    assert (inventory.memory_gib, inventory.driver, node.uptime()) == (2015.51, "570.124.06", 123.45)
    assert decode(Inventory, encode(inventory)) == inventory


def test_the_drivers_library_adds_what_only_it_knows(root: Path) -> None:
    known = {"0000:18:00.0": Serial("0000:18:00.0", "1652322000000", "97.00", "other words", 79.6)}
    node = RealNode(root, serials=lambda: known)
    assert node.inventory().gpus == (Gpu("0000:18:00.0", "NVIDIA H100", "1652322000000", "96.00.89", 79.6),)


def test_an_empty_machine_is_an_empty_inventory(tmp_path: Path) -> None:
    node = RealNode(tmp_path)
    inventory = node.inventory()
    assert (inventory.gpus, inventory.nics, inventory.memory_gib) == ((), (), 0.0)
    assert (node.uptime(), node.busy(), node.boot_id()) == (0.0, None, "")


def test_hostile_files_still_make_a_message(root: Path) -> None:
    for path in root.rglob("*"):
        if path.is_file():
            path.write_bytes(b"\x00\xff\xed\xa0\x80" * 100 + b"\n9" * 50)
    (root / "sys/bus/pci/devices/0000:18:00.0/vendor").unlink()
    inventory = RealNode(root).inventory()
    assert decode(Inventory, encode(inventory)) == inventory


def test_this_machine_can_be_read() -> None:
    inventory = RealNode().inventory()
    assert inventory.cpus == os.cpu_count()
    assert inventory.memory_gib > 0
    assert decode(Inventory, encode(inventory)) == inventory


def process(root: Path, pid: int, name: str, *targets: str) -> None:
    folder = root / f"proc/{pid}"
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text(f"{name}\n")
    for number, target in enumerate(targets):
        (folder / f"fd/{number}").symlink_to(target)


def test_busy_is_a_process_that_holds_a_gpu_and_is_no_daemon(root: Path) -> None:
    (root / "dev").mkdir()
    (root / "dev/nvidia0").touch()
    now = [0.0]
    node = RealNode(root, ticks=lambda: now[0])
    process(root, 10, "nvidia-persiste", "/dev/nvidia0")
    process(root, 9, "ostler-monitors", "/dev/nvidia0")
    process(root, 11, "python", "/dev/nvidiactl", "/dev/null", "socket:[1]")
    assert node.busy() is False
    process(root, 12, "python", "/dev/null", "/dev/nvidia3")
    assert node.busy() is False, "one look is good for a while"
    now[0] += 60
    assert node.busy() is True


def test_a_check_of_this_agent_is_no_workload(root: Path) -> None:
    (root / "dev").mkdir()
    (root / "dev/nvidia0").touch()
    node = RealNode(root, ticks=lambda: 0.0)
    process(root, 20, "python", "/dev/null")
    (root / "proc/20/stat").write_text(f"20 (a) b) (c) S {os.getpid()} 20 20 0\n")
    process(root, 21, "python", "/dev/nvidia0")
    (root / "proc/21/stat").write_text("21 (python) S 20 21 21 0\n")
    assert node.busy_within(0.0) is False
    (root / "proc/21/stat").write_text("21 (python) S 22 21 21 0\n")
    process(root, 22, "bash")
    (root / "proc/22/stat").write_text("22 (bash) S 1 22 22 0\n")
    assert node.busy_within(-1.0) is True


def test_a_process_that_hides_its_parents_is_a_workload(root: Path) -> None:
    (root / "dev").mkdir()
    (root / "dev/nvidia0").touch()
    process(root, 21, "python", "/dev/nvidia0")
    assert RealNode(root, ticks=lambda: 0.0).busy() is True
