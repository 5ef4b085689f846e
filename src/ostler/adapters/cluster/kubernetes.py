"""Kubernetes, over lightkube: the cordon is a taint of our own. See ADR 004. Built by `app.py` per configured cluster.

`spec.unschedulable` has one bit and no owner, so Ostler leaves it to people and to other tools, and puts the taint
`ostler.dev/cordoned=<reason>:NoSchedule` beside whatever taints a node has. Taints are one list that is replaced whole,
so every change carries the version of the node that it was computed from and starts over when that has moved on.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import httpx2
import msgspec
from lightkube import Client, KubeConfig
from lightkube.core.client import FieldSelector
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.generic_resource import GenericGlobalResource, GenericNamespacedResource, create_api_info
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.types import PatchType

from ostler.adapters.cluster.port import CordonView, Workload
from ostler.core.errors import (
    BadInput,
    Conflict,
    Forbidden,
    NotFound,
    OstlerError,
    Permanent,
    Unauthenticated,
    Unavailable,
    Unreachable,
)

TAINT = "ostler.dev/cordoned"
REASON = "ostler.dev/cordon-reason"
"""Annotation with the reason in full; the taint's value has room for 63 plain characters only."""
EFFECT = "NoSchedule"
SYSTEM_NAMESPACES = frozenset({"kube-system"})
"""Pods there are the cluster's own and no reason to wait."""

_ONE_BY_ONE = 4
"""Up to this many nodes are read singly; more, by listing all."""
_PAGE = 500
_TRIES = 8
_TIMEOUT = httpx2.Timeout(15.0, connect=5.0)


class Node(GenericGlobalResource):
    """A node as plain dictionaries: a field that a newer API server knows survives our writing a list back."""

    _api_info = create_api_info("", "v1", "Node", "nodes")


class Pod(GenericNamespacedResource):
    _api_info = create_api_info("", "v1", "Pod", "pods")


