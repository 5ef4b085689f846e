"""A fabric that hands can be put on: the cables of a blueprint, and what ibnetdiscover would say of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from ostler.adapters.fabric.port import Collection, Output
from ostler.fabric.model import Blueprint, ChassisKind, Port


@dataclass
class Cabling:
    """Starts as designed. GUIDs are made of the order of names, so that the same fabric has the same ones."""

    blueprint: Blueprint
    links: dict[Port, Port] = field(default_factory=dict)
    dark: set[str] = field(default_factory=set)
    """Chassis without power."""
    mute: set[str] = field(default_factory=set)
    """Chassis that are there and do not answer: like the dark ones for who looks, but that he hears of time-outs."""
    counters: dict[Port, dict[str, int]] = field(default_factory=dict)
    """By ibqueryerrors' names: `LinkDownedCounter`, …"""
    guids: dict[tuple[str, str], int] = field(default_factory=dict)
    """(chassis, HCA; empty for a switch) → node GUID."""

    def __post_init__(self) -> None:
        for cable in self.blueprint.cables:
            self.plug(cable.a, cable.b)
        nodes = sorted({self._node(port) for cable in self.blueprint.cables for port in cable.ends})
        self.guids = {node: 0x0002C90300000000 + 0x100 * number for number, node in enumerate(nodes, 1)}

    def plug(self, a: Port, b: Port) -> None:
        """Put a cable between two ports, out of whatever was in them."""
        self.cut(a)
        self.cut(b)
        self.links[a], self.links[b] = b, a

    def cut(self, port: Port) -> None:
        """Take the cable out, if there is one."""
        peer = self.links.pop(port, None)
        if peer is not None:
            self.links.pop(peer, None)

    def swap(self, a: Port, b: Port) -> None:
        """Exchange the plugs in two ports."""
        far_a, far_b = self.links[a], self.links[b]
        self.plug(a, far_b)
        self.plug(b, far_a)

    def move(self, now: Port, then: Port) -> None:
        """One plug from a port to another, which is free by then."""
        far = self.links[now]
        self.cut(now)
        self.plug(then, far)

    def collection(self, vantage: str = "sm01") -> Collection:
        """What a collector on one host brings."""
        lost = "ibwarn: [1] mad_rpc: _do_madrpc failed\nsrc/query_smp.c:196; umad (DR path slid 0; dlid 0; 0,1,{} Attr 0x11:0) bad status 110; Connection timed out\n"
        stderr = "".join(lost.format(n) for n, _ in enumerate(self.mute, 2))
        text = Output("ibnetdiscover", ("ibnetdiscover",), self.text().encode(), stderr)
        errors = Output("ibqueryerrors", ("ibqueryerrors",), self.errors().encode())
        return Collection(vantage, 0.0, 1.0, (text, errors))

    def errors(self) -> str:
        """ibqueryerrors' text."""
        lines: list[str] = []
        for (chassis, hca), guid in self.guids.items():
            mine = {port: found for port, found in self.counters.items() if self._node(port) == (chassis, hca)}
            if mine:
                lines.append(
                    f'Errors for "{chassis} {hca}"' if hca else f'Errors for 0x{guid:x} "MF0;{chassis}:MQM9700/U1"'
                )
            for port, found in mine.items():
                told = " ".join(f"[{name} == {value}]" for name, value in found.items())
                lines.append(f"   GUID 0x{guid:x} port {1 if hca else port.name}: {told}")
        bad, checked = len(self.counters), 64 * len(self.guids)
        lines += ["", f"## Summary: {len(self.guids)} nodes checked, {bad} bad nodes found"]
        lines += [
            f"##          {checked} ports checked, {bad} ports have errors beyond threshold",
            "## Thresholds: ",
            "",
        ]
        return "\n".join(lines)

    def text(self) -> str:
        """ibnetdiscover's text: switches first, then HCAs; what has no power or no link is not there."""
        blocks: list[str] = ["#\n# Topology file: generated on Sat Nov 21 03:00:00 2026\n#\n"]
        for (chassis, hca), guid in sorted(self.guids.items(), key=lambda item: bool(item[0][1])):
            if chassis in self.dark | self.mute:
                continue
            rows = [
                self._row(port, peer, bool(hca))
                for port, peer in sorted(self.links.items(), key=_numbered)
                if self._node(port) == (chassis, hca) and peer.chassis not in self.dark | self.mute
            ]
            if hca and not rows:
                continue
            head = f"vendid=0x2c9\ndevid=0x1021\nsysimgguid=0x{guid:x}\n"
            if hca:
                head += f'caguid=0x{guid:x}\nCa\t1 "H-{guid:016x}"\t\t# "{chassis} {hca}"\n'
            else:
                head += f'switchguid=0x{guid:x}({guid:x})\nSwitch\t64 "S-{guid:016x}"\t\t# "MF0;{chassis}:MQM9700/U1" base port 0 lid 1 lmc 0\n'
            blocks.append(head + "".join(rows))
        return "\n".join(blocks)

    def _row(self, port: Port, peer: Port, is_hca: bool) -> str:
        chassis, hca = self._node(peer)
        guid, mine = self.guids[chassis, hca], self.guids[self._node(port)]
        number = 1 if is_hca else int(port.name)
        own = f"({mine:x}) " if is_hca else ""
        if hca:
            return f'[{number}]{own}\t"H-{guid:016x}"[1]({guid:x}) \t\t# "{chassis} {hca}" lid 9 4xNDR\n'
        return f'[{number}]{own}\t"S-{guid:016x}"[{int(peer.name)}]\t\t# "MF0;{chassis}:MQM9700/U1" lid 9 4xNDR\n'

    def _node(self, port: Port) -> tuple[str, str]:
        is_host = self.blueprint.chassis[port.chassis].kind is ChassisKind.HOST
        return port.chassis, port.name if is_host else ""


def _numbered(item: tuple[Port, Port]) -> tuple[str, int, str]:
    return item[0].chassis, len(item[0].name), item[0].name
