"""Opens, updates, claims and closes tickets.

`open_ticket` is called by `remediation`, `acceptance` and `breakfix`; `report`, `confirm` and `still` by whoever sees
physical causes again and again (`fabric`); the rest by `tickets/api.py` and the console.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.audit import service as audit
from ostler.audit.canonical import clean, clean_text
from ostler.core.actor import Actor, ostler
from ostler.core.errors import BadInput, Conflict, Refused
from ostler.core.ids import new_id
from ostler.db.tx import Tx
from ostler.events import service as events
from ostler.nodes import store as nodes
from ostler.nodes.model import Node
from ostler.tickets import policy, store
from ostler.tickets.model import Proof, TicketState, Work

PARTS = "parts"
"""Where in a ticket's evidence its replacement request stands."""
_SELF = ostler("tickets")


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
            "place": store.place_of(tx, node.slot),
            "cause": cause,
            "instruction": instruction,
            "state": "open",
            "evidence": {**evidence, **({PARTS: [dict(part) for part in parts]} if parts else {})},
            "incident_id": incident_id,
            "opened_at": tx.now,
            "closing": {},
        },
    )
    store.set_nodes(tx, ticket_id, [node.id])
    place = node.slot or "place unknown"
    told = {"ticket_id": ticket_id, "node_id": node.id, "slot": place, "cause": cause, "instruction": instruction}
    events.publish(tx, "ticket.opened", ticket_id, told)
    audit.record(tx, actor=_SELF, action="ticket.opened", subject=ticket_id, reason=cause, detail=told)
    return ticket_id


# What a run sees ------------------------------------------------------------------------------------------------------


def report(tx: Tx, work: Work) -> str:
    """The ticket of this cause: the one that has its key, else the one it grew out of, else a new one. Returns its id.

    It grew out of a ticket of the same kind that is about some of the same plugs and that this run has not spoken of;
    further ones of which nobody has taken become part of it. What an older run saw changes nothing.
    """
    tx.lock(f"tickets:{work.fabric}")
    seen_at = tx.now if work.seen_at is None else work.seen_at
    ports, node_ids = policy.plugs(work), sorted(set(work.node_ids))
    said = _placed(tx, policy.columns(work), node_ids)
    present = store.by_key(tx, said["key"])
    if present is None:
        met = store.overlapping(tx, said["fabric"], ports, subject=work.subject)
        mine = [row for row in met if row["proof"] == work.proof and (row["seen_at"] or 0.0) < seen_at]
        chosen = policy.survivor([dict(row) for row in mine])
        present = None if chosen is None else store.locked(tx, chosen["id"])
        for row in mine:
            if present is not None and row["id"] != present["id"] and row["state"] == TicketState.OPEN:
                _merge(tx, row, present["id"])
    if present is None:
        return _open(tx, said, ports, node_ids, seen_at, escalates=work.escalates)
    ticket_id = str(present["id"])
    present = store.locked(tx, ticket_id)
    waits = present["state"] == TicketState.VERIFYING
    if seen_at < (present["seen_at"] or 0.0) or (waits and seen_at <= present["verifying_at"]):
        return ticket_id
    before = store.nodes_of(tx, ticket_id)
    changed = policy.noticed(dict(present), said) + ([] if before == node_ids else ["nodes"])
    escalation = (present["escalation"] or policy.came_back(None, escalates=True)[1]) if work.escalates else ""
    values = {**said, "incident_id": work.incident_id or present["incident_id"], "escalation": escalation}
    values |= {"seen_at": seen_at}
    if changed:
        values |= {"updated_at": tx.now, "updates": present["updates"] + 1}
    store.update(tx, ticket_id, values)
    store.set_ports(tx, ticket_id, said["fabric"], ports)
    if before != node_ids:
        store.set_nodes(tx, ticket_id, node_ids)
        if present["state"] == TicketState.CLAIMED:
            _hands_on(tx, set(node_ids) - set(before), str(present["assignee"]))
            _hands_off(tx, set(before) - set(node_ids), str(present["assignee"]))
    if waits:
        _back(tx, store.get(tx, ticket_id), said["cause"])
    elif changed:
        told = {**_told(tx, ticket_id), "changed": changed, "summary": f"{', '.join(changed)}: {said['cause']}"}
        events.publish(tx, "ticket.updated", ticket_id, told)
        audit.record(tx, actor=_SELF, action="ticket.updated", subject=ticket_id, reason=said["cause"], detail=told)
    return ticket_id


