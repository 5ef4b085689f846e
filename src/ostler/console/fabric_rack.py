"""The racks of a fabric: which of them have faults, and what stands where in one. Called by `fabric.py`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ostler.console.fabric_causes import CauseLine
from ostler.console.fabric_scene import Scene
from ostler.console.queries import natural
from ostler.core.errors import NotFound
from ostler.fabric.model import DesignedCable, DesignedChassis, Verdict

UNITS = 42
"""Of a rack in which nothing is higher: EIA-310 racks are mostly so."""
_HIGHEST = 70
_UNIT = re.compile(r"[uU]?0*([0-9]{1,2})")
CABLES = 200
"""Listed on the page of one rack."""


@dataclass(frozen=True)
class RackLine:
    """A rack in the list."""

    key: str
    name: str
    boxes: int
    bad: Mapping[str, int]
    """Verdict → ends of cables in it that are not ok."""
    causes: int


@dataclass(frozen=True)
class Slot:
    """One box in a rack."""

    name: str
    kind: str
    model: str
    told: str
    word: str
    silent: bool
    causes: Sequence[CauseLine]


@dataclass(frozen=True)
class Unit:
    """One unit's height, from above; `number` 0: not known."""

    number: int
    slots: Sequence[Slot]


@dataclass(frozen=True)
class Faulty:
    """A cable that is not ok, with an end in the rack."""

    cable: DesignedCable
    word: str
    inside: bool
    """Both ends are in this rack."""


@dataclass(frozen=True)
class RackPage:
    """What `fabric_rack.html` shows."""

    key: str
    name: str
    units: Sequence[Unit]
    cables: Sequence[Faulty]
    more: int
    causes: Sequence[CauseLine]


def key_of(box: DesignedChassis) -> str:
    """`site/row/rack`; empty where the design does not say."""
    place = box.place
    return "/".join(part for part in (place.site, place.row, place.rack) if part) if place.rack else ""


def racks(scene: Scene, causes: Sequence[CauseLine]) -> list[RackLine]:
    """Those with causes first, then those with cables that are not ok, each in the order of their names."""
    boxes: defaultdict[str, list[str]] = defaultdict(list)
    for name, box in ({} if scene.blueprint is None else scene.blueprint.chassis).items():
        if key := key_of(box):
            boxes[key].append(name)
    where: defaultdict[str, set[str]] = defaultdict(set)
    for one in causes:
        for name in map(str, one.row["where"]):
            where[name].add(one.row["id"])
    found = []
    for key, names in boxes.items():
        bad: defaultdict[str, int] = defaultdict(int)
        for name in names:
            for word, count in scene.bad.get(name, {}).items():
                bad[word] += count
        found.append(
            RackLine(
                key, key.replace("/", " / "), len(names), bad, len(set[str]().union(*(where[name] for name in names)))
            )
        )
    return sorted(found, key=lambda rack: (not rack.causes, not rack.bad, natural(rack.name)))


def rack(scene: Scene, key: str, causes: Sequence[CauseLine]) -> RackPage:
    """Raises `NotFound` for a rack that the design does not have."""
    chassis = {} if scene.blueprint is None else scene.blueprint.chassis
    inside = {name: box for name, box in chassis.items() if key and key_of(box) == key}
    if not inside:
        raise NotFound(f"The design of '{scene.fabric}' has no rack '{key[:80]}'.")
    by_unit: defaultdict[int, list[Slot]] = defaultdict(list)
    for name in sorted(inside, key=natural):
        box = inside[name]
        number = _UNIT.fullmatch(box.place.unit)
        by_unit[int(number[1]) if number else 0].append(
            Slot(
                name,
                box.kind.value,
                box.model,
                scene.told(name),
                scene.colour(name),
                name in scene.silent,
                [one for one in causes if name in one.row["where"]],
            )
        )
    highest = max(UNITS, min(max(by_unit), _HIGHEST))
    units = [Unit(number, by_unit.get(number, ())) for number in range(highest, 0, -1)]
    beyond = [Unit(number, by_unit[number]) for number in sorted(by_unit) if number == 0 or number > highest]
    faulty = [
        Faulty(cable, verdict.value, cable.a.chassis in inside and cable.b.chassis in inside)
        for cable, verdict in scene.verdicts.items()
        if cable.a.chassis in inside or cable.b.chassis in inside
    ]
    order = [word.value for word in (Verdict.WRONG, Verdict.ABSENT, Verdict.DEGRADED, Verdict.UNKNOWN)]
    faulty.sort(key=lambda one: (order.index(one.word), natural(str(one.cable.a))))
    mine = [one for one in causes if any(name in inside for name in one.boxes)]
    return RackPage(
        key, key.replace("/", " / "), [*units, *beyond], faulty[:CABLES], max(0, len(faulty) - CABLES), mine
    )
