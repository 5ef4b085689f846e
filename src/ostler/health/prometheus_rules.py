"""What the user's Prometheus can say about GPUs, as PromQL over dcgm-exporter's metrics, and what each answer means.

For fleets that already scrape dcgm-exporter: the findings of our agent's GPU monitors, under the same names
(`faults/monitored.py`), without the agent. Pure; `prometheus.py` asks and reports. An answer's series are the GPUs that
are ill *now*: a rule says a level, with as much history inside its PromQL as it needs. Limits are the agent's own
(`faults/limits.py`), where their sources stand.

What it cannot see: a repetition of the XID that was the last one already (the metric is that number, not a count).
Metrics that are not in dcgm-exporter's default list make their rule silent, not wrong; `docs` name what to switch on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ostler.faults import monitored, xid
from ostler.faults.limits import Limits
from ostler.faults.model import Fault, Kind, Severity
from ostler.faults.xid_table import XIDS

LIMITS = Limits()
SEEN = "DCGM_FI_DEV_GPU_TEMP"
"""Every GPU that dcgm-exporter sees has it: where it is missing, everything is."""
XID = "xid"
"""The rule whose value is an XID; its fault is the catalogue's."""
MEMORY_LIMIT_C = 95
"""HBM3's specified maximum; the fleet view's limit as well."""

