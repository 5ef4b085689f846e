"""What Kubernetes' documents say of nodes and pods, as pure functions. Used by the other `kubernetes` modules.

Labels and annotations are written by anybody who may write the object, a tenant included; a field may be missing or of
another type than expected. Nothing here raises: what cannot be read is absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from ostler.adapters.cluster.port import ClusterNode, CordonView, Workload

TAINT = "ostler.dev/cordoned"
EFFECT = "NoSchedule"
IDLE_RUN = "ostler.dev/idle-run"
"""Label of our idle runs; its value stands for the node."""
DRAIN = "ostler.dev/drain"
"""Label or annotation by which a pod, or its whole namespace, says how it wants to be drained."""
ALLOW_COMPLETION = "allow-completion"
GPUS = "ostler.dev/gpus"
"""Annotation with the indices of the GPUs that a pod holds: `0,3`."""
SYSTEM_NAMESPACES = frozenset({"kube-system"})
"""Pods there are the cluster's own and no reason to wait."""

_TEXT = 253
_GPU_RESOURCE = re.compile(r".*/(gpu|gpu[.-].*|mig-.*|pgpu|vgpu)")
"""Resources that stand for a GPU or a part of one: `nvidia.com/gpu`, `nvidia.com/mig-1g.5gb`, `amd.com/gpu`."""
_CONDITION_TAINTS = "node.kubernetes.io/"
_DEDICATION = ("nvidia.com/gpu", "amd.com/gpu", "node-role.kubernetes.io/")
"""Taints that say what a node is for, not that somebody wants it left alone."""


def table(value: object, *path: str) -> Mapping[str, Any]:
    """The object at `path` below `value`; an empty one where there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def rows(value: object) -> list[Mapping[str, Any]]:
    """The objects in a list."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def text(value: object) -> str:
    """A string without control characters, at most 253 long (as names are); "" for anything else."""
    if not isinstance(value, str):
        return ""
    return "".join(c for c in value[: 4 * _TEXT] if c.isprintable()).strip()[:_TEXT]


def number(value: object) -> int:
    """A count, which Kubernetes writes as `8`; 0 for anything else."""
    found = str(value)
    return int(found) if re.fullmatch(r"[0-9]{1,6}", found) else 0


def name_of(found: Mapping[str, Any]) -> str:
    return text(table(found, "metadata").get("name"))


def namespace_of(pod: Mapping[str, Any]) -> str:
    return text(table(pod, "metadata").get("namespace"))


def marks(found: Mapping[str, Any], key: str) -> str:
    """The value of an annotation, or else of a label."""
    return text(table(found, "metadata", "annotations").get(key)) or text(table(found, "metadata", "labels").get(key))


# --- nodes ---


