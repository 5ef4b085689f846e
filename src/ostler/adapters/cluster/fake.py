"""A cluster in memory, for tests of everything above the port. Passes the same contract tests as the real one."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

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
from ostler.core.errors import NotFound, Refused, Unreachable
from ostler.core.ids import PermitId


@dataclass
class FakeNode:
    """Tests read and set the fields freely."""

    others: bool = False
    reason: str | None = None
    """Our cordon's, when there is one."""
    ready: bool = True
    workload: Workload | None = None
    drain_looks: int = 1
    """How many looks a drain takes in which the work is still leaving; 0: it is gone at once."""
    blocked: tuple[str, ...] = ()
    """While not empty, the work stays unless it is forced to leave, and these lines say why."""
    gpu_jobs: dict[int, Workload] | None = None
    """What runs on which GPU, where this scheduler can tell. Its work is `workload` as well."""
    known: ClusterNode | None = None
    """What the inventory says of it, beside its readiness."""


@dataclass
class FakeRun:
    """An idle run. Tests set `view`; the first look at a run sees it."""

    run: IdleRun
    view: IdleView = IdleView(IdlePhase.WAITING)


@dataclass
class FakeCluster:
    """`Cluster` over `nodes`."""

    name: str = "fake"
    nodes: dict[str, FakeNode] = field(default_factory=dict)
    unreachable: bool = False
    calls: list[tuple[str, str]] = field(default_factory=list)
    """("cordon", "uncordon", or "drain" and its mode: "drain evict"; and the node), in order."""
    permits: list[PermitId] = field(default_factory=list)
    """Of the drains, in order."""
    runs: dict[str, FakeRun] = field(default_factory=dict)
    idle_view: IdleView = IdleView(IdlePhase.WAITING)
    """What a new idle run's first look sees."""
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, name: str) -> FakeNode:
        self.nodes[name] = FakeNode()
        return self.nodes[name]

    def _known(self, names: Collection[str]) -> dict[str, FakeNode]:
        if self.unreachable:
            raise Unreachable("The cluster does not answer: connection refused.", where=self.name)
        return {name: self.nodes[name] for name in names if name in self.nodes}

    def _one(self, name: str) -> FakeNode:
        known = self._known((name,))
        if name not in known:
            raise NotFound(f"The cluster has no node {name!r}.", where=self.name)
        return known[name]

    def cordoned(self, names: Collection[str]) -> Mapping[str, CordonView]:
        return {name: CordonView(n.reason is not None, n.others) for name, n in self._known(names).items()}

    def cordon(self, name: str, reason: str) -> None:
        with self._lock:
            self._one(name).reason = reason
            self.calls.append(("cordon", name))

    def uncordon(self, name: str) -> None:
        with self._lock:
            for node in self._known((name,)).values():
                node.reason = None
            self.calls.append(("uncordon", name))

    def busy(self, names: Collection[str]) -> Mapping[str, Workload | None]:
        return {name: node.workload for name, node in self._known(names).items()}

    def ready(self, names: Collection[str]) -> Mapping[str, bool]:
        return {name: node.ready for name, node in self._known(names).items()}

    def drain(
        self, name: str, mode: DrainMode, reason: str, *, permit: PermitId, gpus: Collection[int] = ()
    ) -> DrainView:
        require_permit(permit, "A drain", f"{self.name}: {name}")
        with self._lock:
            node = self._one(name)
            self.calls.append((f"drain {mode}", name))
            self.permits.append(permit)
            for one in self.runs.values():
                if one.run.node == name and one.view.phase in (IdlePhase.WAITING, IdlePhase.RUNNING):
                    one.view = IdleView(IdlePhase.STOPPED, "its pod is gone: preempted or deleted")
            partial = bool(gpus) and (node.gpu_jobs is not None or node.workload is None)
            left = self._on(node, gpus) if partial else node.workload
            if left is None or mode is DrainMode.ALLOW_COMPLETION:
                return DrainView(left, (), partial)
            if mode is DrainMode.EVICT and node.blocked:
                return DrainView(left, node.blocked, partial)
            node.drain_looks -= 1
            if node.drain_looks >= 0:
                return DrainView(left, (), partial)
            self._leave(node, gpus if partial else ())
            return DrainView(None, (), partial)

    def _on(self, node: FakeNode, gpus: Collection[int]) -> Workload | None:
        found = {work.jobs: work for gpu, work in (node.gpu_jobs or {}).items() if gpu in gpus}
        if not found:
            return None
        jobs = sorted({job for work in found.values() for job in work.jobs})
        return Workload(sum(work.pods for work in found.values()), tuple(jobs))

    def _leave(self, node: FakeNode, gpus: Collection[int]) -> None:
        left = self._on(node, gpus) if gpus else node.workload
        if node.gpu_jobs is not None and left is not None:
            node.gpu_jobs = {gpu: work for gpu, work in node.gpu_jobs.items() if not set(work.jobs) & set(left.jobs)}
        if left is not None and node.workload is not None:
            rest = tuple(job for job in node.workload.jobs if job not in left.jobs)
            node.workload = Workload(max(1, node.workload.pods - left.pods), rest) if rest else None

    def inventory(self) -> Iterator[ClusterNode]:
        for name, node in self._known(list(self.nodes)).items():
            if node.known is not None:
                yield node.known
            else:
                yield ClusterNode(name, node.ready, "unschedulable" if node.others else "")

    def start_idle_run(self, run: IdleRun) -> str:
        with self._lock:
            if self._one(run.node).others:
                raise Refused(f"Others keep work off {run.node} (unschedulable).", where=self.name)
            for reference in [r for r, one in self.runs.items() if one.run.node == run.node]:
                del self.runs[reference]
            reference = f"ostler/idle-{run.node}-{next(self._numbers)}"
            self.runs[reference] = FakeRun(run, self.idle_view)
            return reference

    def idle_run(self, reference: str) -> IdleView:
        self._known(())
        found = self.runs.get(reference)
        return found.view if found else IdleView(IdlePhase.STOPPED, "its pod is gone: preempted or deleted")

    def end_idle_run(self, reference: str) -> None:
        with self._lock:
            self._known(())
            self.runs.pop(reference, None)
