"""The subjects of the cluster contract: the fake, and Kubernetes over a real API server."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lightkube import Client, KubeConfig
from lightkube.models.core_v1 import Container, NodeCondition, NodeSpec, NodeStatus, PodSpec, Taint
from lightkube.models.meta_v1 import ObjectMeta, OwnerReference
from lightkube.resources import core_v1
from lightkube.types import PatchType

from ostler.adapters.cluster.fake import FakeCluster
from ostler.adapters.cluster.kubernetes import KubernetesCluster, Node
from ostler.adapters.cluster.port import Cluster, Workload
from tests import kubernetes_server

_numbers = itertools.count()


@dataclass
class Subject:
    """A cluster under test with an empty set of names of its own, and the hands that others have on it."""

    cluster: Cluster
    add: Callable[[], str]
    others_cordon: Callable[[str, bool], None]
    set_ready: Callable[[str, bool], None]
    run_job: Callable[[str, str], None]
    """(node, job name): one pod of a job in the namespace `default`."""


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


def add_pod(
    client: Client,
    node: str,
    *,
    owner: str = "",
    kind: str = "Job",
    namespace: str = "default",
    annotations: dict[str, str] | None = None,
) -> None:
    reference = OwnerReference(apiVersion="batch/v1", kind=kind, name=owner, uid=owner, controller=True)
    metadata = ObjectMeta(generateName="pod-", annotations=annotations, ownerReferences=[reference] if owner else None)
    spec = PodSpec(nodeName=node, containers=[Container(name="c", image="busybox")])
    client.create(core_v1.Pod(metadata=metadata, spec=spec), namespace=namespace)


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

    def run_job(name: str, job: str) -> None:
        old = fake.nodes[name].workload
        jobs = sorted({*(old.jobs if old else ()), f"default/{job}"})
        fake.nodes[name].workload = Workload((old.pods if old else 0) + 1, tuple(jobs))

    return Subject(fake, add, others_cordon, set_ready, run_job)


@pytest.fixture
def cluster(kubeconfig: Path) -> Iterator[KubernetesCluster]:
    """Ostler's side of the real cluster."""
    found = KubernetesCluster.from_kubeconfig("real", str(kubeconfig))
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

    def run_job(name: str, job: str) -> None:
        add_pod(client, name, owner=job)

    return Subject(request.getfixturevalue("cluster"), lambda: add_node(client), others_cordon, set_ready, run_job)
