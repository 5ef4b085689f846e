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
from ostler.health import intake, recent, store
from ostler.health.diagnosis import fault_name
from ostler.health.model import Diagnosis, HealthSettings
from ostler.nodes import store as nodes
from ostler.nodes.model import Node

AGAIN_S = 3600.0
READS_S = 300.0
"""A standing fault whose message reads differently by now (another temperature) is said again after so long."""


def stream(source: str) -> str:
    """The boot id under which a watcher's signals are numbered: no agent's boot id begins so."""
    return f"@{source}"


def converge(tx: Tx, node_id: str, source: str, faults: Sequence[Fault], settings: HealthSettings) -> list[Diagnosis]:
    """Take in everything that `source` finds wrong with a node now; what it found before and does not now is over.

    Returns what diagnosis makes of the node, empty when nothing changed.
    """
    node = nodes.locked(tx, node_id)
    standing = {fault_name(one.kind, one.code, one.device) for one in faults}
    gone = [row for row in store.active(tx, node_id) if _mine(row, source) and _key(row) not in standing]
    return _say(tx, node, source, faults, gone, settings)


def say(
    tx: Tx, node_id: str, source: str, raised: Sequence[Fault], ended: Sequence[Fault], settings: HealthSettings
) -> list[Diagnosis]:
    """Take in what `source` says began to stand and what it says is over; what it does not name stands as before."""
    node = nodes.locked(tx, node_id)
    over = {fault_name(one.kind, one.code, one.device) for one in ended}
    over -= {fault_name(one.kind, one.code, one.device) for one in raised}
    gone = [row for row in store.active(tx, node_id) if _mine(row, source) and _key(row) in over]
    return _say(tx, node, source, raised, gone, settings)


def observe(tx: Tx, node_id: str, source: str, faults: Sequence[Fault], settings: HealthSettings) -> list[Diagnosis]:
    """Take in what `source` heard once: lines of a BMC's log, an alert. Each is a signal; nothing ends."""
    node = nodes.locked(tx, node_id)
    return _take_in(
        tx, node, source, [{**_signal(one, source), "detail": dict(one.detail)} for one in faults], settings
    )


def _say(
    tx: Tx,
    node: Node,
    source: str,
    raised: Sequence[Fault],
    gone: Sequence[sa.RowMapping],
    settings: HealthSettings,
) -> list[Diagnosis]:
    active = store.active(tx, node.id)
    known = {key: row for row in active for key in _explained(row)} | {_key(row): row for row in active}
    standing = {fault_name(one.kind, one.code, one.device): one for one in raised}
    since = _since(tx, node)
    # What an operator's rule makes nothing of has no finding to be known by: it is said once, not at every look.
    mute = {key for key in standing if key not in known and _is_mute(key[0], settings)}
    said_lately = recent.kinds_said(tx, node.id, stream(source), since) if mute else frozenset()
    news = [
        one
        for key, one in standing.items()
        if _is_news(one, known.get(key), source, since, tx.now)
        and not (key in mute and (one.kind.value, one.code, one.device) in said_lately)
    ]
    said = [_signal(one, source) for one in news]
    return _take_in(tx, node, source, [*said, *(_over(row, source) for row in gone)], settings)


def _is_mute(name: str, settings: HealthSettings) -> bool:
    rule = settings.rules.get(name)
    return rule is not None and rule.action == Action.NONE and not rule.count


def _is_news(one: Fault, row: sa.RowMapping | None, source: str, since: float, now: float) -> bool:
    """Whether a standing fault has to be said: it is new, was last said too long ago, or reads differently now."""
    if row is None or row["last_at"] < since:
        return True
    return _mine(row, source) and row["last_at"] < now - READS_S and bool(row["message"] != one.message[:1024])


def _key(row: sa.RowMapping) -> tuple[str, str]:
    return row["fault"], row["device"]


def _explained(row: sa.RowMapping) -> list[tuple[str, str]]:
    """What a finding explains, as keys: that stands in the books too, under the finding's name."""
    names = (str(one).partition("@") for one in row["evidence"].get("explains", ()))
    return [(fault, device) for fault, _, device in names]


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
