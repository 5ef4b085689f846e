"""What is wrong with a GPU's NVLinks, fabric and GSP firmware: rules that look at its siblings as well.

Pure; called by gpu_rules.py. A link that nobody uses by design is inactive everywhere at the same place, so a link is
down only if it worked before or works at most of the siblings.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ostler.agent.monitors.gpu_memory import Agreed, Mean, Rise
from ostler.agent.monitors.nvml import Sample
from ostler.faults.limits import Limits
from ostler.faults.model import Fault
from ostler.faults.monitored import fault


@dataclass(slots=True)
class _LinkState:
    recoveries: Rise
    crc: Rise
    down: Agreed
    worked: bool = False


class Links:
    """One GPU's links over time."""

    def __init__(self, pci: str, limits: Limits) -> None:
        self._pci = pci
        self._limits = limits
        self._states: dict[int, _LinkState] = {}
        self._tx, self._rx = Mean(), Mean()
        self._loud = Agreed(limits.looks)
        self._fabric = Agreed(limits.looks)
        self._unhealthy = Agreed(limits.looks)
        self._gsp = Agreed(limits.looks)
        self._since: float | None = None
        self.readings: dict[str, float] = {}

    def look(self, sample: Sample, siblings: Sequence[Sample], now: float) -> Iterator[Fault]:
        """`siblings` are the other GPUs of the same model, as of the same round."""
        if self._since is None:
            self._since = now
        self._read(sample, now)
        yield from self._down(sample, siblings)
        yield from self._errors(now)
        yield from self._registered(sample, now - self._since)
        yield from self._firmware(sample, siblings)

    def _read(self, sample: Sample, now: float) -> None:
        self.readings = {}
        for name, mean, counter in (
            ("nvlink_tx_mb_s", self._tx, sample.nvlink_tx_kib),
            ("nvlink_rx_mb_s", self._rx, sample.nvlink_rx_kib),
        ):
            kib_s = mean.read(now, counter)
            if kib_s is not None:
                self.readings[name] = kib_s * 1024 / 1e6
        window = self._limits.nvlink_window_s
        for number, link in sample.links.items():
            state = self._states.get(number)
            if state is None:
                state = _LinkState(Rise(window), Rise(window), Agreed(self._limits.looks))
                self._states[number] = state
            state.recoveries.read(now, link.recoveries)
            state.crc.read(now, link.crc)
            state.worked |= link.active
        counted = [state for state in self._states.values() if state.recoveries.known() or state.crc.known()]
        if counted:
            errors = sum(state.recoveries.total(now) + state.crc.total(now) for state in counted)
            self.readings["nvlink_errors_per_h"] = errors * 3600 / window

    def _down(self, sample: Sample, siblings: Sequence[Sample]) -> Iterator[Fault]:
        down = []
        for number, state in self._states.items():
            link = sample.links.get(number)
            said: bool | None = None
            if sample.mig:
                state.worked = False  # MIG switches the links off, and on again when it ends
                said = False
            elif link is not None:
                said = not link.active and (state.worked or _most_use(number, siblings))
            if state.down.read(said):
                down.append(number)
        if down:
            links = ", ".join(map(str, down))
            text = f"NVLink {links} of {len(self._states)} inactive"
            yield fault("gpu-nvlink-down", self._pci, text, detail={"links": links})

    def _errors(self, now: float) -> Iterator[Fault]:
        limits, loud = self._limits, []
        often = {n: state.recoveries.total(now) for n, state in self._states.items()}
        repeats = [f"{n} ({count})" for n, count in often.items() if count >= limits.nvlink_recoveries]
        if any(state.crc.per_s >= limits.nvlink_crc_per_s for state in self._states.values()):
            loud = [f"{n} ({s.crc.per_s:.0f}/s)" for n, s in self._states.items() if s.crc.per_s > 0]
        if not self._loud.read(bool(loud)) and not repeats:
            return
        said = []
        if repeats:
            said.append(f"replays and recoveries in {limits.nvlink_window_s / 60:.0f} min: {', '.join(repeats)}")
        if loud:
            said.append(f"CRC errors: {', '.join(loud)}")
        yield fault("gpu-nvlink-errors", self._pci, f"NVLink {'; '.join(said) or 'CRC errors until now'}")

    def _registered(self, sample: Sample, age: float) -> Iterator[Fault]:
        fabric = sample.fabric
        said: bool | None = False
        if fabric is not None and fabric.state != "completed":
            # Neither a fault nor the end of one while the fabric manager may still be starting.
            said = True if age > self._limits.fabric_grace_s else None
        elif fabric is not None:
            said = bool(fabric.status)
        stands = self._fabric.read(said)
        unhealthy = self._unhealthy.read(bool(fabric is not None and fabric.unhealthy))
        if fabric is None or not (stands or unhealthy):
            return
        words = [fabric.state]
        if fabric.status:
            words.append(f"status {fabric.status}")
        words += fabric.unhealthy
        yield fault("gpu-fabric", self._pci, f"fabric registration: {', '.join(words)}")

    def _firmware(self, sample: Sample, siblings: Sequence[Sample]) -> Iterator[Fault]:
        text = ""
        if sample.gsp is False and sample.gsp_default:
            text = "GSP firmware is off, and on by default"
        elif sample.gsp_version is not None:
            others = Tally(one.gsp_version for one in siblings if one.gsp_version is not None)
            usual, count = others.most_common(1)[0] if others else (None, 0)
            if usual is not None and usual != sample.gsp_version and count * 2 > len(siblings):
                text = f"GSP firmware {sample.gsp_version}; {count} of {len(siblings)} siblings run {usual}"
        if self._gsp.read(bool(text)):
            yield fault("gpu-gsp", self._pci, text or "GSP firmware was wrong until now")


def _most_use(number: int, siblings: Sequence[Sample]) -> bool:
    having = [one.links[number] for one in siblings if number in one.links and not one.mig]
    return sum(link.active for link in having) * 2 > len(having)
