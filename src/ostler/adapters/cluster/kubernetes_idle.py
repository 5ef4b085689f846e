"""Idle runs on Kubernetes: checks in a pod that gives way to any other. Called by `KubernetesCluster`. See ADR 011.

The pod holds all GPUs of its node at the lowest priority, so the scheduler itself removes it when work arrives, within
a grace period of at most 5 seconds. It is bound by affinity, not by `nodeName`: what the scheduler has not placed it
does not count as placed, and two pods would get the same GPUs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightkube.core.exceptions import ApiError

from ostler.adapters.cluster import kubernetes_read as read
from ostler.adapters.cluster.kubernetes_api import PAGE, Api, Pod, is_name, plain
from ostler.adapters.cluster.port import IdlePhase, IdleRun, IdleView
from ostler.core.errors import BadInput, NotFound, Refused

PRIORITY_CLASS = "ostler-idle"
PRIORITY = -1_000_000_000
"""Below 0, the default of pods without a class, and below -10, under which the cluster autoscaler adds no node."""
MAX_GRACE_S = 5
TERMINATION_LOG = "/dev/termination-log"
NODE = "ostler.dev/node"
CONTAINER = "checks"
_OUTPUT = 4096

_STOPPED_BY_SIGNAL = (130, 137, 143)
"""Exit statuses of a container that was interrupted, killed or told to end."""
_NEVER_STARTS = frozenset(
    {
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
_NOT_RUN = frozenset({"ContainerCannotRun", "StartError", "OOMKilled", "ContainerStatusUnknown"})


@dataclass(frozen=True)
class IdleSettings:
    """Where and in what idle runs run."""

    namespace: str = "ostler"
    image: str = ""
    """A container image with `python3` and Ostler in it, and whatever the checks need; empty: no idle runs here."""
    tolerations: tuple[str, ...] = ("nvidia.com/gpu",)
    """Keys of taints that say what GPU nodes are for, and that idle runs may therefore ignore."""
    runtime_class: str = ""
    """The RuntimeClass that gives containers their GPUs, where it is not the default; often `nvidia`."""


@dataclass(frozen=True)
class IdleRuns:
    """The idle runs of one cluster."""

    api: Api
    settings: IdleSettings

    def start(self, run: IdleRun) -> str:
        """A pod for `run`; answers `namespace/name`. Runs that an earlier caller left on the node are removed first.

        On a node that Ostler cordoned the run tolerates that cordon: who starts one there means the check after a
        repair. Others' cordon is theirs: `Refused`, as where no image is set, or the priority class is not below 0.
        """
        _check(run)
        if not self.settings.image:
            raise Refused("No image for idle runs is set (idle_image).", where=self.api.name)
        with self.api.errors():
            node = self.api.node(run.node)
            if node is None:
                raise NotFound(f"The cluster has no node {run.node!r}.", where=self.api.name)
            view = read.cordon_view(node)
            if view.others:
                raise Refused(f"Others keep work off {run.node} ({read.others_cordon(node)}).", where=self.api.name)
            self._remove_leftovers(run.node)
            made = self._create(self._document(run, cordoned=view.ours))
            reference = f"{self.settings.namespace}/{read.name_of(made)}"
            spec = read.table(made, "spec")
            priority = spec.get("priority")
            if not isinstance(priority, int) or priority >= 0 or spec.get("preemptionPolicy") != "Never":
                self.end(reference)
                raise Refused(
                    f"The priority class {PRIORITY_CLASS} is not what it should be (value {priority}, preemptionPolicy "
                    f"{spec.get('preemptionPolicy')}): idle runs would not give way. Delete it; Ostler makes it anew.",
                    where=self.api.name,
                )
        return reference

    def look(self, reference: str) -> IdleView:
        found = _parse(reference)
        if found is None:
            return IdleView(IdlePhase.STOPPED, "this is no reference to an idle run")
        with self.api.errors():
            pod = self.api.pod(*found)
            if pod is None:
                return IdleView(IdlePhase.STOPPED, "its pod is gone: preempted or deleted")
            return view_of(pod)

    def end(self, reference: str) -> None:
        found = _parse(reference)
        if found is None:
            return
        with self.api.errors():
            pod = self.api.pod(*found)
            if pod is not None and read.IDLE_RUN in read.table(pod, "metadata", "labels"):
                self._delete(pod)

    def _remove_leftovers(self, node: str) -> None:
        labels: dict[str, Any] = {read.IDLE_RUN: _mark(node)}
        for pod in self.api.client.list(Pod, namespace=self.settings.namespace, labels=labels, chunk_size=PAGE):
            self._delete(pod)

    def _delete(self, pod: Mapping[str, Any]) -> None:
        """A running pod with its own grace, after which its node says that it is gone; an ended one goes at once."""
        metadata = read.table(pod, "metadata")
        key = str(metadata["namespace"]), str(metadata["name"]), str(metadata["uid"])
        self.api.delete_pod(*key, grace_s=None)

    def _create(self, document: Mapping[str, Any]) -> dict[str, Any]:
        path = f"/api/v1/namespaces/{self.settings.namespace}/pods"
        try:
            return self.api.send("POST", path, document)
        except ApiError as error:
            lacks_class = error.status.code == 403 and "PriorityClass" in plain(error)
            if error.status.code != 404 and not lacks_class:
                raise
        self._ensure("/api/v1/namespaces", _namespace(self.settings.namespace))
        self._ensure("/apis/scheduling.k8s.io/v1/priorityclasses", _priority_class())
        return self.api.send("POST", path, document)

    def _ensure(self, path: str, document: Mapping[str, Any]) -> None:
        """Asked for first, so that where somebody else makes them Ostler needs no right to."""
        try:
            self.api.send("GET", f"{path}/{document['metadata']['name']}")
            return
        except ApiError as error:
            if error.status.code != 404:
                raise
        try:
            self.api.send("POST", path, document)
        except ApiError as error:
            if error.status.code != 409:
                raise

    def _document(self, run: IdleRun, *, cordoned: bool) -> dict[str, Any]:
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [run.node]}]}
        tolerated: list[dict[str, Any]] = [
            {"key": key, "operator": "Exists", "effect": read.EFFECT} for key in self.settings.tolerations
        ]
        if cordoned:
            tolerated.append({"key": read.TAINT, "operator": "Exists", "effect": read.EFFECT})
        for key in ("not-ready", "unreachable"):  # instead of the 300 s that a pod gets by default
            lost: dict[str, Any] = {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute"}
            tolerated.append({**lost, "tolerationSeconds": 0})
        gpus = {"nvidia.com/gpu": str(run.gpus)} if run.gpus else {}
        container = {
            "name": CONTAINER,
            "image": self.settings.image,
            "command": ["python3", "-m", "ostler.adapters.cluster.last_words", TERMINATION_LOG, *run.command],
            "resources": {"limits": gpus, "requests": gpus},
            "terminationMessagePath": TERMINATION_LOG,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": {"allowPrivilegeEscalation": False},
            "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108 - NCCL's, in the container
        }
        spec: dict[str, Any] = {
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
            },
            "priorityClassName": PRIORITY_CLASS,
            "terminationGracePeriodSeconds": max(1, min(run.grace_s, MAX_GRACE_S)),
            "activeDeadlineSeconds": run.seconds,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "tolerations": tolerated,
            "containers": [container],
            "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
        }
        if self.settings.runtime_class:
            spec["runtimeClassName"] = self.settings.runtime_class
        metadata = {
            "generateName": f"idle-{run.node[:40].strip('.-')}-".replace(".", "-"),
            "labels": {read.IDLE_RUN: _mark(run.node), "app.kubernetes.io/managed-by": "ostler"},
            "annotations": {NODE: run.node},
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def view_of(pod: Mapping[str, Any]) -> IdleView:
    """How far the run in this pod is. Only a command that came to its own end has ended; all else is stopped."""
    status = read.table(pod, "status")
    if why := _cut_short(pod):
        return IdleView(IdlePhase.STOPPED, why)
    containers = [one for one in read.rows(status.get("containerStatuses")) if one.get("name") == CONTAINER]
    state = read.table(containers[0] if containers else {}, "state")
    if status.get("phase") not in ("Succeeded", "Failed"):
        waiting = read.table(state, "waiting")
        if waiting.get("reason") in _NEVER_STARTS:
            why = f"{waiting['reason']}: {read.text(waiting.get('message'))}".rstrip(": ")
            return IdleView(IdlePhase.STOPPED, why)
        return IdleView(IdlePhase.RUNNING if status.get("phase") == "Running" else IdlePhase.WAITING)
    ended = read.table(state, "terminated")
    code, reason = ended.get("exitCode"), read.text(ended.get("reason"))
    if not isinstance(code, int) or isinstance(code, bool):
        return IdleView(IdlePhase.STOPPED, "its node did not say how it ended")
    if reason in _NOT_RUN:
        return IdleView(IdlePhase.STOPPED, f"{reason}: {read.text(ended.get('message'))}".rstrip(": "))
    if code in _STOPPED_BY_SIGNAL or ended.get("signal"):
        return IdleView(IdlePhase.STOPPED, f"it was killed (exit status {code})")
    return IdleView(IdlePhase.ENDED, _last_line(ended.get("message")), code)


def _cut_short(pod: Mapping[str, Any]) -> str:
    """Why a run was ended by others, or "": preempted, evicted, past its deadline, its node lost or full."""
    status = read.table(pod, "status")
    for one in read.rows(status.get("conditions")):
        if one.get("type") == "DisruptionTarget" and one.get("status") == "True":
            return f"{read.text(one.get('reason'))}: {read.text(one.get('message'))}".rstrip(": ")
    if reason := read.text(status.get("reason")):
        return f"{reason}: {read.text(status.get('message'))}".rstrip(": ")
    if read.table(pod, "metadata").get("deletionTimestamp"):
        return "its pod is being deleted: preempted, evicted or cancelled"
    return ""


def _last_line(message: object) -> str:
    lines = [line for line in str(message or "").split("\n") if line.strip()]
    return lines[-1].strip().encode()[-_OUTPUT:].decode(errors="ignore") if lines else ""


def _check(run: IdleRun) -> None:
    if not run.command or not 0 <= run.gpus <= 64 or run.seconds < 1:
        raise BadInput("An idle run needs a command, 0 to 64 GPUs and at least a second.", where=run.node)


def _parse(reference: str) -> tuple[str, str] | None:
    namespace, _, name = reference.partition("/")
    return (namespace, name) if is_name(namespace) and is_name(name) else None


def _mark(node: str) -> str:
    """A node as a label's value, which is shorter than a node's name may be."""
    return node if re.fullmatch(r".{1,63}", node) else hashlib.sha256(node.encode()).hexdigest()[:63]


def _namespace(name: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": "ostler"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _priority_class() -> dict[str, Any]:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": PRIORITY_CLASS, "labels": {"app.kubernetes.io/managed-by": "ostler"}},
        "value": PRIORITY,
        "preemptionPolicy": "Never",
        "globalDefault": False,
        "description": "Ostler's checks on idle nodes: any other pod goes before them.",
    }
