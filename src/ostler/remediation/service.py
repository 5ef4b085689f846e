"""Assembles cases, records decisions, starts the procedure. Called by the steps, the agents' desk and the faces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from ostler.audit import service as audit
from ostler.core.actor import ostler
from ostler.core.ids import PermitId, new_id
from ostler.db.tx import Tx
from ostler.events import service as events
from ostler.faults.model import Action, Severity
from ostler.health import correlation, findings
from ostler.health import store as health
from ostler.health.model import Confidence, Diagnosis, HealthSettings
from ostler.health.rules import LADDER
from ostler.jobs import store as jobs
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, Service, State
from ostler.remediation import policy, store
from ostler.remediation.model import Case, Complaint, Plan, RemediationSettings, Verdict
from ostler.remediation.parts import serial_of

ACTOR = ostler("remediation")
PROCEDURE = "remediation"
VERSION = 2
FIRST = "settle"

DANGER = "danger"
"""The step that a leak's job begins with."""


def key(node_id: str) -> str:
    """At most one live remediation per node."""
    return f"remediation:{node_id}"


def danger_key(node_id: str) -> str:
    """A leak has a job of its own: it waits for no reset or boot that is under way."""
    return f"danger:{node_id}"


def start(tx: Tx, node_id: str) -> str:
    """Begin to look after a node, unless somebody does already. Returns the job's id."""
    return jobs.enqueue(tx, PROCEDURE, node_id, step=FIRST, version=VERSION, key=key(node_id))


def start_ordered(tx: Tx, node_id: str, ordered: Mapping[str, Any]) -> str:
    """Have a node's job do what a person ordered: the one that is live, or a new one. Returns its id."""
    job_id = start(tx, node_id)
    if not jobs.wake(tx, job_id=job_id, data={"ordered": dict(ordered)}):  # it ended just now, in another transaction
        job_id = start(tx, node_id)
        jobs.wake(tx, job_id=job_id, data={"ordered": dict(ordered)})
    return job_id


def start_danger(tx: Tx, node_id: str) -> str:
    """Begin to switch a leaking node off, unless somebody does already. Returns the job's id."""
    return jobs.enqueue(tx, PROCEDURE, node_id, step=DANGER, version=VERSION, key=danger_key(node_id))


def consider(tx: Tx, node_id: str, diagnoses: Iterable[Diagnosis]) -> None:
    """A node's diagnosis changed: start or wake its remediation if it asks for more than watching."""
    diagnoses = list(diagnoses)
    if any(one.action is Action.POWER_OFF for one in diagnoses) and not nodes.get(tx, node_id).power_locked:
        jobs.wake(tx, job_id=start_danger(tx, node_id))
    if any(LADDER.index(one.action) > LADDER.index(Action.WATCH) for one in diagnoses) or any(
        one.fault in policy.HOT_SWAP for one in diagnoses
    ):
        jobs.wake(tx, job_id=start(tx, node_id))


def case_of(tx: Tx, node: Node, settings: RemediationSettings, hold_until: float | None = None) -> Case:
    """Everything the policy may look at, as it stands now."""
    complaints = tuple(
        complaint(tx, node, row, settings)
        for row in health.active(tx, node.id)
        if (row["incident_id"] is None or row["action"] == Action.POWER_OFF.value) and not outlived(row, node)
    )
    return Case(
        state=node.state,
        complaints=complaints,
        granted=nodes.get_pool(tx, node.pool).capabilities,
        unmanaged=node.service is Service.UNMANAGED,
        pool=node.pool,
        now=tx.now,
        hold_until=hold_until,
    )


def complaint(tx: Tx, node: Node, row: sa.RowMapping, settings: RemediationSettings) -> Complaint:
    serial = row["serial"] or serial_of(node.inventory, row["device"], node.serial)
    since = tx.now - settings.repair_window_s
    return Complaint(
        finding_id=row["id"],
        fault=row["fault"],
        device=row["device"],
        severity=Severity(row["severity"]),
        confidence=Confidence(row["confidence"]),
        action=Action(row["action"]),
        first_at=row["first_at"],
        incident_id=row["incident_id"],
        serial=serial,
        past=store.past(tx, row["fault"], serial=serial, node_id=node.id, device=row["device"], since=since),
    )


