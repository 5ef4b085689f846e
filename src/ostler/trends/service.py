"""Records outcomes and answers what has passed. Called inside the transactions of `acceptance` and `remediation`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostler.core.ids import new_id
from ostler.db.tx import Tx
from ostler.nodes.model import Node
from ostler.trends import store
from ostler.trends.model import Verdict


def record(
    tx: Tx,
    node: Node,
    name: str,
    verdict: Verdict,
    *,
    measured: Mapping[str, Any],
    started_at: float,
    finished_at: float,
    message: str = "",
    firmware: bool = False,
) -> str:
    """Keep one result (times in domain seconds); the serial number makes it survive moves. Returns its id."""
    outcome_id = new_id("out")
    store.insert(
        tx,
        {
            "id": outcome_id,
            "node_id": node.id,
            "serial": node.serial,
            "name": name,
            "verdict": verdict,
            "measured": dict(measured),
            "message": message,
            "firmware": firmware,
            "started_at": started_at,
            "finished_at": finished_at,
        },
    )
    return outcome_id


def passed_since(tx: Tx, node_id: str, at: float) -> frozenset[str]:
    """Names of the checks whose latest run, begun at or after `at`, passed."""
    latest = {row["name"]: row["verdict"] for row in store.since(tx, node_id, at)}
    return frozenset(name for name, verdict in latest.items() if verdict == Verdict.PASSED)
