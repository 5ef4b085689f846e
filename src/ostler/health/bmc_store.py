"""SQL about what the out-of-band watch remembers: which nodes it watches, how far it has read. For `bmc_watch.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.db import lease
from ostler.db.schema import bmc_watch, finding, node
from ostler.db.tx import Tx
from ostler.nodes.model import State

UNWATCHED = (State.RMA.value, State.RETIRED.value)
"""In these the chassis is not in the rack."""


def watched(tx: Tx) -> Sequence[sa.RowMapping]:
    """Nodes with a BMC: what the watch must know of each, and how far it was read."""
    return tx.all(
        sa.select(
            node.c.id,
            node.c.bmc_address,
            node.c.bmc_secret,
            node.c.state,
            node.c.state_since,
            node.c.maintenance_by,
            node.c.power_locked,
            bmc_watch.c.position,
            bmc_watch.c.failures,
        )
        .outerjoin(bmc_watch, bmc_watch.c.node_id == node.c.id)
        .where(node.c.bmc_address.is_not(None), node.c.bmc_address != "", node.c.state.not_in(UNWATCHED))
        .order_by(node.c.id)
    )


_NEW = {"position": "", "failures": 0, "firmware": {}, "inventory": {}}


def parts(tx: Tx, node_id: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """A BMC's firmware and inventory as last read; empty when it never was."""
    row = tx.one(sa.select(bmc_watch.c.firmware, bmc_watch.c.inventory).where(bmc_watch.c.node_id == node_id))
    return ({}, {}) if row is None else (row["firmware"] or {}, row["inventory"] or {})


def put(tx: Tx, node_id: str, values: Mapping[str, Any]) -> None:
    """What was read of a BMC."""
    lease.insert_ignore(tx, bmc_watch, _NEW | {"node_id": node_id})
    if values:
        tx.execute(bmc_watch.update().where(bmc_watch.c.node_id == node_id).values(**values))


def advance(tx: Tx, node_id: str, before: str, position: str) -> bool:
    """Move on in a BMC's log; False when another replica has, and reported what stands there."""
    mine = sa.and_(bmc_watch.c.node_id == node_id, bmc_watch.c.position == before)
    return tx.execute(bmc_watch.update().where(mine).values(position=position)).rowcount == 1


def answered(tx: Tx, times: Mapping[str, float]) -> None:
    """When BMCs last answered, in bulk."""
    at: sa.BindParameter[float] = sa.bindparam("at", type_=sa.Double())
    statement = bmc_watch.update().where(bmc_watch.c.node_id == sa.bindparam("node")).values(polled_at=at)
    tx.execute(statement, [{"node": node_id, "at": times[node_id]} for node_id in sorted(times)])


def silent(tx: Tx) -> Sequence[sa.RowMapping]:
    """Active findings of silent BMCs that no incident explains."""
    return tx.all(
        sa.select(finding).where(
            finding.c.fault == "bmc-silent", finding.c.cleared_at.is_(None), finding.c.incident_id.is_(None)
        )
    )
