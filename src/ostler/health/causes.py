"""Cause before action: folds many nodes' findings into one cause. Pure; called before remediation decides.

77 nodes report and one link failed: the nodes are not to blame. In this order, a finding belonging to at most one:
what a place explains (a leaf switch, an NVLink domain, a rack's cooling or power), what follows from one node's fault
(its job's peers cleaned up: XID 45), and what most peers of a SKU or of a driver report: a configuration or a rollout,
which a reboot helps nobody with (DESIGN, principle 6).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

from ostler.faults.model import Action, Severity
from ostler.health.model import Cause, HealthSettings, OpenCause, Struck
from ostler.health.rules import APPLICATION, ECHOES, LADDER, NEVER_FOLDED, NVLINK, NVLINK_FACTS, RANK, matches

K = TypeVar("K", bound=Hashable)

SHARED = ("nvlink", "fabric", "power", "cooling", "rack")
"""Domains that can fail as one, most specific first."""

LINK_COMPONENTS = frozenset({"nic", "fabric", "nvswitch", "node"})
"""Components whose faults can come from the other end of a cable or from the place: a GPU's own memory cannot."""

LINKS = (*NVLINK, *NVLINK_FACTS, "sxid-*")
HEAT = ("bmc-hot", "gpu-hot", "gpu-memory-hot", "gpu-hw-slowdown", "thermal-temperature*")
POWER = ("bmc-psu", "bmc-power-off", "bmc-voltage", "power-psu-*", "power-power-unit", "power-voltage*")

PLACES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("NVLink errors", LINKS, ("nvlink",)),
    ("heat", HEAT, ("cooling", "rack")),
    ("power faults", POWER, ("power", "rack")),
)
"""What a place explains whatever each node calls it: in words, the faults, the kinds of domain."""

CLEANUP = tuple(sorted(ECHOES | APPLICATION))
"""What the peers of a job report when one of its nodes fails."""
RETRIES = ("ib-recoveries", "ib-link-downed", "ib-rcv-errors")
"""What the other ends of a leaf switch report when one port fails."""

FOLLOWS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("job", CLEANUP, False),
    ("nvlink", (*CLEANUP, *NVLINK, *NVLINK_FACTS), False),
    ("fabric", (*CLEANUP, *RETRIES), True),
)
"""Kind of domain, what its nodes report after one of them failed, and whether it takes a storm to believe it."""

WEAR = (
    "gpu-off-bus", "gpu-lost", "gpu-missing", "xid-48", "xid-63", "xid-64", "xid-94", "xid-95", "xid-171", "xid-172",
    "gpu-ecc-*", "gpu-row-remap-*", "gpu-pages-*", "gpu-sram-threshold", "row-remap-*", "ib-symbol-errors",
    "ib-integrity", "ib-module-*", "nvme-*", "host-disk-*", "host-memory-*", "edac-*", "mce-*", "bmc-fan", "bmc-psu",
)  # fmt: skip
"""Faults that parts have one by one, as they wear: a small fleet in which most have one is an unlucky fleet."""


def fold(struck: Sequence[Struck], sku_sizes: Mapping[str, int], settings: HealthSettings) -> list[Cause]:
    """Causes that explain several nodes. `sku_sizes` counts the serving nodes by SKU, and by `SKU driver VERSION`.

    A shared place comes first: a leaf switch whose nodes are all of one SKU is no configuration.
    """
    rest = [one for one in struck if one.fault not in NEVER_FOLDED]
    causes: list[Cause] = []

    def take(found: Sequence[Cause]) -> None:
        nonlocal rest
        causes.extend(found)
        rest = _without(rest, causes)

    for kind in SHARED:
        take(_places(rest, kind, settings))
    take(_follow(rest, settings))
    for words, faults, kinds in PLACES:
        for kind in kinds:
            take(_families(rest, kind, words, faults, settings))
    take(_first_link(rest, settings))
    for kind in ("job", "nvlink", "fabric", "rack"):
        take(_rootless(rest, kind, settings))
    take(_configurations(rest, "sku", sku_sizes, settings))
    take(_configurations(rest, "driver", sku_sizes, settings))
    return causes


