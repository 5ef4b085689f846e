"""SQL about what may page and what was paged. Called by `watch.py`."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ostler.adapters.pager.port import Page
from ostler.db.schema import decision, finding, incident, job, node, page, slot
from ostler.db.tx import Tx
from ostler.faults.model import Severity
from ostler.oncall.model import Facts, OpenIncident, Stuck, Unattended
from ostler.oncall.policy import DANGEROUS

_MOST = 1000


def facts(tx: Tx, held_before: float) -> Facts:
    """Everything that may page now; decisions that the brake has held since before `held_before`."""
    held = _held(tx, held_before)
    return Facts(
        incidents=tuple(
            OpenIncident(row["id"], row["cause"], row["scope"], row["subject"], row["summary"], row["opened_at"])
            for row in tx.all(sa.select(incident).where(incident.c.closed_at.is_(None)).limit(_MOST))
        ),
        unattended=tuple(_unattended(tx)),
        stuck=tuple(
            Stuck(row["id"], row["procedure"], row["name"] or row["subject"], row["why"], row["created_at"])
            for row in tx.all(
                sa.select(job, node.c.name)
                .outerjoin(node, node.c.id == job.c.subject)
                .where(job.c.state == "held", job.c.finished_at.is_(None))
                .limit(_MOST)
            )
        ),
        held=len(held),
        held_since=min((row["at"] for row in held), default=0.0),
    )


def _latest() -> sa.Subquery:
    """The id of the last decision about each active finding: ids are in order of time."""
    return (
        sa.select(finding.c.id.label("finding_id"), sa.func.max(decision.c.id).label("id"))
        .join(decision, decision.c.finding_id == finding.c.id)
        .where(finding.c.cleared_at.is_(None))
        .group_by(finding.c.id)
        .subquery()
    )


def _unattended(tx: Tx) -> list[Unattended]:
    last = _latest()
    rows = tx.all(
        sa.select(finding, node.c.name, slot.c.rack, decision.c.reasons, decision.c.verdict)
        .join(node, node.c.id == finding.c.node_id)
        .outerjoin(slot, slot.c.name == node.c.slot)
        .outerjoin(last, last.c.finding_id == finding.c.id)
        .outerjoin(decision, decision.c.id == last.c.id)
        .where(
            finding.c.cleared_at.is_(None),
            finding.c.incident_id.is_(None),
            finding.c.severity.in_([Severity.ERROR.value, Severity.FATAL.value]),
            sa.or_(decision.c.verdict == "would-act", finding.c.fault.in_(DANGEROUS)),
        )
        .order_by(finding.c.id)
        .limit(_MOST)
    )
    return [
        Unattended(
            id=row["id"],
            node=row["name"],
            rack=row["rack"] or "",
            fault=row["fault"],
            device=row["device"],
            fatal=row["severity"] == Severity.FATAL,
            message=row["message"],
            why=str(row["reasons"][-1])
            if row["verdict"] == "would-act" and row["reasons"]
            else "somebody must go there",
            since=row["first_at"],
        )
        for row in rows
    ]


def _held(tx: Tx, before: float) -> Sequence[sa.RowMapping]:
    last = _latest()
    return tx.all(
        sa.select(decision.c.node_id, decision.c.at)
        .join(last, last.c.id == decision.c.id)
        .join(finding, finding.c.id == decision.c.finding_id)
        .where(decision.c.verdict == "held", decision.c.at < before, finding.c.cleared_at.is_(None))
        .limit(_MOST)
    )


def open_pages(tx: Tx, target: str) -> dict[str, sa.RowMapping]:
    """Pages that a pager has not been told the end of, by key."""
    rows = tx.all(sa.select(page).where(page.c.target == target, page.c.told_at.is_(None)))
    return {row["name"].partition("|")[2]: row for row in rows}


def note_sent(tx: Tx, target: str, sent: Sequence[Page], at: float) -> None:
    """Remember that a pager has taken these."""
    for one in sent:
        name = f"{target}|{one.key}"
        if one.over:
            tx.execute(page.update().where(page.c.name == name).values(resolved_at=tx.now, told_at=at))
            continue
        fields = {
            "severity": one.urgency.value,
            "summary": one.summary,
            "detail": dict(one.labels),
            "sent_at": at,
            "resolved_at": None,
            "told_at": None,
        }
        if not tx.execute(page.update().where(page.c.name == name).values(**fields)).rowcount:
            tx.execute(page.insert().values(name=name, target=target, opened_at=one.since, **fields))


def forget(tx: Tx, before: float) -> int:
    """Retention: pages whose end was told before a moment."""
    return tx.execute(page.delete().where(page.c.told_at < before)).rowcount
