"""Absent cables with one reason: a host or a switch (or a director's module) that is off. `causes.py` asks first.

A box is called down if it answered nobody, none of its cables is known to be anywhere, and the dark ones are at least
two and at least half: for a switch with trunks half of these, since its hosts' HCAs are reached through it and fall
silent with it. With one cable alone, a pulled plug looks the same; that stays an absent cable. Where a neighbour says
that a link is up, the box lives and only does not answer.

A whole switch out of one monitor's sight may be that monitor's trouble, so it is confirmed only if there is a second
vantage point and none sees it, and if nothing of it is left unseen: every trunk is dark or leads to another switch of
which the same is true.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ostler.fabric.diagnosis.compare import Comparison
from ostler.fabric.diagnosis.evidence import Said, module
from ostler.fabric.model import ChassisKind, DesignedCable, Port, Verdict


class Down(NamedTuple):
    """A box that is off, or a module of it."""

    name: str
    kind: ChassisKind
    module: str
    """Of a director of which other parts answer; else empty."""
    cables: tuple[DesignedCable, ...]
    """Absent, and nothing else."""
    designed: int
    """How many it should have."""
    ports: tuple[Port, ...]
    """All its designed ones."""
    unseen: frozenset[str]
    """Switches at the other ends of trunks of which nothing is known."""
    confirmed: bool


def boxes_down(found: Comparison) -> list[Down]:
    """All of them, by name."""
    count = Counter(name for cable in found.of(Verdict.ABSENT) for name in {cable.a.chassis, cable.b.chassis})
    result: list[Down] = []
    for name in sorted(name for name, cables in count.items() if cables >= 2):
        box = found.blueprint.chassis.get(name)
        if box is not None and box.kind is ChassisKind.SWITCH:
            result += _switch(found, name)
        elif box is not None and (one := _part(found, name, box.kind, "", found.blueprint.by_chassis[name])):
            result.append(one._replace(confirmed=True))
    return _confirmed(found, result)


def _switch(found: Comparison, name: str) -> Iterable[Down]:
    """The whole switch if all its modules are off, else each."""
    cables = found.blueprint.by_chassis[name]
    whole = _part(found, name, ChassisKind.SWITCH, "", cables)
    if whole is not None:
        return [whole]
    parts: dict[str, list[DesignedCable]] = defaultdict(list)
    for cable in cables:
        for port in cable.ends:
            if port.chassis == name and (part := module(port)):
                parts[part].append(cable)
    down = (_part(found, name, ChassisKind.SWITCH, part, parts[part]) for part in sorted(parts))
    return [one for one in down if one is not None]


def _part(found: Comparison, name: str, kind: ChassisKind, part: str, cables: Sequence[DesignedCable]) -> Down | None:
    says = found.evidence.says
    if not part and found.evidence.answered(name):
        return None
    absent: list[DesignedCable] = []
    ports: list[Port] = []
    unseen: set[str] = set()
    trunks = dark = 0
    for cable in cables:
        mine, far = cable.ends if cable.a.chassis == name else cable.ends[::-1]
        verdict = found.verdicts.get(cable, Verdict.OK)
        ports.append(mine)
        if verdict not in {Verdict.ABSENT, Verdict.UNKNOWN} or says(mine) is not Said.SILENT:
            return None
        other = found.blueprint.chassis.get(far.chassis)
        trunk = other is not None and other.kind is ChassisKind.SWITCH
        trunks += trunk
        if verdict is Verdict.ABSENT:
            absent.append(cable)
            dark += trunk
        elif says(far) is not Said.SILENT:
            return None
        elif trunk:
            unseen.add(far.chassis)
    half = 2 * dark >= trunks if kind is ChassisKind.SWITCH and trunks else 2 * len(absent) >= len(cables)
    if len(absent) < 2 or not half:
        return None
    unseen.update(far.chassis for cable in cables if not trunks for far in cable.ends if cable not in absent)
    return Down(name, kind, part, tuple(absent), len(cables), tuple(sorted(ports)), frozenset(unseen - {name}), False)


def _confirmed(found: Comparison, every: Sequence[Down]) -> list[Down]:
    """With the switches of which nothing is left unseen confirmed."""
    views = found.evidence.views
    gone = {
        one.name
        for one in every
        if one.kind is ChassisKind.SWITCH
        and len(views) > 1
        and (one.module or not any(v.sees(one.name) for v in views))
    }
    unseen: dict[str, set[str]] = defaultdict(set)
    for one in every:
        unseen[one.name] |= one.unseen
    while doubtful := {name for name in gone if not unseen[name] <= gone}:
        gone -= doubtful
    return [one._replace(confirmed=one.confirmed or one.name in gone) for one in every]
