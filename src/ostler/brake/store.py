"""SQL about permits and pauses. Called by `brake/service.py` and `brake/guard.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from ostler.brake.model import DEFAULT_RULES, Live, Rule
from ostler.db.schema import brake_rule, node, pause, permit, slot
from ostler.db.tx import Tx
from ostler.nodes.model import State

FIRMWARE = "firmware"
"""The action of permits under which nodes are flashed."""

_SERVING = (State.PRODUCTION.value, State.REBOOT.value)


def insert(tx: Tx, values: Mapping[str, Any]) -> None:
    tx.execute(permit.insert().values(**values))


def get(tx: Tx, permit_id: str) -> sa.RowMapping | None:
    return tx.one(sa.select(permit).where(permit.c.id == permit_id))


def release(tx: Tx, permit_id: str) -> bool:
    return (
        tx.execute(
            permit.update().where(permit.c.id == permit_id, permit.c.released_at.is_(None)).values(released_at=tx.now)
        ).rowcount
        > 0
    )


def extend(tx: Tx, permit_id: str, until: float) -> None:
    """A permit counts until then, also one that had run out."""
    tx.execute(permit.update().where(permit.c.id == permit_id).values(expires_at=until, released_at=None))


def release_expired(tx: Tx) -> Sequence[str]:
    """Permits whose holder went away; their nodes stop counting."""
    return [
        row["id"]
        for row in tx.execute(
            permit.update()
            .where(permit.c.released_at.is_(None), permit.c.expires_at < tx.now)
            .values(released_at=tx.now)
            .returning(permit.c.id)
        ).mappings()
    ]


def live_of_node(tx: Tx, node_id: str) -> sa.RowMapping | None:
    """The permit that a node holds now, if any."""
    return tx.one(
        sa.select(permit)
        .where(permit.c.node_id == node_id, permit.c.released_at.is_(None), permit.c.expires_at >= tx.now)
        .order_by(permit.c.granted_at.desc())
        .limit(1)
    )


def live_workloads(tx: Tx) -> frozenset[str]:
    """The jobs of users that permits are out for now."""
    live = sa.and_(permit.c.released_at.is_(None), permit.c.expires_at >= tx.now, permit.c.workload.is_not(None))
    return frozenset(row["workload"] for row in tx.all(sa.select(permit.c.workload).where(live).distinct()))


def flashing(tx: Tx, node_id: str) -> bool:
    """Whether somebody holds the right to flash this node now (`acceptance/zap.py`)."""
    live = sa.and_(permit.c.released_at.is_(None), permit.c.expires_at >= tx.now)
    query = sa.select(permit.c.id).where(permit.c.node_id == node_id, permit.c.action == FIRMWARE, live)
    return tx.one(query.limit(1)) is not None


def counting(tx: Tx, since: float) -> list[Live]:
    """Permits not yet released, or granted after `since`."""
    rows = tx.all(
        sa.select(permit).where(
            sa.or_(sa.and_(permit.c.released_at.is_(None), permit.c.expires_at >= tx.now), permit.c.granted_at > since)
        )
    )
    return [
        Live(
            unit=row["workload"] or row["node_id"],
            groups=row["groups"],
            granted_at=row["granted_at"],
            released=row["released_at"] is not None or row["expires_at"] < tx.now,
        )
        for row in rows
    ]


def listed(tx: Tx, *, live_only: bool, limit: int = 200) -> Sequence[sa.RowMapping]:
    query = sa.select(permit).order_by(permit.c.granted_at.desc()).limit(limit)
    if live_only:
        query = query.where(permit.c.released_at.is_(None), permit.c.expires_at >= tx.now)
    return tx.all(query)


def group_sizes(tx: Tx, groups: Mapping[str, str]) -> dict[str, int]:
    """How many serving nodes stand in each of these groups."""
    serving = node.c.state.in_(_SERVING)
    sizes: dict[str, int] = {}
    for kind, name in groups.items():
        query = sa.select(sa.func.count()).select_from(node).where(serving)
        if kind == "sku":
            query = query.where(node.c.sku == name)
        elif kind != "fleet":
            places = sa.select(slot.c.name).where(slot.c.domains[kind].as_string() == name)
            if tx.dialect == "sqlite":  # a look for the name's bytes first: reading the JSON of every slot takes long
                places = places.where(sa.func.instr(sa.type_coerce(slot.c.domains, sa.String), json.dumps(name)) > 0)
            # By the slots' index: the state is hidden from the planner, which would begin with the whole fleet by it.
            serving_there = sa.func.coalesce(node.c.state, "").in_(_SERVING)
            query = sa.select(sa.func.count()).select_from(node).where(node.c.slot.in_(places), serving_there)
        sizes[kind] = int(tx.scalar(query) or 0)
    return sizes


def group_exists(tx: Tx, kind: str, name: str) -> bool:
    """Whether any slot (or, for `sku`, any node) belongs to a group."""
    where = node.c.sku == name if kind == "sku" else slot.c.domains[kind].as_string() == name
    table = node if kind == "sku" else slot
    return tx.scalar(sa.select(sa.literal(1)).select_from(table).where(where).limit(1)) is not None


def rules(tx: Tx) -> tuple[Rule, ...]:
    """The limits in force: those a person set, or the defaults."""
    rows = tx.all(sa.select(brake_rule).order_by(brake_rule.c.group))
    return tuple(Rule(**row) for row in rows) or DEFAULT_RULES


def put_rules(tx: Tx, rules: Sequence[Rule]) -> None:
    tx.execute(brake_rule.delete())
    tx.execute(brake_rule.insert(), [asdict(rule) for rule in rules])


def insert_pause(tx: Tx, values: Mapping[str, Any]) -> None:
    tx.execute(pause.insert().values(**values))


def pauses(tx: Tx, scopes: Sequence[str] | None = None) -> Sequence[sa.RowMapping]:
    """Pauses in force, oldest first; only of these scopes if given."""
    query = sa.select(pause).where(pause.c.lifted_at.is_(None), sa.or_(pause.c.until.is_(None), pause.c.until > tx.now))
    if scopes is not None:
        query = query.where(pause.c.scope.in_(scopes))
    return tx.all(query.order_by(pause.c.since))


def lift_by(tx: Tx, scope: str, paused_by: str) -> None:
    """Lift only the pauses that this actor set."""
    mine = sa.and_(pause.c.scope == scope, pause.c.actor == paused_by, pause.c.lifted_at.is_(None))
    tx.execute(pause.update().where(mine).values(lifted_at=tx.now, lifted_by=paused_by))


def lift(tx: Tx, scope: str, actor: str) -> int:
    return tx.execute(
        pause.update()
        .where(pause.c.scope == scope, pause.c.lifted_at.is_(None))
        .values(lifted_at=tx.now, lifted_by=actor)
    ).rowcount
