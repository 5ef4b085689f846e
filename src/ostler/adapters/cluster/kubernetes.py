"""Kubernetes, over lightkube: the cordon is a taint of our own (ADR 004). Built by `ground.py` per configured cluster.

`spec.unschedulable` has one bit and no owner, so Ostler leaves it to people and to other tools, and puts the taint
`ostler.dev/cordoned=<reason>:NoSchedule` beside whatever taints a node has. Taints are one list that is replaced whole,
so every change carries the version of the node that it was computed from and starts over when that has moved on.

Drains are in `kubernetes_drain`, idle runs in `kubernetes_idle`, the reading of documents in `kubernetes_read`.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from lightkube.core.exceptions import ApiError
from lightkube.types import PatchType

from ostler.adapters.cluster import kubernetes_read as read
from ostler.adapters.cluster.kubernetes_api import PAGE, Api, Node
from ostler.adapters.cluster.kubernetes_drain import Drains
from ostler.adapters.cluster.kubernetes_idle import IdleRuns, IdleSettings
from ostler.adapters.cluster.port import ClusterNode, CordonView, DrainMode, DrainView, IdleRun, IdleView, Workload
from ostler.core.errors import NotFound
from ostler.core.ids import PermitId

REASON = "ostler.dev/cordon-reason"
"""Annotation with the reason in full; the taint's value has room for 63 plain characters only."""

_ONE_BY_ONE = 4
"""Up to this many nodes are read singly; more, by listing all."""
_TRIES = 8


class KubernetesCluster:
    """`Cluster` over one API server."""

    def __init__(self, api: Api, idle: IdleSettings = IdleSettings()) -> None:
        self._api = api
        self._namespace = idle.namespace
        self._drains = Drains(api, idle.namespace)
        self._idle = IdleRuns(api, idle)

    @classmethod
    def from_kubeconfig(
        cls,
        name: str,
        path: str | None = None,
        context: str | None = None,
        *,
        namespace: str = IdleSettings.namespace,
        idle_image: str = IdleSettings.image,
        idle_tolerations: tuple[str, ...] = IdleSettings.tolerations,
        idle_runtime_class: str = IdleSettings.runtime_class,
    ) -> KubernetesCluster:
        """From a kubeconfig file and one of its contexts; without a path, from the pod's own service account."""
        idle = IdleSettings(namespace, idle_image, idle_tolerations, idle_runtime_class)
        return cls(Api.from_kubeconfig(name, path, context), idle)

    @property
    def name(self) -> str:
        return self._api.name

    def close(self) -> None:
        self._api.close()

    def cordoned(self, names: Collection[str]) -> Mapping[str, CordonView]:
        return {name: read.cordon_view(node) for name, node in self._nodes(names)}

    def cordon(self, name: str, reason: str) -> None:
        taint = {"key": read.TAINT, "value": slug(reason), "effect": read.EFFECT}

        def change(node: Node) -> dict[str, Any] | None:
            taints, mine = read.split_taints(node)
            annotated = read.table(node, "metadata", "annotations").get(REASON)
            if [t.get("value") for t in mine] == [taint["value"]] and annotated == reason:
                return None
            return {"metadata": {"annotations": {REASON: reason}}, "spec": {"taints": [*taints, taint]}}

        if not self._change(name, change):
            raise NotFound(f"The cluster has no node {name!r}.", where=self.name)

    def uncordon(self, name: str) -> None:
        def change(node: Node) -> dict[str, Any] | None:
            taints, mine = read.split_taints(node)
            annotated = REASON in read.table(node, "metadata", "annotations")
            if not mine and not annotated:
                return None
            return {"metadata": {"annotations": {REASON: None}}, "spec": {"taints": taints or None}}

        self._change(name, change)

    def busy(self, names: Collection[str]) -> Mapping[str, Workload | None]:
        pods: dict[str, list[Mapping[str, Any]]] = {name: [] for name, _ in self._nodes(names)}
        with self._api.errors():
            listed: list[str | None] = [None] if len(pods) > _ONE_BY_ONE else list(pods)
            for wanted in listed:
                for pod in self._api.pods(wanted):
                    where = read.table(pod, "spec").get("nodeName")
                    if where in pods and read.is_work(pod) and not read.is_idle_run(pod, self._namespace):
                        pods[where].append(pod)
        return {name: read.workload(there) for name, there in pods.items()}

    def ready(self, names: Collection[str]) -> Mapping[str, bool]:
        return {name: read.is_ready(node) for name, node in self._nodes(names)}

    def drain(
        self, name: str, mode: DrainMode, reason: str, *, permit: PermitId, gpus: Collection[int] = ()
    ) -> DrainView:
        """See `kubernetes_drain`. An eviction has no room for `reason`: it stands in the cordon's annotation."""
        return self._drains.drain(name, mode, permit, gpus)

    def inventory(self) -> Iterator[ClusterNode]:
        with self._api.errors():
            for node in self._api.client.list(Node, chunk_size=PAGE):
                found = read.cluster_node(node)
                if found.name:
                    yield found

    def start_idle_run(self, run: IdleRun) -> str:
        return self._idle.start(run)

    def idle_run(self, reference: str) -> IdleView:
        return self._idle.look(reference)

    def end_idle_run(self, reference: str) -> None:
        self._idle.end(reference)

    def _nodes(self, names: Collection[str]) -> Iterator[tuple[str, Node]]:
        wanted = set(names)
        with self._api.errors():
            if len(wanted) <= _ONE_BY_ONE:
                for name in sorted(wanted):
                    node = self._api.node(name)
                    if node is not None:
                        yield name, node
            else:
                for node in self._api.client.list(Node, chunk_size=PAGE):
                    name = read.name_of(node)
                    if name in wanted:
                        yield name, node

    def _change(self, name: str, change: Callable[[Node], dict[str, Any] | None]) -> bool:
        """Apply what `change` makes of the node (None: it is as wanted); False when there is no such node."""
        with self._api.errors():
            for attempt in range(_TRIES):
                node = self._api.node(name)
                if node is None:
                    return False
                patch = change(node)
                if patch is None:
                    return True
                patch["metadata"]["resourceVersion"] = read.table(node, "metadata").get("resourceVersion")
                try:
                    self._api.client.patch(Node, name, patch, patch_type=PatchType.MERGE)
                    return True
                except ApiError as error:
                    if error.status.code == 404:
                        return False
                    if error.status.code != 409 or attempt == _TRIES - 1:
                        raise
                    # who lost to the other once should not lose in step with it again; 2.5 s in all at the most
                    time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - no secret
        return True


def slug(reason: str) -> str:
    """A reason as a taint's value: at most 63 letters, digits, `-_.`, with a letter or digit at both ends."""
    plain = re.sub(r"[^A-Za-z0-9_.]+", "-", reason)[:63].strip("-_.")
    return plain or "cordoned"
