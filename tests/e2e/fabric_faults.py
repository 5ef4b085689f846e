"""Faults for a simulated fabric, drawn by chance, and what must be found: `test_fabric_loop.py` puts them in one by one.

A fault is put in through the simulator's console, and knows how many plugs a technician has to move for it. Faults of
one case touch different ports, none of them the ports that the subnet manager and the monitor look through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from ostler.fabric.model import Blueprint, Cause, CauseKind, ChassisKind, DesignedCable, Diagnosis, Port, Role, Verdict
from tests.fabric_lab import FabricLab

Apply = Callable[[FabricLab], None]


@dataclass
class Fault:
    """One thing that went wrong."""

    name: str
    inject: Apply
    moves: int = 0
    """Plugs that have to move."""
    absent: tuple[DesignedCable, ...] = ()
    """Cables that are nowhere."""
    repair: Apply | None = None
    """What is no plug to be moved: power on, lanes."""
    cause: CauseKind | None = None
    """The one cause it must be told as."""
    where: str = ""
    """The chassis of that cause."""


@dataclass
class Case:
    """Faults at one moment. `blind`: what keeps the collector from seeing everything; taken back by `calm`."""

    seed: int
    faults: list[Fault] = field(default_factory=list)
    blind: Fault | None = None

    @property
    def moves(self) -> int:
        return sum(fault.moves for fault in self.faults)

    def __str__(self) -> str:
        return f"seed {self.seed}: " + ", ".join(fault.name for fault in (*self.faults, *filter(None, [self.blind])))


class Drawer:
    """Draws faults of a fabric."""

    def __init__(self, blueprint: Blueprint, protected: Sequence[Port], random: Random) -> None:
        self.random = random
        self.blueprint = blueprint
        guarded = {blueprint.by_port[port] for port in protected}
        self.kept = {port.chassis for cable in guarded for port in cable.ends}
        """Boxes that stay on: the subnet manager's and the monitor's, and what they are plugged into."""
        self.left = [cable for cable in blueprint.cables if cable not in guarded]
        random.shuffle(self.left)
        self.spares: set[Port] = set()

    def cables(self, count: int, role: Role | None = None) -> list[DesignedCable]:
        """Cables that no other fault of the case touches."""
        taken = [cable for cable in self.left if role is None or cable.role is role][:count]
        for cable in taken:
            self.left.remove(cable)
        return taken

    def without(self, chassis: str) -> None:
        self.left = [cable for cable in self.left if chassis not in (cable.a.chassis, cable.b.chassis)]

    def box(self, kind: ChassisKind) -> str:
        name = self.random.choice(
            [one.name for one in self.blueprint.chassis.values() if one.kind is kind and one.name not in self.kept]
        )
        self.without(name)
        return name

    # ── cabling ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def cabling(self) -> Fault:
        draw = self.random.choice([self.cut, self.swap, self.rotation_of_3, self.rotation_of_4, self.moved, self.taken])
        return draw()

    def cut(self) -> Fault:
        (cable,) = self.cables(1)
        return Fault("cut", lambda lab: _pull(lab, cable.a), absent=(cable,))

    def swap(self) -> Fault:
        return self._rotation(2, "swap")

    def rotation_of_3(self) -> Fault:
        return self._rotation(3, "3-rotation")

    def rotation_of_4(self) -> Fault:
        return self._rotation(4, "4-rotation")

    def _rotation(self, count: int, name: str) -> Fault:
        role = self.random.choice([Role.HOST, Role.TRUNK, None])
        cables = self.cables(count, role)

        def inject(lab: FabricLab) -> None:
            for cable in cables:
                lab.unlink(cable.a)
            for cable, following in zip(cables, [*cables[1:], cables[0]], strict=True):
                lab.link(cable.a, following.b)

        return Fault(name, inject, moves=count)

    def moved(self) -> Fault:
        """A plug in a port of the same leaf that nothing belongs into."""
        (cable,) = self.cables(1, Role.HOST)
        spare = next(
            port
            for number in range(40, 0, -1)
            if (port := Port(cable.b.chassis, str(number))) not in self.blueprint.by_port and port not in self.spares
        )
        self.spares.add(spare)
        return Fault("moved", lambda lab: lab.move(cable.b, spare), moves=1)

    def taken(self) -> Fault:
        """One cable is gone, and another's plug sits in its port."""
        gone, other = self.cables(2, Role.HOST)

        def inject(lab: FabricLab) -> None:
            lab.unlink(gone.b)
            lab.move(other.b, gone.b)

        return Fault("taken", inject, moves=1, absent=(gone,))

    # ── boxes, lanes ────────────────────────────────────────────────────────────────────────────────────────────────

    def node_off(self) -> Fault:
        return self._off(ChassisKind.HOST, "node off", CauseKind.NODE_DOWN)

    def switch_off(self) -> Fault:
        return self._off(ChassisKind.SWITCH, "switch off", CauseKind.SWITCH_DOWN)

    def _off(self, kind: ChassisKind, name: str, cause: CauseKind) -> Fault:
        box = self.box(kind)
        return Fault(f"{name} {box}", lambda lab: lab.off(box), repair=lambda lab: lab.on(box), cause=cause, where=box)

    def lanes(self, monitor: str) -> Fault:
        (cable,) = self.cables(1, Role.HOST)
        return Fault(
            f"lanes lost at {cable.b}",
            lambda lab: lab.lanes(cable.b, 1, seen_from=monitor),
            repair=lambda lab: lab.lanes(cable.b, 4, seen_from=monitor),
            cause=CauseKind.DEGRADED,
            where=cable.b.chassis,
        )

    # ── what hides ──────────────────────────────────────────────────────────────────────────────────────────────────

    def lost_packets(self) -> Fault:
        """A switch that loses a fifth of its packets, or an HCA that never says who it is."""
        if self.random.random() < 0.5:
            box = self.box(ChassisKind.SWITCH)
            return Fault(f"packets lost at {box}", lambda lab: lab.lose(box, 20))
        (cable,) = self.cables(1, Role.HOST)
        host, device = cable.a
        return Fault(f"silence of {cable.a}", lambda lab: lab.lose(host, 100, 17, device=device))

    def duplicate_guid(self) -> Fault:
        one, other = self.cables(2, Role.HOST)
        return Fault(f"GUID of {other.a} at {one.a} too", lambda lab: lab.same_guid(one.a, other.a))

    def monitor_cut(self, monitor: Port) -> Fault:
        other = self.blueprint.by_port[monitor]
        return Fault(
            "the monitor cut off", lambda lab: _pull(lab, monitor), repair=lambda lab: lab.link(other.a, other.b)
        )


