"""SQL about nodes, slots, pools, conditions, transitions and cordon holds. Called by services and readers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.core.errors import NotFound
from ostler.db.schema import condition, cordon_hold, node, node_mac, pool, sku, slot, transition
from ostler.db.tx import Tx
from ostler.nodes.model import Capability, Node, Pool, Service, Slot, State


def get(tx: Tx, name_or_id: str) -> Node:
    """A node by id, name, serial number or MAC. Raises `NotFound`."""
    row = tx.one(sa.select(node).where(node.c.id == name_or_id))
    if row is None:
        by_mac = sa.select(node_mac.c.node_id).where(node_mac.c.mac == name_or_id.lower()).scalar_subquery()
        row = tx.one(
            sa.select(node)
            .where(sa.or_(node.c.name == name_or_id, node.c.serial == name_or_id, node.c.id == by_mac))
            .order_by(sa.case((node.c.name == name_or_id, 0), (node.c.serial == name_or_id, 1), else_=2))
            .limit(1)
        )
    if row is None:
        raise NotFound(f"No node has the name, id, serial number or MAC '{name_or_id}'.")
    return _node(row, _macs(tx, [row["id"]]).get(row["id"], ()))


def locked(tx: Tx, node_id: str) -> Node:
    """A node by id, as it stands once every other transaction that holds it has ended; ours until this one ends."""
    row = tx.one(sa.select(node).where(node.c.id == node_id).with_for_update())
    if row is None:
        raise NotFound(f"No node has the id '{node_id}'.")
    return _node(row, _macs(tx, [node_id]).get(node_id, ()))


def find(tx: Tx, where: sa.ColumnElement[bool], *, limit: int | None = None) -> list[Node]:
    """Nodes that match, by name."""
    rows = tx.all(sa.select(node).where(where).order_by(node.c.name).limit(limit))
    macs = _macs(tx, [row["id"] for row in rows])
    return [_node(row, macs.get(row["id"], ())) for row in rows]


def by_mac(tx: Tx, macs: Iterable[str]) -> list[Node]:
    """Nodes that own any of these MACs (lower case)."""
    ids = sa.select(node_mac.c.node_id).where(node_mac.c.mac.in_(list(macs)))
    return find(tx, node.c.id.in_(ids))


def by_serial(tx: Tx, serial: str) -> Node | None:
    found = find(tx, node.c.serial == serial)
    return found[0] if found else None


def expected_gpus(tx: Tx, node_id: str) -> int:
    """How many GPUs a node's SKU declares; -1 when it has no SKU, or that one does not say."""
    spec = tx.scalar(sa.select(sku.c.spec).join(node, node.c.sku == sku.c.name).where(node.c.id == node_id))
    gpus = spec.get("gpus") if isinstance(spec, dict) else None
    return gpus if isinstance(gpus, int) else -1


def gpus_of_skus(tx: Tx) -> dict[str, int]:
    """SKU → how many GPUs it declares, of those that do."""
    rows = tx.all(sa.select(sku.c.name, sku.c.spec))
    return {row["name"]: row["spec"]["gpus"] for row in rows if isinstance(row["spec"].get("gpus"), int)}


def kinds(tx: Tx, node_ids: Iterable[str]) -> dict[str, str]:
    """Node → its SKU; for one without, the model of its first GPU: what it may be compared with."""
    rows = tx.all(sa.select(node.c.id, node.c.sku, node.c.inventory).where(node.c.id.in_(sorted(node_ids))))
    return {row["id"]: row["sku"] or _first_model(row["inventory"]) for row in rows}


def _first_model(inventory: object) -> str:
    gpus = inventory.get("gpus") if isinstance(inventory, dict) else None
    return str(gpus[0].get("model", "")) if isinstance(gpus, list) and gpus and isinstance(gpus[0], dict) else ""


def by_name(tx: Tx, name: str) -> Node | None:
    found = find(tx, node.c.name == name)
    return found[0] if found else None


def in_slot(tx: Tx, slot_name: str) -> list[Node]:
    return find(tx, node.c.slot == slot_name)


def in_states(tx: Tx, states: Iterable[State]) -> list[Node]:
    return find(tx, node.c.state.in_([state.value for state in states]))


def brief(tx: Tx) -> Sequence[sa.RowMapping]:
    """Who stands where, of every node but the retired: id, name, slot, state, service, busy, cordoned."""
    columns = (node.c.id, node.c.name, node.c.slot, node.c.state, node.c.service, node.c.busy, node.c.cordoned)
    return tx.all(sa.select(*columns).where(node.c.state != State.RETIRED).order_by(node.c.name))


def count(tx: Tx, where: sa.ColumnElement[bool] | None = None) -> int:
    query = sa.select(sa.func.count()).select_from(node)
    return int(tx.scalar(query if where is None else query.where(where)) or 0)


def insert(tx: Tx, values: Mapping[str, Any], macs: Iterable[str] = ()) -> None:
    tx.execute(node.insert().values(**values))
    add_macs(tx, values["id"], macs)


