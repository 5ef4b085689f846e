"""A leaf with hosts on it, looked at twice. Called by the tests of link health."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostler.fabric.formats.vocabulary import COUNTERS
from ostler.fabric.links.judge import judge
from ostler.fabric.links.limits import Limits
from ostler.fabric.links.model import LinkEvent
from ostler.fabric.model import Chassis, ChassisKind, Port, Snapshot, Trouble
from ostler.fabric.sweep import Ber, End, Module, Physical, PortFacts, PortState

LIMITS = Limits()
START = 1_700_000_000.0
LEAF, HOST = Port("leaf01", "1"), Port("gpu-0001", "mlx5_0")
UP = PortFacts(None, PortState.ACTIVE, Physical.LINK_UP, 4, "NDR", 4, "NDR")
DOWN = PortFacts(None, PortState.DOWN, Physical.POLLING, 4, "SDR", 4, "NDR")


def look(
    at: float | None = 0.0,
    counters: Mapping[Port, Mapping[str, int]] | None = None,
    *,
    links: Mapping[Port, Port] | None = None,
    facts: PortFacts = UP,
    modules: Mapping[Port, Module] | None = None,
    bers: Mapping[Port, Ber] | None = None,
    down: bool = False,
    **more: Any,
) -> Snapshot:
    """A look `at` seconds after START at gpu-0001's cable (or `links`), whose ports all count traffic and no errors."""
    cables = dict(links) if links is not None else {LEAF: HOST}
    cables |= {peer: port for port, peer in cables.items()}
    none = dict.fromkeys(COUNTERS.values(), 0)
    taken = None if at is None else START + at
    traffic = {"port_xmit_data": 1_000 + int(at or 0), "port_rcv_data": 1_000 + int(at or 0)}
    snapshot = Snapshot("test", taken_at=taken, states=True, modules=dict(modules or {}), bers=dict(bers or {}), **more)
    for port in cables:
        snapshot.facts[port] = DOWN if down else facts
        snapshot.counters[port] = none | traffic | dict((counters or {}).get(port, {}))
        kind = ChassisKind.SWITCH if port.chassis.startswith("leaf") else ChassisKind.HOST
        snapshot.chassis[port.chassis] = Chassis(port.chassis, kind)
        snapshot.ends[port] = End(hash_of(port), 1)
    if not down:
        snapshot.links = cables
    return snapshot


def hash_of(port: Port) -> int:
    return int.from_bytes(f"{port}".encode()[:8], "big")


def troubles(after: Snapshot, before: Snapshot | None = None, **more: Any) -> list[Trouble]:
    return judge(after, before, **more)[0]


def kinds(after: Snapshot, before: Snapshot | None = None, **more: Any) -> list[tuple[str, bool]]:
    return [(str(one.kind), one.severe) for one in troubles(after, before, **more)]


def counted(counter: str, count: int, seconds: float, port: Port = LEAF, **more: Any) -> list[tuple[str, bool]]:
    """What is said where one port counted so much in so many seconds."""
    return kinds(look(seconds, {port: {counter: count}}, **more), look(0.0, **more))


def event(kind: str, at: float, count: int = 1) -> LinkEvent:
    return LinkEvent(HOST, LEAF, kind, START + at, count)