def latecomers(
    struck: Sequence[Struck], known: Sequence[OpenCause], window_s: float = HealthSettings.window_s
) -> dict[str, list[str]]:
    """Incident → findings that it explains too: the last node behind a dead switch may report long after the first.

    What followed from one node's fault did so within the window; a later one has another reason.
    """
    joined: dict[str, list[str]] = defaultdict(list)
    for one in struck:
        for cause in known:
            if one.fault not in NEVER_FOLDED and _belongs(one, cause, window_s):
                joined[cause.incident_id].append(one.finding_id)
                break
    return joined


def _belongs(one: Struck, cause: OpenCause, window_s: float) -> bool:
    if one.domains.get(cause.scope) != cause.subject or one.finding_id == cause.root:
        return False
    if cause.cause == "sympathetic":
        return one.fault in cause.family and abs(one.at - cause.opened_at) <= window_s
    if one.fault in cause.family:
        return True
    from_outside = cause.cause != "shared-domain" or one.component in LINK_COMPONENTS
    return cause.fault == one.fault and from_outside


def _places(rest: Sequence[Struck], kind: str, settings: HealthSettings) -> list[Cause]:
    """One fault of links or nodes on many nodes of one place."""
    found = []
    candidates = [one for one in rest if one.component in LINK_COMPONENTS]
    for (domain, fault), group in _by(candidates, _place(kind)).items():
        together = _together(group, settings.window_s)
        count = _nodes(together)
        if domain and count >= settings.storm_nodes:
            summary = f"{count} nodes of {kind} {domain} report {fault} together: look at what they share"
            follow = [one for one in rest if one.fault in CLEANUP and _joins(one, kind, domain, together, settings)]
            ids = tuple(one.finding_id for one in (*together, *follow))
            family = tuple(sorted({one.fault for one in follow}))
            found.append(Cause("shared-domain", kind, domain, summary, ids, fault, family))
    return found


def _joins(one: Struck, kind: str, domain: str, together: Sequence[Struck], settings: HealthSettings) -> bool:
    near = any(abs(one.at - other.at) <= settings.window_s for other in together)
    return near and one.domains.get(kind) == domain


def _follow(rest: Sequence[Struck], settings: HealthSettings) -> list[Cause]:
    """One node has the root; its peers cleaned up after it. Only the root's node is acted on."""
    found: list[Cause] = []
    taken: set[str] = set()
    for kind, faults, needs_storm in FOLLOWS:
        for domain, group in _by([one for one in rest if one.domains.get(kind)], _domain(kind)).items():
            roots = sorted((one for one in group if _is_root(one, faults)), key=_by_strength)
            for root in roots:
                peers = [
                    one
                    for one in group
                    if matches(one.fault, faults)
                    and one.node_id != root.node_id
                    and one.finding_id not in taken
                    and abs(one.at - root.at) <= settings.window_s
                ]
                count = _nodes(peers)
                if not peers or (needs_storm and count + 1 < settings.storm_nodes):
                    continue
                taken |= {one.finding_id for one in peers}
                found.append(_followers(kind, domain, root, peers))
    return found


def _followers(kind: str, domain: str, root: Struck, peers: Sequence[Struck]) -> Cause:
    count = _nodes(peers)
    said = ", ".join(sorted({one.fault for one in peers}))
    what = "node" if count == 1 else "nodes"
    summary = f"{count} {what} of {kind} {domain} report {said} after {root.fault} on one: that one is to blame"
    ids = tuple(one.finding_id for one in peers)
    family = tuple(sorted({one.fault for one in peers}))
    return Cause("sympathetic", kind, domain, summary, ids, "", family, root.finding_id)


def _is_root(one: Struck, followers: tuple[str, ...]) -> bool:
    serious = RANK[one.severity] >= RANK[Severity.ERROR]
    acts = LADDER.index(one.action) >= LADDER.index(Action.RESET_GPU)
    return serious and acts and not matches(one.fault, followers)


def _by_strength(one: Struck) -> tuple[object, ...]:
    return (-RANK[one.severity], -LADDER.index(one.action), one.at, one.finding_id)


