"""Which node is which host of a design: cabling belongs to the slot, so the slot decides, and the name where none does.

Called by `service.py`, `books.py` and by Seatrial, through `cabling_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ostler.db.tx import Tx
from ostler.fabric.model import Blueprint, ChassisKind
from ostler.nodes import store as nodes
from ostler.nodes.model import Service, State


@dataclass(frozen=True, slots=True)
class Host:
    """A node as the fabric needs it."""

    id: str
    name: str
    slot: str
    state: State
    service: Service
    busy: bool
    cordoned: bool


@dataclass(frozen=True)
class Hosts:
    """The nodes of a design, both ways."""

    by_chassis: Mapping[str, Host]
    names: Mapping[str, str]
    """Name of a node → the design's name of the host in whose place it stands, where they differ."""


def of(tx: Tx, blueprint: Blueprint | None) -> Hosts:
    """Match the books' nodes with a design's hosts; without a design every node is a host of its own name."""
    rows = [
        Host(
            row["id"],
            row["name"],
            row["slot"] or "",
            State(row["state"]),
            Service(row["service"]),
            bool(row["busy"]),
            bool(row["cordoned"]),
        )
        for row in nodes.brief(tx)
    ]
    if blueprint is None:
        return Hosts({row.name: row for row in rows}, {})
    return match(blueprint, rows)


def match(blueprint: Blueprint, rows: list[Host]) -> Hosts:
    """By slot first, then by name. Pure."""
    designed = {name: chassis for name, chassis in blueprint.chassis.items() if chassis.kind is ChassisKind.HOST}
    by_place = {_spot(str(chassis.place)): name for name, chassis in designed.items() if str(chassis.place)}
    by_name = {name.lower(): name for name in designed}
    found: dict[str, Host] = {}
    names: dict[str, str] = {}
    for row in rows:
        if row.slot and (chassis := by_place.get(_spot(row.slot))) is not None:
            found[chassis] = row
            names[row.name] = chassis
    placed = bool(found)
    for row in rows:
        chassis = by_name.get(row.name.lower())
        if chassis is None or chassis in found or row.name in names:
            continue
        # Where the books and the design name places alike, a node in another slot is another host, whatever its name.
        if not (placed and row.slot and str(designed[chassis].place)):
            found[chassis] = row
            names[row.name] = chassis
    return Hosts(found, {name: chassis for name, chassis in names.items() if name != chassis})


def _spot(place: str) -> str:
    """A place without the differences of hands: `HALL1/a/r03/U07` and `hall1/a/r03/7` are one."""
    head, slash, unit = place.lower().rpartition("/")
    number = unit.removeprefix("u").lstrip("0")
    return f"{head}{slash}{number if number.isdecimal() else unit}"
