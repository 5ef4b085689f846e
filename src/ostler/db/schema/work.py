"""Durable procedures, named leases, the brake's permits, pauses, and technicians' tickets."""

from __future__ import annotations

import sqlalchemy as sa

from ostler.db.schema.columns import at, json, key, leased, maybe, maybe_at, metadata, number, text

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

ticket = sa.Table(
    "ticket",
    metadata,
    key(),
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), nullable=True, index=True),
    maybe("slot"),
    text("cause"),
    text("instruction"),
    text("state"),  # open, claimed, done
    json("evidence"),
    maybe("incident_id"),
    maybe("assignee"),
    at("opened_at"),
    maybe_at("claimed_at"),
    maybe_at("closed_at"),
    json("closing"),
    comment="Work for a technician: one cause, one place, one instruction",
)
