"""Idle runs as only Kubernetes has them: the pod that gives way, what its status means, and what is made on the way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightkube import Client
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources import core_v1, scheduling_v1

from ostler.adapters.cluster.kubernetes import KubernetesCluster
from ostler.adapters.cluster.kubernetes_api import Pod
from ostler.adapters.cluster.kubernetes_idle import view_of
from ostler.adapters.cluster.port import IdlePhase, IdleRun, IdleView, Workload
from ostler.core.errors import BadInput, Forbidden, Refused
from tests.contract.cluster.conftest import add_node, add_pod, bind_pod, set_pod_status

_namespaces = (f"ostler-{number}" for number in itertools.count())


def run_on(node: str, **changes: Any) -> IdleRun:
    return IdleRun(**{"node": node, "command": ("ostler", "checks"), "gpus": 8, "seconds": 1200, **changes})


def pod_of(client: Client, reference: str) -> Pod:
    namespace, name = reference.split("/")
    return client.get(Pod, name, namespace=namespace)


@pytest.fixture
def admins(kubeconfig: Path) -> Iterator[KubernetesCluster]:
    """With an administrator's rights and a namespace that does not exist yet."""
    found = KubernetesCluster.from_kubeconfig(
        "admins", str(kubeconfig), namespace=next(_namespaces), idle_image="ostler:test", idle_runtime_class=""
    )
    yield found
    found.close()


def test_the_pod_gives_way_and_holds_all_gpus_of_its_node(cluster: KubernetesCluster, client: Client) -> None:
    name = add_node(client)
    pod = pod_of(client, cluster.start_idle_run(run_on(name, grace_s=60, command=("ostler", "checks", "a b; c"))))
    spec = pod["spec"]
    assert spec["priority"] == -1_000_000_000 and spec["preemptionPolicy"] == "Never"
    assert (spec["terminationGracePeriodSeconds"], spec["activeDeadlineSeconds"]) == (5, 1200)
    assert spec["restartPolicy"] == "Never" and spec["automountServiceAccountToken"] is False
    assert "nodeName" not in spec
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}
    (container,) = spec["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": "8"}, "requests": {"nvidia.com/gpu": "8"}}
    assert container["command"][-3:] == ["ostler", "checks", "a b; c"]
    assert container["command"][:4] == ["python3", "-m", "ostler.adapters.cluster.last_words", "/dev/termination-log"]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    lost = {t["key"]: t.get("tolerationSeconds") for t in spec["tolerations"] if t["effect"] == "NoExecute"}
    assert lost == {"node.kubernetes.io/not-ready": 0, "node.kubernetes.io/unreachable": 0}


def test_it_never_has_a_grace_of_0_which_would_not_wait_for_the_node(
    cluster: KubernetesCluster, client: Client
) -> None:
    pod = pod_of(client, cluster.start_idle_run(run_on(add_node(client), grace_s=0)))
    assert pod["spec"]["terminationGracePeriodSeconds"] == 1


@pytest.mark.parametrize("cordoned", [True, False])
def test_our_own_cordon_is_tolerated_only_where_it_stands(
    cluster: KubernetesCluster, client: Client, cordoned: bool
) -> None:
    name = add_node(client)
    if cordoned:
        cluster.cordon(name, "under repair")
    pod = pod_of(client, cluster.start_idle_run(run_on(name)))
    tolerated = {t["key"] for t in pod["spec"]["tolerations"] if t["effect"] == "NoSchedule"}
    assert tolerated == {"nvidia.com/gpu"} | ({"ostler.dev/cordoned"} if cordoned else set())


def test_a_node_of_a_long_name(cluster: KubernetesCluster, client: Client) -> None:
    name = ".".join(["gpu-of-a-very-long-name"] * 5)
    client.create(core_v1.Node(metadata=ObjectMeta(name=name)))
    left = cluster.start_idle_run(run_on(name))
    reference = cluster.start_idle_run(run_on(name))
    assert cluster.idle_run(left).phase is IdlePhase.STOPPED
    assert cluster.idle_run(reference).phase is IdlePhase.WAITING


