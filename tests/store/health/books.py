"""Nodes with agents that a test speaks for, for the tests of this folder: reports in, findings out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.schema import audit, event
from ostler.health import intake, store
from ostler.health.model import Diagnosis, HealthSettings
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.model import Capability, Node, Pool, State
from ostler.wire.agent import Gap, Heartbeat, Inventory, OrderResult, Report, Signal

MARA = Actor("person:mara")
SETTINGS = HealthSettings()

XID79 = ("xid", "79", "0000:18:00", "gpu", "fatal", "reboot")
XID48 = ("xid", "48", "0000:18:00", "gpu", "error", "reset-gpu")
LINK = ("ib-link-down", "", "mlx5_0", "nic", "error", "reboot")


@dataclass
class Books:
    """A database with nodes `gpu-1`, `gpu-2`, … in production."""

    db: Database
    clock: ManualClock
    made: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.grant(*Capability)

    def grant(self, *capabilities: Capability) -> None:
        pool = Pool("default", frozenset({Capability.OBSERVE, *capabilities}))
        self.db.write(lambda tx: nodes_service.define_pool(tx, pool, actor=MARA))

    def add(self, state: State = State.PRODUCTION) -> Node:
        name = f"gpu-{len(self.made) + 1}"
        self.made.append(
            self.db.write(
                lambda tx: nodes_service.register(
                    tx, name=name, pool="default", actor=MARA, cause="x", state=State.PRODUCTION
                )
            )
        )
        if state is not State.PRODUCTION:
            self.put(self.made[-1], state)
        return self.made[-1]

    def put(self, node: Node, state: State) -> None:
        """Into a state, without asking the lifecycle."""
        self.db.write(lambda tx: nodes.update(tx, node.id, {"state": state, "state_since": tx.now}))

    def report(
        self,
        *lines: tuple[str, ...],
        boot: str = "boot-1",
        first: int = 1,
        lost: tuple[Gap, ...] = (),
        ended: str = "",
        skew: float = 0.0,
        busy: bool | None = None,
        heart: bool = True,
        driver: str = "",
        inventory: Inventory | None = None,
        results: tuple[OrderResult, ...] = (),
    ) -> Report:
        """A report whose signals are numbered from `first` on."""
        now = self.clock.now()
        signals = tuple(
            Signal(first + n, now, "kernel", kind, code, device, component, severity, action, f"line {first + n}")
            for n, (kind, code, device, component, severity, action) in enumerate(lines)
        )
        return Report(
            boot,
            now + skew,
            min([first, *(gap.from_seq for gap in lost)]),
            signals,
            lost,
            ended,
            Heartbeat(60.0, busy, driver) if heart else None,
            inventory,
            results,
        )

    def take(self, node: Node, report: Report) -> tuple[int, list[Diagnosis]]:
        return self.db.write(lambda tx: intake.receive(tx, node.id, report, SETTINGS))

    def node(self, node: Node) -> Node:
        return self.db.read(lambda tx: nodes.get(tx, node.id))

    def active(self, node: Node) -> dict[str, Any]:
        """Fault → its active finding."""
        return {row["fault"]: row for row in self.db.read(lambda tx: store.active(tx, node.id))}

    def conditions(self, node: Node) -> set[str]:
        return {row["type"] for row in self.db.read(lambda tx: nodes.conditions(tx, [node.id]))}

    def events(self, subject: str) -> list[str]:
        query = sa.select(event.c.type).where(event.c.subject == subject).order_by(event.c.seq)
        return [row["type"] for row in self.db.read(lambda tx: tx.all(query))]

    def entries(self) -> int:
        """How many audit entries and events there are: what a healthy fleet adds none to."""
        count = sa.select(sa.func.count())
        return sum(self.db.read(lambda tx: [int(tx.scalar(count.select_from(one))) for one in (audit, event)]))
