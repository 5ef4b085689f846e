"""Opens, renews and clears findings and incidents, with audit and events. Called by intake, silence and remediation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.audit import service as audit
from ostler.core.actor import Actor, ostler
from ostler.core.errors import BadInput, Conflict
from ostler.core.ids import new_id
from ostler.db.tx import Tx
from ostler.events import service as events
from ostler.faults.model import Severity
from ostler.health import store
from ostler.health.model import Cause, Confidence, Diagnosis, condition_of
from ostler.health.parts import serial
from ostler.health.rules import family_of
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.model import Condition, Node

ACTOR = ostler("health")
SERIOUS = (Severity.ERROR, Severity.FATAL)
NODE_CONDITIONS = (
    Condition.GPU_UNHEALTHY,
    Condition.LINK_UNHEALTHY,
    Condition.HARDWARE_UNHEALTHY,
    Condition.SIGNALS_LOST,
    Condition.SILENT,
)
"""Conditions that findings make true, and that end with the last of their findings."""


def note(tx: Tx, node: Node, diagnosis: Diagnosis, *, condition: Condition | None = None) -> str:
    """Make a diagnosis an active finding, or renew the one that says the same. Returns its id.

    One that does not renew only adds to the evidence of what is active; its id is empty if nothing is.
    """
    present = store.find_active(tx, node.id, diagnosis.fault, diagnosis.device)
    fields = _fields(tx, diagnosis)
    if not diagnosis.renews:
        if present is not None and present["evidence"] != fields["evidence"]:
            store.update(tx, present["id"], {"evidence": fields["evidence"]})
        return "" if present is None else str(present["id"])
    if present is not None:
        store.update(tx, present["id"], {**fields, "count": present["count"] + 1})
        if diagnosis.severity in SERIOUS and present["severity"] not in SERIOUS:
            _tell(tx, node, str(present["id"]), diagnosis, condition, "finding.worsened")
        return str(present["id"])
    finding_id = new_id("finding")
    store.insert(
        tx,
        {
            "id": finding_id,
            "node_id": node.id,
            "fault": diagnosis.fault,
            "device": diagnosis.device,
            "serial": serial(diagnosis.component, diagnosis.device, node.inventory) or node.serial,
            "first_at": tx.now,
            "count": 1,
            **fields,
        },
    )
    _tell(tx, node, finding_id, diagnosis, condition, "finding.opened")
    return finding_id


def note_many(tx: Tx, node: Node, diagnoses: Sequence[Diagnosis], active: Sequence[sa.RowMapping]) -> None:
    """`note` for each, where `active` are the node's active findings; what is only renewed is written at once."""
    known = {(row["fault"], row["device"]): row for row in active}
    renewed: list[Mapping[str, Any]] = []
    for one in diagnoses:
        present = known.get((one.fault, one.device))
        if present is None or not one.renews or (one.severity in SERIOUS and present["severity"] not in SERIOUS):
            note(tx, node, one)
        else:
            renewed.append({"which": present["id"], **_fields(tx, one), "count": present["count"] + 1})
    store.update_many(tx, renewed)


def _fields(tx: Tx, diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "component": diagnosis.component,
        "severity": diagnosis.severity,
        "confidence": diagnosis.confidence,
        "action": diagnosis.action,
        "message": diagnosis.message,
        "evidence": dict(diagnosis.evidence),
        "last_at": tx.now,
    }


def _tell(tx: Tx, node: Node, finding_id: str, diagnosis: Diagnosis, condition: Condition | None, action: str) -> None:
    """What follows from a finding that is new, or serious for the first time: condition, audit, event."""
    serious = diagnosis.severity in SERIOUS
    if condition is None and serious:
        condition = condition_of(diagnosis.component)
    if condition is not None:
        nodes_service.raise_condition(
            tx, node.id, condition, reason=diagnosis.fault, message=diagnosis.message, evidence={"finding": finding_id}
        )
    detail = {"fault": diagnosis.fault, "device": diagnosis.device, "action": diagnosis.action}
    audit.record(tx, actor=ACTOR, action=action, subject=node.id, reason=diagnosis.message[:200], detail=detail)
    if serious:
        unhealthy = {"node_id": node.id, "reason": diagnosis.fault, "gpu_count": node.gpu_count}
        events.publish(tx, "node.unhealthy", node.id, unhealthy)


