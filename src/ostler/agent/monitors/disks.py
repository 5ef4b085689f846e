"""Local disks: gone, failing by their own word, or reporting errors. By /sys/block, /sys/class/nvme and SMART logs.

The SMART log is asked of the controller by ioctl, every ten minutes and only of one that is `live`; it needs root and a
device node, and where it cannot be had the rest is still watched. Network disks and virtual ones are left out.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ostler.agent.monitors import sysfs
from ostler.agent.monitors.baseline import Baseline
from ostler.agent.monitors.counting import Counter, Steady, Window
from ostler.agent.monitors.port import Look
from ostler.agent.monitors.sysfs import Age, Misses
from ostler.faults.limits import Limits
from ostler.faults.model import Fault
from ostler.faults.monitored import fault

NAME = "disks"
SMART_EVERY_S = 600.0
_VIRTUAL = ("loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd", "rbd", "drbd", "zd", "bcache")
_ADMIN_CMD = 0xC0484E41
"""NVME_IOCTL_ADMIN_CMD = _IOWR('N', 0x41, struct nvme_passthru_cmd) (linux/nvme_ioctl.h)."""
_GET_LOG_PAGE = 0x02
_SMART = 0x02
_SMART_BYTES = 512
_CRITICAL = {
    0: "its spare blocks run out",
    2: "its reliability is degraded",
    3: "it is read-only",
    4: "the backup of its volatile memory failed",
}
"""Bits of `critical warning` that mean failing (NVMe base specification, SMART / health log); bit 1 is temperature."""


@dataclass(frozen=True, slots=True)
class Smart:
    """What matters of a SMART log."""

    warning: int
    spare: int
    spare_least: int
    used: int
    media_errors: int


def smart(device: Path) -> Smart | None:
    """Ask a controller (`/dev/nvme0`); None where that is not possible. Raises `OSError` for a wrong answer."""
    try:
        if not stat.S_ISCHR(device.stat().st_mode):
            return None
        handle = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        page = ctypes.create_string_buffer(_SMART_BYTES)
        fcntl.ioctl(handle, _ADMIN_CMD, command(ctypes.addressof(page)))
    except PermissionError:
        return None
    finally:
        os.close(handle)
    return parse(page.raw)


def command(address: int) -> bytes:
    """`struct nvme_passthru_cmd`: opcode, namespace, address and length of the data, cdw10 (length in words, page)."""
    words = (_SMART_BYTES // 4 - 1) << 16 | _SMART
    return b"".join(
        value.to_bytes(size, "little")
        for value, size in (
            (_GET_LOG_PAGE, 1), (0, 1), (0, 2), (0xFFFFFFFF, 4), (0, 8), (0, 8), (address, 8), (0, 4),
            (_SMART_BYTES, 4), (words, 4), (0, 4 * 5), (5000, 4), (0, 4),
        )
    )  # fmt: skip


def parse(page: bytes) -> Smart:
    """A SMART log page. Raises `OSError` for one that is too short or empty: no answer at all."""
    if len(page) < _SMART_BYTES or not any(page):
        raise OSError("the SMART log is empty")
    return Smart(page[0], page[3], page[4], page[5], int.from_bytes(page[160:176], "little"))


class DisksMonitor:
    """A `Monitor`. `ask` is `smart`, or what a test's controller says."""

    name = NAME
    period_s = 30.0
    deadline_s = 20.0

    def __init__(
        self,
        root: Path = Path("/"),
        limits: Limits | None = None,
        baseline: Baseline | None = None,
        ask: Callable[[Path], Smart | None] = smart,
    ) -> None:
        self._root = root
        self._limits = limits or Limits()
        self._age = Age(root)
        self._baseline = baseline or Baseline(root)
        self._ask = ask
        self._misses = Misses(self._limits.gone_looks)
        self._had = {str(k): str(v) for k, v in self._baseline.get(NAME).items()}
        """Disks of an earlier life of the agent: serial → name then."""
        self._seen: dict[str, str] = {}
        self._scsi: dict[str, _Scsi] = {}
        self._nvme: dict[str, _Controller] = {}

    def look(self, now: float) -> Look:
        """Raises `OSError` when disks are there and cannot be listed."""
        found: list[Fault] = []
        there: set[str] = set()
        for name in sysfs.names(self._root / "sys/block"):
            folder = self._root / "sys/block" / name
            if not _is_disk(name, folder):
                continue
            serial = sysfs.text(folder / "device/serial", 128) or sysfs.text(folder / "device/wwid", 128)
            who = (serial or "").strip() or name
            if name.startswith("nvme"):
                who = f"{who}/{name.rpartition('n')[2]}"  # namespaces share their controller's serial
            there.add(who)
            self._seen[who] = name
            if sysfs.present(folder / "device/ioerr_cnt") or name in self._scsi:
                found += self._scsi.setdefault(name, _Scsi(name, folder / "device", self._limits)).look(now)
        found += self._missing(there, self._age.at(now))
        self._baseline.put(NAME, {**self._had, **self._seen})
        for name in sysfs.names(self._root / "sys/class/nvme"):
            folder = self._root / "sys/class/nvme" / name
            if (sysfs.text(folder / "transport", 32) or "pcie") != "pcie":
                continue
            one = self._nvme.setdefault(name, _Controller(name, folder, self._root / "dev" / name, self._limits))
            found += one.look(now, self._ask)
        return Look(tuple(found))

    def _missing(self, there: set[str], age: float) -> Iterator[Fault]:
        for who, name in ({**self._had, **self._seen} if age >= self._limits.settle_s else self._seen).items():
            if who in there:
                self._misses.found(who)
            elif self._misses.miss(who):
                self._scsi.pop(name, None)
                detail = {"serial": who} if who != name else {}
                yield fault("host-disk-missing", name, f"the disk {name} is gone", detail=detail)


