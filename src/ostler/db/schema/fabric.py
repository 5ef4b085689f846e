"""The InfiniBand fabric: designs, what was seen, known parts, open causes, what links did, weekly rounds."""

from __future__ import annotations

import sqlalchemy as sa

from ostler.db.schema.columns import at, flag, json, key, maybe, maybe_at, metadata, number, text

blueprint = sa.Table(
    "blueprint",
    metadata,
    key(),
    text("fabric"),
    text("source"),  # the format it was read from
    text("digest"),  # SHA-256 of `body` before compression
    flag("active"),  # the one that counts; the rest is history
    flag("proven", True),  # false: taken over from a snapshot
    number("chassis"),
    number("cables"),
    json("lints"),  # what was doubtful about it at import
    text("actor"),
    at("imported_at"),
    sa.Column("body", sa.LargeBinary, nullable=False),  # Ostler's CSV, compressed
    comment="Designed fabrics, every version",
)
sa.Index(
    "uq_blueprint_active",
    blueprint.c.fabric,
    unique=True,
    sqlite_where=sa.text("active"),
    postgresql_where=sa.text("active"),
)

fabric_snapshot = sa.Table(
    "fabric_snapshot",
    metadata,
    key(),
    text("fabric"),
    text("vantage"),  # who looked
    text("source"),  # the format of what was seen
    at("taken_at"),
    at("received_at"),
    maybe("blueprint_id"),  # what it was compared with
    flag("complete"),
    json("coverage"),  # fabric.report
    json("counts"),  # verdict -> number of designed cables
    json("report"),  # fabric.report.document, without what `causes` of the books repeat
    sa.Column("body", sa.LargeBinary, nullable=True),  # fabric.places.archive; dropped first by retention
    sa.Index("ix_fabric_snapshot_fabric_taken_at", "fabric", "taken_at"),
    comment="What was seen, and what came of it",
)

fabric_part = sa.Table(
    "fabric_part",
    metadata,
    sa.Column("fabric", sa.String, primary_key=True),
    sa.Column("guid", sa.String, primary_key=True),  # 0x…, 16 digits
    text("chassis"),
    text("port"),  # HCA's name; empty for a switch
    text("state"),  # known, replaced: waits for approval, gone
    at("first_seen"),
    at("last_seen"),
    maybe("actor"),  # who approved it
    sa.Index("ix_fabric_part_fabric_chassis", "fabric", "chassis"),
    comment="Which GUID is where: learnt, approved when it changes",
)

fabric_cause = sa.Table(
    "fabric_cause",
    metadata,
    key(),
    text("fabric"),
    text("key"),  # fabric.diagnosis: made of the ports concerned
    text("kind"),  # fabric.model.CauseKind
    text("state"),  # open, cleared
    flag("confirmed"),
    text("message"),
    text("do"),
    json("where"),  # chassis
    json("ports"),  # [chassis, port] pairs
    json("moves"),
    maybe("ticket_id"),
    number("sightings"),
    maybe("snapshot_id"),  # the last that saw it
    at("first_seen"),
    at("last_seen"),
    maybe_at("cleared_at"),
    sa.Index("ix_fabric_cause_fabric_state", "fabric", "state"),
    comment="What is wrong with the fabric now, and what was",
)
sa.Index(
    "uq_fabric_cause_open",
    fabric_cause.c.fabric,
    fabric_cause.c.key,
    unique=True,
    sqlite_where=fabric_cause.c.state == "open",
    postgresql_where=fabric_cause.c.state == "open",
)

link_event = sa.Table(
    "link_event",
    metadata,
    key(),
    text("fabric"),
    text("chassis"),
    text("port"),
    text("peer_chassis", ""),
    text("peer_port", ""),
    text("kind"),  # fabric.links.model.LinkEvent
    number("count", 1),
    at("at"),
    sa.Index("ix_link_event_fabric_at", "fabric", "at"),
    sa.Index("ix_link_event_fabric_chassis_port", "fabric", "chassis", "port", "at"),
    comment="Downs and flaps of links, as deltas between snapshots show them",
)

fabric_round = sa.Table(
    "fabric_round",
    metadata,
    key(),
    text("fabric"),
    text("state"),  # open, signed
    json("items"),  # what is to be looked at, why, and what was found
    maybe("snapshot_id"),
    at("opened_at"),
    maybe_at("due_at"),
    maybe_at("signed_at"),
    maybe("signed_by"),
    text("summary", ""),
    sa.Index("ix_fabric_round_fabric_state", "fabric", "state"),
    comment="The weekly validation by hand",
)
