"""What agent and server say to each other. Used by `agent/` and `twin/` on one end, by `http/agents.py` on the other.

POST /v1/agent/join    JoinRequest -> JoinAnswer   over TLS, the single-use token is the credential
POST /v1/agent/report  Report -> ReportAnswer      over mutual TLS, the client certificate is the identity
POST /v1/agent/renew   PKCS#10, PEM -> JoinAnswer  likewise: a new certificate for a new key

Order is (boot id, sequence), never a node's clock: within one boot, sequences start at 1 and every one of them arrives
as a signal or is declared lost in a gap. `docs/wire.md` tells the protocol; times are UTC seconds of the node's
*domain* clock, to be shown and never ordered by, except `sent_at`, which is real time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, TypeAlias

from ostler.wire.boot import PEM_LIMIT
from ostler.wire.decode import Items, JsonValue, Range, Text

REPORT_SIGNALS = 500
"""Signals (and as many gaps) that one report may carry."""
REPORT_LIMIT = 4 << 20
"""Bytes of one report."""
ANSWER_LIMIT = 1 << 20
"""Bytes of one answer."""
MESSAGE_LIMIT = 2048
"""Characters of a signal's message."""

Name: TypeAlias = Annotated[str, Text(128)]
Word: TypeAlias = Annotated[str, Text(64, r"[A-Za-z0-9][A-Za-z0-9_.-]*")]
Mac: TypeAlias = Annotated[str, Text(64, r"|[0-9a-f]{2}(:[0-9a-f]{2}){5,19}")]
BootId: TypeAlias = Annotated[str, Text(64, r"[A-Za-z0-9][A-Za-z0-9-]*")]
Sequence_: TypeAlias = Annotated[int, Range(1, 2**53)]
Size: TypeAlias = Annotated[float, Range(0, 1e12)]
Pem: TypeAlias = Annotated[str, Text(PEM_LIMIT)]
Time: TypeAlias = Annotated[float, Range(0, 1e11)]
Seconds: TypeAlias = Annotated[float, Range(0.1, 1e8)]
Reading: TypeAlias = Annotated[float, Range(-1e15, 1e15)]


class Verdict(StrEnum):
    """What came of an order. `refused`: this agent's own allow-list does not have the verb; nothing was done."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How an agent behaves, as its server wants it. Spans are domain seconds."""

    heartbeat_s: Seconds = 30.0
    report_inventory_s: Seconds = 86_400.0
    verbs: Annotated[tuple[Word, ...], Items(32)] = ()
    """What the node's pool grants. The agent runs a verb only if its own allow-list has it as well."""
    readings_s: Seconds = 60.0
    """How often the newest measurements of the GPUs travel, with a heartbeat."""
    expected_gpus: Annotated[int, Range(-1, 64)] = -1
    """How many GPUs the node should have; -1: nobody knows, the first look counts."""


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """The node proves that it is the one that asked to boot, and asks for a certificate."""

    token: Annotated[str, Text(256)]
    nonce: Annotated[str, Text(256)]
    mac: Mac
    serial: Name
    uuid: Name
    csr_pem: Annotated[str, Text(8192)]
    agent_version: Name


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    """Who the node is, and what it needs to report."""

    node_id: Name
    node_name: Name
    certificate_pem: Pem
    ca_pem: Pem
    settings: AgentSettings = AgentSettings()


@dataclass(frozen=True, slots=True)
class Signal:
    """One raw observation, identified by (node, boot, sequence)."""

    seq: Sequence_
    at: Time
    source: Word
    """kernel, agent, …"""
    kind: Word
    code: Name
    device: Annotated[str, Text(256)]
    """PCI address, port or block device as it stands in the line."""
    component: Name
    severity: Word
    action: Name
    message: Annotated[str, Text(MESSAGE_LIMIT)]
    detail: Annotated[Mapping[str, JsonValue], Items(64)] = field(default_factory=dict)
    """Facts of this kind; `repeats`, `first_at`, `last_at` when further equal lines were folded into it; `monitor`,
    `over`, `standing` of what a monitor says (docs/wire.md)."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Sequences that will never come, and why."""

    from_seq: Sequence_
    to_seq: Sequence_
    reason: Word
    """overflow, kmsg-overrun, source-died, rejected, spool-damaged, …"""
    detail: Annotated[str, Text(512)] = ""
    at: Time = 0.0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The node is alive, and so are these monitors."""

    uptime_s: Size
    busy: bool | None = None
    """A workload holds a GPU; null: cannot say."""
    driver: Name = ""
    monitors: Annotated[Mapping[str, Annotated[float, Range(-1, 1e12)]], Items(64)] = field(default_factory=dict)
    """Name of a monitor to the domain seconds since it last worked; -1: never did."""


@dataclass(frozen=True, slots=True)
class Readings:
    """The newest measurements of a node's GPUs, column by column, for the server's fleet view."""

    metrics: Annotated[tuple[Word, ...], Items(32)] = ()
    """Names of `faults.metrics`; one that the server does not know is passed over."""
    devices: Annotated[tuple[Name, ...], Items(64)] = ()
    """PCI addresses, lower case."""
    values: Annotated[tuple[Annotated[tuple[Reading | None, ...], Items(32)], ...], Items(64)] = ()
    """A row per device, a value per metric; null: the device does not say."""


@dataclass(frozen=True, slots=True)
class System:
    """SMBIOS type 1, as /sys/class/dmi/id has it."""

    manufacturer: Name = ""
    model: Name = ""
    serial: Name = ""
    uuid: Name = ""
    """Lower case."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA display or 3D controller."""

    pci: Name
    model: Name = ""
    serial: Name = ""
    vbios: Name = ""
    memory_gib: Size | None = None


