"""A small fleet for the flows of Day 1: a pool that grants everything, one SKU, nodes with fake BMCs and obedient agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from ostler.acceptance import driver, service
from ostler.acceptance import store as acceptance_store
from ostler.acceptance.model import AcceptanceSettings
from ostler.acceptance.tasks import procedures
from ostler.adapters.bmc.fake import FakeBmc, FakeConversation
from ostler.adapters.bmc.port import (
    Bmc,
    BmcInventory,
    Credentials,
    Gpu,
    Health,
    Identity,
    Psu,
)
from ostler.brake.guard import check
from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.core.ids import PermitId
from ostler.db.engine import Database
from ostler.db.schema import agent_order, audit, job, outcome, permit, ticket
from ostler.health import orders
from ostler.jobs.runner import Runner
from ostler.nodes import service as nodes
from ostler.nodes import store as node_store
from ostler.nodes.model import Capability, Node, Pool, State
from ostler.wire.agent import OrderResult, Verdict

PERSON = Actor("person:mara")
SETTINGS = AcceptanceSettings(
    sweep_s=900.0,
    test_checks=("cpu-arith", "memory-pattern mib=64", "disk-write"),
    test_rounds=2,
    flash_unknown_s=1800.0,
    flash_limit_s=3600.0,
)
SKU: Mapping[str, Any] = {
    "gpus": 2,
    "gpu_model": "H100",
    "cpus": 64,
    "memory_gib": 512,
    "nics": 1,
    "psus": 2,
    "order": ["BMC", "BIOS"],
    "firmware": {
        "BMC": {"version": "2.0", "image": "http://files/BMC-2.0.bin"},
        "BIOS": {"version": "7.1", "image": "http://files/BIOS-7.1.bin", "activation": "power-cycle"},
    },
}
HOST: Mapping[str, Any] = {
    "system": {"serial": "SN1"},
    "cpus": 64,
    "memory_gib": 503.5,
    "gpus": [
        {"pci": "0000:18:00.0", "model": "NVIDIA H100 80GB HBM3", "serial": "G1"},
        {"pci": "0000:2a:00.0", "model": "NVIDIA H100 80GB HBM3", "serial": "G2"},
    ],
    "nics": [{"name": "eth0", "mac": "02:00:00:00:00:01"}],
    "disks": [{"name": "nvme0n1"}],
}


def bmc_inventory(serial: str = "SN1", gpus: int = 2) -> BmcInventory:
    return BmcInventory(
        Identity(serial, "", "Fleet", "HGX"),
        512.0,
        (),
        tuple(Gpu(f"GPU_{n}", "H100", f"G{n}", "") for n in range(1, gpus + 1)),
        (),
        tuple(Psu(f"PSU{n}", "", "", 3000.0, Health.OK) for n in (1, 2)),
        (),
    )


class Checking(FakeConversation):
    """The fake behind what the brake's guard checks: a disruptive call without a live permit is refused."""

    def __init__(self, world: World, node: Node, bmc: FakeBmc) -> None:
        super().__init__(node.bmc_address or "", Credentials("admin", "admin"), bmc)
        self._world = world
        self._node = node

    def reset(self, kind: Any, *, permit: PermitId) -> None:
        self._check(permit)
        self._world.before("reset")
        super().reset(kind, permit=permit)
        self._world.after("reset")

    def update_firmware(self, component: str, image_url: str, *, permit: PermitId) -> str:
        self._check(permit)
        self._world.before("update")
        task = super().update_firmware(component, image_url, permit=permit)
        self._world.after("update")
        return task

    def _check(self, permit: PermitId) -> None:
        self._world.db.read(lambda tx: check(tx, self._node.id, permit))


