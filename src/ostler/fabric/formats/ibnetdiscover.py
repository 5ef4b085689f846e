"""`ibnetdiscover`: the text of its topology, in every dialect of 15 years. Called by `formats.read`.

Read from infiniband-diags' `ibnetdiscover.c` (rdma-core) and from recorded fabrics: grouped by chassis (`-g`, with
`[1][ext 19]`), full (`-f`, with `s=4 w=2 v=4 e=4`), external ports as `[19](19)`, tabs turned into spaces or lost,
CRLF, no LIDs, standard error in the same file. The ports report (`-p`) has its own reader, `ibnetdiscover_ports.py`.

Only ports with a link are listed, so `states` is False. The header's date has no time zone: `taken_at` stays None. The
library links both ends of every cable it finds and prints a block for every node, so a link that one end only names, or
a node without a block, means that lines are missing: a file that ends between two lines is told by that. A cut that
removes both ends of a link cannot be told.
"""

from __future__ import annotations

import re

from ostler.core.errors import BadInput
from ostler.fabric.formats import ibnetdiscover_ports
from ostler.fabric.formats.agreement import blind, settle
from ostler.fabric.formats.byte_lines import LAST_PORT, cut_off, lines, strange, text
from ostler.fabric.formats.vocabulary import SPEED_BITS, WIDTH_BITS, speed, width
from ostler.fabric.sweep import End, Node, NodeKind, PortFacts, ProblemKind, Sweep, guid_text

_PORT = re.compile(
    rb"\[(\d{1,5})\](?:\s*+(?:\[ext \d{1,5}\]|\([0-9a-fA-F]{0,16}\)))*+\s*+"  # own port; number in front, port GUID
    rb"\"([SHR?])-([0-9a-fA-F]{1,16})\"\[(\d{1,5})\]"  # the neighbour
    rb"(?:\s*+(?:\[ext \d{1,5}\]|\([0-9a-fA-F]{0,16}\)))*+\s*+"
    rb"(?:#\s*+(?:lid\s*+(\d{0,5})\s*+(?:lmc\s*+\d{0,3}\s*+)?+)?+"  # own LID, of an HCA
    rb"(?:\"(.{0,256})\"\s*+(?:lid\s*+(?:\d{1,5}\s)?+\s*+)?+(?:(\d{1,2}x|\?\?)([A-Z?]{3}[0-9]{0,2}))?+(.{0,99}))?)?"
)
_NODE = re.compile(
    rb"(Switch|Ca|Rt|Router)\s*+(\d{1,5})\s*+\"([SHR?])-([0-9a-fA-F]{1,16})\"\s*+(?:#\s*+\"(.{0,256})\"([^\"]{0,99}+))?"
)
_ID = re.compile(rb"(vendid|devid|sysimgguid|switchguid|caguid|rtguid)=0x([0-9a-fA-F]{1,16})(?![0-9a-fA-F])")
_LID = re.compile(rb"\blid\s++(\d{1,5})\b")
_ORIGIN = re.compile(rb"#\s*+Initiated from node ([0-9a-fA-F]{1,16})\b")
_FULL = re.compile(rb"s=(\d{1,3})\s++w=(\d{1,3})(?:\s++v=\d{1,3})?+(?:\s++e=(\d{1,3}))?")
_LISTED = re.compile(rb"(?m)^(?:Ca|Switch|Router)[ \t]++: 0x")
_LOOK = re.compile(rb"(?m)^[ \t]*+(?:Switch|Ca|Rt|Router)\s*+\d{1,5}\s*+\"[SHR?]-[0-9a-fA-F]{1,16}\"")
_LOOK_IDS = re.compile(rb"(?m)^(?:switchguid|caguid|rtguid)=0x[0-9a-fA-F]{1,16}|^# Topology file: generated on")
_PASSED_OVER = (b"#", b"Chassis ", b"Non-Chassis Nodes", b"Hostname: ")

KINDS = {b"S": NodeKind.SWITCH, b"H": NodeKind.HCA, b"R": NodeKind.ROUTER, b"?": NodeKind.HCA}


