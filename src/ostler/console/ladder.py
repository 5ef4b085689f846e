"""How far up the ladder of repairs a node's parts have come: read for the node's page. Called by `queries.life`.

The past is counted as `remediation` counts it: by fault and by the part's serial number, wherever the part stood.
"""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from ostler.console.model import Climb, Rung
from ostler.console.sentences import duration
from ostler.core.clock import iso
from ostler.db.schema import decision, finding
from ostler.db.tx import Tx
from ostler.faults.model import Action
from ostler.nodes.model import Node
from ostler.remediation import store
from ostler.remediation.model import Past, RemediationSettings

_MOST = 20
"""Parts with a past that one page shows."""


def climbs(tx: Tx, node: Node, serials: Collection[str], settings: RemediationSettings) -> list[Climb]:
    """What was done about the parts that this node has now, and about its active findings; the latest first."""
    since = tx.now - settings.repair_window_s
    whose = sa.or_(decision.c.node_id == node.id, decision.c.serial.in_(sorted(serials)))
    done = tx.all(
        sa.select(decision.c.fault, decision.c.action, decision.c.serial, finding.c.device)
        .outerjoin(finding, finding.c.id == decision.c.finding_id)
        .where(whose, decision.c.verdict == "act", decision.c.fault != "", decision.c.at >= since)
        .order_by(decision.c.at.desc())
        .limit(500)
    )
    active = tx.all(
        sa.select(finding.c.fault, finding.c.serial, finding.c.device)
        .where(
            finding.c.node_id == node.id,
            finding.c.cleared_at.is_(None),
            finding.c.action.not_in([Action.NONE.value, Action.WATCH.value]),
        )
        .order_by(finding.c.last_at.desc())
        .limit(_MOST)
    )
    present = {_part(row) for row in active}
    found = []
    for fault, serial, device in list(dict.fromkeys(map(_part, (*active, *done))))[:_MOST]:
        past = store.past(tx, fault, serial=serial or None, node_id=node.id, device=device, since=since)
        tried = [row["action"] for row in done if _part(row) == (fault, serial, device)]
        rungs = settings.rule(fault).ladder or settings.ladder
        found.append(
            Climb(
                fault=fault,
                serial=serial,
                device=device,
                rungs=[Rung(one, tried.count(one)) for one in rungs] if tried else [],
                says=says(fault, past, tx.now, settings),
                active=(fault, serial, device) in present,
            )
        )
    return found


def _part(row: sa.RowMapping) -> tuple[str, str, str]:
    return row["fault"], row["serial"] or "", row["device"] or ""


def says(fault: str, past: Past, now: float, settings: RemediationSettings) -> str:
    """What the past means for the next time, in one sentence; as `remediation.policy` climbs."""
    rule = settings.rule(fault)
    limit = settings.repair_limit if rule.repair_limit is None else rule.repair_limit
    window = duration(settings.repair_window_s)
    if past.triages and "rma" in (rule.ladder or settings.ladder):
        return "A technician had it already: the next time it goes back to the vendor."
    if past.repairs >= limit:
        return f"{past.repairs} of {limit} repairs in place within {window}: the next time a person looks."
    if not past.repairs:
        return f"Not repaired within {window}."
    told = f"{past.repairs} of {limit} repairs in place within {window}"
    if past.returned_at is not None and past.last is not None and now < past.returned_at + settings.probation_s:
        until = iso(past.returned_at + settings.probation_s)[:16].replace("T", " ")
        return f"{told}. On probation until {until} UTC: the same fault again goes one rung further than {past.last}."
    return f"{told}."
