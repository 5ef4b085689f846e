"""A small fabric written in every form of the topology tools, and what must hold of whatever a reader makes of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import pack

from ostler.fabric.formats.ibnetdiscover_cache import HEADER, NODE
from ostler.fabric.sweep import PROBLEMS_KEPT, SPEEDS, End, NodeKind, Sweep

LEAF, SPINE, HCA, HCB = 0xE41D2D0300000040, 0xE41D2D0300000080, 0x98039B0300000010, 0x98039B0300000020
NAMES = {LEAF: "MF0;leaf01:MQM8700/U1", SPINE: "MF0;spine01:MQM8700/U1", HCA: "gpu-0001 mlx5_0", HCB: "gpu-0002 mlx5_0"}
LIDS = {LEAF: 2, SPINE: 3, HCA: 4, HCB: 5}
PORTS = {LEAF: 40, SPINE: 40, HCA: 1, HCB: 1}


def both_ways(*pairs: tuple[tuple[int, int], tuple[int, int]]) -> dict[End, End]:
    return {End(*a): End(*b) for pair in pairs for a, b in (pair, pair[::-1])}


LINKS = both_ways(((LEAF, 1), (HCA, 1)), ((LEAF, 2), (HCB, 1)), ((LEAF, 33), (SPINE, 1)), ((LEAF, 34), (SPINE, 2)))
"""Both ways."""


def is_switch(guid: int) -> bool:
    return guid >> 60 == 0xE


@dataclass
class Fabric:
    """What is written. `links` may say anything: it is taken as each port's own word."""

    links: Mapping[End, End] = field(default_factory=lambda: dict(LINKS))
    names: Mapping[int, str] = field(default_factory=lambda: dict(NAMES))
    speed: str = "HDR"
    width: int = 4

    def of(self, guid: int) -> list[tuple[int, End]]:
        return sorted((end.port, peer) for end, peer in self.links.items() if end.guid == guid)

    def block(self, guid: int, suffix: str = "") -> str:
        """A node's block of ibnetdiscover's text."""
        switch = is_switch(guid)
        text = f"\nvendid=0x2c9\ndevid=0x{0xD2F0 if switch else 0x101B:x}\nsysimgguid=0x{guid:x}\n"
        if switch:
            text += f"switchguid=0x{guid:x}({guid:x})\n"
            text += f'Switch\t{PORTS[guid]} "S-{guid:016x}"\t\t# "{self.names[guid]}" enhanced port 0 lid {LIDS[guid]} lmc 0\n'
        else:
            text += f'caguid=0x{guid:x}\nCa\t{PORTS[guid]} "H-{guid:016x}"\t\t# "{self.names[guid]}"\n'
        for port, peer in self.of(guid):
            other = f'"{"S" if is_switch(peer.guid) else "H"}-{peer.guid:016x}"[{peer.port}]'
            if not is_switch(peer.guid):
                other += f"({peer.guid:x}) "
            own = f"[{port}]" if switch else f"[{port}]({guid:x}) "
            lid = "" if switch else f"lid {LIDS[guid]} lmc 0 "
            text += f'{own}\t{other}\t\t# {lid}"{self.names[peer.guid]}" lid {LIDS[peer.guid]} {self.width}x{self.speed}{suffix}\n'
        return text

    def topology(self, suffix: str = "") -> str:
        """ibnetdiscover's text."""
        head = "#\n# Topology file: generated on Sat Nov 21 03:34:01 2026\n#\n"
        head += f"# Initiated from node {HCA:016x} port {HCA:016x}\n"
        return head + "".join(self.block(guid, suffix) for guid in self.names)

    def report(self) -> str:
        """ibnetdiscover -p."""
        lines = []
        for guid in self.names:
            mine = dict(self.of(guid))
            for port in range(PORTS[guid], 0, -1):
                own = f"{'SW' if is_switch(guid) else 'CA'} {LIDS[guid]:5} {port:2} 0x{guid:016x} "
                if peer := mine.get(port):
                    kind = "SW" if is_switch(peer.guid) else "CA"
                    lines.append(
                        f"{own}{self.width}x {self.speed} - {kind} {LIDS[peer.guid]:5} {peer.port:2} 0x{peer.guid:016x} "
                        f"( '{self.names[guid]}' - '{self.names[peer.guid]}' )"
                    )
                else:
                    lines.append(f"{own}4x SDR{'':36}'{self.names[guid]}'")
        return "\n".join(lines) + "\n"

    def subnet(self) -> str:
        """opensm-subnet.lst."""

        def end(guid: int, port: int, second: bool) -> str:
            device = f"{0xD2F0 if is_switch(guid) else 0x101B:04X}"
            ids = f"VenID:000002C9 DevID:{device}0000" if second else f"VenID:0002C9 DevID:{device}"
            kind = "SW" if is_switch(guid) else "CA-SM" if guid == HCA else "CA"
            return (
                f"{{ {kind} Ports:{PORTS[guid]:02X} SystemGUID:{guid:016x} NodeGUID:{guid:016x} PortGUID:{guid:016x} {ids} "
                f"Rev:000000A1 {{{self.names[guid]}}} LID:{LIDS[guid]:04X} PN:{port:02X} }}"
            )

        rate = {"HDR": "50", "NDR": "100", "EDR": "25"}[self.speed]
        return "".join(
            f"{end(guid, port, False)} {end(*peer, True)} PHY={self.width}x LOG=ACT SPD={rate}\n"
            for guid in self.names
            for port, peer in self.of(guid)
        )

    def link_info(self, one_line: bool, hint: str = " ") -> str:
        """iblinkinfo, with `-l` or without."""
        lines = []
        for guid in self.names:
            mine = dict(self.of(guid))
            if not one_line:
                lines.append(
                    f"Switch: 0x{guid:016x} {self.names[guid]}:" if is_switch(guid) else f"CA: {self.names[guid]}:"
                )
            for port in range(1, PORTS[guid] + 1):
                own = f"{LIDS[guid]:6} {port:4}[  ] =="
                if one_line:
                    own = f'0x{guid:016x} "{self.names[guid]:>30}" {own}'
                else:
                    own = "      " + ("" if is_switch(guid) else f"0x{guid:016x} ") + own
                if peer := mine.get(port):
                    rate = f"{SPEEDS[self.speed]:g} Gbps"
                    other = f"0x{peer.guid:016x} " if one_line else ""
                    lines.append(
                        f"{own}({self.width:2}X {rate:>18} Active/  LinkUp)==>  {other}{LIDS[peer.guid]:6} {peer.port:4}[  ] "
                        f'"{self.names[peer.guid]}" ({hint})'
                    )
                else:
                    lines.append(f'{own}(                Down/ Polling)==>             [  ] "" ( )')
        return "\n".join(lines) + "\n"

    def cache(self) -> bytes:
        """ibnetdiscover --cache."""
        nodes, ports = [], []
        for guid in self.names:
            kind = 2 if is_switch(guid) else 1
            device = 0xD2F0 if is_switch(guid) else 0x101B
            info = pack(
                ">BBBBQQQHHIB3s24x", 1, 1, kind, PORTS[guid], guid, guid, guid, 8, device, 0xA1, 1, b"\0\x02\xc9"
            )
            numbers = range(2 - kind, PORTS[guid] + 1)
            name = self.names[guid].encode()[:64]
            lid = LIDS[guid] if kind == 2 else 0
            nodes.append(NODE.pack(lid, 0, 1, guid, kind, PORTS[guid], info, name, len(numbers)))
            nodes.extend(pack("<QB", guid, number) for number in numbers)
            for number in numbers:
                peer = self.links.get(End(guid, number))
                lid = LIDS[guid] if kind == 1 or not number else 0
                ports.append(cached_port(guid, number, guid, peer, port_info(up=peer is not None), lid))
        return cache_file(len(self.names), len(ports), b"".join(nodes) + b"".join(ports))


