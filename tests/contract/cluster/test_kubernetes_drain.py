"""Drains as only Kubernetes has them: what is never evicted, what the API server answers, graces, and per-GPU drains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightkube import ApiError, Client
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources import core_v1
from lightkube.types import PatchType

from ostler.adapters.cluster.kubernetes import KubernetesCluster
from ostler.adapters.cluster.kubernetes_api import Api, Pod
from ostler.adapters.cluster.port import DrainMode, DrainView, Workload
from ostler.core.errors import Unavailable
from ostler.core.ids import PermitId
from tests.contract.cluster.conftest import add_node, add_pod, container, end_pods, pods_on, set_budget

PERMIT = PermitId("permit_of_a_test")
ALLOW = {"ostler.dev/drain": "allow-completion"}


def drain(cluster: KubernetesCluster, name: str, mode: DrainMode = DrainMode.EVICT, **gpus: list[int]) -> DrainView:
    return cluster.drain(name, mode, "test", permit=PERMIT, **gpus)


def ending(client: Client, node: str) -> dict[str, int | None]:
    """The pods that were told to end, and the grace that each was given."""
    found = [pod.metadata for pod in pods_on(client, node)]
    return {m.name or "": m.deletionGracePeriodSeconds for m in found if m is not None and m.deletionTimestamp}


def test_what_is_no_work_stays_even_when_forced(cluster: KubernetesCluster, client: Client) -> None:
    name = add_node(client)
    add_pod(client, name, owner="exporter", kind="DaemonSet")
    add_pod(client, name, owner="dns", kind="ReplicaSet", namespace="kube-system")
    add_pod(client, name, owner="static", kind="Node", annotations={"kubernetes.io/config.mirror": "x"})
    add_pod(client, name, owner="done", phase="Succeeded")
    for mode in DrainMode:
        assert drain(cluster, name, mode) == DrainView()
    assert ending(client, name) == {} and len(pods_on(client, name)) == 4


def test_a_pod_without_an_owner_is_evicted_too_and_has_its_own_grace(
    cluster: KubernetesCluster, client: Client
) -> None:
    name = add_node(client)
    pod = add_pod(client, name, terminationGracePeriodSeconds=3600)
    assert drain(cluster, name) == DrainView(Workload(1, (f"default/{pod}",)))
    assert ending(client, name) == {pod: 3600}


def test_a_pod_that_was_asked_is_not_asked_again(
    cluster: KubernetesCluster, client: Client, recorded: list[tuple[str, str]]
) -> None:
    name = add_node(client)
    add_pod(client, name, owner="slow-to-leave", terminationGracePeriodSeconds=3600)
    for _ in range(3):
        assert drain(cluster, name) == DrainView(Workload(1, ("default/slow-to-leave",)))
    assert recorded.count(("POST", "eviction")) == 1


def test_the_budgets_own_words_are_in_the_line(cluster: KubernetesCluster, client: Client) -> None:
    name = add_node(client)
    pod = add_pod(client, name, owner="worded")
    set_budget(client, "worded", 0)
    (line,) = drain(cluster, name).blocked
    assert line.startswith(f"default/{pod}: its disruption budget allows no eviction now (The disruption budget ")
    assert "budget-of-worded needs 1 healthy pods and has 1 currently" in line


def test_one_blocked_pod_keeps_nobody_else(cluster: KubernetesCluster, client: Client) -> None:
    name = add_node(client)
    free = add_pod(client, name, owner="free")
    add_pod(client, name, owner="kept")
    set_budget(client, "kept", 0)
    view = drain(cluster, name)
    assert view.left == Workload(2, ("default/free", "default/kept")) and len(view.blocked) == 1
    assert set(ending(client, name)) == {free}


def test_two_budgets_on_a_pod_block_it_and_are_no_trouble_of_the_server(
    cluster: KubernetesCluster, client: Client
) -> None:
    """The API server answers that with HTTP 500, for ever."""
    name = add_node(client)
    pod = add_pod(client, name, owner="doubly")
    set_budget(client, "doubly", 5)
    set_budget(client, "doubly", 5, name="another")
    assert drain(cluster, name).blocked == (
        f"default/{pod}: more than one disruption budget covers it, and Kubernetes then evicts nothing",
    )


def test_many_lines_are_cut_short(cluster: KubernetesCluster, client: Client) -> None:
    name = add_node(client)
    for _ in range(25):
        add_pod(client, name, annotations=ALLOW)
    blocked = drain(cluster, name).blocked
    assert len(blocked) == 20 and blocked[-1] == "and 6 more"


@pytest.mark.parametrize("where", ["annotations", "labels"])
def test_the_owner_may_ask_for_completion(cluster: KubernetesCluster, client: Client, where: str) -> None:
    name = add_node(client)
    extra: dict[str, Any] = {where: ALLOW}
    pod = add_pod(client, name, owner="simulation", **extra)
    for _ in range(2):
        assert drain(cluster, name) == DrainView(
            Workload(1, ("default/simulation",)),
            (f"default/{pod}: its owner wants it to complete; it stays until the deadline",),
        )
        assert ending(client, name) == {}
    drain(cluster, name, DrainMode.FORCE)
    assert set(ending(client, name)) == {pod}


def test_a_namespace_may_ask_for_completion_and_a_pod_in_it_not(cluster: KubernetesCluster, client: Client) -> None:
    client.create(core_v1.Namespace(metadata=ObjectMeta(name="patient", annotations=ALLOW)))
    name = add_node(client)
    stays = add_pod(client, name, namespace="patient")
    goes = add_pod(client, name, namespace="patient", annotations={"ostler.dev/drain": "evict"})
    assert drain(cluster, name).blocked == (
        f"patient/{stays}: its owner wants it to complete; it stays until the deadline",
    )
    assert set(ending(client, name)) == {goes}


def test_force_shortens_a_long_grace_and_then_waits_for_the_node_no_more(
    cluster: KubernetesCluster, client: Client
) -> None:
    now = [1000.0]
    cluster._drains.now = lambda: now[0]
    name = add_node(client)
    long = add_pod(client, name, owner="a", terminationGracePeriodSeconds=3600)
    short = add_pod(client, name, owner="b", terminationGracePeriodSeconds=5)
    at_once = add_pod(client, name, owner="c", terminationGracePeriodSeconds=0)
    drain(cluster, name)  # the one without a grace is gone with that
    assert ending(client, name) == {long: 3600, short: 5}
    for seconds in (0.0, 14.0):
        now[0] = 1000.0 + seconds
        assert drain(cluster, name, DrainMode.FORCE).left == Workload(2, ("default/a", "default/b"))
        assert ending(client, name) == {long: 30, short: 5}
    now[0] = 1015.0
    assert drain(cluster, name, DrainMode.FORCE).left == Workload(1, ("default/a",))
    now[0] = 1039.0
    assert drain(cluster, name, DrainMode.FORCE).left == Workload(1, ("default/a",))
    now[0] = 1040.0
    assert drain(cluster, name, DrainMode.FORCE) == DrainView()
    assert pods_on(client, name) == [] and at_once
    assert cluster._drains._forced == {}


def test_a_finalizer_that_holds_a_pod_is_named(cluster: KubernetesCluster, client: Client) -> None:
    now = [0.0]
    cluster._drains.now = lambda: now[0]
    name = add_node(client)
    pod = add_pod(client, name, owner="held", finalizers=["example.org/keep"], terminationGracePeriodSeconds=1)
    drain(cluster, name, DrainMode.FORCE)
    for seconds in (11.0, 99.0):
        now[0] = seconds
        drain(cluster, name, DrainMode.FORCE)
        assert drain(cluster, name, DrainMode.FORCE) == DrainView(
            Workload(1, ("default/held",)),
            (f"default/{pod}: it was asked to leave, and the finalizer example.org/keep holds it",),
        )
    client.patch(Pod, pod, {"metadata": {"finalizers": None}}, patch_type=PatchType.MERGE)
    assert drain(cluster, name, DrainMode.FORCE) == DrainView()


def test_an_eviction_names_the_pod_it_means(
    cluster: KubernetesCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server tries for 10 s before it refuses another pod's eviction, so the request itself is looked at."""
    name = add_node(client)
    pod = client.get(Pod, add_pod(client, name)).metadata
    bodies: list[Any] = []
    send = cluster._api.send

    def record(method: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        bodies.append(body)
        return send(method, path, body, **query)

    monkeypatch.setattr(cluster._api, "send", record)
    drain(cluster, name)
    assert pod is not None and bodies[-1]["deleteOptions"] == {"preconditions": {"uid": pod.uid}}


def test_a_pod_that_came_back_under_the_same_name_is_another(cluster: KubernetesCluster, client: Client) -> None:
    """The pod of a StatefulSet has the same name on its next node; between our listing and our asking it moved."""
    name, elsewhere = add_node(client), add_node(client)
    pod = add_pod(client, name)
    listed = list(cluster._api.pods(name))
    client.delete(Pod, pod, grace_period=0)
    moved = Pod(metadata=ObjectMeta(name=pod), spec={"nodeName": elsewhere, "containers": [container()]})
    client.create(moved, namespace="default")
    assert cluster._drains._force(name, [*listed]) == []
    assert ending(client, elsewhere) == {} and len(pods_on(client, elsewhere)) == 1


def test_only_the_work_on_the_gpus_concerned_goes(cluster: KubernetesCluster, client: Client) -> None:
    name = add_node(client)

    def trains(job: str, gpus: str, count: int, resource: str = "nvidia.com/gpu") -> str:
        spec: dict[str, Any] = {"containers": [container(count, resource)]}
        return add_pod(client, name, owner=job, annotations={"ostler.dev/gpus": gpus}, **spec)

    goes = trains("a", "0,3", 2)
    sliced = trains("b", "3", 2, "nvidia.com/mig-1g.5gb")
    trains("c", "1,2", 2)
    add_pod(client, name, owner="without-gpus")
    view = drain(cluster, name, gpus=[3, 7])
    assert view == DrainView(Workload(2, ("default/a", "default/b")), partial=True)
    assert set(ending(client, name)) == {goes, sliced}
    end_pods(client, name)
    assert drain(cluster, name, DrainMode.FORCE, gpus=[3, 7]) == DrainView(partial=True)
    assert len(pods_on(client, name)) == 2


@pytest.mark.parametrize(
    ("said", "spec"),
    [
        (None, {"containers": [container(1)]}),
        ("5", {"containers": [container(2)]}),
        ("5", {"containers": [container(1), {**container(1), "name": "d"}]}),
        ("all", {"containers": [container(1)]}),
        ("5,", {"containers": [container(1)]}),
        ("\N{ARABIC-INDIC DIGIT FIVE}", {"containers": [container(1)]}),
        (None, {"containers": [container(1, "nvidia.com/mig-2g.10gb")]}),
        (None, {"containers": [container()], "initContainers": [{**container(1), "name": "i"}]}),
        (None, {"containers": [{**container(), "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]}]}),
    ],
)
def test_one_that_does_not_say_sends_all_work_away(
    cluster: KubernetesCluster, client: Client, said: str | None, spec: dict[str, Any]
) -> None:
    name = add_node(client)
    add_pod(client, name, owner="silent", annotations={"ostler.dev/gpus": said} if said else None, **spec)
    add_pod(client, name, owner="without-gpus")
    view = drain(cluster, name, gpus=[3])
    assert view == DrainView(Workload(2, ("default/silent", "default/without-gpus")), partial=False)
    assert len(ending(client, name)) == 2


class Answering:
    """The API server, but for evictions, which are answered by `answer`; counts the requests under way."""

    def __init__(self, api: Api, code: int, message: str, causes: list[dict[str, str]] | None = None) -> None:
        self._send = api.send
        self._document = {"code": code, "message": message, "details": {"causes": causes or []}}

    def send(self, method: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        if path.endswith("/eviction"):
            raise ApiError(status=ApiError.__init__.__globals__["meta_v1"].Status.from_dict(self._document))
        return self._send(method, path, body, **query)


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_server_is_temporary(
    cluster: KubernetesCluster, client: Client, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    name = add_node(client)
    add_pod(client, name)
    api = cluster._api
    monkeypatch.setattr(api, "send", Answering(api, code, "Too many requests, please try again later.").send)
    with pytest.raises(Unavailable, match=f"HTTP {code}"):
        drain(cluster, name)


@pytest.mark.parametrize(
    ("code", "message"),
    [(403, 'admission webhook "x" denied the request:\n\x1b[31mno'), (422, "invalid"), (400, "no kind")],
)
def test_a_refused_eviction_blocks_its_pod_alone(
    cluster: KubernetesCluster, client: Client, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    name = add_node(client)
    pod = add_pod(client, name)
    api = cluster._api
    monkeypatch.setattr(api, "send", Answering(api, code, message).send)
    (line,) = drain(cluster, name).blocked
    assert line.startswith(f"default/{pod}: the API server refuses its eviction: ") and line.isprintable()


@pytest.fixture
def recorded(cluster: KubernetesCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """The requests that went past lightkube."""
    calls: list[tuple[str, str]] = []
    send = cluster._api.send

    def record(method: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        calls.append((method, path.rsplit("/", 1)[-1] if "/pods/" in path else path))
        return send(method, path, body, **query)

    monkeypatch.setattr(cluster._api, "send", record)
    yield calls


def test_evictions_go_out_side_by_side_and_the_version_is_asked_for_once(
    cluster: KubernetesCluster, client: Client, recorded: list[tuple[str, str]]
) -> None:
    name = add_node(client)
    for _ in range(40):
        add_pod(client, name, owner="many")
    drain(cluster, name)
    assert len(ending(client, name)) == 40
    assert recorded.count(("POST", "eviction")) == 40
    add_pod(client, name, owner="many")
    drain(cluster, name)
    assert recorded.count(("GET", "/api/v1")) == 1
    assert recorded.count(("GET", "/api/v1/namespaces/default")) == 2


def test_a_server_without_evictions(
    cluster: KubernetesCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = add_node(client)
    add_pod(client, name)
    send = cluster._api.send
    monkeypatch.setattr(cluster._api, "send", lambda m, p, b=None, **q: {} if p == "/api/v1" else send(m, p, b, **q))
    with pytest.raises(Unavailable, match="no eviction"):
        drain(cluster, name)


def test_the_manifest_is_all_that_the_tests_above_had(ostlers_kubeconfig: Path) -> None:
    """Not the administrator's rights: what the manifest does not give is refused."""
    api = Api.from_kubeconfig("ostler", str(ostlers_kubeconfig), None)
    with pytest.raises(ApiError, match="forbidden"):
        api.send("GET", "/api/v1/namespaces/default/secrets")
    api.close()