def test_namespace_and_priority_class_are_made_where_they_are_missing(
    admins: KubernetesCluster, client: Client, cluster: KubernetesCluster
) -> None:
    client.delete(scheduling_v1.PriorityClass, "ostler-idle")
    reference = admins.start_idle_run(run_on(add_node(client)))
    assert admins.idle_run(reference) == IdleView(IdlePhase.WAITING)
    made = client.get(scheduling_v1.PriorityClass, "ostler-idle")
    assert (made.value, made.preemptionPolicy, made.globalDefault) == (-1_000_000_000, "Never", None)
    client.delete(scheduling_v1.PriorityClass, "ostler-idle")  # the namespace stays
    admins.start_idle_run(run_on(add_node(client)))
    assert client.get(scheduling_v1.PriorityClass, "ostler-idle").value == -1_000_000_000


def test_without_the_right_to_make_them_it_says_so(kubeconfig: Path, ostlers_kubeconfig: Path, client: Client) -> None:
    poor = KubernetesCluster.from_kubeconfig("poor", str(ostlers_kubeconfig), namespace="elsewhere", idle_image="x")
    with pytest.raises(Forbidden, match=r"forbids it.*elsewhere"):
        poor.start_idle_run(run_on(add_node(client)))
    poor.close()


@pytest.mark.parametrize(("value", "policy"), [(1000, "Never"), (0, "Never"), (-1000, "PreemptLowerPriority")])
def test_a_priority_class_that_does_not_give_way_is_refused(
    cluster: KubernetesCluster, client: Client, value: int, policy: str
) -> None:
    client.delete(scheduling_v1.PriorityClass, "ostler-idle")
    wrong = scheduling_v1.PriorityClass(
        metadata=ObjectMeta(name="ostler-idle"), value=value, preemptionPolicy=policy, globalDefault=False
    )
    client.create(wrong)
    try:
        name = add_node(client)
        with pytest.raises(Refused, match="would not give way"):
            cluster.start_idle_run(run_on(name))
        left = client.list(Pod, namespace="ostler", labels={"ostler.dev/idle-run": name})
        assert list(left) == []
    finally:
        client.delete(scheduling_v1.PriorityClass, "ostler-idle")
        right = scheduling_v1.PriorityClass(
            metadata=ObjectMeta(name="ostler-idle"), value=-1_000_000_000, preemptionPolicy="Never"
        )
        client.create(right)


def test_without_an_image_there_are_no_idle_runs(ostlers_kubeconfig: Path) -> None:
    cluster = KubernetesCluster.from_kubeconfig("real", str(ostlers_kubeconfig))
    with pytest.raises(Refused, match="idle_image"):
        cluster.start_idle_run(run_on("any"))
    cluster.close()


@pytest.mark.parametrize("changes", [{"command": ()}, {"gpus": -1}, {"seconds": 0}])
def test_an_impossible_run(cluster: KubernetesCluster, changes: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="An idle run needs"):
        cluster.start_idle_run(run_on("any", **changes))


def test_a_tenants_pod_with_our_label_is_still_work(cluster: KubernetesCluster, client: Client) -> None:
    name = add_node(client)
    add_pod(client, name, owner="clever", labels={"ostler.dev/idle-run": name})
    assert cluster.busy([name]) == {name: Workload(1, ("default/clever",))}


def test_only_runs_of_ours_are_ended(cluster: KubernetesCluster, client: Client) -> None:
    """A reference comes out of a database, and could name anybody's pod."""
    pod = add_pod(client, add_node(client), owner="train")
    cluster.end_idle_run(f"default/{pod}")
    found = client.get(Pod, pod).metadata
    assert found is not None and found.deletionTimestamp is None


def test_a_running_one_ends_with_its_grace_and_an_ended_one_at_once(cluster: KubernetesCluster, client: Client) -> None:
    for phase, left in (("Running", 5), ("Failed", None)):
        name = add_node(client)
        reference = cluster.start_idle_run(run_on(name))
        namespace, pod = reference.split("/")
        bind_pod(client, namespace, pod, name)
        set_pod_status(client, namespace, pod, {"phase": phase})
        cluster.end_idle_run(reference)
        found = [p.metadata for p in client.list(Pod, namespace=namespace, fields={"metadata.name": pod})]
        assert [m.deletionGracePeriodSeconds for m in found if m is not None] == ([left] if left else [])
        assert cluster.idle_run(reference).phase is IdlePhase.STOPPED


