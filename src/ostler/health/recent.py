"""SQL: what was lately said of a node, as diagnosis reads it. Called by `intake.py`."""

from __future__ import annotations

import sqlalchemy as sa

from ostler.db.schema import signal
from ostler.db.tx import Tx
from ostler.faults.model import Action, Severity
from ostler.health.model import Observed


def observed(tx: Tx, node_id: str, boot_id: str, since: float, limit: int) -> list[Observed]:
    """A node's signals since a moment: of one boot, and what the server's own watchers (`@bmc`, …) saw of the node.

    In the order of their arrival; within one boot that is the order of their making. Of more than `limit` the newest.
    """
    stream = sa.or_(signal.c.boot_id == boot_id, sa.and_(signal.c.boot_id >= "@", signal.c.boot_id < "A"))
    rows = tx.all(
        sa.select(signal)
        .where(signal.c.node_id == node_id, stream, signal.c.received_at >= since)
        .order_by(signal.c.received_at.desc(), signal.c.boot_id.desc(), signal.c.seq.desc())
        .limit(limit)
    )
    return [
        Observed(
            seq=row["seq"],
            kind=row["kind"],
            code=row["code"],
            device=row["device"],
            component=row["component"],
            severity=Severity(row["severity"]),
            action=Action(row["action"]),
            message=row["message"],
            received_at=row["received_at"],
            workflow=str(row["detail"].get("workflow", "")),
            recovery=str(row["detail"].get("recovery", "")),
            repeats=_whole(row["detail"].get("repeats")),
            source=row["source"],
            monitor=str(row["detail"].get("monitor", "")),
            over=row["detail"].get("over") is True,
            standing=_names(row["detail"].get("standing")),
            link=str(row["detail"].get("link", "")),
            decoded=str(row["detail"].get("class", "")),
        )
        for row in reversed(rows)
    ]


def kinds_said(tx: Tx, node_id: str, boot_id: str, since: float) -> frozenset[tuple[str, str, str]]:
    """(kind, code, device) of what was said of a node under one boot id since a moment. Called by `levels.py`."""
    mine = sa.and_(signal.c.node_id == node_id, signal.c.boot_id == boot_id, signal.c.received_at >= since)
    rows = tx.all(sa.select(signal.c.kind, signal.c.code, signal.c.device).where(mine).distinct())
    return frozenset((row["kind"], row["code"], row["device"]) for row in rows)


def _names(value: object) -> tuple[str, ...] | None:
    return tuple(str(one) for one in value) if isinstance(value, list) else None


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
