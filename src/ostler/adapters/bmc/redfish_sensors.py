"""The readings of all chassis, and what is remembered of where they stand. Called by `redfish.py`.

A BMC is asked for its readings all day and its tree does not change meanwhile: where a chassis has its sensors is
looked up once an hour, after each log-in (it may have restarted), and when a remembered link leads nowhere any more.
What was not served when it was looked up is not remembered as absent: it is asked for again each time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from ostler.adapters.bmc.port import Health, Sensor, SensorKind
from ostler.adapters.bmc.redfish_tree import (
    ROOT,
    Document,
    Tree,
    child,
    children,
    health,
    link,
    name_of,
    number,
    text,
)

_KINDS = {
    "temperature": SensorKind.TEMPERATURE,
    "rotational": SensorKind.FAN,
    "power": SensorKind.POWER,
    "voltage": SensorKind.VOLTAGE,
    "current": SensorKind.CURRENT,
    "energyjoules": SensorKind.ENERGY,
    "energykwh": SensorKind.ENERGY,
    "energywh": SensorKind.ENERGY,
}
_UNITS = {
    SensorKind.TEMPERATURE: "Cel",
    SensorKind.FAN: "RPM",
    SensorKind.POWER: "W",
    SensorKind.VOLTAGE: "V",
    SensorKind.CURRENT: "A",
}
_LEAK = {"ok": (0.0, Health.OK), "warning": (1.0, Health.WARNING), "critical": (1.0, Health.CRITICAL)}


@dataclass(frozen=True, slots=True)
class Place:
    """Where one chassis has its readings: paths, None for what it has not."""

    path: str
    sensors: str | None = None
    thermal: str | None = None
    power: str | None = None
    leaks: str | None = None
    served: bool = True
    """The chassis itself was."""
    complete: bool = True
    """All that the chassis links to on the way was served; otherwise it is looked at again each time."""

    @property
    def box(self) -> str:
        return name_of(self.path)


Places = tuple[Place, ...]


def sensors(tree: Tree, places: Places | None) -> tuple[tuple[Sensor, ...], Places | None]:
    """Every reading of every chassis, and where they stand, for the next call; None: to be looked up then.

    What cannot be read is a sensor without a value and of unknown health.
    """
    before = len(tree.unread)
    found, certain = _find(tree) if places is None else (_again(tree, places), True)
    missed = set(tree.unread[before:])
    readings = tuple(reading for place in found for reading in _readings(tree, place))
    lost = set(tree.unread[before:]) - missed
    kept = certain and not any(
        path in lost for one in found for path in (one.sensors, one.thermal, one.power, one.leaks)
    )
    return readings, _one_copy(found) if kept else None


@functools.lru_cache(maxsize=1024)
def _one_copy(places: Places) -> Places:
    """Servers of one model have the same tree: one copy of it for all of them."""
    return places


def _find(tree: Tree) -> tuple[Places, bool]:
    """The chassis, and whether their list was served whole."""
    members = list(tree.members(link(tree.get(ROOT), "Chassis")))
    certain = not set(tree.unread) - {path for path, _ in members}
    return tuple(_place(tree, path, chassis) for path, chassis in members), certain


def _again(tree: Tree, places: Places) -> Places:
    if all(place.complete for place in places):
        return places
    return tuple(place if place.complete else _place(tree, place.path, tree.find(place.path)) for place in places)


def _place(tree: Tree, path: str, chassis: Document) -> Place:
    if not chassis:
        return Place(path, served=False, complete=False)
    before = len(tree.unread)
    collection = link(chassis, "Sensors")
    older = collection is None
    cooling = link(chassis, "ThermalSubsystem")
    detection = link(tree.find(cooling), "LeakDetection") if cooling else None
    return Place(
        path,
        sensors=collection,
        thermal=link(chassis, "Thermal") if older else None,
        power=link(chassis, "Power") if older else None,
        leaks=link(tree.find(detection), "LeakDetectors"),
        complete=len(tree.unread) == before,
    )


def _readings(tree: Tree, place: Place) -> Iterator[Sensor]:
    box = place.box
    if place.sensors is not None:
        for where, doc in tree.members(place.sensors):
            yield _sensor(doc, box, where) if doc else _unknown(name_of(where), box)
        if place.sensors in tree.unread:
            yield _unknown("Sensors", box)
    elif not place.served:
        yield _unknown(box, box)
    else:
        yield from _older(tree, place, box)
    yield from _leaks(tree, place, box)


def _unknown(name: str, box: str) -> Sensor:
    return Sensor(name, box, SensorKind.OTHER, None, "", None, Health.UNKNOWN)


def _sensor(doc: Document, box: str, where: str) -> Sensor:
    kind = _KINDS.get(text(doc, "ReadingType").lower(), SensorKind.OTHER)
    limit = number(child(doc, "Thresholds", "UpperCritical"), "Reading")
    unit = text(doc, "ReadingUnits", 20)
    return Sensor(text(doc, "Id") or name_of(where), box, kind, number(doc, "Reading"), unit, limit, health(doc))


def _older(tree: Tree, place: Place, box: str) -> Iterator[Sensor]:
    """The `Thermal` and `Power` resources of a chassis without a collection of sensors."""
    thermal, power = tree.find(place.thermal), tree.find(place.power)
    groups = (
        (SensorKind.TEMPERATURE, children(thermal, "Temperatures"), "ReadingCelsius"),
        (SensorKind.FAN, children(thermal, "Fans"), "Reading"),
        (SensorKind.VOLTAGE, children(power, "Voltages"), "ReadingVolts"),
        (SensorKind.POWER, children(power, "PowerControl"), "PowerConsumedWatts"),
    )
    for kind, items, reading in groups:
        for index, doc in enumerate(items):
            name = text(doc, "Name") or text(doc, "FanName") or f"{kind}_{index}"
            unit = text(doc, "ReadingUnits", 20) or _UNITS[kind]
            limit = number(doc, "UpperThresholdCritical")
            yield Sensor(name, box, kind, number(doc, reading), unit, limit, health(doc))


def _leaks(tree: Tree, place: Place, box: str) -> Iterator[Sensor]:
    """Leak detectors (LeakDetector schema, Redfish 2023.1): wet is 1, dry is 0, anything unclear is no value."""
    for where, doc in tree.members(place.leaks):
        value, level = _LEAK.get(text(doc, "DetectorState").lower(), (None, Health.UNKNOWN))
        yield Sensor(text(doc, "Id") or name_of(where), box, SensorKind.LEAK, value, "", None, level)
