"""The host's memory: less than it was, uncorrected errors, corrected errors that come fast. By meminfo and EDAC.

EDAC counts since its driver was loaded, so an uncorrected error stands until the machine boots again, also over a
restart of the agent. Without EDAC (no driver, or firmware that keeps it to itself) only the size is watched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ostler.agent.monitors import sysfs
from ostler.agent.monitors.baseline import Baseline
from ostler.agent.monitors.counting import Counter, Steady, Window
from ostler.agent.monitors.port import Look
from ostler.agent.monitors.sysfs import Misses
from ostler.faults.limits import Limits
from ostler.faults.model import Fault
from ostler.faults.monitored import fault

NAME = "memory"
_GIB_IN_KIB = 1 << 20
_DAY = 86400.0


class MemoryMonitor:
    """A `Monitor`."""

    name = NAME
    period_s = 60.0
    deadline_s = 10.0

    def __init__(self, root: Path = Path("/"), limits: Limits | None = None, baseline: Baseline | None = None) -> None:
        self._root = root
        self._limits = limits or Limits()
        self._baseline = baseline or Baseline(root)
        self._missing = Steady(self._limits.gone_looks, 2)
        self._misses = Misses(self._limits.gone_looks)
        kept = self._baseline.get(NAME)
        total = kept.get("total_kib")
        self._total = total if isinstance(total, int) else 0
        base = kept.get("uncorrected")
        self._base: dict[str, int] = {}
        """Uncorrected errors at the first look of this boot."""
        if isinstance(base, dict) and self._baseline.boot_id and kept.get("boot_id") == self._baseline.boot_id:
            self._base = {str(key): count for key, count in base.items() if isinstance(count, int)}
        self._corrected: dict[str, tuple[Counter, Window]] = {}
        self._dimms: dict[str, str] = {}
        self._poisoned: int | None = None

    def look(self, now: float) -> Look:
        """Raises `OSError` when meminfo cannot be read: the kernel always has one."""
        found: list[Fault] = []
        said = _meminfo(self._root)
        found += self._size(said["MemTotal"])
        found += self._edac(now)
        found += self._taken_out(now, said.get("HardwareCorrupted"))
        self._baseline.put(
            NAME, {"total_kib": self._total, "boot_id": self._baseline.boot_id, "uncorrected": dict(self._base)}
        )
        return Look(tuple(found))

    def _size(self, total: int) -> Iterator[Fault]:
        missing = self._total - total
        bound = min(self._limits.memory_missing_gib * _GIB_IN_KIB, self._total / 4)
        if self._missing.see(missing > bound > 0):
            had, has = self._total / _GIB_IN_KIB, total / _GIB_IN_KIB
            yield fault("host-memory-missing", "", f"the node has {has:.0f} GiB of memory and had {had:.0f}")
        self._total = max(self._total, total)

    def _edac(self, now: float) -> Iterator[Fault]:
        folder = self._root / "sys/devices/system/edac/mc"
        seen: set[str] = set()
        for mc in sysfs.names(folder):
            if not mc.startswith("mc") or not mc[2:].isdecimal():
                continue
            dimms = [name for name in sysfs.names(folder / mc) if name.startswith(("dimm", "rank"))]
            known = {f"{mc}/{name}": folder / mc / name for name in dimms}
            uncorrected = {key: sysfs.number(path / "dimm_ue_count") for key, path in known.items()}
            corrected = {key: sysfs.number(path / "dimm_ce_count") for key, path in known.items()}
            for key, path in known.items():
                self._dimms[key] = sysfs.text(path / "dimm_label", 64) or key
            # What the controller cannot lay at a DIMM's door is counted for it alone.
            uncorrected[mc] = _rest(sysfs.number(folder / mc / "ue_count"), uncorrected.values())
            corrected[mc] = _rest(sysfs.number(folder / mc / "ce_count"), corrected.values())
            seen |= {key for key in corrected if corrected[key] is not None or uncorrected[key] is not None}
            for key, ue in uncorrected.items():
                yield from self._uncorrected(key, ue)
            for key, ce in corrected.items():
                yield from self._corrected_of(key, ce, now)
        for key in self._base:
            if key in seen:
                self._misses.found(key)
            elif key in self._corrected and self._misses.miss(key):
                yield sysfs.unwatched(NAME, key, "its error count")

    def _uncorrected(self, key: str, count: int | None) -> Iterator[Fault]:
        if count is None:
            return
        base = self._base.setdefault(key, count)
        if count < base:  # the driver was loaded anew
            base = self._base[key] = 0
        if count > base:
            label = self._dimms.get(key, key)
            said = f"uncorrected memory errors on {label} since the first look of this boot"
            yield fault("host-memory-uncorrected", key, said, detail={"label": label, "count": str(count - base)})

    def _corrected_of(self, key: str, count: int | None, now: float) -> Iterator[Fault]:
        if count is None or count < 0:
            return
        counter, window = self._corrected.setdefault(key, (Counter(), Window(_DAY)))
        window.add(now, counter.read(count))
        if (errors := window.total(now)) >= self._limits.memory_corrected_day:
            label = self._dimms.get(key, key)
            said = f"{self._limits.memory_corrected_day} corrected memory errors and more on {label} in 24 h"
            yield fault("host-memory-corrected-rate", key, said, detail={"label": label, "count": str(errors)})

    def _taken_out(self, now: float, kib: int | None) -> Iterator[Fault]:
        """Pages that the kernel gave up. It does so after an uncorrected error and, by policy, after many corrected
        ones: which it was, EDAC and the kernel's log say, so this asks for no action."""
        if kib is None:
            return
        first = self._poisoned = kib if self._poisoned is None else min(self._poisoned, kib)
        if kib > first:
            said = "the kernel took pages of memory out of use after errors"
            yield fault("host-memory-corrected-rate", "pages", said, detail={"kib": str(kib - first)})


def _rest(whole: int | None, parts: Iterable[int | None]) -> int | None:
    if whole is None or whole < 0:
        return None
    return max(whole - sum(part for part in parts if part is not None and part > 0), 0)


def _meminfo(root: Path) -> dict[str, int]:
    said = sysfs.text(root / "proc/meminfo", 16384)
    found = {}
    for line in (said or "").splitlines():
        words = line.replace(":", " ").split()
        if len(words) >= 2 and words[1].isdecimal() and len(words[1]) < 19:
            found[words[0]] = int(words[1])
    if "MemTotal" not in found:
        raise OSError("/proc/meminfo does not say how much memory there is")
    return found