def _is_disk(name: str, folder: Path) -> bool:
    if name.startswith(_VIRTUAL) or not sysfs.present(folder / "device"):
        return False
    network = sysfs.text(folder / "device/transport", 32) or "pcie"
    return network == "pcie" and not any(sysfs.number(folder / flag) for flag in ("removable", "hidden"))


class _Scsi:
    """A SCSI or SATA disk: its state, and the kernel's count of failed commands."""

    def __init__(self, name: str, folder: Path, limits: Limits) -> None:
        self._name, self._folder, self._limits = name, folder, limits
        self._errors = Counter()
        self._window = Window(limits.sticky_s)
        self._offline = Steady(2, 2)

    def look(self, now: float) -> Iterator[Fault]:
        errors = sysfs.number(self._folder / "ioerr_cnt")
        if errors is not None and errors >= 0:
            self._window.add(now, self._errors.read(errors))
        state = sysfs.text(self._folder / "state", 32) or ""
        if self._offline.see(state in ("offline", "transport-offline")):
            yield fault("host-disk-failing", self._name, f"the disk {self._name} was taken offline by the kernel")
        if (count := self._window.total(now)) >= self._limits.disk_io_errors:
            said = f"{self._limits.disk_io_errors} failed commands and more within the hour"
            yield fault("host-disk-errors", self._name, f"{self._name}: {said}", detail={"failed": str(count)})


class _Controller:
    """An NVMe controller."""

    def __init__(self, name: str, folder: Path, device: Path, limits: Limits) -> None:
        self._name, self._folder, self._device, self._limits = name, folder, device, limits
        self._dead = Steady(2, 2)
        self._asked: float | None = None
        self._log: Smart | None = None
        self._unanswered = 0
        self._media = Counter()
        self._media_window = Window(limits.sticky_s)
        self._was_live = False

    def look(self, now: float, ask: Callable[[Path], Smart | None]) -> Iterator[Fault]:
        state = sysfs.text(self._folder / "state", 32) or ""
        self._was_live = self._was_live or state == "live"
        if self._dead.see(state == "dead" or (self._was_live and state != "live")):
            said = f"the controller {self._name} is {state or 'silent'}, not live"
            yield fault("host-disk-failing", self._name, said)
        elif state == "live" and (self._asked is None or now - self._asked >= SMART_EVERY_S):
            self._asked = now
            self._read(now, ask)
        if self._unanswered >= 2:
            yield sysfs.unwatched(NAME, self._name, "its SMART log")
        if self._log is not None:
            yield from self._judge(now, self._log)

    def _read(self, now: float, ask: Callable[[Path], Smart | None]) -> None:
        try:
            log = ask(self._device)
        except OSError:
            log = None
        if log is None:
            self._unanswered += self._log is not None  # it could be read before
            return
        self._log, self._unanswered = log, 0
        self._media_window.add(now, self._media.read(log.media_errors))

    def _judge(self, now: float, log: Smart) -> Iterator[Fault]:
        detail = {
            "critical_warning": f"{log.warning:#04x}",
            "spare": f"{log.spare} %, at least {log.spare_least} %",
            "used": f"{log.used} %",
            "media_errors": str(log.media_errors),
        }
        reasons = [text for bit, text in _CRITICAL.items() if log.warning >> bit & 1]
        if log.spare < log.spare_least <= 100 and not log.warning & 1:
            reasons.append(_CRITICAL[0])
        if reasons:
            yield fault("host-disk-failing", self._name, f"{self._name}: {', '.join(reasons)}", detail=detail)
        worn = ["it runs beyond its temperature limits"] if log.warning >> 1 & 1 else []
        if log.used >= self._limits.disk_used_percent:
            worn.append("its rated endurance is used up")
        if self._media_window.total(now):
            worn.append("new media errors within the hour")
        if worn:
            yield fault("host-disk-errors", self._name, f"{self._name}: {', '.join(worn)}", detail=detail)
