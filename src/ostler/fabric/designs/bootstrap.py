"""A blueprint taken over from what is there, for fabrics of which nobody has the design any more.

It says what was plugged in, right or wrong, and is marked unproven until a person has looked at it: every face shows
that. Called by `ostler fabric import --from-snapshot` and the server's use case of the same name.
"""

from __future__ import annotations

from ostler.fabric.model import Blueprint, ChassisKind, DesignedCable, DesignedChassis, Place, Port, Role, Snapshot
from ostler.fabric.sweep import PortState


def bootstrap(snapshot: Snapshot, name: str) -> Blueprint:
    """Every link between placed chassis as a cable, with GUIDs, and width and speed as observed on both ends.

    Chassis without a link are kept: they answered. What has no place (`snapshot.unplaced`) is left out, and so are
    GUIDs that were found in two places.
    """
    chassis = {
        box.name: DesignedChassis(box.name, box.kind, box.model, Place())
        for box in sorted(snapshot.chassis.values(), key=lambda box: box.name)
    }
    cables: list[DesignedCable] = []
    for a, b in snapshot.links.items():
        if a >= b or a.chassis not in chassis or b.chassis not in chassis or snapshot.links.get(b) != a:
            continue
        host = ChassisKind.HOST in {chassis[a.chassis].kind, chassis[b.chassis].kind}
        width, speed = _observed(snapshot, a, b)
        module = snapshot.modules.get(a) or snapshot.modules.get(b)
        serial = module.serial if module else ""
        length = (module.length_m or 0.0) if module else 0.0
        cables.append(DesignedCable(a, b, Role.HOST if host else Role.TRUNK, "", serial, length, width, speed))
    return Blueprint(name, "snapshot", chassis, tuple(sorted(cables)), proven=False, guids=_guids(snapshot, chassis))


def _observed(snapshot: Snapshot, a: Port, b: Port) -> tuple[int, str]:
    """Lanes and speed of a link that is up; nothing where the ends do not agree or do not say."""
    width, speed = 0, ""
    for port in (a, b):
        facts = snapshot.facts.get(port)
        if facts is None or facts.state in {PortState.DOWN, PortState.INIT}:
            continue
        if (width and facts.width and facts.width != width) or (speed and facts.speed and facts.speed != speed):
            return 0, ""
        width, speed = facts.width or width, facts.speed or speed
    return width, speed


def _guids(snapshot: Snapshot, chassis: dict[str, DesignedChassis]) -> dict[int, Port]:
    """Node GUID → place: of a switch the box alone, of a host the device."""
    found: dict[int, Port] = {}
    twice: set[int] = set()
    for port, end in snapshot.ends.items():
        box = chassis.get(port.chassis)
        if box is None:
            continue
        is_host = box.kind is ChassisKind.HOST
        place = Port(port.chassis, port.name.partition("/")[0] if is_host and port.name.startswith("mlx") else "")
        if is_host and not place.name:
            place = port
        if found.setdefault(end.guid, place) != place:
            twice.add(end.guid)
    for seen in snapshot.chassis.values():
        if seen.kind is not ChassisKind.HOST:
            for guid in seen.guids:
                if found.setdefault(guid, Port(seen.name, "")) != Port(seen.name, ""):
                    twice.add(guid)
    return {guid: place for guid, place in sorted(found.items()) if guid not in twice}
