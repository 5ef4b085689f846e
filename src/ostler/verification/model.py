"""Settings and facts of idle checks. The policy chooses nodes; `tasks.py` runs the checks on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ostler.health.model import split_check
from ostler.trends.model import Verdict

OUTCOME = "idle-verification"
"""The outcome that stands for a whole run."""


@dataclass(frozen=True)
class VerificationSettings:
    """`[verification]` of the configuration: which idle nodes are checked, how often, with what. Spans are domain
    seconds."""

    pools: tuple[str, ...] = ()
    """Pools whose idle nodes are checked; `*` for all, nothing by default: checks use power and wear."""
    every_s: float = 3600.0
    """A node is checked again so long after its last check (CoreWeave: hourly on idle nodes)."""
    idle_for_s: float = 300.0
    """A node counts as idle once nothing has run there for so long."""
    plan: str = "verification"
    """Plan of `ostler checks plan`, with the thresholds of the node's SKU; about 20 minutes."""
    checks: tuple[str, ...] = ()
    """Instead of a plan: checks as `NAME key=value …`; also for nodes whose SKU has no thresholds."""
    limit_s: float = 2400.0
    """A run that is not over after so long is ended: inconclusive."""
    at_once_share: float = 0.1
    """Of a pool's nodes, at a time."""
    at_once: int = 100
    """Over all pools, at a time."""
    confirm: bool = True
    """A failed check is repeated at once, and counts only if it fails again."""

    def __post_init__(self) -> None:
        for text in self.checks:
            split_check(text)
        if self.every_s < 60 or self.limit_s < 10:
            raise ValueError("every_s is at least 60 s and limit_s at least 10 s")


@dataclass(frozen=True)
class Candidate:
    """A node that might be checked now."""

    node_id: str
    pool: str
    last_at: float | None
    """When its last run ended, whatever came of it; None: never."""
    suspicion: int = 0
    """Active findings that ask for watching only: what a check could confirm."""


@dataclass(frozen=True)
class Result:
    """What one check said."""

    check: str
    verdict: Verdict
    measured: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""

    def data(self) -> dict[str, Any]:
        """As the job keeps it."""
        return {"check": self.check, "verdict": self.verdict, "measured": dict(self.measured), "message": self.message}
