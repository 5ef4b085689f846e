"""Pools without a scheduler (`cluster = "none"`): a cordon is only remembered, and every node counts as idle.

The pool's own users keep work off a cordoned node; Ostler shows them which are. What is remembered is lost with the
process, and the cordon controller puts it back because the database says so.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping

from ostler.adapters.bmc.port import require_permit
from ostler.adapters.cluster.port import (
    ClusterNode,
    CordonView,
    DrainMode,
    DrainView,
    IdlePhase,
    IdleRun,
    IdleView,
    Workload,
)
from ostler.core.errors import Refused
from ostler.core.ids import PermitId


class NoCluster:
    """`Cluster` without a cluster: knows every name, never busy, and no witness (`ready` answers for no node)."""

    def __init__(self, name: str = "none") -> None:
        self._name = name
        self._reasons: dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def cordoned(self, names: Collection[str]) -> Mapping[str, CordonView]:
        with self._lock:
            return {name: CordonView(ours=name in self._reasons, others=False) for name in names}

    def cordon(self, name: str, reason: str) -> None:
        with self._lock:
            self._reasons[name] = reason

    def uncordon(self, name: str) -> None:
        with self._lock:
            self._reasons.pop(name, None)

    def busy(self, names: Collection[str]) -> Mapping[str, Workload | None]:
        return dict.fromkeys(names)

    def ready(self, names: Collection[str]) -> Mapping[str, bool]:
        return {}

    def drain(
        self, name: str, mode: DrainMode, reason: str, *, permit: PermitId, gpus: Collection[int] = ()
    ) -> DrainView:
        """Nothing is left that Ostler could ask to leave."""
        require_permit(permit, "A drain", f"{self._name}: {name}")
        return DrainView()

    def inventory(self) -> Iterator[ClusterNode]:
        return iter(())

    def start_idle_run(self, run: IdleRun) -> str:
        """`Refused`: the node's agent runs its idle checks."""
        raise Refused("This pool has no scheduler: the agent runs the checks there.", where=self._name)

    def idle_run(self, reference: str) -> IdleView:
        return IdleView(IdlePhase.STOPPED, "this pool has no scheduler")

    def end_idle_run(self, reference: str) -> None:
        return
