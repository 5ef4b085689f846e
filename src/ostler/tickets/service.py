"""Opens, claims and closes tickets. Called by `remediation` and `acceptance` (open) and `tickets/api.py` (the rest)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ostler.audit import service as audit
from ostler.core.actor import Actor, ostler
from ostler.core.errors import BadInput, Conflict
from ostler.core.ids import new_id
from ostler.db.tx import Tx
from ostler.events import service as events
from ostler.nodes import store as nodes
from ostler.nodes.model import Node
from ostler.tickets import store

PARTS = "parts"
"""Where in a ticket's evidence its replacement request stands."""


def open_ticket(
    tx: Tx,
    *,
    node: Node,
    cause: str,
    instruction: str,
    evidence: Mapping[str, Any],
    incident_id: str | None = None,
    parts: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The ticket for this cause on this node: a new one, or the one that is open already. Returns its id.

    `parts`: the replacement request, a row of `{part, serial, model, place, slot, faults}` for each that is wanted.
    """
    tx.lock(f"ticket:{node.id}")
    if (present := store.unfinished(tx, node.id, cause)) is not None:
        return str(present["id"])
    ticket_id = new_id("ticket")
    store.insert(
        tx,
        {
            "id": ticket_id,
            "node_id": node.id,
            "slot": node.slot,
            "cause": cause,
            "instruction": instruction,
            "state": "open",
            "evidence": {**evidence, **({PARTS: [dict(part) for part in parts]} if parts else {})},
            "incident_id": incident_id,
            "opened_at": tx.now,
            "closing": {},
        },
    )
    place = node.slot or "place unknown"
    told = {"ticket_id": ticket_id, "node_id": node.id, "slot": place, "cause": cause, "instruction": instruction}
    events.publish(tx, "ticket.opened", ticket_id, told)
    audit.record(tx, actor=ostler("tickets"), action="ticket.opened", subject=ticket_id, reason=cause, detail=told)
    return ticket_id


def claim(tx: Tx, ticket_id: str, *, actor: Actor) -> None:
    """A technician takes the ticket and has hands on the node: nothing powers, flashes or boots it until `done`."""
    row = store.locked(tx, ticket_id)
    if row["state"] != "open":
        raise Conflict(f"{ticket_id} is {row['state']}" + (f" by {row['assignee']}." if row["assignee"] else "."))
    store.update(tx, ticket_id, {"state": "claimed", "assignee": actor.name, "claimed_at": tx.now})
    if row["node_id"] is not None:
        nodes.update(tx, row["node_id"], {"maintenance_by": actor.name})
    audit.record(tx, actor=actor, action="ticket.claimed", subject=ticket_id)


def done(tx: Tx, ticket_id: str, *, actor: Actor, evidence: str) -> None:
    """Close a ticket with what was found and done; the hands-on lock ends with the node's last claimed ticket."""
    row = store.locked(tx, ticket_id)
    if row["state"] == "done":
        raise Conflict(f"{ticket_id} is done already.")
    if not evidence.strip():
        raise BadInput("Say what was found and done; a ticket is closed only by evidence.", where="evidence")
    closing = {"by": actor.name, "evidence": evidence}
    store.update(tx, ticket_id, {"state": "done", "closed_at": tx.now, "closing": closing})
    if row["node_id"] is not None:
        others = store.claimed_on(tx, row["node_id"])
        nodes.update(tx, row["node_id"], {"maintenance_by": others[0]["assignee"] if others else None})
    events.publish(tx, "ticket.closed", ticket_id, {"ticket_id": ticket_id, "node_id": row["node_id"], **closing})
    audit.record(tx, actor=actor, action="ticket.done", subject=ticket_id, reason=evidence)
