"""Drains before an action: what runs leaves first, within its budgets, behind our cordon, under a permit; by levels.

On both databases, with the real cordon controller; the cluster is in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ostler.adapters.cluster.fake import FakeCluster, FakeNode
from ostler.adapters.cluster.port import Workload
from ostler.brake import service as brake
from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.schema import decision, permit
from ostler.health import findings
from ostler.health import store as health
from ostler.jobs import store as jobs
from ostler.nodes import service, store
from ostler.nodes.model import Capability, Node, State
from ostler.remediation import why
from ostler.remediation.model import FaultRule, PoolRule, RemediationSettings
from ostler.wire.agent import Verdict
from tests.flow.fleet import MARA, SETTINGS, XID48, XID79, Fleet

EVICT = replace(SETTINGS, drain_mode="evict", drain_deadline_s=1800.0)
REMAP = ("gpu", "row-remap-pending", "0000:18:00.0", "gpu", "warning", "reset-gpu", "a row is remapped with the reset")
TRAINING = Workload(2, ("ml/trainer",))

Make = Callable[..., Fleet]


@pytest.fixture
def make(db: Database, clock: ManualClock, tmp_path: Path) -> Make:
    def fleet(settings: RemediationSettings = EVICT, **more: Any) -> Fleet:
        return Fleet(db, clock, PauseFile(tmp_path / "pause"), settings, cluster=FakeCluster(), **more)

    return fleet


def at(fleet: Fleet, node: Node) -> FakeNode:
    assert fleet.cluster is not None
    return fleet.cluster.nodes[node.name]


def drains(fleet: Fleet, node: Node) -> list[str]:
    assert fleet.cluster is not None
    return [what for what, name in fleet.cluster.calls if name == node.name and what.startswith("drain")]


def waits(fleet: Fleet, node: Node) -> str:
    return " ".join(row["why"] for row in fleet.db.read(lambda tx: jobs.live(tx, node.id)))


def chain(fleet: Fleet, node: Node) -> str:
    def read(tx: Any) -> str:
        summary, links = why.explain(tx, store.get(tx, node.id), now=tx.now)
        return "\n".join([summary, *(link.text for link in links)])

    return fleet.db.read(read)


def permits(fleet: Fleet, *, live: bool = True) -> list[sa.RowMapping]:
    query = sa.select(permit).order_by(permit.c.granted_at)
    return list(fleet.db.read(lambda tx: tx.all(query.where(permit.c.released_at.is_(None)) if live else query)))


def draining(fleet: Fleet, *, blocked: tuple[str, ...] = ("ml/trainer-0: its budget allows no eviction",)) -> Node:
    """A node that works, whose drain has begun and does not get on."""
    (node,) = fleet.add()
    at(fleet, node).workload, at(fleet, node).blocked = TRAINING, blocked
    fleet.say(node, XID48)
    fleet.run(SETTINGS.settle_s)
    fleet.run(5)
    fleet.run(5)
    return node


def finish(fleet: Fleet, node: Node) -> None:
    """The agent resets the GPU and passes the checks."""
    for _ in range(4):
        fleet.run(31)
        fleet.answers(node, boot="boot-1")
    fleet.run()


def test_work_is_evicted_behind_the_cordon_and_then_the_gpu_is_reset(make: Make) -> None:
    fleet = make()
    (node,) = fleet.add()
    at(fleet, node).workload = TRAINING
    fleet.say(node, XID48)
    fleet.run(SETTINGS.settle_s)
    assert drains(fleet, node) == [], "nothing leaves before the scheduler places nothing new"
    assert at(fleet, node).reason is not None, "the cordon controller has put our cordon"
    fleet.run(5)
    assert drains(fleet, node) == ["drain evict"]
    assert fleet.state(node) is State.PRODUCTION, "the node is acted on when nothing is left"
    (held,) = permits(fleet)
    assert (held["action"], held["workload"]) == ("reset-gpu", "ml/trainer"), "and a drain has its permit"
    fleet.run(30)
    assert (drains(fleet, node), fleet.state(node)) == (["drain evict"] * 2, State.REBOOT)
    assert [row["id"] for row in permits(fleet)] == [held["id"]], "the deed has the same permit"
    finish(fleet, node)
    assert (fleet.state(node), permits(fleet), at(fleet, node).reason) == (State.PRODUCTION, [], None)


def test_an_idle_node_is_cordoned_before_it_is_touched(make: Make) -> None:
    fleet = make()
    (node,) = fleet.add()
    fleet.say(node, XID48)
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.PRODUCTION, "something may be placed there still"
    fleet.run(5)
    assert (fleet.state(node), drains(fleet, node)) == (State.REBOOT, [])


def test_somebody_elses_cordon_will_do_and_stays(make: Make) -> None:
    fleet = make()
    (node,) = fleet.add()
    at(fleet, node).others = True
    fleet.say(node, XID48)
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.REBOOT
    finish(fleet, node)
    assert fleet.state(node) is State.PRODUCTION
    assert at(fleet, node).others, "what others set is theirs to lift"
    assert at(fleet, node).reason is None


def test_the_cordon_is_held_across_the_reboot_until_the_checks_have_passed(make: Make) -> None:
    fleet = make()
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.REBOOT
    fleet.boots(node)
    fleet.run(60)
    assert at(fleet, node).reason is not None, "the node is up, and nothing says yet that it is well"
    fleet.answers(node)
    fleet.run()
    assert (fleet.state(node), at(fleet, node).reason) == (State.PRODUCTION, None)


def test_completion_is_waited_for_and_takes_no_permit(make: Make) -> None:
    fleet = make(replace(EVICT, drain_mode="allow-completion"))
    node = draining(fleet)
    fleet.run(600)
    assert (drains(fleet, node), permits(fleet)) == ([], [])
    assert "waits for the workload to end: 2 pods of ml/trainer" in waits(fleet, node)
    at(fleet, node).workload = None
    fleet.run(30)
    assert fleet.state(node) is State.REBOOT


@pytest.mark.parametrize("mode", ["evict", "allow-completion"])
def test_what_is_left_at_the_deadline_is_ended(make: Make, mode: str) -> None:
    fleet = make(replace(EVICT, drain_mode=mode))
    node = draining(fleet)
    fleet.run(EVICT.drain_deadline_s - 60)
    assert "drain force" not in drains(fleet, node), "not before"
    assert fleet.state(node) is State.PRODUCTION
    for _ in range(6):
        fleet.run(30)
    assert "drain force" in drains(fleet, node)
    assert fleet.state(node) is State.REBOOT
    (acted,) = [row for row in decided(fleet, node) if row["action"] == "reset-gpu"]
    assert "ended at the deadline" in " ".join(acted["reasons"])


def test_what_does_not_even_go_by_force_holds_nothing_up_for_ever(make: Make) -> None:
    fleet = make()
    node = draining(fleet)
    at(fleet, node).drain_looks = 1000
    fleet.run(EVICT.drain_deadline_s)
    for _ in range(3):
        fleet.run(30)
    assert fleet.state(node) is State.PRODUCTION, "it is given a while to go"
    for _ in range(4):
        fleet.run(30)
    assert fleet.state(node) is State.REBOOT


def test_what_blocks_a_drain_is_told(make: Make) -> None:
    fleet = make()
    node = draining(fleet)
    assert "blocked: ml/trainer-0: its budget allows no eviction" in waits(fleet, node)
    assert "its budget allows no eviction" in chain(fleet, node)
    assert ("drain", "act") in [(row["action"], row["verdict"]) for row in decided(fleet, node)]


def test_an_unreachable_cluster_is_waited_for(make: Make) -> None:
    fleet = make()
    assert fleet.cluster is not None
    (node,) = fleet.add()
    fleet.cluster.unreachable = True
    fleet.say(node, XID48)
    fleet.run(SETTINGS.settle_s)
    fleet.run(EVICT.drain_deadline_s * 3)
    assert (fleet.state(node), fleet.resets(node)) == (State.PRODUCTION, [])
    assert "what runs on the node is not known" in waits(fleet, node)
    fleet.cluster.unreachable = False
    fleet.run(31)
    fleet.run(31)
    assert fleet.state(node) is State.REBOOT


def test_a_cluster_that_goes_away_in_the_middle_of_a_drain_is_waited_for(make: Make) -> None:
    fleet = make()
    assert fleet.cluster is not None
    node = draining(fleet, blocked=())
    fleet.cluster.unreachable = True
    fleet.run(EVICT.drain_deadline_s * 3)
    assert fleet.state(node) is State.PRODUCTION
    assert "how far it is is not known" in waits(fleet, node)
    fleet.cluster.unreachable = False
    for _ in range(3):
        fleet.run(31)
    assert fleet.state(node) is State.REBOOT


def test_but_what_is_lost_already_waits_for_no_cluster(make: Make) -> None:
    fleet = make()
    assert fleet.cluster is not None
    (node,) = fleet.add()
    at(fleet, node).workload = TRAINING
    fleet.cluster.unreachable = True
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    assert fleet.resets(node) == ["reset force-restart"]


def test_lost_work_is_ended_so_that_it_does_not_start_again_on_the_node(make: Make) -> None:
    fleet = make()
    (node,) = fleet.add()
    at(fleet, node).workload, at(fleet, node).blocked = TRAINING, ("a budget",)
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    assert drains(fleet, node) == ["drain force"]
    assert fleet.resets(node) == ["reset force-restart"], "and not waited for"


def test_a_fatal_reset_waits_until_nothing_holds_the_gpu(make: Make) -> None:
    fleet = make(replace(EVICT, faults={"xid-48": FaultRule(timing="immediate")}))
    (node,) = fleet.add()
    at(fleet, node).workload = TRAINING
    fleet.say(node, XID48)
    fleet.run(SETTINGS.settle_s)
    assert "ending what holds the GPUs: 2 left of ml/trainer" in waits(fleet, node)
    assert fleet.answers(node, boot="boot-1") == 0
    fleet.run(10)
    assert fleet.answers(node, boot="boot-1") == 1


def test_a_finding_that_is_cleared_stops_its_drain_and_only_that(make: Make) -> None:
    fleet = make()
    node = draining(fleet)
    at(fleet, node).others = True
    fleet.db.write(lambda tx: findings.clear(tx, health.active(tx, node.id), by="person:mara: false alarm"))
    before = len(drains(fleet, node))
    fleet.run(30)
    fleet.run(30)
    assert len(drains(fleet, node)) == before
    assert (fleet.state(node), fleet.node(node).pending_state, permits(fleet)) == (State.PRODUCTION, None, [])
    assert (at(fleet, node).reason, at(fleet, node).others) == (None, True), "our cordon goes, theirs stays"
    assert at(fleet, node).workload == TRAINING, "what has not left works on"


def test_a_person_who_takes_it_back_stops_the_drain_for_good(make: Make) -> None:
    fleet = make()
    node = draining(fleet)
    fleet.db.write(lambda tx: service.withdraw_pending(tx, node.id, reason="let it train", actor=MARA))
    before = len(drains(fleet, node))
    for _ in range(5):
        fleet.run(30)
        fleet.remediation.sweep()
        fleet.say(node, XID48)
    assert (len(drains(fleet, node)), fleet.state(node), permits(fleet)) == (before, State.PRODUCTION, [])
    assert at(fleet, node).reason is None


def test_a_pause_holds_a_drain_that_has_begun(make: Make) -> None:
    fleet = make()
    node = draining(fleet, blocked=("a budget",))
    before = len(drains(fleet, node))
    fleet.db.write(lambda tx: brake.pause(tx, "fleet", actor=MARA, reason="freeze"))
    fleet.run(300)
    assert len(drains(fleet, node)) == before
    fleet.db.write(lambda tx: brake.resume(tx, "fleet", actor=MARA, reason="over"))
    fleet.run(60)
    assert len(drains(fleet, node)) > before


def test_a_permit_that_ends_during_a_long_drain_is_asked_for_again(make: Make) -> None:
    fleet = make(replace(EVICT, drain_deadline_s=10 * brake.PERMIT_SECONDS))
    node = draining(fleet)
    fleet.run(brake.PERMIT_SECONDS + 1)
    fleet.run(31)
    assert len(permits(fleet, live=False)) == 2
    assert fleet.state(node) is State.PRODUCTION
    at(fleet, node).blocked = ()
    for _ in range(3):
        fleet.run(31)
    assert fleet.state(node) is State.REBOOT


def test_the_brake_holds_a_drain_before_anything_is_evicted(make: Make) -> None:
    fleet = make()
    first = draining(fleet)
    (second,) = fleet.add()
    at(fleet, second).workload = Workload(1, ("ml/other",))
    fleet.say(second, XID48)
    fleet.run(SETTINGS.settle_s)
    fleet.run(60)
    assert drains(fleet, first) and drains(fleet, second) == []
    assert "held" in [row["verdict"] for row in decided(fleet, second)]


def test_nodes_of_one_job_count_as_one(make: Make) -> None:
    fleet = make()
    draining(fleet)
    (second,) = fleet.add()
    at(fleet, second).workload = Workload(1, ("a/daemon", "ml/trainer"))
    fleet.say(second, XID48)
    fleet.run(SETTINGS.settle_s)
    fleet.run(60)
    assert drains(fleet, second), "the job loses its first node already"
    assert {row["workload"] for row in permits(fleet)} == {"ml/trainer"}


PARTIAL = replace(EVICT, pools={"default": PoolRule(partial_drain=True)})
GPUS = [{"pci": f"0000:{bus}:00.0", "serial": f"G{n}"} for n, bus in enumerate(("17", "18", "19"))]


def half_busy(fleet: Fleet) -> Node:
    """One job on GPU 1, which is to be reset, another on GPU 2."""
    (node,) = fleet.add()
    fleet.db.write(lambda tx: store.update(tx, node.id, {"inventory": {"gpus": GPUS}}))
    mine, other = Workload(1, ("ml/mine",)), Workload(1, ("ml/other",))
    at(fleet, node).gpu_jobs = {1: mine, 2: other}
    at(fleet, node).workload = Workload(2, ("ml/mine", "ml/other"))
    fleet.say(node, XID48)
    fleet.run(SETTINGS.settle_s)
    for _ in range(4):
        fleet.run(30)
    return node


def test_only_the_gpus_concerned_are_drained_where_the_pool_wants_it(make: Make) -> None:
    fleet = make(PARTIAL)
    node = half_busy(fleet)
    assert fleet.state(node) is State.REBOOT
    assert at(fleet, node).gpu_jobs == {2: Workload(1, ("ml/other",))}, "the other job works on"
    (acted,) = [row for row in decided(fleet, node) if row["action"] == "reset-gpu"]
    assert "only GPU 1 was drained" in " ".join(acted["reasons"])
    finish(fleet, node)
    assert fleet.state(node) is State.PRODUCTION


def test_a_partly_drained_node_is_not_rebooted_when_the_reset_fails(make: Make) -> None:
    fleet = make(PARTIAL)
    node = half_busy(fleet)
    fleet.answers(node, Verdict.FAILED, boot="boot-1")
    fleet.run()
    assert (fleet.state(node), fleet.resets(node)) == (State.TRIAGE, []), "others' work still runs there"


def test_a_fatal_reset_ends_only_the_work_on_its_gpu(make: Make) -> None:
    fleet = make(replace(PARTIAL, faults={"xid-48": FaultRule(timing="immediate")}))
    node = half_busy(fleet)
    assert at(fleet, node).gpu_jobs == {2: Workload(1, ("ml/other",))}
    fleet.answers(node, Verdict.FAILED, boot="boot-1")
    fleet.run()
    assert (fleet.state(node), fleet.resets(node)) == (State.TRIAGE, [])


def test_without_the_pools_word_all_work_goes(make: Make) -> None:
    fleet = make()
    node = half_busy(fleet)
    assert (fleet.state(node), at(fleet, node).gpu_jobs) == (State.REBOOT, {})


def test_a_pending_row_remap_waits_for_the_work_and_then_resets(make: Make) -> None:
    fleet = make(replace(EVICT, drain_mode="allow-completion"))
    (node,) = fleet.add()
    at(fleet, node).workload = TRAINING
    fleet.say(node, REMAP)
    fleet.run(SETTINGS.settle_s)
    fleet.run(600)
    assert fleet.state(node) is State.PRODUCTION
    at(fleet, node).workload = None
    fleet.run(31)
    assert fleet.state(node) is State.REBOOT
    assert fleet.answers(node, boot="boot-1") == 1
    assert fleet.resets(node) == []


def test_where_cordon_is_not_granted_nothing_is_evicted(make: Make) -> None:
    fleet = make(granted=frozenset(Capability) - {Capability.CORDON})
    node = draining(fleet)
    fleet.run(300)
    assert (drains(fleet, node), fleet.state(node)) == ([], State.PRODUCTION)
    at(fleet, node).workload = None
    fleet.run(31)
    assert fleet.state(node) is State.REBOOT


def test_a_node_that_its_scheduler_does_not_know_is_the_agents(make: Make) -> None:
    fleet = make()
    assert fleet.cluster is not None
    (node,) = fleet.add()
    del fleet.cluster.nodes[node.name]
    fleet.busy(node, True)
    fleet.say(node, XID48)
    fleet.run(SETTINGS.settle_s)
    fleet.run(60)
    assert fleet.state(node) is State.PRODUCTION
    fleet.busy(node, False)
    fleet.run(31)
    assert fleet.state(node) is State.REBOOT


def test_what_can_wait_waits_for_its_window(make: Make) -> None:
    fleet = make()
    opens = fleet.clock.now() + 7200
    fleet.remediation._world.hold_until = lambda tx, node: opens  # what `maintenance` will answer
    (node,) = fleet.add()
    fleet.say(node, XID48)
    fleet.run(SETTINGS.settle_s)
    fleet.run(3600)
    assert (fleet.state(node), at(fleet, node).reason) == (State.PRODUCTION, None), "it goes on serving until then"
    assert "waits for the maintenance window" in waits(fleet, node)
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.REBOOT, "what cannot wait does not"


def decided(fleet: Fleet, node: Node) -> list[sa.RowMapping]:
    query = sa.select(decision).where(decision.c.node_id == node.id).order_by(decision.c.at, decision.c.id)
    return list(fleet.db.read(lambda tx: tx.all(query)))
