"""Durable procedures, named leases, the brake's permits, pauses, and technicians' tickets."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ostler.db.schema.columns import Json, at, json, key, leased, maybe, maybe_at, metadata, number, text

job = sa.Table(
    "job",
    metadata,
    key(),
    text("procedure"),
    number("version"),
    text("subject"),  # the node's id, or "fleet"
    maybe("key"),  # at most one live job per key
    text("step"),
    json("data"),
    text("state"),  # ready, held, done, failed
    text("why", ""),  # why it waits, is held or failed: one line for people
    at("due_at"),  # domain time
    number("tries"),  # temporary failures of the present step in a row
    number("crashes"),  # unexpected exceptions of the present step in a row
    number("woken"),  # wake-ups so far: one that comes while the step runs cuts the wait that the step asks for
    at("created_at"),
    maybe_at("finished_at"),
    *leased(),
    sa.Index("ix_job_state_due_at", "state", "due_at"),
    sa.Index("ix_job_subject", "subject", "created_at"),
    comment="One run of a durable procedure",
)
sa.Index(
    "uq_job_live_key",
    job.c.key,
    unique=True,
    sqlite_where=job.c.finished_at.is_(None),
    postgresql_where=job.c.finished_at.is_(None),
)

job_step = sa.Table(
    "job_step",
    metadata,
    sa.Column("job_id", sa.String, sa.ForeignKey("job.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    text("step"),
    text("answer"),  # go, done, failed
    json("data"),
    at("at"),
    comment="The journal: one row per finished step, in order",
)

schedule = sa.Table(
    "schedule",
    metadata,
    key("name"),
    maybe_at("last_success"),  # real time
    comment="What is run again and again, each by a job of its own; here is when it last succeeded",
)

lease = sa.Table(
    "lease",
    metadata,
    key("name"),
    *leased(),
    comment="Loops of which only one replica runs at a time",
)

permit = sa.Table(
    "permit",
    metadata,
    key(),
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), nullable=False, index=True),
    text("action"),
    json("groups"),  # kind -> name: what this permit counts against
    text("actor"),
    text("reason"),
    maybe("workload"),  # nodes of one job count as one
    at("granted_at"),
    at("expires_at"),
    maybe_at("released_at"),
    sa.Index("ix_permit_granted_at", "granted_at"),
    comment="The right to one disruptive action",
)

brake_rule = sa.Table(
    "brake_rule",
    metadata,
    key("group"),  # fleet, rack, nvlink, fabric, sku, …
    sa.Column("share", sa.Double, nullable=True),
    sa.Column("at_once", sa.Integer, nullable=True),
    sa.Column("per_window", sa.Integer, nullable=True),
    at("window_s"),
    comment="Limits that a person set; empty: the defaults of brake.model",
)

pause = sa.Table(
    "pause",
    metadata,
    key(),
    text("scope"),  # fleet, rack:NAME, node:ID
    text("actor"),
    text("reason"),
    at("since"),
    maybe_at("until"),
    maybe_at("lifted_at"),
    maybe("lifted_by"),
    comment="Automation held by a person",
)


def _json_or(name: str, default: str) -> sa.Column[Any]:
    """JSON that may be left out when a row is written."""
    return sa.Column(name, Json, nullable=False, server_default=default)


ticket = sa.Table(
    "ticket",
    metadata,
    key(),
    maybe("key"),  # of the physical cause; empty: a node's, told apart by node and cause
    text("fabric", ""),  # whose ports `ticket_port` lists
    text("subject", "node"),  # node, cable, switch
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), nullable=True, index=True),  # the first of `ticket_node`
    maybe("slot"),
    text("place", ""),  # site/row/rack/U
    text("cause"),
    text("instruction"),
    text("proof", "person"),  # person, fabric
    text("state"),  # open, claimed, verifying, done
    _json_or("steps", "[]"),  # tickets.model.Step
    _json_or("harms", "{}"),  # tickets.model.Harms
    _json_or("safe", "{}"),  # tickets.model.Safety
    json("evidence"),
    _json_or("notes", "[]"),  # [{at, by, text}]
    maybe("incident_id"),
    maybe("assignee"),  # who has it, or said that it is done
    number("recurrence"),  # how often the same cable or ports came back within 30 days of the ticket before
    text("escalation", ""),  # what to suspect now: cable, module, hca
    number("updates"),  # how often a run changed what it says
    at("opened_at"),
    maybe_at("updated_at"),
    maybe_at("seen_at"),  # by the last run that still saw its cause
    maybe_at("claimed_at"),
    maybe_at("verifying_at"),
    maybe_at("closed_at"),
    json("closing"),
    sa.Index("ix_ticket_state_place", "state", "place"),
    comment="Work for a technician: one cause, one place, one instruction",
)
sa.Index(
    "uq_ticket_unfinished_key",
    ticket.c.key,
    unique=True,
    sqlite_where=ticket.c.state != "done",
    postgresql_where=ticket.c.state != "done",
)

ticket_node = sa.Table(
    "ticket_node",
    metadata,
    sa.Column("ticket_id", sa.String, sa.ForeignKey("ticket.id"), primary_key=True),
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), primary_key=True, index=True),
    comment="The nodes that hands are on while a ticket is claimed",
)

ticket_port = sa.Table(
    "ticket_port",
    metadata,
    sa.Column("ticket_id", sa.String, sa.ForeignKey("ticket.id"), primary_key=True),
    sa.Column("fabric", sa.String, primary_key=True),
    sa.Column("chassis", sa.String, primary_key=True),
    sa.Column("port", sa.String, primary_key=True),
    text("serial", ""),  # of the cable that is plugged in there
    sa.Index("ix_ticket_port_fabric_chassis", "fabric", "chassis"),
    sa.Index("ix_ticket_port_serial", "serial"),
    comment="The plugs that a ticket is about",
)