def confirm(
    tx: Tx,
    key: str,
    evidence: str,
    *,
    detail: Mapping[str, Any] = {},
    seen_at: float | None = None,
    actor: Actor = ostler("fabric"),
) -> str | None:
    """Close the ticket of this cause: it was looked at and is no more. Returns its id.

    None, and nothing changes: there is no such ticket, a person's word closes it, or whoever looked did so before the
    cause was last seen or before the technician was done. `seen_at`: when it was looked at (domain time; None: now).
    """
    row = _of_key(tx, key)
    seen_at = tx.now if seen_at is None else seen_at
    if row is None or row["proof"] != Proof.FABRIC or seen_at < (row["seen_at"] or 0.0):
        return None
    if row["state"] == TicketState.VERIFYING and seen_at <= row["verifying_at"]:
        return None
    itself = row["state"] != TicketState.VERIFYING
    evidence = clean_text(evidence)
    if itself:
        who = f" while {row['assignee']} had it" if row["state"] == TicketState.CLAIMED else ", nobody had taken it"
        evidence = f"{evidence} (it closed by itself{who})"
    closing = {"by": actor.name, "evidence": evidence, **clean(dict(detail))}
    if row["closing"]:
        closing["technician"] = row["closing"]
    _close(tx, row, closing, actor, itself=itself)
    return str(row["id"])


def still(tx: Tx, key: str, evidence: str, *, seen_at: float | None = None) -> str | None:
    """A technician said that it is done and the cause is still there: the ticket goes back to them. Returns its id.

    `evidence`: what is still wrong, in one line. None: no such ticket waits for its proof, or whoever looked did so
    before the technician was done.
    """
    row = _of_key(tx, key)
    seen_at = tx.now if seen_at is None else seen_at
    if row is None or row["state"] != TicketState.VERIFYING or seen_at <= row["verifying_at"]:
        return None
    store.update(tx, row["id"], {"seen_at": seen_at})
    _back(tx, row, clean_text(evidence))
    return str(row["id"])


# What a technician does -----------------------------------------------------------------------------------------------


def claim(tx: Tx, ticket_id: str, *, actor: Actor, force: str = "") -> None:
    """A technician takes the ticket and has hands on its nodes: nothing powers, flashes or boots them until `done`.

    `force`: why it is done although it is not safe to touch; else that raises `Refused`.
    """
    row = store.locked(tx, ticket_id)
    if row["state"] != TicketState.OPEN:
        raise Conflict(f"{ticket_id} is {row['state']}" + (f" by {row['assignee']}." if row["assignee"] else "."))
    if (no := policy.refusal(ticket_id, row["safe"], force)) is not None:
        raise Refused(no)
    forced = clean_text(force.strip()) if row["safe"].get("safe") is False else ""
    node_ids = store.nodes_of(tx, ticket_id)
    store.update(tx, ticket_id, {"state": "claimed", "assignee": actor.name, "claimed_at": tx.now})
    _hands_on(tx, node_ids, actor.name)
    told = {**_short(row), "node_ids": node_ids, "by": actor.name, "forced": forced}
    told["summary"] = f"by {actor.name}" + (f", though it is not safe to touch: {forced}" if forced else "")
    events.publish(tx, "ticket.claimed", ticket_id, told)
    audit.record(tx, actor=actor, action="ticket.claimed", subject=ticket_id, reason=forced)


def unclaim(tx: Tx, ticket_id: str, *, actor: Actor, reason: str = "") -> None:
    """Give a ticket back: hands are off its nodes. Somebody else's is given back with a reason only."""
    row = store.locked(tx, ticket_id)
    if row["state"] != TicketState.CLAIMED:
        raise Conflict(f"{ticket_id} is {row['state']}: nobody has it.")
    reason = clean_text(reason.strip())
    if row["assignee"] != actor.name and not reason:
        raise Refused(f"{row['assignee']} has {ticket_id} and may have hands on it; say why it is taken away (reason).")
    store.update(tx, ticket_id, {"state": "open", "assignee": None, "claimed_at": None})
    _hands_off(tx, store.nodes_of(tx, ticket_id), row["assignee"])
    told = {**_short(row), "by": actor.name, "assignee": row["assignee"], "reason": reason}
    told["summary"] = f"by {actor.name}" + (f": {reason}" if reason else "")
    events.publish(tx, "ticket.unclaimed", ticket_id, told)
    audit.record(tx, actor=actor, action="ticket.unclaimed", subject=ticket_id, reason=reason)


