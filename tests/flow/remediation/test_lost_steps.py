"""Remediation when the process dies between a deed and its journal, at every step: nothing lost, nothing done twice.

The one deed that may be repeated is the reset itself, and only while the node has not booted from the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.core.steps import StepResult
from ostler.db import lease
from ostler.db.engine import Database
from ostler.db.schema import agent_order, decision, event, permit
from ostler.db.tx import Tx
from ostler.jobs import journal
from ostler.nodes import store
from ostler.nodes.model import Node, State
from tests.flow.fleet import SETTINGS, XID48, XID79, Fleet

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


@pytest.mark.parametrize("booted", [True, False])
def test_a_lost_reset_is_repeated_only_while_the_node_has_not_booted(
    db: Database, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, booted: bool
) -> None:
    fleet = Fleet(db, clock, PauseFile(tmp_path / "pause"))
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run()
    losing = Losing(monkeypatch, 2)  # settle, decide, act
    fleet.run(SETTINGS.settle_s)
    assert losing.answers[-1] == "act" and len(fleet.resets(node)) == 1
    if booted:
        fleet.boots(node, "boot-2")
    fleet.run(60)
    assert len(fleet.resets(node)) == (1 if booted else 2)
