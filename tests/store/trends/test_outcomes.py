"""Outcomes on both databases: what counts as passed is the latest run since a moment, and only if it passed."""

from __future__ import annotations

import pytest

from ostler.core.actor import Actor
from ostler.db.engine import Database
from ostler.nodes import service as nodes_service
from ostler.nodes.model import Node, Pool, State
from ostler.trends import service, store
from ostler.trends.model import Verdict

MARA = Actor("person:mara")


@pytest.fixture
def node(db: Database) -> Node:
    db.write(lambda tx: nodes_service.define_pool(tx, Pool("default"), actor=MARA))
    return db.write(
        lambda tx: nodes_service.register(
            tx, name="gpu-1", pool="default", actor=MARA, cause="x", state=State.PRODUCTION, serial="SN1"
        )
    )


def ran(db: Database, node: Node, name: str, verdict: Verdict, start: float, end: float) -> str:
    return db.write(
        lambda tx: service.record(tx, node, name, verdict, measured={"n": 1}, started_at=start, finished_at=end)
    )


@pytest.mark.parametrize(
    ("runs", "passed"),
    [
        ([], set()),
        ([(Verdict.PASSED, 10, 20)], {"test"}),
        ([(Verdict.PASSED, 9, 20)], set()),
        ([(Verdict.PASSED, 10, 20), (Verdict.FAILED, 30, 40)], set()),
        ([(Verdict.FAILED, 10, 20), (Verdict.PASSED, 30, 40)], {"test"}),
        ([(Verdict.PASSED, 10, 20), (Verdict.INCONCLUSIVE, 30, 40)], set()),
    ],
)
def test_passed_is_the_latest_run_since(
    db: Database, node: Node, runs: list[tuple[Verdict, float, float]], passed: set[str]
) -> None:
    for verdict, start, end in runs:
        ran(db, node, "test", verdict, start, end)
    assert db.read(lambda tx: service.passed_since(tx, node.id, 10.0)) == passed


def test_an_outcome_keeps_the_serial_number(db: Database, node: Node) -> None:
    ran(db, node, "test", Verdict.PASSED, 1, 2)
    ran(db, node, "seatrial", Verdict.FAILED, 3, 4)
    rows = db.read(lambda tx: store.of_node(tx, node.id))
    assert [(row["name"], row["serial"], row["verdict"]) for row in rows] == [
        ("seatrial", "SN1", "failed"),
        ("test", "SN1", "passed"),
    ]
