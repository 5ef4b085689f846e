"""Fabrics of any size in the books of a console, for looking at them: a snapshot is made of a design and of what hands
did to it, judged and written down as `fabric.service` does with one that a tool brought.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ostler.core.actor import Actor
from ostler.core.ids import new_id
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.fabric import blueprints, books, hosts, parts, store
from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.diagnosis import diagnose
from ostler.fabric.link_causes import with_health
from ostler.fabric.links.model import EventKind
from ostler.fabric.look import Look
from ostler.fabric.model import (
    Blueprint,
    Chassis,
    ChassisKind,
    DesignedCable,
    DesignedChassis,
    Place,
    Port,
    Role,
    Snapshot,
    Trouble,
    TroubleKind,
)
from ostler.fabric.places import archive
from ostler.fabric.report import document
from ostler.fabric.service import Fabrics
from ostler.fabric.settings import FabricSettings
from ostler.fabric.sweep import Ber, End, Module, PortFacts, PortState, Problem, ProblemKind
from ostler.health.model import HealthSettings
from ostler.remediation import service as remediation

MARA = Actor("person:mara")
HOSTILE = "<script>window.hacked='net'</script>"


@dataclass
class Net:
    """A fabric that hands can be put on. Starts as designed."""

    db: Database
    fabrics: Fabrics
    name: str
    blueprint: Blueprint
    links: dict[Port, Port] = field(default_factory=dict)
    narrow: set[Port] = field(default_factory=set)
    """Ports that run with one lane."""
    dark: set[str] = field(default_factory=set)
    guids: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for cable in self.blueprint.cables:
            self.plug(cable.a, cable.b)
        parts = sorted({self._part(port) for cable in self.blueprint.cables for port in cable.ends})
        self.guids = {part: 0x98039B0300000000 + 0x10 * number for number, part in enumerate(parts, 1)}

    def plug(self, a: Port, b: Port) -> None:
        for port in (a, b):
            self.cut(port)
        self.links[a], self.links[b] = b, a

    def cut(self, port: Port) -> None:
        peer = self.links.pop(port, None)
        if peer is not None:
            self.links.pop(peer, None)

    def swap(self, a: Port, b: Port) -> None:
        far_a, far_b = self.links[a], self.links[b]
        self.plug(a, far_b)
        self.plug(b, far_a)

    def snapshot(self, vantage: str = "sm01", problems: Sequence[Problem] = ()) -> Snapshot:
        """What somebody sees who sees all that has power."""
        seen = Snapshot("ibnetdiscover-cache", vantage, states=True, problems=list(problems))
        for cable in self.blueprint.cables:
            for port in cable.ends:
                if port.chassis in self.dark:
                    continue
                box = self.blueprint.chassis[port.chassis]
                peer = self.links.get(port)
                if peer is not None and peer.chassis in self.dark:
                    peer = None
                guid = self.guids[self._part(port)]
                found = seen.chassis.setdefault(box.name, Chassis(box.name, box.kind, box.model))
                if guid not in found.guids:
                    found.guids.append(guid)
                seen.ends[port] = End(guid, 1 if box.kind is ChassisKind.HOST else int(port.name))
                width = 1 if port in self.narrow or peer in self.narrow else 4
                state = PortState.ACTIVE if peer else PortState.DOWN
                seen.facts[port] = PortFacts(None, state, width=width if peer else 0, speed="NDR" if peer else "",
                                             width_supported=4, speed_supported="NDR")  # fmt: skip
                if peer is not None:
                    seen.links[port] = peer
        for port, facts in list(seen.facts.items()):
            if port in seen.links and (end := seen.ends.get(seen.links[port])) is not None:
                seen.facts[port] = facts._replace(peer=end)
        return seen

    def look(
        self,
        vantage: str = "sm01",
        *,
        problems: Sequence[Problem] = (),
        health: Sequence[Trouble] = (),
        ago: float = 60.0,
    ) -> str:
        """Write one look down; returns the snapshot's id."""
        seen = self.snapshot(vantage, problems)
        return self.take_in(seen, health, ago)

    def take_in(self, seen: Snapshot, health: Sequence[Trouble] = (), ago: float = 60.0, designed: bool = True) -> str:
        def before(tx: Tx) -> tuple[str | None, hosts.Hosts, list[Snapshot], float]:
            taken_at = tx.now - ago
            others = [
                archive.unpack(body)
                for row in store.latest_by_vantage(tx, self.name, taken_at - 900)
                if row["vantage"] != seen.vantage and (body := store.body(tx, row["id"])) is not None
            ]
            design = store.active_blueprint(tx, self.name)
            return None if design is None else design["id"], hosts.of(tx, self.blueprint), others, taken_at

        blueprint_id, mine, others, taken_at = self.db.read(before)
        blueprint = self.blueprint if designed else None
        seen.taken_at = taken_at
        diagnosis = with_health(diagnose(blueprint, seen, others), health, blueprint)
        report = document(diagnosis, blueprint, seen)
        snapshot_id = new_id("snap")
        look = Look(self.name, snapshot_id, seen, diagnosis, blueprint, mine, taken_at)
        row = {
            "id": snapshot_id, "fabric": self.name, "vantage": seen.vantage, "source": seen.source,
            "taken_at": taken_at, "received_at": taken_at, "blueprint_id": blueprint_id,
            "complete": diagnosis.coverage.complete, "coverage": report["coverage"], "counts": report["cables"],
            "report": report, "body": archive.pack(seen),
        }  # fmt: skip

        def write(tx: Tx) -> None:
            store.insert_snapshot(tx, row)
            parts.learn(tx, look)
            books.converge(tx, look, HealthSettings(), remediation.consider)

        self.db.write(write)
        return snapshot_id

    def _part(self, port: Port) -> tuple[str, str]:
        is_host = self.blueprint.chassis[port.chassis].kind is ChassisKind.HOST
        return port.chassis, port.name if is_host else ""


