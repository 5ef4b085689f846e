"""Cabling in Seatrial on both databases: a swapped plug ends in triage with the ticket that mends it, and then passes.

The node's agent is scripted; what it says of its cables comes from the simulated fabric, in which hands move plugs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ostler.acceptance.cabling import designed_in
from ostler.acceptance.tasks import procedures
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.schema import agent_order, condition, outcome, transition
from ostler.db.tx import Tx
from ostler.fabric import blueprints, store
from ostler.fabric.blueprints import Shelf
from ostler.fabric.designs import own_csv
from ostler.fabric.model import Blueprint
from ostler.health import orders
from ostler.nodes import service as nodes
from ostler.nodes import store as node_store
from ostler.nodes.model import Slot, State
from ostler.tickets import service as tickets
from ostler.twin.fabric import HCAS, Plug, TwinFabric, fabric_of
from ostler.twin.spec import fleet
from ostler.wire.agent import OrderResult, Verdict
from tests.flow.acceptance.world import HOST, PERSON, SETTINGS, World

ME = "gpu-0001"


class Books:
    """The fabrics that have a blueprint."""

    def __init__(self) -> None:
        self.shelf = Shelf()

    def names(self, tx: Tx) -> list[str]:
        return [row["fabric"] for row in store.active_blueprints(tx)]


@dataclass
class Cabled(World):
    """The world of Day 1 with a fabric in it. `said` stands for the agent's answer about its ports."""

    fabric: TwinFabric = field(default_factory=lambda: fabric_of(fleet(9, 3), 3))
    said: Callable[[], tuple[Verdict, str, dict[str, Any]]] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.procedures = procedures(self.db, self.settings, self.open_bmc, designed_in(Books()))
        self.runner = self.new_runner("cabled")

    def design(self, blueprint: Blueprint | None = None) -> None:
        """Somebody imports a blueprint: the one by which the fabric was cabled."""
        read, lints = own_csv.read(self.fabric.blueprint_csv().encode(), "twin.csv")
        self.db.write(lambda tx: blueprints.take_in(tx, "ib", blueprint or read, lints, actor=PERSON))

    def _agent(self) -> int:
        if self.deaf:
            return 0
        told = self.db.read(lambda tx: orders.of_node(tx, self.node_id))
        mine = [order for order in told if order.arguments["check"] == "ib-neighbours"]
        results = [OrderResult(order.id, *self._look()) for order in mine]
        if results:
            self.db.write(lambda tx: orders.settle(tx, self.node_id, results))
        return len(results) + super()._agent()

    def _look(self) -> tuple[Verdict, str, dict[str, Any]]:
        return (Verdict.PASSED, "", self.fabric.neighbours(ME)) if self.said is None else self.said()

    @property
    def asked(self) -> int:
        return sum(row["arguments"]["check"] == "ib-neighbours" for row in self.rows(agent_order))

    def seatrial(self) -> dict[str, Any]:
        """The last outcome of a Seatrial."""
        mine = [row for row in self.rows(outcome) if row["name"] == "seatrial"]
        return max(mine, key=lambda row: float(row["finished_at"]))

    def technician(self, what: Callable[[TwinFabric], None]) -> None:
        """Somebody takes the only open ticket, does `what`, says so, and the node is brought back."""
        (ticket,) = [row for row in self.tickets if row["state"] == "open"]
        self.db.write(lambda tx: tickets.claim(tx, ticket["id"], actor=PERSON))
        self.clock.advance(600)
        what(self.fabric)
        self.db.write(lambda tx: tickets.done(tx, ticket["id"], actor=PERSON, evidence="plugs moved"))
        self.put_in(State.ONBOARD)
        self.clock.advance(60)
        self.db.write(lambda tx: nodes.certify(tx, self.node_id, actor=PERSON))


@pytest.fixture
def world(db: Database, clock: ManualClock) -> Cabled:
    world = Cabled(db, clock)
    world.design()
    return world


def swap(fabric: TwinFabric) -> None:
    fabric.swap(Plug(ME, "mlx5_0"), Plug(ME, "mlx5_1"))


def test_a_node_that_is_cabled_right_passes_as_before_and_is_asked_once(world: Cabled) -> None:
    world.put_in(State.SEATRIAL)
    world.run(0.7, until=State.ZAP)
    assert world.state() is State.ZAP
    assert world.asked == 1
    assert ("ib-neighbours", "passed") in world.outcomes
    assert world.seatrial()["message"].endswith("and every cable is where the design has it")
    assert world.seatrial()["measured"]["cabling"]["verdict"] == "passed"
    assert world.tickets == []


