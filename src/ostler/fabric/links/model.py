"""The words of link health. Called by the other modules here and by the service, which keeps the events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from ostler.fabric.model import Port, TroubleKind


class EventKind(StrEnum):
    FLAP = "flap"
    """The link went down and came back between two looks: how long it was down is not known."""
    DOWN = "down"
    """Seen without a link, for the first time."""
    UP = "up"
    """Seen with its link again."""
    ERRORS = "errors"
    """More symbol errors than the limit allows, or any within the probation after that (`Limits.clean_after_s`)."""


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """What happened to a link, at the time of the look that showed it. The service keeps them and hands them back."""

    port: Port
    peer: Port | None
    kind: str
    """A value of `EventKind`; a plain string, because it comes back from a database."""
    at: float
    """UTC seconds."""
    count: int = 1


class Candidate(NamedTuple):
    """One thing that a rule found wrong with one link, before what has the same cause is folded."""

    kind: TroubleKind
    port: Port
    """The end to look at first."""
    peer: Port | None
    severe: bool
    message: str
    measured: Mapping[str, Any]
    source: str
    physical: bool = True
    """Of the link itself: module, fibre, connector. False: congestion, which no technician can plug away."""
    strong: bool = False
    """Evidence that names the part by itself (an EEPROM alarm): it outranks all others."""
