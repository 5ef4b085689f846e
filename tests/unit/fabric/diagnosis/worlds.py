"""Small fabrics in memory: what is designed, what is really plugged, who answers; and the snapshots that follow."""

from __future__ import annotations

import random
from collections.abc import Set
from dataclasses import dataclass, field

from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.model import Blueprint, Chassis, ChassisKind, Move, Port, Snapshot
from ostler.fabric.sweep import End, Physical, PortFacts, PortState, Problem, ProblemKind

Node = tuple[str, str]
"""What answers for itself: (chassis, HCA) or (switch, "")."""


@dataclass
class World:
    """The real thing. `plugged` is symmetric."""

    blueprint: Blueprint
    plugged: dict[Port, Port] = field(default_factory=dict)
    off: set[str] = field(default_factory=set)
    more: dict[str, ChassisKind] = field(default_factory=dict)
    """Boxes that nobody designed."""
    spare: int = 4
    """Ports beyond the designed ones on every switch."""

    def __post_init__(self) -> None:
        if not self.plugged:
            for cable in self.blueprint.cables:
                self.plug(cable.a, cable.b)

    def plug(self, a: Port, b: Port) -> None:
        assert a not in self.plugged and b not in self.plugged and a != b, (a, b)
        self.plugged[a], self.plugged[b] = b, a

    def pull(self, port: Port) -> Port:
        other = self.plugged.pop(port)
        del self.plugged[other]
        return other

    def move(self, move: Move) -> None:
        assert self.pull(move.now) == move.stays
        self.plug(move.stays, move.then)

    def swap(self, one: Port, two: Port) -> None:
        """Exchange two plugs."""
        self.rotate([one, two])

    def rotate(self, ports: list[Port]) -> None:
        """The plug of each goes into the next."""
        stays = [self.pull(port) for port in ports]
        for port, other in zip(ports[1:] + ports[:1], stays, strict=True):
            self.plug(other, port)

    def kind(self, chassis: str) -> ChassisKind:
        box = self.blueprint.chassis.get(chassis)
        return self.more[chassis] if box is None else box.kind

    def node(self, port: Port) -> Node:
        return port.chassis, (port.name if self.kind(port.chassis) is ChassisKind.HOST else "")

    def links(self) -> dict[Port, Port]:
        """Those that are up."""
        return {a: b for a, b in self.plugged.items() if a.chassis not in self.off and b.chassis not in self.off}

    def ports(self) -> set[Port]:
        every = set(self.blueprint.by_port) | set(self.plugged)
        for box in self.blueprint.chassis.values():
            names = [p.name for c in self.blueprint.by_chassis[box.name] for p in c.ends if p.chassis == box.name]
            if box.kind is ChassisKind.SWITCH and all(name.isdigit() for name in names):
                top = max(map(int, names)) + self.spare
                every |= {Port(box.name, str(n)) for n in range(1, top + 1)}
        return every

    def nodes(self) -> set[Node]:
        return {self.node(port) for port in self.ports()}

    def reached(self, monitor: Node) -> set[Node]:
        """Who can be asked from there."""
        links, seen, todo = self.links(), {monitor}, [monitor]
        by_node: dict[Node, list[Port]] = {}
        for port in links:
            by_node.setdefault(self.node(port), []).append(port)
        while todo:
            for port in by_node.get(todo.pop(), ()):
                other = self.node(links[port])
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
        return seen

    def snapshot(
        self,
        hidden: Set[Node] = frozenset(),
        *,
        states: bool = True,
        named: bool = True,
        monitor: Node | None = None,
        speed: str = "NDR",
    ) -> Snapshot:
        """What a source would say. hidden: nodes that do not answer. named: a neighbour names them all the same; else
        it says that a link is up that leads nowhere (or, without states, leaves it out, and a problem is noted).
        monitor: who cannot be reached from there is hidden too, and no problem is noted for that."""
        seen = Snapshot("test", states=states, monitor=monitor[0] if monitor else "")
        dead = {node for node in self.nodes() if node[0] in self.off}
        if monitor is not None:
            dead |= self.nodes() - self.reached(monitor)
        quiet = dead | set(hidden)
        links = self.links()
        for port in self.ports():
            node, peer = self.node(port), links.get(port)
            shown = peer is not None and self._shown(node, self.node(peer), quiet, named)
            if shown and peer is not None:
                seen.links[port] = peer
            if node in quiet:
                if shown:
                    seen.chassis.setdefault(
                        port.chassis, Chassis(port.chassis, self.kind(port.chassis), answered=False)
                    )
                continue
            box = seen.chassis.setdefault(port.chassis, Chassis(port.chassis, self.kind(port.chassis)))
            box.answered = True
            if not states and not shown:
                continue
            up = peer is not None
            state, physical = (PortState.ACTIVE, Physical.LINK_UP) if up else (PortState.DOWN, Physical.POLLING)
            if not states:
                state, physical = PortState.UNKNOWN, Physical.UNKNOWN
            seen.facts[port] = PortFacts(None, state, physical, 4 if up else 0, speed if up else "", 4, speed)
            seen.ends[port] = End(hash(node) & 0xFFFFFFFF, 1)
        if not named and not states and set(hidden) - dead:
            seen.problems.append(Problem(ProblemKind.TIMEOUT, "a node timed out"))
        return seen

    @staticmethod
    def _shown(one: Node, two: Node, quiet: set[Node], named: bool) -> bool:
        return not (one in quiet and two in quiet) if named else one not in quiet and two not in quiet


def world(hosts: int = 6, rails: int = 3, leaf_ports: int = 12) -> World:
    """A rail-optimised tree; spare ports are behind the designed ones."""
    return World(fat_tree(hosts, rails, leaf_ports=leaf_ports, hosts_per_unit=min(hosts, leaf_ports // 2)))


FAULTS = ("cut", "swap", "swap", "rotate3", "rotate4", "moved", "stranger", "guest", "node-off", "switch-off", "chain")


def break_it(it: World, kind: str, rng: random.Random) -> None:
    """One fault, wherever the dice fall; nothing where it does not fit."""
    used = sorted(it.plugged)
    free = sorted(port for port in it.ports() if port not in it.plugged)
    if kind == "cut" and used:
        it.pull(rng.choice(used))
    elif kind in {"swap", "rotate3", "rotate4"}:
        count = {"swap": 2, "rotate3": 3, "rotate4": 4}[kind]
        cables = {frozenset((port, it.plugged[port])) for port in used}
        chosen = rng.sample(sorted(cables, key=sorted), min(count, len(cables)))
        if len(chosen) > 1:
            it.rotate([rng.choice(sorted(cable)) for cable in chosen])
    elif kind in {"moved", "chain"} and used and free:
        port = rng.choice(used)
        now = it.pull(port)
        it.plug(now, rng.choice(free))
        if kind == "chain" and sorted(it.plugged):
            other = rng.choice(sorted(set(it.plugged) - {now}))
            stays = it.pull(other)
            if port not in it.plugged and port != stays:
                it.plug(stays, port)
    elif kind == "stranger" and len(free) > 1:
        it.plug(*rng.sample(free, 2))
    elif kind == "guest" and free:
        name = f"guest-{len(it.more)}"
        it.more[name] = ChassisKind.HOST
        it.plug(Port(name, "mlx5_0"), rng.choice(free))
    elif kind in {"node-off", "switch-off"}:
        wanted = ChassisKind.HOST if kind == "node-off" else ChassisKind.SWITCH
        it.off.add(rng.choice([box.name for box in it.blueprint.chassis.values() if box.kind is wanted]))
