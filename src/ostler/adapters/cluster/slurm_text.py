"""Reads what Slurm's tools print: nodes, jobs, host lists, GPU indices; and writes a reason that is known again. Pure.

Called by `slurm.py` and `slurm_idle.py`. The one-line form of `scontrol show node` is the only one that stays the same
from 20.11 to 25.x (`--json` changed its shape with nearly every release). Users and nodes write into some fields, so
nothing is taken from a free text: what cannot be read is left out, never guessed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from ostler.adapters.cluster.port import ClusterNode, CordonView
from ostler.core.errors import BadInput

MOST_HOSTS = 200_000
"""A host list that names more is no host list of a cluster."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_FLAGS = "*~#!%$@^-+"
"""What node states carry at their end in the older form (`DOWN*`); `scontrol` knows the same as `+NOT_RESPONDING`."""
_STATE = re.compile(r" State=([A-Z_*~#!%$@^+-]{1,300}) ThreadsPerCore=\d")
_REASON = re.compile(r" Reason=(.*?) \[[^\s\]]{1,80}@[^\s\]]{1,40}\](?= (?:Comment|Extra)=| *$)")
_SILENT = "Not responding"
"""The reason that slurmctld gives itself when a node falls silent; with ReturnToService it takes it back."""
_GPUS = re.compile(r"(?:^|,)gpu(?::([A-Za-z][\w.-]*))?:(\d{1,4})(?=[(,]|$)")


def usable(name: str) -> bool:
    """Whether a name is one node's: no host list, no option, and not `ALL`, which means every node of the cluster."""
    return _NAME.fullmatch(name) is not None and name.upper() != "ALL"


# Reasons --------------------------------------------------------------------------------------------------------------


def our_reason(text: str) -> str:
    """A reason that `is_ours` knows again: its words, and a digest of them that no edit by hand leaves right."""
    words = " ".join(re.sub(r"[^ -~]|[\[\]\"'`\\]", " ", text).split())[:200].strip() or "cordoned"
    return f"ostler: {words} ({_digest(words)})"


def is_ours(reason: str) -> bool:
    """Whether Ostler wrote exactly this."""
    found = re.fullmatch(r"ostler: (.+) \(([0-9a-f]{8})\)", reason)
    return found is not None and _digest(found[1]) == found[2]


def _digest(words: str) -> str:
    return hashlib.sha256(f"ostler-cordon\0{words}".encode()).hexdigest()[:8]


# Nodes ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SlurmNode:
    """One line of `scontrol -o show node`."""

    name: str
    base: str
    """IDLE, ALLOCATED, MIXED, DOWN, UNKNOWN, …"""
    flags: frozenset[str]
    """DRAIN, NOT_RESPONDING, MAINTENANCE, …"""
    reason: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        return bool(self.flags & {"DRAIN"}) and is_ours(self.reason)

    @property
    def others(self) -> bool:
        """Drained, failed or put down, and not by us; a node that only fell silent is nobody's cordon."""
        held = bool(self.flags & {"DRAIN", "FAIL"}) or self.base in ("DOWN", "FAIL", "ERROR")
        silent = not self.flags & {"DRAIN", "FAIL"} and self.reason.startswith(_SILENT)
        return held and not is_ours(self.reason) and not silent

    @property
    def view(self) -> CordonView:
        return CordonView(ours=self.ours, others=self.others)

    @property
    def ready(self) -> bool:
        lost = {"NOT_RESPONDING", "POWERED_DOWN", "POWERING_DOWN", "POWERING_UP", "INVALID_REG"}
        return self.base not in ("DOWN", "UNKNOWN", "FUTURE", "ERROR") and not self.flags & lost


def read_nodes(text: str) -> Iterator[SlurmNode]:
    """The nodes of `scontrol -o show node`; lines that are none are left out."""
    for line in text.splitlines():
        head, _, _ = line.partition(" Reason=")
        state = _STATE.search(f"{head} ")
        name = re.match(r"NodeName=(\S+) ", line)
        if name is None or state is None or not usable(name[1]):
            continue
        base, flags = _state(state[1])
        reason = _REASON.search(line, len(head))
        plain = f" {head.partition(' OS=')[0]} {head[state.start() :]}"
        fields = dict(re.findall(r" ([A-Za-z/]+)=(\S*)", plain))
        fields |= {key: value[1] for key in ("Comment", "Extra") if (value := _tail(line, key))}
        yield SlurmNode(name[1], base, flags, reason[1][:500] if reason else "", fields)


def _tail(line: str, key: str) -> re.Match[str] | None:
    return re.search(rf" {key}=(.*?)(?= (?:Comment|Extra|Reason)=| *$)", line)


def _state(text: str) -> tuple[str, frozenset[str]]:
    first, *rest = text.split("+")
    base = first.rstrip(_FLAGS)
    silent = {"NOT_RESPONDING"} if "*" in text else set()
    short = {"DRAINED": "IDLE", "DRAINING": "ALLOCATED"}  # how other forms call a drained node
    drained = {"DRAIN"} if base in short else set()
    return short.get(base, base), frozenset({one.rstrip(_FLAGS) for one in rest} | silent | drained)


