"""The room `Checks`: how every node's last idle verification ended, and what did not pass. For `rooms.py`.

Outcomes are many (every check of every node, hourly), so each node's last run is looked up by the index on node and
time, and nothing is asked of the table as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ostler.console.model import Rules
from ostler.console.queries import position
from ostler.db.schema import job, node, outcome, slot
from ostler.db.tx import Tx
from ostler.nodes.model import State
from ostler.trends.model import Verdict
from ostler.verification.model import OUTCOME
from ostler.verification.service import PROCEDURE

SPAN = 24 * 3600.0
"""Seconds of domain time that the room looks back."""
MOST = 200
"""Nodes in the table of what did not pass."""


@dataclass(frozen=True)
class Run:
    """The last idle verification of one node."""

    at: float
    seconds: float
    node: str
    state: str
    rack: str
    pool: str
    verdict: str
    message: str
    checks: int | None
    passed: int | None


@dataclass(frozen=True)
class Checks:
    """The whole room. `counts`: verdict → nodes, each counted by its last run."""

    now: float
    position: int
    counts: Mapping[str, int]
    unchecked: int
    """Nodes in production without a run in the span."""
    running: int
    runs: Sequence[Run]
    more: int
    """Nodes that did not pass and are not listed."""
    passed: Sequence[Run]
    """The latest of those that did."""


def checks(tx: Tx, rules: Rules, asked: Mapping[str, str]) -> Checks:
    """Failed first, then inconclusive, the latest of each first."""
    last = (
        sa.select(outcome.c.id)
        .where(outcome.c.node_id == node.c.id, outcome.c.finished_at > tx.now - SPAN, outcome.c.name == OUTCOME)
        .order_by(outcome.c.finished_at.desc())
        .limit(1)
        .correlate(node)
        .scalar_subquery()
    )
    found = sa.select(node.c.id, node.c.state, last.label("outcome_id")).where(node.c.state != State.RETIRED.value)
    each = found.subquery()
    rows = tx.all(
        sa.select(each.c.state, outcome.c.verdict, outcome.c.id, outcome.c.finished_at).outerjoin(
            outcome, outcome.c.id == each.c.outcome_id
        )
    )
    order = {Verdict.FAILED: 0, Verdict.INCONCLUSIVE: 1}
    done = [row for row in rows if row["verdict"] is not None]
    bad = sorted(
        (row for row in done if row["verdict"] in order), key=lambda row: (order[row["verdict"]], -row["finished_at"])
    )
    good = sorted((row for row in done if row["verdict"] == Verdict.PASSED), key=lambda row: -row["finished_at"])
    return Checks(
        now=tx.now,
        position=position(tx),
        counts=Counter(row["verdict"] for row in done),
        unchecked=sum(row["verdict"] is None and row["state"] == State.PRODUCTION for row in rows),
        running=int(
            tx.scalar(sa.select(sa.func.count()).where(job.c.procedure == PROCEDURE, job.c.finished_at.is_(None))) or 0
        ),
        runs=_runs(tx, [row["id"] for row in bad[:MOST]]),
        more=max(0, len(bad) - MOST),
        passed=_runs(tx, [row["id"] for row in good[:10]]),
    )


def _runs(tx: Tx, ids: Sequence[str]) -> list[Run]:
    """These outcomes, in this order."""
    rows = tx.all(
        sa.select(outcome, node.c.name.label("node"), node.c.state, node.c.pool, slot.c.rack)
        .join(node, node.c.id == outcome.c.node_id)
        .outerjoin(slot, slot.c.name == node.c.slot)
        .where(outcome.c.id.in_(ids))
    )
    by_id = {
        row["id"]: Run(
            at=row["finished_at"],
            seconds=row["finished_at"] - row["started_at"],
            node=row["node"],
            state=row["state"],
            rack=row["rack"] or "",
            pool=row["pool"],
            verdict=row["verdict"],
            message=row["message"],
            checks=_whole(row["measured"], "checks"),
            passed=_whole(row["measured"], "passed"),
        )
        for row in rows
    }
    return [by_id[one] for one in ids]


def _whole(measured: Mapping[str, Any], name: str) -> int | None:
    value = measured.get(name)
    return value if isinstance(value, int) else None
