"""With the real scheduler, the real controllers and a hollow node (a real kubelet without containers).

The disruption controller computes what a budget allows, the scheduler preempts, the kubelet ends pods and notices
their deadline, the taint manager removes what stands on a lost node. About 30 s in all, of which the node's start
takes 11.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from lightkube import Client, KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources import core_v1
from lightkube.types import PatchType

from ostler.adapters.cluster.kubernetes import KubernetesCluster
from ostler.adapters.cluster.kubernetes_api import Node, Pod
from ostler.adapters.cluster.port import DrainMode, DrainView, IdlePhase, IdleRun, IdleView, Workload
from ostler.core.ids import PermitId
from tests import kubernetes_server
from tests.contract.cluster.conftest import Budget

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("kubernetes-scheduled")]
PERMIT = PermitId("permit_of_a_test")
GPUS = {"nvidia.com/gpu": "8"}


class Fleet:
    """A cluster of one GPU node, `gpu-1`."""

    def __init__(self, client: Client, cluster: KubernetesCluster) -> None:
        self.client = client
        self.cluster = cluster

    def wait(self, kind: type[Any], namespace: str | None, until: Callable[[], bool]) -> None:
        """Looks again at every change of an object of this kind; the test's time limit ends it."""
        if until():
            return
        for _ in self.client.watch(kind, namespace=namespace):  # starts with what there is
            if until():
                return

    def phase(self, pod: str) -> str:
        status = self.client.get(Pod, pod).get("status") or {}
        return str(status.get("phase"))

    def work(self, job: str) -> str:
        """A pod that the scheduler places."""
        spec = {
            "nodeSelector": {"kubernetes.io/hostname": "gpu-1"},
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "busybox", "resources": {"limits": GPUS}}],
        }
        made = self.client.create(
            Pod(metadata=ObjectMeta(name=job, labels={"job": job}), spec=spec), namespace="default"
        )
        assert made.metadata is not None and made.metadata.name is not None
        return made.metadata.name

    def remove(self, pod: str) -> None:
        self.client.delete(Pod, pod, namespace="default", grace_period=0)

    def idle(self, seconds: int = 1200) -> str:
        """An idle run that the scheduler has placed and the node has started."""
        reference = self.cluster.start_idle_run(IdleRun("gpu-1", ("ostler",), gpus=8, seconds=seconds))
        self.wait(Pod, "ostler", lambda: self.view(reference).phase is not IdlePhase.WAITING)
        return reference

    def view(self, reference: str) -> IdleView:
        return self.cluster.idle_run(reference)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with ExitStack() as stack:
        try:
            config = stack.enter_context(kubernetes_server.running(tmp_path_factory.mktemp("scheduled")))
            stack.enter_context(kubernetes_server.controlled(config))
            stack.enter_context(kubernetes_server.hollow_node(config, "gpu-1"))
        except kubernetes_server.Absent as absent:
            if os.environ.get("CI"):
                pytest.fail(f"Kubernetes is needed here: {absent}")
            pytest.skip(str(absent))
        client = stack.enter_context(Client(config=KubeConfig.from_file(config).get(), trust_env=False))
        cluster = KubernetesCluster.from_kubeconfig("real", str(config), idle_image="ostler:test")
        stack.callback(cluster.close)
        found = Fleet(client, cluster)
        found.wait(Node, None, lambda: cluster.ready(["gpu-1"]) == {"gpu-1": True})
        gpus = {"status": {"capacity": GPUS, "allocatable": GPUS}}
        client.patch(core_v1.NodeStatus, "gpu-1", gpus, patch_type=PatchType.STRATEGIC)
        yield found


def drain(fleet: Fleet) -> DrainView:
    return fleet.cluster.drain("gpu-1", DrainMode.EVICT, "test", permit=PERMIT)


