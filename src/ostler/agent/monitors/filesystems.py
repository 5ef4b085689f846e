"""Local filesystems: turned read-only, or nearly full. By mountinfo and statvfs.

Only filesystems on local disks are asked, and the root whatever it is (a netbooted node runs from memory): a dead NFS
server hangs whoever asks it. What is mounted below a network filesystem is left alone for the same reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ostler.agent.monitors.counting import Steady
from ostler.agent.monitors.port import Look
from ostler.faults.limits import Limits
from ostler.faults.model import Fault
from ostler.faults.monitored import fault

NAME = "filesystems"
_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "vfat", "zfs", "bcachefs"})
_MEMORY = frozenset({"tmpfs", "overlay", "rootfs", "ramfs"})
"""As a root only."""
_HARMLESS = _LOCAL | _MEMORY | frozenset(
    {"proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "mqueue", "hugetlbfs", "debugfs", "tracefs",
     "securityfs", "configfs", "pstore", "bpf", "efivarfs", "squashfs", "nsfs", "binfmt_misc", "fusectl", "selinuxfs"}
)  # fmt: skip
"""Nobody hangs on these: what is mounted below them may be asked."""
_MOUNTINFO_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo."""

    device: str
    """major:minor."""
    point: str
    kind: str
    read_only: bool
    """Of the filesystem itself, not of this mount of it."""


def mounts(text: str) -> list[Mount]:
    """Local filesystems, each once (where it is mounted first), safe to ask."""
    found: dict[str, Mount] = {}
    danger: list[str] = []
    lines = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, rest = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(rest) < 3:
            continue
        point, kind = _unescaped(fields[4]), rest[0]
        if kind not in _HARMLESS:
            danger.append(point.rstrip("/") + "/")
        lines.append((fields[2], point, kind, "ro" in rest[2].split(",")))
    for device, point, kind, read_only in lines:
        wanted = kind in _LOCAL or (kind in _MEMORY and point == "/")
        if wanted and device not in found and not (point + "/").startswith(tuple(danger)):
            found[device] = Mount(device, point, kind, read_only)
    return list(found.values())


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


class FilesystemsMonitor:
    """A `Monitor`."""

    name = NAME
    period_s = 30.0
    deadline_s = 10.0

    def __init__(self, root: Path = Path("/"), limits: Limits | None = None) -> None:
        self._root = root
        self._limits = limits or Limits()
        self._writable: set[str] = set()
        self._read_only: dict[str, Steady] = {}
        self._full: dict[tuple[str, str], bool] = {}

    def look(self, now: float) -> Look:
        """Raises `OSError` when the table of mounts cannot be read: the kernel always has one."""
        listed = mounts(self._mountinfo())
        here = {f"{one.device} {one.point}" for one in listed}
        for gone in [key for key in self._read_only if key not in here]:
            del self._read_only[gone]  # unmounted: another mount of the same name is another story
            self._writable.discard(gone)
        found: list[Fault] = []
        for one in listed:
            key = f"{one.device} {one.point}"
            if not one.read_only:
                self._writable.add(key)
            if self._read_only.setdefault(key, Steady(1, 2)).see(one.read_only and key in self._writable):
                said = f"{one.point} ({one.kind}) turned read-only"
                found.append(fault("host-fs-readonly", one.point[:256], said, detail={"device": one.device}))
            elif not one.read_only:
                found += self._fullness(one)
        return Look(tuple(found))

    def _mountinfo(self) -> str:
        """The machine's own table, which a hardened service may not see in /proc/self; else ours."""
        for process in ("1", "self"):
            try:
                with (self._root / "proc" / process / "mountinfo").open("rb") as file:
                    return file.read(_MOUNTINFO_BYTES).decode("utf-8", "replace")
            except OSError:
                continue
        raise OSError("the table of mounts cannot be read")

    def _fullness(self, one: Mount) -> Iterator[Fault]:
        try:
            space = os.statvfs(self._root / one.point.lstrip("/"))
        except OSError:
            return  # hidden from us: a private mount of somebody else
        usable = space.f_blocks - space.f_bfree + space.f_bavail
        shares = (
            ("bytes", space.f_bavail, usable, self._limits.fs_free_share),
            ("inodes", space.f_favail, space.f_files, self._limits.fs_free_inodes_share),
        )
        full = []
        for what, free, whole, least in shares:
            if whole <= 0:
                continue  # btrfs and others have no fixed number of inodes
            key = (one.device, what)
            bound = least + self._limits.fs_hysteresis if self._full.get(key) else least
            self._full[key] = free / whole < bound
            if self._full[key]:
                full.append((what, least, f"{100 * free / whole:.1f} %"))
        if full:
            said = " and ".join(f"less than {least:.0%} of its {what}" for what, least, _ in full)
            detail = {f"free_{what}": share for what, _, share in full}
            yield fault("host-fs-full", one.point[:256], f"{one.point} has {said} free", detail=detail)
