"""The room `Would act`: what Ostler would have done where it may not, by fault and action. For `rooms.py`.

This is what an observe-only fleet is for: read the report, then grant the capability or change the rule.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ostler.console.model import Rules
from ostler.console.queries import position
from ostler.console.sentences import kept_back, reasons_of
from ostler.db.schema import decision, finding, node, pool, slot
from ostler.db.tx import Tx
from ostler.nodes.model import OBSERVE_ONLY
from ostler.remediation.model import Verdict

SPANS = (1, 7, 30)
"""Days that the report can reach back."""
MOST = 5000
"""Decisions that one report reads, newest first."""
SHOWN = 20
"""Decisions of one group that are listed."""


@dataclass(frozen=True)
class Would:
    """One decision that was not acted on."""

    at: float
    node: str
    pool: str
    rack: str
    device: str
    reasons: Sequence[str]
    stands: bool
    """The finding is still active."""


@dataclass(frozen=True)
class Group:
    """Decisions about one fault that came to one action."""

    key: str
    fault: str
    action: str
    timing: str
    count: int
    standing: int
    nodes: int
    newest: float
    oldest: float
    why_not: Sequence[tuple[str, int]]
    """What keeps Ostler from it, and how often."""
    latest: Sequence[Would]


@dataclass(frozen=True)
class PoolLine:
    """One pool: what it grants, and how much of the report is its."""

    name: str
    nodes: int
    observe_only: bool
    granted: Sequence[str]
    count: int


@dataclass(frozen=True)
class Report:
    """The whole room."""

    now: float
    position: int
    days: int
    pool: str | None
    pools: Sequence[PoolLine]
    groups: Sequence[Group]
    actions: Sequence[tuple[str, int]]
    """Action → nodes, most first."""
    count: int
    nodes: int
    cut: bool


def report(tx: Tx, rules: Rules, asked: Mapping[str, str]) -> Report:
    """`asked`: `days` (one of `SPANS`) and `pool`; anything else is as if it were not there."""
    days = next((span for span in SPANS if str(span) == asked.get("days")), 7)
    rows = tx.all(
        sa.select(
            *(decision.c[name] for name in ("at", "node_id", "fault", "action", "timing", "reasons")),
            node.c.name,
            node.c.pool,
            slot.c.rack,
            finding.c.fault.label("found"),
            finding.c.device,
            finding.c.cleared_at,
        )
        .join(node, node.c.id == decision.c.node_id)
        .outerjoin(slot, slot.c.name == node.c.slot)
        .outerjoin(finding, finding.c.id == decision.c.finding_id)
        .where(decision.c.verdict == Verdict.WOULD_ACT.value, decision.c.at > tx.now - days * 86400)
        .order_by(decision.c.at.desc(), decision.c.id.desc())
        .limit(MOST)
    )
    chosen = asked.get("pool") or None
    ours = [row for row in rows if chosen is None or row["pool"] == chosen]
    by_action = Counter(action for action, _ in {(row["action"], row["node_id"]) for row in ours})
    return Report(
        now=tx.now,
        position=position(tx),
        days=days,
        pool=chosen,
        pools=_pools(tx, Counter(row["pool"] for row in rows)),
        groups=_groups(ours),
        actions=by_action.most_common(),
        count=len(ours),
        nodes=len({row["node_id"] for row in ours}),
        cut=len(rows) == MOST,
    )


def _groups(rows: Sequence[sa.RowMapping]) -> list[Group]:
    """Newest group first; rows come newest first."""
    grouped: defaultdict[tuple[str, str, str], list[sa.RowMapping]] = defaultdict(list)
    for row in rows:
        grouped[(row["fault"] or row["found"] or "", row["action"], row["timing"])].append(row)
    found = []
    for (fault, action, timing), those in grouped.items():
        reasons = [reasons_of(dict(row)) for row in those]
        why_not = Counter(kept_back(told[-1]) for told in reasons if told)
        found.append(
            Group(
                key=f"w-{fault}-{action}-{timing}",
                fault=fault,
                action=action,
                timing=timing,
                count=len(those),
                standing=sum(_stands(row) for row in those),
                nodes=len({row["node_id"] for row in those}),
                newest=max(row["at"] for row in those),
                oldest=min(row["at"] for row in those),
                why_not=why_not.most_common(3),
                latest=[
                    Would(
                        row["at"],
                        row["name"],
                        row["pool"],
                        row["rack"] or "",
                        row["device"] or "",
                        told,
                        _stands(row),
                    )
                    for row, told in zip(those[:SHOWN], reasons, strict=False)
                ],
            )
        )
    return sorted(found, key=lambda group: -group.newest)


def _stands(row: sa.RowMapping) -> bool:
    return row["found"] is not None and row["cleared_at"] is None


def _pools(tx: Tx, counts: Mapping[str, int]) -> list[PoolLine]:
    sizes = sa.select(node.c.pool, sa.func.count().label("nodes")).where(node.c.state != "retired")
    in_pool = {row["pool"]: row["nodes"] for row in tx.all(sizes.group_by(node.c.pool))}
    return [
        PoolLine(
            row["name"],
            in_pool.get(row["name"], 0),
            set(row["capabilities"]) <= OBSERVE_ONLY,
            sorted(set(row["capabilities"]) - OBSERVE_ONLY),
            counts.get(row["name"], 0),
        )
        for row in tx.all(sa.select(pool).order_by(pool.c.name))
    ]