def done(tx: Tx, ticket_id: str, *, actor: Actor, evidence: str) -> None:
    """What was found and done. It closes the ticket, or, where the fabric is the proof, lets it wait for that.

    The hands-on lock ends with a node's last claimed ticket.
    """
    row = store.locked(tx, ticket_id)
    if row["state"] == TicketState.DONE:
        raise Conflict(f"{ticket_id} is done already.")
    if row["state"] == TicketState.VERIFYING:
        raise Conflict(f"{ticket_id} waits for the fabric's proof already; it is done when a clean snapshot shows it.")
    if not evidence.strip():
        raise BadInput("Say what was found and done; a ticket is closed only by evidence.", where="evidence")
    closing = {"by": actor.name, "evidence": clean_text(evidence)}
    if row["proof"] != Proof.FABRIC:
        _close(tx, row, closing, actor, action="ticket.done")
        return
    values = {"state": "verifying", "verifying_at": tx.now, "closing": closing, "assignee": actor.name}
    store.update(tx, ticket_id, values)
    _hands_off(tx, store.nodes_of(tx, ticket_id), row["assignee"])
    events.publish(tx, "ticket.verifying", ticket_id, {**_short(row), **closing, "summary": closing["evidence"]})
    audit.record(tx, actor=actor, action="ticket.verifying", subject=ticket_id, reason=closing["evidence"])


def withdraw(tx: Tx, ticket_id: str, *, actor: Actor, reason: str) -> None:
    """Close a ticket that no look can prove any more: its fabric is gone, its design was wrong. An operator's word.

    A look that sees the cause still opens another one.
    """
    row = store.locked(tx, ticket_id)
    if row["state"] == TicketState.DONE:
        raise Conflict(f"{ticket_id} is done already.")
    if not reason.strip():
        raise BadInput("Say why; a ticket is else closed only by evidence.", where="reason")
    reason = clean_text(reason.strip())
    closing = {"by": actor.name, "evidence": f"withdrawn: {reason}"}
    _close(tx, row, closing, actor, action="ticket.withdrawn")


def comment(tx: Tx, ticket_id: str, *, actor: Actor, text: str) -> None:
    """A note for whoever comes next; on a ticket that is done too."""
    row = store.locked(tx, ticket_id)
    if not text.strip():
        raise BadInput("A note says something.", where="text")
    text = clean_text(text.strip())
    _note(tx, row, actor.name, text)
    told = {**_short(row), "by": actor.name, "text": text, "summary": f"{actor.name}: {text}"}
    events.publish(tx, "ticket.commented", ticket_id, told)
    audit.record(tx, actor=actor, action="ticket.commented", subject=ticket_id, reason=text)


# ----------------------------------------------------------------------------------------------------------------------


def _open(
    tx: Tx,
    said: Mapping[str, Any],
    ports: Mapping[tuple[str, str], str],
    node_ids: Sequence[str],
    seen_at: float,
    *,
    escalates: bool,
) -> str:
    since = tx.now - policy.RECURS_WITHIN_S
    before = store.past(tx, said["fabric"], ports, subject=said["subject"], since=since, limit=1)
    recurrence, escalation = policy.came_back(dict(before[0]) if before else None, escalates=escalates)
    ticket_id = new_id("ticket")
    more = {"state": "open", "opened_at": tx.now, "seen_at": seen_at, "closing": {}}
    store.insert(tx, {"id": ticket_id, **said, "recurrence": recurrence, "escalation": escalation, **more})
    store.set_nodes(tx, ticket_id, node_ids)
    store.set_ports(tx, ticket_id, said["fabric"], ports)
    told = _told(tx, ticket_id)
    events.publish(tx, "ticket.opened", ticket_id, told)
    audit.record(tx, actor=_SELF, action="ticket.opened", subject=ticket_id, reason=said["cause"], detail=told)
    return ticket_id


