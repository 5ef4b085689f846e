"""SQL about SKUs, nodes of Day 1 and their last transition; no decisions. Called by this folder only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.acceptance import sku as documents
from ostler.acceptance.model import Sku
from ostler.core.errors import NotFound
from ostler.db.schema import condition, job, node, outcome, pool, sku, transition
from ostler.db.tx import Tx
from ostler.nodes import store as nodes
from ostler.nodes.model import Condition, Node, State


def find_sku(tx: Tx, name: str | None) -> Sku | None:
    """A SKU by name; None when there is none, or no name."""
    if name is None:
        return None
    row = tx.one(sa.select(sku).where(sku.c.name == name))
    return None if row is None else documents.parse(row["name"], row["spec"])


def get_sku(tx: Tx, name: str) -> Sku:
    """A SKU by name. Raises `NotFound`."""
    if (found := find_sku(tx, name)) is None:
        raise NotFound(f"No SKU is called '{name}'.")
    return found


def skus(tx: Tx) -> list[Sku]:
    return [documents.parse(row["name"], row["spec"]) for row in tx.all(sa.select(sku).order_by(sku.c.name))]


def put_sku(tx: Tx, value: Sku) -> None:
    fields = {"spec": documents.document(value), "updated_at": tx.now}
    if not tx.execute(sku.update().where(sku.c.name == value.name).values(**fields)).rowcount:
        tx.execute(sku.insert().values(name=value.name, **fields))


def may_leave_onboard(tx: Tx, *, limit: int) -> list[Node]:
    """Nodes in onboard that are certified, or whose pool does without."""
    certified = _active(Condition.CERTIFIED)
    automatic = node.c.pool.in_(sa.select(pool.c.name).where(pool.c.auto_certify))
    return nodes.find(tx, sa.and_(node.c.state == State.ONBOARD.value, sa.or_(certified, automatic)), limit=limit)


def without_job(tx: Tx, states: Sequence[State], prefix: str, *, limit: int) -> list[Node]:
    """Nodes in these states for which no unfinished job has the key `prefix` + node id."""
    worked_on = sa.select(job.c.id).where(job.c.key == sa.literal(prefix) + node.c.id, job.c.finished_at.is_(None))
    in_state = node.c.state.in_([state.value for state in states])
    return nodes.find(tx, sa.and_(in_state, ~worked_on.exists()), limit=limit)


def overdue(tx: Tx, states: Sequence[State], *, limit: int) -> list[Node]:
    """Nodes that have been in one of these states for longer than it may last, and were not called `Overdue` yet."""
    called = _active(Condition.OVERDUE)
    late = sa.and_(node.c.state.in_([state.value for state in states]), node.c.state_deadline < tx.now, ~called)
    return nodes.find(tx, late, limit=limit)


def last_transition(tx: Tx, node_id: str) -> sa.RowMapping | None:
    """How the node came into its present state."""
    return tx.one(
        sa.select(transition)
        .where(transition.c.node_id == node_id)
        .order_by(transition.c.at.desc(), transition.c.id.desc())
        .limit(1)
    )


def live_job(tx: Tx, key: str) -> sa.RowMapping | None:
    return tx.one(sa.select(job).where(job.c.key == key, job.c.finished_at.is_(None)))


def last_measured(tx: Tx, node_id: str, names: Sequence[str]) -> Mapping[str, Any]:
    """What the latest outcome of one of these names measured; empty when there is none."""
    row = tx.one(
        sa.select(outcome.c.measured)
        .where(outcome.c.node_id == node_id, outcome.c.name.in_(names))
        .order_by(outcome.c.finished_at.desc(), outcome.c.id.desc())
        .limit(1)
    )
    measured: Mapping[str, Any] = {} if row is None else row["measured"]
    return measured


def _active(type_: Condition) -> sa.ColumnElement[bool]:
    """The node has this condition now."""
    return (
        sa.select(condition.c.id)
        .where(condition.c.node_id == node.c.id, condition.c.type == type_.value, condition.c.until.is_(None))
        .exists()
    )
