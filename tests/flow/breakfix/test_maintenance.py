"""Maintenance from its notice to the nodes' return, on the real books."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ostler.brake.pause_file import PauseFile
from ostler.breakfix import maintenance, store
from ostler.breakfix.model import BreakfixSettings, Kind, Phase, Window
from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput, Conflict, NotFound, Refused
from ostler.db.engine import Database
from ostler.db.schema import event
from ostler.db.tx import Tx
from ostler.jobs import store as jobs
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, State
from tests.flow.fleet import MARA, Fleet

SETTINGS = BreakfixSettings(drain_s=600.0)
JO = Actor("person:jo")


@dataclass
class Drains:
    """Who was asked to leave, and within how many seconds."""

    asked: list[tuple[str, float]] = field(default_factory=list)

    def __call__(self, tx: Tx, node_id: str, actor: Actor, reason: str, seconds: float) -> None:
        self.asked.append((node_id, seconds))


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    return Fleet(db, clock, PauseFile(tmp_path / "pause"))


@pytest.fixture
def drains() -> Drains:
    return Drains()


def plan(
    fleet: Fleet, scope: str, kind: Kind = Kind.PLANNED, *, start: float = 3600.0, end: float | None = 7200.0
) -> Window:
    now = fleet.clock.now()
    ends = None if end is None else now + end
    return fleet.db.write(
        lambda tx: maintenance.plan(tx, scope, kind, summary="new PSU", actor=MARA, starts_at=now + start, ends_at=ends)
    )


def sweep(fleet: Fleet, drains: Drains, seconds: float = 0.0) -> None:
    fleet.clock.advance(seconds)
    maintenance.sweep(fleet.db, SETTINGS, drains)


def window(fleet: Fleet, one: Window) -> Window:
    return fleet.db.read(lambda tx: store.window(tx, one.id))


def holders(fleet: Fleet, node: Node) -> set[str]:
    return {row["holder"] for row in fleet.db.read(lambda tx: nodes.holds(tx, [node.id]))}


def told(fleet: Fleet) -> list[tuple[str, dict[str, Any]]]:
    query = sa.select(event).where(event.c.type.like("maintenance.%")).order_by(event.c.id)
    return [(row["type"], row["data"]) for row in fleet.db.read(lambda tx: tx.all(query))]


def test_from_notice_to_return(fleet: Fleet, drains: Drains) -> None:
    first, second = fleet.add(2, rack="r1")
    (other,) = fleet.add(1, rack="r2")
    fleet.busy(first, True)
    one = plan(fleet, "rack:r1")
    sweep(fleet, drains, 3599)
    assert window(fleet, one).phase is Phase.ANNOUNCED
    assert holders(fleet, first) == set()
    sweep(fleet, drains, 2)
    assert drains.asked == [(first.id, 600.0), (second.id, 600.0)]
    assert holders(fleet, first) == {"maintenance"}
    assert window(fleet, one).nodes == {first.id: "draining", second.id: "out"}
    assert (fleet.state(first), fleet.state(second)) == (State.PRODUCTION, State.TRIAGE)
    assert fleet.node(second).maintenance_by == MARA.name
    sweep(fleet, drains, 60)
    assert fleet.state(first) is State.PRODUCTION
    fleet.busy(first, False)
    sweep(fleet, drains, 60)
    assert window(fleet, one).phase is Phase.RUNNING
    assert fleet.state(first) is State.TRIAGE
    assert len(drains.asked) == 2
    fleet.db.write(lambda tx: maintenance.finish(tx, one.id, actor=JO, evidence="PSU swapped"))
    assert window(fleet, one).phase is Phase.DONE
    assert {fleet.state(node) for node in (first, second)} == {State.TEST}
    assert fleet.node(first).maintenance_by is None
    assert holders(fleet, first) == {"lifecycle"}
    assert fleet.state(other) is State.PRODUCTION
    assert [(type_, data.get("state")) for type_, data in told(fleet)] == [
        ("maintenance.announced", None),
        ("maintenance.changed", "draining"),
        ("maintenance.changed", "running"),
        ("maintenance.changed", "done"),
    ]


def test_work_that_does_not_leave_is_ended_at_the_deadline(fleet: Fleet, drains: Drains) -> None:
    (node,) = fleet.add()
    fleet.busy(node, True)
    one = plan(fleet, f"node:{node.name}", start=0)
    sweep(fleet, drains)
    sweep(fleet, drains, 599)
    assert fleet.state(node) is State.PRODUCTION
    sweep(fleet, drains, 2)
    assert fleet.state(node) is State.TRIAGE
    assert window(fleet, one).phase is Phase.RUNNING


def test_an_immediate_one_waits_for_nobody(fleet: Fleet, drains: Drains) -> None:
    (node,) = fleet.add()
    fleet.busy(node, True)
    one = plan(fleet, f"node:{node.name}", Kind.IMMEDIATE, end=None)
    sweep(fleet, drains)
    assert drains.asked == [(node.id, 0.0)]
    assert fleet.state(node) is State.TRIAGE
    assert window(fleet, one).phase is Phase.RUNNING


def test_retirement_ends_the_node(fleet: Fleet, drains: Drains) -> None:
    (node,) = fleet.add()
    plan(fleet, f"node:{node.name}", Kind.RETIREMENT, start=0, end=None)
    sweep(fleet, drains)
    assert fleet.state(node) is State.RETIRED
    assert fleet.node(node).maintenance_by is None


def test_called_off_before_anything_is_out(fleet: Fleet, drains: Drains) -> None:
    (node,) = fleet.add()
    fleet.busy(node, True)
    one = plan(fleet, f"node:{node.name}", start=0)
    sweep(fleet, drains)
    fleet.db.write(lambda tx: maintenance.cancel(tx, one.id, actor=JO, reason="not today"))
    assert holders(fleet, node) == set()
    assert fleet.state(node) is State.PRODUCTION
    fleet.busy(node, False)
    sweep(fleet, drains, 3600)
    assert fleet.state(node) is State.PRODUCTION
    with pytest.raises(Conflict, match="cancelled already"):
        fleet.db.write(lambda tx: maintenance.cancel(tx, one.id, actor=JO, reason="again"))


def test_what_is_out_comes_back_by_finishing(fleet: Fleet, drains: Drains) -> None:
    (node,) = fleet.add()
    one = plan(fleet, f"node:{node.name}", start=0)
    sweep(fleet, drains)
    with pytest.raises(Conflict, match="finish it instead"):
        fleet.db.write(lambda tx: maintenance.cancel(tx, one.id, actor=JO, reason="oh"))
    with pytest.raises(BadInput, match="only by evidence"):
        fleet.db.write(lambda tx: maintenance.finish(tx, one.id, actor=JO, evidence=" "))


def test_nobody_takes_a_node_out_of_somebody_elses_hands(fleet: Fleet, drains: Drains) -> None:
    held, flashing = fleet.add(2)
    fleet.db.write(lambda tx: nodes.update(tx, held.id, {"maintenance_by": "person:kim"}))
    fleet.db.write(lambda tx: nodes.update(tx, flashing.id, {"state": State.ZAP}))
    one = plan(fleet, "rack:r1", start=0)
    sweep(fleet, drains, 3600)
    assert window(fleet, one).nodes == {
        held.id: "waiting: person:kim has hands on it",
        flashing.id: "waiting: its firmware is being written",
    }
    assert fleet.node(held).maintenance_by == "person:kim"


def test_a_node_has_one_maintenance_at_a_time(fleet: Fleet) -> None:
    (node,) = fleet.add()
    plan(fleet, "rack:r1", start=3600, end=7200)
    with pytest.raises(Conflict, match="is part of"):
        plan(fleet, f"node:{node.name}", start=5000, end=9000)
    plan(fleet, f"node:{node.name}", start=7300, end=9000)


@pytest.mark.parametrize(
    ("scope", "error", "says"),
    [
        ("fleet", BadInput, "is no KIND:NAME"),
        ("rack:nowhere", NotFound, "No node belongs to rack 'nowhere'"),
        ("node:nobody", NotFound, "nobody"),
    ],
)
def test_a_scope_that_is_none(fleet: Fleet, scope: str, error: type[Exception], says: str) -> None:
    fleet.add()
    with pytest.raises(error, match=says):
        plan(fleet, scope)


def test_times_that_make_no_sense(fleet: Fleet) -> None:
    (node,) = fleet.add()
    with pytest.raises(BadInput, match="before it begins"):
        plan(fleet, f"node:{node.name}", start=3600, end=10)
    with pytest.raises(BadInput, match="in the past"):
        plan(fleet, f"node:{node.name}", start=-3600)
    fleet.db.write(lambda tx: nodes.update(tx, node.id, {"state": State.RETIRED}))
    with pytest.raises(Refused, match="retired"):
        plan(fleet, f"node:{node.name}")


def test_a_repair_that_may_wait_waits_for_a_window_that_is_near(fleet: Fleet) -> None:
    (node,) = fleet.add()
    settings = BreakfixSettings(wait_s=7200.0)

    def soon() -> float | None:
        return fleet.db.read(lambda tx: maintenance.soon(tx, node.id, settings))

    assert soon() is None
    one = plan(fleet, f"node:{node.name}", start=7201, end=9000)
    assert soon() is None
    fleet.clock.advance(2)
    assert soon() == one.starts_at
    fleet.db.write(lambda tx: maintenance.cancel(tx, one.id, actor=JO, reason="no"))
    assert soon() is None


def test_the_real_drain_is_ordered_once_and_its_cordon_ends_with_the_window(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.busy(node, True)
    one = plan(fleet, f"node:{node.name}", start=0)
    for _ in range(3):
        maintenance.sweep(fleet.db, SETTINGS, maintenance.ordered_drain)
        fleet.run(10)
    assert holders(fleet, node) == {"maintenance", "person"}
    jobs_of = fleet.db.read(lambda tx: [row["key"] for row in jobs.live(tx, node.id)])
    assert jobs_of.count(f"drain:{node.id}") == 1
    fleet.busy(node, False)
    fleet.run(60)
    maintenance.sweep(fleet.db, SETTINGS, maintenance.ordered_drain)
    assert fleet.state(node) is State.TRIAGE
    fleet.db.write(lambda tx: maintenance.finish(tx, one.id, actor=JO, evidence="done"))
    assert holders(fleet, node) == {"lifecycle"}


def test_a_node_that_was_out_before_is_left_as_it_was(fleet: Fleet, drains: Drains) -> None:
    """A rack's new PSU says nothing about the GPU that a technician has still to replace."""
    serving, broken = fleet.add(2)
    fleet.db.write(lambda tx: nodes.update(tx, broken.id, {"state": State.TRIAGE}))
    one = plan(fleet, "rack:r1", Kind.IMMEDIATE)
    sweep(fleet, drains)
    assert window(fleet, one).nodes == {serving.id: "out", broken.id: "out before"}
    assert window(fleet, one).phase is Phase.RUNNING
    assert fleet.node(broken).maintenance_by == MARA.name
    fleet.db.write(lambda tx: maintenance.finish(tx, one.id, actor=JO, evidence="PSU swapped"))
    assert (fleet.state(serving), fleet.state(broken)) == (State.TEST, State.TRIAGE)
    assert fleet.node(broken).maintenance_by is None