def cluster_node(node: SlurmNode) -> ClusterNode:
    """What `ostler adopt` wants to know. `sku`, `slot`, `serial` and `uuid` may stand in the node's Extra or Comment.

    As a JSON object or as `key=value` words; a feature `sku=…`, `sku:…` or else the type of the GPUs names the SKU.
    """
    fields = node.fields
    said = {**_said(fields.get("Comment", "")), **_said(fields.get("Extra", ""))}
    features = [one for one in fields.get("ActiveFeatures", "").split(",") if one and one != "(null)"]
    for one in features:
        key, separator, value = one.replace(":", "=", 1).partition("=")
        if separator:
            said.setdefault(key, value)
    gpus = _GPUS.findall(re.sub(r"\([^)]*\)", "", fields.get("Gres", "")))
    types = sorted({kind for kind, _count in gpus if kind})
    address = fields.get("NodeAddr", "")
    keys = {"Partitions": "partitions", "ActiveFeatures": "features", "Gres": "gres", "Version": "slurm"}
    attributes = {
        ours: fields[theirs][:200] for theirs, ours in keys.items() if fields.get(theirs, "(null)") != "(null)"
    }
    return ClusterNode(
        name=node.name,
        ready=node.ready,
        cordoned_by_others=(node.reason or f"{node.base.lower()} without a reason")[:200] if node.others else "",
        serial=said.get("serial", ""),
        uuid=said.get("uuid", ""),
        sku=said.get("sku") or (types[0] if len(types) == 1 else ""),
        slot=said.get("slot", ""),
        addresses=(address[:253],) if address and address != node.name else (),
        gpus=sum(int(count) for _kind, count in gpus),
        attributes={**attributes, "state": "+".join([node.base, *sorted(node.flags)])},
    )


def _said(text: str) -> dict[str, str]:
    """`serial=SN1 slot=a/b/c/d` or a JSON object, as the words that Ostler looks for."""
    known = ("serial", "slot", "sku", "uuid")
    pairs: dict[str, str] = {}
    if text.startswith("{") and len(text) < 10_000:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = {}
        if isinstance(document, dict):
            pairs = {key: value for key, value in document.items() if isinstance(value, str)}
    else:
        pairs = dict(re.findall(r"(?:^|[\s,;])(\w{1,20})=([^\s,;]{1,200})", text))
    return {key: value[:200] for key, value in pairs.items() if key in known and value.isprintable()}


# Jobs -----------------------------------------------------------------------------------------------------------------

JOB_FORMAT = "%A|%i|%T|%N"
"""For `squeue -o`: the id to act on, the id with its array or heterogeneous root, state, nodes. No free text."""


@dataclass(frozen=True)
class SlurmJob:
    """A job that has nodes."""

    id: str
    root: str
    """What its parts share: an array's or a heterogeneous job's first id."""
    state: str
    nodes: frozenset[str]


def read_jobs(text: str) -> Iterator[SlurmJob]:
    """The jobs of `squeue -h -a -o JOB_FORMAT` that are on nodes."""
    for line in text.splitlines():
        found = re.fullmatch(r"(\d{1,12})\|(\d{1,12})(?:[_+][^|]*)?\|([A-Z_]+)\|(\S+)", line.strip())
        if found is not None and found[3] != "PENDING":
            yield SlurmJob(found[1], found[2], found[3], frozenset(expand(found[4])))


def expand(hosts: str) -> list[str]:
    """The names of a host list such as `gpu[01-03,7],login1`. Raises `BadInput` for one that names too many."""
    names: list[str] = []
    for part in re.findall(r"(?:[^,\[\]]|\[[^\]]*\])+", hosts):
        expanded = [""]
        for text, ranges in re.findall(r"([^\[\]]+)|\[([^\]]*)\]", part):
            ends = [text] if text else [number for one in ranges.split(",") for number in _range(one)]
            if len(expanded) * len(ends) + len(names) > MOST_HOSTS:
                raise BadInput(f"The host list '{hosts[:60]}' names more than {MOST_HOSTS} nodes.")
            expanded = [start + end for start in expanded for end in ends]
        names += expanded
    return names


def _range(text: str) -> list[str]:
    found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text)
    if found is None:
        return []
    first, last = int(found[1]), int(found[2] or found[1])
    if last - first >= MOST_HOSTS:
        raise BadInput(f"The host list '{text}' names more than {MOST_HOSTS} nodes.")
    return [str(number).zfill(len(found[1])) for number in range(first, last + 1)]


def gpus_of(text: str, node: str) -> frozenset[int] | None:
    """The GPU indices that a job has on a node, from `scontrol show job -d`; None when Slurm does not say.

    Only lines of Slurm's own count; a line that a user smuggled in can only add indices, never take some away.
    """
    indices: set[int] = set()
    met = False
    for hosts, gres in re.findall(r"^ +Nodes=(\S+) CPU_IDs=\S* Mem=\d+ GRES=(\S*)", text, re.MULTILINE):
        if node not in expand(hosts):
            continue
        met = True
        for one in re.findall(r"gpu[^,(]*(?:\([^)]*\))?", gres):
            found = re.search(r"\(IDX:([\d,-]+)\)", one)
            if found is None:
                return None
            indices.update(int(number) for part in found[1].split(",") for number in _range(part))
    return frozenset(indices) if met else None


def concerned(indices: frozenset[int] | None, gpus: Collection[int]) -> bool:
    """Whether a job with these GPUs has to go when `gpus` have to; nobody knows: yes."""
    return not gpus or indices is None or bool(indices & set(gpus))
