"""UFM's REST answers: `/ufmRest/resources/links`, `/ports`, `/systems`, each as its list, or an object that holds
several of them. Called by `formats`.

What a record is, is told by its keys, so that it does not matter under which name it is held. Supported widths and
speeds are not taken (UFM 6.x answers `12x` and `NDR` for an HDR port); what is *enabled* is what a port may use. A
switch's port describes itself as `leaf01:17`, an HCA's as `gpu-0001 mlx5_0`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ostler.core.errors import BadInput
from ostler.fabric.formats import vocabulary as say
from ostler.fabric.formats.agreement import settle
from ostler.fabric.sweep import SPEEDS, End, Module, Node, NodeKind, Physical, PortFacts, PortState, ProblemKind, Sweep

_DEPTH = 3
"""Objects and lists within each other before a record must have come."""


def looks_like(head: bytes) -> bool:
    return b'"source_guid"' in head or (
        b'"systemID"' in head
        or b'"system_guid"' in head
        or b'"peer_node_guid"' in head
        or b'"node_description"' in head
    )


def read(data: bytes, name: str) -> Sweep:
    """Nodes, ports and links. Raises `BadInput` where it is no JSON, or has not one record of UFM."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"It is no JSON document ({type(error).__name__}).", where=f"{name}:{getattr(error, 'lineno', 1)}"
        ) from None
    sweep = Sweep("ufm", name)
    links: list[Mapping[str, Any]] = []
    found = 0
    systems: dict[int, Mapping[str, Any]] = {}
    ports: list[Mapping[str, Any]] = []
    for record in _records(document, _DEPTH):
        found += 1
        if "source_guid" in record:
            links.append(record)
        elif "number" in record or "physical_state" in record:
            ports.append(record)
        elif guid := say.guid(record.get("guid") or record.get("system_guid")):
            systems[guid] = record
    if not found:
        raise BadInput("Not one link, port or system of UFM's REST answers is in it.", where=f"{name}:1")
    named: dict[int, tuple[NodeKind, str]] = {}
    others: dict[End, End] = {}
    for record in ports:
        _port(sweep, record, systems, named, others)
    for guid, record in systems.items():
        # A host's record has the GUID of one of its HCAs, and the ports say more of that.
        if guid not in sweep.nodes and record.get("type") == "switch":
            name_of = say.words(record.get("system_name"))
            sweep.nodes[guid] = Node(guid, NodeKind.SWITCH, name_of, answered=record.get("state") != "unreachable")
    for end, facts in sweep.ports.items():
        # A neighbour is named by the GUID of its port; where no such port is listed, by that of its node.
        if facts.peer is not None and facts.peer not in sweep.ports and facts.peer in others:
            sweep.ports[end] = facts._replace(peer=others[facts.peer])
    for record in links:
        _link(sweep, record)
    peers = {facts.peer.guid for facts in sweep.ports.values() if facts.peer is not None}
    settle(sweep, {guid: named.get(guid, (NodeKind.HCA, "")) for guid in peers - sweep.nodes.keys()})
    sweep.states = any(facts.physical not in (Physical.LINK_UP, Physical.UNKNOWN) for facts in sweep.ports.values())
    return sweep


def _records(document: object, depth: int) -> Iterator[Mapping[str, Any]]:
    if isinstance(document, dict):
        if "source_guid" in document or ("guid" in document and ("number" in document or "system_name" in document)):
            yield document
        elif depth:
            for one in document.values():
                yield from _records(one, depth - 1)
    elif isinstance(document, list) and depth:
        for one in document:
            yield from _records(one, depth - 1)


