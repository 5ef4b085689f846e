"""The cabling of a simulated fleet: which plug is in which port, and what the field's tools would say of it.

One for a fleet, made by `fleet.py`; tests, strikes and the demo move plugs in it. It answers the check `ib-neighbours`
for every node, prints what `ibnetdiscover` prints, and writes the design that it was cabled by. All three are made from
the plugs as they are, so that a swapped cable is wrong for whoever looks.

Eight nodes stand under eight leaves, one per rail; the HCA of rail n goes to the leaf of rail n, on the same port
number on every rail. Every leaf has a cable to each of eight spines. A spine has ports for eight times eight leaves, so
64 nodes are one fabric and further nodes are another one beside it: a sweep from one node sees no more than that. Thin
nodes have no cabling.
"""

from __future__ import annotations

import threading
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from ostler.checks import ib_neighbours
from ostler.checks.ib_neighbours import Neighbour, OwnPort
from ostler.core.errors import BadInput
from ostler.twin.spec import NodeSpec

RAILS = 8
HCAS = tuple(f"mlx5_{rail}" for rail in range(RAILS))
PER_LEAF = 8
SPINES = 8
PER_FABRIC = 64
UPLINK = 33
"""First port of a leaf that goes up: the lower half of a QM9700 is for nodes."""
SWITCH_PORTS = 64
SWITCH_MODEL = "MQM9700"
_OUI_HCA, _OUI_SWITCH = 0xB83FD2, 0xFC6A1C
"""Of NVIDIA Networking (IEEE registry), so that GUIDs look like those of the field."""
_WIDTH, _SPEED = 4, "NDR"


class Plug(NamedTuple):
    """A port: `gpu-0001` `mlx5_0`, `leaf01-r0` `17`."""

    chassis: str
    port: str

    def __str__(self) -> str:
        return f"{self.chassis} {self.port}"


class _Box(NamedTuple):
    """A host or a switch as it was delivered."""

    name: str
    switch: bool
    guids: tuple[int, ...]
    """A switch has one, a host one per HCA."""
    slot: str