def _families(
    rest: Sequence[Struck], kind: str, words: str, faults: tuple[str, ...], settings: HealthSettings
) -> list[Cause]:
    """Many nodes of one place report what this place explains, each in its own words."""
    found = []
    candidates = [one for one in rest if matches(one.fault, faults) and one.domains.get(kind)]
    for domain, group in _by(candidates, _domain(kind)).items():
        together = _together(group, settings.window_s)
        count = _nodes(together)
        if count >= settings.storm_nodes:
            summary = f"{count} nodes of {kind} {domain} report {words} together: look at what they share"
            family = tuple(sorted({one.fault for one in together}))
            ids = tuple(one.finding_id for one in together)
            found.append(Cause("shared-domain", kind, domain, summary, ids, family[0], family))
    return found


def _first_link(rest: Sequence[Struck], settings: HealthSettings) -> list[Cause]:
    """Two nodes of one NVLink domain: the link that failed first, and what came of it within seconds."""
    found = []
    candidates = [one for one in rest if matches(one.fault, (*NVLINK, *NVLINK_FACTS)) and one.domains.get("nvlink")]
    for domain, group in _by(candidates, _domain("nvlink")).items():
        acting = [one for one in group if LADDER.index(one.action) >= LADDER.index(Action.RESET_GPU)]
        if not acting:
            continue
        root = min(acting, key=lambda one: (one.at, *_by_strength(one)))
        peers = [one for one in group if one.node_id != root.node_id and 0 <= one.at - root.at <= settings.by_product_s]
        if peers:
            found.append(_followers("nvlink", domain, root, peers))
    return found


def _rootless(rest: Sequence[Struck], kind: str, settings: HealthSettings) -> list[Cause]:
    """Many nodes cleaned up together and none says why: what they shared failed somewhere else."""
    found = []
    candidates = [one for one in rest if one.fault in ECHOES and one.domains.get(kind)]
    for domain, group in _by(candidates, _domain(kind)).items():
        together = _together(group, settings.window_s)
        count = _nodes(together)
        if count >= settings.storm_nodes:
            summary = f"{count} nodes of {kind} {domain} cleaned up together: look at what they share"
            family = tuple(sorted({one.fault for one in together}))
            ids = tuple(one.finding_id for one in together)
            found.append(Cause("sympathetic", kind, domain, summary, ids, "", family))
    return found


def _configurations(
    rest: Sequence[Struck], scope: str, sizes: Mapping[str, int], settings: HealthSettings
) -> list[Cause]:
    """Most peers of a SKU, or of the nodes that run one driver, report one fault since a boot or a rollout."""
    found = []
    for (peers, fault), group in _by(rest, _place(scope)).items():
        together = _together(group, settings.rollout_s)
        count = _nodes(together)
        enough = max(settings.storm_nodes, settings.wear_peers) if matches(fault, WEAR) else settings.storm_nodes
        if peers and count >= enough and count > settings.peer_share * (size := sizes.get(peers, 0)):
            summary = f"{count} of {size} {peers} nodes report {fault}: a configuration, not {count} faults"
            ids = tuple(one.finding_id for one in together)
            found.append(Cause("configuration", scope, peers, summary, ids, fault))
    return found


def _without(struck: Sequence[Struck], causes: Sequence[Cause]) -> list[Struck]:
    taken = {finding_id for cause in causes for finding_id in cause.finding_ids}
    return [one for one in struck if one.finding_id not in taken]


def _nodes(group: Sequence[Struck]) -> int:
    return len({one.node_id for one in group})


def _place(kind: str) -> Callable[[Struck], tuple[str, str]]:
    return lambda one: (one.domains.get(kind, ""), one.fault)


def _domain(kind: str) -> Callable[[Struck], str]:
    return lambda one: one.domains.get(kind, "")


def _by(struck: Sequence[Struck], key: Callable[[Struck], K]) -> dict[K, list[Struck]]:
    groups: dict[K, list[Struck]] = defaultdict(list)
    for one in struck:
        groups[key(one)].append(one)
    return groups


def _together(group: Sequence[Struck], window: float) -> list[Struck]:
    """Those within one window of the newest."""
    newest = max(one.at for one in group)
    return [one for one in group if one.at >= newest - window]
