"""Idle nodes are checked, by their scheduler or their agent, and leave when work comes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ostler.adapters.cluster.fake import FakeCluster
from ostler.adapters.cluster.port import IdlePhase, IdleView
from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput, NotFound, Refused
from ostler.db.engine import Database
from ostler.db.schema import outcome
from ostler.health import orders
from ostler.health import store as health
from ostler.jobs.runner import Runner
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, State
from ostler.remediation import service as remediation
from ostler.verification import service
from ostler.verification.model import OUTCOME, VerificationSettings
from ostler.verification.tasks import Verification
from ostler.wire.agent import OrderResult, Verdict
from tests.flow.fleet import MARA, Fleet

SETTINGS = VerificationSettings(
    pools=("default",), checks=("cpu-arith seconds=1", "memory-pattern"), at_once_share=1.0, idle_for_s=60.0
)


@dataclass
class Site:
    """A fleet whose idle nodes are checked."""

    fleet: Fleet
    settings: VerificationSettings = SETTINGS
    verification: Verification = field(init=False)
    runner: Runner = field(init=False)

    def __post_init__(self) -> None:
        clusters = {} if self.fleet.cluster is None else {self.fleet.cluster.name: self.fleet.cluster}
        self.verification = Verification(self.fleet.db, clusters, self.settings, remediation.consider)
        self.runner = Runner(
            self.fleet.db, [self.verification.procedure(), self.fleet.remediation.procedure()], owner="test"
        )

    @property
    def db(self) -> Database:
        return self.fleet.db

    @property
    def cluster(self) -> FakeCluster:
        assert self.fleet.cluster is not None
        return self.fleet.cluster

    def add(self, count: int = 1) -> list[Node]:
        made = self.fleet.add(count)
        self.fleet.clock.advance(120)
        for node in made:
            self.fleet.busy(node, False)
        return made

    def sweep(self, seconds: float = 0.0) -> None:
        self.fleet.clock.advance(seconds)
        self.verification.sweep()
        self.runner.run_due()

    def run(self, seconds: float = 0.0) -> None:
        self.fleet.clock.advance(seconds)
        self.runner.run_due()

    def outcomes(self, node: Node) -> list[tuple[str, str]]:
        query = sa.select(outcome).where(outcome.c.node_id == node.id).order_by(outcome.c.id)
        return [(row["name"], row["verdict"]) for row in self.db.read(lambda tx: tx.all(query))]

    def findings(self, node: Node) -> list[tuple[str, str, str]]:
        rows = self.db.read(lambda tx: health.active(tx, node.id))
        return [(row["fault"], row["device"], row["confidence"]) for row in rows]

    def orders(self, node: Node) -> list[Any]:
        return list(self.db.read(lambda tx: orders.of_node(tx, node.id)))

    def answer(self, node: Node, verdict: Verdict = Verdict.PASSED, message: str = "", **measured: Any) -> None:
        results = tuple(OrderResult(one.id, verdict, message, measured) for one in self.orders(node))
        report = self.fleet._next(node.id, "boot-1", (), results=results)
        self.db.write(lambda tx: self.fleet._take(tx, node.id, report))
        self.run()

    def ends(self, verdict: str = "passed", only: str = "", message: str = "") -> None:
        """The scheduler's job has ended with this verdict for `only` (or all); the rest passed."""
        (one,) = self.cluster.runs.values()
        names = [text.split()[0] for text in one.run.command[3:] if not text.startswith("--")]
        checks = [
            {"name": name, "verdict": verdict if name == only or not only else "passed", "message": message}
            for name in names
            if not name.isdecimal()
        ]
        one.view = IdleView(IdlePhase.ENDED, json.dumps({"verdict": verdict, "checks": checks}), 0)
        self.run(30)


@pytest.fixture
def site(db: Database, clock: ManualClock, tmp_path: Path) -> Site:
    """Agents run the checks."""
    return Site(Fleet(db, clock, PauseFile(tmp_path / "pause")))


