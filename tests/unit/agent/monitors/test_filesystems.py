"""Filesystems that turn read-only or fill up, and the ones that must never be asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ostler.agent.monitors.filesystems import FilesystemsMonitor, mounts
from ostler.faults.limits import Limits
from tests.unit.agent.monitors.tree import Machine

ROOT = "25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"
DATA = "26 25 8:2 / /data rw shared:2 - xfs /dev/sdb rw,attr2"
TMP = "27 25 0:25 / /tmp rw - tmpfs tmpfs rw"
NFS = "40 25 0:50 / /home rw - nfs4 server:/home rw"
BELOW = "41 40 8:9 / /home/scratch rw - ext4 /dev/sdc rw"


class Mounted(Machine):
    def mounted(self, *lines: str) -> None:
        self.write({"proc/1/mountinfo": "\n".join(lines)})


@pytest.fixture
def node(tmp_path: Path) -> Mounted:
    node = Mounted(tmp_path)
    (tmp_path / "data").mkdir()
    node.mounted(ROOT, DATA)
    return node


@pytest.fixture
def roomy() -> Limits:
    """This test is not about how full this machine is."""
    return Limits(fs_free_share=-1.0, fs_free_inodes_share=-1.0)


def read_only(line: str) -> str:
    left, _, right = line.partition(" - ")
    return f"{left} - {right.replace('rw', 'ro', 1)}"


def test_remounted_read_only(node: Mounted, roomy: Limits) -> None:
    monitor = FilesystemsMonitor(node.root, roomy)
    assert node.look(monitor) == set()
    node.mounted(ROOT, read_only(DATA))
    assert node.look(monitor) == {"host-fs-readonly@/data"}
    node.mounted(ROOT, DATA)
    assert node.look(monitor, times=2) == set()


def test_read_only_from_the_beginning_is_meant_so(node: Mounted, roomy: Limits) -> None:
    node.mounted(ROOT, read_only(DATA))
    assert node.look(FilesystemsMonitor(node.root, roomy), times=3) == set()


def test_a_read_only_mount_of_a_writable_filesystem_is_meant_so(node: Mounted, roomy: Limits) -> None:
    monitor = FilesystemsMonitor(node.root, roomy)
    node.look(monitor)
    node.mounted(ROOT, DATA.replace("/data rw ", "/data ro "))
    assert node.look(monitor) == set()


def test_unmounting_ends_it(node: Mounted, roomy: Limits) -> None:
    monitor = FilesystemsMonitor(node.root, roomy)
    node.look(monitor)
    node.mounted(ROOT, read_only(DATA))
    node.look(monitor)
    node.mounted(ROOT)
    assert node.look(monitor) == set()


@pytest.mark.parametrize(
    ("free_share", "inodes_share", "said"),
    [(-1.0, -1.0, set()), (1.1, -1.0, {"host-fs-full@/data"}), (-1.0, 1.1, {"host-fs-full@/data"})],
)
def test_full_by_bytes_or_by_inodes(node: Mounted, free_share: float, inodes_share: float, said: set[str]) -> None:
    """Of this machine's real filesystem, by limits that it cannot meet or always does."""
    node.mounted(DATA)
    limits = Limits(fs_free_share=free_share, fs_free_inodes_share=inodes_share)
    has_inodes = os.statvfs(node.root).f_files > 0
    assert node.look(FilesystemsMonitor(node.root, limits)) == (said if has_inodes or inodes_share < 0 else set())


def test_the_edges_of_fullness(node: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    """5 % free is enough, less is not, and it is over at 7 %."""
    free = [50]

    def statvfs(_path: object) -> os.statvfs_result:
        return os.statvfs_result((4096, 4096, 1000, free[0], free[0], 0, 0, 0, 0, 255))

    monkeypatch.setattr("os.statvfs", statvfs)
    node.mounted(DATA)
    monitor = FilesystemsMonitor(node.root)
    seen = []
    for free[0] in (50, 49, 60, 69, 70):
        seen.append(bool(node.look(monitor)))
    assert seen == [False, True, True, True, False]


def test_only_local_filesystems_are_asked() -> None:
    found = mounts("\n".join([ROOT, DATA, TMP, NFS, BELOW]))
    assert [one.point for one in found] == ["/", "/data"], "what is below a network filesystem may hang too"


def test_a_root_in_memory_is_asked() -> None:
    assert [one.kind for one in mounts("1 1 0:9 / / rw - overlay overlay rw")] == ["overlay"]


def test_a_filesystem_is_asked_once() -> None:
    bind = DATA.replace("/data", "/var/lib/kubelet/pods/x")
    assert [one.point for one in mounts(f"{DATA}\n{bind}")] == ["/data"]


def test_names_with_blanks_are_read() -> None:
    assert mounts(DATA.replace("/data", "/my\\040data"))[0].point == "/my data"


@pytest.mark.parametrize("junk", ["", "x", " - ", "1 2 3 - ext4 a b", "\x00" * 100, "1 2 8:1 / /x rw - ext4"])
def test_junk_is_borne(junk: str) -> None:
    assert mounts(junk) == []


def test_without_a_table_of_mounts_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="mounts"):
        FilesystemsMonitor(tmp_path).look(1.0)


def test_this_machine_can_be_looked_at() -> None:
    assert mounts(Path("/proc/self/mountinfo").read_text())
    FilesystemsMonitor().look(1.0)
