"""What was done and what is told: the audit log, the event ledger, and webhook deliveries."""

from __future__ import annotations

import sqlalchemy as sa

from ostler.db.schema.columns import at, flag, json, key, leased, maybe, maybe_at, metadata, number, text

audit = sa.Table(
    "audit",
    metadata,
    key(),
    at("at"),
    text("actor"),
    text("action"),
    text("subject"),
    text("reason", ""),
    maybe("request_id"),
    json("detail"),
    sa.Column("position", sa.BigInteger, nullable=True, unique=True),  # dense, from 1; NULL: not yet sealed
    maybe("leaf"),  # Merkle leaf hash, hex
    sa.Index("ix_audit_subject", "subject", "at"),
    comment="What was done, by whom, why; sealed in one order by the sequencer",
)
sa.Index(
    "ix_audit_unsealed",
    audit.c.id,
    sqlite_where=audit.c.position.is_(None),
    postgresql_where=audit.c.position.is_(None),
)

audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    text("root"),  # Merkle tree hash over the first `size` leaves, hex
    json("frontier"),  # hashes of the perfect subtrees, largest first
    at("at"),
    comment="The tree after each sealing",
)

audit_node = sa.Table(
    "audit_node",
    metadata,
    sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),  # from 1; level 0 is audit.leaf
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),  # from 0
    text("hash"),  # of the perfect subtree over leaves number * 2^level …, hex
    comment="Finished inner nodes of the audit log's Merkle tree, so that a proof reads few rows",
)

event = sa.Table(
    "event",
    metadata,
    key(),
    text("type"),
    number("version", 1),
    text("subject"),
    number("seq"),  # 1, 2, 3, … per subject, given in the domain transaction
    maybe("tenant"),
    json("data"),
    at("at"),
    sa.Column("position", sa.BigInteger, nullable=True, unique=True),
    sa.UniqueConstraint("subject", "seq"),
    comment="A fact that Ostler publishes: append-only",
)
sa.Index(
    "ix_event_unsealed",
    event.c.id,
    sqlite_where=event.c.position.is_(None),
    postgresql_where=event.c.position.is_(None),
)

event_floor = sa.Table(
    "event_floor",
    metadata,
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    at("at"),
    comment="Retention has forgotten events up to here (the largest row counts): older cursors are gone",
)

endpoint = sa.Table(
    "endpoint",
    metadata,
    key(),
    text("url"),
    json("events"),  # event types, "*" for all, "node.*" for all of a kind
    maybe("tenant"),  # set: only this tenant's events
    text("secret_ref"),  # where the signing secret is kept: never the secret itself
    maybe("previous_secret_ref"),  # after a rotation both sign until previous_until
    maybe_at("previous_until"),  # real time
    flag("enabled", True),
    maybe("disabled_why"),
    number("failures"),  # in a row
    maybe_at("failing_since"),  # real time of the first of them
    at("created_at"),
    maybe_at("deleted_at"),
    comment="A webhook subscription",
)

delivery = sa.Table(
    "delivery",
    metadata,
    key(),
    sa.Column("event_id", sa.String, sa.ForeignKey("event.id"), nullable=False, index=True),
    sa.Column("endpoint_id", sa.String, sa.ForeignKey("endpoint.id"), nullable=False),
    text("subject"),
    number("seq"),
    text("state"),  # queued (an earlier one of its endpoint and subject is open), due, delivered, dead
    number("tries"),
    at("due_at"),  # real time: retries answer to the network, not to the simulation
    at("created_at"),
    maybe_at("settled_at"),  # delivered or given up; NULL: open
    *leased(),
    sa.Index("ix_delivery_endpoint_id", "endpoint_id", "id"),
    comment="An event due at an endpoint",
)
_open = delivery.c.settled_at.is_(None)
sa.Index(
    "ix_delivery_due",
    delivery.c.endpoint_id,
    delivery.c.state,
    delivery.c.due_at,
    sqlite_where=_open,
    postgresql_where=_open,
)
sa.Index(
    "ix_delivery_lane",
    delivery.c.endpoint_id,
    delivery.c.subject,
    delivery.c.seq,
    sqlite_where=_open,
    postgresql_where=_open,
)

page = sa.Table(
    "page",
    metadata,
    key("name"),  # what pages, e.g. incident:inc_…; also the deduplication key at the pager
    text("target"),  # the sender's name in [oncall]
    text("severity"),
    text("summary"),
    json("detail"),
    at("opened_at"),
    maybe_at("sent_at"),  # domain time of the last delivery
    maybe_at("resolved_at"),
    maybe_at("told_at"),  # when the pager was told that it is over
    comment="What on-call was told, and whether it was told the end",
)

attempt = sa.Table(
    "attempt",
    metadata,
    key(),
    sa.Column("delivery_id", sa.String, sa.ForeignKey("delivery.id"), nullable=False, index=True),
    at("at"),
    number("status"),  # HTTP status; 0: no answer
    number("milliseconds"),
    text("error", ""),
    comment="One try",
)
