"""What Ostler asks of a cluster scheduler. Called by the cordon controller, drains, idle checks and `ostler adopt`.

Ostler's cordon is a mark of its own beside everyone else's: setting it changes nothing that others set, and lifting it
frees the node only if nobody else holds it. Every call may raise `Unreachable` or `Unavailable` (temporary), and
`Unauthenticated`, `Forbidden` or `BadInput` (permanent). Implementations may be used from several threads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from ostler.core.ids import PermitId


@dataclass(frozen=True)
class CordonView:
    """Who keeps new work off a node: Ostler, others, both or nobody."""

    ours: bool
    others: bool


@dataclass(frozen=True)
class Workload:
    """What runs on a node, or is about to."""

    pods: int
    """Pods (or batch jobs) that would be lost with the node: no daemons, no idle checks of ours, nothing that ended."""
    jobs: tuple[str, ...]
    """What they belong to, `namespace/owner` or the job's id, sorted: nodes that share one are one for the brake."""


class DrainMode(StrEnum):
    """How running work is asked to leave."""

    ALLOW_COMPLETION = "allow-completion"
    """Nothing is evicted: the drain waits until the work has ended by itself."""
    EVICT = "evict"
    """Work is asked to leave, as its disruption budget allows; what the budget protects stays until the deadline."""
    FORCE = "force"
    """The deadline has passed, or the work is lost already: what is left is ended, budget or not."""


@dataclass(frozen=True)
class DrainView:
    """How far a drain is. Nothing left: the node is drained."""

    left: Workload | None = None
    blocked: tuple[str, ...] = ()
    """What does not leave, and why, one line each: `ml/trainer-0: its disruption budget allows no eviction now`."""
    partial: bool = False
    """Only the work on the named GPUs was asked to leave; the rest of the node works on."""


@dataclass(frozen=True)
class ClusterNode:
    """A node as its scheduler knows it, for `ostler adopt`. Empty where the scheduler does not say."""

    name: str
    ready: bool
    cordoned_by_others: str = ""
    """The reason somebody else gave for keeping work off it."""
    serial: str = ""
    uuid: str = ""
    sku: str = ""
    slot: str = ""
    """SITE/ROW/RACK/U, from labels or topology where there are such."""
    addresses: tuple[str, ...] = ()
    gpus: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class IdleRun:
    """Active checks that run under the scheduler's own rule, so that any workload preempts them."""

    node: str
    command: tuple[str, ...]
    """argv on the node; its last line of output is the JSON document that `IdleView.output` carries."""
    gpus: int
    seconds: int
    """Wall-clock limit."""
    grace_s: int = 5
    """From the preemption to the kill, at most."""


class IdlePhase(StrEnum):
    """Where an idle run is."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"
    STOPPED = "stopped"
    """Preempted, cancelled or lost: its checks are inconclusive, whatever they said."""


@dataclass(frozen=True)
class IdleView:
    phase: IdlePhase
    output: str = ""
    """Ended: the last words of the command, at most 4 KiB. Stopped: why."""
    exit_status: int | None = None


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

    def drain(
        self, name: str, mode: DrainMode, reason: str, *, permit: PermitId, gpus: Collection[int] = ()
    ) -> DrainView:
        """Ask the work of a node to leave, and say what is left. Safe to repeat: callers look again until it is empty.

        `gpus`: indices of the GPUs concerned, when only their work has to go; where the scheduler cannot tell whose
        they are, all work goes. `NotFound` for a node it does not know, `Refused` without a permit. Never lifts or
        replaces anybody's cordon.
        """
        ...

    def inventory(self) -> Iterator[ClusterNode]:
        """Every node of the cluster, read only."""
        ...

    def start_idle_run(self, run: IdleRun) -> str:
        """Submit checks at the lowest priority, holding all GPUs of the node; returns a reference. `NotFound`."""
        ...

    def idle_run(self, reference: str) -> IdleView:
        """How far a run is; one that the scheduler has forgotten is `stopped`."""
        ...

    def end_idle_run(self, reference: str) -> None:
        """Cancel it and remove what is left of it; nothing happens where there is nothing."""
        ...