@pytest.fixture
def scheduled(db: Database, clock: ManualClock, tmp_path: Path) -> Site:
    """A scheduler runs them."""
    return Site(Fleet(db, clock, PauseFile(tmp_path / "pause"), cluster=FakeCluster()))


# By the agent ---------------------------------------------------------------------------------------------------------


def test_an_idle_node_is_checked_one_check_at_a_time_and_again_in_an_hour(site: Site) -> None:
    (node,) = site.add()
    site.sweep()
    (order,) = site.orders(node)
    assert order.arguments == {"check": "cpu-arith", "seconds": "1", "yields": "true"}
    site.answer(node)
    (order,) = site.orders(node)
    assert order.arguments["check"] == "memory-pattern"
    site.answer(node)
    assert site.outcomes(node) == [("cpu-arith", "passed"), ("memory-pattern", "passed"), (OUTCOME, "passed")]
    site.fleet.busy(node, False)
    site.sweep(1800)
    assert site.orders(node) == []
    site.fleet.clock.advance(1800)
    site.fleet.busy(node, False)
    site.sweep()
    assert len(site.orders(node)) == 1


@pytest.mark.parametrize("why", ["busy", "hands on", "pending", "silent", "cordoned", "fresh", "not in a pool of ours"])
def test_who_is_left_alone(site: Site, why: str) -> None:
    (node,) = site.add()
    match why:
        case "busy":
            site.fleet.busy(node, True)
        case "hands on":
            site.db.write(lambda tx: nodes.update(tx, node.id, {"maintenance_by": "person:kim"}))
        case "pending":
            site.db.write(lambda tx: nodes.update(tx, node.id, {"pending_state": State.REBOOT}))
        case "silent":
            site.fleet.clock.advance(61)
        case "cordoned":
            site.db.write(lambda tx: nodes.update(tx, node.id, {"cordoned": True}))
        case "fresh":
            site.db.write(lambda tx: nodes.update(tx, node.id, {"state_since": tx.now - 10}))
        case _:
            site.settings = VerificationSettings(pools=("other",), checks=SETTINGS.checks)
            site.__post_init__()
    site.sweep()
    assert site.orders(node) == []


def test_a_failure_counts_when_it_comes_twice(site: Site) -> None:
    (node,) = site.add()
    site.sweep()
    site.answer(node, Verdict.FAILED, "core 3 differs")
    site.answer(node)
    assert site.findings(node) == [("check-failed", "cpu-arith", "low")]
    assert site.fleet.state(node) is State.PRODUCTION
    (order,) = site.orders(node)
    assert order.arguments["check"] == "cpu-arith"  # only what failed, at once
    site.answer(node, Verdict.FAILED, "core 3 differs")
    assert site.findings(node)[0][2] == "high"
    site.run(60)
    site.run(60)
    assert site.fleet.state(node) is State.TRIAGE


def test_a_failure_that_does_not_come_again_was_an_odd_run(site: Site) -> None:
    (node,) = site.add()
    site.sweep()
    site.answer(node, Verdict.FAILED, "core 3 differs")
    site.answer(node)
    site.answer(node)
    assert site.findings(node) == []
    site.run(600)
    assert site.fleet.state(node) is State.PRODUCTION


def test_what_a_workload_stopped_is_inconclusive_and_ends_the_run(site: Site) -> None:
    (node,) = site.add()
    site.sweep()
    site.answer(node, Verdict.INCONCLUSIVE, "stopped: a workload came", stopped=True)
    assert site.orders(node) == []
    assert site.outcomes(node) == [
        ("cpu-arith", "inconclusive"),
        ("memory-pattern", "inconclusive"),
        (OUTCOME, "inconclusive"),
    ]
    assert site.findings(node) == []


def test_an_agent_that_may_not_run_checks_is_not_healthy(site: Site) -> None:
    (node,) = site.add()
    site.sweep()
    site.answer(node, Verdict.REFUSED, "this agent was not started with --allow run-check")
    assert site.outcomes(node)[-1] == (OUTCOME, "inconclusive")


