"""`opensm-subnet.lst`: what the subnet manager saw at its last heavy sweep. Called by `formats.read`.

opensm writes it to `$OSM_TMP_DIR` (opensm's `osm_dump.c`): a line a port with a link, both ends in it, every number
hexadecimal but the speed. Its vantage point is the subnet manager's own port: `origin` is the node marked `-SM`. Ports
without a link are not in it (`states` is False), nor is a link that is down; of the second end the ids are wider, and
its device stands in the upper half.
"""

from __future__ import annotations

import re

from ostler.core.errors import BadInput
from ostler.fabric.formats.agreement import OneSided, blind, settle
from ostler.fabric.formats.byte_lines import LAST_PORT, cut_off, lines, strange, text
from ostler.fabric.formats.vocabulary import speed, state, width
from ostler.fabric.sweep import End, Node, NodeKind, PortFacts, PortState, ProblemKind, Sweep, guid_text

_END = (
    rb"\{ (SW|CA|Rt|RT|\*\*)(-SM)? Ports:([0-9A-Fa-f]{2,4}) SystemGUID:([0-9A-Fa-f]{1,16}) "
    rb"NodeGUID:([0-9A-Fa-f]{1,16}) PortGUID:[0-9A-Fa-f]{1,16} VenID:([0-9A-Fa-f]{1,8}) DevID:([0-9A-Fa-f]{1,8}) "
    rb"Rev:[0-9A-Fa-f]{1,8} \{(.{0,256})\} "
    rb"LID:([0-9A-Fa-f]{1,4}) PN:([0-9A-Fa-f]{1,4}) \}"
)
_LINE = re.compile(_END + rb" " + _END + rb" PHY=(\S{1,8}) LOG=(\S{1,8}) SPD=(\S{1,8})\s*+$")
_FIRST = re.compile(rb"(?m)^\{ (?:SW|CA|Rt|RT|\*\*)(?:-SM)? Ports:[0-9A-Fa-f]{2,4} SystemGUID:")
_KINDS = {b"SW": NodeKind.SWITCH, b"CA": NodeKind.HCA}


def looks_like(head: bytes) -> bool:
    return bool(_FIRST.search(head))


def read(data: bytes, name: str) -> Sweep:
    """The topology of opensm's list. Raises `BadInput` where no cable is in it."""
    sweep = Sweep("opensm-subnet", name)
    nodes, ports = sweep.nodes, sweep.ports
    seconds: dict[int, tuple[bytes | None, ...]] = {}
    guids: dict[bytes, int] = {}
    managers: set[int] = set()
    rates: dict[tuple[bytes, ...], tuple[int, PortState, str]] = {}
    for first, run in lines(data):
        for number, line in enumerate(run, first):
            found = _LINE.match(line)
            if found is None:
                if line and not line.isspace():
                    strange(sweep, line, number)
                continue
            said = found.groups()
            guid = guids.get(said[4])
            if guid is None:
                guid = guids[said[4]] = int(said[4], 16)
                nodes[guid] = _node(guid, said[:10])
                if said[1]:
                    managers.add(guid)
            other = guids.get(said[14])
            if other is None:
                other = int(said[14], 16)
                seconds.setdefault(other, said[10:20])
            port, peer = int(said[9], 16), End(other, int(said[19], 16))
            if not (0 < port <= LAST_PORT and 0 < peer.port <= LAST_PORT and guid and other):
                message = f"no such port: {guid_text(guid)}[{port}] to {guid_text(other)}[{peer.port}]"
                sweep.trouble(ProblemKind.UNREADABLE, message, line=number)
                continue
            rate = rates.get(said[20:])
            if rate is None:
                phy, log, spd = (word.decode("latin-1") for word in said[20:])
                rate = rates[said[20:]] = (width(phy), state(log), speed(spd))
                if len(rates) > 1000:
                    rates.clear()
            end = End(guid, port)
            facts = PortFacts(peer, rate[1], width=rate[0], speed=rate[2], lid=int(said[8], 16))
            before = ports.setdefault(end, facts)
            if before.peer != peer:
                message = f"{guid_text(guid)}[{port}] has two neighbours: neither is believed"
                sweep.trouble(ProblemKind.CONTRADICTION, message, line=number, guid=guid)
                ports[end] = facts._replace(peer=None)
    nodes.pop(0, None)
    if not nodes:
        raise BadInput("No cable of opensm's subnet list is in it.", where=name)
    if len(managers) == 1:
        (sweep.origin,) = managers
    _finish(sweep, data, settle(sweep, _named(seconds)))
    for guid, said in seconds.items():
        if guid in nodes and not nodes[guid].answered:
            nodes[guid] = _node(guid, said, answered=False)
    return sweep


def _named(seconds: dict[int, tuple[bytes | None, ...]]) -> dict[int, tuple[NodeKind, str]]:
    return {
        guid: (_KINDS.get(said[0] or b"", NodeKind.ROUTER), text(said[7] or b""))
        for guid, said in seconds.items()
        if guid
    }


def _node(guid: int, said: tuple[bytes | None, ...], answered: bool = True) -> Node:
    """The node of an end, from the ten groups of `_END`."""
    kind, _, count, system, _, vendor, device, description, _, _ = (group or b"" for group in said)
    ports, id_ = int(count, 16), int(device, 16)
    return Node(
        guid,
        _KINDS.get(kind, NodeKind.ROUTER),
        text(description),
        ports if ports <= LAST_PORT else 0,
        int(system, 16),
        int(vendor, 16),
        id_ >> 16 if id_ > 0xFFFF else id_,
        answered,
    )


def _finish(sweep: Sweep, data: bytes, one_sided: OneSided) -> None:
    """The list has every link twice, once from each end: what it has once only was cut off."""
    if not cut_off(sweep, data) and (one_sided.links or one_sided.nodes):
        message = f"{one_sided.nodes} nodes and one end of {one_sided.links} links have no line: lines are missing"
        sweep.trouble(ProblemKind.TRUNCATED, message)
    blind(sweep)