@dataclass(frozen=True, slots=True)
class Nic:
    """One physical network interface, Ethernet or InfiniBand."""

    name: Name
    mac: Mac = ""
    pci: Name = ""
    firmware: Name = ""
    speed: Name = ""
    """As the kernel says it: `100000` (Mb/s) for Ethernet, `400 Gb/sec (4X NDR)` for InfiniBand."""


@dataclass(frozen=True, slots=True)
class Disk:
    """One physical block device."""

    name: Name
    model: Name = ""
    serial: Name = ""
    size_gb: Size = 0.0
    """Gigabytes of 10^9 bytes."""


@dataclass(frozen=True, slots=True)
class Psu:
    """One power supply, where the operating system sees it."""

    name: Name
    watts: Size | None = None
    state: Name = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the node is made of, as it sees itself. The server compares it with the SKU."""

    system: System = System()
    cpus: Annotated[int, Range(0, 100_000)] = 0
    """Logical processors that are online."""
    memory_gib: Size = 0.0
    gpus: Annotated[tuple[Gpu, ...], Items(64)] = ()
    nics: Annotated[tuple[Nic, ...], Items(256)] = ()
    disks: Annotated[tuple[Disk, ...], Items(256)] = ()
    psus: Annotated[tuple[Psu, ...], Items(32)] = ()
    firmware: Annotated[Mapping[str, Name], Items(256)] = field(default_factory=dict)
    """Component to version: `bios`, `nic:mlx5_0`, `disk:nvme0n1`, …"""
    driver: Name = ""
    kernel: Name = ""


@dataclass(frozen=True, slots=True)
class Order:
    """Something the server asks this node to do. Sent again until its result has arrived; run once."""

    id: Name
    verb: Word
    arguments: Annotated[Mapping[str, JsonValue], Items(32)] = field(default_factory=dict)
    deadline_s: Seconds = 3600.0
    """Domain seconds after which the agent stops it: `inconclusive`."""


@dataclass(frozen=True, slots=True)
class OrderResult:
    """What came of an order: measured, not judged."""

    order_id: Name
    verdict: Verdict
    message: Annotated[str, Text(MESSAGE_LIMIT)] = ""
    measured: Annotated[Mapping[str, JsonValue], Items(64)] = field(default_factory=dict)
    started_at: Time = 0.0
    finished_at: Time = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a node has to say since its last report.

    `signals` and `lost` together cover every sequence from `first_seq` on without a hole, in order. With neither,
    `first_seq` is the next sequence that will be given; the server answers what it holds (the first report of an
    agent's life is such a one). `ended` closes a former boot: nothing more comes under that boot id, and what its
    kernel said after the last of these was not seen.
    """

    boot_id: BootId
    sent_at: Time
    first_seq: Sequence_
    signals: Annotated[tuple[Signal, ...], Items(REPORT_SIGNALS)] = ()
    lost: Annotated[tuple[Gap, ...], Items(REPORT_SIGNALS)] = ()
    ended: Annotated[str, Text(64, r"|[a-z-]+")] = ""
    heartbeat: Heartbeat | None = None
    inventory: Inventory | None = None
    results: Annotated[tuple[OrderResult, ...], Items(64)] = ()
    readings: Readings | None = None
    agent_version: Name = ""


@dataclass(frozen=True, slots=True)
class ReportAnswer:
    """The server has committed the report before it sends this."""

    ack_seq: Annotated[int, Range(0, 2**53)]
    """Every sequence of the report's boot up to here is stored, or known to be lost."""
    settings: AgentSettings | None = None
    orders: Annotated[tuple[Order, ...], Items(64)] = ()
    clock_skew_s: Annotated[float, Range(-1e11, 1e11)] = 0.0
    """`sent_at` minus the server's real time: positive when the node's clock is ahead."""
