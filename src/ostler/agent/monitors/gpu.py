"""The GPUs' monitor: every GPU that the PCI bus shows, looked at through NVML. Run by worker.py.

NVML calls block in the driver, and a broken GPU can block them for ever. So one thread walks from GPU to GPU, and a
call that takes longer than `bound_s` costs that GPU only: the thread is left where it hangs, another one walks on, and
the finding is `monitor-dead` of `gpu/ADDRESS` until the hung call returns. If no GPU at all answered in a round the
driver itself hangs, and the monitor as a whole is dead. What stood of a GPU that cannot be looked at goes on standing.

Where there is no NVIDIA device nothing is said. A GPU that is passed through to a virtual machine is not ours to see.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ostler.agent.monitors import nvml
from ostler.agent.monitors.gpu_memory import Agreed
from ostler.agent.monitors.gpu_rules import Gpu
from ostler.agent.monitors.lines import Serial
from ostler.agent.monitors.nvml import DriverFault, Lost, Sample
from ostler.agent.monitors.port import Look
from ostler.checks.gpu_present import nvidia_gpus
from ostler.faults.limits import Limits
from ostler.faults.model import Fault
from ostler.faults.monitored import fault

NAME = "gpu"
BOUND_S = 5.0
"""Seconds that all questions to one GPU may take: about 60 calls, of which two sample the bus for 20 ms each."""
ROUND_S = 15.0
"""Seconds that one round may take however many GPUs hang; below the deadline, so that the others are still told."""
REOPEN_ROUNDS = 10
"""Rounds between two fresh starts of the library while a GPU is lost."""
STALE_S = 600.0
"""Seconds after which a library that does not fit the driver is loaded anew, by a new process."""
_PASSED_THROUGH = frozenset({"vfio-pci", "pci-stub", "xen-pciback"})
_Answer = Sample | Lost | None


class _Walk:
    """One thread that asks one GPU after the other, until it is done or left behind."""

    def __init__(self, addresses: Sequence[str], opened: bool) -> None:
        self.answers: dict[str, _Answer] = {}
        self.driver_fault: DriverFault | None = None
        self.opened = opened
        self.current: tuple[str, float] | None = None
        """Whom it asks, and since when (monotonic seconds); an empty address is the driver itself."""
        self.done = False
        self.left = False
        self._addresses = addresses
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="gpu-walk", daemon=True).start()

    def wait(self, bound_s: float, until: float) -> bool:
        """True when it is done; False when one GPU takes longer than `bound_s`, or `until` has come."""
        with self._changed:
            while not self.done:
                now = time.monotonic()
                end = until if self.current is None else min(until, self.current[1] + bound_s)
                if now >= end:
                    self.left = True
                    return False
                self._changed.wait(end - now)
            return True

    def _run(self) -> None:
        try:
            if not self.opened:
                self._at("")
                nvml.start()
                self.opened = True
            for address in self._addresses:
                if not self._at(address):
                    return
                try:
                    handle = nvml.listed(address)
                    answer: _Answer = None if handle is None else nvml.sample(handle)
                except Lost as lost:
                    answer = lost
                with self._changed:
                    if not self.left:  # nobody waits for an old answer
                        self.answers[address] = answer
        except DriverFault as error:
            self.driver_fault = error
        finally:
            with self._changed:
                self.done, self.current = True, None
                self._changed.notify()

    def _at(self, address: str) -> bool:
        """False: left behind meanwhile."""
        with self._changed:
            if not self.left:
                self.current = (address, time.monotonic())
                self._changed.notify()
            return not self.left


class GpuMonitor:
    """A `Monitor`, with what the agent asks of it besides: `expected`, `release`, `serials`, `stale`."""

    name = NAME

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        expected: int = -1,
        limits: Limits | None = None,
        period_s: float = 30.0,
        bound_s: float = BOUND_S,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.period_s = period_s
        self.deadline_s = ROUND_S + 5.0
        self.expected = expected
        """How many GPUs there should be; -1: those of the first look."""
        self.stale = False
        """The library does not fit the driver (any more): only a new process can load another one."""
        self._pci = root / "sys/bus/pci/devices"
        self._limits = limits or Limits()
        self._bound_s = bound_s
        self._ticks = ticks
        self._born = ticks()
        self._opened = False
        self._worked = False
        self._rounds = 0
        self._reopen = False
        self._stuck: _Walk | None = None
        self._hung: dict[str, _Walk] = {}
        self._gpus: dict[str, Gpu] = {}
        self._samples: dict[str, Sample] = {}
        self._seen: dict[str, float] = {}
        """Address → when it last answered."""
        self._standing: dict[str, list[Fault]] = {}
        self._agreed: dict[tuple[str, str], Agreed] = {}
        self._known: set[str] = set()

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def look(self, now: float) -> Look:
        """Raises OSError when the driver as a whole hangs."""
        present = nvidia_gpus(self._pci)
        ours = [address for address in present if self._driver_of(address) not in _PASSED_THROUGH]
        self._known.update(ours)
        found: list[Fault] = []
        answers: dict[str, _Answer] = {}
        if ours:
            answers, driver_fault = self._ask(ours)
            found += self._driver(driver_fault)
        found += self._missing(present, ours, answers)
        readings: dict[str, dict[str, float]] = {}
        fresh = {address: answer for address, answer in answers.items() if isinstance(answer, Sample)}
        self._samples = {**{a: s for a, s in self._samples.items() if a in ours and a not in answers}, **fresh}
        for address in ours:
            found += self._gpu(address, answers, fresh.get(address), now)
            if address in fresh:
                readings[address] = self._gpus[address].readings
        return Look(tuple(found), readings)

    def serials(self) -> tuple[Serial, ...]:
        """Who the GPUs are, as of the last look."""
        return tuple(
            Serial(
                address,
                (sample.serial or "")[:128],
                (sample.vbios or "")[:128],
                (sample.model or "")[:128],
                None if sample.memory_total is None else round(sample.memory_total / (1 << 30), 1),
            )
            for address, sample in sorted(self._samples.items())
        )

    def release(self) -> None:
        """Close the driver, so that a GPU can be reset. Counters begin anew with the next look."""
        if self._opened and not self._busy():
            nvml.stop()
            self._opened = False
        self._gpus, self._samples = {}, {}
        self._agreed = {}

    def _busy(self) -> bool:
        """A call hangs in the library: closing it would hang as well."""
        walks = [*self._hung.values(), *([self._stuck] if self._stuck is not None else [])]
        return any(not walk.done for walk in walks)

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, ours: Sequence[str]) -> tuple[dict[str, _Answer], DriverFault | None]:
        """What each GPU that does not hang says, within the round's time."""
        if self._stuck is not None and not self._stuck.done:
            raise OSError("the driver does not answer: a call to it still hangs")
        self._stuck = None
        self._hung = {address: walk for address, walk in self._hung.items() if not walk.done}
        if self._reopen and self._opened and not self._busy():
            nvml.stop()
            self._opened = False
        self._reopen = False
        self._rounds += 1
        answers: dict[str, _Answer] = {}
        until = time.monotonic() + ROUND_S
        rest = [address for address in ours if address not in self._hung]
        while rest and time.monotonic() < until:
            walk = _Walk(rest, self._opened)
            complete = walk.wait(self._bound_s, until)
            answers.update(walk.answers)
            self._opened = walk.opened
            if walk.driver_fault is not None:
                self._reopen = True
                return answers, walk.driver_fault
            if complete:
                break
            address = walk.current[0] if walk.current is not None else ""
            if not address:
                self._stuck = walk
                break
            self._hung[address] = walk
            rest = [one for one in rest if one not in walk.answers and one != address]
        if not answers:
            raise OSError(f"the driver does not answer: none of {len(ours)} GPUs did")
        if any(isinstance(answer, Lost) for answer in answers.values()) and self._rounds % REOPEN_ROUNDS == 0:
            self._reopen = True
        return answers, None

    def _driver_of(self, address: str) -> str:
        try:
            return (self._pci / address / "driver").resolve(strict=True).name
        except OSError:
            return ""

    # ── judging ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _agree(self, name: str, device: str, said: bool | None) -> bool:
        return self._agreed.setdefault((name, device), Agreed(self._limits.looks)).read(said)

    def _driver(self, error: DriverFault | None) -> list[Fault]:
        stands = self._agree("driver", "", error is not None)
        if error is None:
            self._worked = True
        elif error.mismatch and (self._worked or self._ticks() - self._born > STALE_S):
            self.stale = True
        return [fault("gpu-driver", "", str(error) if error is not None else "it answers again")] if stands else []

    def _missing(self, present: Sequence[str], ours: Sequence[str], answers: dict[str, _Answer]) -> list[Fault]:
        found = []
        for address in sorted(self._known):
            said: bool | None = address not in present
            text = "it is gone from the PCI bus"
            if address in ours:
                said = answers[address] is None if address in answers else None
                text = "it is on the PCI bus, and the driver does not list it"
            if self._agree("missing", address, said):
                found.append(fault("gpu-missing", address, text))
        unnamed = self.expected - len(self._known | set(present))
        if self._agree("missing", "", self.expected >= 0 and unnamed > 0):
            found.append(fault("gpu-missing", "", f"{len(present)} of {self.expected} GPUs are on the PCI bus"))
        return found

    def _gpu(self, address: str, answers: dict[str, _Answer], sample: Sample | None, now: float) -> list[Fault]:
        if sample is not None:
            gpu = self._gpus.setdefault(address, Gpu(address, self._limits))
            siblings = [one for other, one in self._samples.items() if other != address and one.model == sample.model]
            self._standing[address] = gpu.look(sample, siblings, now)
        found = list(self._standing.get(address, ()))
        if address in answers:
            self._seen[address] = now
        answer = answers.get(address)
        if self._agree("lost", address, isinstance(answer, Lost) if address in answers else None):
            found.append(fault("gpu-lost", address, str(answer) if answer is not None else ""))
        waited = now - self._seen.setdefault(address, now)
        if address in self._hung:
            text = f"a question to the driver about it has taken longer than {self._bound_s:g} s"
            found.append(fault("monitor-dead", f"{NAME}/{address}", text))
        elif waited > 2 * self.period_s:
            text = f"there was no time to look at it for {waited:.0f} s, because other GPUs hang"
            found.append(fault("monitor-dead", f"{NAME}/{address}", text))
        return found