def clear(tx: Tx, findings: Sequence[sa.RowMapping], *, by: str, actor: Actor = ACTOR) -> None:
    """End findings by evidence (`by` says which), with the conditions that rested on them; close emptied incidents.

    A node that has no serious finding left is healthy again, and that is published.
    """
    findings = [row for row in findings if store.end(tx, row["id"], by)]
    for row in findings:
        audit.record(
            tx,
            actor=actor,
            action="finding.cleared",
            subject=row["node_id"],
            reason=by,
            detail={"fault": row["fault"], "device": row["device"]},
        )
    for node_id in dict.fromkeys(row["node_id"] for row in findings):
        left = store.active(tx, node_id)
        for condition in NODE_CONDITIONS:
            if not any(_rests_on(condition, row) for row in left):
                nodes_service.clear_condition(tx, node_id, condition)
        was_serious = any(row["severity"] in SERIOUS for row in findings if row["node_id"] == node_id)
        if was_serious and not any(row["severity"] in SERIOUS for row in left):
            events.publish(tx, "node.healthy", node_id, {"node_id": node_id, "reason": by})
    for incident_id in dict.fromkeys(row["incident_id"] for row in findings if row["incident_id"]):
        if not store.goes_on(tx, incident_id):
            close_incident(tx, incident_id, outcome=by)
    if findings:
        _clear_followers(tx, findings, by, actor)


def _clear_followers(tx: Tx, roots: Sequence[sa.RowMapping], by: str, actor: Actor) -> None:
    """What only followed from a fault on another node ends with that fault."""
    fault = {str(row["id"]): row["fault"] for row in roots}
    for row in store.followers(tx, list(fault)):
        follows = store.findings_of(tx, row["id"], active_only=True)
        clear(tx, follows, by=f"it followed from {fault[row['evidence']['root']]}, which is cleared: {by}", actor=actor)


def clear_by_person(tx: Tx, finding_id: str, *, reason: str, actor: Actor) -> sa.RowMapping:
    """A person's word with a reason ends a verdict, as a passed check does. Returns the finding as it is then.

    Raises `NotFound`, `BadInput` without a reason, and `Conflict` when it is cleared already. What still stands is
    found again by whoever looks next.
    """
    if not reason.strip():
        raise BadInput("Say why: a verdict is cleared by evidence.", where="reason")
    row = store.get(tx, finding_id)
    if row["cleared_at"] is not None:
        raise Conflict(f"{row['fault']} is cleared already, by {row['cleared_by']}.", where=finding_id)
    nodes.locked(tx, row["node_id"])
    clear(tx, [row], by=f"{actor.name}: {reason.strip()}", actor=actor)
    return store.get(tx, finding_id)


def ripen(tx: Tx) -> int:
    """What a first look after a boot found, and stands when the boot is long over, is believed. How many it was."""
    rows = store.ripe(tx)
    for row in rows:
        evidence = {name: value for name, value in row["evidence"].items() if name != "low_until"}
        why = f"{evidence.get('why', '')}; it still stood when the boot was over".removeprefix("; ")
        store.update(tx, row["id"], {"confidence": Confidence.MEDIUM, "evidence": {**evidence, "why": why}})
    return len(rows)


