"""Trunks that are not as many as those of their peers. Called by `lint.py`.

A switch's level is its distance from the hosts: leaves 1, spines 2, cores 3. Pairs of the same two levels are peers.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from ostler.fabric.designs.lint_book import LintBook
from ostler.fabric.model import Blueprint, ChassisKind

MAJORITY = 0.6
"""Share of the peers that must agree before another number is doubtful."""
WORK_MOST = 2_000_000
Pair = tuple[str, str]


def trunks(blueprint: Blueprint, book: LintBook) -> None:
    """`uneven-trunk`: for pairs with another number of cables, and for switches that lack a neighbour altogether."""
    pairs, lines, near, level = _graph(blueprint)
    groups: defaultdict[tuple[int, int], list[Pair]] = defaultdict(list)
    for one, two in pairs:
        groups[level.get(one, 0), level.get(two, 0)].append((one, two))
    for group in groups.values():
        counts = Counter(pairs[pair] for pair in group)
        usual, how_many = counts.most_common(1)[0]
        if len(counts) == 1 or how_many < MAJORITY * len(group):
            continue
        for pair in group:
            if pairs[pair] != usual:
                book.add(
                    "uneven-trunk",
                    f"{pair[0]} and {pair[1]} have {pairs[pair]} cables between them, {how_many} like pairs {usual}",
                    lines[pair],
                )
    _lacking(near, level, book)


def _graph(
    blueprint: Blueprint,
) -> tuple[dict[Pair, int], dict[Pair, int], dict[str, dict[str, None]], dict[str, int]]:
    """Cables a pair (lower level first), the first line of each, neighbours, levels."""
    kinds = {name: chassis.kind for name, chassis in blueprint.chassis.items()}
    raw: dict[Pair, int] = {}
    first: dict[Pair, int] = {}
    near: dict[str, dict[str, None]] = {}
    level: dict[str, int] = {}
    for cable in blueprint.cables:
        one, two = cable.a.chassis, cable.b.chassis
        a, b = kinds.get(one), kinds.get(two)
        if a is ChassisKind.SWITCH and b is ChassisKind.SWITCH:
            if one == two:
                continue
            pair = (one, two) if one < two else (two, one)
            if pair in raw:
                raw[pair] += 1
            else:
                raw[pair], first[pair] = 1, cable.line
                near.setdefault(one, {})[two] = None
                near.setdefault(two, {})[one] = None
        elif a is ChassisKind.HOST and b is ChassisKind.SWITCH:
            level[two] = 1
        elif b is ChassisKind.HOST and a is ChassisKind.SWITCH:
            level[one] = 1
    edge = list(level)
    while edge:
        further: dict[str, None] = {}
        for name in edge:
            for other in near.get(name, ()):
                if other not in level:
                    level[other] = level[name] + 1
                    further[other] = None
        edge = list(further)
    pairs: dict[Pair, int] = {}
    lines: dict[Pair, int] = {}
    for (one, two), count in raw.items():
        pair = (one, two) if level.get(one, 0) <= level.get(two, 0) else (two, one)
        pairs[pair], lines[pair] = count, first[one, two]
    return pairs, lines, near, level


def _lacking(near: dict[str, dict[str, None]], level: dict[str, int], book: LintBook) -> None:
    """Switches without a cable to one that all their peers are cabled to. Peers: those below the same switch.

    Equal sets of neighbours are one object, so that comparing them is quick; `WORK_MOST` bounds what a hostile file
    can ask for.
    """
    same: dict[frozenset[str], frozenset[str]] = {}
    ups: dict[str, frozenset[str]] = {}
    for name, others in near.items():
        high = level.get(name, 0) + 1
        found = frozenset(other for other in others if level.get(other, 0) == high)
        if high > 1 and found:
            ups[name] = same.setdefault(found, found)
    compared: set[tuple[int, str]] = set()
    said: set[Pair] = set()
    work = 0
    for upper, below in near.items():
        high = level.get(upper, 0)
        peers = [name for name in below if level.get(name, 0) == high - 1]
        if high < 2 or len(peers) < 3:
            continue
        counts = Counter(ups[name] for name in peers)
        usual, how_many = counts.most_common(1)[0]
        if len(counts) == 1 or how_many < MAJORITY * len(peers):
            continue
        for name in peers:
            if ups[name] is usual or (id(usual), name) in compared:
                continue
            compared.add((id(usual), name))
            work += len(usual)
            if work > WORK_MOST:
                return
            lacking = sorted(other for other in usual - ups[name] if (name, other) not in said)
            for other in lacking:
                said.add((name, other))
                book.add("uneven-trunk", f"{name} has no cable to {other}; its peers have")
