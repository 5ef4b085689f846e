"""A cluster in memory, for tests of everything above the port. Passes the same contract tests as the real one."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ostler.adapters.cluster.port import CordonView, Workload
from ostler.core.errors import NotFound, Unreachable


@dataclass
class FakeNode:
    """Tests read and set the fields freely."""

    others: bool = False
    reason: str | None = None
    """Our cordon's, when there is one."""
    ready: bool = True
    workload: Workload | None = None


@dataclass
class FakeCluster:
    """`Cluster` over `nodes`."""

    name: str = "fake"
    nodes: dict[str, FakeNode] = field(default_factory=dict)
    unreachable: bool = False
    calls: list[tuple[str, str]] = field(default_factory=list)
    """("cordon" or "uncordon", node), in order."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, name: str) -> FakeNode:
        self.nodes[name] = FakeNode()
        return self.nodes[name]

    def _known(self, names: Collection[str]) -> dict[str, FakeNode]:
        if self.unreachable:
            raise Unreachable("The cluster does not answer: connection refused.", where=self.name)
        return {name: self.nodes[name] for name in names if name in self.nodes}

    def cordoned(self, names: Collection[str]) -> Mapping[str, CordonView]:
        return {name: CordonView(n.reason is not None, n.others) for name, n in self._known(names).items()}

    def cordon(self, name: str, reason: str) -> None:
        with self._lock:
            known = self._known((name,))
            if name not in known:
                raise NotFound(f"The cluster has no node {name!r}.", where=self.name)
            known[name].reason = reason
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
