"""Use cases of Day 1, one transaction each: verdicts become outcomes, transitions and tickets together.

Called by the procedures (inside the transaction that journals their step), the driver and `api.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ostler.acceptance import sku as documents
from ostler.acceptance import store
from ostler.acceptance.model import Sku
from ostler.audit import service as audit
from ostler.core.actor import Actor, ostler
from ostler.db.tx import Tx
from ostler.nodes import service as nodes
from ostler.nodes import store as node_store
from ostler.nodes.model import Condition, Node, State
from ostler.tickets import service as tickets
from ostler.trends import service as trends
from ostler.trends.model import Verdict

ACTOR = ostler("acceptance")

SEATRIAL = "seatrial"
ZAP = "zap"
TEST = "test"
"""Names of the outcomes that the lifecycle's guards ask for, and of the procedures that earn them."""


def job_key(node_id: str) -> str:
    """At most one live job of Day 1 per node."""
    return f"acceptance:{node_id}"


def firmware_outcome(component: str) -> str:
    """The outcome's name of one component's firmware run."""
    return f"firmware:{component}"


def place(node: Node) -> str:
    """Where a technician goes, in words."""
    return f"slot {node.slot}" if node.slot else f"place unknown, MAC {node.macs[0] if node.macs else 'unknown'}"


# What a stage ends with -----------------------------------------------------------------------------------------------


def conclude(
    tx: Tx, node: Node, stage: str, verdict: Verdict, *, measured: Mapping[str, Any], message: str = ""
) -> None:
    """Keep the outcome of a stage; its start is the entry into the state, which is what the guards compare with."""
    trends.record(
        tx,
        node,
        stage,
        verdict,
        measured=measured,
        message=message,
        started_at=node.state_since,
        finished_at=tx.now,
    )
    release(tx, node.id, stage)


def advance(
    tx: Tx,
    node: Node,
    to: State,
    *,
    cause: str,
    reason: str,
    evidence: Mapping[str, Any],
    firmware_current: bool = False,
) -> Node:
    """On to the next state, with what Day 1 knows for the guards. Raises `Refused` with the reason."""
    facts = replace(
        nodes.facts(tx, node, ACTOR),
        passed=trends.passed_since(tx, node.id, node.state_since),
        firmware_current=firmware_current,
    )
    return nodes.transition(tx, node.id, to, actor=ACTOR, cause=cause, facts=facts, reason=reason, evidence=evidence)


def divert(
    tx: Tx, node: Node, to: State, *, cause: str, reason: str, instruction: str, evidence: Mapping[str, Any]
) -> Node:
    """Out of the way to production (triage, zap-fail), with one ticket that names the place and what to do there."""
    tickets.open_ticket(
        tx,
        node=node,
        cause=cause,
        instruction=f"{node.name}, {place(node)}: {instruction}",
        evidence={**evidence, "reason": reason},
    )
    return advance(tx, node, to, cause=cause, reason=reason, evidence=evidence)


# Waiting for a person -------------------------------------------------------------------------------------------------


def hold(tx: Tx, node_id: str, stage: str, message: str) -> None:
    """This stage cannot go on without a person. Repeats write nothing; a hold that others have set is left alone."""
    present = node_store.active_condition(tx, node_id, Condition.HELD_FOR_PERSON)
    if present is not None and (present["reason"] != stage or present["message"] == message):
        return
    nodes.raise_condition(tx, node_id, Condition.HELD_FOR_PERSON, reason=stage, message=message)
    audit.record(tx, ACTOR, "node.held", node_id, reason=message, detail={"hold": stage})


def release(tx: Tx, node_id: str, stage: str) -> None:
    """The stage goes on."""
    present = node_store.active_condition(tx, node_id, Condition.HELD_FOR_PERSON)
    if present is not None and present["reason"] == stage:
        nodes.clear_condition(tx, node_id, Condition.HELD_FOR_PERSON)


# SKUs -----------------------------------------------------------------------------------------------------------------


def put_sku(tx: Tx, name: str, document: Any, *, actor: Actor, reason: str = "") -> Sku:
    """Declare a SKU or change it. Raises `BadInput` naming the key that is wrong."""
    sku = documents.parse(name, document)
    known = store.find_sku(tx, name)
    if known != sku:
        store.put_sku(tx, sku)
        detail = {"before": None if known is None else documents.document(known), "after": documents.document(sku)}
        audit.record(tx, actor, "sku.declared", f"sku:{name}", reason=reason, detail=detail)
    return sku


def assign_sku(tx: Tx, name: str, sku: str, *, actor: Actor, reason: str = "") -> Node:
    """Say what a node is meant to be. Raises `NotFound` for either."""
    node = node_store.get(tx, name)
    store.get_sku(tx, sku)
    if node.sku != sku:
        node_store.update(tx, node.id, {"sku": sku})
        audit.record(tx, actor, "node.sku_assigned", node.id, reason=reason, detail={"before": node.sku, "after": sku})
    return node_store.get(tx, node.id)