def _port(
    sweep: Sweep,
    record: Mapping[str, Any],
    systems: Mapping[int, Mapping[str, Any]],
    named: dict[int, tuple[NodeKind, str]],
    others: dict[End, End],
) -> None:
    guid, number = say.guid(record.get("guid")), say.whole(record.get("number"), 255)
    if not guid or number is None:
        sweep.trouble(ProblemKind.UNREADABLE, f"port {say.words(record.get('name'))[:60]!r} has no GUID or number")
        return
    described = say.words(record.get("node_description"))
    system = systems.get(say.guid(record.get("systemID")) or 0, {})
    switch = system.get("type") == "switch" or _text(record.get("description")).startswith("Switch")
    sweep.nodes.setdefault(
        guid,
        Node(
            guid,
            NodeKind.SWITCH if switch else NodeKind.HCA,
            _without_port(described) if switch else described,
            system_guid=say.guid(record.get("systemID")) or 0,
        ),
    )
    if not number:
        return
    end = End(guid, number)
    if end in sweep.ports:
        sweep.trouble(ProblemKind.CONTRADICTION, f"port {number} is listed twice", guid=guid)
        return
    peer = _named(record.get("peer")) if say.guid(record.get("peer_guid")) else None
    if peer is not None:
        described = say.words(record.get("peer_node_description"))
        at_switch = not _text(record.get("peer_port_dname")).startswith("HCA")
        kind = NodeKind.SWITCH if at_switch else NodeKind.HCA
        node = say.guid(record.get("peer_node_guid")) or peer.guid
        others[peer] = End(node, peer.port)
        named[peer.guid] = named[node] = (kind, _without_port(described) if at_switch else described)
    sweep.ports[end] = PortFacts(
        peer,
        say.state(_text(record.get("logical_state"))),
        say.physical(_text(record.get("physical_state"))),
        say.width(record.get("active_width")),
        say.speed(record.get("active_speed")),
        max((say.width(one) for one in _list(record.get("enabled_width"))), default=0),
        max(
            (say.speed(one) for one in _list(record.get("enabled_speed"))),
            key=lambda one: SPEEDS.get(one, 0),
            default="",
        ),
        say.whole(record.get("lid"), 0xC000) or 0,
    )


def _link(sweep: Sweep, record: Mapping[str, Any]) -> None:
    ends = [_end(sweep, record, side) for side in ("source", "destination")]
    if ends[0] is None or ends[1] is None:
        sweep.trouble(ProblemKind.UNREADABLE, f"link {say.words(record.get('name'))[:60]!r} has no GUIDs or ports")
        return
    one, two = ends[0], ends[1]
    for end, peer, side in ((one, two, "source"), (two, one, "destination")):
        if end.guid not in sweep.nodes:
            described = say.words(record.get(f"{side}_port_node_description"))
            # `leaf01:1/3/1` is a switch, `gpu-0001 mlx5_0` an HCA; without a word, an HCA's port is `HCA-1/2`.
            label = _text(record.get(f"{side}_port_dname"))
            switch = described.endswith(f":{label}") if described else not label.startswith("HCA")
            sweep.nodes[end.guid] = Node(
                end.guid,
                NodeKind.SWITCH if switch else NodeKind.HCA,
                _without_port(described) if switch else described,
            )
        known = sweep.ports.get(end)
        if known is None:
            sweep.ports[end] = PortFacts(
                peer,
                PortState.UNKNOWN,
                Physical.LINK_UP,
                say.width(record.get("width")),
                say.speed(record.get("speed")),
            )
        elif known.peer is not None and known.peer != peer:
            sweep.trouble(
                ProblemKind.CONTRADICTION, f"port {end.port} has another neighbour in its link", guid=end.guid
            )
        else:
            sweep.ports[end] = known._replace(peer=peer, width=known.width or say.width(record.get("width")))
    cable = record.get("cable_info")
    if isinstance(cable, dict) and cable:
        module = Module(
            vendor=say.words(cable.get("vendor")),
            part=say.words(cable.get("part_number")),
            serial=say.words(cable.get("serial_number")),
            kind=say.words(cable.get("technology")),
            length_m=say.number(cable.get("length")),
            temperature_c=say.number(cable.get("temperature")),
        )
        if module != Module():
            sweep.modules[one] = sweep.modules[two] = module


def _end(sweep: Sweep, record: Mapping[str, Any], side: str) -> End | None:
    """The end as its port calls itself, where that port is listed: a second port's GUID is not its node's."""
    named = _named(record.get(f"{side}_port_name"))
    if named is not None and named in sweep.ports:
        return named
    guid, port = say.guid(record.get(f"{side}_guid")), say.whole(record.get(f"{side}_port"), 255)
    return End(guid, port) if guid and port else None


def _named(text: object) -> End | None:
    """Of `0c42a103001b8256_1`."""
    guid, _, port = _text(text).rpartition("_")
    number, found = say.whole(port, 255), say.guid(guid)
    return End(found, number) if found and number else None


def _without_port(described: str) -> str:
    """`leaf01` of `leaf01:1/3/1`."""
    name, colon, label = described.rpartition(":")
    return name if colon and label[:1].isdigit() else described


def _text(value: object) -> str:
    return value[:300] if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    return value[:32] if isinstance(value, list) else []
