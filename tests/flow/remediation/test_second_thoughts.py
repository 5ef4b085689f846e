"""What remediation must not do: overrule a person, act on what is over, blame latecomers, or drown in a storm."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from ostler.brake import service as brake
from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.schema import decision
from ostler.db.tx import Tx
from ostler.health import store as health
from ostler.health.model import Struck
from ostler.nodes import service, store
from ostler.nodes.model import Node, State
from ostler.remediation import service as remediation
from tests.flow.fleet import HEALTH, LINK, MARA, SETTINGS, XID13, XID48, XID79, Fleet

NVME = ("nvme", "gone", "nvme0", "storage", "error", "triage", "nvme0 is gone")


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    return Fleet(db, clock, PauseFile(tmp_path / "pause"))


def holders(fleet: Fleet, node: Node) -> set[str]:
    return {row["holder"] for row in fleet.db.read(lambda tx: store.holds(tx, [node.id]))}


def last_verdict(fleet: Fleet, node: Node) -> str:
    query = sa.select(decision.c.verdict).where(decision.c.node_id == node.id).order_by(decision.c.id.desc()).limit(1)
    return str(fleet.db.read(lambda tx: tx.scalar(query)))


def pending(fleet: Fleet) -> Node:
    """A busy node whose reset waits for its job."""
    (node,) = fleet.add()
    fleet.busy(node, True)
    fleet.say(node, XID48)
    fleet.run(SETTINGS.settle_s)
    assert fleet.node(node).pending_state is State.REBOOT
    return node


def withdraw(fleet: Fleet, node: Node) -> None:
    fleet.db.write(lambda tx: service.withdraw_pending(tx, node.id, reason="we watch it", actor=MARA))


def test_what_a_person_took_back_is_not_decided_again(fleet: Fleet) -> None:
    node = pending(fleet)
    withdraw(fleet, node)
    for _ in range(5):
        fleet.run(40)
        fleet.remediation.sweep()
        fleet.say(node, XID48)
    fleet.busy(node, False)
    fleet.run(SETTINGS.drain_deadline_s)
    present = fleet.node(node)
    assert (present.state, present.pending_state, holders(fleet, node)) == (State.PRODUCTION, None, set())
    assert last_verdict(fleet, node) == "record"


def test_but_what_is_graver_is_another_decision(fleet: Fleet) -> None:
    node = pending(fleet)
    withdraw(fleet, node)
    fleet.run(40)
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.REBOOT


def test_an_old_finding_does_not_shorten_the_settling_of_a_new_one(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, *[XID13] * 5)  # watched for long
    fleet.run(600)
    fleet.say(node, XID79)
    fleet.run()
    assert (fleet.state(node), fleet.resets(node)) == (State.PRODUCTION, [])
    assert holders(fleet, node) == {"remediation"}, "only a cordon comes before correlation"
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.REBOOT


def test_a_new_fault_settles_while_an_old_one_waits(fleet: Fleet) -> None:
    node = pending(fleet)
    fleet.run(100)
    fleet.say(node, XID79)
    fleet.run()
    assert fleet.state(node) is State.PRODUCTION
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.REBOOT


def test_the_last_words_before_the_reset_are_no_relapse(fleet: Fleet) -> None:
    """A dying GPU fills the log until the power goes, and the agent tells the rest after the boot."""
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    fleet.clock.advance(1)
    fleet.say(node, XID79)  # still the old boot: the reset has been asked for and the host follows
    fleet.run(60)
    fleet.boots(node)
    fleet.run(60)
    fleet.answers(node)
    fleet.run()
    assert fleet.state(node) is State.PRODUCTION


def test_what_is_said_while_the_last_check_is_judged_counts(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    fleet.boots(node)
    fleet.run(60)
    fleet.say(node, XID79, boot="boot-2")
    fleet.answers(node)
    fleet.run()
    assert fleet.state(node) is State.TRIAGE


def test_a_repaired_node_is_not_repaired_again_for_what_was_repaired(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, NVME)
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.TRIAGE
    fleet.clock.advance(3600)
    now = fleet.clock.now()
    fleet.db.write(lambda tx: store.update(tx, node.id, {"state": State.PRODUCTION, "state_since": now}))
    fleet.db.write(lambda tx: remediation.start(tx, node.id))
    fleet.run()
    assert fleet.state(node) is State.PRODUCTION, "nor before the sweep has cleared it"
    fleet.remediation.sweep()
    fleet.run(600)
    assert fleet.state(node) is State.PRODUCTION
    (row,) = fleet.db.read(lambda tx: health.listed(tx, node_id=node.id, active_only=False))
    assert "checks passed" in row["cleared_by"]


def test_a_pause_holds_a_way_to_triage_too(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.db.write(lambda tx: brake.pause(tx, "fleet", actor=MARA, reason="freeze"))
    fleet.say(node, NVME)
    fleet.run(SETTINGS.settle_s)
    assert (fleet.state(node), last_verdict(fleet, node)) == (State.PRODUCTION, "held")
    fleet.db.write(lambda tx: brake.resume(tx, "fleet", actor=MARA, reason="over"))
    fleet.run(60)
    assert fleet.state(node) is State.TRIAGE


def test_the_last_node_behind_a_dead_switch_joins_the_incident(fleet: Fleet) -> None:
    *first, last = fleet.add(6)
    for node in first:
        fleet.say(node, LINK)
    fleet.run(SETTINGS.settle_s)
    fleet.run(HEALTH.window_s * 2)
    fleet.say(last, LINK)
    fleet.run(SETTINGS.settle_s)
    fleet.run(300)
    assert (fleet.state(last), fleet.resets(last), holders(fleet, last)) == (State.PRODUCTION, [], set())
    (incident,) = fleet.db.read(health.incidents)
    assert len(fleet.db.read(lambda tx: health.findings_of(tx, incident["id"], active_only=True))) == 6


def test_the_work_of_a_storm_grows_with_its_nodes_and_no_faster(
    sqlite_db: Database, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that correlation looks at, for n nodes with faults of their own that nothing folds together."""
    fleet = Fleet(sqlite_db, clock, PauseFile(tmp_path / "pause"))
    looked_at = 0
    real = health.struck

    def counted(tx: Tx, since: float) -> list[Struck]:
        nonlocal looked_at
        found = real(tx, since)
        looked_at += len(found)
        return found

    monkeypatch.setattr(health, "struck", counted)

    def storm(nodes: list[Node]) -> int:
        nonlocal looked_at
        looked_at = 0
        for n, node in enumerate(nodes):
            fleet.say(node, ("nvme", f"gone-{n}", "nvme0", "storage", "error", "reboot", "gone"))
        fleet.run(SETTINGS.settle_s)
        fleet.remediation.sweep()
        return looked_at

    small, large = fleet.add(10), fleet.add(40)
    before = storm(small)
    clock.advance(10_000)
    assert storm(large) <= before * 8
