"""`ibnetdiscover -p`: the ports report, a line a port. Called by `ibnetdiscover.read`, of which it is a dialect.

    CA   134  1 0x7cfe9003003b4bde 4x EDR - SW  1719 10 0x7cfe9003009ce5b0 ( 'o0001 HCA-1' - 'ib-i1l1s01' )
    SW  2052 37 0x506b4b03005c2740 4x ???                                    'ib-i4l1s01'

It names *port* GUIDs. A switch's is its node GUID; an HCA's is its node GUID since ConnectX-4 and node GUID + port
number before, so the two ports of an old HCA are two nodes here. Ports without a neighbour are listed too (`states`).
Such a port shows `???` or `SDR` where nothing is plugged in; with any other speed its state is left open: the link may
be up and the neighbour silent.
"""

from __future__ import annotations

import re

from ostler.core.errors import BadInput
from ostler.fabric.formats.agreement import blind, settle
from ostler.fabric.formats.byte_lines import LAST_PORT, cut_off, lines, strange, text
from ostler.fabric.formats.vocabulary import speed, width
from ostler.fabric.sweep import End, Node, NodeKind, PortFacts, PortState, ProblemKind, Sweep, guid_text

_LINE = re.compile(
    rb"\s*+(CA|SW|RT|\?\?)\s++(\d{1,5})\s++(\d{1,5})\s++0x([0-9a-fA-F]{1,16})\s++(\d{1,2}x|\?\?)\s++([A-Z?]{3}\d{0,2})\s++"
    rb"(?:-\s++(CA|SW|RT|\?\?)\s++(\d{1,5})\s++(\d{1,5})\s++0x([0-9a-fA-F]{1,16})\s++\(\s++'(.{0,256})'\s++-\s++'(.{0,256})'\s++\)"
    rb"|(?!-\s)(\S.{0,256}))\s*+$"
)
_LOOK = re.compile(
    rb"(?m)^[ \t]*+(?:CA|SW|RT|\?\?)[ \t]++\d{1,5}[ \t]++\d{1,5}[ \t]++0x[0-9a-fA-F]{16}[ \t]++(?:\d{1,2}x|\?\?)[ \t]"
)
_KINDS = {b"SW": NodeKind.SWITCH, b"CA": NodeKind.HCA, b"RT": NodeKind.ROUTER, b"??": NodeKind.HCA}
_EMPTY = (b"???", b"SDR")


def looks_like(head: bytes) -> bool:
    return bool(_LOOK.search(head))


def read(data: bytes, name: str) -> Sweep:
    """The topology of a ports report. Raises `BadInput` where no port is in it."""
    sweep = Sweep("ibnetdiscover", name, states=True)
    named: dict[int, tuple[NodeKind, str]] = {}
    count: dict[int, int] = {}
    differing: set[int] = set()
    for first, run in lines(data):
        for number, line in enumerate(run, first):
            if not line or line.isspace():
                continue
            found = _LINE.match(line)
            if found is None:
                strange(sweep, line, number)
                continue
            kind, lid, own, own_guid, lanes, rate, peer_kind, _, theirs, peer_guid, said, peer_said, alone = (
                found.groups()
            )
            guid, port = int(own_guid, 16), int(own)
            peer = End(int(peer_guid, 16), int(theirs)) if peer_guid else None
            if not (0 < port <= LAST_PORT and guid and (peer is None or (0 < peer.port <= LAST_PORT and peer.guid))):
                sweep.trouble(ProblemKind.UNREADABLE, f"no such port: {port}", line=number, guid=guid)
                continue
            if guid not in sweep.nodes:
                sweep.nodes[guid] = Node(guid, _KINDS[kind], text(said if alone is None else alone.strip(b"' ")))
            if peer is None:
                state = PortState.DOWN if rate in _EMPTY else PortState.UNKNOWN
                facts = PortFacts(state=state, lid=int(lid))
            else:
                named.setdefault(peer.guid, (_KINDS[peer_kind], text(peer_said)))
                facts = PortFacts(peer, width=width(lanes.decode()), speed=speed(rate.decode()), lid=int(lid))
            end = End(guid, port)
            if sweep.ports.setdefault(end, facts).peer != facts.peer:
                differing.add(guid)
            count[guid] = max(count.get(guid, 0), port)
    if not sweep.nodes:
        raise BadInput("No line of ibnetdiscover's ports report (-p) is in it.", where=name)
    for guid in differing:
        sweep.trouble(ProblemKind.DUPLICATE_GUID, f"{guid_text(guid)} has a port twice, and they differ", guid=guid)
    one_sided = settle(sweep, named)
    if not cut_off(sweep, data) and (one_sided.links or one_sided.nodes):
        message = f"{one_sided.nodes} nodes and one end of {one_sided.links} links have no line: lines are missing"
        sweep.trouble(ProblemKind.TRUNCATED, message)
    blind(sweep)
    for guid, node in sweep.nodes.items():
        if node.answered:
            sweep.nodes[guid] = Node(guid, node.kind, node.description, count[guid])
    return sweep
