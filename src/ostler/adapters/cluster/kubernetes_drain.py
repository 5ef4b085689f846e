"""Drains on Kubernetes: asking the pods of one node to leave. Called by `KubernetesCluster.drain`. See ADR 011.

A drain has no memory that matters: every call lists the pods, asks those that have not been asked, and says what is
left. Requests go out side by side, because one after the other is what makes draining slow in the field.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightkube.core.exceptions import ApiError

from ostler.adapters.bmc.port import require_permit
from ostler.adapters.cluster import kubernetes_read as read
from ostler.adapters.cluster.kubernetes_api import Api, plain
from ostler.adapters.cluster.port import DrainMode, DrainView
from ostler.core.errors import NotFound, Unavailable
from ostler.core.ids import PermitId

FORCE_GRACE_S = 30
"""What a forced pod gets to end by itself, at most; its own grace period if that is shorter."""
FORCE_MARGIN_S = 10.0
"""How long after that its node may take to say so, before the pod is deleted without waiting for the node."""
_LINES = 20
_PodDocument = Mapping[str, Any]


@dataclass
class Drains:
    """The drains of one cluster. `namespace`: where our idle runs are. `now`: a monotonic clock, in seconds."""

    api: Api
    namespace: str
    now: Callable[[], float] = time.monotonic
    _eviction: str = ""
    """The version of the eviction that this API server takes, once asked."""
    _forced: dict[str, dict[str, float]] = field(default_factory=dict)
    """Node: uid of a pod: when its short grace is over. Lost on restart, which gives the pod another one."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def drain(self, name: str, mode: DrainMode, permit: PermitId, gpus: Collection[int]) -> DrainView:
        """As the port says.

        EVICT evicts every pod that counts as work, those without an owner too, which nobody starts again. Its own
        grace period holds. A pod that asks for `ostler.dev/drain: allow-completion`, itself or through its namespace
        (what the pod says wins), is left until FORCE.
        """
        require_permit(permit, "A drain", f"{self.api.name}: {name}")
        with self.api.errors():
            if self.api.node(name) is None:
                raise NotFound(f"The cluster has no node {name!r}.", where=self.api.name)
            there: list[_PodDocument] = list(self.api.pods(name))
            ours = [pod for pod in there if read.is_idle_run(pod, self.namespace)]
            self._each([pod for pod in ours if read.is_work(pod) and not _ending(pod)], self._end_idle_run)
            work = [pod for pod in there if read.is_work(pod) and not read.is_idle_run(pod, self.namespace)]
            work, partial = _concerned(work, frozenset(gpus))
            lines: list[str] = []
            if mode is DrainMode.EVICT:
                work, lines = self._evict(work)
            elif mode is DrainMode.FORCE:
                work = self._force(name, work)
        lines += [line for pod in work if (line := _held(pod))]
        if len(lines) > _LINES:
            lines[_LINES - 1 :] = [f"and {len(lines) - _LINES + 1} more"]
        return DrainView(read.workload(work), tuple(lines), partial)

    def _each(self, pods: Sequence[_PodDocument], ask: Callable[[_PodDocument], str | None]) -> list[str | None]:
        """`ask` of every pod, side by side; all have been asked when the first error is raised."""
        tasks = [self.api.workers.submit(ask, pod) for pod in pods]
        troubles = [task.exception() for task in tasks]
        for trouble in troubles:
            if trouble is not None:
                raise trouble
        return [task.result() for task in tasks]

    def _end_idle_run(self, pod: _PodDocument) -> None:
        self.api.delete_pod(*_key(pod), grace_s=None)

    # --- EVICT ---

    def _evict(self, work: list[_PodDocument]) -> tuple[list[_PodDocument], list[str]]:
        """(what is left, the lines of those that do not leave)."""
        staying = [pod for pod in work if not _ending(pod)]
        if not staying:
            return work, []
        allowed = self._namespaces_that_complete({read.namespace_of(pod) for pod in staying})
        waiting = [pod for pod in staying if _may_complete(pod, allowed)]
        asked = [pod for pod in staying if pod not in waiting]
        lines = [f"{_title(pod)}: its owner wants it to complete; it stays until the deadline" for pod in waiting]
        if not asked:
            return work, lines
        self._eviction = self._eviction or self._eviction_version()
        answers = self._each(asked, self._evict_one)
        gone = [pod for pod, answer in zip(asked, answers, strict=True) if answer is None]
        lines += [f"{_title(pod)}: {answer}" for pod, answer in zip(asked, answers, strict=True) if answer]
        return [pod for pod in work if pod not in gone], lines

    def _evict_one(self, pod: _PodDocument) -> str | None:
        """None: it is gone. "": it was asked. Else: why it does not leave."""
        namespace, name, uid = _key(pod)
        body = {
            "apiVersion": f"policy/{self._eviction}",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        try:
            self.api.send("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", body)
        except ApiError as error:
            return self._not_evicted(error)
        return ""

    def _not_evicted(self, error: ApiError) -> str | None:
        code, said = error.status.code or 0, plain(error)
        causes = error.status.details.causes if error.status.details else None
        if code == 429 and any(cause.reason == "DisruptionBudget" for cause in causes or ()):
            why = next((plain(c.message) for c in causes or () if c.message and c.reason == "DisruptionBudget"), said)
            return f"its disruption budget allows no eviction now ({why})"
        if code == 404:
            return None
        if code == 409:
            return "it changed while it was asked to leave; it is asked again"
        if code == 500 and "more than one PodDisruptionBudget" in said:  # permanent, whatever the code says
            return "more than one disruption budget covers it, and Kubernetes then evicts nothing"
        if code == 400:  # another version of the API, after an upgrade under us
            self._eviction = ""
        if code in (400, 422) or (code == 403 and "admission webhook" in said):
            return f"the API server refuses its eviction: {said}"
        raise error

    def _eviction_version(self) -> str:
        """What this server takes on pods/eviction: `v1` since 1.22; before that only `v1beta1`, which 1.25 dropped."""
        for one in read.rows(self.api.send("GET", "/api/v1").get("resources")):
            if one.get("name") == "pods/eviction" and one.get("group") == "policy":
                return read.text(one.get("version")) or "v1"
        raise Unavailable("The API server offers no eviction of pods.", where=self.api.name)

    def _namespaces_that_complete(self, names: Collection[str]) -> frozenset[str]:
        found = set()
        for name in names:
            try:
                namespace = self.api.send("GET", f"/api/v1/namespaces/{name}")
            except ApiError as error:
                if error.status.code == 404:
                    continue
                raise
            if read.marks(namespace, read.DRAIN) == read.ALLOW_COMPLETION:
                found.add(name)
        return frozenset(found)

    # --- FORCE ---

    def _force(self, node: str, work: list[_PodDocument]) -> list[_PodDocument]:
        """First a short grace; who is still there well after it is deleted without waiting for the node."""
        with self._lock:
            before = self._forced.get(node, {})
            ends = {_key(pod)[2]: before.get(_key(pod)[2]) for pod in work}
        now = self.now()

        def ask(pod: _PodDocument) -> str | None:
            uid = _key(pod)[2]
            until = ends[uid]
            if until is None:
                grace = min(FORCE_GRACE_S, _own_grace(pod))
                if not self.api.delete_pod(*_key(pod), grace_s=max(1, grace)):
                    return "gone"
                ends[uid] = now + grace + FORCE_MARGIN_S
            elif now >= until:
                held = read.table(pod, "metadata").get("finalizers")
                if not self.api.delete_pod(*_key(pod), grace_s=0) or not held:
                    ends[uid] = None
                    return "gone"
            return None

        try:
            answers = self._each(work, ask)
        finally:
            with self._lock:
                kept = {uid: until for uid, until in ends.items() if until is not None}
                if kept:
                    self._forced[node] = kept
                else:
                    self._forced.pop(node, None)
        return [pod for pod, answer in zip(work, answers, strict=True) if answer is None]


def _concerned(work: list[_PodDocument], gpus: frozenset[int]) -> tuple[list[_PodDocument], bool]:
    """(the pods that have to go, whether that is only the ones on these GPUs)."""
    held = [(pod, read.held_gpus(pod)) for pod in work]
    if not gpus or any(some is None for _, some in held):
        return work, False
    return [pod for pod, some in held if some and some & gpus], True


def _may_complete(pod: _PodDocument, namespaces: frozenset[str]) -> bool:
    own = read.marks(pod, read.DRAIN)
    return own == read.ALLOW_COMPLETION if own else read.namespace_of(pod) in namespaces


def _key(pod: _PodDocument) -> tuple[str, str, str]:
    """(namespace, name, uid)."""
    metadata = read.table(pod, "metadata")
    return str(metadata["namespace"]), str(metadata["name"]), str(metadata["uid"])


def _title(pod: _PodDocument) -> str:
    return f"{read.namespace_of(pod)}/{read.name_of(pod)}"


def _ending(pod: _PodDocument) -> bool:
    return bool(read.table(pod, "metadata").get("deletionTimestamp"))


def _own_grace(pod: _PodDocument) -> int:
    found = read.table(pod, "spec").get("terminationGracePeriodSeconds")
    return found if isinstance(found, int) and found >= 0 else FORCE_GRACE_S


def _held(pod: _PodDocument) -> str:
    """A pod that was told to end and cannot vanish, because somebody's finalizer holds it."""
    finalizers = read.table(pod, "metadata").get("finalizers")
    if not _ending(pod) or not isinstance(finalizers, list) or not finalizers:
        return ""
    return f"{_title(pod)}: it was asked to leave, and the finalizer {read.text(finalizers[0])} holds it"
