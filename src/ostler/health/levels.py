"""What the server's own watchers see of a node, as signals like the agent's. Called by BMC polls, Prometheus, alerts.

A watcher says everything that stands now; only what changed is written, so that neither a healthy node nor a steadily
ill one fills the books. A fault that goes on standing is said again after a boot, after a change of state and once an
hour: what a repair did not cure must count against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ostler.db.tx import Tx
from ostler.faults.model import Action, Fault, Severity
from ostler.health import intake, store
from ostler.health.diagnosis import fault_name
from ostler.health.model import Diagnosis, HealthSettings
from ostler.nodes import store as nodes
from ostler.nodes.model import Node

AGAIN_S = 3600.0


def stream(source: str) -> str:
    """The boot id under which a watcher's signals are numbered: no agent's boot id begins so."""
    return f"@{source}"


def converge(tx: Tx, node_id: str, source: str, faults: Sequence[Fault], settings: HealthSettings) -> list[Diagnosis]:
    """Take in everything that `source` finds wrong with a node now; what it found before and does not now is over.

    Returns what diagnosis makes of the node, empty when nothing changed.
    """
    node = nodes.locked(tx, node_id)
    known = {(row["fault"], row["device"]): row for row in store.active(tx, node_id)}
    standing = {fault_name(one.kind, one.code, one.device): one for one in faults}
    since = _since(tx, node)
    said = [
        _signal(one, source)
        for key, one in standing.items()
        if (row := known.get(key)) is None
        or row["last_at"] < since
        or (_mine(row, source) and row["message"] != one.message)
    ]
    over = [_over(row, source) for key, row in known.items() if _mine(row, source) and key not in standing]
    return _take_in(tx, node, source, [*said, *over], settings)


def observe(tx: Tx, node_id: str, source: str, faults: Sequence[Fault], settings: HealthSettings) -> list[Diagnosis]:
    """Take in what `source` heard once: lines of a BMC's log, an alert. Each is a signal; nothing ends."""
    node = nodes.locked(tx, node_id)
    return _take_in(
        tx, node, source, [{**_signal(one, source), "detail": dict(one.detail)} for one in faults], settings
    )


def _mine(row: sa.RowMapping, source: str) -> bool:
    """Another monitor may have found the same fault: only its own word ends it."""
    return bool(row["evidence"].get("monitor") == source)


def _since(tx: Tx, node: Node) -> float:
    """A finding that was last said before this moment is said again."""
    booted = None if node.boot_id is None else store.session(tx, node.id, node.boot_id)
    return max(node.state_since, tx.now - AGAIN_S, 0.0 if booted is None else booted["first_seen"])


def _take_in(
    tx: Tx, node: Node, source: str, signals: Sequence[dict[str, Any]], settings: HealthSettings
) -> list[Diagnosis]:
    if not signals:
        return []
    boot_id = stream(source)
    known = store.session(tx, node.id, boot_id)
    if known is None:
        store.open_session(tx, node.id, boot_id)
    last = 0 if known is None else known["last_seq"]
    common = {"node_id": node.id, "boot_id": boot_id, "source": source, "at": tx.now, "received_at": tx.now}
    store.insert_signals(tx, [{**common, "seq": last + n, **one} for n, one in enumerate(signals, 1)])
    store.advance_session(tx, node.id, boot_id, last + len(signals))
    return intake.note_all(tx, node, node.boot_id or "", settings)


def _signal(one: Fault, source: str) -> dict[str, Any]:
    return {
        "kind": one.kind.value,
        "code": one.code,
        "device": one.device,
        "component": one.component,
        "severity": one.severity,
        "action": one.action,
        "message": one.message[:1024],
        "detail": {**one.detail, "monitor": source},
    }


def _over(row: sa.RowMapping, source: str) -> dict[str, Any]:
    kind, _, code = str(row["fault"]).partition("-")
    return {
        "kind": kind,
        "code": code,
        "device": row["device"],
        "component": row["component"],
        "severity": Severity.INFO,
        "action": Action.NONE,
        "message": f"{row['fault']} is over"[:1024],
        "detail": {"monitor": source, "over": True},
    }
