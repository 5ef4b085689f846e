"""`iblinkinfo`: every port with its state, one line each (`-l`) or in a block per node. Called by `formats.read`.

Read from infiniband-diags' `iblinkinfo.c` (rdma-core). Ports that are down are listed (`states`). GUIDs are *port*
GUIDs: a switch's is its node GUID; an HCA's is its node GUID since ConnectX-4 and node GUID + port number before, so
that the two ports of an old HCA are two nodes here. `-l` does not say what a node is: one with several ports, or a port
above 4, is a switch. In blocks a neighbour is named by its LID; where that fits no port of the file (`--switches-only`,
LIDs not yet given) the port's facts stay without peer and a problem says so.

`Could be 4X` and `Could be 53.125 Gbps` are the most that both ends can do together: they become what is supported.
"""

from __future__ import annotations

import re

from ostler.core.errors import BadInput
from ostler.fabric.formats.agreement import blind, settle
from ostler.fabric.formats.byte_lines import LAST_PORT, cut_off, lines, strange, text
from ostler.fabric.formats.vocabulary import physical, state
from ostler.fabric.sweep import SPEEDS, End, Node, NodeKind, PortFacts, PortState, ProblemKind, Sweep, guid_text

_BRACKET = rb"\[[ \d]{0,5}\]"
_HEAD = rb"(\d{1,5})\s++(\d{1,5})" + _BRACKET + rb"\s++==\((.{0,80}?)\)(?: \(HOQ[^)]{0,40}\))?==>\s*+"
_ONE_LINE = re.compile(rb"0x([0-9a-fA-F]{1,16})\s++\"(.{0,256}?)\"\s++" + _HEAD)
_IN_BLOCK = re.compile(rb"\s*+(?:0x([0-9a-fA-F]{1,16})\s++)?(?!0x)()" + _HEAD)
_PEER = re.compile(
    rb"(?:0x([0-9a-fA-F]{1,16})\s++)?(\d{1,5})\s++(\d{1,5})"
    + _BRACKET
    + rb"\s++\"(.{0,256})\"\s++\(([^()]{0,99}+)\)\s*+$"
)
_NODE = re.compile(rb"(Switch|CA|Router|\?\?): (?:0x([0-9a-fA-F]{1,16}) )?(.{0,256}):\s*+$")
_INNER = re.compile(
    rb"\s*+(?:(\d{1,2})X\s++|undefined \(\d{1,5}\)\s++)?"
    rb"(?:([\d.]{1,10}) Gbps(?: \((FDR10)\))?\s++|undefined \(\d{1,5}\)\s++|[A-Z][A-Za-z ]{0,30} Speed\s++)?"
    rb"([A-Za-z?]{1,20}|undefined \(\d{1,5}\))\s*+/\s*+([A-Za-z?]{1,30}|undefined \(\d{1,5}\))\s*+"
)
_COULD_WIDTH = re.compile(rb"Could be (\d{1,2})X")
_COULD_SPEED = re.compile(rb"Could be (?:([\d.]{1,10}) Gbps|(FDR10))")
_LOOK = re.compile(
    rb"(?m)^(?:0x[0-9a-fA-F]{16} \"[^\n]{0,256}\"|[ \t]++(?:0x[0-9a-fA-F]{16})?)[ \t]*+\d{1,5}[ \t]++\d{1,5}"
    rb"\[[ \d]{0,5}\][ \t]++==\([^\n]{0,80}==>"
)
_KINDS = {b"Switch": NodeKind.SWITCH, b"CA": NodeKind.HCA, b"Router": NodeKind.ROUTER, b"??": NodeKind.HCA}
_NO_PEER = (b'[  ] "" ( )', b'"Port not available"')
_RATES = {rate: name for name, rate in SPEEDS.items()}
_HCA_PORTS = 4
"""No HCA has more."""


def looks_like(head: bytes) -> bool:
    return bool(_LOOK.search(head))


def read(data: bytes, name: str) -> Sweep:
    """The topology of iblinkinfo's output. Raises `BadInput` where no port is in it."""
    reading = _Reading(Sweep("iblinkinfo", name, states=True))
    for number, run in lines(data):
        reading.run(number, run)
    if not reading.sweep.ports:
        raise BadInput("No port of iblinkinfo's output is in it.", where=name)
    reading.finish(data)
    return reading.sweep


