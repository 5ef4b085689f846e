"""The room `Now`: what calls a person, what nobody acts on, what is held, and what is at work. For `rooms.py`.

What pages is asked of `oncall`, so that the page and the pager say the same; the rest is a few statements over the
active findings and the live jobs, which are few in a fleet of any size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ostler.adapters.pager.port import Page
from ostler.breakfix import store as breakfix
from ostler.breakfix.model import OPEN
from ostler.console.maintenance import WindowLine, line_of
from ostler.console.model import Pause, Rules
from ostler.console.queries import brake, names_of, natural, position
from ostler.console.sentences import kept_back
from ostler.db.schema import decision, finding, incident, job, node, slot
from ostler.db.tx import Tx
from ostler.faults.model import Severity
from ostler.health.model import Confidence
from ostler.oncall import policy as oncall_policy
from ostler.oncall import store as oncall
from ostler.oncall.model import Facts
from ostler.remediation.service import PROCEDURE as REMEDIATION
from ostler.verification.service import PROCEDURE as VERIFICATION

MOST = 100
"""Lines of one kind; the headline counts all of them."""

STEPS: Mapping[str, str] = {
    "settle": "waits for what else is reported",
    "decide": "is being decided",
    "drain": "drains",
    "hand-drain": "drains",
    "act": "is being repaired",
    "await-boot": "boots",
    "escalate": "goes one means further",
    "verify": "is being checked",
    "judge": "is being judged",
    "give-up": "goes to a technician",
    "danger": "leaks",
    "power-off": "is switched off",
    "watch-off": "is watched until it is off",
    "hand-power": "is switched by a person's order",
}
"""Step of the remediation → what becomes of the node meanwhile."""


@dataclass(frozen=True)
class Ring:
    """One page. `node` is the name of the node that it leads to, if it is about one."""

    urgency: str
    text: str
    since: float
    node: str | None
    many: bool


@dataclass(frozen=True)
class Cause:
    """One open incident, with what it explains now."""

    cause: str
    where: str
    node: str | None
    summary: str
    since: float
    nodes: int
    findings: int


@dataclass(frozen=True)
class Gap:
    """Serious findings of one fault that Ostler leaves alone for one reason."""

    fault: str
    why: str
    fatal: bool
    pages: bool
    findings: int
    nodes: tuple[str, ...]
    since: float


@dataclass(frozen=True)
class Held:
    """A decision that waits: the last word about a finding that is still active."""

    node: str
    rack: str
    fault: str
    action: str
    why: str
    since: float


@dataclass(frozen=True)
class Work:
    """One live remediation."""

    node: str
    doing: str
    about: str
    why: str
    since: float
    draining: bool
    stuck: bool


@dataclass(frozen=True)
class Now:
    """The whole room. The counts are of everything, the lists at most `MOST` long."""

    now: float
    position: int
    paged: bool
    """Whether a pager is set up at all."""
    pauses: Sequence[Pause]
    locked: Sequence[str]
    rings: Sequence[Ring]
    ring_count: int
    causes: Sequence[Cause]
    cause_count: int
    gaps: Sequence[Gap]
    gap_findings: int
    held: Sequence[Held]
    held_nodes: int
    windows: Sequence[WindowLine]
    work: Sequence[Work]
    work_count: int
    drains: int
    checking: int


def now(tx: Tx, rules: Rules, asked: Mapping[str, str]) -> Now:
    """Everything, as one snapshot."""
    facts = oncall.facts(tx, tx.now - rules.oncall.held_s)
    rings = [_ring(page) for page in oncall_policy.pages(facts, rules.oncall)]
    causes, cause_count = _causes(tx)
    gaps = _gaps(facts, _doubted(tx))
    held = _held(tx)
    work = _work(tx)
    windows = sorted(breakfix.windows(tx, phases=OPEN, limit=MOST), key=lambda one: one.starts_at)
    names = names_of(tx, (one.scope.removeprefix("node:") for one in windows))
    return Now(
        now=tx.now,
        position=position(tx),
        paged=bool(rules.oncall.alertmanager or rules.oncall.pagerduty),
        pauses=brake(tx, rules.pause_file).pauses,
        locked=sorted(tx.conn.scalars(sa.select(node.c.name).where(node.c.power_locked.is_(True)).limit(MOST))),
        rings=rings[:MOST],
        ring_count=len(rings),
        causes=causes,
        cause_count=cause_count,
        gaps=gaps[:MOST],
        gap_findings=sum(one.findings for one in gaps),
        held=held[:MOST],
        held_nodes=len({one.node for one in held}),
        windows=[line_of(one, names) for one in windows],
        work=work[:MOST],
        work_count=len(work),
        drains=sum(one.draining for one in work),
        checking=_count_live(tx, VERIFICATION),
    )


def _ring(page: Page) -> Ring:
    kind = page.key.partition(":")[0]
    name = page.labels.get("node")
    about = name if kind in ("finding", "job") and name not in (None, "fleet") else None
    text = page.summary.removeprefix(f"{name}: ") if about else page.summary
    return Ring(page.urgency.value, text, page.since, about, kind == "findings")


def _causes(tx: Tx) -> tuple[list[Cause], int]:
    """Open incidents, newest first; nodes and findings are those that are still active."""
    is_open = incident.c.closed_at.is_(None)
    rows = tx.all(sa.select(incident).where(is_open).order_by(incident.c.opened_at.desc()).limit(MOST))
    count = len(rows) if len(rows) < MOST else int(tx.scalar(sa.select(sa.func.count()).where(is_open)) or 0)
    struck = {
        row["incident_id"]: (row["nodes"], row["findings"])
        for row in tx.all(
            sa.select(
                finding.c.incident_id,
                sa.func.count(finding.c.node_id.distinct()).label("nodes"),
                sa.func.count().label("findings"),
            )
            .where(finding.c.cleared_at.is_(None), finding.c.incident_id.in_([row["id"] for row in rows]))
            .group_by(finding.c.incident_id)
        )
    }
    names = names_of(tx, (row["subject"] for row in rows if row["scope"] == "node"))
    return [
        Cause(
            row["cause"],
            "the fleet" if row["scope"] == "fleet" else f"{row['scope']} {names.get(row['subject'], row['subject'])}",
            names.get(row["subject"]) if row["scope"] == "node" else None,
            row["summary"],
            row["opened_at"],
            *struck.get(row["id"], (0, 0)),
        )
        for row in rows
    ], count


def _doubted(tx: Tx) -> Sequence[sa.RowMapping]:
    """Serious findings that nobody is sure of: shown, never acted on."""
    return tx.all(
        sa.select(finding.c.fault, finding.c.severity, finding.c.first_at, node.c.name)
        .join(node, node.c.id == finding.c.node_id)
        .where(
            finding.c.cleared_at.is_(None),
            finding.c.incident_id.is_(None),
            finding.c.confidence == Confidence.LOW.value,
            finding.c.severity.in_([Severity.ERROR.value, Severity.FATAL.value]),
        )
        .order_by(finding.c.id)
        .limit(1000)
    )


def _gaps(facts: Facts, doubted: Sequence[sa.RowMapping]) -> list[Gap]:
    """By fault and reason, fatal ones first, then the oldest."""
    grouped: defaultdict[tuple[str, str, bool, bool], list[tuple[str, float]]] = defaultdict(list)
    for one in facts.unattended:
        grouped[(one.fault, kept_back(one.why), one.fatal, True)].append((one.node, one.since))
    unsure = "its confidence is low: it is shown and never acted on"
    for row in doubted:
        fatal = row["severity"] == Severity.FATAL.value
        grouped[(row["fault"], unsure, fatal, False)].append((row["name"], row["first_at"]))
    found = [
        Gap(
            fault=fault,
            why=why,
            fatal=fatal,
            pages=pages,
            findings=len(those),
            nodes=tuple(sorted({name for name, _ in those}, key=natural)),
            since=min(at for _, at in those),
        )
        for (fault, why, fatal, pages), those in grouped.items()
    ]
    return sorted(found, key=lambda gap: (not gap.pages, not gap.fatal, gap.since))


def _held(tx: Tx) -> list[Held]:
    """Active findings whose last decision is `held`, longest first.

    The decisions are found by the node of the finding, for which there is an index.
    """
    last = (
        sa.select(finding.c.id.label("finding_id"), sa.func.max(decision.c.id).label("id"))
        .join(decision, sa.and_(decision.c.node_id == finding.c.node_id, decision.c.finding_id == finding.c.id))
        .where(finding.c.cleared_at.is_(None))
        .group_by(finding.c.id)
        .subquery()
    )
    rows = tx.all(
        sa.select(decision, finding.c.fault.label("of"), node.c.name, slot.c.rack)
        .join(last, last.c.id == decision.c.id)
        .join(finding, finding.c.id == last.c.finding_id)
        .join(node, node.c.id == decision.c.node_id)
        .outerjoin(slot, slot.c.name == node.c.slot)
        .where(decision.c.verdict == "held")
        .order_by(decision.c.at)
        .limit(1000)
    )
    return [
        Held(
            row["name"],
            row["rack"] or "",
            row["fault"] or row["of"],
            row["action"],
            str(row["reasons"][-1]) if row["reasons"] else "",
            row["at"],
        )
        for row in rows
    ]


def _work(tx: Tx) -> list[Work]:
    """Live remediations: stuck ones first, then the longest."""
    rows = tx.all(
        sa.select(job, node.c.name, node.c.pending_state, node.c.pending_reason)
        .join(node, node.c.id == job.c.subject)
        .where(job.c.procedure == REMEDIATION, job.c.finished_at.is_(None))
        .order_by(sa.case((job.c.state == "held", 0), else_=1), job.c.created_at)
        .limit(1000)
    )
    return [
        Work(
            node=row["name"],
            doing="waits for a person" if row["state"] == "held" else STEPS.get(row["step"], row["step"]),
            about=_about(row["data"]),
            why=row["why"] or row["pending_reason"] or "",
            since=row["created_at"],
            draining=row["step"] in ("drain", "hand-drain"),
            stuck=row["state"] == "held",
        )
        for row in rows
    ]


def _about(data: Mapping[str, object]) -> str:
    """`reboot for xid-79`, as far as the job knows it already."""
    ordered = data.get("ordered")
    if isinstance(ordered, Mapping):
        return f"{ordered.get('action', 'drain')}, ordered by {ordered.get('actor', 'a person')}"
    words = (str(data.get("action") or ""), f"for {data['fault']}" if data.get("fault") else "")
    return " ".join(word for word in words if word)


def _count_live(tx: Tx, procedure: str) -> int:
    live = sa.and_(job.c.procedure == procedure, job.c.finished_at.is_(None))
    return int(tx.scalar(sa.select(sa.func.count()).where(live)) or 0)
