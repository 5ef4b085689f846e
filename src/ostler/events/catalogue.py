"""Every type of event, with the payload it carries: the one list. Read by `service.publish`, `/v1/event-types` and the
docs.

To add a type: add it here (docs/events.md has the checklist). A payload may only grow; a change that takes something
away or gives it another meaning is a new version of the type. The first five are the events guide's, with exactly its
fields.
"""

from __future__ import annotations

from collections.abc import Mapping

from ostler.events.event_type import EventType, Field


def _node(*more: Field) -> tuple[Field, ...]:
    return (Field("node_id", "string", "the node's internal id"), *more)


def _optional(name: str, kind: str, description: str) -> Field:
    return Field(name, kind, description, required=False, nullable=True)


_REASON = Field("reason", "string", "why, in one line")
_WHY = _optional("reason", "string", "why, in one line")
_NAME = _optional("node_name", "string", "the node's name")
_HOLDER = _optional("holder", "string", "who holds the cordon: lifecycle, remediation, person")
_SUMMARY = _optional("summary", "string", "one line for people")
_TICKET = (
    _optional("key", "string", "of the physical cause: the same on every run; null: the ticket is a node's"),
    _optional("kind", "string", "what it is about: node, cable, switch"),
    _optional("place", "string", "site/row/rack/U"),
    _optional("node_ids", "array", "every node that hands would be on"),
    _optional("proof", "string", "what closes it: person, fabric"),
    _optional("steps", "array", "what to do with the hands, in order: {do, at, to, stays, cable_serial}"),
    _optional("harms", "object", "who is worse off: {nodes, workload}"),
    _optional("safe", "object", "whether hands may go there now: {safe, why}"),
    _optional("ports", "array", "the plugs concerned: [chassis, port]"),
    _optional("recurrence", "integer", "how often it has come back"),
    _optional("escalation", "string", "what to suspect now: cable, module, hca; empty: nothing more than it says"),
    _optional("recommended", "string", "the same as a sentence"),
)


def _ticket(name: str, summary: str, *more: Field) -> EventType:
    """An event in the life of a ticket that was opened."""
    fields = (
        Field("ticket_id", "string", "the ticket"),
        *more,
        _optional("node_id", "string", "the node"),
        _optional("key", "string", "the cause's key, where it has one"),
        _optional("place", "string", "site/row/rack/U"),
        _SUMMARY,
    )
    return EventType(name, summary, "ticket", fields)