def split_taints(node: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(others' taints as they stand, ours)."""
    taints = table(node, "spec").get("taints") or []
    mine = [taint for taint in taints if taint.get("key") == TAINT and taint.get("effect") == EFFECT]
    return [taint for taint in taints if taint not in mine], mine


def cordon_view(node: Mapping[str, Any]) -> CordonView:
    return CordonView(ours=bool(split_taints(node)[1]), others=table(node, "spec").get("unschedulable") is True)


def is_ready(node: Mapping[str, Any]) -> bool:
    conditions = rows(table(node, "status").get("conditions"))
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def others_cordon(node: Mapping[str, Any]) -> str:
    """Who else keeps new work off the node, as far as it can be told.

    The unschedulable bit, and taints (effect NoSchedule or NoExecute) that neither say what the node is for (dedicated
    to GPU work, a control plane) nor mirror a condition that `ready` tells already.
    """
    found = ["unschedulable"] if table(node, "spec").get("unschedulable") is True else []
    said = text(table(node, "metadata", "annotations").get("node.coreweave.cloud/cordonReason"))
    if found and said:
        found = [f"unschedulable ({said})"]
    for taint in rows(table(node, "spec").get("taints")):
        key, effect = text(taint.get("key")), taint.get("effect")
        if effect not in ("NoSchedule", "NoExecute") or (key == TAINT and effect == EFFECT):
            continue
        condition = key.startswith(_CONDITION_TAINTS) and key != f"{_CONDITION_TAINTS}unschedulable"
        if not condition and not key.startswith(_DEDICATION):
            value = text(taint.get("value"))
            found.append(f"taint {key}={value}" if value else f"taint {key}")
    return ", ".join(found)[:_TEXT]


def cluster_node(node: Mapping[str, Any]) -> ClusterNode:
    """A node for `ostler adopt`."""
    info = table(node, "status", "nodeInfo")
    known = {
        "kubelet": info.get("kubeletVersion"),
        "kernel": info.get("kernelVersion"),
        "os": info.get("osImage"),
        "provider_id": table(node, "spec").get("providerID"),
        "instance_type": marks(node, "node.kubernetes.io/instance-type"),
        "zone": marks(node, "topology.kubernetes.io/zone"),
        "driver": marks(node, "nvidia.com/cuda.driver-version.full")
        or marks(node, "gpu.coreweave.cloud/driver-version"),
    }
    return ClusterNode(
        name=name_of(node),
        ready=is_ready(node),
        cordoned_by_others=others_cordon(node),
        serial=marks(node, "ostler.dev/serial"),
        uuid=text(info.get("systemUUID")).lower(),
        sku=_sku(node),
        slot=_slot(node),
        addresses=_addresses(node),
        gpus=_gpus(node),
        attributes={key: said for key, value in known.items() if (said := text(value))},
    )


def _first(node: Mapping[str, Any], *keys: str) -> str:
    return next((said for key in keys if (said := marks(node, key))), "")


def _sku(node: Mapping[str, Any]) -> str:
    product = _first(node, "ostler.dev/sku", "nvidia.com/gpu.product")
    # GPU feature discovery appends how the GPUs are shared, which is no property of the hardware
    product = re.sub(r"(-SHARED|-MIG-[0-9]+g\.[0-9]+gb(\.[a-z0-9.]+)?)+$", "", product)
    return product or _first(node, "node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")


def _gpus(node: Mapping[str, Any]) -> int:
    """Physical GPUs. The device plugin's capacity counts shares and slices instead where GPUs are shared."""
    capacity = number(table(node, "status", "capacity").get("nvidia.com/gpu"))
    counted = number(marks(node, "nvidia.com/gpu.count"))
    shared = number(marks(node, "nvidia.com/gpu.replicas")) > 1
    sliced = marks(node, "nvidia.com/mig.strategy") in ("single", "mixed")
    return counted if counted and (shared or sliced or not capacity) else capacity


def _slot(node: Mapping[str, Any]) -> str:
    """SITE/ROW/RACK/U where at least rack and place in it are known; `-` for a part that nobody says.

    A label's value has no slashes, so the whole is an annotation, and the labels give its parts.
    """
    whole = marks(node, "ostler.dev/slot")
    if whole.count("/") == 3 and all(part.strip() for part in whole.split("/")):
        return whole
    rack = _first(
        node,
        "ostler.dev/rack",
        "topology.kubernetes.io/rack",
        "node.coreweave.cloud/rack",
        "ds.coreweave.com/physical-topology.rack-name",
    )
    unit = _first(node, "ostler.dev/u", "node.coreweave.cloud/slot") or ("" if "/" in whole else whole)
    if not rack or not unit:
        return ""
    site = _first(node, "ostler.dev/site", "topology.kubernetes.io/zone", "topology.kubernetes.io/region") or "-"
    row = _first(node, "ostler.dev/row", "topology.kubernetes.io/row") or "-"
    return "/".join(part.replace("/", "-") for part in (site, row, rack, unit))


def _addresses(node: Mapping[str, Any]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for one in rows(table(node, "status").get("addresses")):
        if one.get("type") in ("InternalIP", "ExternalIP"):
            try:
                found[str(ip_address(text(one.get("address"))))] = None
            except ValueError:
                continue
    return tuple(found)[:8]


# --- pods ---


def is_idle_run(pod: Mapping[str, Any], namespace: str) -> bool:
    """Whether the pod is a run of ours: in our own namespace only, for a label anybody can set."""
    return namespace_of(pod) == namespace and IDLE_RUN in table(pod, "metadata", "labels")


def is_work(pod: Mapping[str, Any]) -> bool:
    """Whether the pod is work that would be lost: no daemon, no static pod, not ended, not the cluster's own."""
    metadata = table(pod, "metadata")
    if table(pod, "status").get("phase") in ("Succeeded", "Failed") or namespace_of(pod) in SYSTEM_NAMESPACES:
        return False
    if "kubernetes.io/config.mirror" in table(metadata, "annotations"):
        return False
    return not any(owner.get("kind") == "DaemonSet" for owner in rows(metadata.get("ownerReferences")))


def workload(pods: Iterable[Mapping[str, Any]]) -> Workload | None:
    """What these pods are together; None for none."""
    count, jobs = 0, set()
    for pod in pods:
        owners = rows(table(pod, "metadata").get("ownerReferences"))
        owner = next((text(one.get("name")) for one in owners if one.get("controller") is True), name_of(pod))
        jobs.add(f"{namespace_of(pod)}/{owner}")
        count += 1
    return Workload(count, tuple(sorted(jobs))) if count else None


def held_gpus(pod: Mapping[str, Any]) -> frozenset[int] | None:
    """The GPUs that a pod holds: none, the ones it names, or None: some, and it does not say which.

    Kubernetes keeps no record of that: the device plugin hands out ids that only the node's kubelet knows. So somebody
    has to write it on the pod, as `ostler.dev/gpus`. One that names fewer than it was given is not believed. What a
    container takes for itself is seen only if it says so (NVIDIA_VISIBLE_DEVICES, a RuntimeClass, a resource claim).
    """
    spec = table(pod, "spec")
    whole = 0
    some = bool(spec.get("resourceClaims")) or "nvidia" in text(spec.get("runtimeClassName"))
    for one in rows(spec.get("containers")):
        given, uses = _given(one)
        whole, some = whole + given, some or uses
    for one in rows(spec.get("initContainers")):  # they run before the others, with the same devices
        given, uses = _given(one)
        whole, some = max(whole, given), some or uses
    if not some:
        return frozenset()
    said = marks(pod, GPUS)
    if not re.fullmatch(r"[0-9]{1,3}(,[0-9]{1,3})*", said):
        return None
    indices = frozenset(int(index) for index in said.split(","))
    return indices if len(indices) >= whole else None


def _given(container: Mapping[str, Any]) -> tuple[int, bool]:
    """(whole GPUs that a container was given, whether it uses any at all)."""
    whole, some = 0, False
    for asked in (table(container, "resources", "limits"), table(container, "resources", "requests")):
        for resource, amount in asked.items():
            if _GPU_RESOURCE.fullmatch(resource) and str(amount) != "0":
                some = True
                whole = max(whole, number(amount) if resource.endswith("/gpu") else 0)
    seen = [one.get("value") for one in rows(container.get("env")) if one.get("name") == "NVIDIA_VISIBLE_DEVICES"]
    return whole, some or any(value not in ("", "none", "void") for value in seen)
