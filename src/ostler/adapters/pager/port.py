"""What Ostler asks of whatever calls a person. Called by `oncall/watch.py`; built by `app.py` from `[oncall]`.

A page is a level: it is sent again while it stands and once more when it is over, so a pager that lost its memory, or
an answer that got lost on the way, mends itself. `key` is the identity of a page at every pager.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Urgency(StrEnum):
    """How soon a person has to look. PagerDuty's words; Alertmanager has them as the label `severity`."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Page:
    """Something that a person must know of now."""

    key: str
    """`incident:inc_…`, `finding:fnd_…`, `loop:sequencer`: at most 255 characters (PagerDuty's limit)."""
    urgency: Urgency
    summary: str
    """One line, at most 1024 characters (PagerDuty's limit)."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What it is about: node, rack, fault, cause."""
    since: float = 0.0
    """Domain time."""
    over: bool = False


class Pager(Protocol):
    """One receiver. Raises `Unreachable` or `Unavailable` (temporary), `Forbidden` or `BadInput` (permanent)."""

    @property
    def name(self) -> str: ...

    @property
    def repeat_s(self) -> float:
        """Real seconds after which a page that stands is sent again; 0: once is enough."""
        ...

    @property
    def most_at_once(self) -> int:
        """Pages of one `send`, at most: what fails, fails for all of these and no others."""
        ...

    def send(self, pages: Sequence[Page]) -> None:
        """Tell about pages that stand or are over. Safe to repeat."""
        ...

    def close(self) -> None: ...
