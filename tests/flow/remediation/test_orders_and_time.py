"""What a person ordered, and what waits with it: hours may pass, others work on, and nothing is lost or said twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from ostler.acceptance import driver
from ostler.adapters.cluster.fake import FakeCluster
from ostler.adapters.cluster.port import DrainMode, Workload
from ostler.brake import service as brake
from ostler.brake import store as brake_store
from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.schema import decision, event
from ostler.db.schema import job as jobs
from ostler.faults.model import Action
from ostler.health import findings
from ostler.health import store as health
from ostler.nodes import store
from ostler.nodes.model import Node, State, Timing
from ostler.remediation import by_hand
from ostler.remediation.world import Running
from tests.flow.fleet import LINK, MARA, SETTINGS, XID48, XID79, Fleet

UNKNOWN_XID = ("xid", "999", "0000:18:00", "gpu", "error", "reboot", "Xid 999")


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    return Fleet(db, clock, PauseFile(tmp_path / "pause"))


def reboot(fleet: Fleet, node: Node) -> None:
    fleet.db.write(
        lambda tx: by_hand.order(tx, node.id, Action.REBOOT, timing=Timing.IMMEDIATE, actor=MARA, reason="kernel")
    )


def verdicts(fleet: Fleet, node: Node) -> list[str]:
    query = sa.select(decision.c.verdict).where(decision.c.node_id == node.id).order_by(decision.c.at, decision.c.id)
    return [row["verdict"] for row in fleet.db.read(lambda tx: tx.all(query))]


@pytest.mark.parametrize("what", ["off", "cycle", by_hand.REPROVISION])
def test_an_order_that_waited_does_not_hit_a_node_that_is_back_at_work(fleet: Fleet, what: str) -> None:
    (node,) = fleet.add()
    fleet.db.write(lambda tx: store.update(tx, node.id, {"state": State.TRIAGE}))
    if what == by_hand.REPROVISION:
        fleet.db.write(lambda tx: by_hand.reprovision(tx, node.id, actor=MARA, reason="bench"))
    else:
        fleet.db.write(
            lambda tx: by_hand.order_power(tx, node.id, what, timing=Timing.IMMEDIATE, actor=MARA, reason="bench")
        )
    fleet.db.write(lambda tx: brake.pause(tx, "fleet", actor=MARA, reason="freeze"))
    fleet.run()
    fleet.db.write(lambda tx: store.update(tx, node.id, {"state": State.PRODUCTION}))
    fleet.db.write(lambda tx: brake.resume(tx, "fleet", actor=MARA, reason="over"))
    fleet.run(1800)
    assert (fleet.resets(node), fleet.state(node)) == ([], State.PRODUCTION)
    (job,) = fleet.db.read(lambda tx: tx.all(sa.select(jobs).where(jobs.c.subject == node.id)))
    assert (job["state"], "is in production" in job["why"]) == ("failed", True)


def test_an_order_that_comes_while_a_job_ends_is_carried_out(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID48)
    fleet.run(1)
    fleet.db.write(lambda tx: findings.clear(tx, health.active(tx, node.id), by="a person"))
    world = fleet.remediation._world
    look = world.running
    ordered: list[Node] = []

    def running(at: Node) -> Running:
        if not ordered:
            ordered.append(at)
            reboot(fleet, node)
        return look(at)

    monkeypatch.setattr(world, "running", running)
    fleet.run(40)
    assert ordered
    assert fleet.state(node) is State.REBOOT


def test_what_holds_an_order_is_said_once(fleet: Fleet) -> None:
    first, second = fleet.add(2)
    reboot(fleet, first)
    fleet.run()
    reboot(fleet, second)
    for _ in range(5):
        fleet.run(31)
    assert verdicts(fleet, second) == ["held"]
    query = sa.select(event).where(event.c.type == "brake.held", event.c.subject == second.id)
    assert len(fleet.db.read(lambda tx: tx.all(query))) == 1


def test_what_is_never_acted_on_is_recorded_once_however_often_it_is_said(fleet: Fleet) -> None:
    (unsure,) = fleet.add()
    struck = fleet.add(4, rack="r2")
    for node in struck:
        fleet.say(node, LINK)
    fleet.run(31)
    for _ in range(5):
        fleet.say(unsure, UNKNOWN_XID)
        fleet.say(struck[0], LINK)
        fleet.run(60)
    assert verdicts(fleet, unsure) == ["record"]
    assert verdicts(fleet, struck[0]) == ["record"]


def test_the_end_of_a_drain_by_hand_leaves_the_permit_to_the_repair_that_goes_on_under_it(
    db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    cluster = FakeCluster("k8s")
    fleet = Fleet(db, clock, PauseFile(tmp_path / "pause"), cluster=cluster)
    (node,) = fleet.add()
    there = cluster.nodes[node.name]
    there.workload = Workload(1, ("ml/trainer",))
    fleet.db.write(lambda tx: by_hand.order_drain(tx, node.id, DrainMode.EVICT, 600.0, actor=MARA, reason="cables"))
    there.blocked = ("ml/trainer: its disruption budget allows no eviction now",)
    fleet.run()
    fleet.run(6)
    drained_under = fleet.db.read(lambda tx: brake_store.live_of_node(tx, node.id))
    fleet.say(node, XID79)
    fleet.run(31)
    there.workload = None
    fleet.run(31)
    assert (fleet.state(node), fleet.resets(node)) == (State.REBOOT, ["reset force-restart"])
    live = fleet.db.read(lambda tx: brake_store.live_of_node(tx, node.id))
    assert live is not None and drained_under is not None
    assert live["id"] == drained_under["id"], "one permit for both, and the drain is over by now"
    drains = sa.select(jobs).where(jobs.c.key == f"drain:{node.id}", jobs.c.finished_at.is_(None))
    assert fleet.db.read(lambda tx: tx.all(drains)) == []


def test_an_order_that_nobody_can_carry_out_ends_and_may_be_given_again(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.db.write(lambda tx: store.update(tx, node.id, {"state": State.TRIAGE}))
    assert node.bmc_address is not None
    bmc = fleet.bmcs.by_address[node.bmc_address]
    bmc.unreachable = True

    def order() -> None:
        fleet.db.write(
            lambda tx: by_hand.order_power(tx, node.id, "off", timing=Timing.IMMEDIATE, actor=MARA, reason="bench")
        )

    order()
    for _ in range(8):
        fleet.run(900)
    bmc.unreachable = False
    fleet.run(900)
    assert fleet.resets(node) == [], "nobody expects it any more"
    order()
    fleet.run()
    assert fleet.resets(node) == ["reset off"]


def test_a_pause_that_outlasts_the_permit_sends_no_well_node_to_triage(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.pause_file.path.write_text("freeze\n")
    fleet.run(SETTINGS.settle_s + 1)
    assert fleet.state(node) is State.REBOOT
    for _ in range(60):
        fleet.run(200)
    assert (fleet.resets(node), fleet.state(node)) == ([], State.REBOOT)
    fleet.pause_file.path.unlink()
    fleet.run(900)
    assert fleet.resets(node) == ["reset force-restart"]


def test_a_permit_that_ran_out_while_the_server_was_away_counts_anew(fleet: Fleet) -> None:
    first, second = fleet.add(2)
    fleet.say(first, XID79)
    fleet.pause_file.path.write_text("freeze\n")
    fleet.run(SETTINGS.settle_s + 1)
    fleet.clock.advance(3 * 3600)  # and nobody kept the permit
    fleet.pause_file.path.unlink()
    given = fleet.db.write(
        lambda tx: brake.reserve(tx, store.get(tx, second.id), "reboot", actor=MARA, reason="it is free now")
    )
    fleet.run(60)
    assert fleet.resets(first) == [], "one node of the rack at a time"
    fleet.db.write(lambda tx: brake.release(tx, given))
    fleet.run(3700)
    assert fleet.resets(first) == ["reset force-restart"]


def test_a_pause_stops_the_clock_of_a_state(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s + 1)
    assert fleet.state(node) is State.REBOOT
    fleet.db.write(lambda tx: brake.pause(tx, "fleet", actor=MARA, reason="x"))
    fleet.clock.advance(4000)
    driver.sweep(fleet.db, {})
    assert fleet.state(node) is State.REBOOT
    fleet.db.write(lambda tx: brake.resume(tx, "fleet", actor=MARA, reason="x"))
    driver.sweep(fleet.db, {})
    assert fleet.state(node) is State.REBOOT
    fleet.clock.advance(4000)
    driver.sweep(fleet.db, {})
    assert fleet.state(node) is State.TRIAGE
