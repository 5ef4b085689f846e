"""Nodes, where they stand, what they are meant to be, and the record of their states."""

from __future__ import annotations

import sqlalchemy as sa

from ostler.db.schema.columns import at, flag, json, key, maybe, maybe_at, metadata, number, text

pool = sa.Table(
    "pool",
    metadata,
    key("name"),
    json("capabilities"),  # list of nodes.model.Capability; observe only by default
    flag("auto_certify"),
    text("cluster", "none"),  # the cluster port that the pool's nodes are mirrored to
    at("created_at"),
    comment="Nodes under one policy, with the capabilities granted there",
)

sku = sa.Table(
    "sku",
    metadata,
    key("name"),
    json("spec"),  # nodes.model.Sku
    at("updated_at"),
    comment="What a node of this model must have, and the firmware it must run",
)

slot = sa.Table(
    "slot",
    metadata,
    key("name"),  # site/row/rack/U
    text("site"),
    text("row"),
    text("rack"),
    text("unit"),
    json("domains"),  # kind -> name: rack, nvlink, fabric, power, cooling
    json("network"),  # what cloud-init's network-config needs here
    comment="A place; cabling belongs to the slot, not to the node",
)

node = sa.Table(
    "node",
    metadata,
    key(),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("serial", sa.String, nullable=True, unique=True),
    maybe("uuid"),  # SMBIOS system UUID, lower case
    sa.Column("slot", sa.String, sa.ForeignKey("slot.name"), nullable=True, index=True),
    sa.Column("pool", sa.String, sa.ForeignKey("pool.name"), nullable=False, index=True),
    maybe("sku"),
    text("service", "managed"),  # managed or unmanaged
    maybe("bmc_address"),  # base URL of the Redfish service
    maybe("bmc_secret"),  # reference to the credentials, never the credentials
    sa.Column("state", sa.String, nullable=False),
    at("state_since"),
    maybe_at("state_deadline"),
    maybe("pending_state"),  # decided, not yet acted on
    maybe("pending_reason"),
    maybe_at("pending_deadline"),
    number("revision"),  # grows with every change: optimistic concurrency and `seq` of node events
    maybe("maintenance_by"),  # who holds the hands-on lock
    flag("power_locked"),  # after a leak, until a named person clears it
    sa.Column("cordoned", sa.Boolean, nullable=True),  # what the cluster last said; NULL: not known
    maybe_at("cordon_checked_at"),
    maybe("boot_id"),
    maybe_at("last_seen"),  # domain time of the last heartbeat
    maybe("agent_version"),
    maybe("driver"),
    flag("busy"),  # a workload runs, as far as agent or cluster say
    json("inventory"),  # wire.agent.Inventory as last reported
    at("created_at"),
    sa.Index("ix_node_state_sku_driver", "state", "sku", "driver"),  # counts of peers read nothing else
    sa.Index("ix_node_cordon_checked_at", "cordon_checked_at"),
    sa.Index("ix_node_cordoned_cordon_checked_at", "cordoned", "cordon_checked_at"),
    comment="One server; everything but the id is an attribute that may change",
)

node_mac = sa.Table(
    "node_mac",
    metadata,
    key("mac"),  # lower case, colons
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), nullable=False, index=True),
)

condition = sa.Table(
    "condition",
    metadata,
    key(),
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), nullable=False),
    text("type"),
    text("reason"),
    text("message", ""),
    json("evidence"),
    at("since"),
    maybe_at("until"),
    comment="A fact about a node that is true for a while",
)
sa.Index(
    "uq_condition_active",
    condition.c.node_id,
    condition.c.type,
    unique=True,
    sqlite_where=condition.c.until.is_(None),
    postgresql_where=condition.c.until.is_(None),
)

transition = sa.Table(
    "transition",
    metadata,
    key(),
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), nullable=False),
    maybe("serial"),  # as it was then: history by serial number survives moves and swaps
    maybe("from_state"),
    text("to_state"),
    text("cause"),
    text("actor"),
    text("reason", ""),
    json("evidence"),
    at("at"),
    maybe_at("seconds_in_from"),
    sa.Index("ix_transition_node_id_at", "node_id", "at"),
    sa.Index("ix_transition_serial_at", "serial", "at"),
    comment="A recorded change of state",
)

maintenance = sa.Table(
    "maintenance",
    metadata,
    key(),
    text("scope"),  # node:ID, rack:NAME, KIND:NAME, as pauses have it
    text("kind"),  # planned, immediate, retirement
    text("state"),  # planned, announced, running, done, cancelled
    text("summary"),
    text("actor"),
    at("starts_at"),
    maybe_at("ends_at"),
    maybe_at("announced_at"),
    maybe_at("started_at"),
    maybe_at("finished_at"),
    json("detail"),  # what is done to the nodes, and how far each of them is
    at("created_at"),
    sa.Index("ix_maintenance_state_starts_at", "state", "starts_at"),
    comment="Planned and running maintenance, with the notices to tenants",
)

rma_case = sa.Table(
    "rma_case",
    metadata,
    key(),
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), nullable=False, index=True),
    text("part"),  # chassis, gpu, nic, psu, …
    maybe("serial"),
    text("state"),  # open, shipped, replaced, returned, refused
    text("fault"),
    text("summary"),
    maybe("vendor_case"),
    maybe("replacement_serial"),
    text("actor"),
    json("evidence"),
    at("opened_at"),
    maybe_at("closed_at"),
    sa.Index("ix_rma_case_serial", "serial"),
    comment="A part or chassis on its way to the vendor and back",
)

cordon_hold = sa.Table(
    "cordon_hold",
    metadata,
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), primary_key=True),
    sa.Column("holder", sa.String, primary_key=True),  # lifecycle, remediation, person
    text("reason"),
    text("actor"),
    at("since"),
    comment="Why a node should be cordoned; none left means it should not be by us",
)
