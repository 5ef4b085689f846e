"""What the child that runs the monitors says to the agent: one JSON document a line. Written by worker.py, read by
child.py with the same strict decoder as everything that comes over the network: a monitor may go mad.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from ostler.agent.monitors.port import Look
from ostler.faults.model import Fault, Severity
from ostler.faults.monitored import MONITORED, fault
from ostler.wire.agent import Name, Reading, Word
from ostler.wire.decode import Items, Range, Text, decode, encode, fit

LINE_LIMIT = 256 * 1024
"""Bytes of one line: 64 GPUs with all their readings take a quarter of it."""
FAULTS = 256
"""Faults that one look may hold."""


class Said(StrEnum):
    """What a line is about."""

    HELLO = "hello"
    """The child runs and has these monitors."""
    BEAT = "beat"
    """The child runs."""
    LOOK = "look"
    FAILED = "failed"
    """The look raised; `reason`."""
    HANGS = "hangs"
    """The look has been running for longer than its deadline; `reason`."""
    HELD = "held"
    """The monitor has let go of its device, as it was asked."""
    AGAIN = "again"
    """The child ends itself, to be started anew; `reason`."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A fault by its name in `faults.monitored`, so that only what is in that table can be said."""

    name: Word
    device: Annotated[str, Text(256)] = ""
    message: str = ""
    severity: Severity = Severity.INFO
    detail: Annotated[Mapping[str, str], Items(32)] = field(default_factory=dict)

    def fault(self) -> Fault:
        """Raises KeyError for a name that is not in the table."""
        return fault(self.name, self.device, self.message, detail=self.detail, severity=self.severity)


@dataclass(frozen=True, slots=True)
class Told:
    """A monitor introduces itself. Seconds."""

    name: Word
    period_s: Annotated[float, Range(0.001, 1e6)]
    deadline_s: Annotated[float, Range(0.001, 1e6)]


@dataclass(frozen=True, slots=True)
class Serial:
    """Who a GPU is, as only the driver's library can tell."""

    pci: Name
    serial: Name = ""
    vbios: Name = ""
    model: Name = ""
    memory_gib: Annotated[float, Range(0, 1e6)] | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line. Which fields count follows from `said`."""

    said: Said
    monitor: Annotated[str, Text(64, r"|[A-Za-z0-9][A-Za-z0-9_.-]*")] = ""
    reason: str = ""
    standing: Annotated[tuple[Standing, ...], Items(FAULTS)] = ()
    readings: Annotated[Mapping[str, Annotated[Mapping[str, Reading], Items(32)]], Items(64)] = field(
        default_factory=dict
    )
    monitors: Annotated[tuple[Told, ...], Items(32)] = ()
    gpus: Annotated[tuple[Serial, ...], Items(64)] = ()


def look_line(monitor: str, look: Look, gpus: tuple[Serial, ...] = ()) -> bytes:
    """Raises ValueError for a fault that is not in the table, or for more of them than a line may hold."""
    if len(look.standing) > FAULTS:
        raise ValueError(f"{len(look.standing)} faults in one look; at most {FAULTS} are taken")
    standing = []
    for found in look.standing:
        name = f"{found.kind.value}-{found.code}"
        if name not in MONITORED:
            raise ValueError(f"{name} is no fault of a monitor")
        detail = {fit(key, 64): fit(value) for key, value in found.detail.items()}
        standing.append(Standing(name, fit(found.device, 256), fit(found.message), found.severity, detail))
    return encode(Line(Said.LOOK, monitor, standing=tuple(standing), readings=look.readings, gpus=gpus)) + b"\n"


def read_line(raw: bytes) -> Line:
    """Raises BadInput."""
    return decode(Line, raw, limit=LINE_LIMIT)
