"""The subjects of the cluster contract: the fake, and Kubernetes over a real API server."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml
from lightkube import ApiError, Client, KubeConfig
from lightkube.core.resource import ApiInfo, ResourceDef
from lightkube.generic_resource import GenericNamespacedResource, GenericNamespacedStatus, create_api_info
from lightkube.models.core_v1 import NodeCondition, NodeSpec, NodeStatus, Taint
from lightkube.models.meta_v1 import ObjectMeta, OwnerReference
from lightkube.resources import core_v1
from lightkube.types import PatchType

from ostler.adapters.cluster.fake import FakeCluster
from ostler.adapters.cluster.kubernetes import KubernetesCluster
from ostler.adapters.cluster.kubernetes_api import Api, Node, Pod
from ostler.adapters.cluster.kubernetes_idle import CONTAINER
from ostler.adapters.cluster.port import Cluster, IdlePhase, IdleView, Workload
from tests import kubernetes_server

_numbers = itertools.count()


class RunJob(Protocol):
    def __call__(self, name: str, job: str, gpus: int = 0) -> None:
        """One pod of a job in the namespace `default`, on the node `name`."""
        ...


@dataclass
class Subject:
    """A cluster under test with an empty set of names of its own, and the hands that others have on it."""

    cluster: Cluster
    add: Callable[[], str]
    others_cordon: Callable[[str, bool], None]
    set_ready: Callable[[str, bool], None]
    run_job: RunJob
    block: Callable[[str, str, bool], None]
    """(node, job name, on): its disruption budget allows no eviction, or allows it again."""
    settle: Callable[[str], None]
    """What a node does in time: work that was told to leave has left."""
    move_run: Callable[[str, IdleView], None]
    """(reference, how far it is): what scheduler and node make of an idle run."""


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running API server's kubeconfig, one for all tests of this process."""
    with ExitStack() as stack:
        try:
            path = stack.enter_context(kubernetes_server.running(tmp_path_factory.mktemp("kubernetes")))
        except kubernetes_server.Absent as absent:
            if os.environ.get("CI"):
                pytest.fail(f"Kubernetes is needed here: {absent}")
            pytest.skip(str(absent))
        yield path


@pytest.fixture
def client(kubeconfig: Path) -> Iterator[Client]:
    """An administrator beside Ostler."""
    config = KubeConfig.from_file(kubeconfig).get()
    with Client(config=config, trust_env=False) as client:
        yield client


def add_node(client: Client, taints: list[dict[str, Any]] | None = None) -> str:
    name = f"gpu-{next(_numbers):04}"
    spec = NodeSpec(taints=[Taint(**taint) for taint in taints or ()])
    client.create(core_v1.Node(metadata=ObjectMeta(name=name), spec=spec))
    return name


def taints(client: Client, name: str) -> list[dict[str, Any]]:
    """As they stand, except the not-ready taint that admission gives to every new node."""
    found = (client.get(Node, name).get("spec") or {}).get("taints") or []
    return [taint for taint in found if taint["key"] != "node.kubernetes.io/not-ready"]


def container(gpus: int = 0, resource: str = "nvidia.com/gpu") -> dict[str, Any]:
    limits = {"limits": {resource: str(gpus)}} if gpus else {}
    return {"name": "c", "image": "busybox", "resources": limits}


def add_pod(
    client: Client,
    node: str,
    *,
    owner: str = "",
    kind: str = "Job",
    namespace: str = "default",
    annotations: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    finalizers: list[str] | None = None,
    phase: str = "Running",
    **spec: Any,
) -> str:
    """A pod as its node has it: bound and, unless said otherwise, running. Answers its name."""
    reference = OwnerReference(apiVersion="batch/v1", kind=kind, name=owner, uid=owner, controller=True)
    metadata = ObjectMeta(
        generateName="pod-",
        annotations=annotations,
        labels={"job": owner or "none", **(labels or {})},
        finalizers=finalizers,
        ownerReferences=[reference] if owner else None,
    )
    document = {"nodeName": node, "containers": [container()], **spec}
    made = client.create(Pod(metadata=metadata, spec=document), namespace=namespace)
    assert made.metadata is not None and made.metadata.name is not None
    # budgets protect ready pods only
    ready = [{"type": "Ready", "status": "True"}] if phase == "Running" else []
    set_pod_status(client, namespace, made.metadata.name, {"phase": phase, "conditions": ready})
    return made.metadata.name


