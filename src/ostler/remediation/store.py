"""SQL about decisions. Called by this feature and by `why`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.db.schema import condition, decision, finding, incident, job, node, slot, transition
from ostler.db.tx import Tx
from ostler.faults.model import Action
from ostler.nodes.model import Condition, State
from ostler.remediation.model import Past, Verdict
from ostler.remediation.policy import IN_PLACE

_REPAIRS = frozenset(action.value for action in IN_PLACE)
_TRIAGES = frozenset({Action.TRIAGE.value, Action.RMA.value})


def insert(tx: Tx, values: Mapping[str, Any]) -> None:
    tx.execute(decision.insert().values(**values))


def last_about(tx: Tx, finding_id: str) -> sa.RowMapping | None:
    """The latest decision about a finding."""
    return tx.one(
        sa.select(decision)
        .where(decision.c.finding_id == finding_id)
        .order_by(decision.c.at.desc(), decision.c.id.desc())
        .limit(1)
    )


def of_node(tx: Tx, node_id: str, *, limit: int = 100) -> Sequence[sa.RowMapping]:
    """A node's decisions, newest first."""
    return tx.all(
        sa.select(decision)
        .where(decision.c.node_id == node_id)
        .order_by(decision.c.at.desc(), decision.c.id.desc())
        .limit(limit)
    )


def listed(
    tx: Tx, *, verdict: Verdict | None = None, after: str | None = None, limit: int = 100
) -> Sequence[sa.RowMapping]:
    """Decisions, newest first: with `would-act`, the report of what Ostler would have done."""
    query = sa.select(decision).order_by(decision.c.id.desc()).limit(limit)
    if verdict is not None:
        query = query.where(decision.c.verdict == verdict.value)
    if after is not None:
        query = query.where(decision.c.id < after)
    return tx.all(query)


def past(tx: Tx, fault: str, *, serial: str | None, node_id: str, device: str, since: float) -> Past:
    """What was done about one fault of one part since a moment: by serial number, wherever the part was then.

    A part without one is known by its node and its place there.
    """
    whose = (
        decision.c.serial == serial
        if serial is not None
        else sa.and_(decision.c.node_id == node_id, finding.c.device == device)
    )
    # Not from how the finding ended: what a monitor found may be over before the node is verified.
    returned = (
        sa.select(sa.func.min(transition.c.at))
        .where(
            transition.c.node_id == decision.c.node_id,
            transition.c.from_state == State.REBOOT.value,
            transition.c.to_state == State.PRODUCTION.value,
            transition.c.at >= decision.c.at,
        )
        .correlate(decision)
        .scalar_subquery()
    )
    rows = tx.all(
        sa.select(decision.c.action, returned.label("returned_at"))
        .join(finding, decision.c.finding_id == finding.c.id)
        .where(
            whose,
            decision.c.fault == fault,
            decision.c.verdict == Verdict.ACT.value,
            decision.c.action.in_([*_REPAIRS, *_TRIAGES]),
            decision.c.at >= since,
        )
        .order_by(decision.c.at, decision.c.id)
    )
    repairs = [row for row in rows if row["action"] in _REPAIRS]
    return Past(
        repairs=len(repairs),
        last=Action(repairs[-1]["action"]) if repairs else None,
        returned_at=max((row["returned_at"] for row in repairs if row["returned_at"] is not None), default=None),
        triages=len(rows) - len(repairs),
    )


def was_ordered(tx: Tx, job_id: str) -> bool:
    """Whether a person's order has reached this job by now; none does any more until this transaction has ended."""
    row = tx.one(sa.select(job.c.data).where(job.c.id == job_id).with_for_update())
    return row is not None and "ordered" in row["data"]


def special(tx: Tx, faults: Collection[str]) -> Sequence[sa.RowMapping]:
    """Active findings that ask for the power to go, or are of these faults, whatever incident explains them."""
    return tx.all(
        sa.select(finding, node.c.slot, node.c.state)
        .join(node, node.c.id == finding.c.node_id)
        .where(
            finding.c.cleared_at.is_(None),
            sa.or_(finding.c.action == Action.POWER_OFF.value, finding.c.fault.in_(list(faults))),
        )
        .order_by(finding.c.first_at, finding.c.id)
    )


def racks_with(tx: Tx, finding_ids: Collection[str], since: float) -> dict[str, list[str]]:
    """Rack → names of nodes, of these findings that began after a moment; a node of no rack counts by itself."""
    rows = tx.all(
        sa.select(node.c.name, slot.c.rack, slot.c.domains)
        .join(finding, finding.c.node_id == node.c.id)
        .outerjoin(slot, slot.c.name == node.c.slot)
        .where(finding.c.id.in_(list(finding_ids)), finding.c.first_at >= since)
        .order_by(node.c.name)
    )
    racks: dict[str, list[str]] = {}
    for row in rows:
        rack = str((row["domains"] or {}).get("rack") or row["rack"] or f"of {row['name']}")
        racks.setdefault(rack, []).append(row["name"])
    return racks


def with_condition(tx: Tx, type_: Condition) -> Sequence[sa.RowMapping]:
    """Every node's active condition of this type."""
    return tx.all(sa.select(condition).where(condition.c.type == type_.value, condition.c.until.is_(None)))


def open_incidents(tx: Tx, cause: str) -> Sequence[sa.RowMapping]:
    return tx.all(sa.select(incident).where(incident.c.cause == cause, incident.c.closed_at.is_(None)))
