"""What a node is made of, read from /sys and /proc; also its driver, its uptime, and whether a workload runs.

`RealNode` is what `ostler agent` hands to `Agent` as its node. Nothing here needs a tool or a library; what is not
there is left out. The paths hang below a root, so that tests read recorded trees.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ostler.agent.monitors.lines import Serial
from ostler.checks.gpu_present import nvidia_gpus
from ostler.wire.agent import Disk, Gpu, Inventory, Nic, Psu, System
from ostler.wire.decode import fit

BUSY_EVERY_S = 15.0
"""Real seconds for which one look at who holds the GPUs is good."""
_DAEMONS = frozenset(
    {
        "nvidia-persiste",
        "nv-hostengine",
        "nv-fabricmanage",
        "dcgm-exporter",
        "nvidia-smi",
        "nvidia-imex",
        "Xorg",
        "ostler-monitors",
    }
)
"""Programs (as /proc/PID/comm cuts them) that hold a GPU without being a workload."""
_TEXT = 128


class RealNode:
    """This machine."""

    def __init__(
        self,
        root: Path = Path("/"),
        ticks: Callable[[], float] = time.monotonic,
        serials: Callable[[], Mapping[str, Serial]] = dict,
    ) -> None:
        """`serials`: PCI address → what only the driver's library says of a GPU (the monitors' process asks it)."""
        self._root = root
        self._ticks = ticks
        self._serials = serials
        self._busy: tuple[float, bool | None] | None = None

    def uptime(self) -> float:
        words = self._text("proc/uptime").split()
        try:
            return float(words[0])
        except (IndexError, ValueError):
            return 0.0

    def driver(self) -> str:
        return self._text("sys/module/nvidia/version")

    def boot_id(self) -> str:
        """The kernel's id of this boot; empty where there is none."""
        return self._text("proc/sys/kernel/random/boot_id")

    def busy(self) -> bool | None:
        """Whether a process other than NVIDIA's daemons holds a GPU; None: no driver here, or not allowed to see."""
        return self.busy_within(BUSY_EVERY_S)

    def busy_within(self, seconds: float) -> bool | None:
        """The same, from a look that is at most so old: a check that yields to work is asked often."""
        now = self._ticks()
        if self._busy is None or now - self._busy[0] > seconds:
            self._busy = (now, self._look())
        return self._busy[1]

    def inventory(self) -> Inventory:
        """Everything but `busy`, about 5 ms."""
        firmware = {}
        bios = self._text("sys/class/dmi/id/bios_version")
        if bios:
            firmware["bios"] = bios
        nics = tuple(self._nics())
        firmware |= {f"nic:{nic.name}": nic.firmware for nic in nics if nic.firmware}
        for folder in self._folders("sys/class/nvme"):
            version = self._read(folder / "firmware_rev")
            if version:
                firmware[f"disk:{folder.name}"] = version
        return Inventory(
            system=self.system(),
            cpus=os.cpu_count() or 0,
            memory_gib=self._memory(),
            gpus=tuple(self._gpus())[:64],
            nics=nics[:256],
            disks=tuple(self._disks())[:256],
            psus=tuple(self._psus())[:32],
            firmware=dict(list(firmware.items())[:256]),
            driver=self.driver(),
            kernel=fit(platform.release(), _TEXT),
        )

    def system(self) -> System:
        """SMBIOS. The serial and the UUID need root."""
        dmi = "sys/class/dmi/id"
        return System(
            self._text(f"{dmi}/sys_vendor"),
            self._text(f"{dmi}/product_name"),
            self._text(f"{dmi}/product_serial"),
            self._text(f"{dmi}/product_uuid").lower(),
        )

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _gpus(self) -> Iterator[Gpu]:
        """The bus says how many; the driver's /proc adds the model and the VBIOS where it is loaded, NVML the rest."""
        serials = self._serials()
        for address in nvidia_gpus(self._root / "sys/bus/pci/devices"):
            facts = {}
            for line in self._read(self._root / f"proc/driver/nvidia/gpus/{address}/information", 4096).splitlines():
                key, _, value = line.partition(":")
                facts[key.strip()] = fit(value.strip(), _TEXT)
            asked = serials.get(address, Serial(address))
            yield Gpu(
                address,
                facts.get("Model", "") or asked.model,
                asked.serial,
                facts.get("Video BIOS", "") or asked.vbios,
                asked.memory_gib,
            )

    def _nics(self) -> Iterator[Nic]:
        for folder in self._folders("sys/class/net"):
            device = folder / "device"
            mac = self._read(folder / "address").lower()
            if not device.exists():
                continue  # bridges, bonds and the like are configuration
            speed = self._read(folder / "speed")
            yield Nic(
                folder.name,
                mac if _is_mac(mac) else "",
                device.resolve().name,
                speed=speed if speed.isdecimal() else "",
            )
        for folder in self._folders("sys/class/infiniband"):
            yield Nic(
                folder.name,
                "",
                (folder / "device").resolve().name,
                self._read(folder / "fw_ver"),
                self._read(folder / "ports/1/rate"),
            )

    def _disks(self) -> Iterator[Disk]:
        for folder in self._folders("sys/block"):
            if not (folder / "device").exists():
                continue  # loop, ram, device mapper
            sectors = self._read(folder / "size")
            yield Disk(
                folder.name,
                self._read(folder / "device/model"),
                self._read(folder / "device/serial"),
                int(sectors) * 512 / 1e9 if sectors.isdecimal() and len(sectors) < 19 else 0.0,
            )

    def _psus(self) -> Iterator[Psu]:
        for folder in self._folders("sys/class/power_supply"):
            yield Psu(folder.name, state=self._read(folder / "status"))

    def _memory(self) -> float:
        """GiB that the kernel manages: somewhat less than what is installed."""
        for line in self._read(self._root / "proc/meminfo", 4096).splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == "MemTotal:" and words[1].isdecimal():
                return round(int(words[1]) / (1 << 20), 2)
        return 0.0

    def _look(self) -> bool | None:
        if not (self._root / "dev/nvidia0").exists():
            return None
        denied = False
        for process in (self._root / "proc").iterdir():
            if not process.name.isdecimal() or self._read(process / "comm") in _DAEMONS:
                continue
            try:
                links = os.listdir(process / "fd")  # noqa: PTH208  half the cost, and there are thousands
            except PermissionError:
                denied = True
                continue
            except OSError:
                continue  # it has ended
            for link in links:
                try:
                    target = os.readlink(f"{process}/fd/{link}")  # noqa: PTH115
                except OSError:
                    continue
                if target.startswith("/dev/nvidia") and target[11:].isdecimal() and not self._is_ours(process.name):
                    return True
        return None if denied else False

    def _is_ours(self, pid: str) -> bool:
        """Whether a process descends from this agent: a check that it runs is no workload."""
        for _ in range(64):
            if pid == str(os.getpid()):
                return True
            # "PID (comm) STATE PPID …"; comm may hold anything, parentheses too
            after = self._read(self._root / "proc" / pid / "stat", 512).rpartition(")")[2].split()
            pid = after[1] if len(after) > 1 else "0"
            if pid in ("0", "1"):
                return False
        return False

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _folders(self, path: str) -> list[Path]:
        try:
            return sorted((self._root / path).iterdir())
        except OSError:
            return []

    def _text(self, path: str) -> str:
        return self._read(self._root / path)

    def _read(self, path: Path, limit: int = _TEXT) -> str:
        try:
            with path.open("rb") as file:
                raw = file.read(limit * 2)
        except OSError:
            return ""
        return fit(raw.decode("utf-8", "replace").strip().replace("\x00", ""), limit)


def _is_mac(text: str) -> bool:
    parts = text.split(":")
    return len(parts) in range(6, 21) and all(len(part) == 2 and set(part) <= set("0123456789abcdef") for part in parts)