def set_pod_status(client: Client, namespace: str, name: str, status: dict[str, Any]) -> None:
    """As its node would."""
    patch = {"status": status}
    client.patch(core_v1.PodStatus, name, patch, namespace=namespace, patch_type=PatchType.STRATEGIC)


def pods_on(client: Client, node: str) -> list[Pod]:
    return list(client.list(Pod, namespace="*", fields={"spec.nodeName": node}))


def end_pods(client: Client, node: str) -> None:
    """As the node does when the grace period of a pod that was told to end is over."""
    for pod in pods_on(client, node):
        assert pod.metadata is not None and pod.metadata.name is not None
        if pod.metadata.deletionTimestamp:
            client.delete(Pod, pod.metadata.name, namespace=pod.metadata.namespace, grace_period=0)


class Budget(GenericNamespacedResource):
    """A disruption budget in the version that the API server of the tests has."""

    _api_info = create_api_info("policy", "v1beta1", "PodDisruptionBudget", "poddisruptionbudgets")


class Binding(GenericNamespacedStatus):
    """As plain dictionaries, for the API server answers with a status where the typed one expects a binding."""

    _api_info = ApiInfo(
        resource=ResourceDef("", "v1", "Binding"),
        parent=ResourceDef("", "v1", "Pod"),
        plural="pods",
        verbs=["post"],
        action="binding",
    )


class BudgetStatus(GenericNamespacedStatus):
    _api_info = ApiInfo(
        resource=ResourceDef("policy", "v1beta1", "PodDisruptionBudget"),
        parent=ResourceDef("policy", "v1beta1", "PodDisruptionBudget"),
        plural="poddisruptionbudgets",
        verbs=["get", "patch", "put"],
        action="status",
    )


def set_budget(client: Client, job: str, allowed: int, name: str = "") -> None:
    """A budget over a job's pods, and the status that the disruption controller would give it."""
    name = name or f"budget-of-{job}"
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"job": job}}}
    with suppress(ApiError):
        client.create(Budget(metadata=ObjectMeta(name=name), spec=spec), namespace="default")
    counts = {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}
    patch = {"status": {**counts, "observedGeneration": 1}}
    client.patch(BudgetStatus, name, patch, namespace="default", patch_type=PatchType.MERGE)


def _fake() -> Subject:
    fake = FakeCluster()

    def add() -> str:
        name = f"gpu-{next(_numbers):04}"
        fake.add(name).ready = False
        return name

    def others_cordon(name: str, on: bool) -> None:
        fake.nodes[name].others = on

    def set_ready(name: str, on: bool) -> None:
        fake.nodes[name].ready = on

    def run_job(name: str, job: str, gpus: int = 0) -> None:
        old = fake.nodes[name].workload
        jobs = sorted({*(old.jobs if old else ()), f"default/{job}"})
        fake.nodes[name].workload = Workload((old.pods if old else 0) + 1, tuple(jobs))

    def block(name: str, job: str, on: bool) -> None:
        fake.nodes[name].blocked = (f"default/{job}-0: its disruption budget allows no eviction now",) if on else ()

    def move_run(reference: str, view: IdleView) -> None:
        if view.phase is IdlePhase.STOPPED:
            del fake.runs[reference]
        else:
            fake.runs[reference].view = view

    return Subject(fake, add, others_cordon, set_ready, run_job, block, lambda name: None, move_run)