def add_macs(tx: Tx, node_id: str, macs: Iterable[str]) -> None:
    rows = [{"mac": mac, "node_id": node_id} for mac in dict.fromkeys(macs)]
    if rows:
        tx.execute(node_mac.insert(), rows)


def update(tx: Tx, node_id: str, values: Mapping[str, Any]) -> None:
    """Change a node and raise its revision."""
    tx.execute(node.update().where(node.c.id == node_id).values(revision=node.c.revision + 1, **values))


def touch(tx: Tx, seen: Sequence[Mapping[str, Any]]) -> None:
    """Heartbeats in bulk: rows of `{node, at, is_busy}`; `is_busy` None: nobody could say, so what is known stays.

    A later word of another replica stands. No revision, no ledger: a healthy fleet writes nothing else.
    """
    at: sa.BindParameter[float] = sa.bindparam("at", type_=sa.Double())
    statement = (
        node.update()
        .where(node.c.id == sa.bindparam("node"), sa.or_(node.c.last_seen.is_(None), node.c.last_seen <= at))
        .values(last_seen=at, busy=sa.func.coalesce(sa.bindparam("is_busy", type_=sa.Boolean()), node.c.busy))
    )
    tx.execute(statement, sorted(seen, key=lambda row: str(row["node"])))  # one order of locks for every replica


# Conditions -----------------------------------------------------------------------------------------------------------


def conditions(tx: Tx, node_ids: Sequence[str] | None = None, *, past: bool = False) -> Sequence[sa.RowMapping]:
    """Conditions, active ones only unless `past`, oldest first."""
    query = sa.select(condition).order_by(condition.c.since)
    if node_ids is not None:
        query = query.where(condition.c.node_id.in_(node_ids))
    if not past:
        query = query.where(condition.c.until.is_(None))
    return tx.all(query)


def active_condition(tx: Tx, node_id: str, type_: str) -> sa.RowMapping | None:
    return tx.one(
        sa.select(condition).where(
            condition.c.node_id == node_id, condition.c.type == type_, condition.c.until.is_(None)
        )
    )


def insert_condition(tx: Tx, values: Mapping[str, Any]) -> None:
    tx.execute(condition.insert().values(**values))


def update_condition(tx: Tx, condition_id: str, values: Mapping[str, Any]) -> None:
    tx.execute(condition.update().where(condition.c.id == condition_id).values(**values))


# Transitions ----------------------------------------------------------------------------------------------------------


def insert_transition(tx: Tx, values: Mapping[str, Any]) -> None:
    tx.execute(transition.insert().values(**values))


def transitions(tx: Tx, *, node_id: str | None = None, serial: str | None = None) -> Sequence[sa.RowMapping]:
    """The record of states, oldest first: of a node, or of a serial number through every node it was."""
    query = sa.select(transition).order_by(transition.c.at, transition.c.id)
    if node_id is not None:
        query = query.where(transition.c.node_id == node_id)
    if serial is not None:
        query = query.where(transition.c.serial == serial)
    return tx.all(query)


# Cordon ---------------------------------------------------------------------------------------------------------------


def put_hold(tx: Tx, node_id: str, holder: str, reason: str, actor: str) -> bool:
    """Note why a node should be cordoned; True if this holder had no hold yet."""
    changed = tx.execute(
        cordon_hold.update()
        .where(cordon_hold.c.node_id == node_id, cordon_hold.c.holder == holder)
        .values(reason=reason, actor=actor)
    )
    if changed.rowcount:
        return False
    tx.execute(cordon_hold.insert().values(node_id=node_id, holder=holder, reason=reason, actor=actor, since=tx.now))
    return True


def drop_hold(tx: Tx, node_id: str, holder: str) -> bool:
    gone = tx.execute(cordon_hold.delete().where(cordon_hold.c.node_id == node_id, cordon_hold.c.holder == holder))
    return gone.rowcount > 0


def holds(tx: Tx, node_ids: Sequence[str] | None = None) -> Sequence[sa.RowMapping]:
    query = sa.select(cordon_hold).order_by(cordon_hold.c.since)
    return tx.all(query if node_ids is None else query.where(cordon_hold.c.node_id.in_(node_ids)))