def test_a_budget_holds_a_drain_until_it_allows_it(fleet: Fleet) -> None:
    pod = fleet.work("guarded")
    fleet.wait(Pod, "default", lambda: fleet.phase(pod) == "Running")
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"job": "guarded"}}}
    fleet.client.create(Budget(metadata=ObjectMeta(name="guard"), spec=spec), namespace="default")

    def status(key: str) -> Any:
        return (fleet.client.get(Budget, "guard", namespace="default").get("status") or {}).get(key)

    fleet.wait(Budget, "default", lambda: status("currentHealthy") == 1)
    view = drain(fleet)
    assert view.left == Workload(1, ("default/guarded",))
    assert len(view.blocked) == 1 and "The disruption budget guard needs 1 healthy pods" in view.blocked[0]
    fleet.client.patch(Budget, "guard", {"spec": {"minAvailable": 0}}, namespace="default", patch_type=PatchType.MERGE)
    fleet.wait(Budget, "default", lambda: status("disruptionsAllowed") == 1)
    assert drain(fleet) == DrainView(Workload(1, ("default/guarded",)))
    fleet.remove(pod)
    assert drain(fleet) == DrainView()


def test_work_preempts_an_idle_run(fleet: Fleet) -> None:
    reference = fleet.idle()
    assert fleet.view(reference) == IdleView(IdlePhase.RUNNING)
    assert fleet.cluster.busy(["gpu-1"]) == {"gpu-1": None}
    pod = fleet.work("arrives")
    fleet.wait(Pod, "default", lambda: fleet.phase(pod) == "Running")
    view = fleet.view(reference)
    assert view.phase is IdlePhase.STOPPED and "preempted" in view.output
    assert fleet.cluster.busy(["gpu-1"]) == {"gpu-1": Workload(1, ("default/arrives",))}
    waiting = fleet.cluster.start_idle_run(IdleRun("gpu-1", ("ostler",), gpus=8, seconds=60))
    fleet.wait(Pod, "ostler", lambda: _seen_by_the_scheduler(fleet, waiting))
    assert fleet.view(waiting) == IdleView(IdlePhase.WAITING)
    assert fleet.phase(pod) == "Running"
    fleet.cluster.end_idle_run(waiting)
    fleet.remove(pod)


def _seen_by_the_scheduler(fleet: Fleet, reference: str) -> bool:
    pod = fleet.client.get(Pod, reference.split("/")[1], namespace="ostler")
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "PodScheduled" and "Insufficient nvidia.com/gpu" in one["message"] for one in conditions)


def test_our_own_cordon_keeps_work_off_and_lets_the_check_after_a_repair_in(fleet: Fleet) -> None:
    fleet.cluster.cordon("gpu-1", "under repair")
    reference = fleet.idle()
    assert fleet.view(reference) == IdleView(IdlePhase.RUNNING)
    fleet.cluster.uncordon("gpu-1")
    assert drain(fleet) == DrainView()
    assert fleet.view(reference).phase is IdlePhase.STOPPED


def test_an_idle_run_past_its_deadline_is_stopped(fleet: Fleet) -> None:
    reference = fleet.idle(seconds=1)
    fleet.wait(Pod, "ostler", lambda: fleet.view(reference).phase is IdlePhase.STOPPED)
    assert "DeadlineExceeded" in fleet.view(reference).output
    fleet.cluster.end_idle_run(reference)
    assert "gone" in fleet.view(reference).output


def test_an_idle_run_on_a_lost_node_is_stopped_at_once(fleet: Fleet) -> None:
    """Not after the 300 s that pods without a word of their own get. The taint is what the cluster puts on such a node."""
    reference = fleet.idle()
    taint = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
    fleet.client.patch(Node, "gpu-1", {"spec": {"taints": [taint]}}, patch_type=PatchType.MERGE)
    fleet.wait(Pod, "ostler", lambda: fleet.view(reference).phase is IdlePhase.STOPPED)
    assert "deleted" in fleet.view(reference).output