def test_swapped_plugs_are_found_ticketed_mended_and_pass(world: Cabled) -> None:
    swap(world.fabric)
    world.put_in(State.SEATRIAL)
    begun = world.clock.now()
    world.run(0.5, until=State.TRIAGE)
    assert world.state() is State.TRIAGE
    assert world.clock.now() - begun < SETTINGS.seatrial_window_s / 2, "nobody waits for the window to end"
    assert world.asked == 2, "what is wrong is asked for twice"
    failed = world.seatrial()
    assert failed["verdict"] == "failed"
    assert "mlx5_0 is plugged into leaf01-r1 1 (1/1); it belongs to leaf01-r0 1 (1/1)" in failed["message"]
    (ticket,) = world.tickets
    assert ticket["instruction"] == "Exchange the plugs in gpu-0001 mlx5_0 and gpu-0001 mlx5_1."
    assert (ticket["node_id"], ticket["fabric"], ticket["proof"]) == (world.node_id, "ib", "fabric")
    assert ticket["place"] == "twin/a/r01/u01"
    assert [(step["at"]["port"], step["to"]["port"]) for step in ticket["steps"]] == [
        ("mlx5_0", "mlx5_1"),
        ("mlx5_1", "mlx5_0"),
    ]
    world.technician(swap)
    world.run(1, until=State.ZAP)
    assert world.state() is State.ZAP
    (ticket,) = world.tickets
    assert ticket["state"] == "done"
    assert ticket["closing"]["evidence"] == "Seatrial of gpu-0001 sees its cables in their place"
    ways = [row["to_state"] for row in sorted(world.rows(transition), key=lambda row: (row["at"], row["id"]))]
    assert ways[-5:] == ["seatrial", "triage", "onboard", "seatrial", "zap"]


def test_a_ticket_that_was_closed_without_the_work_goes_back_to_its_technician(world: Cabled) -> None:
    swap(world.fabric)
    world.put_in(State.SEATRIAL)
    world.run(0.5, until=State.TRIAGE)
    world.technician(lambda fabric: None)
    world.run(0.5, until=State.TRIAGE)
    assert world.state() is State.TRIAGE
    (ticket,) = world.tickets
    assert ticket["state"] == "claimed", "one ticket, and it is not believed"
    assert "Still there" in ticket["notes"][-1]["text"]


def test_a_plug_that_was_out_for_a_moment_does_no_harm(world: Cabled) -> None:
    world.fabric.cut(Plug(ME, "mlx5_3"))
    world.put_in(State.SEATRIAL)
    world.run(SETTINGS.observe_s / 2 / 3600)
    world.fabric.connect(Plug(ME, "mlx5_3"), Plug("leaf01-r3", "1"))
    world.run(0.7, until=State.ZAP)
    assert world.state() is State.ZAP
    assert world.tickets == []


def test_lost_lanes_fail_with_their_own_ticket(world: Cabled) -> None:
    world.fabric.narrow(Plug(ME, "mlx5_5"), 2)
    world.put_in(State.SEATRIAL)
    world.run(0.5, until=State.TRIAGE)
    (ticket,) = world.tickets
    assert "mlx5_5" in ticket["cause"]
    assert "runs at 2x NDR, not at 4x NDR" in ticket["cause"]


def test_a_difference_of_the_parts_has_a_ticket_beside_that_of_the_plugs(world: Cabled) -> None:
    swap(world.fabric)
    lost = {**HOST, "gpus": HOST["gpus"][:1]}
    world.db.write(lambda tx: node_store.update(tx, world.node_id, {"inventory": lost}))
    world.put_in(State.SEATRIAL)
    world.run(0.5, until=State.TRIAGE)
    assert len(world.tickets) == 2
    parts = next(ticket for ticket in world.tickets if ticket["cause"] == "seatrial-failed")
    assert "gpu (host): expected 2, found 1" in parts["instruction"]
    assert "cabling: mlx5_0 is plugged into" in parts["instruction"]
    assert parts["instruction"].endswith("Plugs: Exchange the plugs in gpu-0001 mlx5_0 and gpu-0001 mlx5_1.")


def missing() -> tuple[Verdict, str, dict[str, Any]]:
    ports = [
        {"hca": hca, "port": 1, "state": "active", "neighbour": None, "why": "smpquery is not installed"}
        for hca in HCAS
    ]
    return Verdict.INCONCLUSIVE, "smpquery is not installed (package infiniband-diags)", {"ports": ports}


