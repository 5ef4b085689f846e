"""Cause before action: folds many nodes' findings into one cause. Pure; called before remediation decides.

77 nodes report and one link failed: the nodes are not to blame. And when most peers of a SKU report the same thing, it
is a configuration or a rollout; rebooting them would help nobody (DESIGN, principle 6).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

from ostler.health.model import Cause, HealthSettings, OpenCause, Struck

K = TypeVar("K", bound=Hashable)

SHARED = ("nvlink", "fabric", "power", "cooling", "rack")
"""Domains that can fail as one, most specific first."""

LINK_COMPONENTS = frozenset({"nic", "fabric", "nvswitch", "node"})
"""Components whose faults can come from the other end of a cable or from the place: a GPU's own memory cannot."""


def fold(struck: Sequence[Struck], sku_sizes: Mapping[str, int], settings: HealthSettings) -> list[Cause]:
    """Causes that explain several nodes; a finding belongs to at most one. `sku_sizes` counts the serving nodes.

    A shared place comes first: a leaf switch whose nodes are all of one SKU is no configuration.
    """
    causes: list[Cause] = []
    rest = list(struck)
    for kind in SHARED:
        candidates = [one for one in rest if one.component in LINK_COMPONENTS]
        for (domain, fault), group in _by(candidates, _place(kind)).items():
            together = _together(group, settings.window_s)
            count = len({one.node_id for one in together})
            if domain and count >= settings.storm_nodes:
                summary = f"{count} nodes of {kind} {domain} report {fault} together: look at what they share"
                ids = tuple(one.finding_id for one in together)
                causes.append(Cause("shared-domain", kind, domain, summary, ids, fault))
        rest = _without(rest, causes)
    for (sku, fault), group in _by(rest, _place("sku")).items():
        count, size = len({one.node_id for one in group}), sku_sizes.get(sku, 0)
        if sku and count >= settings.storm_nodes and count > settings.peer_share * size:
            summary = f"{count} of {size} {sku} nodes report {fault}: a configuration, not {count} faults"
            ids = tuple(one.finding_id for one in group)
            causes.append(Cause("configuration", "sku", sku, summary, ids, fault))
    return causes


def latecomers(struck: Sequence[Struck], known: Sequence[OpenCause]) -> dict[str, list[str]]:
    """Incident → findings that it explains too: the last node behind a dead switch may report long after the first."""
    joined: dict[str, list[str]] = defaultdict(list)
    for one in struck:
        for cause in known:
            from_outside = cause.cause != "shared-domain" or one.component in LINK_COMPONENTS
            if cause.fault == one.fault and one.domains.get(cause.scope) == cause.subject and from_outside:
                joined[cause.incident_id].append(one.finding_id)
                break
    return joined


def _without(struck: Sequence[Struck], causes: Sequence[Cause]) -> list[Struck]:
    taken = {finding_id for cause in causes for finding_id in cause.finding_ids}
    return [one for one in struck if one.finding_id not in taken]


def _place(kind: str) -> Callable[[Struck], tuple[str, str]]:
    return lambda one: (one.domains.get(kind, ""), one.fault)


def _by(struck: Sequence[Struck], key: Callable[[Struck], K]) -> dict[K, list[Struck]]:
    groups: dict[K, list[Struck]] = defaultdict(list)
    for one in struck:
        groups[key(one)].append(one)
    return groups


def _together(group: Sequence[Struck], window: float) -> list[Struck]:
    """Those within one window of the newest."""
    newest = max(one.at for one in group)
    return [one for one in group if one.at >= newest - window]