_PCI = re.compile(r"(?:0000)?([0-9a-fA-F]{4}):([0-9a-fA-F]{2}):([0-9a-fA-F]{2})(?:\.([0-7]))?")
_INDEX = re.compile(r"[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class Rule:
    """One question. `promql` has `{on}` where series of one GPU are matched; `says` gets the value as `{value}`."""

    name: str
    fault: str
    """Of `MONITORED`; empty for XIDs."""
    promql: str
    says: str

    def query(self, node_label: str) -> str:
        """The question as it is asked, `node_label` being the label that names the node."""
        return self.promql.replace("{on}", f"on ({node_label}, UUID) group_left ()")


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an answer."""

    rule: str
    node: str
    """The value of the node label, as it came."""
    device: str
    """PCI address (0000:1b:00.0), `gpuN` where the series has none, or empty."""
    value: float


_SLOWED = "floor((DCGM_FI_DEV_CLOCKS_EVENT_REASONS or DCGM_FI_DEV_CLOCK_THROTTLE_REASONS) / 8) % 2"
"""1 while HW_SLOWDOWN (0x8) stands, which the driver sets with thermal (0x40) and power brake (0x80) slowdown too."""

RULES: tuple[Rule, ...] = (
    # The last XID, for an hour from when it became the last one.
    Rule(
        XID,
        "",
        "(DCGM_FI_DEV_XID_ERRORS > 0) unless (DCGM_FI_DEV_XID_ERRORS == DCGM_FI_DEV_XID_ERRORS offset 1h)",
        "XID {value:.0f}, says DCGM",
    ),
    Rule(
        "row-remap-pending",
        "gpu-row-remap-pending",
        "DCGM_FI_DEV_ROW_REMAP_PENDING > 0",
        "a row remap waits for a reset",
    ),
    Rule(
        "row-remap-failed", "gpu-row-remap-failed", "DCGM_FI_DEV_ROW_REMAP_FAILURE > 0", "a row could not be remapped"
    ),
    Rule("pages-pending", "gpu-pages-pending", "DCGM_FI_DEV_RETIRED_PENDING > 0", "{value:.0f} pages wait for a reset"),
    Rule(
        "pages-retired",
        "gpu-pages-retired",
        f"DCGM_FI_DEV_RETIRED_DBE + DCGM_FI_DEV_RETIRED_SBE > {LIMITS.retired_pages}",
        f"{{value:.0f}} pages are retired, over {LIMITS.retired_pages}",
    ),
    Rule(
        "ecc-uncorrected",
        "gpu-ecc-uncorrected",
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL > 0",
        "{value:.0f} uncorrected memory errors since the last reset",
    ),
    Rule(
        "ecc-corrected",
        "gpu-ecc-corrected-rate",
        f"increase(DCGM_FI_DEV_ECC_SBE_VOL_TOTAL[1h]) > {LIMITS.ecc_corrected}",
        f"{{value:.0f}} corrected memory errors in an hour, over {LIMITS.ecc_corrected}",
    ),
    Rule(
        "hot",
        "gpu-hot",
        "min_over_time(DCGM_FI_DEV_GPU_TEMP[2m]) >= {on} (DCGM_FI_DEV_SLOWDOWN_TEMP > 0)",
        "{value:.0f} °C for two minutes, its slowdown temperature",
    ),
    Rule(
        "memory-hot",
        "gpu-memory-hot",
        f"min_over_time(DCGM_FI_DEV_MEMORY_TEMP[2m]) >= {MEMORY_LIMIT_C}",
        f"memory at {{value:.0f}} °C for two minutes, limit {MEMORY_LIMIT_C} °C",
    ),
    Rule(
        "hw-slowdown",
        "gpu-hw-slowdown",
        f"(avg_over_time(({_SLOWED})[10m:1m]) >= {LIMITS.slowdown_per_min}) "
        f"and (count_over_time(({_SLOWED})[10m:1m]) >= 8)",
        "the hardware slowed itself down in {value:.0%} of the last 10 minutes",
    ),
    Rule(
        "power-capped",
        "gpu-power-capped",
        f"DCGM_FI_DEV_POWER_MGMT_LIMIT < {{on}} ({LIMITS.capped} * DCGM_FI_DEV_POWER_MGMT_LIMIT_DEF)",
        "the power limit is {value:.0f} W, below the board's default",
    ),
    Rule(
        "pcie-replay",
        "gpu-pcie-replay",
        f"increase(DCGM_FI_DEV_PCIE_REPLAY_COUNTER[10m]) > {10 * LIMITS.replays_per_min:.0f}",
        f"{{value:.0f}} PCIe replays in 10 minutes, over {10 * LIMITS.replays_per_min:.0f}",
    ),
    Rule(
        "pcie-width",
        "gpu-pcie-width",
        "max_over_time(DCGM_FI_DEV_PCIE_LINK_WIDTH[10m]) < {on} DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH",
        "the PCIe link has {value:.0f} lanes, fewer than both ends can",
    ),
    # An idle link rests at a lower generation; only what works is judged.
    Rule(
        "pcie-gen",
        "gpu-pcie-gen",
        "(max_over_time(DCGM_FI_DEV_PCIE_LINK_GEN[10m]) < {on} DCGM_FI_DEV_PCIE_MAX_LINK_GEN) "
        f"and (avg_over_time(DCGM_FI_DEV_GPU_UTIL[10m]) >= {100 * LIMITS.loaded:.0f})",
        "the PCIe link runs at generation {value:.0f} under load, below what both ends can",
    ),
    Rule(
        "nvlink-recovery",
        "gpu-nvlink-errors",
        "(increase(DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL[1h]) "
        f"+ increase(DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL[1h])) >= {LIMITS.nvlink_recoveries}",
        f"{{value:.0f}} NVLink recoveries and replays in an hour, limit {LIMITS.nvlink_recoveries}",
    ),
    Rule(
        "nvlink-crc",
        "gpu-nvlink-errors",
        f"rate(DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL[5m]) >= {LIMITS.nvlink_crc_per_s:.0f}",
        f"{{value:.0f}} NVLink CRC errors per second, limit {LIMITS.nvlink_crc_per_s:.0f}",
    ),
)

BY_NAME: Mapping[str, Rule] = {rule.name: rule for rule in RULES}


def seen(window: str, node_label: str) -> str:
    """Which GPUs spoke within `window` (a PromQL duration)? Empty: which speak at this moment."""
    series = f"present_over_time({SEEN}[{window}])" if window else SEEN
    return f"count by ({node_label}, pci_bus_id, gpu) ({series})"


def device_of(labels: Mapping[str, str]) -> str:
    """The device that a series is about, in the form every monitor uses; what is not of its form names none."""
    found = _PCI.fullmatch(labels.get("pci_bus_id", ""))
    if found is not None:
        domain, bus, slot, function = found.groups()
        return f"{domain}:{bus}:{slot}.{function or 0}".lower()
    index = labels.get("gpu", "")
    return f"gpu{int(index)}" if _INDEX.fullmatch(index) else ""


def faults_of(samples: Iterable[Sample]) -> dict[str, tuple[Fault, ...]]:
    """What these answers find wrong, per value of the node label. One fault of a name per device, the worst value."""
    worst: dict[tuple[str, str, str], tuple[float, Fault]] = {}
    for sample in samples:
        fault = _fault(sample)
        if fault is None:
            continue
        key = (sample.node, f"{fault.kind}-{fault.code}", sample.device)
        if key not in worst or worst[key][0] < sample.value:
            worst[key] = (sample.value, fault)
    found: dict[str, list[Fault]] = {}
    for (node, _name, _device), (_value, fault) in sorted(worst.items(), key=lambda item: item[0]):
        found.setdefault(node, []).append(fault)
    return {node: tuple(faults) for node, faults in found.items()}


def _fault(sample: Sample) -> Fault | None:
    rule = BY_NAME[sample.rule]
    if not abs(sample.value) < 1e15:  # NaN, infinite, or DCGM's blank numbers' far side
        return None
    said = rule.says.format(value=sample.value)
    detail = {"rule": rule.name, "value": f"{sample.value:g}"}
    if rule.name != XID:
        return monitored.fault(rule.fault, sample.device, said, detail=detail)
    code = int(sample.value)
    policy = xid.policy(code)
    if code != sample.value or not 0 < code < 100_000 or policy.severity is Severity.INFO:
        return None
    row = XIDS.get(code)
    return Fault(
        kind=Kind.XID,
        code=str(code),
        device=sample.device,
        component="gpu",
        severity=policy.severity,
        action=policy.action,
        message=said,
        meaning=row.meaning if row is not None else "a code that the catalogue does not know",
        workflow=policy.workflow,
        detail=detail,
    )


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which GPUs of which nodes speak, against which ever spoke. Keys are the node label's values."""

    silent: frozenset[str]
    """Nodes of which nothing speaks any more."""
    lost: Mapping[str, tuple[str, ...]]
    """Devices that fell silent while others of their node speak."""
    speaking: frozenset[str]


def coverage(known: Mapping[str, set[str]], now: Mapping[str, set[str]]) -> Coverage:
    """Compare who speaks now with who was ever known, by node and device."""
    lost = {node: tuple(sorted(devices - now[node])) for node, devices in known.items() if node in now}
    return Coverage(
        silent=frozenset(known) - frozenset(now),
        lost={node: devices for node, devices in lost.items() if devices},
        speaking=frozenset(now),
    )


def silence_of(node: str, found: Coverage, was: Sequence[Fault] = ()) -> tuple[Fault, ...]:
    """What a node's silence, or that of some of its GPUs, amounts to; `was` is what it amounted to before."""
    if node in found.silent:
        dead = monitored.fault("monitor-dead", "dcgm-exporter", "Prometheus gets nothing of this node's GPUs any more")
        return (*(one for one in was if one.kind is Kind.GPU), dead)
    return tuple(
        monitored.fault("gpu-lost", device, "this GPU's series ended while the others' go on")
        for device in found.lost.get(node, ())
    )


Ask = Callable[[str], list[tuple[Mapping[str, str], float]]]
"""Ask one query; the answer's series with their labels."""


def ask_all(ask: Ask, node_label: str) -> list[Sample]:
    """Every rule's answer. Raises what `ask` raises: half an answer would end faults that were not looked for."""
    return [
        Sample(rule.name, labels[node_label], device_of(labels), value)
        for rule in RULES
        for labels, value in ask(rule.query(node_label))
        if labels.get(node_label)
    ]


def gpus(ask: Ask, window: str, node_label: str) -> dict[str, set[str]]:
    """Node label → devices that spoke within the window."""
    found: dict[str, set[str]] = {}
    for labels, _count in ask(seen(window, node_label)):
        if labels.get(node_label) and (device := device_of(labels)):
            found.setdefault(labels[node_label], set()).add(device)
    return found
