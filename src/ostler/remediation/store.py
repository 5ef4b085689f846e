"""SQL about decisions. Called by this feature and by `why`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.db.schema import decision, finding
from ostler.db.tx import Tx
from ostler.remediation.model import Verdict
from ostler.remediation.policy import IN_PLACE


def insert(tx: Tx, values: Mapping[str, Any]) -> None:
    tx.execute(decision.insert().values(**values))


def last_about(tx: Tx, finding_id: str) -> sa.RowMapping | None:
    """The latest decision about a finding."""
    return tx.one(
        sa.select(decision)
        .where(decision.c.finding_id == finding_id)
        .order_by(decision.c.at.desc(), decision.c.id.desc())
        .limit(1)
    )


def of_node(tx: Tx, node_id: str, *, limit: int = 100) -> Sequence[sa.RowMapping]:
    """A node's decisions, newest first."""
    return tx.all(
        sa.select(decision)
        .where(decision.c.node_id == node_id)
        .order_by(decision.c.at.desc(), decision.c.id.desc())
        .limit(limit)
    )


def listed(
    tx: Tx, *, verdict: Verdict | None = None, after: str | None = None, limit: int = 100
) -> Sequence[sa.RowMapping]:
    """Decisions, newest first: with `would-act`, the report of what Ostler would have done."""
    query = sa.select(decision).order_by(decision.c.id.desc()).limit(limit)
    if verdict is not None:
        query = query.where(decision.c.verdict == verdict.value)
    if after is not None:
        query = query.where(decision.c.id < after)
    return tx.all(query)


def repairs(tx: Tx, node_id: str, since: float) -> dict[str, int]:
    """Fault → how often it was repaired in place on this node since a moment."""
    rows = tx.all(
        sa.select(finding.c.fault, sa.func.count().label("times"))
        .join(decision, decision.c.finding_id == finding.c.id)
        .where(
            decision.c.node_id == node_id,
            decision.c.verdict == Verdict.ACT.value,
            decision.c.action.in_([action.value for action in IN_PLACE]),
            decision.c.at >= since,
        )
        .group_by(finding.c.fault)
    )
    return {row["fault"]: row["times"] for row in rows}