def cordon_drift(
    tx: Tx, pools: Sequence[str], granted: Sequence[str], *, stale_before: float, unknown_before: float, limit: int
) -> Sequence[sa.RowMapping]:
    """Nodes of these pools whose cluster does not do what the holds want, or was not asked for long.

    Held nodes of the pools in `granted`, and those that a person holds, should be cordoned (`wanted`). What is not
    granted is no drift, so it is asked about no more often than anything else; nor is a node that the cluster did not
    know, until `unknown_before`. Drift first, then what was looked at longest ago: nothing can keep others waiting.
    """
    held = (
        sa.select(
            cordon_hold.c.node_id,
            sa.func.min(cordon_hold.c.reason).label("reason"),
            sa.func.max(sa.case((cordon_hold.c.holder == "person", 1), else_=0)).label("by_person"),
        )
        .group_by(cordon_hold.c.node_id)
        .subquery()
    )
    # One query per reason, each by an index of its own: together they would read the whole fleet every second.
    is_held = held.c.node_id.is_not(None)
    wanted = sa.and_(is_held, sa.or_(held.c.by_person == 1, node.c.pool.in_(granted)))
    # Hidden from the planner, which would read a whole pool by its index: most fleets are one pool.
    of_pools = sa.func.coalesce(node.c.pool, "").in_(pools)
    looked, not_retired = node.c.cordon_checked_at, node.c.state != State.RETIRED.value
    to_put = (wanted, node.c.cordoned.is_(False))
    to_lift = (~is_held, node.c.cordoned.is_(True))
    never_known = (node.c.cordoned.is_(None), looked.is_(None))
    unknown = (node.c.cordoned.is_(None), looked < unknown_before)
    stale = (looked < stale_before, not_retired)
    never_asked = (looked.is_(None), not_retired)
    columns = (node.c.id, node.c.name, is_held.label("held"), wanted.label("wanted"), held.c.reason, looked)
    of_held, of_all = held.join(node, held.c.node_id == node.c.id), node.outerjoin(held, held.c.node_id == node.c.id)

    def rows(*cases: tuple[sa.ColumnElement[bool], ...], room: int) -> list[sa.RowMapping]:
        found: dict[str, sa.RowMapping] = {}
        for case in cases if room > 0 else ():
            query = sa.select(*columns).select_from(of_held if case is to_put else of_all)
            query = query.where(of_pools, *case).order_by(looked, node.c.id).limit(room)
            found |= {row["id"]: row for row in tx.all(query)}
        return sorted(found.values(), key=lambda row: (row["cordon_checked_at"] or 0.0, row["id"]))[:room]

    drifted = rows(to_put, to_lift, room=limit)
    known = {row["id"] for row in drifted}
    rest = rows(never_known, never_asked, unknown, stale, room=limit - len(drifted))
    return [*drifted, *(row for row in rest if row["id"] not in known)]


def note_cordoned(tx: Tx, node_ids: Sequence[str], cordoned: bool | None, *, looked_ago: float = 0.0) -> None:
    """What the cluster said about our cordon; None: it does not know the node. `looked_ago` makes it stale sooner."""
    if node_ids:
        looked = tx.now - looked_ago
        tx.execute(node.update().where(node.c.id.in_(node_ids)).values(cordoned=cordoned, cordon_checked_at=looked))


# Slots and pools ------------------------------------------------------------------------------------------------------


def get_slot(tx: Tx, name: str) -> Slot | None:
    row = tx.one(sa.select(slot).where(slot.c.name == name))
    return None if row is None else Slot(**row)


def slots(tx: Tx, names: Iterable[str] | None = None) -> dict[str, Slot]:
    """Slots by name: all of them, or those of these names."""
    query = sa.select(slot) if names is None else sa.select(slot).where(slot.c.name.in_(list(names)))
    return {row["name"]: Slot(**row) for row in tx.all(query)}


def put_slot(tx: Tx, value: Slot) -> None:
    fields = {
        "site": value.site,
        "row": value.row,
        "rack": value.rack,
        "unit": value.unit,
        "domains": dict(value.domains),
        "network": dict(value.network),
    }
    if not tx.execute(slot.update().where(slot.c.name == value.name).values(**fields)).rowcount:
        tx.execute(slot.insert().values(name=value.name, **fields))


def get_pool(tx: Tx, name: str) -> Pool:
    row = tx.one(sa.select(pool).where(pool.c.name == name))
    if row is None:
        raise NotFound(f"No pool is called '{name}'.")
    return _pool(row)


def pools(tx: Tx) -> list[Pool]:
    return [_pool(row) for row in tx.all(sa.select(pool).order_by(pool.c.name))]


def put_pool(tx: Tx, value: Pool) -> None:
    fields = {
        "capabilities": sorted(value.capabilities),
        "auto_certify": value.auto_certify,
        "cluster": value.cluster,
    }
    if not tx.execute(pool.update().where(pool.c.name == value.name).values(**fields)).rowcount:
        tx.execute(pool.insert().values(name=value.name, created_at=tx.now, **fields))


# Rows to values -------------------------------------------------------------------------------------------------------


def _macs(tx: Tx, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for row in tx.all(sa.select(node_mac).where(node_mac.c.node_id.in_(ids)).order_by(node_mac.c.mac)):
        found[row["node_id"]] = (*found.get(row["node_id"], ()), row["mac"])
    return found


def _node(row: sa.RowMapping, macs: tuple[str, ...]) -> Node:
    values = {name: row[name] for name in Node.__dataclass_fields__ if name != "macs"}
    values["state"] = State(row["state"])
    values["pending_state"] = None if row["pending_state"] is None else State(row["pending_state"])
    values["service"] = Service(row["service"])
    return Node(**values, macs=macs)


def _pool(row: sa.RowMapping) -> Pool:
    return Pool(
        row["name"],
        frozenset(Capability(name) for name in row["capabilities"]),
        row["auto_certify"],
        row["cluster"],
    )
