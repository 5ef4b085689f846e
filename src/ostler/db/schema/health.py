"""What nodes say, what diagnosis makes of it, what was decided, and what tests measured."""

from __future__ import annotations

import sqlalchemy as sa

from ostler.db.schema.columns import at, flag, json, key, maybe, maybe_at, metadata, number, text

agent_session = sa.Table(
    "agent_session",
    metadata,
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), primary_key=True),
    sa.Column("boot_id", sa.String, primary_key=True),
    number("last_seq"),  # every signal up to here is stored or declared lost
    number("judged_seq"),  # and up to here diagnosed
    at("first_seen"),
    at("last_seen"),
    comment="One boot of one node, as its agent reports it",
)
_unjudged = agent_session.c.judged_seq < agent_session.c.last_seq
sa.Index(
    "ix_agent_session_unjudged",
    agent_session.c.last_seen,
    sqlite_where=_unjudged,
    postgresql_where=_unjudged,
)

signal = sa.Table(
    "signal",
    metadata,
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), primary_key=True),
    sa.Column("boot_id", sa.String, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    text("source"),  # kernel, gpu, agent, bmc, …
    text("kind"),
    text("code", ""),
    text("device", ""),
    text("component", ""),
    text("severity"),
    text("action"),
    text("message", ""),
    json("detail"),
    at("at"),  # the node's clock, shown and never ordered by
    at("received_at"),
    sa.Index("ix_signal_received_at", "received_at"),
    sa.Index("ix_signal_node_id_received_at", "node_id", "received_at"),  # a node's latest, whatever it said before
    comment="One raw observation, identified by (node, boot, sequence)",
)

finding = sa.Table(
    "finding",
    metadata,
    key(),
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), nullable=False),
    text("fault"),  # xid-79, silent, signal-gap, …
    text("component"),
    text("device", ""),
    text("severity"),
    text("confidence"),
    text("action"),
    text("message", ""),
    json("evidence"),
    maybe("serial"),  # of the part, else of the node: repeats are counted across slots
    number("count", 1),
    at("first_at"),
    at("last_at"),
    maybe_at("cleared_at"),
    maybe("cleared_by"),
    maybe("incident_id"),
    sa.Index("ix_finding_node_id_last_at", "node_id", "last_at"),
    sa.Index("ix_finding_incident_id", "incident_id"),
    comment="What diagnosis made of signals",
)
sa.Index(
    "uq_finding_active",
    finding.c.node_id,
    finding.c.fault,
    finding.c.device,
    unique=True,
    sqlite_where=finding.c.cleared_at.is_(None),
    postgresql_where=finding.c.cleared_at.is_(None),
)

incident = sa.Table(
    "incident",
    metadata,
    key(),
    text("cause"),
    text("scope"),  # node, rack, nvlink, fabric, sku, fleet
    text("subject"),
    text("summary"),
    json("evidence"),
    at("opened_at"),
    maybe_at("closed_at"),
    maybe("outcome"),
    sa.Index("ix_incident_subject_opened_at", "subject", "opened_at"),
    comment="Findings folded into one cause",
)

bmc_watch = sa.Table(
    "bmc_watch",
    metadata,
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), primary_key=True),
    text("position", ""),  # adapters.bmc.port.EventLog.position: read up to here
    maybe_at("polled_at"),  # domain time of the last answer
    number("failures"),  # in a row
    json("firmware"),  # component -> version, as last read
    json("inventory"),  # adapters.bmc.port.BmcInventory as last read
    comment="How far the out-of-band watch has read each BMC",
)

agent_order = sa.Table(
    "agent_order",
    metadata,
    key(),
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), nullable=False),
    text("verb"),
    json("arguments"),
    maybe("wake_key"),  # the job to wake when the result comes
    at("given_at"),
    at("deadline"),  # domain time
    maybe("verdict"),
    json("measured"),
    text("message", ""),
    maybe_at("started_at"),
    maybe_at("finished_at"),
    sa.Index("ix_agent_order_node_id", "node_id", "finished_at"),
    comment="What a node's agent was asked to do, and what came of it",
)

decision = sa.Table(
    "decision",
    metadata,
    key(),
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), nullable=False),
    maybe("finding_id"),
    maybe("incident_id"),
    text("action"),
    text("timing"),  # none, pending, immediate
    text("verdict"),  # act, would-act, held, record
    json("reasons"),
    text("fault", ""),
    maybe("serial"),  # of the part that it is about, else of the node
    maybe("permit_id"),
    maybe("job_id"),
    at("at"),
    sa.Index("ix_decision_node_id_at", "node_id", "at"),
    sa.Index("ix_decision_finding_id_at", "finding_id", "at"),
    sa.Index("ix_decision_serial_at", "serial", "at"),
    comment="What remediation decided about a finding, and why",
)

outcome = sa.Table(
    "outcome",
    metadata,
    key(),
    sa.Column("node_id", sa.String, sa.ForeignKey("node.id"), nullable=False),
    maybe("serial"),
    text("name"),  # of the check or firmware component
    text("verdict"),  # passed, failed, inconclusive
    json("measured"),
    text("message", ""),
    flag("firmware"),
    at("started_at"),
    at("finished_at"),
    sa.Index("ix_outcome_node_id_finished_at", "node_id", "finished_at"),
    comment="One stored check result or firmware run",
)