def document(
    phase: str = "Running", state: dict[str, Any] | None = None, deleted: bool = False, **status: Any
) -> dict[str, Any]:
    metadata = {"deletionTimestamp": "2026-11-20T10:00:00Z"} if deleted else {}
    containers = {"containerStatuses": [{"name": "checks", "state": state}]} if state is not None else {}
    return {"metadata": metadata, "status": {"phase": phase, **containers, **status}}


def ended(code: Any = 0, message: Any = "{}", **state: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message, **state}}


PREEMPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "by x"}


@pytest.mark.parametrize(
    ("pod", "why"),
    [
        (document(deleted=True), "deleted"),
        (document("Succeeded", ended(), deleted=True), "deleted"),
        (document("Failed", reason="DeadlineExceeded", message="Pod was active longer"), "DeadlineExceeded: Pod was"),
        (document("Failed", ended(143), reason="Preempting", message="for a critical pod"), "Preempting"),
        (document("Failed", ended(137), reason="Evicted", message="low on memory"), "Evicted: low on memory"),
        (document("Running", reason="NodeLost"), "NodeLost"),
        (document("Failed", reason="UnexpectedAdmissionError"), "UnexpectedAdmissionError"),
        (document("Failed", ended(143), conditions=[PREEMPTED]), "PreemptionByScheduler: by x"),
        (document("Succeeded", ended(0), conditions=[PREEMPTED]), "PreemptionByScheduler"),
        (document("Failed", ended(137, reason="OOMKilled")), "OOMKilled"),
        (document("Failed", ended(128, reason="StartError", message="no such file")), "StartError: no such file"),
        (document("Failed", ended(137)), "killed"),
        (document("Failed", ended(143, '{"verdict": "passed"}')), "killed"),
        (document("Failed", ended(0, signal=9)), "killed"),
        (document("Failed"), "did not say"),
        (document("Succeeded", {}), "did not say"),
        (document("Succeeded", ended("0")), "did not say"),
        (document("Succeeded", ended(True)), "did not say"),
        (document("Pending", {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}), "ImagePullBackOff: no"),
    ],
)
def test_what_did_not_come_to_its_own_end_is_stopped(pod: dict[str, Any], why: str) -> None:
    view = view_of(pod)
    assert (view.phase, view.exit_status) == (IdlePhase.STOPPED, None) and why in view.output


@pytest.mark.parametrize(
    ("pod", "view"),
    [
        (document("Pending"), IdleView(IdlePhase.WAITING)),
        (document("Pending", {"waiting": {"reason": "ContainerCreating"}}), IdleView(IdlePhase.WAITING)),
        (document("Running", {"running": {}}), IdleView(IdlePhase.RUNNING)),
        ({}, IdleView(IdlePhase.WAITING)),
        ({"status": {"phase": 7, "conditions": "x", "containerStatuses": {"a": 1}}}, IdleView(IdlePhase.WAITING)),
        (document("Succeeded", ended(0, '{"a": 1}\n')), IdleView(IdlePhase.ENDED, '{"a": 1}', 0)),
        (document("Failed", ended(1, 'log\n{"a": 1}\n\n')), IdleView(IdlePhase.ENDED, '{"a": 1}', 1)),
        (document("Failed", ended(139, None)), IdleView(IdlePhase.ENDED, "", 139)),
        (document("Succeeded", ended(0, "x" * 5000)), IdleView(IdlePhase.ENDED, "x" * 4096, 0)),
        (
            document("Succeeded", ended(0, "\N{SNOWMAN}" * 2000)),
            IdleView(IdlePhase.ENDED, "\N{SNOWMAN}" * 1365, 0),
        ),
    ],
)
def test_how_far_a_run_is(pod: dict[str, Any], view: IdleView) -> None:
    assert view_of(pod) == view
