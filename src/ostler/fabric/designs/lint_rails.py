"""Rails that a design crosses or leaves out. Called by `lint.py`.

No file says reliably which rail a leaf is, and not every fabric is rail-optimised; so the majority decides: hosts with
the same HCAs are peers, a leaf's rail is the HCA that most of its peers bring to it, and a unit is the set of leaves
that most of its hosts share. Where there is no majority, nothing is said.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from ostler.fabric.designs.lint_book import LintBook
from ostler.fabric.model import Blueprint, ChassisKind, DesignedCable, Port

RAILS_MOST = 64
"""Cables of a host; what has more is no host."""
Shape = tuple[str, ...]


def rails(blueprint: Blueprint, book: LintBook) -> None:
    """`rail-crossing` and `missing-rail`."""
    hosts = _hosts(blueprint)
    if not hosts:
        return
    homes = _units(hosts)
    _crossings(hosts, homes, book)
    _missing(hosts, homes, book)


def _hosts(blueprint: Blueprint) -> dict[str, dict[str, tuple[Port, DesignedCable]]]:
    """Host → HCA → the switch port it goes to, and the cable."""
    kinds = {name: chassis.kind for name, chassis in blueprint.chassis.items()}
    hosts: dict[str, dict[str, tuple[Port, DesignedCable]]] = {}
    for cable in blueprint.cables:
        a, b = kinds.get(cable.a.chassis), kinds.get(cable.b.chassis)
        if a is ChassisKind.HOST and b is ChassisKind.SWITCH:
            hosts.setdefault(cable.a.chassis, {})[cable.a.name] = (cable.b, cable)
        elif b is ChassisKind.HOST and a is ChassisKind.SWITCH:
            hosts.setdefault(cable.b.chassis, {})[cable.b.name] = (cable.a, cable)
    return {name: dict(sorted(found.items())) for name, found in hosts.items() if len(found) <= RAILS_MOST}


def _units(hosts: dict[str, dict[str, tuple[Port, DesignedCable]]]) -> dict[str, str]:
    """Leaf → the unit it belongs to, named by the leaf of the first HCA of most of its hosts."""
    votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for found in hosts.values():
        first = next(iter(found.values()))[0].chassis
        for port, _ in found.values():
            votes[port.chassis][first] += 1
    return {leaf: counter.most_common(1)[0][0] for leaf, counter in votes.items()}


def _unit_of(found: dict[str, tuple[Port, DesignedCable]], homes: dict[str, str]) -> str:
    return Counter(homes[port.chassis] for port, _ in found.values()).most_common(1)[0][0]


def _crossings(hosts: dict[str, dict[str, tuple[Port, DesignedCable]]], homes: dict[str, str], book: LintBook) -> None:
    on_leaf: defaultdict[tuple[str, Shape], Counter[str]] = defaultdict(Counter)
    shapes = {name: tuple(found) for name, found in hosts.items()}
    for name, found in hosts.items():
        for hca, (port, _) in found.items():
            on_leaf[port.chassis, shapes[name]][hca] += 1
    majority = {key: counter.most_common(1)[0] for key, counter in on_leaf.items()}
    for name, found in hosts.items():
        if len(found) < 2:
            continue
        unit = _unit_of(found, homes)
        wrong: list[str] = []
        lines: list[int] = []
        for hca, (port, cable) in found.items():
            most, count = majority[port.chassis, shapes[name]]
            mine = on_leaf[port.chassis, shapes[name]][hca]
            if mine * 2 < count:
                wrong.append(f"{hca} goes to {port.chassis}, where {count} hosts have {most}")
                lines.append(cable.line)
            elif homes[port.chassis] != unit:
                wrong.append(f"{hca} goes to {port.chassis}, a leaf of another unit")
                lines.append(cable.line)
        if wrong:
            rows = f" (rows {', '.join(map(str, lines))})" if any(lines) else ""
            book.add("rail-crossing", f"{name}: {'; '.join(wrong)}{rows}", lines[0])


def _missing(hosts: dict[str, dict[str, tuple[Port, DesignedCable]]], homes: dict[str, str], book: LintBook) -> None:
    """Hosts whose HCAs are a part of what most of their unit have. Three or more alike are a kind of their own."""
    units: defaultdict[str, Counter[Shape]] = defaultdict(Counter)
    unit_of = {name: _unit_of(found, homes) for name, found in hosts.items()}
    for name, found in hosts.items():
        units[unit_of[name]][tuple(found)] += 1
    for name, found in hosts.items():
        shapes = units[unit_of[name]]
        most, count = shapes.most_common(1)[0]
        mine = tuple(found)
        if mine != most and count >= 2 and shapes[mine] < 3 and shapes[mine] < count and set(mine) < set(most):
            lacking = [hca for hca in most if hca not in found]
            line = next(iter(found.values()))[1].line
            book.add(
                "missing-rail",
                f"{name} has {len(mine)} of {len(most)} rails: no cable for {', '.join(lacking)}",
                line,
            )