def outlived(finding: sa.RowMapping, node: Node) -> bool:
    """Whether the node has passed its checks and come to production since the finding was last seen."""
    return node.state is State.PRODUCTION and bool(finding["last_at"] < node.state_since)


def clear_outlived(tx: Tx) -> int:
    """End what nodes were repaired and tested for: the check that returned them is the evidence. How many it was."""
    over = health.outlived(tx)
    findings.clear(tx, over, by="the checks passed with which the node came back to production")
    return len(over)


def correlate(tx: Tx, settings: HealthSettings) -> list[str]:
    """Fold what many nodes report into incidents, before anything is done about one of them. Returns incident ids."""
    return correlation.correlate(tx, settings)


def record(
    tx: Tx, node: Node, plan: Plan, *, job_id: str, permit: PermitId | None = None, held: str | None = None
) -> None:
    """Keep a decision, once: the same verdict about the same finding is not repeated."""
    verdict = Verdict.HELD if held is not None else plan.verdict
    finding_id = None if plan.complaint is None else plan.complaint.finding_id
    reasons = [*plan.reasons, *([held] if held is not None else [])]
    if verdict is not Verdict.ACT and _is_said(tx, node, finding_id, plan, verdict, job_id):
        return
    serial = node.serial if plan.complaint is None else plan.complaint.serial
    store.insert(
        tx,
        {
            "id": new_id("decision"),
            "node_id": node.id,
            "finding_id": finding_id,
            "incident_id": None if plan.complaint is None else plan.complaint.incident_id,
            "action": plan.action,
            "timing": plan.timing or "none",
            "verdict": verdict,
            "reasons": reasons,
            "fault": plan.fault,
            "serial": serial,
            "permit_id": permit,
            "job_id": job_id,
            "at": tx.now,
        },
    )
    if finding_id is not None and serial is not None:
        health.update(tx, finding_id, {"serial": serial})
    told = {"node_id": node.id, "action": plan.action, "reason": "; ".join(reasons)}
    audit.record(tx, actor=ACTOR, action=f"decision.{verdict}", subject=node.id, reason=told["reason"], detail=told)
    if verdict is Verdict.WOULD_ACT:
        events.publish(tx, "action.would_act", node.id, told)
    elif verdict is Verdict.HELD:
        events.publish(tx, "brake.held", node.id, told)


def _is_said(tx: Tx, node: Node, finding_id: str | None, plan: Plan, verdict: Verdict, job_id: str) -> bool:
    """Whether this is what was decided last: about the finding or, without one, about the node."""
    if finding_id is not None:
        last = store.last_about(tx, finding_id)
        if verdict is Verdict.RECORD and last is not None and last["timing"] != (plan.timing or "none"):
            return False  # `withdrawn` looks at the timing too
        return last is not None and (last["action"], last["verdict"]) == (plan.action, verdict)
    rows = store.of_node(tx, node.id, limit=1)
    if not rows or (rows[0]["finding_id"], rows[0]["action"], rows[0]["verdict"]) != (None, plan.action, verdict):
        return False
    # What holds an order changes its words each time; what is only recorded has the same words in every job.
    return bool(rows[0]["job_id"] == job_id if verdict is Verdict.HELD else rows[0]["reasons"] == list(plan.reasons))


def withdrawn(tx: Tx, plan: Plan) -> bool:
    """Whether a person took this decision about this finding back; another action or timing is another decision."""
    if plan.complaint is None:
        return False
    last = store.last_about(tx, plan.complaint.finding_id)
    same = (Verdict.RECORD, plan.action, plan.timing)
    return last is not None and (last["verdict"], last["action"], last["timing"]) == same


def undecided(tx: Tx, settings: RemediationSettings) -> list[str]:
    """Nodes whose findings ask for something that the last decision does not cover: the sweep that misses no edge."""
    due: list[str] = []
    for row in health.actionable(tx):
        node = nodes.get(tx, row["node_id"])
        if node.state is not State.PRODUCTION:
            continue
        plan = policy.decide(case_of(tx, node, settings), settings)
        if plan.complaint is None or plan.action is Action.POWER_OFF or withdrawn(tx, plan):
            continue
        last = store.last_about(tx, plan.complaint.finding_id)
        decided = last is not None and (last["action"], last["verdict"]) == (plan.action, plan.verdict)
        if plan.verdict is Verdict.ACT or not decided:
            due.append(node.id)
    return due
