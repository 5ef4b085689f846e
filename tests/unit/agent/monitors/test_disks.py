"""Disks that vanish, fail or err; what a SMART log says; and the disks that are not ours to watch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ostler.agent.monitors.baseline import Baseline
from ostler.agent.monitors.disks import SMART_EVERY_S, DisksMonitor, Smart, command, parse, smart
from tests.unit.agent.monitors.tree import LONG_UP, Machine

HEALTHY = Smart(warning=0, spare=100, spare_least=10, used=3, media_errors=0)
BLOCK, NVME = "sys/block", "sys/class/nvme"


class Disks(Machine):
    def __init__(self, root: Path, up: str = LONG_UP) -> None:
        super().__init__(root, up)
        self.log: Smart | None = HEALTHY
        self.broken = False
        self.asked = 0

    def nvme(self, number: int = 0, transport: str = "pcie") -> None:
        name = f"nvme{number}"
        self.write({f"{NVME}/{name}/state": "live", f"{NVME}/{name}/transport": transport})
        device = f"{BLOCK}/{name}n1/device"
        self.write({f"{device}/serial": f"S{number}", f"{device}/transport": transport})

    def sata(self, name: str = "sda") -> None:
        self.write({f"{BLOCK}/{name}/device/{file}": text for file, text in
                    (("wwid", f"naa.{name}"), ("state", "running"), ("ioerr_cnt", "0x3"))})  # fmt: skip
        self.write({f"{BLOCK}/{name}/removable": 0})

    def ask(self, _device: Path) -> Smart | None:
        self.asked += 1
        if self.broken:
            raise OSError("no answer")
        return self.log

    def monitor(self, baseline: Baseline | None = None) -> DisksMonitor:
        return DisksMonitor(self.root, baseline=baseline, ask=self.ask)


@pytest.fixture
def node(tmp_path: Path) -> Disks:
    node = Disks(tmp_path)
    node.nvme()
    node.sata()
    return node


@pytest.fixture
def monitor(node: Disks) -> DisksMonitor:
    monitor = node.monitor()
    assert node.look(monitor, times=3) == set()
    return monitor


def test_a_disk_is_missing_at_the_third_look(node: Disks, monitor: DisksMonitor) -> None:
    node.remove(f"{BLOCK}/sda")
    assert node.look(monitor, times=2) == set()
    assert node.look(monitor) == {"host-disk-missing@sda"}
    node.sata()
    assert node.look(monitor) == set()


def test_a_disk_that_came_back_under_another_name_is_not_missing(node: Disks, monitor: DisksMonitor) -> None:
    (node.root / BLOCK / "sda").rename(node.root / BLOCK / "sdb")
    assert node.look(monitor, times=5) == set()


def test_a_disk_that_a_reboot_lost(node: Disks) -> None:
    keep = node.root / "baseline.json"
    node.look(node.monitor(Baseline(node.root, keep)))
    node.remove(f"{BLOCK}/sda")
    node.write({"proc/uptime": "5.0 1.0"})
    again = node.monitor(Baseline(node.root, keep))
    assert node.look(again, 60.0, times=9) == set()
    assert node.look(again, 60.0, times=5) == {"host-disk-missing@sda"}
    other = Baseline(node.root, keep)
    node.write({"sys/class/dmi/id/board_serial": "another board"})
    assert node.look(node.monitor(Baseline(node.root, keep)), 600.0, times=5) == set()
    assert other.get("disks")


@pytest.mark.parametrize("name", ["loop0", "dm-0", "md0", "zram0", "nbd0"])
def test_virtual_disks_are_left_out(node: Disks, name: str) -> None:
    node.write({f"{BLOCK}/{name}/device/wwid": "x"})
    monitor = node.monitor()
    node.look(monitor)
    node.remove(f"{BLOCK}/{name}")
    assert node.look(monitor, times=5) == set()


def test_network_and_removable_disks_are_left_out(tmp_path: Path) -> None:
    node = Disks(tmp_path)
    node.nvme(7, transport="tcp")
    node.sata("sdz")
    node.write({f"{BLOCK}/sdz/removable": 1})
    monitor = node.monitor()
    node.look(monitor)
    node.write({f"{NVME}/nvme7/state": "connecting"})
    node.remove(BLOCK)
    assert node.look(monitor, times=5) == set()
    assert node.asked == 0


@pytest.mark.parametrize("state", ["dead", "resetting", "connecting", ""])
def test_a_controller_that_is_not_live_twice(node: Disks, monitor: DisksMonitor, state: str) -> None:
    node.write({f"{NVME}/nvme0/state": state})
    assert node.look(monitor) == set()
    assert node.look(monitor) == {"host-disk-failing@nvme0"}


def test_a_controller_that_is_not_live_is_not_asked(node: Disks, monitor: DisksMonitor) -> None:
    node.write({f"{NVME}/nvme0/state": "resetting"})
    asked = node.asked
    node.look(monitor, SMART_EVERY_S, times=3)
    assert node.asked == asked


def test_it_is_asked_every_ten_minutes(node: Disks, monitor: DisksMonitor) -> None:
    assert node.asked == 1
    node.look(monitor, SMART_EVERY_S / 2, times=4)
    assert node.asked == 3


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (Smart(0, 10, 10, 99, 0), set()),
        (Smart(0, 9, 10, 0, 0), {"host-disk-failing@nvme0"}),
        (Smart(1, 100, 10, 0, 0), {"host-disk-failing@nvme0"}),
        (Smart(4, 100, 10, 0, 0), {"host-disk-failing@nvme0"}),
        (Smart(8, 100, 10, 0, 0), {"host-disk-failing@nvme0"}),
        (Smart(2, 100, 10, 0, 0), {"host-disk-errors@nvme0"}),
        (Smart(0x20, 100, 10, 0, 0), set()),
        (Smart(0, 100, 10, 100, 0), {"host-disk-errors@nvme0"}),
        (Smart(0, 100, 10, 0, 7), set()),
    ],
)
def test_what_a_first_log_says(tmp_path: Path, log: Smart, said: set[str]) -> None:
    node = Disks(tmp_path)
    node.nvme()
    node.log = log
    assert node.look(node.monitor(), times=2) == said


def test_new_media_errors_stand_for_an_hour(node: Disks, monitor: DisksMonitor) -> None:
    node.log = Smart(0, 100, 10, 3, media_errors=1)
    assert node.look(monitor, SMART_EVERY_S) == {"host-disk-errors@nvme0"}
    assert node.look(monitor, 3601.0) == set()


def test_a_log_that_cannot_be_had_is_unsupported(tmp_path: Path) -> None:
    node = Disks(tmp_path)
    node.nvme()
    node.log = None
    assert node.look(node.monitor(), SMART_EVERY_S, times=5) == set()


def test_a_log_that_could_be_read_before_is_missed(node: Disks, monitor: DisksMonitor) -> None:
    node.broken = True
    assert node.look(monitor, SMART_EVERY_S) == set()
    assert node.look(monitor, SMART_EVERY_S) == {"monitor-dead@disks:nvme0"}
    node.broken = False
    assert node.look(monitor, SMART_EVERY_S) == set()


def test_ten_failed_commands_in_an_hour(node: Disks, monitor: DisksMonitor) -> None:
    node.write({f"{BLOCK}/sda/device/ioerr_cnt": "0xc"})
    assert node.look(monitor) == set()
    node.write({f"{BLOCK}/sda/device/ioerr_cnt": "0xd"})
    assert node.look(monitor) == {"host-disk-errors@sda"}
    assert node.look(monitor, 3601.0) == set()


def test_a_disk_that_the_kernel_took_offline(node: Disks, monitor: DisksMonitor) -> None:
    node.write({f"{BLOCK}/sda/device/state": "offline"})
    assert node.look(monitor, times=2) == {"host-disk-failing@sda"}


def test_a_smart_log_is_taken_apart() -> None:
    page = bytearray(512)
    page[0], page[3], page[4], page[5] = 0x04, 7, 10, 250
    page[160:176] = (1 << 70).to_bytes(16, "little")
    assert parse(bytes(page)) == Smart(4, 7, 10, 250, 1 << 70)
    for wrong in (b"", bytes(512), b"x" * 100):
        with pytest.raises(OSError, match="empty"):
            parse(wrong)


def test_the_command_has_the_kernels_layout() -> None:
    """linux/nvme_ioctl.h, struct nvme_passthru_cmd: 72 bytes, addr at 24, data_len at 36, cdw10 at 40."""
    asked = command(0x1122334455667788)
    assert (len(asked), asked[0]) == (72, 0x02)
    assert int.from_bytes(asked[4:8], "little") == 0xFFFFFFFF
    assert int.from_bytes(asked[24:32], "little") == 0x1122334455667788
    assert int.from_bytes(asked[36:40], "little") == 512
    assert int.from_bytes(asked[40:44], "little") == 0x007F0002


def test_what_is_no_controller_gives_no_log(tmp_path: Path) -> None:
    assert smart(tmp_path / "absent") is None
    (tmp_path / "file").touch()
    assert smart(tmp_path / "file") is None
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        smart(Path(os.devnull))


@pytest.mark.parametrize("junk", [b"", b"\xff" * 10_000, b"0xzz", b"-1", b"9" * 60])
def test_junk_in_any_file_is_borne(node: Disks, monitor: DisksMonitor, junk: bytes) -> None:
    node.write({f"{BLOCK}/sda/device/{name}": junk for name in ("ioerr_cnt", "state")})
    node.write({f"{NVME}/nvme0/state": junk})
    assert all("nvme0" in one or "sda" in one for one in node.look(monitor, times=4))