class _Reading:
    """The state between two lines, and what has to wait for the last one."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.header: tuple[NodeKind, int, str] | None = None
        """Kind, GUID (0: its lines say) and description of the block."""
        self.kinds: dict[int, NodeKind] = {}
        self.descriptions: dict[int, str] = {}
        self.most: dict[int, int] = {}
        """The highest port of a GUID, and …"""
        self.several: set[int] = set()
        """… those with more than one."""
        self.named: dict[int, str] = {}
        self.by_lid: list[tuple[End, int, int]] = []
        """Ports whose neighbour is named by LID and number."""
        self.lids: dict[int, int] = {}
        """LID → GUID; 0 where two have it."""
        self.inner: dict[bytes, PortFacts] = {}
        self.unanswered = 0

    def run(self, number: int, run: list[bytes]) -> None:
        for at, line in enumerate(run, number):
            if not line or line.isspace():
                continue
            found = _ONE_LINE.match(line) if line.startswith(b"0x") else _IN_BLOCK.match(line)
            if found is not None:
                self.port(found, line, at)
            elif header := _NODE.match(line):
                self.header = (_KINDS[header[1]], int(header[2] or b"0", 16), text(header[3]))
            elif not line.startswith(b"#"):
                strange(self.sweep, line, at)

    def port(self, found: re.Match[bytes], line: bytes, number: int) -> None:
        """A line of a port, of either form."""
        own, said, own_lid, own_port, inner = found.groups()
        one_line = line.startswith(b"0x")
        header = None if one_line else self.header
        guid = int(own, 16) if own else header[1] if header else 0
        port, lid = int(own_port), int(own_lid)
        facts = self.inner.get(inner)
        if facts is None:
            facts = self.inner[inner] = _facts(inner)
            if len(self.inner) > 1000:
                self.inner.clear()
        if not guid or not 0 < port <= LAST_PORT:
            missing = "a port without a node: lines before it are missing"
            self.sweep.trouble(
                ProblemKind.UNREADABLE if guid else ProblemKind.TRUNCATED,
                f"no such port: {port}" if guid else missing,
                line=number,
            )
            return
        end = End(guid, port)
        rest = line[found.end() :]
        peer = _PEER.match(rest)
        if peer is None:
            if rest.strip() not in _NO_PEER:
                strange(self.sweep, line, number)
                return
            self.unanswered += facts.state is not PortState.DOWN
            facts = facts._replace(lid=lid)
        else:
            facts = self.linked(end, facts, lid, peer, number)
        before = self.sweep.ports.setdefault(end, facts)
        if before != facts:
            message = f"{guid_text(guid)}[{port}] is there twice, and they differ"
            self.sweep.trouble(ProblemKind.DUPLICATE_GUID, message, line=number, guid=guid)
            return
        if guid in self.most:
            if self.most[guid] != port:
                self.several.add(guid)
                self.most[guid] = max(port, self.most[guid])
        else:
            self.most[guid] = port
            self.descriptions[guid] = header[2] if header else text(said.lstrip(b" "))
            if header:
                self.kinds[guid] = header[0]
        if lid and self.lids.setdefault(lid, guid) != guid:
            self.lids[lid] = 0

    def linked(self, end: End, facts: PortFacts, lid: int, peer: re.Match[bytes], number: int) -> PortFacts:
        """The facts of a port with a neighbour."""
        guid, peer_lid, peer_port, said, hints = peer.groups()
        most, fastest = facts.width, facts.speed
        if len(hints) > 1:
            if could := _COULD_WIDTH.search(hints):
                most = int(could[1])
            if could := _COULD_SPEED.search(hints):
                fastest = "FDR10" if could[2] else _rate(could[1])
        other: End | None = None
        if not 0 < int(peer_port) <= LAST_PORT or (guid and not int(guid, 16)):
            self.sweep.trouble(ProblemKind.UNREADABLE, f"no such port: {int(peer_port)}", line=number, guid=end.guid)
        elif guid:
            other = End(int(guid, 16), int(peer_port))
            if other.guid not in self.named:
                self.named[other.guid] = text(said)
            if other.port > _HCA_PORTS:
                self.several.add(other.guid)
        else:
            self.by_lid.append((end, int(peer_lid), int(peer_port)))
        return PortFacts(other, facts.state, facts.physical, facts.width, facts.speed, most, fastest, lid)

    def finish(self, data: bytes) -> None:
        """Name the neighbours that are known by LID, then the nodes."""
        sweep = self.sweep
        lost: list[End] = []
        for end, lid, port in self.by_lid:
            guid = self.lids.get(lid, 0)
            if guid:
                sweep.ports[end] = sweep.ports[end]._replace(peer=End(guid, port))
            else:
                lost.append(end)
        for guid, most in self.most.items():
            sweep.nodes[guid] = Node(guid, self.kind(guid, most), self.descriptions[guid], most)
        cut_off(sweep, data)
        settle(sweep, {guid: (self.kind(guid, 0), said) for guid, said in self.named.items() if guid})
        # The other end's word may have filled a gap.
        unknown = sum(sweep.ports[end].peer is None for end in lost)
        if unknown:
            message = (
                f"{unknown} neighbours are named by a LID that no port of the file has: use iblinkinfo -l, all nodes"
            )
            sweep.trouble(ProblemKind.UNREADABLE, message)
        if self.unanswered:
            message = f"{self.unanswered} ports have a link whose other end did not answer"
            sweep.trouble(ProblemKind.TIMEOUT, message)
        if all(facts.state is PortState.DOWN for facts in sweep.ports.values()):
            message = "only ports without a link are listed (iblinkinfo -d?): nothing is known of the others"
            sweep.trouble(ProblemKind.UNREADABLE, message)
        elif not unknown:
            blind(sweep)

    def kind(self, guid: int, most: int) -> NodeKind:
        """What a node is, as its block says or as its ports show."""
        said = self.kinds.get(guid)
        if said is not None:
            return said
        return NodeKind.SWITCH if guid in self.several or most > _HCA_PORTS else NodeKind.HCA


def _facts(inner: bytes) -> PortFacts:
    """What stands between `==(` and `)==>`."""
    found = _INNER.fullmatch(inner)
    if found is None:
        return PortFacts()
    lanes, rate, fdr10, logical, physically = found.groups()
    return PortFacts(
        None,
        state(logical.decode()),
        physical(physically.decode()),
        int(lanes) if lanes in (b"1", b"2", b"4", b"8", b"12") else 0,
        "FDR10" if fdr10 else _rate(rate) if rate else "",
    )


def _rate(text: bytes) -> str:
    """The speed of a lane's Gb/s: 10.0 is QDR."""
    try:
        return _RATES.get(float(text), "")
    except ValueError:
        return ""
