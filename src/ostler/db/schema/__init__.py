"""The map of the data: every table of Ostler, by room. Imported by each feature's `store.py` and by the migrations.

| file | holds | written by |
|---|---|---|
| `fleet.py` | nodes, slots, pools, SKUs, conditions, transitions, cordons, repairs | `nodes/`, `acceptance/`, … |
| `health.py` | agent sessions, signals, orders, findings, incidents, decisions, BMCs | `health/`, `remediation/` |
| `health.py`: outcome | what checks and firmware runs measured | `trends/` |
| `fabric.py` | blueprints, snapshots, parts, causes, link events, rounds | `fabric/` |
| `work.py` | jobs and their steps, schedules, named leases, permits, pauses, tickets | `jobs/`, `brake/`, `tickets/` |
| `record.py` | audit log, events, webhook endpoints, deliveries, attempts, pages | `audit/`, `events/`, `oncall/` |
| `access.py` | API tokens, join tokens, agents' certificates, idempotency keys | `access/`, `provisioning/`, `http/` |

Times are UTC epoch seconds (see `core/clock.py`). JSON columns hold plain objects that some `model.py` describes.
"""

from ostler.db.schema.access import agent_certificate, boot_request, idempotency, join_token, token
from ostler.db.schema.columns import metadata
from ostler.db.schema.fabric import (
    blueprint,
    fabric_cause,
    fabric_part,
    fabric_round,
    fabric_snapshot,
    link_event,
)
from ostler.db.schema.fleet import (
    condition,
    cordon_hold,
    maintenance,
    node,
    node_mac,
    pool,
    rma_case,
    sku,
    slot,
    transition,
)
from ostler.db.schema.health import agent_order, agent_session, bmc_watch, decision, finding, incident, outcome, signal
from ostler.db.schema.record import attempt, audit, audit_head, audit_node, delivery, endpoint, event, event_floor, page
from ostler.db.schema.work import (
    brake_rule,
    job,
    job_step,
    lease,
    pause,
    permit,
    schedule,
    ticket,
    ticket_node,
    ticket_port,
)

__all__ = [
    "agent_certificate",
    "agent_order",
    "agent_session",
    "attempt",
    "audit",
    "audit_head",
    "audit_node",
    "blueprint",
    "bmc_watch",
    "boot_request",
    "brake_rule",
    "condition",
    "cordon_hold",
    "decision",
    "delivery",
    "endpoint",
    "event",
    "event_floor",
    "fabric_cause",
    "fabric_part",
    "fabric_round",
    "fabric_snapshot",
    "finding",
    "idempotency",
    "incident",
    "job",
    "job_step",
    "join_token",
    "lease",
    "link_event",
    "maintenance",
    "metadata",
    "node",
    "node_mac",
    "outcome",
    "page",
    "pause",
    "permit",
    "pool",
    "rma_case",
    "schedule",
    "signal",
    "sku",
    "slot",
    "ticket",
    "ticket_node",
    "ticket_port",
    "token",
    "transition",
]
