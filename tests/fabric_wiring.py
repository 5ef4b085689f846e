"""The fabric that a blueprint describes, with GUIDs of our own: what `fabric_lab.py` hands to the simulator."""

from __future__ import annotations

from collections.abc import Mapping

from ostler.adapters.fabric.fake import FakeFabric, FakeNode
from ostler.fabric.model import Blueprint, ChassisKind, Port


def fabric_of(blueprint: Blueprint, *, rate: str = "4xHDR") -> FakeFabric:
    """The fabric that the design describes, with GUIDs of our own."""
    fabric = FakeFabric(rate=rate)
    guids = guids_of(blueprint)
    ports: dict[int, int] = {}
    for port in blueprint.by_port:
        guid, number = end_of(blueprint, guids, port)
        ports[guid] = max(ports.get(guid, 1), number)
    for (chassis, device), guid in guids.items():
        if device:
            fabric.add(FakeNode(guid, False, f"{chassis} {device}", 1))
        else:
            model = blueprint.chassis[chassis].model or "MQM8700"
            fabric.add(FakeNode(guid, True, f"MF0;{chassis}:{model}/U1", max(40, ports.get(guid, 1)), device=0xD2F0))
    for cable in blueprint.cables:
        fabric.plug(end_of(blueprint, guids, cable.a), end_of(blueprint, guids, cable.b))
    return fabric


def guids_of(blueprint: Blueprint) -> dict[tuple[str, str], int]:
    """Chassis and HCA device (empty: a switch) → node GUID."""
    parts: dict[tuple[str, str], int] = {}
    for number, (name, chassis) in enumerate(sorted(blueprint.chassis.items())):
        if chassis.kind is ChassisKind.SWITCH:
            parts[name, ""] = 0xE41D_2D03_0000_0000 + (number << 8)
        else:
            devices = sorted(
                {
                    port.name
                    for cable in blueprint.by_chassis.get(name, ())
                    for port in cable.ends
                    if port.chassis == name
                }
            )
            parts |= {
                (name, device): 0x0C42_A103_0000_0000 + (number << 8) + (n << 4) for n, device in enumerate(devices)
            }
    return parts


def end_of(blueprint: Blueprint, guids: Mapping[tuple[str, str], int], port: Port) -> tuple[int, int]:
    if blueprint.chassis[port.chassis].kind is ChassisKind.SWITCH:
        return guids[port.chassis, ""], int(port.name)
    return guids[port.chassis, port.name], 1
