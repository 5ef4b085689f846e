"""What is wrong with one GPU, and its measurements: pure rules over what NVML said now and before. Called by gpu.py.

The first look only sets baselines, except for what the hardware itself calls a fault (a failed row remap, uncorrected
errors since the last reset). Noisy values must agree for `Limits.looks` looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ostler.agent.monitors.gpu_links import Links
from ostler.agent.monitors.gpu_memory import Agreed, Mean, Rise, Share
from ostler.agent.monitors.nvml import SLOWDOWN, Sample
from ostler.faults.limits import Limits
from ostler.faults.model import Fault
from ostler.faults.monitored import fault

_SLOW = sum(SLOWDOWN)


class Gpu:
    """One GPU over time."""

    def __init__(self, pci: str, limits: Limits) -> None:
        self._pci = pci
        self._limits = limits
        self._links = Links(pci, limits)
        self._corrected = Rise(limits.ecc_window_s)
        self._uncorrected = Rise(limits.ecc_window_s)
        self._replays = Rise(limits.replay_window_s)
        self._slow = Share(limits.slowdown_window_s)
        self._energy = Mean()
        self._agreed: dict[str, Agreed] = {}
        self._slowing = False
        self.readings: dict[str, float] = {}
        """Metric (faults.metrics) → value, of the last look."""

    def look(self, sample: Sample, siblings: Sequence[Sample], now: float) -> list[Fault]:
        """What stands now. `siblings`: the other GPUs of the same model, as of the same round."""
        share = self._slow.read(now, bool((sample.reasons or 0) & _SLOW))
        self._corrected.read(now, sample.ecc_corrected)
        self._uncorrected.read(now, sample.ecc_uncorrected_ever)
        self._replays.read(now, sample.pcie_replays)
        found = [
            *self._memory(sample, now),
            *self._heat(sample),
            *self._slowdown(sample, share),
            *self._bus(sample, now),
            *self._set_up(sample, siblings),
            *self._links.look(sample, siblings, now),
        ]
        self.readings = {**self._measured(sample, share, now), **self._links.readings}
        return found

    def _agree(self, name: str, said: bool | None) -> bool:
        return self._agreed.setdefault(name, Agreed(self._limits.looks)).read(said)

    def _memory(self, sample: Sample, now: float) -> Iterator[Fault]:
        pci, limits = self._pci, self._limits
        if sample.ecc_uncorrected:
            yield fault("gpu-ecc-uncorrected", pci, f"{sample.ecc_uncorrected} uncorrected errors since the last reset")
        corrected = self._corrected.total(now)
        if corrected >= limits.ecc_corrected:
            text = f"{corrected} corrected errors in {limits.ecc_window_s / 60:.0f} min"
            yield fault("gpu-ecc-corrected-rate", pci, text)
        if sample.sram_exceeded:
            yield fault("gpu-sram-threshold", pci)
        if sample.remap_failed:
            yield fault("gpu-row-remap-failed", pci)
        if sample.remap_pending:
            yield fault("gpu-row-remap-pending", pci)
        if sample.pages_pending:
            yield fault("gpu-pages-pending", pci)
        if sample.pages_retired is not None and sample.pages_retired >= limits.retired_pages:
            text = f"{sample.pages_retired} pages are retired; {limits.retired_pages} are too many"
            yield fault("gpu-pages-retired", pci, text)

    def _heat(self, sample: Sample) -> Iterator[Fault]:
        pci, limits = self._pci, self._limits
        # The margin is the hardware's own: a negative one is a GPU that already slows itself down.
        margin = sample.margin
        if sample.temperature is not None and sample.slowdown_at is not None:
            margin = min(sample.slowdown_at - sample.temperature, margin if margin is not None else 1e9)
        hot = None if margin is None else margin <= 0
        if hot is False and margin is not None and margin < limits.cooled_c:
            hot = None  # between the two: what stands stays
        if self._agree("hot", hot):
            of = f" of {sample.slowdown_at:.0f}" if sample.slowdown_at is not None else ""
            yield fault("gpu-hot", pci, f"{sample.temperature or 0:.0f}{of} °C, margin {margin or 0:.0f}")
        memory_hot: bool | None = None
        if sample.memory_temperature is not None and sample.memory_limit is not None:
            over = sample.memory_temperature - sample.memory_limit
            memory_hot = True if over >= 0 else (None if over > -limits.cooled_c else False)
        if self._agree("memory-hot", memory_hot):
            text = f"memory at {sample.memory_temperature or 0:.0f} of {sample.memory_limit or 0:.0f} °C"
            yield fault("gpu-memory-hot", pci, text)
        capped: bool | None = None
        if sample.power_limit is not None and sample.power_default:
            capped = sample.power_limit < sample.power_default * limits.capped
        if self._agree("power-capped", capped):
            text = f"limited to {sample.power_limit or 0:.0f} W; the board's default is {sample.power_default or 0:.0f}"
            yield fault("gpu-power-capped", pci, text)

    def _slowdown(self, sample: Sample, share: float) -> Iterator[Fault]:
        limit = self._limits.slowdown_per_min
        self._slowing = share > limit - 1e-6 or (self._slowing and share >= limit / 2)
        if self._slowing:
            why = ", ".join(word for bit, word in SLOWDOWN.items() if (sample.reasons or 0) & bit) or "not just now"
            text = f"hardware slowdown in {share * 10:.0f} of 10 minutes ({why})"
            yield fault("gpu-hw-slowdown", self._pci, text)

    def _bus(self, sample: Sample, now: float) -> Iterator[Fault]:
        pci, limits = self._pci, self._limits
        narrow: bool | None = None
        if sample.pcie_width and sample.pcie_width_max:
            narrow = sample.pcie_width < sample.pcie_width_max
        if self._agree("pcie-width", narrow):
            yield fault("gpu-pcie-width", pci, f"x{sample.pcie_width}; it can do x{sample.pcie_width_max}")
        slow: bool | None = None
        if sample.pcie_gen and sample.pcie_gen_max:
            loaded = (sample.utilisation or 0.0) >= limits.loaded
            at_best = sample.pcie_gen >= sample.pcie_gen_max
            slow = False if at_best else (True if loaded else None)  # an idle link saves power
        if self._agree("pcie-gen", slow):
            text = f"generation {sample.pcie_gen} under load; it can do {sample.pcie_gen_max}"
            yield fault("gpu-pcie-gen", pci, text)
        per_min = self._replays.total(now) / (limits.replay_window_s / 60)
        if per_min > limits.replays_per_min:
            text = f"{per_min:.1f} replays a minute over {limits.replay_window_s / 60:.0f} min"
            yield fault("gpu-pcie-replay", pci, text)

    def _set_up(self, sample: Sample, siblings: Sequence[Sample]) -> Iterator[Fault]:
        off = None if sample.persistence is None else not sample.persistence
        if self._agree("persistence-off", off):
            yield fault("gpu-persistence-off", self._pci)
        others = [one.serial for one in siblings if one.serial]
        nameless = not sample.serial and len(others) * 2 > len(siblings)
        twin = bool(sample.serial) and sample.serial in others
        if self._agree("identity", nameless or twin):
            text = (
                f"serial number {sample.serial!r} is another GPU's too" if twin else "its serial number is unreadable"
            )
            yield fault("gpu-identity", self._pci, text)

    def _measured(self, sample: Sample, share: float, now: float) -> dict[str, float]:
        hour = 3600 / self._limits.ecc_window_s
        said: dict[str, float | None] = {
            "temperature_c": sample.temperature,
            "memory_temperature_c": sample.memory_temperature,
            "temperature_margin_c": sample.margin,
            "power_w": sample.power,
            "power_limit_w": sample.power_limit,
            "sm_clock_mhz": sample.sm_clock,
            "memory_clock_mhz": sample.memory_clock,
            "utilisation": sample.utilisation,
            "memory_utilisation": sample.memory_utilisation,
            "memory_used": sample.memory_used,
            "pcie_tx_mb_s": sample.pcie_tx,
            "pcie_rx_mb_s": sample.pcie_rx,
            "pcie_replays_per_h": self._replays.total(now) * 3600 / self._limits.replay_window_s,
            "ecc_corrected_per_h": self._corrected.total(now) * hour,
            "ecc_uncorrected_per_h": self._uncorrected.total(now) * hour,
            "slowdown_share": None if sample.reasons is None else min(1.0, share),
            "energy_w": self._energy.read(now, sample.energy_j),
        }
        for name, rise in (
            ("pcie_replays_per_h", self._replays),
            ("ecc_corrected_per_h", self._corrected),
            ("ecc_uncorrected_per_h", self._uncorrected),
        ):
            if not rise.known():
                said[name] = None
        return {name: float(value) for name, value in said.items() if value is not None}
