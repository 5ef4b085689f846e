"""What a person may order, and what is refused before anything moves."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from ostler.adapters.bmc.port import Credentials, ResetKind
from ostler.adapters.cluster.fake import FakeCluster, FakeNode
from ostler.adapters.cluster.port import DrainMode, Workload
from ostler.brake import service as brake
from ostler.brake import store as brake_store
from ostler.brake.model import Held
from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput, NotFound, Refused
from ostler.core.ids import PermitId
from ostler.db.engine import Database
from ostler.db.schema import audit, permit
from ostler.db.schema import job as schema_job
from ostler.faults.model import Action
from ostler.jobs import store as jobs
from ostler.nodes import service, store
from ostler.nodes.model import Node, State, Timing
from ostler.remediation import by_hand
from tests.flow.fleet import MARA, Fleet


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    return Fleet(db, clock, PauseFile(tmp_path / "pause"))


def reboot(fleet: Fleet, node: Node) -> None:
    fleet.db.write(
        lambda tx: by_hand.order(tx, node.id, Action.REBOOT, timing=Timing.IMMEDIATE, actor=MARA, reason="kernel")
    )


def test_what_nothing_can_power_is_not_taken_out_of_production(fleet: Fleet) -> None:
    (node,) = fleet.add(bmc=False)
    with pytest.raises(Refused, match="has no BMC address"):
        reboot(fleet, node)
    fleet.run(600)
    assert fleet.state(node) is State.PRODUCTION


def test_an_order_during_a_pause_is_refused_and_does_not_come_back(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.db.write(lambda tx: brake.pause(tx, "fleet", actor=MARA, reason="freeze"))
    with pytest.raises(Refused, match="fleet is paused by person:mara"):
        reboot(fleet, node)
    fleet.db.write(lambda tx: brake.resume(tx, "fleet", actor=MARA, reason="over"))
    fleet.run(600)
    assert (fleet.state(node), fleet.resets(node)) == (State.PRODUCTION, [])


def test_the_pause_file_is_lifted_by_removing_it(fleet: Fleet) -> None:
    fleet.pause_file.path.write_text("drill\n")
    fleet.pause_file.mirror(fleet.db)
    with pytest.raises(Refused, match="remove the file"):
        fleet.db.write(lambda tx: brake.resume(tx, "fleet", actor=MARA, reason="back"))
    fleet.pause_file.path.unlink()
    fleet.pause_file.mirror(fleet.db)
    (node,) = fleet.add()
    assert fleet.db.read(lambda tx: brake.stopped(tx, node)) is None


def power(fleet: Fleet, node: Node, what: str) -> None:
    fleet.db.write(
        lambda tx: by_hand.order_power(tx, node.id, what, timing=Timing.IMMEDIATE, actor=MARA, reason="bench")
    )
    fleet.run()


def put(fleet: Fleet, node: Node, state: State) -> None:
    fleet.db.write(lambda tx: store.update(tx, node.id, {"state": state}))


def audited(fleet: Fleet, node: Node) -> list[tuple[str, str]]:
    query = sa.select(audit).where(audit.c.subject == node.id).order_by(audit.c.at, audit.c.id)
    return [(row["action"], row["actor"]) for row in fleet.db.read(lambda tx: tx.all(query))]


def test_power_by_hand_out_of_production_goes_under_a_permit(fleet: Fleet) -> None:
    (node,) = fleet.add()
    put(fleet, node, State.TRIAGE)
    power(fleet, node, "off")
    power(fleet, node, "on")
    power(fleet, node, "cycle")
    assert fleet.resets(node) == ["reset off", "reset on", "reset power-cycle"]
    assert fleet.state(node) is State.TRIAGE
    permits = fleet.db.read(lambda tx: tx.all(sa.select(permit)))
    assert [(row["action"], row["actor"]) for row in permits] == [(w, MARA.name) for w in ("off", "on", "cycle")]
    assert all(row["released_at"] is not None for row in permits)
    assert ("node.power.off", MARA.name) in audited(fleet, node)


@pytest.mark.parametrize(("what", "why"), [("off", "take it out first"), ("explode", "none of on, off")])
def test_a_serving_node_is_not_switched_off(fleet: Fleet, what: str, why: str) -> None:
    (node,) = fleet.add()
    with pytest.raises((Refused, BadInput), match=why):
        power(fleet, node, what)
    assert fleet.resets(node) == []


def test_a_cycle_in_production_is_verified(fleet: Fleet) -> None:
    (node,) = fleet.add()
    power(fleet, node, "cycle")
    assert (fleet.state(node), fleet.resets(node)) == (State.REBOOT, ["reset power-cycle"])
    fleet.boots(node)
    fleet.run(31)
    fleet.answers(node)
    fleet.run()
    assert fleet.state(node) is State.PRODUCTION
    present = fleet.db.read(lambda tx: store.conditions(tx, [node.id]))
    assert present == [], "what a person ordered puts nobody on probation"


def test_the_bmc_is_restarted_within_the_brake(fleet: Fleet) -> None:
    first, second = fleet.add(2)
    fleet.db.write(lambda tx: brake.reserve(tx, first, "reboot", actor=MARA, reason="work"))
    power(fleet, second, "reset-bmc")
    assert fleet.resets(second) == [], "one at a time in a rack"
    row = fleet.db.read(lambda tx: tx.one(sa.select(permit)))
    assert row is not None
    fleet.db.write(lambda tx: brake.release(tx, PermitId(row["id"])))
    fleet.run(60)
    assert fleet.resets(second) == ["reset_bmc"]
    assert fleet.state(second) is State.PRODUCTION


def test_nothing_is_powered_by_hand_while_firmware_is_written(fleet: Fleet) -> None:
    (node,) = fleet.add()
    put(fleet, node, State.ZAP)
    with pytest.raises(Refused, match="firmware is being written"):
        power(fleet, node, "cycle")
    put(fleet, node, State.TRIAGE)
    fleet.db.write(lambda tx: brake.reserve(tx, node, "firmware", actor=MARA, reason="flash"))
    with pytest.raises(Refused, match="firmware is being written"):
        power(fleet, node, "off")
    assert fleet.resets(node) == []


def test_the_guard_knows_of_a_flash_that_began_after_the_permit(fleet: Fleet) -> None:
    (node,) = fleet.add()
    put(fleet, node, State.TRIAGE)
    ours = fleet.db.write(lambda tx: brake.reserve(tx, node, "off", actor=MARA, reason="bench"))
    theirs = {"id": "permit_flash", "node_id": node.id, "action": "firmware", "groups": {}, "actor": "x", "reason": "y"}
    now = fleet.clock.now()
    fleet.db.write(lambda tx: brake_store.insert(tx, {**theirs, "granted_at": now, "expires_at": now + 60}))
    with fleet.open_bmc(node) as bmc, pytest.raises(Held, match="firmware is being written"):
        bmc.reset(ResetKind.OFF, permit=ours)
    with fleet.open_bmc(node) as bmc, pytest.raises(Held, match="firmware is being written"):
        bmc.reset_bmc(permit=ours)
    fleet.clock.advance(61)
    with fleet.open_bmc(node) as bmc:
        bmc.reset(ResetKind.OFF, permit=ours)


def test_a_node_is_provisioned_anew_from_triage(fleet: Fleet) -> None:
    (node,) = fleet.add()
    with pytest.raises(Refused, match="only a node in triage or debug"):
        fleet.db.write(lambda tx: by_hand.reprovision(tx, node.id, actor=MARA, reason="new image"))
    put(fleet, node, State.TRIAGE)
    fleet.db.write(lambda tx: by_hand.reprovision(tx, node.id, actor=MARA, reason="new image"))
    fleet.run()
    assert fleet.resets(node) == ["boot_once pxe", "reset power-cycle"]
    assert fleet.state(node) is State.ONBOARD
    last = fleet.db.read(lambda tx: store.transitions(tx, node_id=node.id))[-1]
    assert (last["actor"], last["cause"]) == (MARA.name, "reprovision")


def test_a_bmc_that_refuses_ends_the_order_and_gives_the_permit_back(fleet: Fleet) -> None:
    (node,) = fleet.add()
    put(fleet, node, State.TRIAGE)
    assert node.bmc_address is not None
    fleet.bmcs.by_address[node.bmc_address].credentials = Credentials("other", "one")
    fleet.db.write(lambda tx: by_hand.reprovision(tx, node.id, actor=MARA, reason="new image"))
    fleet.run()
    assert fleet.state(node) is State.TRIAGE
    assert fleet.db.read(lambda tx: tx.all(sa.select(permit).where(permit.c.released_at.is_(None)))) == []
    (job,) = fleet.db.read(lambda tx: tx.all(sa.select(schema_job)))
    assert (job["state"], "wrong name or password" in job["why"]) == ("failed", True)


# Drains ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def scheduled(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    return Fleet(db, clock, PauseFile(tmp_path / "pause"), cluster=FakeCluster())


def working(fleet: Fleet) -> tuple[Node, FakeNode]:
    assert fleet.cluster is not None
    (node,) = fleet.add()
    there = fleet.cluster.nodes[node.name]
    there.workload = Workload(2, ("ml/trainer",))
    return node, there


def drain(fleet: Fleet, node: Node, mode: DrainMode = DrainMode.EVICT, seconds: float = 600.0) -> None:
    fleet.db.write(lambda tx: by_hand.order_drain(tx, node.id, mode, seconds, actor=MARA, reason="new cables"))
    fleet.run()


def asked(fleet: Fleet) -> list[str]:
    assert fleet.cluster is not None
    return [what for what, _node in fleet.cluster.calls if what.startswith("drain")]


def test_a_person_empties_a_node_and_it_stays_so_until_uncordoned(scheduled: Fleet) -> None:
    node, there = working(scheduled)
    drain(scheduled, node)
    for _ in range(4):
        scheduled.run(31)
    assert (there.workload, asked(scheduled)) == (None, ["drain evict"] * 2)
    assert (scheduled.state(node), there.reason) == (State.PRODUCTION, "new cables")
    assert scheduled.db.read(lambda tx: tx.all(sa.select(permit).where(permit.c.released_at.is_(None)))) == []
    assert ("node.drained", MARA.name) in audited(scheduled, node)
    scheduled.run(3600)
    assert there.reason is not None
    scheduled.db.write(lambda tx: service.release_person(tx, node, actor=MARA, reason="done"))
    scheduled.run()
    assert there.reason is None


def test_what_is_left_at_a_persons_deadline_is_ended(scheduled: Fleet) -> None:
    node, there = working(scheduled)
    there.blocked = ("ml/trainer-0: its budget allows no eviction",)
    drain(scheduled, node, DrainMode.ALLOW_COMPLETION, 600.0)
    scheduled.run(300)
    assert asked(scheduled) == []
    for _ in range(4):
        scheduled.run(150)
    assert (asked(scheduled), there.workload) == (["drain force"] * 2, None)


def test_uncordoning_in_the_middle_stops_the_drain(scheduled: Fleet) -> None:
    node, there = working(scheduled)
    there.blocked = ("a budget",)
    drain(scheduled, node)
    scheduled.run(31)
    scheduled.run(31)
    before = len(asked(scheduled))
    assert before
    scheduled.db.write(lambda tx: service.release_person(tx, node, actor=MARA, reason="never mind"))
    scheduled.run(3600)
    assert len(asked(scheduled)) == before and there.workload is not None
    assert scheduled.db.read(lambda tx: tx.all(sa.select(permit).where(permit.c.released_at.is_(None)))) == []


def test_a_second_order_changes_the_drain_that_is_under_way(scheduled: Fleet) -> None:
    node, there = working(scheduled)
    there.blocked = ("a budget",)
    drain(scheduled, node, seconds=86_400.0)
    scheduled.run(31)
    drain(scheduled, node, seconds=0.0)
    for _ in range(3):
        scheduled.run(31)
    assert there.workload is None and "drain force" in asked(scheduled)


def test_without_a_scheduler_a_drain_waits_for_the_agents_word(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.busy(node, True)
    drain(fleet, node)
    fleet.run(31)
    assert fleet.db.read(lambda tx: jobs.live(tx, node.id))
    fleet.busy(node, False)
    fleet.run(31)
    assert not fleet.db.read(lambda tx: jobs.live(tx, node.id))
    assert {row["holder"] for row in fleet.db.read(lambda tx: store.holds(tx, [node.id]))} == {"person"}


def test_a_person_resets_one_gpu_and_it_is_verified(fleet: Fleet) -> None:
    (node,) = fleet.add()
    gpus = {"gpus": [{"pci": "0000:18:00.0", "serial": "1"}, {"pci": "0000:2a:00.0", "serial": "2"}]}
    fleet.db.write(lambda tx: store.update(tx, node.id, {"inventory": gpus}))

    def reset(gpu: str) -> None:
        fleet.db.write(
            lambda tx: by_hand.order_gpu_reset(
                tx, node.id, [gpu], timing=Timing.IMMEDIATE, actor=MARA, reason="remap it"
            )
        )

    with pytest.raises(NotFound, match=r"has no GPU '0000:99:00.0'; it has 0000:18:00.0, 0000:2a:00.0"):
        reset("0000:99:00.0")
    reset("0000:2A:00")
    fleet.run()
    assert fleet.state(node) is State.REBOOT
    (order,) = fleet.orders(node)
    assert (order.verb, order.arguments) == ("reset-gpu", {"device": "0000:2a:00"})
    fleet.answers(node, boot="boot-1")
    fleet.run()
    fleet.answers(node, boot="boot-1")
    fleet.run()
    assert (fleet.state(node), fleet.resets(node)) == (State.PRODUCTION, [])
    fleet.db.write(lambda tx: brake.pause(tx, "fleet", actor=MARA, reason="freeze"))
    with pytest.raises(Refused, match="is held: fleet is paused"):
        reset("0000:2a:00.0")
