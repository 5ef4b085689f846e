"""What the server asks of agents, and what came of it. Given by `remediation` and `acceptance`, carried by `desk.py`.

An order is sent with every answer until its result has arrived; the agent runs it once. One that passes its deadline is
`inconclusive`, whether the node is silent or slow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ostler.core.ids import new_id
from ostler.db.schema import agent_order
from ostler.db.tx import Tx
from ostler.jobs import store as jobs
from ostler.wire.agent import Order, OrderResult, Verdict


@dataclass(frozen=True)
class OrderOutcome:
    """What came of an order. Times are domain seconds by the server's clock."""

    verdict: Verdict
    measured: Mapping[str, Any]
    message: str
    given_at: float
    finished_at: float
    answered: bool = True
    """False: the agent has not answered and the deadline is over."""


def give(
    tx: Tx, node_id: str, verb: str, arguments: Mapping[str, Any], *, deadline: float, wake_key: str | None = None
) -> str:
    """Ask a node's agent for something until `deadline` (domain time); its result wakes the job with `wake_key`."""
    order_id = new_id("order")
    tx.execute(
        agent_order.insert().values(
            id=order_id,
            node_id=node_id,
            verb=verb,
            arguments=dict(arguments),
            wake_key=wake_key,
            given_at=tx.now,
            deadline=deadline,
            measured={},
        )
    )
    return order_id


def result(tx: Tx, order_id: str) -> OrderOutcome | None:
    """What came of an order, or None while it is out. Past its deadline it is inconclusive."""
    row = tx.one(sa.select(agent_order).where(agent_order.c.id == order_id))
    if row is None:
        return None
    if row["finished_at"] is None:
        if tx.now <= row["deadline"]:
            return None
        return OrderOutcome(
            Verdict.INCONCLUSIVE, {}, "no answer before the deadline", row["given_at"], tx.now, answered=False
        )
    return OrderOutcome(Verdict(row["verdict"]), row["measured"], row["message"], row["given_at"], row["finished_at"])


def outstanding(tx: Tx) -> frozenset[str]:
    """Nodes that have an order to be told: read once a second, so that a heartbeat costs no query."""
    rows = tx.all(
        sa.select(agent_order.c.node_id)
        .where(agent_order.c.finished_at.is_(None), agent_order.c.deadline >= tx.now)
        .distinct()
    )
    return frozenset(row["node_id"] for row in rows)


def of_node(tx: Tx, node_id: str) -> tuple[Order, ...]:
    """The orders a node has not answered yet, as they go over the wire."""
    rows = tx.all(
        sa.select(agent_order)
        .where(agent_order.c.node_id == node_id, agent_order.c.finished_at.is_(None), agent_order.c.deadline >= tx.now)
        .order_by(agent_order.c.given_at)
        .limit(16)
    )
    return tuple(Order(row["id"], row["verb"], row["arguments"], max(row["deadline"] - tx.now, 0.1)) for row in rows)


ENDS_BOOT = "reboot"
"""The verb whose success is that the node comes up under another boot id."""


def booted(tx: Tx, node_id: str) -> None:
    """The node came up under another boot id: what was to end the former boot has done so.

    The agent would say so itself, but a node that boots from the network has forgotten what it was asked.
    """
    done = tx.all(
        agent_order.update()
        .where(
            agent_order.c.node_id == node_id,
            agent_order.c.verb == ENDS_BOOT,
            agent_order.c.finished_at.is_(None),
        )
        .values(verdict=Verdict.PASSED, message="the node came up under another boot id", finished_at=tx.now)
        .returning(agent_order.c.wake_key)
    )
    for row in done:
        if row["wake_key"] is not None:
            jobs.wake(tx, key=row["wake_key"])


def settle(tx: Tx, node_id: str, results: Sequence[OrderResult]) -> None:
    """Keep results, the first one of each order, and wake who waits for them."""
    for one in results:
        row = tx.one(
            agent_order.update()
            .where(
                agent_order.c.id == one.order_id,
                agent_order.c.node_id == node_id,
                agent_order.c.finished_at.is_(None),
            )
            .values(
                verdict=one.verdict,
                measured=dict(one.measured),
                message=one.message,
                started_at=one.started_at,
                finished_at=tx.now,
            )
            .returning(agent_order.c.wake_key)
        )
        if row is not None and row["wake_key"] is not None:
            jobs.wake(tx, key=row["wake_key"])