def open_incident(tx: Tx, cause: Cause) -> str:
    """One incident for many findings; they point to it and lose their claim to action. Returns its id."""
    tx.lock(f"incident:{cause.cause}:{cause.scope}:{cause.subject}")
    present = store.open_incident(tx, cause.cause, cause.scope, cause.subject)
    if present is not None:
        incident_id = str(present["id"])
    else:
        incident_id = new_id("incident")
        store.insert_incident(
            tx,
            {
                "id": incident_id,
                "cause": cause.cause,
                "scope": cause.scope,
                "subject": cause.subject,
                "summary": cause.summary,
                "evidence": {
                    "findings": list(cause.finding_ids),
                    "fault": cause.fault,
                    **({"family": list(cause.family)} if cause.family else {}),
                    **({"root": cause.root} if cause.root else {}),
                },
                "opened_at": tx.now,
            },
        )
        told = _incident_event(incident_id, cause.cause, cause.scope, cause.subject, cause.summary)
        events.publish(tx, "incident.opened", incident_id, told)
        audit.record(tx, actor=ACTOR, action="incident.opened", subject=incident_id, reason=cause.summary)
    join(tx, incident_id, cause.finding_ids)
    return incident_id


def join(tx: Tx, incident_id: str, finding_ids: Sequence[str]) -> None:
    """Findings that an open incident explains; its summary says of how many nodes they are by now."""
    for finding_id in finding_ids:
        store.update(tx, finding_id, {"incident_id": incident_id})
    before = store.get_incident(tx, incident_id)["summary"]
    summary = re.sub(r"^\d+(?= )", str(store.nodes_of(tx, incident_id)), before)
    if summary != before:
        store.update_incident(tx, incident_id, {"summary": summary})


def succeed(tx: Tx, former: sa.RowMapping, now: sa.RowMapping | None) -> None:
    """The same fault is told by a better witness: what explained the one finding explains the other."""
    family = family_of(former["fault"])
    if now is None or former["incident_id"] is None or now["incident_id"] is not None:
        return
    if family is None or family_of(now["fault"]) is not family:
        return
    incident = store.get_incident(tx, former["incident_id"])
    known = list(incident["evidence"].get("family", ()))
    if now["fault"] not in known:
        evidence = {**incident["evidence"], "family": [*known, now["fault"]]}
        store.update_incident(tx, incident["id"], {"evidence": evidence})
    join(tx, incident["id"], [now["id"]])


def take_out(tx: Tx, findings: Sequence[sa.RowMapping], *, why: str) -> None:
    """Findings that their incident does not explain any more stand for themselves again."""
    for row in findings:
        store.update(tx, row["id"], {"incident_id": None})
    for incident_id in dict.fromkeys(row["incident_id"] for row in findings if row["incident_id"]):
        if not store.goes_on(tx, incident_id):
            close_incident(tx, incident_id, outcome=why)


def close_incident(tx: Tx, incident_id: str, *, outcome: str) -> None:
    """The cause is gone."""
    row = store.get_incident(tx, incident_id)
    if row["closed_at"] is not None:
        return
    store.update_incident(tx, incident_id, {"closed_at": tx.now, "outcome": outcome})
    told = _incident_event(incident_id, row["cause"], row["scope"], row["subject"], row["summary"])
    events.publish(tx, "incident.closed", incident_id, {**told, "outcome": outcome})
    audit.record(tx, actor=ACTOR, action="incident.closed", subject=incident_id, reason=outcome)


def _incident_event(incident_id: str, cause: str, scope: str, subject: str, summary: str) -> Mapping[str, Any]:
    return {"incident_id": incident_id, "cause": cause, "scope": scope, "subject": subject, "summary": summary}


def _rests_on(condition: Condition, row: sa.RowMapping) -> bool:
    if condition is Condition.SILENT:
        return bool(row["fault"] == "silent")
    if condition is Condition.SIGNALS_LOST:
        return bool(row["fault"] == "signal-gap")
    return row["severity"] in SERIOUS and row["fault"] != "silent" and condition_of(row["component"]) is condition


def node_of(tx: Tx, finding: sa.RowMapping) -> Node:
    """The node that a finding is about."""
    return nodes.get(tx, finding["node_id"])
