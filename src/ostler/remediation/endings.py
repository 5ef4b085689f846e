"""How a remediation ends: to production through a passed check and on probation, or to triage with a ticket and a
replacement request; or, for a part that is changed while the node serves, with a ticket only. For the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from ostler.brake import service as brake
from ostler.core.actor import Actor
from ostler.core.clock import iso
from ostler.core.ids import PermitId
from ostler.db.tx import Tx
from ostler.health import findings
from ostler.health import store as health
from ostler.jobs.procedure import JobView
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.model import Condition, Facts, Node, State
from ostler.remediation import parts
from ostler.remediation.model import Complaint, RemediationSettings
from ostler.remediation.policy import HOT_SWAP
from ostler.tickets import service as tickets
from ostler.tickets import store as ticket_store
from ostler.trends import service as trends
from ostler.trends.model import Verdict

VERIFICATION = "verification"
"""The outcome that the lifecycle's guard `reboot → production` asks for."""


def facts_with_permit(facts: Facts) -> Facts:
    return replace(facts, permit=True)


def record_verification(
    tx: Tx, node: Node, job: JobView, *, passed: bool, measured: Mapping[str, Any], message: str = ""
) -> str:
    """Keep the verification's outcome. Returns its id: the evidence that clears findings."""
    return trends.record(
        tx,
        node,
        VERIFICATION,
        Verdict.PASSED if passed else Verdict.FAILED,
        measured=measured,
        message=message,
        started_at=job.data.get("verifying_since", tx.now),
        finished_at=tx.now,
    )


def to_production(
    tx: Tx, job: JobView, measured: Mapping[str, Any], settings: RemediationSettings, *, actor: Actor
) -> None:
    """Verified: findings are cleared by this evidence, the permit is given back, the cordon is lifted."""
    node = nodes.get(tx, job.subject)
    permit = PermitId(job.data["permit"])
    brake.release(tx, permit)
    if node.state is not State.REBOOT:
        return
    outcome_id = record_verification(tx, node, job, passed=True, measured=measured)
    ours = [row for row in health.active(tx, node.id) if row["incident_id"] is None]
    findings.clear(tx, ours, by=f"verification {outcome_id} passed after {job.data['action']}", actor=actor)
    facts = replace(nodes_service.facts(tx, node, actor), passed=trends.passed_since(tx, node.id, node.state_since))
    nodes_service.transition(
        tx,
        node.id,
        State.PRODUCTION,
        actor=actor,
        cause="verified",
        facts=facts,
        reason=f"{job.data['fault']}: {job.data['action']}, then verification passed",
        evidence={"outcome": outcome_id, "permit": permit},
    )
    if settings.probation_s > 0 and job.data.get("finding"):
        until = tx.now + settings.probation_s
        about = health.get(tx, job.data["finding"])
        part = f" of {about['serial']}" if about["serial"] else ""
        nodes_service.raise_condition(
            tx,
            node.id,
            Condition.PROBATION,
            reason=about["fault"],
            message=f"until {iso(until)}: {about['fault']}{part} again means more than {job.data['action']}",
            evidence={"until": until, "serial": about["serial"], "outcome": outcome_id},
        )


def to_triage(tx: Tx, node: Node, instruction: str, *, actor: Actor, reason: str, permit: PermitId | None) -> None:
    """Out of production for a person: the state, the ticket that says what to do where, the permit given back."""
    nodes_service.transition(
        tx,
        node.id,
        State.TRIAGE,
        actor=actor,
        cause="remediation",
        facts=nodes_service.facts(tx, node, actor),
        reason=reason,
        evidence={"permit": permit},
    )
    open_triage_ticket(tx, node, instruction, cause=reason[:80])
    if permit is not None:
        brake.release(tx, permit)


def open_triage_ticket(tx: Tx, node: Node, instruction: str, *, cause: str) -> str:
    """The ticket of a node that is out of production: what was found, and which parts are wanted. Returns its id.

    `cause`: for a node without a finding; else its first finding is the cause.
    """
    active = health.active(tx, node.id)
    serious = [row for row in active if row["severity"] in findings.SERIOUS]
    said = [{"fault": row["fault"], "device": row["device"], "message": row["message"]} for row in active[:20]]
    cables = [row["id"] for row in ticket_store.listed(tx, state="unfinished", node_id=node.id) if row["key"]]
    return tickets.open_ticket(
        tx,
        node=node,
        cause=active[0]["fault"] if active else cause,
        instruction=f"{instruction} The plugs are in {', '.join(cables[:3])}." if cables else instruction,
        evidence={"findings": said, "serial": node.serial},
        parts=parts.wanted(node.inventory, node.slot, node.serial, [dict(row) for row in serious]),
    )


def hot_swap(tx: Tx, node: Node, complaint: Complaint) -> None:
    """A ticket for what is changed while the node serves: one per part, anew only for what is said after its end."""
    row = health.get(tx, complaint.finding_id)
    if not unticketed(tx, row):
        return
    part = HOT_SWAP[complaint.fault]
    tickets.open_ticket(
        tx,
        node=node,
        cause=_swap_cause(row),
        instruction=f"{row['message']}. Change the {part}{' ' + complaint.device if complaint.device else ''} while "
        "the node serves; it need not be drained.",
        evidence={"findings": [{"fault": row["fault"], "device": row["device"], "message": row["message"]}]},
        parts=parts.wanted(node.inventory, node.slot, node.serial, [dict(row)]),
    )


def unticketed(tx: Tx, finding: sa.RowMapping) -> bool:
    """Whether a hot-swap finding has no ticket yet: none is open, and none was closed since it was last said."""
    cause = _swap_cause(finding)
    if ticket_store.unfinished(tx, finding["node_id"], cause) is not None:
        return False
    closed = ticket_store.last_closed(tx, finding["node_id"], cause)
    return closed is None or bool(finding["last_at"] > closed)


def _swap_cause(finding: sa.RowMapping) -> str:
    return f"{finding['fault']} {finding['device']}".strip()