def looks_like(head: bytes) -> bool:
    """Whether there is a node's header, the ids above one, the head of the file, or a line of the ports report."""
    found = _LOOK.search(head) or _LOOK_IDS.search(head) or _LISTED.search(head)
    return found is not None or ibnetdiscover_ports.looks_like(head)


def read(data: bytes, name: str) -> Sweep:
    """The topology of a text of ibnetdiscover. Raises `BadInput` where no node is in it."""
    head = data[:65536]
    if ibnetdiscover_ports.looks_like(head) and not (_LOOK.search(head) or _LOOK_IDS.search(head)):
        return ibnetdiscover_ports.read(data, name)
    reading = _Reading(Sweep("ibnetdiscover", name))
    for number, run in lines(data):
        reading.run(number, run)
    sweep = reading.sweep
    if not sweep.nodes:
        if _LISTED.search(head):
            raise BadInput(
                "This is a list of nodes (ibnetdiscover -l): it has no links. Run it without -l.", where=name
            )
        raise BadInput("No node of ibnetdiscover's text is in it.", where=name)
    reading.finish(data)
    return sweep


class _Reading:
    """The state between two lines: which node's block they are in."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.ids: dict[bytes, int] = {}
        self.guid: int | None = None
        self.most = LAST_PORT
        self.lid = 0
        self.bare = False
        """The block has no port yet."""
        self.again: tuple[int, int] | None = None
        """GUID and line of a block that is there for the second time, and …"""
        self.differs = False
        """… whether it says something else than the first."""
        self.latest: End | None = None
        self.named: dict[int, tuple[NodeKind, str]] = {}
        self.guids: dict[bytes, int] = {}
        self.rates: dict[tuple[bytes, bytes], tuple[int, str]] = {}

    def run(self, number: int, run: list[bytes]) -> None:
        """Take a run of lines, of which `number` is the first's."""
        match, ports, guids, named, rates = _PORT.match, self.sweep.ports, self.guids, self.named, self.rates
        guid, lid, most = self.guid, self.lid, self.most
        for at, line in enumerate(run, number):
            if line[:1] != b"[":
                if line and not line.isspace():
                    self.other(line, at)
                    guid, lid, most = self.guid, self.lid, self.most
                continue
            found = match(line)
            if found is None or guid is None:
                self.no_port(line, at, found is None)
                continue
            own, kind, whom, theirs, own_lid, said, lanes, rate, rest = found.groups()
            port, other = int(own), int(theirs)
            peer = guids.get(whom)
            if peer is None:
                peer = guids[whom] = int(whom, 16)
            if not (0 < port <= most and 0 < other <= LAST_PORT and peer):
                self.sweep.trouble(ProblemKind.UNREADABLE, f"no such port: [{port}] to [{other}]", line=at, guid=guid)
                continue
            if peer not in named:
                named[peer] = (KINDS[kind], text(said or b""))
            known = rates.get((lanes, rate))
            if known is None:
                known = rates[lanes, rate] = (
                    width(lanes.decode()) if lanes else 0,
                    speed(rate.decode()) if rate else "",
                )
            lane_count, name = known
            if rest and not name and (full := _FULL.search(rest)):
                lane_count, name = _full(full, lane_count)
            end = End(guid, port)
            facts = PortFacts(End(peer, other), width=lane_count, speed=name, lid=int(own_lid) if own_lid else lid)
            before = ports.get(end)
            if before is None and self.again is None:
                ports[end] = facts
            elif before is None or before.peer != facts.peer:
                self.conflict(end, at)
            self.latest = end
            self.bare = False

    def no_port(self, line: bytes, number: int, unknown: bool) -> None:
        """A line that begins as a port's does and is none, or that belongs to no node."""
        if unknown:
            strange(self.sweep, line, number)
        else:
            self.sweep.trouble(ProblemKind.TRUNCATED, "a port without a node: lines before it are missing", line=number)

    def conflict(self, end: End, number: int) -> None:
        """A port that was there before names another neighbour now: in a second block of its GUID, or in its own."""
        if self.again is not None:
            self.differs = True
            return
        message = f"{guid_text(end.guid)}[{end.port}] has two neighbours: neither is believed"
        self.sweep.trouble(ProblemKind.CONTRADICTION, message, line=number, guid=end.guid)
        self.sweep.ports[end] = PortFacts(lid=self.lid)

    def other(self, line: bytes, number: int) -> None:
        """Any line but a port's."""
        line = line.strip()
        if found := _ID.match(line):
            if found[1] in (b"vendid", b"devid") and found[1] in self.ids:
                self.ids.clear()
            self.ids[found[1]] = int(found[2], 16)
        elif found := _NODE.match(line):
            self.node(found, number)
        elif line.startswith(_PASSED_OVER):
            if self.sweep.origin is None and (found := _ORIGIN.match(line)):
                self.sweep.origin = int(found[1], 16)
        elif line[:1] == b"[":
            self.run(number, [line])  # the port was indented
        else:
            strange(self.sweep, line, number)

    def node(self, found: re.Match[bytes], number: int) -> None:
        """The header of a node's block."""
        self.close_second()
        ids, self.ids = self.ids, {}
        letter, guid, count = found[3], int(found[4], 16), int(found[2])
        self.guid, self.bare = guid, True
        lid = _LID.search(found[6] or b"")
        self.lid = int(lid[1]) if lid else 0
        self.most = count if 0 < count <= LAST_PORT else LAST_PORT
        if not guid:
            self.guid = None
            self.sweep.trouble(ProblemKind.UNREADABLE, "a node without GUID was left out", line=number)
        elif guid in self.sweep.nodes:
            self.again = (guid, number)
        else:
            kind = NodeKind.SWITCH if found[1] == b"Switch" else NodeKind.HCA if found[1] == b"Ca" else NodeKind.ROUTER
            self.sweep.nodes[guid] = Node(
                guid,
                KINDS[letter] if letter != b"?" else kind,
                text(found[5] or b""),
                count if count <= LAST_PORT else 0,
                ids.get(b"sysimgguid", 0),
                ids.get(b"vendid", 0),
                ids.get(b"devid", 0),
            )

    def close_second(self) -> None:
        """The end of a block whose GUID had one before: the first is kept."""
        if self.again is not None:
            guid, line = self.again
            what = "and they differ: two nodes have it" if self.differs else "with the same ports"
            message = f"{guid_text(guid)} has a second block, {what}"
            self.sweep.trouble(ProblemKind.DUPLICATE_GUID, message, line=line, guid=guid, hides=self.differs)
            self.again, self.differs = None, False

    def finish(self, data: bytes) -> None:
        """What can be told once all lines were seen."""
        sweep = self.sweep
        self.close_second()
        cut = cut_off(sweep, data)
        if cut and self.latest in sweep.ports and data.startswith(b"[", data.rfind(b"\n") + 1):
            # Of the line that was cut: `4xFDR` may have been `4xFDR10`.
            sweep.ports[self.latest] = sweep.ports[self.latest]._replace(width=0, speed="")
        one_sided = settle(sweep, self.named)
        if not cut and (self.ids or (self.bare and len(sweep.nodes) > 1)):
            sweep.trouble(ProblemKind.TRUNCATED, "the last block is not complete: the file was cut off")
        if one_sided.links or one_sided.nodes:
            sweep.trouble(
                ProblemKind.TRUNCATED,
                f"{one_sided.nodes} nodes have no block and {one_sided.links} links are named by one end only, though "
                "ibnetdiscover prints both: lines are missing",
            )
        blind(sweep)


def _full(found: re.Match[bytes], shown: int) -> tuple[int, str]:
    """Width and speed from the codes of `-f`, for speeds that are younger than the tool and shown as `???`."""
    active, lanes, extended = int(found[1]), int(found[2]), int(found[3] or 0)
    name = SPEED_BITS.get(extended << 8, "") if extended else SPEED_BITS.get(active, "") if found[3] else ""
    return shown or WIDTH_BITS.get(lanes, 0), name
