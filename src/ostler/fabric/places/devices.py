"""HCAs that a design calls `mlx5_0` and their hosts `HCA-1`: which is which, where that can be told.

Called by `identity.py`. A host whose HCAs have none of the names that the design gives them, and as many, has them in
the same order: both are numbered as the driver finds the devices. What all such hosts agree in is then used for hosts
of which fewer are seen. Nothing is renamed if only some names are of the design: then the design knows this host's
names, and another order is a finding (`hca-order`), not a spelling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ostler.fabric.model import Blueprint, ChassisKind

_NUMBERED = re.compile(r"(.*[^0-9])([0-9]{1,6})")


def by_order(hosts: Mapping[str, Mapping[str, int]], blueprint: Blueprint) -> tuple[dict[int, str], list[str]]:
    """hosts: chassis → device as its host calls it → GUID.

    Returns GUID → device of the design, and the hosts where that cannot be told, which are left as they are.
    """
    learnt: dict[frozenset[str], dict[str, str]] = {}
    torn: set[frozenset[str]] = set()
    waiting: list[tuple[str, Mapping[str, int], frozenset[str]]] = []
    for chassis, devices in hosts.items():
        designed = blueprint.chassis.get(chassis)
        if designed is None or designed.kind is ChassisKind.SWITCH:
            continue
        wanted = frozenset(
            port.name.partition("/")[0]
            for cable in blueprint.by_chassis.get(chassis, ())
            for port in (cable.a, cable.b)
            if port.chassis == chassis
        )
        if not wanted or not wanted.isdisjoint(devices):
            continue
        waiting.append((chassis, devices, wanted))
        pairs = _pairs(devices, wanted) if len(devices) == len(wanted) else None
        if pairs and learnt.setdefault(wanted, pairs) != pairs:
            torn.add(wanted)
    renamed: dict[int, str] = {}
    ambiguous: list[str] = []
    for chassis, devices, wanted in waiting:
        own = _pairs(devices, wanted) if len(devices) == len(wanted) else None
        pairs = own or ({} if wanted in torn else learnt.get(wanted, {}))
        if pairs and all(device in pairs for device in devices):
            renamed.update({guid: pairs[device] for device, guid in devices.items()})
        else:
            ambiguous.append(chassis)
    return renamed, ambiguous


def _pairs(devices: Mapping[str, int], wanted: frozenset[str]) -> dict[str, str] | None:
    """By number, if either side has one stem and numbers behind it."""
    ours, theirs = _order(devices), _order(wanted)
    return dict(zip(ours, theirs, strict=True)) if ours and theirs else None


def _order(names: Mapping[str, int] | frozenset[str]) -> list[str] | None:
    numbered: dict[int, str] = {}
    stems = set()
    for name in names:
        if (found := _NUMBERED.fullmatch(name)) is None:
            return None
        stems.add(found[1])
        numbered[int(found[2])] = name
    return (
        [numbered[number] for number in sorted(numbered)] if len(stems) == 1 and len(numbered) == len(names) else None
    )