def fabrics(db: Database, settings: Mapping[str, FabricSettings] = {}) -> Fabrics:
    return Fabrics(db, settings, HealthSettings(), remediation.consider)


def net(db: Database, served: Fabrics, hosts: int, name: str = "compute", *, designed: bool = True) -> Net:
    """A rail-optimised fabric of so many hosts, its design in the books."""
    blueprint = fat_tree(hosts, 8, name=name, site="fra1", width=4, speed="NDR")
    if designed:
        db.write(lambda tx: blueprints.take_in(tx, name, blueprint, [], actor=MARA))
    return Net(db, served, name, blueprint)


def troubled(site: Net) -> str:
    """Everything that can be wrong at once: exchanged plugs, a cut, a slow cable, trunks, a dark host, ill links."""
    leaf = {rail: f"leaf-r{rail}-01" for rail in range(8)}
    site.swap(Port("gpu-0003", "mlx5_1"), Port("gpu-0003", "mlx5_2"))
    site.cut(Port("gpu-0005", "mlx5_3"))
    site.narrow.add(Port("gpu-0006", "mlx5_6"))
    site.cut(Port(leaf[4], "40"))
    site.swap(Port(leaf[2], "34"), Port(leaf[5], "50"))
    site.dark.add("gpu-0008")
    port = Port("gpu-0002", "mlx5_7")
    health = [
        Trouble(
            TroubleKind.FLAPPING, port, site.links[port], True, "down and back 7 times in 24 h", {"flaps": 7}, "UFM"
        ),
        Trouble(TroubleKind.HOT, Port(leaf[0], "35"), None, False, "the module is at 68 °C of 70", {"c": 68}),
    ]
    refused = Problem(ProblemKind.REFUSED, "leaf-r6-01 refused: an M_Key is set", hides=True)

    def happened(tx: Tx) -> None:
        rows = [
            {"id": new_id("link"), "fabric": site.name, "chassis": port.chassis, "port": port.name,
             "peer_chassis": site.links[port].chassis, "peer_port": site.links[port].name, "kind": str(EventKind.FLAP),
             "count": 2, "at": tx.now - 3600 * number}
            for number in range(3, 0, -1)
        ]  # fmt: skip
        store.insert_events(tx, rows)

    site.db.write(happened)
    site.look("sm01")
    seen = site.snapshot("sm01", [refused])
    seen.modules[Port(leaf[0], "35")] = Module(serial="MT2231VS04417", temperature_c=68.0)
    for number in range(1, 7):
        at = Port(f"gpu-{number:04d}", "mlx5_0")
        seen.bers[at] = Ber(effective=1e-12 * number)
        seen.modules[at] = Module(serial=f"MT2231VS0{number}", temperature_c=50.0 + number)
    return site.take_in(seen, health, 30.0)


def hostile(db: Database, served: Fabrics, name: str = "hostile") -> Net:
    """Two hosts and a leaf whose names are markup, addresses and quotes."""
    leaf, other = f"leaf{HOSTILE}", "a\"onmouseover='window.hacked=1' b/../c?d#e&amp;"
    boxes = [
        DesignedChassis(leaf, ChassisKind.SWITCH, HOSTILE, Place(HOSTILE, "r", "k", "U1")),
        DesignedChassis(HOSTILE, ChassisKind.HOST, "", Place(HOSTILE, "r", "k", "U3")),
        DesignedChassis(other, ChassisKind.HOST, "", Place("s", "r", "\"><img src=x onerror=window.hacked=2>", "U3")),
    ]  # fmt: skip
    cables = []
    for number, box in enumerate((HOSTILE, other), 1):
        a, b = sorted((Port(leaf, str(number)), Port(box, f"mlx5_{number}")))
        cables.append(DesignedCable(a, b, Role.HOST, HOSTILE, HOSTILE))
    blueprint = Blueprint(name, "ostler-csv", {box.name: box for box in boxes}, tuple(cables))
    db.write(lambda tx: blueprints.take_in(tx, name, blueprint, [], actor=MARA))
    return Net(db, served, name, blueprint)
