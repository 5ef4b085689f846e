"""The rooms' statements on both databases: what they answer, and that their number does not grow with the fleet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from ostler.console import checks, maintenance, now, queries, rma, would_act
from ostler.console.model import Rules
from ostler.console.rooms import ROOMS
from ostler.core.errors import NotFound
from ostler.db.engine import Database
from tests.e2e import console_day2, console_fleet

RULES = Rules()


@pytest.fixture
def ids(db: Database) -> dict[str, str]:
    nodes = db.write(lambda tx: console_fleet.seed(tx, nodes=16, per_rack=8))
    found = db.write(lambda tx: console_day2.day(tx, nodes))
    return found | {f"node{number}": node_id for number, node_id in enumerate(nodes)}


def test_now(db: Database, ids: dict[str, str]) -> None:
    view = db.read(lambda tx: now.now(tx, RULES, {}))
    assert (view.ring_count, view.cause_count, view.gap_findings, view.held_nodes) == (6, 1, 4, 1)
    assert [(cause.where, cause.nodes, cause.findings) for cause in view.causes] == [("rack r01", 3, 3)]
    assert [(gap.fault, gap.pages, gap.nodes) for gap in view.gaps] == [
        ("xid-119", True, ("gpu-0008", "gpu-0009", "gpu-0010")),
        ("disk-slow", False, ("gpu-0010",)),
    ]
    assert [(held.node, held.action) for held in view.held] == [("gpu-0013", "reboot")]
    assert (view.work[0].node, view.work[0].stuck, view.work[0].draining) == ("gpu-0004", True, False)
    assert (view.work_count, view.drains, view.checking) == (3, 1, 1)
    assert [line.where for line in view.windows] == ["rack r01", "node gpu-0010", "node gpu-0015"]
    assert view.locked == ["gpu-0010"]


def test_a_decision_that_was_held_and_then_made_is_held_no_more(db: Database, ids: dict[str, str]) -> None:
    finding_id = db.read(lambda tx: console_day2.of_fault(tx, "xid-95"))
    db.write(lambda tx: console_day2.decision(tx, ids["node13"], finding_id, "act", at=tx.now))
    assert db.read(lambda tx: now.now(tx, RULES, {})).held == []


@pytest.mark.parametrize(
    ("asked", "groups"),
    [
        ({}, [("xid-119", 3, 3), ("xid-95", 1, 1), ("thermal-slowdown", 1, 0)]),
        ({"days": "1"}, [("xid-119", 3, 3), ("xid-95", 1, 1)]),
        ({"days": "30"}, [("xid-119", 3, 3), ("xid-95", 1, 1), ("thermal-slowdown", 1, 0), ("xid-62", 1, 0)]),
        ({"days": "nonsense", "pool": "inference"}, [("xid-119", 3, 3), ("xid-95", 1, 1), ("thermal-slowdown", 1, 0)]),
        ({"pool": "train"}, []),
    ],
)
def test_would_act(
    db: Database, ids: dict[str, str], asked: dict[str, str], groups: list[tuple[str, int, int]]
) -> None:
    view = db.read(lambda tx: would_act.report(tx, RULES, asked))
    assert [(group.fault, group.nodes, group.standing) for group in view.groups] == groups
    if groups:
        assert [one.node for one in view.groups[0].latest] == ["gpu-0008", "gpu-0009", "gpu-0010"]  # newest first
    assert [(pool.name, pool.observe_only, pool.nodes) for pool in view.pools] == [
        ("inference", True, 8),
        ("train", False, 8),
    ]


def test_maintenance_and_rma(db: Database, ids: dict[str, str]) -> None:
    view = db.read(lambda tx: maintenance.listed(tx, RULES, {}))
    assert [line.counts for line in view.current] == [[("waiting", 1), ("draining", 1), ("out", 6)]]
    assert [line.node for line in view.upcoming] == ["gpu-0010", "gpu-0015"]
    assert [line.window.summary for line in view.past] == ["clean the filters"]
    one = db.read(lambda tx: maintenance.one(tx, RULES, {"id": ids["window"]}))
    assert [(member.name, member.how) for member in one.members][1:4] == [
        ("gpu-0001", "draining"),
        ("gpu-0002", "waiting"),
        ("gpu-0003", "out"),
    ]
    cases = db.read(lambda tx: rma.listed(tx, RULES, {}))
    assert ([row["id"] for row in cases.opened], [row["id"] for row in cases.closed]) == (
        [ids["case"]],
        [ids["closed"]],
    )
    case = db.read(lambda tx: rma.one(tx, RULES, {"id": ids["case"]}))
    assert (case.node, [row["cause"] for row in case.tickets], [one.word for one in case.story]) == (
        "gpu-0010",
        ["replace gpu"],
        ["shipped"],
    )
    with pytest.raises(NotFound):
        db.read(lambda tx: rma.one(tx, RULES, {"id": "rma_none"}))


def test_checks(db: Database, ids: dict[str, str]) -> None:
    view = db.read(lambda tx: checks.checks(tx, RULES, {}))
    assert dict(view.counts) == {"passed": 9, "failed": 1, "inconclusive": 2}
    assert [run.node for run in view.runs] == ["gpu-0009", "gpu-0012", "gpu-0013"]
    assert view.unchecked == 2


def test_a_life_has_its_ladder_counted_by_serial_number(db: Database, ids: dict[str, str]) -> None:
    life = db.read(lambda tx: queries.life(tx, "gpu-0010"))
    assert {climb.fault: sum(rung.times for rung in climb.rungs) for climb in life.ladder} == {
        "xid-79": 0,
        "xid-119": 0,
        "disk-slow": 0,
        "xid-48": 2,
    }
    assert [row["fault"] for row in life.active] == ["xid-79", "xid-119", "disk-slow"]
    moved = {"gpus": [{"pci": "0000:9d:00.0", "serial": console_day2.GPU_SERIAL}]}
    db.write(lambda tx: console_day2.inventory(tx, ids["node12"], moved))
    (climb,) = db.read(lambda tx: queries.life(tx, "gpu-0012")).ladder  # the GPU brought its past along
    assert (climb.fault, climb.active, climb.says) == (
        "xid-48",
        False,
        "2 of 2 repairs in place within 7 d: the next time a person looks.",
    )


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.path)
def test_a_larger_fleet_costs_no_more_statements(sqlite_db: Database, room: Any) -> None:
    def cost() -> int:
        asked = {"id": found[{"rma": "case", "tickets": "ticket"}.get(room.key, "window")]}
        with _counted() as statements:
            sqlite_db.read(lambda tx: room.ask(tx, RULES, asked))
        return len(statements)

    nodes = sqlite_db.write(lambda tx: console_fleet.seed(tx, nodes=160, per_rack=8))
    found: Mapping[str, str] = sqlite_db.write(lambda tx: console_day2.day(tx, nodes[:16]))
    few = cost()
    _more(sqlite_db, nodes[16:])
    assert few == cost() <= 20


def _more(db: Database, nodes: list[str]) -> None:
    def write(tx: Any) -> None:
        console_day2.would_act(tx, nodes[:4])
        for node_id in nodes[4:40]:
            console_day2.held(tx, node_id)
        for start in range(40, 140, 10):
            console_day2.incident(tx, nodes[start : start + 3])
            console_day2.work(tx, nodes[start : start + 10])

    db.write(write)


@contextmanager
def _counted() -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            statements.append(statement)

    listen: Callable[..., None] = sa.event.listen
    listen(sa.engine.Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)
