"""The words of the lifecycle as types. Used by every feature above `nodes` and by the faces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a node is in its lifecycle; exactly one. What happens in each: `lifecycle.STATES`."""

    DISCOVERED = "discovered"
    ONBOARD = "onboard"
    SEATRIAL = "seatrial"
    ZAP = "zap"
    ZAP_FAIL = "zap-fail"
    TEST = "test"
    PRODUCTION = "production"
    REBOOT = "reboot"
    TRIAGE = "triage"
    DEBUG = "debug"
    RMA = "rma"
    RETIRED = "retired"


class Capability(StrEnum):
    """What Ostler may do by itself to the nodes of a pool. Without a grant it only says what it would do."""

    OBSERVE = "observe"
    CORDON = "cordon"
    GPU_RESET = "gpu-reset"
    REBOOT = "reboot"
    POWER = "power"
    FIRMWARE = "firmware"
    PROVISION = "provision"
    ERASE = "erase"


OBSERVE_ONLY: frozenset[Capability] = frozenset({Capability.OBSERVE})
"""The default of every pool (DESIGN, principle 2)."""


class Condition(StrEnum):
    """Facts about a node that are true for a while. Features above may raise the ones listed here and no others."""

    CERTIFIED = "Certified"
    UNCERTIFIED = "Uncertified"
    PENDING_REBOOT = "PendingReboot"
    PENDING_TRIAGE = "PendingTriage"
    SILENT = "Silent"
    GPU_UNHEALTHY = "GpuUnhealthy"
    LINK_UNHEALTHY = "LinkUnhealthy"
    HARDWARE_UNHEALTHY = "HardwareUnhealthy"
    SIGNALS_LOST = "SignalsLost"
    OVERDUE = "Overdue"
    HELD_FOR_PERSON = "HeldForPerson"
    PROBATION = "Probation"
    POWER_LOCKED = "PowerLocked"


class Timing(StrEnum):
    """When a transition out of production is acted on."""

    PENDING = "pending"
    """Cordon now, act when the workload ends or its deadline passes."""
    IMMEDIATE = "immediate"
    """The node is already useless or dangerous."""


class Service(StrEnum):
    """How much of a node is Ostler's: `unmanaged` nodes get the weaker service of DESIGN section 2."""

    MANAGED = "managed"
    UNMANAGED = "unmanaged"


UNMANAGED_NOTICE = (
    "unmanaged: onboarding and Zap at first delivery only, fabric checks, passive fabric faults tracked; "
    "no automatic lifecycle action"
)
"""Said on every answer about such a node."""


@dataclass(frozen=True)
class Node:
    """One server as the database knows it. Times are UTC epoch seconds."""

    id: str
    name: str
    serial: str | None
    uuid: str | None
    slot: str | None
    pool: str
    sku: str | None
    service: Service
    bmc_address: str | None
    bmc_secret: str | None
    state: State
    state_since: float
    state_deadline: float | None
    pending_state: State | None
    pending_reason: str | None
    pending_deadline: float | None
    revision: int
    maintenance_by: str | None
    power_locked: bool
    cordoned: bool | None
    boot_id: str | None
    last_seen: float | None
    agent_version: str | None
    driver: str | None
    busy: bool
    inventory: Mapping[str, Any]
    created_at: float
    macs: tuple[str, ...] = ()

    @property
    def gpu_count(self) -> int:
        """GPUs in the last inventory that the node reported."""
        gpus = self.inventory.get("gpus", ())
        return len(gpus) if isinstance(gpus, list | tuple) else 0


@dataclass(frozen=True)
class Slot:
    """A place, with what fails or is maintained together with it. `domains` maps kind (`rack`, `nvlink`, …) to name."""

    name: str
    site: str = ""
    row: str = ""
    rack: str = ""
    unit: str = ""
    domains: Mapping[str, str] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pool:
    """Nodes under one policy."""

    name: str
    capabilities: frozenset[Capability] = OBSERVE_ONLY
    auto_certify: bool = False
    cluster: str = "none"


@dataclass(frozen=True)
class Facts:
    """Everything a guard may look at, assembled by the service that wants the transition."""

    by_person: bool = False
    joined: bool = False
    certified: bool = False
    auto_certify: bool = False
    passed: frozenset[str] = frozenset()
    """Names of the checks that passed since the node entered its present state."""
    firmware_current: bool = False
    idle: bool = False
    permit: bool = False
    granted: frozenset[Capability] = OBSERVE_ONLY
    unmanaged: bool = False
    maintenance_by: str | None = None
    power_locked: bool = False
