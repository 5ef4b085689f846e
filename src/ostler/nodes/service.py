"""What may be done to a node, one transaction each: state, audit entry and event together, never any I/O.

Called by `nodes/api.py` and by the features above (`remediation`, `provisioning`, `acceptance`), which pass an open
`Tx` and so join these changes to their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostler.audit import service as audit
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, Conflict, Refused
from ostler.core.ids import new_id
from ostler.db.tx import Tx
from ostler.events import service as events
from ostler.nodes import lifecycle, store
from ostler.nodes.cordon_nudge import cordon_wanted
from ostler.nodes.model import (
    Capability,
    Condition,
    Facts,
    Node,
    Pool,
    Service,
    Slot,
    State,
    Timing,
)

PENDING_CONDITIONS = {State.REBOOT: Condition.PENDING_REBOOT, State.TRIAGE: Condition.PENDING_TRIAGE}


def facts(tx: Tx, node: Node, actor: Actor) -> Facts:
    """What `nodes` itself knows for a guard. Callers add what only they know: passed checks, permits, firmware."""
    pool = store.get_pool(tx, node.pool)
    return Facts(
        by_person=not actor.name.startswith(("ostler:", "node:")),
        joined=node.boot_id is not None,
        certified=store.active_condition(tx, node.id, Condition.CERTIFIED) is not None,
        auto_certify=pool.auto_certify,
        idle=not node.busy,
        granted=pool.capabilities,
        unmanaged=node.service is Service.UNMANAGED,
        maintenance_by=node.maintenance_by,
        power_locked=node.power_locked,
    )


def register(
    tx: Tx,
    *,
    name: str,
    pool: str,
    actor: Actor,
    cause: str,
    state: State = State.DISCOVERED,
    serial: str | None = None,
    uuid: str | None = None,
    slot: str | None = None,
    sku: str | None = None,
    macs: tuple[str, ...] = (),
    bmc_address: str | None = None,
    bmc_secret: str | None = None,
    service: Service = Service.MANAGED,
) -> Node:
    """Enter a node into the books, as `discovered` or (adopted) as `production`.

    Raises `Conflict` when name, serial number or MAC belong to another node: that is for a person to settle.
    """
    if state not in lifecycle.BIRTH:
        raise Refused(f"A node cannot be born as {state}; only as {' or '.join(lifecycle.BIRTH)}.")
    store.get_pool(tx, pool)
    _nobody_else(tx, name=name, serial=serial, macs=macs)
    node_id = new_id("node")
    row = lifecycle.STATES[state]
    store.insert(
        tx,
        {
            "id": node_id,
            "name": name,
            "serial": serial,
            "uuid": uuid,
            "slot": slot,
            "pool": pool,
            "sku": sku,
            "service": service,
            "bmc_address": bmc_address,
            "bmc_secret": bmc_secret,
            "state": state,
            "state_since": tx.now,
            "state_deadline": None if row.deadline is None else tx.now + row.deadline,
            "inventory": {},
            "created_at": tx.now,
        },
        macs,
    )
    node = store.get(tx, node_id)
    _record(tx, node, None, state, actor=actor, cause=cause, reason="", evidence={}, lasted=None)
    if row.cordoned:
        store.put_hold(tx, node_id, "lifecycle", f"{state}", actor.name)
    return node


def transition(
    tx: Tx,
    node_id: str,
    to: State,
    *,
    actor: Actor,
    cause: str,
    facts: Facts,
    reason: str = "",
    evidence: Mapping[str, Any] | None = None,
) -> Node:
    """Move a node, if the lifecycle allows it now. Clears what was pending and keeps the cordon as the state wants it.

    Raises `Refused` with the reason, and writes nothing then.
    """
    node = store.locked(tx, node_id)
    lifecycle.check(node.state, to, facts)
    row = lifecycle.STATES[to]
    store.update(
        tx,
        node.id,
        {
            "state": to,
            "state_since": tx.now,
            "state_deadline": None if row.deadline is None else tx.now + row.deadline,
            "pending_state": None,
            "pending_reason": None,
            "pending_deadline": None,
        },
    )
    for condition in (*PENDING_CONDITIONS.values(), Condition.OVERDUE, Condition.CERTIFIED):
        clear_condition(tx, node.id, condition)
    if node.state is State.TEST and to is State.PRODUCTION:
        clear_condition(tx, node.id, Condition.UNCERTIFIED)  # an adopted node that Ostler has tested by now
    _record(
        tx,
        node,
        node.state,
        to,
        actor=actor,
        cause=cause,
        reason=reason,
        evidence=evidence or {},
        lasted=tx.now - node.state_since,
    )
    if row.cordoned:
        hold_cordon(tx, node.id, "lifecycle", f"{to}: {reason}" if reason else str(to), actor)
    else:
        release_cordon(tx, node.id, "lifecycle", actor)
        release_cordon(tx, node.id, "remediation", actor)
    return store.get(tx, node.id)


def set_pending(tx: Tx, node_id: str, to: State, *, reason: str, deadline: float | None, actor: Actor) -> Node:
    """Decide to leave production later: cordon now, act when the workload ends or `deadline` (domain time) passes."""
    node = store.locked(tx, node_id)
    if node.state is not State.PRODUCTION:
        raise Refused(f"Only a node in production can have a pending transition; {node.name} is in {node.state}.")
    if to not in PENDING_CONDITIONS:
        raise Refused(f"A pending transition leads to {' or '.join(PENDING_CONDITIONS)}, not to {to}.")
    store.update(tx, node.id, {"pending_state": to, "pending_reason": reason, "pending_deadline": deadline})
    for state, condition in PENDING_CONDITIONS.items():
        if state is not to:
            clear_condition(tx, node.id, condition)  # what was pending before, if it was something else
    raise_condition(tx, node.id, PENDING_CONDITIONS[to], reason=Timing.PENDING, message=reason)
    audit.record(tx, actor=actor, action="node.pending", subject=node.id, reason=reason, detail={"to": to})
    return store.get(tx, node.id)


def withdraw_pending(tx: Tx, node_id: str, *, reason: str, actor: Actor) -> Node:
    """Take back a decision that was not acted on. That is no return to production and needs no check."""
    node = store.locked(tx, node_id)
    if node.pending_state is None:
        raise Conflict(f"Nothing is pending for {node.name}.")
    store.update(tx, node.id, {"pending_state": None, "pending_reason": None, "pending_deadline": None})
    for condition in PENDING_CONDITIONS.values():
        clear_condition(tx, node.id, condition)
    release_cordon(tx, node.id, "remediation", actor)
    audit.record(
        tx,
        actor=actor,
        action="node.pending.withdrawn",
        subject=node.id,
        reason=reason,
        detail={"to": node.pending_state},
    )
    return store.get(tx, node.id)


def certify(tx: Tx, node_id: str, *, actor: Actor, reason: str = "") -> Node:
    """A technician signs for a node: in `onboard` it may then go on; an adopted one loses `Uncertified`."""
    node = store.locked(tx, node_id)
    if node.state is State.ONBOARD:
        raise_condition(
            tx, node.id, Condition.CERTIFIED, reason="certified", message=f"by {actor.name} {reason}".strip()
        )
    elif node.state is not State.PRODUCTION or not clear_condition(tx, node.id, Condition.UNCERTIFIED):
        raise Refused(f"{node.name} is in {node.state}; only a node in onboard or an adopted one can be certified.")
    audit.record(tx, actor=actor, action="node.certified", subject=node.id, reason=reason, detail={"state": node.state})
    return store.get(tx, node.id)


def move(tx: Tx, node_id: str, slot: Slot, *, actor: Actor, reason: str) -> Node:
    """Note that a node stands in another slot. The node keeps its id and its history."""
    node = store.locked(tx, node_id)
    taken = [
        other for other in store.in_slot(tx, slot.name) if other.id != node.id and other.state is not State.RETIRED
    ]
    if taken:
        raise Conflict(f"{taken[0].name} stands in slot {slot.name}; move it first.")
    if store.get_slot(tx, slot.name) is None:
        store.put_slot(tx, slot)
    store.update(tx, node.id, {"slot": slot.name})
    audit.record(
        tx,
        actor=actor,
        action="node.moved",
        subject=node.id,
        reason=reason,
        detail={"from": node.slot, "to": slot.name},
    )
    return store.get(tx, node.id)


# Conditions -----------------------------------------------------------------------------------------------------------


def raise_condition(
    tx: Tx,
    node_id: str,
    type_: Condition,
    *,
    reason: str,
    message: str = "",
    evidence: Mapping[str, Any] | None = None,
) -> bool:
    """Make a condition true, or bring its reason up to date. True if it was not true before."""
    present = store.active_condition(tx, node_id, type_)
    fields = {"reason": reason, "message": message, "evidence": dict(evidence or {})}
    if present is not None:
        store.update_condition(tx, present["id"], fields)
        return False
    store.insert_condition(tx, {"id": new_id("cond"), "node_id": node_id, "type": type_, "since": tx.now, **fields})
    return True


def clear_condition(tx: Tx, node_id: str, type_: Condition) -> bool:
    """End a condition. True if it was true."""
    present = store.active_condition(tx, node_id, type_)
    if present is None:
        return False
    store.update_condition(tx, present["id"], {"until": tx.now})
    return True


# Cordon: what is wanted; `nodes/cordon.py` makes the cluster agree ----------------------------------------------------


def hold_cordon(tx: Tx, node_id: str, holder: str, reason: str, actor: Actor) -> None:
    """Want the node cordoned for `holder` (`lifecycle`, `remediation`, `person`).

    Published with the first hold, as `release_cordon` publishes with the last.
    """
    first = not store.holds(tx, [node_id])
    if store.put_hold(tx, node_id, holder, reason, actor.name):
        if first:
            events.publish(tx, "node.cordoned", node_id, {"node_id": node_id, "holder": holder, "reason": reason})
        tx.after_commit(cordon_wanted)
        audit.record(tx, actor=actor, action="node.cordon", subject=node_id, reason=reason, detail={"holder": holder})


def release_cordon(tx: Tx, node_id: str, holder: str, actor: Actor, reason: str = "") -> bool:
    """Take back one hold; the node stays cordoned while another holds it. True if there was one."""
    if not store.drop_hold(tx, node_id, holder):
        return False
    if not store.holds(tx, [node_id]):
        events.publish(tx, "node.uncordoned", node_id, {"node_id": node_id, "holder": holder, "reason": reason})
        tx.after_commit(cordon_wanted)
    audit.record(tx, actor=actor, action="node.uncordon", subject=node_id, reason=reason, detail={"holder": holder})
    return True


def release_person(tx: Tx, node: Node, *, actor: Actor, reason: str) -> None:
    """Take back a person's cordon. Raises `Conflict` when there is none, naming who else holds the node."""
    if not release_cordon(tx, node.id, "person", actor, reason):
        others = ", ".join(f"{hold['holder']} ({hold['reason']})" for hold in store.holds(tx, [node.id]))
        raise Conflict(f"No person cordoned {node.name}" + (f"; it is held by {others}." if others else "."))