_TYPES = (
    EventType(
        "instance.ready",
        "A GPU workload instance can take work",
        "instance",
        (
            Field("instance_id", "string", "the instance"),
            Field("gpu_type", "string", "model of its GPUs, e.g. H100"),
            Field("ip_address", "string", "where it can be reached"),
        ),
        exact=True,
    ),
    EventType(
        "job.completed",
        "A job ended successfully",
        "job",
        (
            Field("job_id", "string", "the job"),
            Field("output_path", "string", "where its output is"),
            Field("duration_seconds", "number", "how long it ran"),
        ),
        exact=True,
    ),
    EventType(
        "volume.attached",
        "A volume is mounted on a node",
        "volume",
        (
            Field("volume_id", "string", "the volume"),
            Field("node_name", "string", "the node that has it now"),
            Field("mount_path", "string", "where it is mounted"),
        ),
        exact=True,
    ),
    EventType(
        "node.unhealthy",
        "A node has a fault that workloads will notice",
        "node",
        (
            Field("node_id", "string", "the node's internal id"),
            Field("reason", "string", "the fault, in one line"),
            Field("gpu_count", "integer", "how many GPUs the node has"),
        ),
        exact=True,
    ),
    EventType(
        "instance.terminated",
        "An instance ended",
        "instance",
        (
            Field("instance_id", "string", "the instance"),
            Field("exit_code", "integer", "0: it ended by itself and well"),
            Field("gpu_type", "string", "model of its GPUs"),
        ),
        exact=True,
    ),
    EventType("node.healthy", "A node that was unhealthy is well again", "node", _node(_NAME, _WHY)),
    EventType(
        "node.state_changed",
        "A node moved in the lifecycle",
        "node",
        _node(
            _NAME,
            Field("from", "string", "the state it left; null when it first appears", nullable=True),
            Field("to", "string", "the state it is in"),
            _optional("cause", "string", "what moved it"),
            _WHY,
        ),
    ),
    EventType(
        "maintenance.announced",
        "Maintenance is planned; what runs then has to leave",
        "maintenance",
        (
            Field("maintenance_id", "string", "the maintenance"),
            Field("kind", "string", "planned, immediate or retirement"),
            Field("scope", "string", "node:ID, rack:NAME or another domain"),
            Field("node_ids", "array", "the nodes that it concerns"),
            Field("starts_at", "string", "when its nodes begin to drain"),
            _optional("ends_at", "string", "when they should be back; null: they do not come back, or nobody knows"),
            Field("summary", "string", "what is done, in one line"),
        ),
    ),
    EventType(
        "maintenance.changed",
        "A maintenance has begun, is over, or was cancelled",
        "maintenance",
        (
            Field("maintenance_id", "string", "the maintenance"),
            Field("state", "string", "draining, running, done or cancelled"),
            Field("scope", "string", "node:ID, rack:NAME or another domain"),
            Field("node_ids", "array", "the nodes that it concerns"),
            _WHY,
        ),
    ),
    EventType(
        "rma.changed",
        "A part or chassis moves to the vendor or back",
        "rma",
        (
            Field("case_id", "string", "the case"),
            Field("node_id", "string", "the node's internal id"),
            Field("part", "string", "chassis, gpu, nic, …"),
            _optional("serial", "string", "its serial number"),
            Field("state", "string", "open, shipped, replaced or refused"),
        ),
    ),
    EventType("node.cordoned", "A node takes no new work", "node", _node(_NAME, _REASON, _HOLDER)),
    EventType("node.uncordoned", "A node may take work again", "node", _node(_NAME, _WHY, _HOLDER)),
    EventType(
        "incident.opened",
        "Findings were folded into one cause",
        "incident",
        (
            Field("incident_id", "string", "the incident"),
            Field("cause", "string", "the cause"),
            Field("scope", "string", "node, rack, nvlink, fabric, sku or fleet"),
            _optional("subject", "string", "which of these"),
            Field("summary", "string", "one line for people"),
            _optional("members", "integer", "how many nodes it concerns"),
        ),
    ),
    EventType(
        "incident.closed",
        "An incident is over",
        "incident",
        (
            Field("incident_id", "string", "the incident"),
            _optional("cause", "string", "the cause"),
            _optional("scope", "string", "node, rack, nvlink, fabric, sku or fleet"),
            _optional("subject", "string", "which of these"),
            _optional("summary", "string", "one line for people"),
            _optional("outcome", "string", "how it ended"),
        ),
    ),
    EventType(
        "ticket.opened",
        "There is work for a technician",
        "ticket",
        (
            Field("ticket_id", "string", "the ticket"),
            Field("cause", "string", "the physical cause"),
            Field("instruction", "string", "what to do"),
            _optional("node_id", "string", "the node"),
            _optional("slot", "string", "where it is"),
            *_TICKET,
        ),
    ),
    EventType(
        "ticket.updated",
        "A ticket says something else than before: its cause was seen again and has changed",
        "ticket",
        (
            Field("ticket_id", "string", "the ticket"),
            Field("cause", "string", "the physical cause"),
            Field("instruction", "string", "what to do"),
            Field("changed", "array", "what is new: cause, instruction, place, steps, harms, safe, nodes"),
            _optional("node_id", "string", "the node"),
            _optional("slot", "string", "where it is"),
            *_TICKET,
            _SUMMARY,
        ),
    ),
    _ticket(
        "ticket.claimed",
        "A technician has taken a ticket: nothing powers, flashes or boots its nodes",
        Field("by", "string", "who took it"),
        Field("node_ids", "array", "the nodes that hands are on"),
        Field("forced", "string", "why, though it is not safe to touch; empty: it was not forced"),
    ),
    _ticket(
        "ticket.unclaimed",
        "A ticket was given back",
        Field("by", "string", "who gave it back"),
        Field("assignee", "string", "who had it"),
        _optional("reason", "string", "why"),
    ),
    _ticket(
        "ticket.verifying",
        "A technician says that the work is done; the fabric has yet to show it",
        Field("by", "string", "who says so"),
        Field("evidence", "string", "what was found and done"),
    ),
    _ticket(
        "ticket.reopened",
        "The work was said to be done and the cause is still there",
        Field("evidence", "string", "what is still wrong"),
        _optional("assignee", "string", "who has it again; null: nobody"),
        _optional("said", "object", "what was said to have been done, and by whom"),
    ),
    _ticket(
        "ticket.commented",
        "Somebody left a note on a ticket",
        Field("by", "string", "who"),
        Field("text", "string", "the note"),
    ),
    EventType(
        "ticket.closed",
        "A technician's work was shown to be done",
        "ticket",
        (
            Field("ticket_id", "string", "the ticket"),
            _optional("node_id", "string", "the node"),
            _optional("by", "string", "who closed it"),
            _optional("evidence", "string", "what was found and done"),
            _optional("key", "string", "the cause's key, where it has one"),
            _optional("place", "string", "site/row/rack/U"),
            _optional("proof", "string", "what closed it: person, fabric"),
            _optional("itself", "boolean", "nobody had said that it was done"),
            _optional("into", "string", "the ticket that goes on with it, where two turned out to be one cause"),
            _optional("technician", "object", "what was said to have been done, and by whom"),
            _SUMMARY,
        ),
    ),
    EventType(
        "fabric.cause_found",
        "Something is wrong with the fabric: one physical cause",
        "fabric",
        (
            Field("fabric", "string", "the fabric"),
            Field("cause_id", "string", "the cause"),
            Field("kind", "string", "miscabled, cable-absent, switch-down, link-trouble, …"),
            Field("message", "string", "what is wrong, in one line"),
            Field("ports", "array", "the ports concerned, as `CHASSIS PORT`"),
            _optional("do", "string", "what to do"),
            _optional("ticket_id", "string", "the technician's ticket"),
            _optional("nodes", "array", "ids of the nodes concerned"),
        ),
    ),
    EventType(
        "fabric.cause_cleared",
        "A look at the fabric showed that a cause is over",
        "fabric",
        (
            Field("fabric", "string", "the fabric"),
            Field("cause_id", "string", "the cause"),
            Field("kind", "string", "what it was"),
            Field("message", "string", "what was wrong"),
            _optional("snapshot_id", "string", "the snapshot that showed it"),
        ),
    ),
    EventType(
        "fabric.coverage_changed",
        "A look at the fabric began or ceased to see all of it",
        "fabric",
        (
            Field("fabric", "string", "the fabric"),
            Field("complete", "boolean", "whether every designed cable is known"),
            Field("share", "number", "of the designed cables that are known, 0 to 1"),
            _optional("reason", "string", "what hid the rest"),
        ),
    ),
    EventType(
        "fabric.round_signed",
        "The fabric's weekly validation by hand was signed off",
        "fabric",
        (
            Field("fabric", "string", "the fabric"),
            Field("round_id", "string", "the round"),
            Field("by", "string", "who signed"),
            Field("bad", "integer", "things found bad"),
        ),
    ),
    EventType(
        "action.would_act",
        "Remediation would have acted, but the pool does not grant it",
        "node",
        _node(Field("action", "string", "what it would have done"), _REASON),
    ),
    EventType(
        "brake.held",
        "The brake held an action back",
        "node",
        _node(Field("action", "string", "what was held"), _REASON),
    ),
    EventType(
        "automation.paused",
        "A person paused automation",
        "pause",
        (Field("scope", "string", "fleet, rack:NAME or node:ID"), _REASON, _optional("actor", "string", "who")),
    ),
    EventType(
        "automation.resumed",
        "A pause was lifted",
        "pause",
        (Field("scope", "string", "fleet, rack:NAME or node:ID"), _optional("actor", "string", "who")),
    ),
    EventType(
        "webhook.test",
        "Sent on request, to one endpoint only, to see whether it arrives",
        "webhook",
        (Field("webhook_id", "string", "the endpoint"),),
    ),
    EventType(
        "webhook.disabled",
        "Ostler stopped sending to an endpoint",
        "webhook",
        (Field("webhook_id", "string", "the endpoint"), Field("url", "string", "where it sends"), _REASON),
    ),
)

CATALOGUE: Mapping[str, EventType] = {kind.name: kind for kind in _TYPES}


def matches(pattern: str, event_type: str) -> bool:
    """Whether a subscription's pattern (`*`, `node.*`, `node.unhealthy`) covers a type."""
    if pattern == "*":
        return True
    if pattern.endswith(".*"):
        return event_type.startswith(pattern[:-1])
    return pattern == event_type


def known(pattern: str) -> bool:
    """Whether a pattern covers any type there is."""
    return any(matches(pattern, name) for name in CATALOGUE)
