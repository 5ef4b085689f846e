"""`ibnetdiscover --cache`: the library's own file, with the raw PortInfo of every port. Called by `formats.read`.

Layout: libibnetdisc's `ibnetdisc_cache.c` (rdma-core), version 1, little-endian; a header, nodes of varying length,
ports of 95 bytes each. PortInfo and NodeInfo within are as they came over the wire: InfiniBand Architecture
Specification 1.7, volume 1, 14.2.5.3 and 14.2.5.6.

Ports without a link are in it (`states`). Not in it: when it was taken, the vendor's extended PortInfo, so that a link
at FDR10 reads as QDR, and the second extended speed, so that one at XDR has no speed here. Width and
speed of a port that is down are left out: they mean nothing then (C14-24.2.1).
"""

from __future__ import annotations

from struct import Struct

from ostler.core.errors import BadInput
from ostler.fabric.formats.agreement import blind, settle
from ostler.fabric.formats.byte_lines import LAST_PORT, text
from ostler.fabric.formats.vocabulary import SPEED_BITS, WIDTH_BITS, fastest, widest
from ostler.fabric.sweep import End, Node, NodeKind, Physical, PortFacts, PortState, ProblemKind, Sweep, guid_text

MAGIC = b"\x2b\x83\xe7\x8f"
VERSION = 1

HEADER = Struct("<4sIIIQI")
"""Magic, version, nodes, ports, GUID of the node it was taken from, hops."""
NODE = Struct("<HBB 64x QBB 64s 64s B")
"""LID, LMC, enhanced port 0, SwitchInfo, GUID, type, ports, NodeInfo, description, ports stored."""
KEY = 9
"""Bytes of a port's key behind its node: GUID and number. They are in the ports again."""
PORT = Struct("<QB x HB 30x 4s x B 26x B x QBQB")
"""GUID, number, LID, LMC; of PortInfo the bytes 30 to 33 (width supported and active, speed supported and state,
physical state), 35 (speed active) and 62 (extended speed active and supported); GUID of the node, whether there is a
neighbour, GUID and number of its port."""
KEYS = Struct("<QB 68x Q 10x")
"""Of the same 95 bytes only GUID, number and GUID of the node."""
_NODE_INFO = Struct(">4x QQQ 2x H 5x 3s 24x")
"""System, node and port GUID, device, vendor."""

_KINDS = {1: NodeKind.HCA, 2: NodeKind.SWITCH, 3: NodeKind.ROUTER}
_STATES = {1: PortState.DOWN, 2: PortState.INIT, 3: PortState.ARMED, 4: PortState.ACTIVE}
_PHYSICAL = {
    1: Physical.SLEEP,
    2: Physical.POLLING,
    3: Physical.DISABLED,
    4: Physical.TRAINING,
    5: Physical.LINK_UP,
    6: Physical.RECOVERY,
    7: Physical.TEST,
}


def looks_like(head: bytes) -> bool:
    return head.startswith(MAGIC)


def read(data: bytes, name: str) -> Sweep:
    """The topology of a cache file. Raises `BadInput` where it is none, of another version, or without any node."""
    if not data.startswith(MAGIC):
        raise BadInput("This is no cache file of ibnetdiscover: it does not begin with 2b 83 e7 8f.", where=name)
    if len(data) < HEADER.size:
        raise BadInput("The cache file ends within its header.", where=name)
    _, version, nodes, ports, origin, _ = HEADER.unpack_from(data)
    if version != VERSION:
        raise BadInput(f"The cache file is of version {version}; only version {VERSION} is known.", where=name)
    sweep = Sweep("ibnetdiscover-cache", name, origin=origin or None, states=True)
    lids: dict[int, int] = {}
    offset = _nodes(sweep, data, nodes, lids)
    if not sweep.nodes:
        raise BadInput("The cache file has no node: the discovery failed, or it was cut off.", where=name)
    if offset >= 0:
        _ports(sweep, data, offset, ports, lids)
    settle(sweep, {})
    if origin and origin not in sweep.nodes:
        message = f"the node it was taken from, {guid_text(origin)}, is not in it"
        sweep.trouble(ProblemKind.CONTRADICTION, message, guid=origin)
    blind(sweep)
    return sweep


