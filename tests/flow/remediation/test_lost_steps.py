"""Remediation when the process dies between a deed and its journal, at every step: nothing lost, nothing done twice.

The one deed that may be repeated is the reset itself, and only while the node has not booted from the first.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ostler.adapters.cluster.fake import FakeCluster
from ostler.adapters.cluster.port import DrainMode, Workload
from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.core.steps import StepResult
from ostler.db import lease
from ostler.db.engine import Database
from ostler.db.schema import agent_order, decision, event, job, permit, ticket
from ostler.db.tx import Tx
from ostler.jobs import journal
from ostler.nodes import store
from ostler.nodes.model import Node, State
from ostler.remediation import by_hand
from tests.flow.fleet import LINK, MARA, SETTINGS, XID48, XID79, Fleet

LEAK = ("bmc", "leak", "leak0", "chassis", "fatal", "power-off", "leak0 is wet, twice")

STEPS = {"reboot": 7, "reset-gpu": 6}
"""Answers that a happy run journals: settle twice (it waits), then one per step."""


class Losing:
    """Loses one answer on its way to the journal: the step has run, and nobody knows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lose: int | None) -> None:
        self.answers: list[str] = []
        self._real, self._lose = journal.answer, lose
        monkeypatch.setattr(journal, "answer", self)

    def __call__(self, tx: Tx, held: lease.Claim, result: StepResult, **how: Any) -> lease.Claim | None:
        claim = self._real(tx, held, result, **how)
        self.answers.append(held.row["step"])
        if len(self.answers) - 1 == self._lose:
            raise lease.LostLease(where="the test")
        return claim


STORIES = {"drain": 9, "in-band": 7, "leak": 3, "hand-drain": 3, "escalation": 9}
"""Answers of the longer procedures, likewise: each is cut after every one of them."""


def until_rest(fleet: Fleet, node: Node, *, boots: bool) -> None:
    """The node and its agent do what they are asked for, until remediation is through."""
    boot = "boot-1"
    for _ in range(30):
        fleet.run(40)
        if boots and boot == "boot-1" and fleet.resets(node):
            boot = "boot-2"
            fleet.boots(node, boot)
            fleet.run()
        fleet.answers(node, boot=boot)
    fleet.run(40)


def count(fleet: Fleet, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
    return int(fleet.db.read(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(table).where(*where))))


@pytest.mark.parametrize(
    ("fault", "lose"),
    [pytest.param(kind, n, id=f"{kind}-{n}") for kind, total in STEPS.items() for n in [None, *range(total)]],
)
def test_no_lost_answer_loses_or_doubles_anything(
    db: Database, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, lose: int | None
) -> None:
    fleet = Fleet(db, clock, PauseFile(tmp_path / "pause"))
    (node,) = fleet.add()
    losing = Losing(monkeypatch, lose)
    fleet.say(node, XID79 if fault == "reboot" else XID48)
    fleet.run()
    until_rest(fleet, node, boots=fault == "reboot")
    assert fleet.state(node) is State.PRODUCTION
    history = fleet.db.read(lambda tx: store.transitions(tx, node_id=node.id))
    assert [row["to_state"] for row in history] == ["production", "reboot", "production"]
    checks = len(SETTINGS.verification_checks)
    assert count(fleet, agent_order) == checks + (0 if fault == "reboot" else 1)
    assert count(fleet, permit) == 1
    assert count(fleet, permit, permit.c.released_at.is_(None)) == 0
    assert count(fleet, decision, decision.c.verdict == "act") == 1
    assert count(fleet, event, event.c.type == "node.healthy") == 1
    assert count(fleet, event, event.c.type == "node.cordoned") == 1
    assert len(fleet.resets(node)) == (1 if fault == "reboot" else 0)
    if lose is None:
        assert len(losing.answers) >= STEPS[fault]
        assert {"settle", "decide", "act", "verify", "judge"} <= set(losing.answers)


@pytest.mark.parametrize(("then", "resets"), [("boots", 1), ("silent", 1), ("runs on", 2)])
def test_a_lost_reset_is_repeated_only_if_the_node_runs_on_in_its_old_boot(
    db: Database, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, resets: int
) -> None:
    """Whether the BMC did it is not known: a node that may be booting is not reset once more."""
    fleet = Fleet(db, clock, PauseFile(tmp_path / "pause"))
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run()
    losing = Losing(monkeypatch, 2)  # settle, decide, act
    fleet.run(SETTINGS.settle_s)
    assert losing.answers[-1] == "act" and len(fleet.resets(node)) == 1
    if then == "boots":
        fleet.boots(node, "boot-2")
    fleet.run(SETTINGS.in_band_s + 60)
    if then == "runs on":
        fleet.heard(node)
    fleet.run(60)
    assert len(fleet.resets(node)) == resets


