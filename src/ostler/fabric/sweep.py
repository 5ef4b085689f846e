"""What a source said of a fabric, by GUID and port number, before anybody knows which box that is.

Every reader in `formats/` makes a `Sweep`; `places/` turns it into a `Snapshot`. A sweep says what it saw and what may
be hidden from it; it judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

SPEEDS: Mapping[str, float] = {
    "SDR": 2.5, "DDR": 5.0, "QDR": 10.0, "FDR10": 10.3125, "FDR": 14.0625, "EDR": 25.78125,
    "HDR": 53.125, "NDR": 106.25, "XDR": 212.5,
}  # fmt: skip
"""Signalling rate of one lane in Gb/s by name: InfiniBand Architecture Specification 1.7, volume 1, 14.2.5.6."""


class NodeKind(StrEnum):
    """What the management datagrams call a node's type."""

    SWITCH = "switch"
    HCA = "hca"
    ROUTER = "router"


class PortState(StrEnum):
    """The logical state of a port; empty where the source does not say."""

    UNKNOWN = ""
    DOWN = "down"
    INIT = "init"
    ARMED = "armed"
    ACTIVE = "active"


class Physical(StrEnum):
    """The physical state of a port; empty where the source does not say."""

    UNKNOWN = ""
    SLEEP = "sleep"
    POLLING = "polling"
    """Nobody answers at the other end: no cable, or no power there."""
    DISABLED = "disabled"
    TRAINING = "training"
    LINK_UP = "link-up"
    RECOVERY = "recovery"
    TEST = "test"


class End(NamedTuple):
    """One port as the fabric itself names it: node GUID and InfiniBand port number (1 to 254)."""

    guid: int
    port: int


class PortFacts(NamedTuple):
    """What a source said of one port. A tuple and no dataclass: there are 100,000 of them in a sweep."""

    peer: End | None = None
    """The port at the other end, as this port's node or its neighbour said."""
    state: PortState = PortState.UNKNOWN
    physical: Physical = Physical.UNKNOWN
    width: int = 0
    """Lanes in use; 0: not said."""
    speed: str = ""
    """A key of `SPEEDS`; empty: not said."""
    width_supported: int = 0
    """The most lanes that the port can use; 0: not said."""
    speed_supported: str = ""
    """The fastest that the port can run; empty: not said."""
    lid: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A switch ASIC, an HCA or a router: whatever has a node GUID."""

    guid: int
    kind: NodeKind
    description: str = ""
    """NodeDescription as it stands: `gpu-0001 mlx5_0`, `MF0;leaf01:MQM9700/U1`. Hostile text."""
    ports: int = 0
    """How many it has; 0: not said."""
    system_guid: int = 0
    """Of the box it is part of; 0: not said."""
    vendor: int = 0
    device: int = 0
    """PCI-like vendor and device ids; 0: not said."""
    answered: bool = True
    """False: only a neighbour named it; nothing that it says of its own ports was seen."""


@dataclass(frozen=True, slots=True)
class Module:
    """A transceiver or the end of a cable, as its EEPROM and the port's firmware say. None and empty: not said."""

    vendor: str = ""
    part: str = ""
    serial: str = ""
    kind: str = ""
    """`passive copper`, `active optical`, `optical module`, … as the source words it."""
    length_m: float | None = None
    firmware: str = ""
    temperature_c: float | None = None
    temperature_limits_c: tuple[float, float] | None = None
    """Low and high alarm of the EEPROM."""
    rx_power_dbm: tuple[float, ...] = ()
    """A value a lane."""
    rx_limits_dbm: tuple[float, float] | None = None
    tx_power_dbm: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Ber:
    """Bit error rates and what they were counted from. None: not said; 0.0: no error was seen (mlxlink's 15E-255)."""

    raw: float | None = None
    effective: float | None = None
    """After FEC."""
    symbol: float | None = None
    raw_lanes: tuple[float, ...] = ()
    effective_errors: int | None = None
    symbol_errors: int | None = None
    seconds: float | None = None
    """Since the counters were last cleared."""


class ProblemKind(StrEnum):
    """Why a sweep may not have seen everything, or contradicts itself."""

    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    """The node answered and would not tell: an M_Key that the collector has not."""
    DUPLICATE_GUID = "duplicate-guid"
    DUPLICATE_PLACE = "duplicate-place"
    CONTRADICTION = "contradiction"
    """Two ends name different neighbours."""
    MONITOR_DOWN = "monitor-down"
    """The collector's own port has no link: it saw nothing but itself."""
    FAILED = "failed"
    """A tool ended with an error, or was stopped by its deadline."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that went wrong while looking. `hides`: a part of the fabric may be missing from the sweep for it."""

    kind: ProblemKind
    message: str
    line: int | None = None
    """Of the file that was read, from 1."""
    guid: int | None = None
    hides: bool = True


PROBLEMS_KEPT = 200
"""Of one sweep; what is beyond is counted in the last one."""


@dataclass(slots=True)
class Sweep:
    """Everything that one source said. Filled by a reader, then left alone."""

    source: str
    """The format: `ibnetdiscover`, `ibnetdiscover-cache`, `opensm-subnet`, `iblinkinfo`, `ibdiagnet-db-csv`,
    `ibdiagnet-net-dump`, `ufm`, `mlxlink`, `perfquery`, `ibqueryerrors`."""
    name: str = ""
    """The file it was read from, for messages."""
    taken_at: float | None = None
    """UTC seconds, where the source says."""
    origin: int | None = None
    """GUID of the node from which it was taken."""
    states: bool = False
    """Whether ports without a link are listed with their state: then a port that is not linked is known to be so."""
    topology: bool = True
    """False: it only brings counters or readings of modules for ports that others have seen."""
    nodes: dict[int, Node] = field(default_factory=dict)
    ports: dict[End, PortFacts] = field(default_factory=dict)
    counters: dict[End, dict[str, int]] = field(default_factory=dict)
    """Names as Linux has them: `symbol_error`, `link_error_recovery`, `link_downed`, `port_rcv_errors`,
    `port_rcv_remote_physical_errors`, `port_rcv_switch_relay_errors`, `port_xmit_discards`,
    `port_xmit_constraint_errors`, `port_rcv_constraint_errors`, `local_link_integrity_errors`,
    `excessive_buffer_overrun_errors`, `vl15_dropped`, `port_xmit_wait`, `port_xmit_data`, `port_rcv_data`,
    `port_xmit_packets`, `port_rcv_packets`."""
    modules: dict[End, Module] = field(default_factory=dict)
    bers: dict[End, Ber] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def trouble(
        self, kind: ProblemKind, message: str, *, line: int | None = None, guid: int | None = None, hides: bool = True
    ) -> None:
        """Note a problem; beyond `PROBLEMS_KEPT` they are only counted, so that a hostile file fills nothing."""
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(Problem(kind, message[:300], line, guid, hides))
            return
        last = self.problems[-1]
        more = int(last.message.split(" ", 1)[0]) + 1 if last.message.endswith(" further problems") else 2
        self.problems[-1] = Problem(kind, f"{more} further problems", None, None, hides or last.hides)


def guid_text(guid: int) -> str:
    """As the tools print it: `0x98039b0300a1b2c3`."""
    return f"0x{guid:016x}"
