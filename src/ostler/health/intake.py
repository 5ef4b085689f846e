"""Takes a node's report into the books: sequences, signals, gaps, diagnosis. Called by `desk.py`, one transaction each.

Order is (boot id, sequence). What has been stored is acknowledged; what comes twice is dropped; what will never come is
declared by the agent, and is a finding: silence is a fault.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Any, TypeVar

import sqlalchemy as sa

from ostler.core.errors import BadInput
from ostler.db.tx import Tx
from ostler.faults.model import Action, Severity
from ostler.health import backlog, findings, orders, recent, store
from ostler.health.diagnosis import census, ended, judge
from ostler.health.model import Confidence, Diagnosis, HealthSettings, Observed, Standing
from ostler.health.parts import changed_gpus
from ostler.nodes import store as nodes
from ostler.nodes.model import Condition, Node, State
from ostler.wire.agent import Report, Signal

E = TypeVar("E", bound=StrEnum)

IN_SERVICE = (State.PRODUCTION,)

LATELY = 300
"""Signals of a node that are looked at again with each new one, newest first. An agent folds what is equal within 10 s,
so only a node that says hundreds of different things has more within a window, and what it said is in its findings."""


def receive(
    tx: Tx, node_id: str, report: Report, settings: HealthSettings, *, later: bool = False
) -> tuple[int, list[Diagnosis]]:
    """Store a report; returns the acknowledged sequence of its boot, and what diagnosis makes of the node now.

    `later`: signals that nothing is done about at once are only stored; `catch_up` diagnoses them.

    Raises `BadInput` when the report skips sequences within itself. What lies between the server's last sequence and
    the report's first was acknowledged by a server that knew more (a restored backup): a hole, and a finding.
    """
    node = nodes.locked(tx, node_id)
    known = store.session(tx, node.id, report.boot_id)
    if known is None:
        store.open_session(tx, node.id, report.boot_id)
        _new_boot(tx, node, report)
    held = 0 if known is None else known["last_seq"]
    ack = _sequence(report, max(held, report.first_seq - 1))
    fresh = [one for one in report.signals if one.seq > held]
    store.insert_signals(tx, [_row(tx, node, report.boot_id, one) for one in fresh])
    if report.first_seq > held + 1:
        _gap(tx, node, report.boot_id, held + 1, report.first_seq - 1, "undeclared")
    for gap in (one for one in report.lost if one.to_seq > held):
        _gap(tx, node, report.boot_id, max(gap.from_seq, held + 1), gap.to_seq, gap.reason)
    over = not fresh or (report.ended and node.state is State.REBOOT)  # the last words before our own reboot
    later = later and not over and not any(map(_is_urgent, fresh))
    # What was left for later stays so when a report brings nothing new: the same one once more, its answer being late.
    store.advance_session(tx, node.id, report.boot_id, ack, judged=bool(fresh) and not later)
    if not report.ended:
        _attributes(tx, node, report)
    if report.results:
        orders.settle(tx, node.id, report.results)
    if report.heartbeat is not None and not report.ended:
        _clock(tx, node, report, settings)
    if over or later:
        return ack, []
    return ack, note_all(tx, node, report.boot_id, settings, len(fresh))


def catch_up(tx: Tx, node_id: str, settings: HealthSettings) -> list[Diagnosis]:
    """Diagnose what was stored of a node and left for later. Empty when somebody else did."""
    node = nodes.locked(tx, node_id)
    return note_all(tx, node, node.boot_id or "", settings) if backlog.judge_up(tx, node.id) else []


def _is_urgent(one: Signal) -> bool:
    """Whether it may ask for more than watching."""
    return one.severity in (Severity.ERROR, Severity.FATAL) or one.action not in (Action.NONE, Action.WATCH)


def _sequence(report: Report, held: int) -> int:
    """The last sequence that is now held or declared lost; the report may overlap what is held, but not skip."""
    numbers = [one.seq for one in report.signals]
    if len(set(numbers)) < len(numbers):
        raise BadInput("A sequence comes twice in one report.", where=f"boot {report.boot_id}")
    spans = sorted([(one.seq, one.seq) for one in report.signals] + [(one.from_seq, one.to_seq) for one in report.lost])
    last = held
    for start, end in spans:
        if start > last + 1:
            raise BadInput(
                f"Sequence {last + 1} follows in neither signals nor gaps; the server holds up to {held}.",
                where=f"boot {report.boot_id}",
            )
        last = max(last, end)
    return last


def _row(tx: Tx, node: Node, boot_id: str, one: Signal) -> dict[str, object]:
    fields = asdict(one)
    return {
        **fields,
        "detail": dict(one.detail),
        "severity": _known(Severity, one.severity, Severity.WARNING),
        "action": _known(Action, one.action, Action.WATCH),
        "node_id": node.id,
        "boot_id": boot_id,
        "received_at": tx.now,
    }


def _known(words: type[E], word: str, otherwise: E) -> E:
    """A word of a newer agent that this server does not know is watched, never acted on."""
    return next((known for known in words if known.value == word), otherwise)


def _new_boot(tx: Tx, node: Node, report: Report) -> None:
    if report.ended:
        return  # the end of a former boot, told late
    if node.boot_id not in (None, report.boot_id) and node.state in IN_SERVICE:
        findings.note(
            tx,
            node,
            Diagnosis(
                fault="unexpected-reboot",
                component="node",
                device="",
                severity=Severity.WARNING,
                confidence=Confidence.HIGH,
                action=Action.WATCH,
                message="the node booted again and nobody of ours asked for it",
                evidence={"before": node.boot_id, "now": report.boot_id},
            ),
        )
    if node.boot_id not in (None, report.boot_id):
        orders.booted(tx, node.id)
    nodes.update(tx, node.id, {"boot_id": report.boot_id, "last_seen": tx.now})


def _gap(tx: Tx, node: Node, boot_id: str, start: int, end: int, reason: str) -> None:
    count = end - start + 1
    findings.note(
        tx,
        node,
        Diagnosis(
            fault="signal-gap",
            component="agent",
            device="",
            severity=Severity.WARNING,
            confidence=Confidence.HIGH,
            action=Action.WATCH,
            message=f"{count} signals are lost ({reason}); what they said is not known",
            evidence={"boot": boot_id, "from": start, "to": end, "reason": reason},
        ),
        condition=Condition.SIGNALS_LOST,
    )


def _attributes(tx: Tx, node: Node, report: Report) -> None:
    changed: dict[str, object] = {}
    if report.inventory is not None:
        inventory = json.loads(json.dumps(asdict(report.inventory)))  # tuples as lists, as the database has them
        if inventory != node.inventory:
            changed["inventory"] = inventory
            if node.state in IN_SERVICE:
                _identity(tx, node, inventory)
    if report.agent_version and report.agent_version != node.agent_version:
        changed["agent_version"] = report.agent_version
    if report.heartbeat is not None and report.heartbeat.driver and report.heartbeat.driver != node.driver:
        changed["driver"] = report.heartbeat.driver
    if changed:
        nodes.update(tx, node.id, changed)


def _identity(tx: Tx, node: Node, inventory: Mapping[str, Any]) -> None:
    """A GPU with another serial number in a node that serves: nobody of ours replaced it there."""
    for address, before, now in changed_gpus(node.inventory, inventory):
        findings.note(
            tx,
            node,
            Diagnosis(
                "gpu-identity",
                "gpu",
                address,
                Severity.WARNING,
                Confidence.HIGH,
                Action.WATCH,
                f"the GPU at {address} is {now} now and was {before}: it changed while the node was in production",
                {"before": before, "now": now, "rule": "identity", "source": "inventory against the last one"},
            ),
        )


def _clock(tx: Tx, node: Node, report: Report, settings: HealthSettings) -> None:
    skew = report.sent_at - tx.real
    wrong = store.find_active(tx, node.id, "clock-skew", "")
    if abs(skew) > settings.clock_skew_s:
        if wrong is None:
            message = f"the node's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}; check its NTP"
            findings.note(
                tx,
                node,
                Diagnosis(
                    "clock-skew",
                    "node",
                    "",
                    Severity.WARNING,
                    Confidence.HIGH,
                    Action.WATCH,
                    message,
                    {"seconds": round(skew, 1)},
                ),
            )
    elif wrong is not None:
        findings.clear(tx, [wrong], by=f"the node's clock is right again ({skew:+.1f} s)")


def note_all(tx: Tx, node: Node, boot_id: str, settings: HealthSettings, fresh: int = 0) -> list[Diagnosis]:
    """Diagnose what was said lately of a node: findings are opened, renewed and ended. Also called by `levels.py`.

    `fresh`: so many signals are new, and are all looked at.
    """
    seen = _lately(tx, node, boot_id, settings, fresh)
    before = store.active(tx, node.id)
    booted = store.session(tx, node.id, boot_id)
    judged = judge(
        seen,
        settings,
        standing=[_standing(row) for row in before],
        inventory=node.inventory,
        booted_at=None if booted is None else booted["first_seen"],
    )
    findings.note_many(tx, node, judged.diagnoses, before)
    _end(tx, before, seen)
    _withdraw(tx, before, judged.explained)
    return [one for one in judged.diagnoses if one.renews]


def _standing(row: sa.RowMapping) -> Standing:
    return Standing(
        fault=row["fault"],
        component=row["component"],
        device=row["device"],
        severity=Severity(row["severity"]),
        confidence=Confidence(row["confidence"]),
        action=Action(row["action"]),
        message=row["message"],
        last_at=row["last_at"],
        evidence=row["evidence"],
    )


def _end(tx: Tx, before: Sequence[sa.RowMapping], seen: Sequence[Observed]) -> None:
    """Findings that the node, or the monitor that made them, says are over."""
    over, counted = ended(seen), census(seen)
    if not over and not counted:
        return
    said, uncounted = [], []
    for row in before:
        standing = counted.get(str(row["evidence"].get("monitor", "")))
        if (row["fault"], row["device"]) in over:
            said.append(row)
        elif standing is not None and f"{row['fault']}@{row['device']}" not in standing:
            uncounted.append(row)
    findings.clear(tx, said, by="the node says that it is over")
    findings.clear(tx, uncounted, by="the monitor looked again and does not find it any more")


def _lately(tx: Tx, node: Node, boot_id: str, settings: HealthSettings, fresh: int) -> list[Observed]:
    """What a node said lately in this boot, but nothing from before its present state: that was dealt with."""
    most = fresh + max([LATELY, *(rule.count for rule in settings.rules.values())])
    return recent.observed(tx, node.id, boot_id, max(tx.now - settings.lookback_s, node.state_since), most)


def _withdraw(tx: Tx, before: Sequence[sa.RowMapping], explained: Mapping[str, str]) -> None:
    """What turned out to be told of, or to follow from, another fault is no finding of its own any more."""
    by_root: dict[str, list[sa.RowMapping]] = {}
    for row in before:
        if (root := explained.get(f"{row['fault']}@{row['device']}")) is not None:
            by_root.setdefault(root, []).append(row)
    for root, rows in by_root.items():
        fault, _, device = root.partition("@")
        for row in rows:
            findings.succeed(tx, row, store.find_active(tx, row["node_id"], fault, device))
        findings.clear(tx, rows, by=f"explained by {root}")
