"""Assembles cases, records decisions, starts the procedure. Called by `tasks.py`, the agents' desk and the faces."""

from __future__ import annotations

import sqlalchemy as sa

from ostler.audit import service as audit
from ostler.brake import service as brake
from ostler.core.actor import Actor, ostler
from ostler.core.errors import Refused
from ostler.core.ids import PermitId, new_id
from ostler.db.tx import Tx
from ostler.events import service as events
from ostler.faults.model import Action, Severity
from ostler.health import causes, findings
from ostler.health import store as health
from ostler.health.model import Confidence, Diagnosis, HealthSettings
from ostler.jobs import store as jobs
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, Service, State, Timing
from ostler.remediation import policy, store
from ostler.remediation.model import Case, Complaint, Plan, RemediationSettings, Verdict

ACTOR = ostler("remediation")
PROCEDURE = "remediation"
VERSION = 1
FIRST = "settle"


def key(node_id: str) -> str:
    """At most one live remediation per node."""
    return f"remediation:{node_id}"


def start(tx: Tx, node_id: str) -> str:
    """Begin to look after a node, unless somebody does already. Returns the job's id."""
    return jobs.enqueue(tx, PROCEDURE, node_id, step=FIRST, version=VERSION, key=key(node_id))


def consider(tx: Tx, node_id: str, diagnoses: list[Diagnosis]) -> None:
    """A node's diagnosis changed: start or wake its remediation if it asks for more than watching."""
    if any(policy.LADDER.index(one.action) > policy.LADDER.index(Action.WATCH) for one in diagnoses):
        job_id = start(tx, node_id)
        jobs.wake(tx, job_id=job_id)


def order(tx: Tx, node_id: str, action: Action, *, timing: Timing, actor: Actor, reason: str) -> str:
    """A person orders a reboot or power cycle: the same procedure, brake included, without asking the pool's grants."""
    node = nodes.get(tx, node_id)
    if node.state is not State.PRODUCTION:
        raise Refused(f"{node.name} is in {node.state}; only a node in production is rebooted this way.")
    if action not in policy.IN_PLACE:
        raise Refused(f"{action} is nothing that is done in place.")
    if node.bmc_address is None:
        raise Refused(f"{node.name} has no BMC address, so nothing can power it.")
    if (stopped := brake.stopped(tx, node)) is not None:
        raise Refused(f"{action} of {node.name} is held: {stopped}. Order it again when that is over.")
    job_id = start(tx, node.id)
    ordered = {"action": action, "timing": timing, "actor": actor.name, "reason": reason}
    jobs.wake(tx, job_id=job_id, data={"ordered": ordered})
    audit.record(tx, actor=actor, action=f"node.{action}.ordered", subject=node.id, reason=reason, detail=ordered)
    return job_id


def case_of(tx: Tx, node: Node, settings: RemediationSettings) -> Case:
    """Everything the policy may look at, as it stands now."""
    complaints = tuple(
        Complaint(
            finding_id=row["id"],
            fault=row["fault"],
            device=row["device"],
            severity=Severity(row["severity"]),
            confidence=Confidence(row["confidence"]),
            action=Action(row["action"]),
            first_at=row["first_at"],
            incident_id=row["incident_id"],
        )
        for row in health.active(tx, node.id)
        if row["incident_id"] is None and not outlived(row, node)
    )
    return Case(
        state=node.state,
        complaints=complaints,
        granted=nodes.get_pool(tx, node.pool).capabilities,
        unmanaged=node.service is Service.UNMANAGED,
        repairs=store.repairs(tx, node.id, tx.now - settings.repair_window_s),
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
    struck = health.struck(tx, tx.now - settings.window_s)
    if not struck:
        return []
    late = causes.latecomers(struck, health.open_causes(tx))
    for incident_id, finding_ids in late.items():
        findings.join(tx, incident_id, finding_ids)
    joined = {finding_id for finding_ids in late.values() for finding_id in finding_ids}
    struck = [one for one in struck if one.finding_id not in joined]
    if len({one.node_id for one in struck}) < settings.storm_nodes:
        return []
    return [findings.open_incident(tx, one) for one in causes.fold(struck, health.serving_per_sku(tx), settings)]


def record(
    tx: Tx, node: Node, plan: Plan, *, job_id: str, permit: PermitId | None = None, held: str | None = None
) -> None:
    """Keep a decision, once: the same verdict about the same finding is not repeated."""
    verdict = Verdict.HELD if held is not None else plan.verdict
    finding_id = None if plan.complaint is None else plan.complaint.finding_id
    if finding_id is not None and verdict in (Verdict.WOULD_ACT, Verdict.HELD):
        last = store.last_about(tx, finding_id)
        if last is not None and (last["action"], last["verdict"]) == (plan.action, verdict):
            return
    reasons = [*plan.reasons, *([held] if held is not None else [])]
    store.insert(
        tx,
        {
            "id": new_id("decision"),
            "node_id": node.id,
            "finding_id": finding_id,
            "action": plan.action,
            "timing": plan.timing or "none",
            "verdict": verdict,
            "reasons": reasons,
            "permit_id": permit,
            "job_id": job_id,
            "at": tx.now,
        },
    )
    told = {"node_id": node.id, "action": plan.action, "reason": "; ".join(reasons)}
    audit.record(tx, actor=ACTOR, action=f"decision.{verdict}", subject=node.id, reason=told["reason"], detail=told)
    if verdict is Verdict.WOULD_ACT:
        events.publish(tx, "action.would_act", node.id, told)
    elif verdict is Verdict.HELD:
        events.publish(tx, "brake.held", node.id, told)


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
        if plan.complaint is None or withdrawn(tx, plan):
            continue
        last = store.last_about(tx, plan.complaint.finding_id)
        decided = last is not None and (last["action"], last["verdict"]) == (plan.action, plan.verdict)
        if plan.verdict is Verdict.ACT or not decided:
            due.append(node.id)
    return due
