"""SQL about boots as the agents' desk sees them: what of them is diagnosed, and what is held of each. For `desk.py`."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ostler.db.schema import agent_session, node
from ostler.db.tx import Tx


def unjudged(tx: Tx, limit: int = 50) -> list[str]:
    """Nodes with signals that are stored and not diagnosed yet, those that spoke longest ago first."""
    behind = agent_session.c.judged_seq < agent_session.c.last_seq
    rows = tx.all(sa.select(agent_session.c.node_id).where(behind).order_by(agent_session.c.last_seen).limit(limit))
    return list(dict.fromkeys(row["node_id"] for row in rows))


def judge_up(tx: Tx, node_id: str) -> bool:
    """Note that all of a node's signals are diagnosed; False if they were already."""
    behind = sa.and_(agent_session.c.node_id == node_id, agent_session.c.judged_seq < agent_session.c.last_seq)
    return tx.execute(agent_session.update().where(behind).values(judged_seq=agent_session.c.last_seq)).rowcount > 0


def present_boots(tx: Tx) -> Sequence[sa.RowMapping]:
    """Each node's present boot and what is held of it: `id, pool, sku, boot_id, last_seq`."""
    mine = sa.and_(agent_session.c.node_id == node.c.id, agent_session.c.boot_id == node.c.boot_id)
    columns = (node.c.id, node.c.pool, node.c.sku, node.c.boot_id, agent_session.c.last_seq)
    return tx.all(sa.select(*columns).join(agent_session, mine))
