"""What Ostler asks of a cluster scheduler. Called by the cordon controller, by drains, and where a node falls silent.

Ostler's cordon is a mark of its own beside everyone else's: setting it changes nothing that others set, and lifting it
frees the node only if nobody else holds it. Every call may raise `Unreachable` or `Unavailable` (temporary), and
`Unauthenticated`, `Forbidden` or `BadInput` (permanent). Implementations may be used from several threads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class CordonView:
    """Who keeps new work off a node: Ostler, others, both or nobody."""

    ours: bool
    others: bool


@dataclass(frozen=True)
class Workload:
    """What runs on a node, or is about to."""

    pods: int
    """Pods that would be lost with the node: no daemons, nothing that has ended."""
    jobs: tuple[str, ...]
    """What they belong to, `namespace/owner`, sorted: nodes that share one are one for the brake."""


class Cluster(Protocol):
    """One scheduler. The answers of the bulk reads leave out nodes that the cluster does not know."""

    @property
    def name(self) -> str: ...

    def cordoned(self, names: Collection[str]) -> Mapping[str, CordonView]: ...

    def cordon(self, name: str, reason: str) -> None:
        """Keep new work off the node; a second call replaces the reason. `NotFound` for a node it does not know."""
        ...

    def uncordon(self, name: str) -> None:
        """Lift our cordon, and no one else's. Nothing happens where there is none, or no such node."""
        ...

    def busy(self, names: Collection[str]) -> Mapping[str, Workload | None]:
        """What runs there; None for an idle node."""
        ...

    def ready(self, names: Collection[str]) -> Mapping[str, bool]:
        """Whether the scheduler hears from the node: the second witness when a node falls silent."""
        ...
