"""Who may: API tokens of people and programs, single-use join tokens and certificates of nodes."""

from __future__ import annotations

import sqlalchemy as sa

from ostler.db.schema.columns import at, key, maybe, maybe_at, metadata, number, text

token = sa.Table(
    "token",
    metadata,
    key(),
    text("name"),
    text("role"),
    maybe("tenant"),
    sa.Column("digest", sa.String, nullable=False, unique=True),  # SHA-256 of the secret, hex
    text("created_by"),
    at("created_at"),
    maybe_at("expires_at"),
    maybe_at("revoked_at"),
    comment="API tokens; the secret itself is shown once and never stored",
)

boot_request = sa.Table(
    "boot_request",
    metadata,
    key(),
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), nullable=False, index=True),
    text("mac"),
    text("serial", ""),
    text("uuid", ""),
    text("nonce"),  # names this boot in the seed's URL
    text("address", ""),
    at("at"),
    at("expires_at"),
    comment="A node asked what to boot",
)

join_token = sa.Table(
    "join_token",
    metadata,
    key(),
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), nullable=False, index=True),
    sa.Column("digest", sa.String, nullable=False, unique=True),
    text("mac"),
    text("serial", ""),
    text("nonce"),
    at("created_at"),
    at("expires_at"),  # real time
    maybe_at("used_at"),
    comment="The right to join once, bound to MAC, serial and the nonce of one boot request",
)

agent_certificate = sa.Table(
    "agent_certificate",
    metadata,
    key("fingerprint"),  # SHA-256 of the DER form, hex
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), nullable=False, index=True),
    at("issued_at"),
    at("expires_at"),
    maybe_at("revoked_at"),
    comment="Which certificate speaks for which node",
)

idempotency = sa.Table(
    "idempotency",
    metadata,
    key("name"),  # SHA-256 of who and the key they sent, hex
    text("request"),  # SHA-256 of method, path, query and body, hex
    number("status"),  # 0: still being worked on
    text("content_type"),
    maybe("body"),  # NULL: held a secret, or too long
    sa.Column("at", sa.Double, nullable=False, index=True),  # real time
    comment="Answers to writes that carried an Idempotency-Key, for a day",
)