class KubernetesCluster:
    """`Cluster` over one API server."""

    def __init__(self, name: str, client: Client) -> None:
        self._name = name
        self._client = client

    @classmethod
    def from_kubeconfig(cls, name: str, path: str | None = None, context: str | None = None) -> KubernetesCluster:
        """From a kubeconfig file and one of its contexts; without a path, from the pod's own service account."""
        where = path or "the service account"
        try:
            config = KubeConfig.from_file(path) if path else KubeConfig.from_service_account()
            chosen = config.get(context)
            if chosen is None:
                raise BadInput(f"There is no context {context or 'set as current'!r}.", where=where)
            client = Client(config=chosen, timeout=_TIMEOUT, field_manager="ostler", trust_env=False)
        except ConfigError as error:
            raise BadInput(f"The Kubernetes configuration cannot be used: {_plain(error)}.", where=where) from None
        except OstlerError:
            raise
        except OSError as error:
            raise BadInput(f"It cannot be read: {error.strerror or _plain(error)}.", where=where) from None
        except Exception as error:  # a YAML file can be wrong in every way there is
            raise BadInput(f"This is no kubeconfig ({type(error).__name__}).", where=where) from None
        return cls(name, client)

    @property
    def name(self) -> str:
        return self._name

    def close(self) -> None:
        self._client.close()

    def cordoned(self, names: Collection[str]) -> Mapping[str, CordonView]:
        return {name: _view(node) for name, node in self._nodes(names)}

    def cordon(self, name: str, reason: str) -> None:
        taint = {"key": TAINT, "value": slug(reason), "effect": EFFECT}

        def change(node: Node) -> dict[str, Any] | None:
            taints, mine = _split(node)
            annotated = (_metadata(node).annotations or {}).get(REASON)
            if [t.get("value") for t in mine] == [taint["value"]] and annotated == reason:
                return None
            return {"metadata": {"annotations": {REASON: reason}}, "spec": {"taints": [*taints, taint]}}

        if not self._change(name, change):
            raise NotFound(f"The cluster has no node {name!r}.", where=self._name)

    def uncordon(self, name: str) -> None:
        def change(node: Node) -> dict[str, Any] | None:
            taints, mine = _split(node)
            annotated = REASON in (_metadata(node).annotations or {})
            if not mine and not annotated:
                return None
            return {"metadata": {"annotations": {REASON: None}}, "spec": {"taints": taints or None}}

        self._change(name, change)

    def busy(self, names: Collection[str]) -> Mapping[str, Workload | None]:
        wanted = set(names)
        pods: dict[str, list[Pod]] = {name: [] for name, _ in self._nodes(wanted)}
        with self._errors():
            selectors: list[FieldSelector] = [{"spec.nodeName": name} for name in sorted(pods)]
            if len(selectors) > _ONE_BY_ONE:
                selectors = [{}]
            for fields in selectors:
                found = self._client.list(Pod, namespace="*", chunk_size=_PAGE, fields=fields or None)
                for pod in found:
                    where = (pod.get("spec") or {}).get("nodeName")
                    if where in pods and _counts(pod):
                        pods[where].append(pod)
        return {name: _workload(there) for name, there in pods.items()}

    def ready(self, names: Collection[str]) -> Mapping[str, bool]:
        return {name: _is_ready(node) for name, node in self._nodes(names)}

    def _nodes(self, names: Collection[str]) -> Iterator[tuple[str, Node]]:
        wanted = set(names)
        with self._errors():
            if len(wanted) <= _ONE_BY_ONE:
                for name in sorted(wanted):
                    node = self._get(name)
                    if node is not None:
                        yield name, node
            else:
                for node in self._client.list(Node, chunk_size=_PAGE):
                    name = _metadata(node).name or ""
                    if name in wanted:
                        yield name, node

    def _get(self, name: str) -> Node | None:
        if not _NODE_NAME.fullmatch(name):
            return None  # Kubernetes has no such name, and it would change the path that is asked for
        try:
            return self._client.get(Node, name)
        except ApiError as error:
            if error.status.code == 404:
                return None
            raise

    def _change(self, name: str, change: Callable[[Node], dict[str, Any] | None]) -> bool:
        """Apply what `change` makes of the node (None: it is as wanted); False when there is no such node."""
        with self._errors():
            for attempt in range(_TRIES):
                node = self._get(name)
                if node is None:
                    return False
                patch = change(node)
                if patch is None:
                    return True
                patch["metadata"]["resourceVersion"] = _metadata(node).resourceVersion
                try:
                    self._client.patch(Node, name, patch, patch_type=PatchType.MERGE)
                    return True
                except ApiError as error:
                    if error.status.code == 404:
                        return False
                    if error.status.code != 409 or attempt == _TRIES - 1:
                        raise
                    # who lost to the other once should not lose in step with it again; 2.5 s in all at the most
                    time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - no secret
        return True

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The client's errors in our words."""
        try:
            yield
        except ApiError as error:
            self._refused(error)
        except httpx2.HTTPStatusError as error:
            raise Unavailable(f"The API server answered HTTP {error.response.status_code}.", where=self._name) from None
        except httpx2.TimeoutException:
            raise Unreachable("The API server does not answer: no answer in time.", where=self._name) from None
        except httpx2.TransportError as error:
            raise Unreachable(f"The API server does not answer: {_plain(error)}.", where=self._name) from None
        except ConfigError as error:
            raise Permanent(f"The credentials cannot be had: {_plain(error)}.", where=self._name) from None
        except (msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError, httpx2.HTTPError):
            raise BadInput("What answers here is no Kubernetes API server.", where=self._name) from None

    def _refused(self, error: ApiError) -> NoReturn:
        code, said = error.status.code or 0, _plain(error)
        if code == 401:
            raise Unauthenticated("The API server does not know these credentials.", where=self._name) from None
        if code == 403:
            raise Forbidden(f"The API server forbids it: {said}.", where=self._name) from None
        if code == 404:
            raise NotFound(f"{said}.", where=self._name) from None
        if code == 409:
            raise Unavailable("The node keeps changing under us.", where=self._name, delay=2.0) from None
        if code == 429 or code >= 500:
            raise Unavailable(f"The API server is busy (HTTP {code}): {said}.", where=self._name) from None
        raise Conflict(f"The API server refuses (HTTP {code}): {said}.", where=self._name) from None


_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def slug(reason: str) -> str:
    """A reason as a taint's value: at most 63 letters, digits, `-_.`, with a letter or digit at both ends."""
    plain = re.sub(r"[^A-Za-z0-9_.]+", "-", reason)[:63].strip("-_.")
    return plain or "cordoned"


def _split(node: Node) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(others' taints as they stand, ours)."""
    taints = (node.get("spec") or {}).get("taints") or []
    mine = [taint for taint in taints if taint.get("key") == TAINT and taint.get("effect") == EFFECT]
    return [taint for taint in taints if taint not in mine], mine


def _metadata(found: Node | Pod) -> ObjectMeta:
    return found.metadata or ObjectMeta()


def _view(node: Node) -> CordonView:
    return CordonView(ours=bool(_split(node)[1]), others=(node.get("spec") or {}).get("unschedulable") is True)


def _is_ready(node: Node) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _counts(pod: Pod) -> bool:
    """Whether the pod is work that would be lost: no daemon, no static pod, not ended, not the cluster's own."""
    metadata, status = _metadata(pod), pod.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed") or metadata.namespace in SYSTEM_NAMESPACES:
        return False
    if "kubernetes.io/config.mirror" in (metadata.annotations or {}):
        return False
    return not any(owner.kind == "DaemonSet" for owner in metadata.ownerReferences or ())


def _workload(pods: list[Pod]) -> Workload | None:
    if not pods:
        return None
    jobs = set()
    for pod in pods:
        metadata = _metadata(pod)
        owner = next((o.name for o in metadata.ownerReferences or () if o.controller), metadata.name)
        jobs.add(f"{metadata.namespace}/{owner}")
    return Workload(len(pods), tuple(sorted(jobs)))


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
