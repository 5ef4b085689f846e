"""Counters and readings find their port: what says a LID, a description or a port's GUID gets the node's GUID.

Sources of counters and modules often do not know node GUIDs: perfquery prints a LID, mlxlink nothing at all, and
ibqueryerrors the GUID of a channel adapter's *port*. Their readers file what they read under placeholders (GUIDs below
zero), and `bind` resolves them against a sweep of the topology. Called by `places.locate` for its `extra` sweeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b

from ostler.fabric.formats.vocabulary import ERRORS
from ostler.fabric.sweep import End, Node, NodeKind, PortFacts, ProblemKind, Sweep

_LID = -(1 << 72)
"""Placeholders of LIDs lie below; those of descriptions between it and 0."""
_NONE: Mapping[str, int] = dict.fromkeys(ERRORS, 0)


def by_lid(sweep: Sweep, lid: int, port: int) -> End:
    """The placeholder of a port of whatever has this LID."""
    end = End(_LID - lid, port)
    sweep.ports.setdefault(end, PortFacts(lid=lid))
    return end


def by_description(sweep: Sweep, description: str, port: int = 1) -> End:
    """The placeholder of a port of the node that describes itself so."""
    guid = -1 - int.from_bytes(blake2b(description.encode("utf-8", "replace"), digest_size=8).digest(), "big")
    sweep.nodes.setdefault(guid, Node(guid, NodeKind.HCA, description, answered=False))
    return End(guid, port)


def bind(extra: Sweep, topology: Sweep) -> Sweep:
    """`extra` with its ports named as `topology` names them; what it does not know is left out, and a problem says so.

    The counters of an ibqueryerrors run that had no thresholds are completed: a port that it did not print has none.
    """
    descriptions: dict[str, int] = {}
    for guid, node in topology.nodes.items():
        if node.description:
            descriptions[node.description] = 0 if node.description in descriptions else guid
    lids = {facts.lid: end.guid for end, facts in topology.ports.items() if facts.lid}
    real: dict[int, int | None] = {}

    def resolve(end: End) -> End | None:
        guid = end.guid
        if guid not in real:
            real[guid] = _find(extra, end, topology, descriptions, lids)
        found = real[guid]
        return None if found is None else End(found, end.port)

    bound = replace(extra, nodes={}, ports={}, counters={}, modules={}, bers={}, problems=list(extra.problems))
    lost = 0
    for end, facts in extra.ports.items():
        if (place := resolve(end)) is not None:
            bound.ports[place] = facts
    for end, counters in extra.counters.items():
        if (place := resolve(end)) is None:
            lost += 1
        else:
            bound.counters[place] = counters
    for end, module in extra.modules.items():
        if (place := resolve(end)) is None:
            lost += 1
        else:
            bound.modules[place] = module
    for end, reading in extra.bers.items():
        if (place := resolve(end)) is not None:
            bound.bers[place] = reading
    bound.nodes = {guid: topology.nodes[guid] for guid in real.values() if guid is not None}
    if lost:
        bound.trouble(
            ProblemKind.CONTRADICTION,
            f"{lost} ports with counters or readings are not in the topology of {topology.name or topology.source}",
            hides=False,
        )
    complete = extra.source == "ibqueryerrors" and not extra.problems
    if complete and all("symbol_error" in counters for counters in extra.counters.values()):
        none = dict(_NONE)
        for end, facts in topology.ports.items():
            if facts.peer is not None and topology.nodes[end.guid].answered and end not in bound.counters:
                bound.counters[end] = none  # one for all: nothing changes a sweep that was read
    return bound


def _find(
    extra: Sweep, end: End, topology: Sweep, descriptions: Mapping[str, int], lids: Mapping[int, int]
) -> int | None:
    """The node GUID behind a placeholder or a port's GUID; None where nothing or more than one fits."""
    if end.guid <= _LID:
        return lids.get(_LID - end.guid)
    node, same = extra.nodes.get(end.guid), topology.nodes.get(end.guid)
    if same is not None and (node is None or node.description in ("", same.description)):
        return same.guid
    if node is not None and (found := descriptions.get(node.description)):
        return found
    if end.guid > 0:
        # A channel adapter's port GUID was node GUID + port number up to ConnectX-3, and is the node GUID since.
        near = topology.nodes.get(end.guid - end.port)
        if near is not None and near.kind is NodeKind.HCA and same is None:
            return near.guid
    return same.guid if same is not None else None