def draw(seed: int, blueprint: Blueprint, manager: Port, monitor: Port) -> Case:
    """The case of a seed: every family comes up in ten seeds that follow each other."""
    random = Random(seed)
    drawer = Drawer(blueprint, (manager, monitor), random)
    case = Case(seed)
    family = seed % 10
    if family == 4:
        case.faults.append(drawer.node_off())
    elif family == 5:
        case.faults.append(drawer.switch_off())
    elif family == 6:
        case.faults.append(drawer.lanes(monitor.chassis))
    elif family == 7:
        case.blind = drawer.lost_packets()
    elif family == 8:
        case.blind = drawer.duplicate_guid()
    elif family == 9:
        case.blind = drawer.monitor_cut(monitor)
    case.faults += [drawer.cabling() for _ in range(random.randint(1, 4) if family < 4 else random.randint(0, 2))]
    return case


def _pull(lab: FabricLab, port: Port) -> None:
    if lab.unlink(port) is None:
        raise AssertionError(f"nothing is in {port}")


# ── what is true ────────────────────────────────────────────────────────────────────────────────────────────────────


def lies(diagnosis: Diagnosis, lab: FabricLab, off: Sequence[str] = ()) -> Iterator[str]:
    """Everything that a diagnosis claims and that is not so."""
    assert lab.blueprint is not None
    for cable in lab.blueprint.cables:
        a, b = lab.peer(cable.a), lab.peer(cable.b)
        right = a == lab.end(cable.b)
        verdict = diagnosis.verdicts.get(cable, Verdict.OK)
        truth = {
            Verdict.OK: right,
            Verdict.DEGRADED: right,
            Verdict.WRONG: not right and (a is not None or b is not None),
            Verdict.ABSENT: not right and (a is None or b is None),
            Verdict.UNKNOWN: True,
        }[verdict]
        if not truth:
            yield f"{cable.a} - {cable.b} is said to be {verdict}; plugged into them are {a} and {b}"
    for cause in diagnosis.causes:
        if cause.confirmed and cause.kind in (CauseKind.NODE_DOWN, CauseKind.SWITCH_DOWN):
            yield from (f"{cause.message}: it is on" for name in cause.where[:1] if name not in off)
        for move in cause.moves:
            if lab.peer(move.now) != lab.end(move.stays):
                yield f"{cause.message}: the plug in {move.now} is not of the cable from {move.stays}"


def mend(causes: Sequence[Cause], lab: FabricLab) -> int:
    """Do what the causes say, as a technician would: pull the plugs, put them where they belong, put in what is
    missing. Answers how many plugs were moved."""
    moves = [move for cause in causes for move in cause.moves]
    for move in moves:
        if lab.peer(move.now) != lab.end(move.stays):
            raise AssertionError(f"the plug in {move.now} is not of the cable from {move.stays}")
    for move in moves:
        lab.unlink(move.now)
    for move in moves:
        lab.link(move.stays, move.then)
    for cause in causes:
        for cable in cause.cables if cause.kind in (CauseKind.CABLE_ABSENT, CauseKind.MISCABLED) else ():
            if lab.peer(cable.a) is None and lab.peer(cable.b) is None:
                lab.link(cable.a, cable.b)
    return len(moves)