# Pools ----------------------------------------------------------------------------------------------------------------


def define_pool(tx: Tx, pool: Pool, *, actor: Actor, reason: str = "") -> None:
    """Make a pool or change what it grants; audited, because it decides what Ostler may do."""
    known = {existing.name: existing for existing in store.pools(tx)}.get(pool.name)
    if known == pool:
        return
    store.put_pool(tx, pool)
    audit.record(
        tx,
        actor=actor,
        action="pool.defined",
        subject=f"pool:{pool.name}",
        reason=reason,
        detail={
            "granted": sorted(pool.capabilities),
            "before": sorted(known.capabilities) if known else None,
            "auto_certify": pool.auto_certify,
            "cluster": pool.cluster,
        },
    )


def parse_capabilities(names: list[str], where: str) -> frozenset[Capability]:
    """Capabilities by name; `observe` is always among them. Raises `BadInput`."""
    try:
        return frozenset(Capability(name) for name in names) | {Capability.OBSERVE}
    except ValueError as error:
        raise BadInput(f"{error}; known are {', '.join(Capability)}.", where=where) from None


# ----------------------------------------------------------------------------------------------------------------------


def _nobody_else(tx: Tx, *, name: str, serial: str | None, macs: tuple[str, ...]) -> None:
    if (namesake := store.by_name(tx, name)) is not None:
        raise Conflict(f"The name {name} belongs to {namesake.id} already.")
    if serial is not None and (other := store.by_serial(tx, serial)) is not None:
        raise Conflict(f"The serial number {serial} belongs to {other.name} already; a person must settle it.")
    if macs and (others := store.by_mac(tx, macs)):
        raise Conflict(f"A MAC of {name} belongs to {others[0].name} already; a person must settle it.")


def _record(
    tx: Tx,
    node: Node,
    start: State | None,
    to: State,
    *,
    actor: Actor,
    cause: str,
    reason: str,
    evidence: Mapping[str, Any],
    lasted: float | None,
) -> None:
    """The three that belong together: history, audit, event."""
    store.insert_transition(
        tx,
        {
            "id": new_id("trn"),
            "node_id": node.id,
            "serial": node.serial,
            "from_state": start,
            "to_state": to,
            "cause": cause,
            "actor": actor.name,
            "reason": reason,
            "evidence": dict(evidence),
            "at": tx.now,
            "seconds_in_from": lasted,
        },
    )
    change = {"from": start, "to": to, "cause": cause}
    audit.record(tx, actor=actor, action="node.transition", subject=node.id, reason=reason, detail=change)
    events.publish(
        tx, "node.state_changed", node.id, {"node_id": node.id, "node_name": node.name, "reason": reason, **change}
    )
