"""One look at a fabric with what was made of it: what `service.py` hands to the books. Plain values."""

from __future__ import annotations

from dataclasses import dataclass

from ostler.fabric.hosts import Hosts
from ostler.fabric.model import Blueprint, Diagnosis, Snapshot


@dataclass(frozen=True)
class Look:
    """One look at a fabric, diagnosed."""

    fabric: str
    snapshot_id: str
    seen: Snapshot
    diagnosis: Diagnosis
    blueprint: Blueprint | None
    hosts: Hosts
    taken_at: float
    """Domain seconds."""
    before: Snapshot | None = None
    """What its deltas were taken from."""
    quiet_s: float = 0.0
    """A link that its counters convicted is well when they were quiet for so long: errors come in bursts."""