def _merge(tx: Tx, row: sa.RowMapping, into: str) -> None:
    closing = {"by": _SELF.name, "evidence": f"One cause with {into}, which goes on.", "into": into}
    _close(tx, row, closing, _SELF)


def _close(
    tx: Tx, row: sa.RowMapping, closing: Mapping[str, Any], actor: Actor, *, itself: bool = False, action: str = ""
) -> None:
    store.update(tx, row["id"], {"state": "done", "closed_at": tx.now, "closing": closing})
    if row["state"] != TicketState.VERIFYING:
        _hands_off(tx, store.nodes_of(tx, row["id"]), row["assignee"])
    told = {**_short(row), **closing, "proof": row["proof"], "itself": itself, "summary": closing["evidence"]}
    events.publish(tx, "ticket.closed", row["id"], told)
    audit.record(tx, actor=actor, action=action or "ticket.closed", subject=row["id"], reason=closing["evidence"])


def _back(tx: Tx, row: sa.RowMapping, evidence: str) -> None:
    """From verifying to whoever said that it is done, or to anybody."""
    to = policy.returns_to(dict(row), tx.now)
    who = row["assignee"] if to is TicketState.CLAIMED else None
    store.update(tx, row["id"], {"state": to.value, "assignee": who, "verifying_at": None, "closing": {}})
    if who is not None:
        _hands_on(tx, store.nodes_of(tx, row["id"]), who)
    _note(tx, row, _SELF.name, f"Still there after {row['assignee']} was done: {evidence}")
    told = {**_short(row), "evidence": evidence, "assignee": who, "said": row["closing"], "summary": evidence}
    events.publish(tx, "ticket.reopened", row["id"], told)
    audit.record(tx, actor=_SELF, action="ticket.reopened", subject=row["id"], reason=evidence)


def _note(tx: Tx, row: sa.RowMapping, by: str, text: str) -> None:
    notes = [*row["notes"], {"at": tx.now, "by": by, "text": text}]
    store.update(tx, row["id"], {"notes": notes[-policy.MOST_NOTES :]})


def _of_key(tx: Tx, key: str) -> sa.RowMapping | None:
    """The unfinished ticket of this key, held until the transaction ends."""
    found = store.by_key(tx, clean_text(key))
    row = None if found is None else store.locked(tx, found["id"])
    return None if row is None or row["state"] == TicketState.DONE else row


def _hands_on(tx: Tx, node_ids: Iterable[str], who: str) -> None:
    for node_id in sorted(node_ids):
        nodes.update(tx, node_id, {"maintenance_by": who})


def _hands_off(tx: Tx, node_ids: Iterable[str], who: str | None) -> None:
    """The lock of `who` ends where no other claimed ticket is left; what somebody else holds stays."""
    for node_id in sorted(node_ids) if who is not None else ():
        others = store.claimed_on(tx, node_id)
        if nodes.locked(tx, node_id).maintenance_by == who:
            nodes.update(tx, node_id, {"maintenance_by": others[0]["assignee"] if others else None})


def _placed(tx: Tx, said: Mapping[str, Any], node_ids: Sequence[str]) -> dict[str, Any]:
    """With the columns that readers of one node's tickets know: its id, its slot, and the place if none was said."""
    slot = nodes.get(tx, node_ids[0]).slot if len(node_ids) == 1 else None
    first = node_ids[0] if node_ids else None
    return {**said, "node_id": first, "slot": slot, "place": said["place"] or store.place_of(tx, slot)}


def _short(row: sa.RowMapping) -> dict[str, Any]:
    return {"ticket_id": row["id"], "node_id": row["node_id"], "key": row["key"], "place": row["place"]}


def _told(tx: Tx, ticket_id: str) -> dict[str, Any]:
    """A ticket as events tell it: enough to mirror it in another tracker."""
    row = store.get(tx, ticket_id)
    names = ("cause", "instruction", "proof", "steps", "harms", "safe", "recurrence", "escalation")
    return {
        **_short(row),
        "node_ids": store.nodes_of(tx, ticket_id),
        "slot": row["slot"] or row["place"] or "place unknown",
        "kind": row["subject"],
        **{name: row[name] for name in names},
        "recommended": policy.recommended(row["escalation"]),
        "ports": [list(port) for port in store.ports_of(tx, ticket_id)],
    }
