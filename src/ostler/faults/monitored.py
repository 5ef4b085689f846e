"""What monitors can find, in one table: the same names whether the agent, a BMC or the user's Prometheus looked.

A monitor says what is wrong *now* (a level); `fault()` makes the `Fault` that it reports. Called by `agent/monitors`,
by `health`'s own watchers (BMC polls, Prometheus, fleet view) and by diagnosis, which knows faults by these names.
Limits with their sources are in `faults/limits.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ostler.faults.model import Action, Fault, Kind, Severity


@dataclass(frozen=True, slots=True)
class Monitored:
    """One row. `name` is the finding's name: kind and code joined by a dash."""

    kind: Kind
    code: str
    component: str
    severity: Severity
    action: Action
    meaning: str

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.code}"


_I, _W, _E, _F = Severity.INFO, Severity.WARNING, Severity.ERROR, Severity.FATAL
_A = Action

_ROWS = (
    # GPUs, by NVML or dcgm-exporter. The device is the PCI address, lower case: 0000:1b:00.0
    Monitored(Kind.GPU, "missing", "gpu", _E, _A.REBOOT, "fewer GPUs than the node should have"),
    Monitored(Kind.GPU, "lost", "gpu", _E, _A.REBOOT, "the driver lists the GPU and cannot talk to it"),
    Monitored(Kind.GPU, "driver", "gpu", _E, _A.REBOOT, "the driver or its library does not answer"),
    Monitored(Kind.GPU, "identity", "gpu", _W, _A.WATCH, "a GPU has another serial number than the books say"),
    Monitored(Kind.GPU, "ecc-uncorrected", "gpu", _E, _A.RESET_GPU, "uncorrected memory errors since the last reset"),
    Monitored(Kind.GPU, "ecc-corrected-rate", "gpu", _W, _A.WATCH, "corrected memory errors come fast"),
    Monitored(
        Kind.GPU, "sram-threshold", "gpu", _E, _A.TRIAGE, "the SRAM error threshold is exceeded: field diagnosis"
    ),
    Monitored(Kind.GPU, "row-remap-pending", "gpu", _W, _A.RESET_GPU, "a row is remapped with the next reset"),
    Monitored(Kind.GPU, "row-remap-failed", "gpu", _E, _A.RMA, "no spare row was left: the GPU goes back"),
    Monitored(Kind.GPU, "pages-pending", "gpu", _W, _A.RESET_GPU, "a page is retired with the next reset"),
    Monitored(Kind.GPU, "pages-retired", "gpu", _E, _A.RMA, "more pages are retired than the vendor accepts"),
    Monitored(Kind.GPU, "hot", "gpu", _W, _A.WATCH, "the GPU runs at its slowdown temperature"),
    Monitored(Kind.GPU, "memory-hot", "gpu", _W, _A.WATCH, "the GPU's memory runs at its limit"),
    Monitored(Kind.GPU, "hw-slowdown", "gpu", _E, _A.TRIAGE, "the hardware keeps slowing itself down"),
    Monitored(Kind.GPU, "power-capped", "gpu", _W, _A.WATCH, "the power limit is below the board's default"),
    Monitored(Kind.GPU, "pcie-width", "gpu", _E, _A.REBOOT, "the PCIe link lost lanes"),
    Monitored(Kind.GPU, "pcie-gen", "gpu", _E, _A.REBOOT, "the PCIe link trained below its generation under load"),
    Monitored(Kind.GPU, "pcie-replay", "gpu", _W, _A.WATCH, "the PCIe link repeats packets"),
    Monitored(Kind.GPU, "nvlink-down", "gpu", _E, _A.REBOOT, "an NVLink that should be active is not"),
    Monitored(Kind.GPU, "nvlink-errors", "gpu", _W, _A.WATCH, "an NVLink recovers or repeats often"),
    Monitored(Kind.GPU, "gsp", "gpu", _W, _A.WATCH, "the GSP firmware is off or differs from the other GPUs'"),
    Monitored(Kind.GPU, "persistence-off", "gpu", _W, _A.WATCH, "persistence mode is off: slow starts, lost settings"),
    Monitored(Kind.GPU, "fabric", "gpu", _E, _A.RESTART_SERVICE, "the GPU is not registered with its NVLink fabric"),
    Monitored(
        Kind.GPU, "slower-than-peers", "gpu", _W, _A.WATCH, "behaves worse than its siblings and its SKU's peers"
    ),
    # InfiniBand, from sysfs. The device is HCA/port: mlx5_0/1
    Monitored(Kind.IB, "missing", "nic", _E, _A.REBOOT, "fewer HCAs than the node had"),
    Monitored(Kind.IB, "port-down", "nic", _E, _A.REBOOT, "the port is not active"),
    Monitored(Kind.IB, "port-rate", "nic", _E, _A.TRIAGE, "the port runs below its rate"),
    Monitored(Kind.IB, "flapping", "nic", _E, _A.TRIAGE, "the port goes down and comes back, again and again"),
    Monitored(Kind.IB, "dropped", "nic", _E, _A.REBOOT, "the port stays down"),
    Monitored(Kind.IB, "link-downed", "nic", _W, _A.WATCH, "the link went down and recovered"),
    Monitored(Kind.IB, "recoveries", "nic", _W, _A.WATCH, "the link retrains often"),
    Monitored(Kind.IB, "symbol-errors", "nic", _E, _A.TRIAGE, "symbol errors above the specified rate"),
    Monitored(Kind.IB, "integrity", "nic", _E, _A.TRIAGE, "local link integrity or buffer overrun errors"),
    Monitored(Kind.IB, "rcv-errors", "nic", _W, _A.WATCH, "packets arrive damaged"),
    # InfiniBand, as a look at the whole fabric has it (fabric/). Its own ticket names the plug, so nothing is rebooted
    Monitored(Kind.IB, "miscabled", "nic", _W, _A.WATCH, "the port is cabled to another port than designed"),
    Monitored(Kind.IB, "uncabled", "nic", _W, _A.WATCH, "the port has no link where the design has one"),
    Monitored(Kind.IB, "bit-errors", "nic", _E, _A.TRIAGE, "the bit error rate is above its limit"),
    Monitored(Kind.IB, "module-hot", "nic", _W, _A.WATCH, "the transceiver is too hot"),
    Monitored(Kind.IB, "rx-power", "nic", _W, _A.WATCH, "the received light is too weak or uneven"),
    # Ethernet, by carrier. The device is the interface
    Monitored(Kind.ETH, "carrier-down", "nic", _W, _A.WATCH, "an interface that had a carrier has none"),
    Monitored(Kind.ETH, "flapping", "nic", _W, _A.WATCH, "the carrier comes and goes"),
    # The host
    Monitored(Kind.HOST, "service-down", "node", _E, _A.RESTART_SERVICE, "a service that the GPUs need does not run"),
    Monitored(Kind.HOST, "clock-unsynced", "node", _W, _A.WATCH, "the clock follows no time source"),
    Monitored(Kind.HOST, "clock-offset", "node", _W, _A.WATCH, "the clock is off"),
    Monitored(Kind.HOST, "fs-readonly", "filesystem", _E, _A.REBOOT, "a filesystem turned read-only"),
    Monitored(Kind.HOST, "fs-full", "filesystem", _W, _A.WATCH, "a filesystem is nearly full"),
    Monitored(Kind.HOST, "disk-failing", "disk", _E, _A.TRIAGE, "the disk says that it is failing"),
    Monitored(Kind.HOST, "disk-missing", "disk", _E, _A.TRIAGE, "a disk that was there is gone"),
    Monitored(Kind.HOST, "disk-errors", "disk", _W, _A.WATCH, "the disk reports errors"),
    Monitored(Kind.HOST, "memory-missing", "memory", _E, _A.TRIAGE, "less memory than the node had"),
    Monitored(Kind.HOST, "memory-uncorrected", "memory", _E, _A.REBOOT, "uncorrected memory errors"),
    Monitored(Kind.HOST, "memory-corrected-rate", "memory", _W, _A.WATCH, "corrected memory errors come fast"),
    # Out of band, by Redfish. The device is the BMC's own name for the part
    Monitored(Kind.BMC, "silent", "bmc", _W, _A.WATCH, "the BMC does not answer"),
    Monitored(Kind.BMC, "power-off", "node", _E, _A.WATCH, "the node is switched off and nobody of ours did it"),
    Monitored(Kind.BMC, "leak", "chassis", _F, _A.POWER_OFF, "coolant leaks: confirmed"),
    Monitored(Kind.BMC, "leak-suspected", "chassis", _W, _A.WATCH, "a leak detector is wet: one reading so far"),
    Monitored(Kind.BMC, "hot", "chassis", _E, _A.TRIAGE, "a temperature is above its critical limit"),
    Monitored(Kind.BMC, "fan", "chassis", _E, _A.TRIAGE, "a fan fails"),
    Monitored(Kind.BMC, "voltage", "chassis", _E, _A.TRIAGE, "a voltage is outside its limits"),
    Monitored(Kind.BMC, "psu", "power", _W, _A.WATCH, "a power supply fails: redundancy is lost"),
    Monitored(Kind.BMC, "firmware-drift", "firmware", _W, _A.WATCH, "a component runs other firmware than declared"),
    Monitored(Kind.BMC, "log", "chassis", _W, _A.WATCH, "the BMC's own log reports a fault"),
    # About watching itself. The device is the monitor
    Monitored(
        Kind.MONITOR, "dead", "agent", _W, _A.WATCH, "a monitor died, hangs or is starved: its subject is unwatched"
    ),
)

MONITORED: Mapping[str, Monitored] = {row.name: row for row in _ROWS}
"""Fault name → row."""


def fault(
    name: str,
    device: str = "",
    message: str = "",
    *,
    detail: Mapping[str, str] | None = None,
    severity: Severity | None = None,
) -> Fault:
    """The fault of this name on a device; `message` says what was measured against what. Raises `KeyError`."""
    row = MONITORED[name]
    return Fault(
        kind=row.kind,
        code=row.code,
        device=device,
        component=row.component,
        severity=severity or row.severity,
        action=row.action,
        message=(message or row.meaning)[:1024],
        meaning=row.meaning,
        detail=dict(detail or {}),
    )
