"""A confirmed leak: who is paged, and the lock that a named person clears.

Called by the steps of `powering.py`, by the sweep and by `by_hand.py`. ADR 013 has the table of what holds power-off
back; `brake.reserve_danger` is where hands, pauses and flashes do.
"""

from __future__ import annotations

from ostler.audit import service as audit
from ostler.core.actor import Actor
from ostler.core.errors import Conflict, Refused
from ostler.core.ids import PermitId
from ostler.db.tx import Tx
from ostler.faults.model import Action
from ostler.health import findings
from ostler.health import store as health
from ostler.health.model import Cause
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.model import Condition, Node, State
from ostler.remediation import endings, policy, service, store
from ostler.remediation.model import RemediationSettings, Verdict

LEAK = "leak"
"""The cause of the incidents that page."""

NOT_HERE = frozenset({State.RMA, State.RETIRED})
"""States in which the chassis is not ours to power."""


def page(tx: Tx, node: Node, summary: str) -> str:
    """Tell people about one leaking node, once while the incident is open. Returns the incident's id."""
    return _page(tx, "node", node.id, f"{node.name}{f' in {node.slot}' if node.slot else ''}: {summary}")


def _page(tx: Tx, scope: str, subject: str, summary: str) -> str:
    """An incident without findings: a leak's finding keeps its claim to action, whatever else explains it."""
    if (present := health.open_incident(tx, LEAK, scope, subject)) is not None:
        if summary not in present["summary"]:
            said = f"{present['summary']}; {summary}"[:1000]
            health.update_incident(tx, present["id"], {"summary": said})
        return str(present["id"])
    return findings.open_incident(tx, Cause(LEAK, scope, subject, summary, ()))


def dealt_with(tx: Tx, node: Node, settings: RemediationSettings) -> bool:
    """Whether all is done about a node's leak that may be: it is locked, or people know that it may not."""
    if node.power_locked or node.state in NOT_HERE:
        return True
    plan = policy.decide(service.case_of(tx, node, settings), settings)
    if plan.action is not Action.POWER_OFF or plan.complaint is None:
        return True
    last = store.last_about(tx, plan.complaint.finding_id)
    told = last is not None and (last["action"], last["verdict"]) == (plan.action, plan.verdict)
    return told and plan.verdict is Verdict.WOULD_ACT


def look(tx: Tx, settings: RemediationSettings) -> None:
    """The level behind all pages: leaks in several racks are one more page, and pages end with their leaks."""
    leaking = [row for row in store.special(tx, ()) if row["action"] == Action.POWER_OFF.value]
    racks = store.racks_with(tx, [row["id"] for row in leaking], tx.now - settings.leak_window_s)
    if len(racks) >= settings.leak_racks and len(racks) > 1:
        names = ", ".join(sorted(racks))
        nodes_told = ", ".join(name for rack in sorted(racks) for name in racks[rack])
        # The number is not the first word: an incident's leading number counts the nodes of its findings.
        _page(tx, "fleet", "fleet", f"leaks in {len(racks)} racks at once ({names}): {nodes_told}. Look at the cooling")
    standing = {row["node_id"] for row in leaking}
    for row in store.open_incidents(tx, LEAK):
        over = not standing if row["scope"] == "fleet" else row["subject"] not in standing
        if over and (row["scope"] == "fleet" or not nodes.get(tx, row["subject"]).power_locked):
            findings.close_incident(tx, row["id"], outcome="no leak is reported any more")


def lock(tx: Tx, node: Node, permit: PermitId, reason: str) -> None:
    """Before the power goes: nothing switches the node on again, it leaves service, and a technician is called."""
    nodes.update(tx, node.id, {"power_locked": True})
    nodes_service.raise_condition(
        tx,
        node.id,
        Condition.POWER_LOCKED,
        reason=LEAK,
        message=f"power-on is locked until a named person clears it: {reason}"[:500],
        evidence={"permit": permit},
    )
    audit.record(tx, actor=service.ACTOR, action="node.power.locked", subject=node.id, reason=reason)
    instruction = (
        f"{reason}. The node is being switched off. Close its coolant, find and mend the leak, dry what is wet; then "
        f"clear the lock with 'ostler nodes power {node.name} --clear-lock --reason …'."
    )
    if node.pending_state is not None:
        nodes_service.withdraw_pending(tx, node.id, reason=reason, actor=service.ACTOR)
    if node.state not in (State.TRIAGE, State.DEBUG):
        facts = nodes_service.facts(tx, node, service.ACTOR)
        try:
            nodes_service.transition(
                tx,
                node.id,
                State.TRIAGE,
                actor=service.ACTOR,
                cause=LEAK,
                facts=facts,
                reason=reason,
                evidence={"permit": permit},
            )
        except Refused as refused:  # power is granted and cordon is not: the water does not wait for that
            audit.record(tx, actor=service.ACTOR, action="node.leak.not_moved", subject=node.id, reason=refused.message)
    endings.open_triage_ticket(tx, node, instruction, cause=LEAK)


def clear_lock(tx: Tx, node: Node, *, actor: Actor, reason: str) -> None:
    """A named person answers for it that the node may be switched on again. What still drips is found anew.

    Raises `Conflict` when there is no lock. Nothing is switched on by this.
    """
    if not node.power_locked:
        raise Conflict(f"The power of {node.name} is not locked.")
    nodes.update(tx, node.id, {"power_locked": False})
    nodes_service.clear_condition(tx, node.id, Condition.POWER_LOCKED)
    wet = [row for row in health.active(tx, node.id) if row["action"] == Action.POWER_OFF.value]
    findings.clear(tx, wet, by=f"{actor.name} cleared the power lock: {reason}", actor=actor)
    audit.record(tx, actor=actor, action="node.power.unlocked", subject=node.id, reason=reason)
