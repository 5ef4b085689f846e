"""What is read out of Kubernetes' documents, with those that nobody expects; and the inventory over a real API server."""

from __future__ import annotations

from typing import Any

import pytest
from lightkube import Client
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources import core_v1
from lightkube.types import PatchType

from ostler.adapters.cluster import kubernetes_api
from ostler.adapters.cluster.kubernetes import KubernetesCluster
from ostler.adapters.cluster.kubernetes_read import cluster_node, held_gpus, others_cordon
from ostler.adapters.cluster.port import ClusterNode
from tests.contract.cluster.conftest import add_node


def node(
    labels: dict[str, Any] | None = None, annotations: dict[str, Any] | None = None, capacity: Any = None, **spec: Any
) -> dict[str, Any]:
    return {
        "metadata": {"name": "gpu-1", "labels": labels or {}, "annotations": annotations or {}},
        "spec": spec,
        "status": {"capacity": capacity or {}},
    }


def test_a_node_for_adoption(cluster: KubernetesCluster, client: Client) -> None:
    labels = {
        "ostler.dev/serial": "1654422000123",
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "topology.kubernetes.io/zone": "oslo-1",
        "node.coreweave.cloud/rack": "r12",
        "node.coreweave.cloud/slot": "17",
    }
    name = "gpu-adopted"
    client.create(core_v1.Node(metadata=ObjectMeta(name=name, labels=labels)))
    uuid = "4C4C4544-0042-3510-8051-B4C04F4E3732"
    status = {
        "capacity": {"nvidia.com/gpu": "8", "cpu": "128"},
        "nodeInfo": dict.fromkeys(
            ("machineID", "bootID", "containerRuntimeVersion", "kubeProxyVersion", "operatingSystem", "architecture"),
            "",
        )
        | {"systemUUID": uuid, "kubeletVersion": "v1.31.2", "kernelVersion": "6.8.0", "osImage": "Ubuntu"},
        "addresses": [
            {"type": "Hostname", "address": "gpu-adopted"},
            {"type": "InternalIP", "address": "10.0.0.7"},
            {"type": "InternalIP", "address": "2001:DB8::7"},
        ],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    client.patch(core_v1.NodeStatus, name, {"status": status}, patch_type=PatchType.STRATEGIC)
    client.patch(core_v1.Node, name, {"spec": {"unschedulable": True}}, patch_type=PatchType.MERGE)
    found = {one.name: one for one in cluster.inventory()}[name]
    assert found == ClusterNode(
        name,
        ready=True,
        cordoned_by_others=found.cordoned_by_others,
        serial="1654422000123",
        uuid=uuid.lower(),
        sku="NVIDIA-H100-80GB-HBM3",
        slot="oslo-1/-/r12/17",
        addresses=("10.0.0.7", "2001:db8::7"),
        gpus=8,
        attributes={"kubelet": "v1.31.2", "kernel": "6.8.0", "os": "Ubuntu", "zone": "oslo-1"},
    )
    assert found.cordoned_by_others.startswith("unschedulable")


def test_the_inventory_comes_in_pages(
    cluster: KubernetesCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {add_node(client) for _ in range(7)}
    monkeypatch.setattr("ostler.adapters.cluster.kubernetes.PAGE", 3)
    assert kubernetes_api.PAGE == 500
    asked: list[str] = []
    cluster._api.client._client._client.event_hooks["request"].append(lambda request: asked.append(str(request.url)))
    found = [one.name for one in cluster.inventory()]
    assert names <= set(found) and len(found) == len(set(found))
    assert len(asked) == -(-len(found) // 3) and all("limit=3" in url for url in asked)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ""),
        ({"unschedulable": True}, "unschedulable"),
        ({"unschedulable": "yes"}, ""),
        ({"taints": [{"key": "ostler.dev/cordoned", "effect": "NoSchedule"}]}, ""),
        ({"taints": [{"key": "ostler.dev/cordoned", "effect": "NoExecute"}]}, "taint ostler.dev/cordoned"),
        ({"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]}, ""),
        ({"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]}, ""),
        ({"taints": [{"key": "maintenance", "value": "by-kim", "effect": "NoSchedule"}]}, "taint maintenance=by-kim"),
        ({"taints": [{"key": "soft", "effect": "PreferNoSchedule"}]}, ""),
        (
            {
                "unschedulable": True,
                "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}],
            },
            "unschedulable, taint node.kubernetes.io/unschedulable",
        ),
        ({"taints": "x"}, ""),
        ({"taints": [7, None, {"effect": "NoSchedule", "key": ["x"]}]}, "taint "),
    ],
)
def test_others_cordons_are_named(spec: dict[str, Any], expected: str) -> None:
    assert others_cordon(node(**spec)) == expected.strip() or others_cordon(node(**spec)) == expected


def test_a_providers_reason_is_read() -> None:
    said = node(annotations={"node.coreweave.cloud/cordonReason": "KernelDeadlock"}, unschedulable=True)
    assert others_cordon(said) == "unschedulable (KernelDeadlock)"


@pytest.mark.parametrize(
    ("labels", "capacity", "gpus", "sku"),
    [
        ({}, {"nvidia.com/gpu": "8"}, 8, ""),
        ({"nvidia.com/gpu.count": "8"}, {"nvidia.com/gpu": "7"}, 7, ""),
        ({"nvidia.com/gpu.count": "8", "nvidia.com/gpu.replicas": "1"}, {"nvidia.com/gpu": "7"}, 7, ""),
        (
            {"nvidia.com/gpu.count": "8", "nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.product": "A100-SHARED"},
            {"nvidia.com/gpu": "32"},
            8,
            "A100",
        ),
        (
            {
                "nvidia.com/gpu.count": "8",
                "nvidia.com/mig.strategy": "single",
                "nvidia.com/gpu.product": "A100-MIG-1g.5gb",
            },
            {"nvidia.com/gpu": "56"},
            8,
            "A100",
        ),
        ({"nvidia.com/gpu.count": "-1"}, {"nvidia.com/gpu": "many"}, 0, ""),
        ({"node.kubernetes.io/instance-type": "p5.48xlarge"}, {}, 0, "p5.48xlarge"),
        ({"ostler.dev/sku": "h100", "nvidia.com/gpu.product": "x"}, {}, 0, "h100"),
    ],
)
def test_gpus_and_sku(labels: dict[str, str], capacity: dict[str, str], gpus: int, sku: str) -> None:
    found = cluster_node(node(labels, capacity=capacity))
    assert (found.gpus, found.sku) == (gpus, sku)


@pytest.mark.parametrize(
    ("labels", "annotations", "slot"),
    [
        ({}, {"ostler.dev/slot": "oslo/r1/k7/u12"}, "oslo/r1/k7/u12"),
        ({}, {"ostler.dev/slot": "oslo//k7/u12"}, ""),
        ({"ostler.dev/rack": "k7", "ostler.dev/u": "u12"}, {}, "-/-/k7/u12"),
        ({"ostler.dev/rack": "k7", "ostler.dev/slot": "u12", "ostler.dev/row": "r1"}, {}, "-/r1/k7/u12"),
        ({"topology.kubernetes.io/rack": "k7", "topology.kubernetes.io/zone": "a"}, {}, ""),
        ({"ostler.dev/u": "u12"}, {}, ""),
        ({"ostler.dev/u": "u12"}, {"ostler.dev/rack": "a/b/c"}, "-/-/a-b-c/u12"),
    ],
)
def test_slots(labels: dict[str, str], annotations: dict[str, str], slot: str) -> None:
    assert cluster_node(node(labels, annotations)).slot == slot


@pytest.mark.parametrize(
    "hostile",
    [
        {},
        {"metadata": None, "spec": None, "status": None},
        {"metadata": [], "spec": "x", "status": 7},
        {"metadata": {"labels": [1], "annotations": "x"}, "status": {"capacity": [], "addresses": {}, "nodeInfo": []}},
        {"status": {"addresses": [7, {"type": "InternalIP", "address": "nonsense"}, {"type": "InternalIP"}]}},
        {"status": {"conditions": "Ready", "nodeInfo": {"systemUUID": {"a": 1}}}, "spec": {"taints": [[]]}},
    ],
)
def test_a_hostile_node_is_an_empty_one(hostile: dict[str, Any]) -> None:
    assert cluster_node(hostile) == ClusterNode(name="", ready=False)


def test_control_characters_and_length_are_cut() -> None:
    found = cluster_node(node(annotations={"ostler.dev/serial": "\x1b[31m" + "9" * 999, "ostler.dev/sku": "a\nb"}))
    assert found.serial == "[31m" + "9" * 249 and found.sku == "ab"


@pytest.mark.parametrize(
    "hostile",
    [{}, {"spec": {"containers": "x"}}, {"spec": {"containers": [{"resources": [], "env": {"a": 1}}]}}, {"spec": []}],
)
def test_a_pod_without_sense_holds_no_gpu(hostile: dict[str, Any]) -> None:
    assert held_gpus(hostile) == frozenset()


def test_what_a_resource_claim_or_a_runtime_class_gives_nobody_knows() -> None:
    assert held_gpus({"spec": {"containers": [{}], "resourceClaims": [{"name": "gpu"}]}}) is None
    assert held_gpus({"spec": {"containers": [{}], "runtimeClassName": "nvidia-cdi"}}) is None
    assert held_gpus({"spec": {"containers": [{"resources": {"limits": {"nvidia.com/hostdev": "1"}}}]}}) == frozenset()