@dataclass
class World:
    """One node, its BMC, its agent, and the loops that move it."""

    db: Database
    clock: ManualClock
    settings: AcceptanceSettings = SETTINGS
    capabilities: frozenset[Capability] = frozenset(Capability)
    sku: Mapping[str, Any] | None = field(default_factory=lambda: SKU)
    bmc: FakeBmc = field(init=False)
    node_id: str = field(init=False)
    answers: dict[str, list[Verdict]] = field(default_factory=dict)
    """Check → verdicts to give before it passes."""
    deaf: bool = False
    """The agent does not answer."""
    before: Callable[[str], None] = lambda what: None
    after: Callable[[str], None] = lambda what: None

    def __post_init__(self) -> None:
        self.bmc = FakeBmc(
            Identity("SN1", "", "Fleet", "HGX"),
            bmc_inventory(),
            clock=self.clock,
            firmware={"BMC": "1.0", "BIOS": "7.0"},
            flash_seconds=900.0,
        )
        self.procedures = procedures(self.db, self.settings, self.open_bmc)
        self.runner = self.new_runner("one")
        self.node_id = self.db.write(self._enter).id

    def new_runner(self, owner: str) -> Runner:
        schedule = driver.schedule(self.db, self.settings, self.procedures)
        return Runner(self.db, self.procedures.values(), owner=owner, schedules=[schedule])

    def open_bmc(self, node: Node) -> Bmc:
        return Checking(self, node, self.bmc)

    def _enter(self, tx: Any) -> Node:
        nodes.define_pool(tx, Pool("gpu", self.capabilities), actor=PERSON)
        if self.sku is not None:
            service.put_sku(tx, "hgx", self.sku, actor=PERSON)
        made = nodes.register(
            tx,
            name="gpu-0001",
            pool="gpu",
            actor=PERSON,
            cause="test",
            serial="SN1",
            sku=None if self.sku is None else "hgx",
            macs=("02:00:00:00:00:01",),
            bmc_address="https://bmc1",
        )
        node_store.update(tx, made.id, {"inventory": dict(HOST)})
        facts = replace(nodes.facts(tx, made, PERSON), joined=True)
        return nodes.transition(tx, made.id, State.ONBOARD, actor=PERSON, cause="joined", facts=facts)

    def put_in(self, *states: State) -> None:
        """Walk the node to a state without its work, with the facts that its guards ask for."""
        for state in states:

            def move(tx: Any, state: State = state) -> None:
                present = node_store.get(tx, self.node_id)
                facts = replace(
                    nodes.facts(tx, present, PERSON),
                    certified=True,
                    passed=frozenset({"seatrial", "test"}),
                    firmware_current=True,
                    permit=True,
                )
                nodes.transition(tx, present.id, state, actor=PERSON, cause="test", facts=facts)

            self.db.write(move)

    # What is there now ------------------------------------------------------------------------------------------------

    @property
    def node(self) -> Node:
        return self.db.read(lambda tx: node_store.get(tx, self.node_id))

    def state(self) -> State:
        return self.node.state

    def live(self) -> Mapping[str, Any] | None:
        row = self.db.read(lambda tx: acceptance_store.live_job(tx, service.job_key(self.node_id)))
        return None if row is None else dict(row)

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        return [dict(row) for row in self.db.read(lambda tx: tx.all(sa.select(table)))]

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        rows = sorted(self.rows(outcome), key=lambda row: (row["finished_at"], row["id"]))
        return [(row["name"], row["verdict"]) for row in rows]

    @property
    def tickets(self) -> list[dict[str, Any]]:
        return self.rows(ticket)

    @property
    def live_permits(self) -> int:
        return sum(row["released_at"] is None for row in self.rows(permit))

    def audited(self, action: str) -> list[dict[str, Any]]:
        return [row for row in self.rows(audit) if row["action"] == action]

    # Time ---------------------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Everything that is due now is done, and the agent answers its orders."""
        for _ in range(20):
            ran = self.runner.run_due()
            if self._agent() + ran == 0:
                return

    def run(self, hours: float, *, until: State | None = None) -> None:
        """Let time pass, from one thing that is due to the next."""
        end = self.clock.now() + hours * 3600
        while self.clock.now() < end:
            self.turn()
            if until is not None and self.state() is until:
                return
            due = self.db.read(lambda tx: tx.scalar(sa.select(sa.func.min(job.c.due_at)).where(job.c.state == "ready")))
            self.clock.advance(min(max(due - self.clock.now(), 1.0), end - self.clock.now()))
        self.turn()

    def _agent(self) -> int:
        if self.deaf:
            return 0
        told = self.db.read(lambda tx: orders.of_node(tx, self.node_id))
        results = []
        for order in told:
            waiting = self.answers.get(str(order.arguments["check"]), [])
            verdict = waiting.pop(0) if waiting else Verdict.PASSED
            results.append(OrderResult(order.id, verdict, f"said {verdict}", {"repeats": 3}))
        if results:
            self.db.write(lambda tx: orders.settle(tx, self.node_id, results))
        return len(results)

    @property
    def orders(self) -> list[Mapping[str, Any]]:
        return [row["arguments"] for row in sorted(self.rows(agent_order), key=lambda row: row["id"])]