def told(fleet: Fleet, story: str) -> Node:
    """The beginning of one of the longer procedures."""
    (node,) = fleet.add()
    if fleet.cluster is not None:
        fleet.cluster.nodes[node.name].workload = Workload(2, ("ml/trainer",))
    if story == "in-band":
        fleet.heard(node)
        fleet.say(node, LINK)
    elif story == "leak":
        fleet.say(node, LEAK)
    elif story == "hand-drain":
        evict = DrainMode.EVICT
        fleet.db.write(lambda tx: by_hand.order_drain(tx, node.id, evict, 3600.0, actor=MARA, reason="cables"))
    elif story == "escalation":
        fleet.say(node, XID79)
    else:
        fleet.say(node, XID48)
    return node


def live_through(fleet: Fleet, node: Node, story: str) -> None:
    """The node, its agent, its cluster and its BMC go on, whatever becomes of the server's answers."""
    boot = "boot-1"
    fleet.run()
    for _ in range(120 if story == "escalation" else 30):
        fleet.run(40)
        fleet.remediation.sweep()
        if story == "in-band" and boot == "boot-1" and [one.verb for one in fleet.orders(node)] == ["reboot"]:
            boot = "boot-2"
            fleet.boots(node, boot)
            fleet.run()
        if story == "escalation" and boot == "boot-1" and "reset power-cycle" in fleet.resets(node):
            boot = "boot-2"
            fleet.boots(node, boot)
            fleet.run()
        if story not in ("leak", "hand-drain"):
            fleet.answers(node, boot=boot)
    fleet.run(40)


@pytest.mark.parametrize(
    ("story", "lose"),
    [pytest.param(kind, n, id=f"{kind}-{n}") for kind, total in STORIES.items() for n in [None, *range(total)]],
)
def test_a_longer_procedure_that_is_cut_anywhere_ends_right(
    db: Database, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, story: str, lose: int | None
) -> None:
    settings = replace(SETTINGS, drain_mode="evict", drain_deadline_s=3600.0)
    cluster = FakeCluster() if "drain" in story else None
    fleet = Fleet(db, clock, PauseFile(tmp_path / "pause"), settings, cluster=cluster)
    losing = Losing(monkeypatch, lose)
    node = told(fleet, story)
    live_through(fleet, node, story)
    assert len(losing.answers) > STORIES[story] - 1, "every answer has been lost once"
    assert count(fleet, permit, permit.c.released_at.is_(None)) == 0
    assert count(fleet, job, job.c.finished_at.is_(None)) == 0
    states = [row["to_state"] for row in fleet.db.read(lambda tx: store.transitions(tx, node_id=node.id))][1:]
    if story == "leak":
        assert (states, set(fleet.resets(node))) == (["triage"], {"reset off"})
        assert count(fleet, ticket) == 1 and count(fleet, permit) == 1
        assert count(fleet, decision, decision.c.verdict == "act") == 1
        return
    assert count(fleet, permit) == 1
    if cluster is not None:
        there = cluster.nodes[node.name]
        assert there.workload is None and "drain force" not in [what for what, _node in cluster.calls]
    if story == "hand-drain":
        assert states == [] and fleet.db.read(lambda tx: store.holds(tx, [node.id]))
        return
    assert states == ["reboot", "production"]
    assert count(fleet, event, event.c.type == "node.healthy") == 1
    verbs = {"drain": 1, "in-band": 1, "escalation": 0}
    assert count(fleet, agent_order) == len(SETTINGS.verification_checks) + verbs[story]
    acted = {"drain": ["drain", "reset-gpu"], "in-band": ["reboot"], "escalation": ["reboot", "power-cycle"]}
    query = sa.select(decision.c.action).where(decision.c.verdict == "act").order_by(decision.c.at, decision.c.id)
    assert [row["action"] for row in fleet.db.read(lambda tx: tx.all(query))] == acted[story]
    if story == "escalation":
        assert set(fleet.resets(node)) == {"reset force-restart", "reset power-cycle"}


def test_a_job_of_the_version_before_goes_on(db: Database, clock: ManualClock, tmp_path: Path) -> None:
    fleet = Fleet(db, clock, PauseFile(tmp_path / "pause"))
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.REBOOT
    row = fleet.db.read(lambda tx: tx.one(sa.select(job).where(job.c.subject == node.id)))
    assert row is not None and row["step"] == "await-boot"
    names = ("permit", "fault", "boot_before", "force", "action", "devices", "acted_at")
    old = {"version": 1, "data": {name: row["data"][name] for name in names}}
    fleet.db.write(lambda tx: tx.execute(job.update().where(job.c.id == row["id"]).values(**old)))
    until_rest(fleet, node, boots=True)
    assert fleet.state(node) is State.PRODUCTION
    assert count(fleet, permit, permit.c.released_at.is_(None)) == 0