def cache_file(nodes: int, ports: int, rest: bytes, version: int = 1) -> bytes:
    return HEADER.pack(b"\x2b\x83\xe7\x8f", version, nodes, ports, HCA, 5) + rest


def port_info(
    up: bool = True, *, width: int = 2, speed: int = 4, extended: int = 4, state: int | None = None, physical: int = 5
) -> bytes:
    """PortInfo as it comes over the wire: 1x or 4x, up to HDR."""
    info = bytearray(64)
    info[30], info[31] = 3, width
    info[32] = 0x70 | (state if state is not None else 4 if up else 1)
    info[33] = (physical if up else 2) << 4 | 2
    info[35] = speed << 4 | 7
    info[62] = extended << 4 | 7
    return bytes(info)


def cached_port(guid: int, number: int, node: int, peer: End | None, info: bytes, lid: int) -> bytes:
    other = (1, peer.guid, peer.port) if peer else (0, 0, 0)
    return pack("<QBBHB64sQBQB", guid, number, 0, lid, 0, info, node, *other)


def linked(sweep: Sweep) -> dict[End, End]:
    """The sweep's links, both ways."""
    return {end: facts.peer for end, facts in sweep.ports.items() if facts.peer is not None}


def sound(sweep: Sweep) -> None:
    """What holds of every sweep, whatever it was read from."""
    for end, facts in sweep.ports.items():
        assert end.guid in sweep.nodes and 0 < end.guid < 1 << 64 and 1 <= end.port <= 254
        assert facts.speed in SPEEDS or not facts.speed
        assert facts.speed_supported in SPEEDS or not facts.speed_supported
        assert facts.width in (0, 1, 2, 4, 8, 12) and 0 <= facts.lid < 100_000
        if facts.peer is not None:
            assert facts.peer != end and sweep.ports[facts.peer].peer == end
    for guid, node in sweep.nodes.items():
        assert node.guid == guid and 0 <= node.ports <= 254 and isinstance(node.kind, NodeKind)
        assert len(node.description) <= 256 and all(sign.isprintable() for sign in node.description)
    assert len(sweep.problems) <= PROBLEMS_KEPT
