"""What only Kubernetes has: other owners' taints, races on the list, pods that do not count, and how it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightkube import ApiError, Client
from lightkube.types import PatchType

from ostler.adapters.cluster.kubernetes import REASON, KubernetesCluster, slug
from ostler.adapters.cluster.kubernetes_api import Node
from ostler.adapters.cluster.kubernetes_read import TAINT
from ostler.core.errors import BadInput, Unauthenticated, Unavailable, Unreachable
from tests.contract.cluster.conftest import add_node, add_pod, taints

THEIRS = [
    {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},
    {"key": "maintenance", "effect": "NoExecute", "timeAdded": "2026-11-20T10:00:00Z"},
    {"key": TAINT, "value": "theirs", "effect": "NoExecute"},
]


def annotations_of(client: Client, name: str) -> dict[str, str]:
    metadata = client.get(Node, name).metadata
    return (metadata.annotations if metadata else None) or {}


def version_of(client: Client, name: str) -> str | None:
    metadata = client.get(Node, name).metadata
    return metadata.resourceVersion if metadata else None


def test_the_taint_says_why(cluster: KubernetesCluster, client: Client) -> None:
    name = add_node(client)
    cluster.cordon(name, "XID 79: GPU has fallen off the bus (0000:18:00.0)")
    assert taints(client, name) == [
        {"key": TAINT, "value": "XID-79-GPU-has-fallen-off-the-bus-0000-18-00.0", "effect": "NoSchedule"}
    ]
    node = client.get(Node, name)
    assert annotations_of(client, name)[REASON] == "XID 79: GPU has fallen off the bus (0000:18:00.0)"
    assert "unschedulable" not in (node.get("spec") or {})
    cluster.uncordon(name)
    assert taints(client, name) == []
    assert REASON not in annotations_of(client, name)


def test_others_taints_stay_as_they_are(cluster: KubernetesCluster, client: Client) -> None:
    name = add_node(client, taints=THEIRS)
    before = taints(client, name)
    cluster.cordon(name, "x")
    cluster.cordon(name, "y")
    assert [t for t in taints(client, name) if t not in before] == [
        {"key": TAINT, "value": "y", "effect": "NoSchedule"}
    ]
    cluster.uncordon(name)
    assert taints(client, name) == before


def test_a_cordon_in_place_is_not_written_again(cluster: KubernetesCluster, client: Client) -> None:
    name = add_node(client)
    cluster.cordon(name, "x")
    version = version_of(client, name)
    cluster.cordon(name, "x")
    assert version_of(client, name) == version


def test_no_taint_is_lost_when_others_write_at_the_same_time(
    cluster: KubernetesCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our reading and our writing another tool adds a taint: twice, then it leaves us alone."""
    name = add_node(client)
    get = cluster._api.node
    left = ["a", "b"]

    def get_and_be_overtaken(wanted: str) -> Any:
        node = get(wanted)
        if left:
            theirs = [*taints(client, name), {"key": left.pop(), "effect": "NoSchedule"}]
            client.patch(Node, name, {"spec": {"taints": theirs}}, patch_type=PatchType.MERGE)
        return node

    monkeypatch.setattr(cluster._api, "node", get_and_be_overtaken)
    cluster.cordon(name, "x")
    assert {taint["key"] for taint in taints(client, name)} == {"a", "b", TAINT}


def until_done(call: Callable[[], None]) -> None:
    """As the cordon controller does: what is temporary is tried again."""
    for _ in range(100):
        try:
            return call()
        except Unavailable:
            continue
    pytest.fail("never let through")


def test_another_tool_that_taints_at_the_same_time_loses_nothing(cluster: KubernetesCluster, client: Client) -> None:
    """It adds one taint after the other, carefully, while we cordon and uncordon as fast as we can."""
    name = add_node(client)
    done = threading.Event()
    troubles: list[BaseException] = []

    def toggle() -> None:
        try:
            while not done.is_set():
                until_done(lambda: cluster.cordon(name, "x"))
                until_done(lambda: cluster.uncordon(name))
        except BaseException as error:
            troubles.append(error)

    thread = threading.Thread(target=toggle)
    thread.start()
    try:
        for number in range(20):
            add_taint(client, name, f"tool-{number}")
    finally:
        done.set()
        thread.join()
    assert troubles == []
    assert [taint["key"] for taint in taints(client, name)] == [f"tool-{number}" for number in range(20)]


def add_taint(client: Client, name: str, key: str) -> None:
    for _ in range(1000):
        found = client.get(Node, name)
        assert found.metadata is not None
        theirs = [*((found.get("spec") or {}).get("taints") or []), {"key": key, "effect": "NoSchedule"}]
        patch = {"metadata": {"resourceVersion": found.metadata.resourceVersion}, "spec": {"taints": theirs}}
        try:
            client.patch(Node, name, patch, patch_type=PatchType.MERGE)
            return
        except ApiError as error:
            assert error.status.code == 409
    pytest.fail("never let through")


def test_only_work_that_would_be_lost_counts(cluster: KubernetesCluster, client: Client) -> None:
    name = add_node(client)
    add_pod(client, name, owner="exporter", kind="DaemonSet")
    add_pod(client, name, owner="dns", kind="ReplicaSet", namespace="kube-system")
    add_pod(client, name, owner="static", kind="Node", annotations={"kubernetes.io/config.mirror": "x"})
    assert cluster.busy([name]) == {name: None}
    add_pod(client, name)
    found = cluster.busy([name])[name]
    assert found is not None and found.pods == 1 and found.jobs[0].startswith("default/pod-")


@pytest.mark.parametrize("name", ["", "a/b", "../nodes", "a?x=1", "A", "x" * 300, "a\n"])
def test_a_name_that_kubernetes_cannot_have_is_an_unknown_node(cluster: KubernetesCluster, name: str) -> None:
    assert cluster.cordoned([name]) == {}
    cluster.uncordon(name)


def test_wrong_credentials(kubeconfig: Path) -> None:
    nobody = KubernetesCluster.from_kubeconfig("real", str(kubeconfig), "nobody")
    with pytest.raises(Unauthenticated, match="real: The API server does not know these credentials"):
        nobody.ready(["a"])
    nobody.close()


def test_nobody_listens(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        '{"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}], "users": [{"name": "u", "user": {}}],'
        '"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"}'
    )
    cluster = KubernetesCluster.from_kubeconfig("away", str(config))
    with pytest.raises(Unreachable, match="away: The API server does not answer"):
        cluster.cordoned(["a"])
    cluster.close()


@pytest.mark.parametrize("content", [None, "", "[", "[]", "7", "a: b", "clusters: 7\nusers: []\ncontexts: []", "\x00"])
def test_a_configuration_that_is_none(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadInput) as caught:
        KubernetesCluster.from_kubeconfig("c", str(path))
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_context_that_is_not_there(kubeconfig: Path) -> None:
    with pytest.raises(BadInput, match="nosuch"):
        KubernetesCluster.from_kubeconfig("c", str(kubeconfig), "nosuch")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("XID 79: off the bus", "XID-79-off-the-bus"),
        ("", "cordoned"),
        ("  \N{SNOWMAN} ", "cordoned"),
        ("-.x.-", "x"),
        ("a" * 100, "a" * 63),
        ("b" * 62 + "  c", "b" * 62),
    ],
)
def test_a_reason_as_a_taint_value(reason: str, expected: str) -> None:
    assert slug(reason) == expected
