"""What the books of a replayed fleet say at one moment: decisions, findings, incidents, power. For `replay.py`."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ostler.db.schema import decision, event, finding, incident, ticket
from ostler.db.tx import Tx
from ostler.nodes import store as nodes
from ostler.proof.expectations import Books
from ostler.proof.stage import START, Stage


def read(tx: Tx, stage: Stage) -> Books:
    """Everything that an expectation may be about."""
    names = {node_id: voice.name for node_id, voice in stage.voices.items()}
    here = {names[one.id]: one for one in nodes.find(tx, sa.true()) if one.id in names}
    powered = {}
    for name, node in here.items():
        bmc = None if node.bmc_address is None else stage.bmcs.by_address[node.bmc_address]
        powered[name] = [] if bmc is None else [call.what for call in bmc.calls]
    return Books(
        nodes={voice.name: here[voice.name] for voice in stage.voices.values()},
        held={names[row["node_id"]] for row in nodes.holds(tx)},
        decisions=_decisions(tx, names),
        findings=_findings(tx, names),
        incidents=_incidents(tx),
        powered=powered,
        events=[str(row["type"]) for row in tx.all(sa.select(event.c.type))],
        tickets={names[row["node_id"]] for row in tx.all(sa.select(ticket.c.node_id)) if row["node_id"] in names},
        conditions=[(names[row["node_id"]], str(row["type"])) for row in nodes.conditions(tx)],
    )


def _decisions(tx: Tx, names: dict[str, str]) -> list[dict[str, Any]]:
    rows = tx.all(
        sa.select(decision, finding.c.fault.label("about"), finding.c.device)
        .outerjoin(finding, finding.c.id == decision.c.finding_id)
        .order_by(decision.c.at, decision.c.id)
    )
    return [
        {
            "at": round(row["at"] - START, 1),
            "node": names[row["node_id"]],
            "verdict": row["verdict"],
            "action": row["action"],
            "timing": row["timing"],
            "fault": row["about"] or row["fault"] or "",
            "device": row["device"] or "",
            "reasons": list(row["reasons"]),
        }
        for row in rows
    ]


def _findings(tx: Tx, names: dict[str, str]) -> list[dict[str, Any]]:
    rows = tx.all(sa.select(finding).order_by(finding.c.first_at, finding.c.id))
    keys = ("fault", "device", "serial", "severity", "confidence", "action", "message", "evidence", "incident_id")
    return [
        {
            "at": round(row["first_at"] - START, 1),
            "node": names[row["node_id"]],
            **{key: row[key] for key in keys},
            "cleared": row["cleared_at"] is not None,
            "cleared_by": row["cleared_by"],
        }
        for row in rows
    ]


def _incidents(tx: Tx) -> list[dict[str, Any]]:
    members: dict[str, set[str]] = {}
    folded = sa.select(finding.c.incident_id, finding.c.node_id).where(finding.c.incident_id.is_not(None))
    for row in tx.all(folded):
        members.setdefault(str(row["incident_id"]), set()).add(row["node_id"])
    rows = tx.all(sa.select(incident).order_by(incident.c.opened_at, incident.c.id))
    return [
        {
            "at": round(row["opened_at"] - START, 1),
            "cause": row["cause"],
            "scope": row["scope"],
            "subject": row["subject"],
            "summary": row["summary"],
            "nodes": len(members.get(str(row["id"]), ())),
            "open": row["closed_at"] is None,
        }
        for row in rows
    ]