class TwinFabric:
    """Thread-safe: strikes, nodes and tests call it from their own threads."""

    def __init__(self, hosts: Sequence[tuple[str, str]], seed: int = 0) -> None:
        """`hosts`: (name, slot) in the order in which they are cabled; the seed is that of their GUIDs."""
        self._lock = threading.Lock()
        self._mark = zlib.crc32(f"fabric/{seed}".encode()) & 0xFFFF
        self._made = 0
        self._boxes: dict[str, _Box] = {}
        self._links: dict[Plug, Plug] = {}
        self._off: set[str] = set()
        self._narrow: dict[Plug, int] = {}
        self._downed: Counter[Plug] = Counter()
        for number, (name, slot) in enumerate(hosts):
            self._add_host(number, name, slot)
        self._design = {a: b for a, b in self._links.items() if self._first(a)}

    def _add_host(self, number: int, name: str, slot: str) -> None:
        group, place = divmod(number, PER_LEAF)
        self._box(name, RAILS, slot, switch=False)
        for rail in range(RAILS):
            leaf = f"leaf{group + 1:02d}-r{rail}"
            if place == 0:
                self._box(leaf, 1, slot.rpartition("/")[0] + f"/u{41 + rail}" if "/" in slot else "", switch=True)
                self._trunks(group, rail, leaf)
            self._plug(Plug(name, HCAS[rail]), Plug(leaf, str(place + 1)))

    def _trunks(self, group: int, rail: int, leaf: str) -> None:
        fabric, below = divmod(group, PER_FABRIC // PER_LEAF)
        for number in range(SPINES):
            spine = f"spine{fabric * SPINES + number + 1:02d}"
            if spine not in self._boxes:
                self._box(spine, 1, "", switch=True)
            self._plug(Plug(leaf, str(UPLINK + number)), Plug(spine, str(below * RAILS + rail + 1)))

    def _box(self, name: str, chips: int, slot: str, *, switch: bool) -> None:
        oui = _OUI_SWITCH if switch else _OUI_HCA
        first, self._made = self._made + 1, self._made + chips
        guids = tuple(oui << 40 | self._mark << 24 | number for number in range(first, first + chips))
        self._boxes[name] = _Box(name, switch, guids, slot)

    # ── hands ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def swap(self, a: Plug, b: Plug) -> None:
        """The plugs in these two ports are exchanged. Raises `BadInput` where one of them has none."""
        with self._lock:
            peers = self._peer(a), self._peer(b)
            if a == b or peers[0] == b:
                raise BadInput(f"{a} and {b} are no two plugs that could be exchanged")
            for port in (a, b):
                self._pull(port)
            self._plug(a, peers[1])
            self._plug(b, peers[0])

    def move(self, now: Plug, then: Plug) -> None:
        """The plug in `now` goes to `then`, the cable's other end stays. Raises `BadInput` where that is taken."""
        with self._lock:
            peer = self._peer(now)
            if then in self._links:
                raise BadInput(f"{then} is taken by the cable to {self._links[then]}; take that out first")
            self._known(then)
            self._pull(now)
            self._plug(then, peer)

    def rearrange(self, moves: Sequence[tuple[Plug, Plug, Plug]]) -> None:
        """Of each (now, then, stays) the plug in `now` goes to `then`: first all come out, then all go in.

        Raises `BadInput`, and nothing is moved, where such a cable is not in such a port, or its place is taken.
        """
        with self._lock:
            for now, then, stays in moves:
                self._known(then)
                if (peer := self._peer(now)) != stays:
                    raise BadInput(f"the cable in {now} goes to {peer}, not to {stays}")
            out = {now for now, _, _ in moves}
            for _, then, _ in moves:
                if then in self._links and then not in out:
                    raise BadInput(f"{then} is taken by the cable to {self._links[then]}; take that out first")
            if not len(out) == len({then for _, then, _ in moves}) == len({stays for *_, stays in moves}) == len(moves):
                raise BadInput("a plug is moved twice, or two plugs go into one port")
            for now in out:
                self._pull(now)
            for _, then, stays in moves:
                self._plug(then, stays)

    def cut(self, port: Plug) -> None:
        """The cable at this port is taken out."""
        with self._lock:
            self._peer(port)
            self._pull(port)

    def connect(self, a: Plug, b: Plug) -> None:
        """A cable between two free ports. Raises `BadInput` where one is taken."""
        with self._lock:
            for port in (a, b):
                self._known(port)
                if port in self._links:
                    raise BadInput(f"{port} is taken by the cable to {self._links[port]}; take that out first")
            self._plug(a, b)

    def narrow(self, port: Plug, lanes: int) -> None:
        """The cable at this port runs with so many lanes; 4: with all."""
        with self._lock:
            for end in (port, self._peer(port)):
                self._narrow[end] = lanes

    def flap(self, port: Plug, times: int = 1) -> None:
        """The link went down and came back: both ends have counted it."""
        with self._lock:
            peer = self._peer(port)
            self._downed.update({port: times, peer: times})

    def node_off(self, name: str) -> None:
        """A host without power: its ports have no link."""
        self._power(name, on=False)

    def node_on(self, name: str) -> None:
        self._power(name, on=True)

    def switch_off(self, name: str) -> None:
        """A switch without power."""
        self._power(name, on=False)

    def switch_on(self, name: str) -> None:
        self._power(name, on=True)

    def _power(self, name: str, *, on: bool) -> None:
        with self._lock:
            if name not in self._boxes:
                raise BadInput(f"the fabric has no '{name[:80]}'")
            if on:
                self._off.discard(name)
            elif name not in self._off:
                self._off.add(name)
                self._downed.update(peer for port in self._ports(name) if (peer := self._links.get(port)) is not None)

    # ── what is there ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def hosts(self) -> list[str]:
        return [box.name for box in self._boxes.values() if not box.switch]

    @property
    def switches(self) -> list[str]:
        return [box.name for box in self._boxes.values() if box.switch]

    def peer(self, port: Plug) -> Plug | None:
        """What is plugged in at the other end, powered or not; None: nothing."""
        with self._lock:
            return self._links.get(port)

    def link_downed(self, port: Plug) -> int:
        """What the port's counter says: 8 bits, then it stands (InfiniBand Architecture 1.7, 16.1.3.5)."""
        with self._lock:
            return min(self._downed[port], 0xFF)

    def as_designed(self) -> bool:
        """Whether every cable is where the design has it, and no other is there."""
        with self._lock:
            return self._design == {a: b for a, b in self._links.items() if self._first(a)}

    # ── what the tools say ──────────────────────────────────────────────────────────────────────────────────────────

    def neighbours(self, name: str) -> dict[str, Any]:
        """What the check `ib-neighbours` measures on this host now."""
        with self._lock:
            box = self._boxes[name]
            ports = [self._own(port, guid) for port, guid in zip(self._ports(name), box.guids, strict=True)]
        return ib_neighbours.measured(ports)

    def _own(self, port: Plug, guid: int) -> OwnPort:
        peer = self._up(port)
        if peer is None:
            return OwnPort(port.port, 1, f"0x{guid:016x}", "down", why="no link (Polling)")
        box, there, number = self._end(peer)
        neighbour = Neighbour(
            "switch" if box.switch else "hca", f"0x{there:016x}", number, self._says(peer), f"0x{there:016x}"
        )
        lanes = self._narrow.get(port, _WIDTH)
        return OwnPort(port.port, 1, f"0x{guid:016x}", "active", lanes, _SPEED, _WIDTH, _SPEED, neighbour)

    def dump(self, from_host: str) -> str:
        """What `ibnetdiscover` prints on this host: everything that its first HCA with a link can reach."""
        with self._lock:
            starts = self._ports(from_host)
            start = next((port for port in starts if self._up(port) is not None), starts[0])
            reached = self._reach(start)
            guid = self._end(start)[1]
            lines = ["#", "# Topology file: generated by a simulated fleet", "#"]
            lines.append(f"# Initiated from node {guid:016x} port {guid:016x}")
            for first in sorted(reached, key=lambda port: not self._boxes[port.chassis].switch):
                lines += ["", *self._block(first)]
        return "\n".join(lines) + "\n"

    def _reach(self, start: Plug) -> list[Plug]:
        """A port of every chip that can be reached, in the order in which it is found."""
        found: dict[int, Plug] = {}
        waiting = [start]
        for port in waiting:
            guid = self._end(port)[1]
            if guid in found or port.chassis in self._off:
                continue
            found[guid] = port
            waiting += [peer for _, _, peer in self._chip(port)]
        return list(found.values())

    def _chip(self, port: Plug) -> list[tuple[int, Plug, Plug]]:
        """(number, port, peer) of every link of the chip that has this port."""
        ports = self._ports(port.chassis) if self._boxes[port.chassis].switch else [port]
        linked = ((one, self._up(one)) for one in ports)
        return [(self._end(one)[2], one, peer) for one, peer in linked if peer is not None]

    def _block(self, port: Plug) -> list[str]:
        box, guid, _ = self._end(port)
        lid = self._lid(port)
        lines = ["vendid=0x2c9", f"devid={'0xd2f2' if box.switch else '0x1021'}", f"sysimgguid=0x{guid:x}"]
        if box.switch:
            lines += [
                f"switchguid=0x{guid:x}({guid:x})",
                f'Switch\t{SWITCH_PORTS} "S-{guid:016x}"\t\t# "{self._says(port)}" enhanced port 0 lid {lid} lmc 0',
            ]
        else:
            lines += [f"caguid=0x{guid:x}", f'Ca\t1 "H-{guid:016x}"\t\t# "{self._says(port)}"']
        for number, one, peer in self._chip(port):
            there = self._end(peer)
            letter, brackets = ("S", "") if there[0].switch else ("H", f"({there[1]:x})")
            far = f'"{letter}-{there[1]:016x}"[{there[2]}]{brackets}'
            rate = f"{self._narrow.get(one, _WIDTH)}x{_SPEED}"
            if box.switch:
                lines.append(f'[{number}]\t{far}\t\t# "{self._says(peer)}" lid {self._lid(peer)} {rate}')
            else:
                told = f'lid {lid} lmc 0 "{self._says(peer)}" lid {self._lid(peer)} {rate}'
                lines.append(f"[{number}]({guid:x})\t{far}\t\t# {told}")
        return lines

    def blueprint_csv(self) -> str:
        """The design that it was cabled by, in Ostler's own columns, everything with its place."""
        rows = ["# ostler blueprint v1", "# name: twin", "chassis,kind,model,site,row,rack,unit"]
        for box in self._boxes.values():
            place = (box.slot.split("/") + [""] * 4)[:4]
            kind, model = ("switch", SWITCH_MODEL) if box.switch else ("host", "")
            rows.append(",".join((box.name, kind, model, *place)))
        rows += ["", "a,a_port,b,b_port,role,rail"]
        for a, b in self._design.items():
            trunk = self._boxes[a.chassis].switch
            rows.append(",".join((*a, *b, "trunk" if trunk else "host", "" if trunk else str(HCAS.index(a.port)))))
        return "\n".join(rows) + "\n"

    # ── inside, under the lock ──────────────────────────────────────────────────────────────────────────────────────

    def _known(self, port: Plug) -> None:
        if port.chassis not in self._boxes:
            raise BadInput(f"the fabric has no '{port.chassis[:80]}'")
        ports = self._ports(port.chassis)
        if port not in ports:
            raise BadInput(f"{port.chassis} has no port '{port.port[:40]}'; it has {ports[0].port} to {ports[-1].port}")

    def _ports(self, name: str) -> list[Plug]:
        if self._boxes[name].switch:
            return [Plug(name, str(number)) for number in range(1, SWITCH_PORTS + 1)]
        return [Plug(name, hca) for hca in HCAS]

    def _peer(self, port: Plug) -> Plug:
        self._known(port)
        if port not in self._links:
            raise BadInput(f"no cable is plugged into {port}")
        return self._links[port]

    def _plug(self, a: Plug, b: Plug) -> None:
        self._links[a], self._links[b] = b, a

    def _pull(self, port: Plug) -> None:
        peer = self._links.pop(port, None)
        if peer is None:
            return
        del self._links[peer]
        self._downed.update((port, peer))
        for end in (port, peer):
            self._narrow.pop(end, None)

    def _up(self, port: Plug) -> Plug | None:
        peer = self._links.get(port)
        if peer is None or port.chassis in self._off or peer.chassis in self._off:
            return None
        return peer

    def _end(self, port: Plug) -> tuple[_Box, int, int]:
        """The box, its chip's GUID, and the InfiniBand number of the port on that chip."""
        box = self._boxes[port.chassis]
        if box.switch:
            return box, box.guids[0], int(port.port)
        return box, box.guids[HCAS.index(port.port)], 1

    def _says(self, port: Plug) -> str:
        """The NodeDescription."""
        if self._boxes[port.chassis].switch:
            return f"MF0;{port.chassis}:{SWITCH_MODEL}/U1"
        return f"{port.chassis} {port.port}"

    def _lid(self, port: Plug) -> int:
        return self._end(port)[1] & 0xFFFF

    def _first(self, port: Plug) -> bool:
        """Whether this end of a cable stands for it: the host's, else the lesser."""
        peer = self._links[port]
        return (self._boxes[port.chassis].switch, port) < (self._boxes[peer.chassis].switch, peer)


def fabric_of(specs: Sequence[NodeSpec], seed: int = 0) -> TwinFabric:
    """The cabling of these machines."""
    return TwinFabric([(spec.name, spec.slot) for spec in specs], seed)
