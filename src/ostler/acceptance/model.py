"""The words of Day 1 as types. Used by every file of this folder and by `config.py`, which reads the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from ostler.adapters.bmc.port import Bmc
from ostler.health.model import split_check
from ostler.nodes.model import Node

OpenBmc: TypeAlias = Callable[[Node], Bmc]
"""Opens a conversation with a node's BMC, behind the brake's guard. Handed in by `app.py`; touches no network."""


@dataclass(frozen=True)
class AcceptanceSettings:
    """`[acceptance]` in the configuration file. Spans are domain seconds."""

    sweep_s: float = 30.0
    """How often the driver looks at every node of Day 1."""
    seatrial_window_s: float = 1800.0
    """How long a node is observed."""
    observe_s: float = 120.0
    """Time between two looks in that window."""
    require_sku: bool = True
    """Without a SKU a node waits in seatrial for a person; false: it passes unmeasured."""
    require_bmc: bool = True
    """Without a BMC address likewise; false: the node is looked at in-band only."""
    task_poll_s: float = 30.0
    """Time between two looks at a running flash."""
    flash_limit_s: float = 7200.0
    """A flash that runs longer is stuck."""
    flash_unknown_s: float = 3600.0
    """How long a flash may be under way that nobody knows the task of."""
    settle_s: float = 300.0
    """Rest after a power cycle before versions are read again."""
    burn_in_s: float = 86_400.0
    """Test, profile `full`."""
    repair_test_s: float = 3600.0
    """Test, profile `repair`."""
    test_checks: tuple[str, ...] = ("cpu-arith", "memory-pattern", "disk-write")
    """Checks of one round, in this order; each may carry arguments: `memory-pattern mib=512 seconds=60`."""
    test_rounds: int = 4
    """Rounds of profile `full`, spread over its time; `repair` has one."""
    check_deadline_s: float = 3600.0
    """When the answer to one check must be here."""
    test_retries: int = 3
    """How often an inconclusive check is tried again."""
    retry_s: float = 60.0
    """Time before that next try."""
    bmc_patience_s: float = 1800.0
    """How long after its window seatrial waits for a BMC that cannot be reached."""
    cabling: str = "auto"
    """Whether seatrial compares the node's own InfiniBand ports with the blueprint. `auto`: where a blueprint covers
    the node; `required`: a node that none covers does not pass; `off`: never."""
    cabling_deadline_s: float = 900.0
    """When the agent's answer about its ports must be here."""
    cabling_tries: int = 3
    """How often it is asked before nobody can tell."""

    def __post_init__(self) -> None:
        if self.test_rounds < 1 or not self.test_checks:
            raise ValueError("a test needs at least one round of at least one check")
        if self.cabling not in ("auto", "required", "off"):
            raise ValueError(f"'{self.cabling}' is not how cabling can be checked: auto, required or off")
        if self.cabling_tries < 1:
            raise ValueError("cabling is asked for at least once")
        for text in self.test_checks:
            split_check(text)


class Activation(StrEnum):
    """What makes a flashed image the running one."""

    NONE = "none"
    """The component takes it over by itself (a BMC restarts on its own)."""
    POWER_CYCLE = "power-cycle"
    """The host's power is cycled through the BMC."""


@dataclass(frozen=True)
class FirmwareTarget:
    """What one component must run."""

    component: str
    """As the BMC's firmware inventory names it."""
    version: str
    image: str = ""
    """http(s) URL that the BMC fetches; empty: verified only, never flashed."""
    activation: Activation = Activation.NONE
    fabric_adapter: bool = False
    """An InfiniBand HCA: never touched on an unmanaged node."""


@dataclass(frozen=True)
class Sku:
    """What a node of this model must have. None: not declared, not compared.

    `gpu_model` must be contained in what host and BMC call the GPU, ignoring case. NICs, disks and power supplies are
    least numbers (a USB interface of the BMC does no harm); GPUs and logical CPUs are exact; memory is within
    `memory_tolerance` of the declared size, because firmware and kernel keep some for themselves.
    """

    name: str
    gpus: int | None = None
    gpu_model: str = ""
    cpus: int | None = None
    memory_gib: float | None = None
    memory_tolerance: float = 0.05
    nics: int | None = None
    disks: int | None = None
    psus: int | None = None
    firmware: tuple[FirmwareTarget, ...] = ()
    """In the order in which they are flashed."""


class Eye(StrEnum):
    """Who saw it."""

    HOST = "host"
    """In-band: the node's agent."""
    BMC = "bmc"
    """Out-of-band."""
    BOTH = "host and bmc"
    """They contradict each other."""


@dataclass(frozen=True)
class Mismatch:
    """One difference between what was declared (or what the other eye saw) and what is there."""

    part: str
    """gpu, cpu, memory, nic, disk, psu, serial, sensor"""
    eye: Eye
    expected: str
    found: str

    @property
    def message(self) -> str:
        return f"{self.part} ({self.eye}): expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class Comparison:
    """What a look at a node showed. `blind`: what could not be compared, which is never taken for good."""

    mismatches: tuple[Mismatch, ...]
    blind: tuple[str, ...] = ()


@dataclass(frozen=True)
class Update:
    """One component that is not at its declared version."""

    target: FirmwareTarget
    present: str


@dataclass(frozen=True)
class FirmwarePlan:
    """What zap has to do, in order, and what it cannot or may not do."""

    updates: tuple[Update, ...]
    missing: tuple[str, ...] = ()
    """Declared components that the BMC does not list."""
    impossible: tuple[Update, ...] = ()
    """Not at their version, and there is no image to flash."""
    left_alone: tuple[str, ...] = ()
    """Fabric adapters of an unmanaged node."""

    @property
    def current(self) -> bool:
        """Every declared component reports its declared version."""
        return not (self.updates or self.missing or self.impossible)


class Profile(StrEnum):
    """How much test a node gets."""

    FULL = "full"
    REPAIR = "repair"


@dataclass(frozen=True)
class CheckRun:
    """One check of the plan: `due` is domain seconds after the start of the test."""

    round: int
    check: str
    due: float
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BurnInPlan:
    """The checks of one test, in order, and how long it lasts at least."""

    profile: Profile
    seconds: float
    runs: Sequence[CheckRun]
