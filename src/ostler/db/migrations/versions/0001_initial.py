"""The first schema. Applied by `db/migrate.py`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "audit",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), server_default="", nullable=False),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("detail", JSON, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("leaf", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sa.UniqueConstraint("position", name=op.f("uq_audit_position")),
        comment="What was done, by whom, why; sealed in one order by the sequencer",
    )
    op.create_index("ix_audit_subject", "audit", ["subject", "at"], unique=False)
    op.create_index(
        "ix_audit_unsealed",
        "audit",
        ["id"],
        unique=False,
        sqlite_where=sa.text("position IS NULL"),
        postgresql_where=sa.text("position IS NULL"),
    )
    op.create_table(
        "audit_head",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("root", sa.String(), nullable=False),
        sa.Column("frontier", JSON, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_audit_head")),
        comment="The tree after each sealing",
    )
    op.create_table(
        "audit_node",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("level", "number", name=op.f("pk_audit_node")),
        comment="Finished inner nodes of the audit log's Merkle tree, so that a proof reads few rows",
    )
    op.create_table(
        "blueprint",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("fabric", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("proven", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("chassis", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cables", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lints", JSON, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("imported_at", sa.Double(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blueprint")),
        comment="Designed fabrics, every version",
    )
    op.create_index(
        "uq_blueprint_active",
        "blueprint",
        ["fabric"],
        unique=True,
        sqlite_where=sa.text("active"),
        postgresql_where=sa.text("active"),
    )
    op.create_table(
        "brake_rule",
        sa.Column("group", sa.String(), nullable=False),
        sa.Column("share", sa.Double(), nullable=True),
        sa.Column("at_once", sa.Integer(), nullable=True),
        sa.Column("per_window", sa.Integer(), nullable=True),
        sa.Column("window_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("group", name=op.f("pk_brake_rule")),
        comment="Limits that a person set; empty: the defaults of brake.model",
    )
    op.create_table(
        "endpoint",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("events", JSON, nullable=False),
        sa.Column("tenant", sa.String(), nullable=True),
        sa.Column("secret_ref", sa.String(), nullable=False),
        sa.Column("previous_secret_ref", sa.String(), nullable=True),
        sa.Column("previous_until", sa.Double(), nullable=True),
        sa.Column("enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("disabled_why", sa.String(), nullable=True),
        sa.Column("failures", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failing_since", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("deleted_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoint")),
        comment="A webhook subscription",
    )
    op.create_table(
        "event",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tenant", sa.String(), nullable=True),
        sa.Column("data", JSON, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        sa.UniqueConstraint("position", name=op.f("uq_event_position")),
        sa.UniqueConstraint("subject", "seq", name=op.f("uq_event_subject_seq")),
        comment="A fact that Ostler publishes: append-only",
    )
    op.create_index(
        "ix_event_unsealed",
        "event",
        ["id"],
        unique=False,
        sqlite_where=sa.text("position IS NULL"),
        postgresql_where=sa.text("position IS NULL"),
    )
    op.create_table(
        "event_floor",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_event_floor")),
        comment="Retention has forgotten events up to here (the largest row counts): older cursors are gone",
    )
    op.create_table(
        "fabric_cause",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("fabric", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("confirmed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("do", sa.String(), nullable=False),
        sa.Column("where", JSON, nullable=False),
        sa.Column("ports", JSON, nullable=False),
        sa.Column("moves", JSON, nullable=False),
        sa.Column("ticket_id", sa.String(), nullable=True),
        sa.Column("sightings", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("snapshot_id", sa.String(), nullable=True),
        sa.Column("first_seen", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double(), nullable=False),
        sa.Column("cleared_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fabric_cause")),
        comment="What is wrong with the fabric now, and what was",
    )
    op.create_index("ix_fabric_cause_fabric_state", "fabric_cause", ["fabric", "state"], unique=False)
    op.create_index(
        "uq_fabric_cause_open",
        "fabric_cause",
        ["fabric", "key"],
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "fabric_part",
        sa.Column("fabric", sa.String(), nullable=False),
        sa.Column("guid", sa.String(), nullable=False),
        sa.Column("chassis", sa.String(), nullable=False),
        sa.Column("port", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("first_seen", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("fabric", "guid", name=op.f("pk_fabric_part")),
        comment="Which GUID is where: learnt, approved when it changes",
    )
    op.create_index("ix_fabric_part_fabric_chassis", "fabric_part", ["fabric", "chassis"], unique=False)
    op.create_table(
        "fabric_round",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("fabric", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("items", JSON, nullable=False),
        sa.Column("snapshot_id", sa.String(), nullable=True),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=True),
        sa.Column("signed_at", sa.Double(), nullable=True),
        sa.Column("signed_by", sa.String(), nullable=True),
        sa.Column("summary", sa.String(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fabric_round")),
        comment="The weekly validation by hand",
    )
    op.create_index("ix_fabric_round_fabric_state", "fabric_round", ["fabric", "state"], unique=False)
    op.create_table(
        "fabric_snapshot",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("fabric", sa.String(), nullable=False),
        sa.Column("vantage", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("taken_at", sa.Double(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("blueprint_id", sa.String(), nullable=True),
        sa.Column("complete", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("coverage", JSON, nullable=False),
        sa.Column("counts", JSON, nullable=False),
        sa.Column("report", JSON, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fabric_snapshot")),
        comment="What was seen, and what came of it",
    )
    op.create_index("ix_fabric_snapshot_fabric_taken_at", "fabric_snapshot", ["fabric", "taken_at"], unique=False)
    op.create_table(
        "idempotency",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("request", sa.String(), nullable=False),
        sa.Column("status", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("content_type", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_idempotency")),
        comment="Answers to writes that carried an Idempotency-Key, for a day",
    )
    op.create_index(op.f("ix_idempotency_at"), "idempotency", ["at"], unique=False)
    op.create_table(
        "incident",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("summary", sa.String(), nullable=False),
        sa.Column("evidence", JSON, nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("closed_at", sa.Double(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incident")),
        comment="Findings folded into one cause",
    )
    op.create_index("ix_incident_subject_opened_at", "incident", ["subject", "opened_at"], unique=False)
    op.create_table(
        "job",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("procedure", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("why", sa.String(), server_default="", nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("tries", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("crashes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("woken", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        comment="One run of a durable procedure",
    )
    op.create_index("ix_job_state_due_at", "job", ["state", "due_at"], unique=False)
    op.create_index("ix_job_subject", "job", ["subject", "created_at"], unique=False)
    op.create_index(
        "uq_job_live_key",
        "job",
        ["key"],
        unique=True,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
        comment="Loops of which only one replica runs at a time",
    )
    op.create_table(
        "link_event",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("fabric", sa.String(), nullable=False),
        sa.Column("chassis", sa.String(), nullable=False),
        sa.Column("port", sa.String(), nullable=False),
        sa.Column("peer_chassis", sa.String(), server_default="", nullable=False),
        sa.Column("peer_port", sa.String(), server_default="", nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("count", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_link_event")),
        comment="Downs and flaps of links, as deltas between snapshots show them",
    )
    op.create_index("ix_link_event_fabric_at", "link_event", ["fabric", "at"], unique=False)
    op.create_index(
        "ix_link_event_fabric_chassis_port", "link_event", ["fabric", "chassis", "port", "at"], unique=False
    )
    op.create_table(
        "maintenance",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("summary", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("starts_at", sa.Double(), nullable=False),
        sa.Column("ends_at", sa.Double(), nullable=True),
        sa.Column("announced_at", sa.Double(), nullable=True),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("detail", JSON, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_maintenance")),
        comment="Planned and running maintenance, with the notices to tenants",
    )
    op.create_index("ix_maintenance_state_starts_at", "maintenance", ["state", "starts_at"], unique=False)
    op.create_table(
        "page",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("summary", sa.String(), nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("sent_at", sa.Double(), nullable=True),
        sa.Column("resolved_at", sa.Double(), nullable=True),
        sa.Column("told_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_page")),
        comment="What on-call was told, and whether it was told the end",
    )
    op.create_table(
        "pause",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=True),
        sa.Column("lifted_at", sa.Double(), nullable=True),
        sa.Column("lifted_by", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pause")),
        comment="Automation held by a person",
    )
    op.create_table(
        "pool",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("capabilities", JSON, nullable=False),
        sa.Column("auto_certify", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("cluster", sa.String(), server_default="none", nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pool")),
        comment="Nodes under one policy, with the capabilities granted there",
    )
    op.create_table(
        "schedule",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("last_success", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_schedule")),
        comment="What is run again and again, each by a job of its own; here is when it last succeeded",
    )
    op.create_table(
        "sku",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sku")),
        comment="What a node of this model must have, and the firmware it must run",
    )
    op.create_table(
        "slot",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("row", sa.String(), nullable=False),
        sa.Column("rack", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("domains", JSON, nullable=False),
        sa.Column("network", JSON, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_slot")),
        comment="A place; cabling belongs to the slot, not to the node",
    )
    op.create_table(
        "token",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
        sa.UniqueConstraint("digest", name=op.f("uq_token_digest")),
        comment="API tokens; the secret itself is shown once and never stored",
    )
    op.create_table(
        "delivery",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("endpoint_id", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("tries", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("settled_at", sa.Double(), nullable=True),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoint.id"], name=op.f("fk_delivery_endpoint_id")),
        sa.ForeignKeyConstraint(["event_id"], ["event.id"], name=op.f("fk_delivery_event_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        comment="An event due at an endpoint",
    )
    op.create_index(
        "ix_delivery_due",
        "delivery",
        ["endpoint_id", "state", "due_at"],
        unique=False,
        sqlite_where=sa.text("settled_at IS NULL"),
        postgresql_where=sa.text("settled_at IS NULL"),
    )
    op.create_index("ix_delivery_endpoint_id", "delivery", ["endpoint_id", "id"], unique=False)
    op.create_index(op.f("ix_delivery_event_id"), "delivery", ["event_id"], unique=False)
    op.create_index(
        "ix_delivery_lane",
        "delivery",
        ["endpoint_id", "subject", "seq"],
        unique=False,
        sqlite_where=sa.text("settled_at IS NULL"),
        postgresql_where=sa.text("settled_at IS NULL"),
    )
    op.create_table(
        "job_step",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("answer", sa.String(), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_job_step_job_id")),
        sa.PrimaryKeyConstraint("job_id", "position", name=op.f("pk_job_step")),
        comment="The journal: one row per finished step, in order",
    )
    op.create_table(
        "node",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=True),
        sa.Column("uuid", sa.String(), nullable=True),
        sa.Column("slot", sa.String(), nullable=True),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("sku", sa.String(), nullable=True),
        sa.Column("service", sa.String(), server_default="managed", nullable=False),
        sa.Column("bmc_address", sa.String(), nullable=True),
        sa.Column("bmc_secret", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("state_since", sa.Double(), nullable=False),
        sa.Column("state_deadline", sa.Double(), nullable=True),
        sa.Column("pending_state", sa.String(), nullable=True),
        sa.Column("pending_reason", sa.String(), nullable=True),
        sa.Column("pending_deadline", sa.Double(), nullable=True),
        sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("maintenance_by", sa.String(), nullable=True),
        sa.Column("power_locked", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("cordoned", sa.Boolean(), nullable=True),
        sa.Column("cordon_checked_at", sa.Double(), nullable=True),
        sa.Column("boot_id", sa.String(), nullable=True),
        sa.Column("last_seen", sa.Double(), nullable=True),
        sa.Column("agent_version", sa.String(), nullable=True),
        sa.Column("driver", sa.String(), nullable=True),
        sa.Column("busy", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("inventory", JSON, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["pool"], ["pool.name"], name=op.f("fk_node_pool")),
        sa.ForeignKeyConstraint(["slot"], ["slot.name"], name=op.f("fk_node_slot")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_node")),
        sa.UniqueConstraint("name", name=op.f("uq_node_name")),
        sa.UniqueConstraint("serial", name=op.f("uq_node_serial")),
        comment="One server; everything but the id is an attribute that may change",
    )
    op.create_index("ix_node_cordon_checked_at", "node", ["cordon_checked_at"], unique=False)
    op.create_index("ix_node_cordoned_cordon_checked_at", "node", ["cordoned", "cordon_checked_at"], unique=False)
    op.create_index(op.f("ix_node_pool"), "node", ["pool"], unique=False)
    op.create_index(op.f("ix_node_slot"), "node", ["slot"], unique=False)
    op.create_index("ix_node_state_sku_driver", "node", ["state", "sku", "driver"], unique=False)
    op.create_table(
        "agent_certificate",
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("issued_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_agent_certificate_node_id")),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_agent_certificate")),
        comment="Which certificate speaks for which node",
    )
    op.create_index(op.f("ix_agent_certificate_node_id"), "agent_certificate", ["node_id"], unique=False)
    op.create_table(
        "agent_order",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("verb", sa.String(), nullable=False),
        sa.Column("arguments", JSON, nullable=False),
        sa.Column("wake_key", sa.String(), nullable=True),
        sa.Column("given_at", sa.Double(), nullable=False),
        sa.Column("deadline", sa.Double(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.Column("measured", JSON, nullable=False),
        sa.Column("message", sa.String(), server_default="", nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_agent_order_node_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_order")),
        comment="What a node's agent was asked to do, and what came of it",
    )
    op.create_index("ix_agent_order_node_id", "agent_order", ["node_id", "finished_at"], unique=False)
    op.create_table(
        "agent_session",
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("boot_id", sa.String(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("judged_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("first_seen", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_agent_session_node_id")),
        sa.PrimaryKeyConstraint("node_id", "boot_id", name=op.f("pk_agent_session")),
        comment="One boot of one node, as its agent reports it",
    )
    op.create_index(
        "ix_agent_session_unjudged",
        "agent_session",
        ["last_seen"],
        unique=False,
        sqlite_where=sa.text("judged_seq < last_seq"),
        postgresql_where=sa.text("judged_seq < last_seq"),
    )
    op.create_table(
        "attempt",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("delivery_id", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("status", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("milliseconds", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error", sa.String(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"], name=op.f("fk_attempt_delivery_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
        comment="One try",
    )
    op.create_index(op.f("ix_attempt_delivery_id"), "attempt", ["delivery_id"], unique=False)
    op.create_table(
        "bmc_watch",
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("position", sa.String(), server_default="", nullable=False),
        sa.Column("polled_at", sa.Double(), nullable=True),
        sa.Column("failures", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("firmware", JSON, nullable=False),
        sa.Column("inventory", JSON, nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_bmc_watch_node_id")),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_bmc_watch")),
        comment="How far the out-of-band watch has read each BMC",
    )
    op.create_table(
        "boot_request",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("mac", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), server_default="", nullable=False),
        sa.Column("uuid", sa.String(), server_default="", nullable=False),
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column("address", sa.String(), server_default="", nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_boot_request_node_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_boot_request")),
        comment="A node asked what to boot",
    )
    op.create_index(op.f("ix_boot_request_node_id"), "boot_request", ["node_id"], unique=False)
    op.create_table(
        "condition",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("message", sa.String(), server_default="", nullable=False),
        sa.Column("evidence", JSON, nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_condition_node_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_condition")),
        comment="A fact about a node that is true for a while",
    )
    op.create_index(
        "uq_condition_active",
        "condition",
        ["node_id", "type"],
        unique=True,
        sqlite_where=sa.text("until IS NULL"),
        postgresql_where=sa.text("until IS NULL"),
    )
    op.create_table(
        "cordon_hold",
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_cordon_hold_node_id")),
        sa.PrimaryKeyConstraint("node_id", "holder", name=op.f("pk_cordon_hold")),
        comment="Why a node should be cordoned; none left means it should not be by us",
    )
    op.create_table(
        "decision",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("finding_id", sa.String(), nullable=True),
        sa.Column("incident_id", sa.String(), nullable=True),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("timing", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("reasons", JSON, nullable=False),
        sa.Column("fault", sa.String(), server_default="", nullable=False),
        sa.Column("serial", sa.String(), nullable=True),
        sa.Column("permit_id", sa.String(), nullable=True),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_decision_node_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decision")),
        comment="What remediation decided about a finding, and why",
    )
    op.create_index("ix_decision_finding_id_at", "decision", ["finding_id", "at"], unique=False)
    op.create_index("ix_decision_node_id_at", "decision", ["node_id", "at"], unique=False)
    op.create_index("ix_decision_serial_at", "decision", ["serial", "at"], unique=False)
    op.create_table(
        "finding",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("fault", sa.String(), nullable=False),
        sa.Column("component", sa.String(), nullable=False),
        sa.Column("device", sa.String(), server_default="", nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("confidence", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("message", sa.String(), server_default="", nullable=False),
        sa.Column("evidence", JSON, nullable=False),
        sa.Column("serial", sa.String(), nullable=True),
        sa.Column("count", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("first_at", sa.Double(), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.Column("cleared_at", sa.Double(), nullable=True),
        sa.Column("cleared_by", sa.String(), nullable=True),
        sa.Column("incident_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_finding_node_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_finding")),
        comment="What diagnosis made of signals",
    )
    op.create_index("ix_finding_incident_id", "finding", ["incident_id"], unique=False)
    op.create_index("ix_finding_node_id_last_at", "finding", ["node_id", "last_at"], unique=False)
    op.create_index(
        "uq_finding_active",
        "finding",
        ["node_id", "fault", "device"],
        unique=True,
        sqlite_where=sa.text("cleared_at IS NULL"),
        postgresql_where=sa.text("cleared_at IS NULL"),
    )
    op.create_table(
        "join_token",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("mac", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), server_default="", nullable=False),
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_join_token_node_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_join_token")),
        sa.UniqueConstraint("digest", name=op.f("uq_join_token_digest")),
        comment="The right to join once, bound to MAC, serial and the nonce of one boot request",
    )
    op.create_index(op.f("ix_join_token_node_id"), "join_token", ["node_id"], unique=False)
    op.create_table(
        "node_mac",
        sa.Column("mac", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_node_mac_node_id")),
        sa.PrimaryKeyConstraint("mac", name=op.f("pk_node_mac")),
    )
    op.create_index(op.f("ix_node_mac_node_id"), "node_mac", ["node_id"], unique=False)
    op.create_table(
        "outcome",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("measured", JSON, nullable=False),
        sa.Column("message", sa.String(), server_default="", nullable=False),
        sa.Column("firmware", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_outcome_node_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outcome")),
        comment="One stored check result or firmware run",
    )
    op.create_index("ix_outcome_node_id_finished_at", "outcome", ["node_id", "finished_at"], unique=False)
    op.create_table(
        "permit",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("groups", JSON, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("workload", sa.String(), nullable=True),
        sa.Column("granted_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("released_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_permit_node_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_permit")),
        comment="The right to one disruptive action",
    )
    op.create_index("ix_permit_granted_at", "permit", ["granted_at"], unique=False)
    op.create_index(op.f("ix_permit_node_id"), "permit", ["node_id"], unique=False)
    op.create_table(
        "rma_case",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("part", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("fault", sa.String(), nullable=False),
        sa.Column("summary", sa.String(), nullable=False),
        sa.Column("vendor_case", sa.String(), nullable=True),
        sa.Column("replacement_serial", sa.String(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("evidence", JSON, nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("closed_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_rma_case_node_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rma_case")),
        comment="A part or chassis on its way to the vendor and back",
    )
    op.create_index(op.f("ix_rma_case_node_id"), "rma_case", ["node_id"], unique=False)
    op.create_index("ix_rma_case_serial", "rma_case", ["serial"], unique=False)
    op.create_table(
        "signal",
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("boot_id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("code", sa.String(), server_default="", nullable=False),
        sa.Column("device", sa.String(), server_default="", nullable=False),
        sa.Column("component", sa.String(), server_default="", nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("message", sa.String(), server_default="", nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_signal_node_id")),
        sa.PrimaryKeyConstraint("node_id", "boot_id", "seq", name=op.f("pk_signal")),
        comment="One raw observation, identified by (node, boot, sequence)",
    )
    op.create_index("ix_signal_node_id_received_at", "signal", ["node_id", "received_at"], unique=False)
    op.create_index("ix_signal_received_at", "signal", ["received_at"], unique=False)
    op.create_table(
        "ticket",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column("fabric", sa.String(), server_default="", nullable=False),
        sa.Column("subject", sa.String(), server_default="node", nullable=False),
        sa.Column("node_id", sa.String(), nullable=True),
        sa.Column("slot", sa.String(), nullable=True),
        sa.Column("place", sa.String(), server_default="", nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("instruction", sa.String(), nullable=False),
        sa.Column("proof", sa.String(), server_default="person", nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("steps", JSON, server_default="[]", nullable=False),
        sa.Column("harms", JSON, server_default="{}", nullable=False),
        sa.Column("safe", JSON, server_default="{}", nullable=False),
        sa.Column("evidence", JSON, nullable=False),
        sa.Column("notes", JSON, server_default="[]", nullable=False),
        sa.Column("incident_id", sa.String(), nullable=True),
        sa.Column("assignee", sa.String(), nullable=True),
        sa.Column("recurrence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("escalation", sa.String(), server_default="", nullable=False),
        sa.Column("updates", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=True),
        sa.Column("seen_at", sa.Double(), nullable=True),
        sa.Column("claimed_at", sa.Double(), nullable=True),
        sa.Column("verifying_at", sa.Double(), nullable=True),
        sa.Column("closed_at", sa.Double(), nullable=True),
        sa.Column("closing", JSON, nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_ticket_node_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ticket")),
        comment="Work for a technician: one cause, one place, one instruction",
    )
    op.create_index(op.f("ix_ticket_node_id"), "ticket", ["node_id"], unique=False)
    op.create_index("ix_ticket_state_place", "ticket", ["state", "place"], unique=False)
    op.create_index(
        "uq_ticket_unfinished_key",
        "ticket",
        ["key"],
        unique=True,
        sqlite_where=sa.text("state != 'done'"),
        postgresql_where=sa.text("state != 'done'"),
    )
    op.create_table(
        "transition",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=True),
        sa.Column("from_state", sa.String(), nullable=True),
        sa.Column("to_state", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), server_default="", nullable=False),
        sa.Column("evidence", JSON, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("seconds_in_from", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_transition_node_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transition")),
        comment="A recorded change of state",
    )
    op.create_index("ix_transition_node_id_at", "transition", ["node_id", "at"], unique=False)
    op.create_index("ix_transition_serial_at", "transition", ["serial", "at"], unique=False)
    op.create_table(
        "ticket_node",
        sa.Column("ticket_id", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_ticket_node_node_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_ticket_node_ticket_id")),
        sa.PrimaryKeyConstraint("ticket_id", "node_id", name=op.f("pk_ticket_node")),
        comment="The nodes that hands are on while a ticket is claimed",
    )
    op.create_index(op.f("ix_ticket_node_node_id"), "ticket_node", ["node_id"], unique=False)
    op.create_table(
        "ticket_port",
        sa.Column("ticket_id", sa.String(), nullable=False),
        sa.Column("fabric", sa.String(), nullable=False),
        sa.Column("chassis", sa.String(), nullable=False),
        sa.Column("port", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_ticket_port_ticket_id")),
        sa.PrimaryKeyConstraint("ticket_id", "fabric", "chassis", "port", name=op.f("pk_ticket_port")),
        comment="The plugs that a ticket is about",
    )
    op.create_index("ix_ticket_port_fabric_chassis", "ticket_port", ["fabric", "chassis"], unique=False)
    op.create_index("ix_ticket_port_serial", "ticket_port", ["serial"], unique=False)
