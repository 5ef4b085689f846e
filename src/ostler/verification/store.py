"""SQL about who may be checked and who is being checked. Called by `service.py` and `api.py`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from ostler.db.schema import finding, job, node, outcome
from ostler.db.tx import Tx
from ostler.faults.model import Action
from ostler.nodes.model import Service, State
from ostler.verification.model import OUTCOME, Candidate


def candidates(tx: Tx, pools: Collection[str], *, heard_since: float, settled_before: float) -> list[Candidate]:
    """Nodes in production that their agent calls idle, with nothing pending, no hands on them and no job of ours.

    Cordoned nodes are left alone: somebody has plans for them.
    """
    last = (
        sa.select(outcome.c.node_id, sa.func.max(outcome.c.finished_at).label("at"))
        .where(outcome.c.name == OUTCOME)
        .group_by(outcome.c.node_id)
        .subquery()
    )
    watched = (
        sa.select(finding.c.node_id, sa.func.count().label("count"))
        .where(finding.c.cleared_at.is_(None), finding.c.action == Action.WATCH.value, finding.c.component == "gpu")
        .group_by(finding.c.node_id)
        .subquery()
    )
    at_work = sa.select(job.c.subject).where(job.c.finished_at.is_(None))
    rows = tx.all(
        sa.select(node.c.id, node.c.pool, last.c.at, watched.c.count)
        .outerjoin(last, last.c.node_id == node.c.id)
        .outerjoin(watched, watched.c.node_id == node.c.id)
        .where(
            node.c.state == State.PRODUCTION.value,
            node.c.service == Service.MANAGED.value,
            node.c.pool.in_(list(pools)),
            node.c.busy.is_(False),
            node.c.pending_state.is_(None),
            node.c.maintenance_by.is_(None),
            sa.or_(node.c.cordoned.is_(None), node.c.cordoned.is_(False)),
            node.c.last_seen >= heard_since,
            node.c.state_since <= settled_before,
            node.c.id.not_in(at_work),
        )
        .order_by(node.c.id)
    )
    return [Candidate(row["id"], row["pool"], row["at"], row["count"] or 0) for row in rows]


def sizes(tx: Tx) -> dict[str, int]:
    """Pool → nodes in production."""
    rows = tx.all(
        sa.select(node.c.pool, sa.func.count().label("nodes"))
        .where(node.c.state == State.PRODUCTION.value)
        .group_by(node.c.pool)
    )
    return {row["pool"]: row["nodes"] for row in rows}


def running(tx: Tx, procedure: str) -> dict[str, int]:
    """Pool → runs under way."""
    rows = tx.all(
        sa.select(node.c.pool, sa.func.count().label("jobs"))
        .join(job, job.c.subject == node.c.id)
        .where(job.c.procedure == procedure, job.c.finished_at.is_(None))
        .group_by(node.c.pool)
    )
    return {row["pool"]: row["jobs"] for row in rows}


def outcomes(
    tx: Tx, *, node_id: str | None = None, name: str | None = None, after: str | None = None, limit: int = 100
) -> Sequence[sa.RowMapping]:
    """Outcomes of checks and firmware runs, newest first."""
    query = sa.select(outcome).order_by(outcome.c.id.desc()).limit(limit)
    if node_id is not None:
        query = query.where(outcome.c.node_id == node_id)
    if name is not None:
        query = query.where(outcome.c.name == name)
    if after is not None:
        query = query.where(outcome.c.id < after)
    return tx.all(query)