def test_a_node_that_falls_ill_meanwhile_is_not_checked_on(site: Site) -> None:
    (node,) = site.add()
    site.sweep()
    site.db.write(lambda tx: nodes.update(tx, node.id, {"state": State.REBOOT}))
    site.answer(node)
    assert site.orders(node) == []
    assert site.outcomes(node)[-1] == (OUTCOME, "inconclusive")


def test_a_person_may_order_checks(site: Site) -> None:
    (node,) = site.add()
    site.fleet.busy(node, True)

    def order(*checks: str) -> str:
        return site.db.write(lambda tx: service.order(tx, node.id, checks, SETTINGS, actor=MARA))

    with pytest.raises(NotFound, match="flux"):
        order("flux")
    with pytest.raises(BadInput, match="takes no 'speed'"):
        order("cpu-arith speed=9")
    order("cpu-arith seconds=2")
    site.run()
    assert site.orders(node)[0].arguments["seconds"] == "2"
    site.db.write(lambda tx: nodes.update(tx, node.id, {"state": State.TEST}))
    with pytest.raises(Refused, match="checks of its own"):
        order()


# By the scheduler -----------------------------------------------------------------------------------------------------


def test_the_scheduler_runs_them_holding_every_gpu(scheduled: Site) -> None:
    (node,) = scheduled.add()
    gpus = {"gpus": [{"pci": f"0000:{n:02x}:00.0"} for n in range(8)]}
    scheduled.db.write(lambda tx: nodes.update(tx, node.id, {"inventory": gpus}))
    scheduled.sweep()
    (one,) = scheduled.cluster.runs.values()
    assert (one.run.node, one.run.gpus, one.run.grace_s) == (node.name, 8, 5)
    assert one.run.command[:5] == ("ostler", "checks", "run", "cpu-arith seconds=1", "memory-pattern")
    assert scheduled.orders(node) == []
    scheduled.ends()
    assert scheduled.outcomes(node)[-1] == (OUTCOME, "passed")
    assert scheduled.cluster.runs == {}


def test_preempted_is_inconclusive_and_never_passed(scheduled: Site) -> None:
    (node,) = scheduled.add()
    scheduled.sweep()
    (one,) = scheduled.cluster.runs.values()
    one.view = IdleView(IdlePhase.STOPPED, "preempted")
    scheduled.run(30)
    assert {verdict for _, verdict in scheduled.outcomes(node)} == {"inconclusive"}
    assert scheduled.findings(node) == []


def test_a_failure_is_confirmed_by_a_second_run(scheduled: Site) -> None:
    (node,) = scheduled.add()
    scheduled.sweep()
    scheduled.ends("failed", only="memory-pattern", message="bad word")
    assert scheduled.findings(node) == [("check-failed", "memory-pattern", "low")]
    (one,) = scheduled.cluster.runs.values()
    assert [text for text in one.run.command[3:] if not text.startswith("--") and not text.isdecimal()] == [
        "memory-pattern"
    ]
    scheduled.ends("failed", only="memory-pattern", message="bad word")
    assert scheduled.findings(node) == [("check-failed", "memory-pattern", "high")]


def test_a_run_that_never_starts_is_given_up(scheduled: Site) -> None:
    (node,) = scheduled.add()
    scheduled.sweep()
    scheduled.run(SETTINGS.limit_s + 60)
    assert scheduled.outcomes(node)[-1] == (OUTCOME, "inconclusive")
    assert scheduled.cluster.runs == {}


def test_a_node_that_others_hold_is_not_checked(scheduled: Site) -> None:
    (node,) = scheduled.add()
    scheduled.cluster.nodes[node.name].others = True
    scheduled.sweep()
    assert scheduled.outcomes(node)[-1] == (OUTCOME, "inconclusive")


def test_a_persons_choice_of_checks_does_not_put_off_the_hourly_run(site: Site) -> None:
    (node,) = site.add()
    site.db.write(lambda tx: service.order(tx, node.id, ["cpu-arith"], SETTINGS, actor=MARA))
    site.run()
    site.answer(node)
    assert site.outcomes(node) == [("cpu-arith", "passed")]
    site.fleet.busy(node, False)
    site.sweep()
    assert len(site.orders(node)) == 1
