"""The two ways a remediation ends: to production through a passed check, or to triage with a ticket. For `tasks.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ostler.brake import service as brake
from ostler.core.actor import Actor
from ostler.core.ids import PermitId
from ostler.db.tx import Tx
from ostler.health import findings
from ostler.health import store as health
from ostler.jobs.procedure import JobView
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.model import Facts, Node, State
from ostler.tickets import service as tickets
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


def to_production(tx: Tx, job: JobView, measured: Mapping[str, Any], *, actor: Actor) -> None:
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
    active = [
        {"fault": row["fault"], "device": row["device"], "message": row["message"]}
        for row in health.active(tx, node.id)
    ]
    tickets.open_ticket(
        tx,
        node=node,
        cause=active[0]["fault"] if active else reason[:80],
        instruction=instruction,
        evidence={"findings": active[:20], "serial": node.serial},
    )
    if permit is not None:
        brake.release(tx, permit)