@pytest.fixture(scope="session")
def ostlers_kubeconfig(kubeconfig: Path) -> Path:
    """The service account of docs/kubernetes-rbac.yaml: with it the tests prove that the rights there suffice."""
    manifest = Path(__file__).parents[3] / "docs" / "kubernetes-rbac.yaml"
    admin = Api.from_kubeconfig("admin", str(kubeconfig), None)
    for document in yaml.safe_load_all(manifest.read_text()):
        space = f"/namespaces/{document['metadata']['namespace']}" if "namespace" in document["metadata"] else ""
        root = "/api/v1" if document["apiVersion"] == "v1" else f"/apis/{document['apiVersion']}"
        plural = document["kind"].lower() + ("es" if document["kind"].endswith("s") else "s")
        admin.send("POST", f"{root}{space}/{plural}", document)
    answer = admin.send("POST", "/api/v1/namespaces/ostler/serviceaccounts/ostler/token", {"spec": {"audiences": []}})
    admin.close()
    config = json.loads(kubeconfig.read_text())
    config["users"] = [{"name": "ostler", "user": {"token": answer["status"]["token"]}}]
    config["contexts"] = [{"name": "ostler", "context": {"cluster": "c", "user": "ostler"}}]
    config["current-context"] = "ostler"
    path = kubeconfig.parent / "ostlers-kubeconfig"
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
def cluster(ostlers_kubeconfig: Path) -> Iterator[KubernetesCluster]:
    """Ostler's side of the real cluster, with no more rights than the documentation asks for."""
    found = KubernetesCluster.from_kubeconfig("real", str(ostlers_kubeconfig), idle_image="ostler:test")
    yield found
    found.close()


@pytest.fixture(params=["fake", "kubernetes"])
def subject(request: pytest.FixtureRequest) -> Subject:
    if request.param == "fake":
        return _fake()
    client: Client = request.getfixturevalue("client")

    def others_cordon(name: str, on: bool) -> None:
        client.patch(Node, name, {"spec": {"unschedulable": on}}, patch_type=PatchType.MERGE)

    def set_ready(name: str, on: bool) -> None:
        condition = NodeCondition(type="Ready", status="True" if on else "False", reason="Test", message="")
        status = core_v1.NodeStatus(status=NodeStatus(conditions=[condition]))
        client.patch(core_v1.NodeStatus, name, status, patch_type=PatchType.STRATEGIC)

    def run_job(name: str, job: str, gpus: int = 0) -> None:
        add_pod(client, name, owner=job, containers=[container(gpus)])

    def move_run(reference: str, view: IdleView) -> None:
        move_idle_pod(client, reference, view)

    return Subject(
        request.getfixturevalue("cluster"),
        lambda: add_node(client),
        others_cordon,
        set_ready,
        run_job,
        lambda name, job, on: set_budget(client, job, 0 if on else 5),
        lambda name: end_pods(client, name),
        move_run,
    )


def bind_pod(client: Client, namespace: str, name: str, node: str) -> None:
    """As the scheduler does."""
    binding = Binding(metadata=ObjectMeta(name=name), target={"kind": "Node", "name": node})
    client._client.request("post", obj=binding, name=name, namespace=namespace)


def move_idle_pod(client: Client, reference: str, view: IdleView) -> None:
    """What scheduler and kubelet would make of the pod of an idle run. Stopped: preempted."""
    namespace, name = reference.split("/")
    pod = client.get(Pod, name, namespace=namespace)
    assert pod.metadata is not None and pod.metadata.annotations is not None
    if view.phase is IdlePhase.STOPPED:
        client.delete(Pod, name, namespace=namespace, grace_period=0)
        return
    if "nodeName" not in pod["spec"]:
        node = pod.metadata.annotations["ostler.dev/node"]
        bind_pod(client, namespace, name, node)
    if view.phase is IdlePhase.RUNNING:
        set_pod_status(client, namespace, name, {"phase": "Running"})
        return
    ended = {"exitCode": view.exit_status, "reason": "Error" if view.exit_status else "Completed"}
    state = {"terminated": {**ended, "message": view.output}}
    named: dict[str, Any] = {"name": CONTAINER, "image": "", "imageID": "", "ready": False, "restartCount": 0}
    phase = "Failed" if view.exit_status else "Succeeded"
    set_pod_status(client, namespace, name, {"phase": phase, "containerStatuses": [{**named, "state": state}]})