def _nodes(sweep: Sweep, data: bytes, count: int, lids: dict[int, int]) -> int:
    """Read the nodes, and the LID of every switch; where the ports begin, or -1 where the file ends before."""
    offset, size = HEADER.size, len(data)
    for done in range(count):
        if offset + NODE.size > size:
            sweep.trouble(ProblemKind.TRUNCATED, f"the file ends behind {done} of {count} nodes; no port is in it")
            return -1
        lid, _, _, guid, kind, ports, info, description, stored = NODE.unpack_from(data, offset)
        offset += NODE.size + KEY * stored
        if not guid or kind not in _KINDS:
            message = f"node {done + 1} has the GUID {guid_text(guid)} and the type {kind}: left out"
            sweep.trouble(ProblemKind.UNREADABLE, message)
            continue
        if guid in sweep.nodes:
            sweep.trouble(ProblemKind.DUPLICATE_GUID, f"{guid_text(guid)} is there twice", guid=guid)
            continue
        system, _, _, device, vendor = _NODE_INFO.unpack(info)
        if kind == 2:
            lids[guid] = lid
        sweep.nodes[guid] = Node(
            guid, _KINDS[kind], text(description), min(ports, LAST_PORT), system, int.from_bytes(vendor, "big"), device
        )
    return offset


def _ports(sweep: Sweep, data: bytes, offset: int, count: int, lids: dict[int, int]) -> None:
    """Read the ports; neighbours are named by port GUID and number, and found by these."""
    whole = max(0, len(data) - offset) // PORT.size
    if whole < count:
        sweep.trouble(ProblemKind.TRUNCATED, f"the file ends behind {whole} of {count} ports")
    elif len(data) != offset + count * PORT.size:
        message = f"{len(data) - offset - count * PORT.size} bytes are left behind the last port: the counts are wrong"
        sweep.trouble(ProblemKind.UNREADABLE, message)
    rows = memoryview(data)[offset : offset + min(whole, count) * PORT.size]
    nodes, ports = sweep.nodes, sweep.ports
    ends: dict[tuple[int, int], End] = {}
    for guid, port, node in KEYS.iter_unpack(rows):
        if not port:
            continue  # a switch's own management port
        if ends.setdefault((guid, port), End(node, port)).guid != node:
            message = f"two nodes have the port GUID {guid_text(guid)}, port {port}: the first is kept"
            sweep.trouble(ProblemKind.DUPLICATE_GUID, message, guid=node)
    meanings: dict[tuple[bytes, int, int], PortFacts] = {}
    lost = 0
    for guid, port, lid, _, info, speed, extended, node, linked, peer_guid, peer_port in PORT.iter_unpack(rows):
        if not port:
            continue
        owner = nodes.get(node)
        if owner is None or port > (owner.ports or LAST_PORT):
            sweep.trouble(ProblemKind.UNREADABLE, f"no node has this port: {guid_text(node)}[{port}]", guid=node)
            continue
        means = meanings.get((info, speed, extended))
        if means is None:
            means = meanings[info, speed, extended] = _meaning(info, speed, extended)
        peer = ends.get((peer_guid, peer_port)) if linked else None
        if peer is not None and peer.guid not in nodes:
            peer = None
        if linked and peer is None:
            lost += 1
        end = ends[guid, port]
        if end.guid != node or end in ports:
            continue
        _, state, physical, lanes, name, most, fast, _ = means
        ports[end] = PortFacts(peer, state, physical, lanes, name, most, fast, lid or lids.get(node, 0))
    if lost:
        sweep.trouble(ProblemKind.TRUNCATED, f"{lost} ports have a neighbour that is not in the file")


def _meaning(info: bytes, speed: int, extended: int) -> PortFacts:
    """What bytes 30 to 33, 35 and 62 of PortInfo say."""
    state = _STATES.get(info[2] & 15, PortState.UNKNOWN)
    up = state is not PortState.DOWN
    active = SPEED_BITS.get(extended >> 4 << 8 if extended >> 4 else speed >> 4, "")
    return PortFacts(
        None,
        state,
        _PHYSICAL.get(info[3] >> 4, Physical.UNKNOWN),
        WIDTH_BITS.get(info[1], 0) if up else 0,
        active if up else "",
        widest(info[0]),
        fastest(info[2] >> 4 | (extended & 15) << 8),
    )
