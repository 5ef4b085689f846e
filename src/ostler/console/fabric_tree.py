"""Who stands above whom in a fabric: hosts under leaves in units, leaves under spines in pods, cores on top. Pure.

Worked out from the cables alone, so that a design from any tool is drawn: a leaf is a switch with a host's cable, a
unit is what shares leaves, a pod is what shares spines. Called by `fabric_scene.py`, drawn by `fabric_drawing.py`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ostler.console.queries import natural
from ostler.fabric.model import Blueprint, ChassisKind, Port


@dataclass(frozen=True)
class Unit:
    """Hosts that share leaves. `number` counts from 1 over the whole fabric."""

    number: int
    leaves: Sequence[str]
    hosts: Sequence[str]

    @property
    def name(self) -> str:
        """Its hosts, from the first to the last."""
        if not self.hosts:
            return self.leaves[0] if self.leaves else ""
        return self.hosts[0] if len(self.hosts) == 1 else f"{self.hosts[0]} – {self.hosts[-1]}"


@dataclass(frozen=True)
class Pod:
    """Units that share spines."""

    spines: Sequence[str]
    units: Sequence[Unit]


@dataclass(frozen=True)
class Tree:
    """A whole fabric."""

    pods: Sequence[Pod]
    cores: Sequence[str]
    plugs: Mapping[str, Sequence[Port]]
    """A host's designed ports in their order: a cell each."""
    rails: Mapping[str, str]
    """Leaf → the rail of most of its hosts' cables; empty: none."""
    cables: int

    @cached_property
    def units(self) -> Sequence[Unit]:
        return [unit for pod in self.pods for unit in pod.units]

    @cached_property
    def hosts(self) -> int:
        return sum(len(unit.hosts) for unit in self.units)

    @cached_property
    def switches(self) -> int:
        leaves = sum(len(unit.leaves) for unit in self.units)
        return leaves + sum(len(pod.spines) for pod in self.pods) + len(self.cores)


def tree(blueprint: Blueprint) -> Tree:
    """One pass over the cables, then one over the boxes."""
    switch = {name for name, box in blueprint.chassis.items() if box.kind is ChassisKind.SWITCH}
    plugs: defaultdict[str, list[Port]] = defaultdict(list)
    rails: defaultdict[str, Counter[str]] = defaultdict(Counter)
    joined = _Sets()
    trunks: set[tuple[str, str]] = set()
    for cable in blueprint.cables:
        a, b = cable.a.chassis, cable.b.chassis
        if a in switch and b in switch:
            trunks.add((a, b))
            continue
        for near, far in ((cable.a, cable.b), (cable.b, cable.a)):
            if near.chassis not in switch:
                plugs[near.chassis].append(near)
                if far.chassis in switch:
                    rails[far.chassis][cable.rail] += 1
        joined.join(a, b)
    leaves = set(rails)
    spines: set[str] = set()
    pods = _Sets()
    for name in leaves:
        pods.join(joined.of(name), joined.of(name))
    for a, b in trunks:
        for low, high in ((a, b), (b, a)):
            if low in leaves and high not in leaves:
                spines.add(high)
                pods.join(joined.of(low), f"\0{high}")  # no chassis begins with NUL: readers refuse control characters
    cores = {name for pair in trunks for name in pair} - leaves - spines
    rail = {name: found.most_common(1)[0][0] for name, found in rails.items()}
    order = {name: natural(name) for name in {*plugs, *leaves, *spines, *cores}}
    return Tree(
        _pods(joined, pods, leaves, spines, plugs, rail, order),
        sorted(cores, key=order.__getitem__),
        {host: sorted(ports, key=lambda port: natural(port.name)) for host, ports in plugs.items()},
        rail,
        len(blueprint.cables),
    )


def part(whole: Tree, number: int) -> Tree | None:
    """One unit with its leaves and the spines above it; None: there is no such unit."""
    for pod in whole.pods:
        for unit in pod.units:
            if unit.number == number:
                hosts = set(unit.hosts)
                plugs = {host: ports for host, ports in whole.plugs.items() if host in hosts}
                return Tree([Pod(pod.spines, [unit])], (), plugs, whole.rails, 0)
    return None


def _pods(
    joined: _Sets,
    pods: _Sets,
    leaves: set[str],
    spines: set[str],
    plugs: Mapping[str, Sequence[Port]],
    rails: Mapping[str, str],
    order: Mapping[str, tuple[tuple[int, int, str], ...]],
) -> Sequence[Pod]:
    members: defaultdict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for name in leaves:
        members[joined.of(name)][0].append(name)
    for name in plugs:
        members[joined.of(name)][1].append(name)
    above: defaultdict[str, list[str]] = defaultdict(list)
    for name in spines:
        above[pods.of(f"\0{name}")].append(name)
    units: defaultdict[str, list[tuple[list[str], list[str]]]] = defaultdict(list)
    for key, (unit_leaves, hosts) in members.items():
        unit_leaves.sort(key=lambda name: (natural(rails[name]), order[name]))
        hosts.sort(key=order.__getitem__)
        units[pods.of(key)].append((unit_leaves, hosts))
    for found in units.values():
        found.sort(key=lambda unit: order[(unit[1] or unit[0])[0]])
    number = 0
    drawn: list[Pod] = []
    for key in sorted(units, key=lambda key: order[(units[key][0][1] or units[key][0][0])[0]]):
        row: list[Unit] = []
        for unit_leaves, hosts in units[key]:
            number += 1
            row.append(Unit(number, unit_leaves, hosts))
        drawn.append(Pod(sorted(above[key], key=order.__getitem__), row))
    return drawn


class _Sets:
    """Disjoint sets of names."""

    def __init__(self) -> None:
        self._up: dict[str, str] = {}

    def of(self, name: str) -> str:
        up = self._up
        root = name
        while (next_ := up.setdefault(root, root)) != root:
            root = next_
        while up[name] != root:
            up[name], name = root, up[name]
        return root

    def join(self, one: str, two: str) -> None:
        self._up[self.of(one)] = self.of(two)


def worst(found: Iterable[str]) -> str:
    """The word that a box with such cables is coloured by."""
    present = set(found)
    return next((word for word in ("wrong", "absent", "degraded", "unknown") if word in present), "ok")