def older() -> tuple[Verdict, str, dict[str, Any]]:
    return Verdict.FAILED, "no check is called 'ib-neighbours'", {}


def thin() -> tuple[Verdict, str, dict[str, Any]]:
    return Verdict.PASSED, "", {}


def refused() -> tuple[Verdict, str, dict[str, Any]]:
    return Verdict.REFUSED, "this agent was not started with --allow run-check", {}


@pytest.mark.parametrize(
    ("said", "why", "asked"),
    [
        (missing, "smpquery is not installed (package infiniband-diags)", 3),
        (older, "no check is called 'ib-neighbours'", 3),
        (thin, "it measured nothing", 3),
        (refused, "this agent was not started with --allow run-check", 1),
    ],
)
def test_what_could_not_be_looked_at_is_never_passed(
    world: Cabled, said: Callable[[], tuple[Verdict, str, dict[str, Any]]], why: str, asked: int
) -> None:
    world.said = said
    world.put_in(State.SEATRIAL)
    world.run(1.5, until=State.TRIAGE)
    assert world.state() is State.TRIAGE
    assert (world.seatrial()["verdict"], world.asked) == ("inconclusive", asked)
    (ticket,) = world.tickets
    assert ticket["cause"] == "seatrial-inconclusive"
    assert f"look at the node's InfiniBand ports, then return it. cabling: {why}" in ticket["instruction"].replace(
        "ib-neighbours: ", ""
    )


def test_an_agent_that_does_not_answer_is_inconclusive_after_all_tries(world: Cabled) -> None:
    world.deaf = True
    world.put_in(State.SEATRIAL)
    world.run(3, until=State.TRIAGE)
    assert world.state() is State.TRIAGE
    assert world.seatrial()["verdict"] == "inconclusive"
    assert "no answer before the deadline" in world.seatrial()["message"]
    assert world.asked == SETTINGS.cabling_tries


def test_without_a_blueprint_nothing_changes_and_that_is_said(db: Database, clock: ManualClock) -> None:
    world = Cabled(db, clock)
    swap(world.fabric)
    world.put_in(State.SEATRIAL)
    world.run(0.7, until=State.ZAP)
    assert world.state() is State.ZAP
    assert world.asked == 0
    assert "no blueprint covers the node: its cabling was not compared" in world.seatrial()["measured"]["blind"]


def test_a_blueprint_that_comes_while_the_node_is_observed_counts(db: Database, clock: ManualClock) -> None:
    world = Cabled(db, clock)
    swap(world.fabric)
    world.put_in(State.SEATRIAL)
    world.run(0.2)
    world.design()
    world.run(0.2, until=State.TRIAGE)
    assert world.state() is State.TRIAGE
    assert len(world.tickets) == 1


@pytest.mark.parametrize(
    ("cabling", "designed", "state"), [("off", True, State.ZAP), ("required", False, State.TRIAGE)]
)
def test_the_setting(db: Database, clock: ManualClock, cabling: str, designed: bool, state: State) -> None:
    world = Cabled(db, clock, settings=replace(SETTINGS, cabling=cabling))
    if designed:
        world.design()
    swap(world.fabric)
    world.put_in(State.SEATRIAL)
    world.run(1, until=state)
    assert world.state() is state
    assert world.asked == 0


def test_the_slot_decides_which_cables_a_node_must_have(world: Cabled) -> None:
    """A node that stands in another's slot is held to that slot's cables: cabling belongs to the slot."""

    def move(tx: Tx) -> None:
        node_store.put_slot(tx, Slot("twin/a/r01/u06", "twin", "a", "r01", "u06"))
        node_store.update(tx, world.node_id, {"slot": "twin/a/r01/u06"})

    world.db.write(move)
    world.put_in(State.SEATRIAL)
    world.run(0.5, until=State.TRIAGE)
    assert world.state() is State.TRIAGE
    world.fabric.node_off(ME)
    world.said = lambda: (Verdict.PASSED, "", world.fabric.neighbours("gpu-0002"))
    world.put_in(State.ONBOARD)
    world.db.write(lambda tx: nodes.certify(tx, world.node_id, actor=PERSON))
    world.run(1, until=State.ZAP)
    assert world.state() is State.ZAP
    assert {row["type"] for row in world.rows(condition) if row["until"] is None} <= {"Certified", "Overdue"}
