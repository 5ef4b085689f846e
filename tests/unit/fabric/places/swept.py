"""Sweeps made of blueprints, as a fault-free fabric would give them, for the tests of `places`."""

from __future__ import annotations

from dataclasses import replace

from ostler.fabric.model import Blueprint, ChassisKind, Port
from ostler.fabric.sweep import End, Node, NodeKind, Physical, PortFacts, PortState, Sweep

FIRST_GUID = 0x98039B0300000000


def sweep_of(blueprint: Blueprint, *, states: bool = False) -> Sweep:
    """Everything in its place, all nodes named as their hosts and switches name them."""
    sweep = Sweep("ibnetdiscover", "made.txt", states=states)
    guids: dict[Port, int] = {}

    def end(port: Port) -> End:
        host = blueprint.chassis[port.chassis].kind is ChassisKind.HOST
        part = port if host else Port(port.chassis, "")
        if part not in guids:
            guid = guids[part] = FIRST_GUID + len(guids) * 16
            name = f"{part.chassis} {part.name}" if host else f"MF0;{part.chassis}:MQM9700/U1"
            sweep.nodes[guid] = Node(guid, NodeKind.HCA if host else NodeKind.SWITCH, name, 1 if host else 65, guid)
        return End(guids[part], 1 if host else int(port.name))

    for cable in blueprint.cables:
        connect(sweep, end(cable.a), end(cable.b))
    return sweep


def connect(sweep: Sweep, a: End, b: End) -> None:
    """A cable, both ways."""
    for near, far in ((a, b), (b, a)):
        sweep.ports[near] = PortFacts(far, PortState.ACTIVE, Physical.LINK_UP, 4, "NDR", 4, "NDR", 7)


def pull(sweep: Sweep, end: End) -> None:
    """Take the cable out at both ends: a switch says so, where sweeps have states; an HCA is not seen any more."""
    peer = sweep.ports[end].peer
    assert peer is not None
    for one in (end, peer):
        if sweep.nodes[one.guid].kind is NodeKind.HCA:
            del sweep.ports[one], sweep.nodes[one.guid]
        elif sweep.states:
            sweep.ports[one] = PortFacts(None, PortState.DOWN, Physical.POLLING)
        else:
            del sweep.ports[one]


def swap(sweep: Sweep, a: End, b: End) -> None:
    """Exchange the plugs in a and b."""
    to_a, to_b = sweep.ports[a].peer, sweep.ports[b].peer
    assert to_a is not None and to_b is not None
    connect(sweep, a, to_b)
    connect(sweep, b, to_a)


def guid_of(sweep: Sweep, description: str) -> int:
    (guid,) = [guid for guid, node in sweep.nodes.items() if node.description == description]
    return guid


def rename(sweep: Sweep, guid: int, description: str) -> None:
    sweep.nodes[guid] = replace(sweep.nodes[guid], description=description)


def renumber(sweep: Sweep, old: int, new: int) -> None:
    """Another part in its place."""
    sweep.nodes = {
        (new if guid == old else guid): replace(node, guid=new) if guid == old else node
        for guid, node in sweep.nodes.items()
    }

    def of(end: End) -> End:
        return End(new, end.port) if end.guid == old else end

    sweep.ports = {
        of(end): facts._replace(peer=of(facts.peer) if facts.peer else None) for end, facts in sweep.ports.items()
    }
