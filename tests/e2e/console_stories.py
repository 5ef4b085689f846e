"""Two nodes with a story, for looking at the console: one fell off the bus, one waits for its workload."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from ostler.core.ids import new_id
from ostler.db import schema
from ostler.db.tx import Tx
from ostler.nodes.model import State

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=2> NVRM: Xid (PCI:0000:9a:00): 79"
"""What a kernel line may look like when somebody writes to /dev/kmsg."""


def event(tx: Tx, type_: str, subject: str, data: dict[str, Any], *, at: float) -> None:
    position = (tx.scalar(select(func.max(schema.event.c.position))) or 0) + 1
    tx.execute(
        schema.event.insert(),
        [
            {
                "id": new_id("event"),
                "type": type_,
                "subject": subject,
                "seq": position,
                "data": data,
                "at": at,
                "position": position,
            }
        ],
    )


def past(node_id: str, start: State | None, to: State, at: float, lasted: float | None, **more: Any) -> dict[str, Any]:
    row = {
        "id": new_id("trn"),
        "node_id": node_id,
        "serial": None,
        "from_state": start,
        "to_state": to,
        "at": at,
        "seconds_in_from": lasted,
    }
    return row | {"cause": "progress", "actor": "ostler:acceptance", "reason": "", "evidence": {}} | more


def node7(tx: Tx, node_id: str) -> None:
    now = tx.now
    tx.execute(schema.node.update().where(schema.node.c.id == node_id).values(state_since=now - 720))
    tx.execute(
        schema.transition.insert(),
        [
            past(
                node_id,
                State.PRODUCTION,
                State.REBOOT,
                now - 1900,
                86000.0,
                cause="finding",
                actor="ostler:remediation",
                reason="XID 79: GPU has fallen off the bus",
                evidence={"finding_id": "finding_7", "permit_id": "permit_7"},
            ),
            past(
                node_id,
                State.REBOOT,
                State.TRIAGE,
                now - 720,
                1180.0,
                cause="check-failed",
                actor="ostler:remediation",
                reason="the verification found 7 of 8 GPUs",
                evidence={"check": "verification", "gpus": {"expected": 8, "found": 7}},
            ),
        ],
    )
    fallen = {
        "id": "finding_7",
        "node_id": node_id,
        "fault": "xid-79",
        "component": "gpu",
        "device": "0000:9a:00.0",
        "severity": "fatal",
        "confidence": "high",
        "action": "reboot",
        "message": HOSTILE,
        "evidence": {"lines": [HOSTILE, "NVRM: GPU 0000:9a:00.0: GPU has fallen off the bus."]},
        "count": 3,
        "first_at": now - 1980,
        "last_at": now - 1940,
    }
    aer = {
        "id": new_id("finding"),
        "node_id": node_id,
        "fault": "aer-correctable",
        "component": "pcie",
        "device": "0000:98:00.0",
        "severity": "warning",
        "confidence": "medium",
        "action": "watch",
        "message": "PCIe Bus Error: severity=Corrected, type=Physical Layer",
        "evidence": {},
        "count": 212,
        "first_at": now - 90_000,
        "last_at": now - 2000,
        "cleared_at": now - 1700,
        "cleared_by": "reboot",
    }
    tx.execute(schema.finding.insert(), [fallen | {"cleared_at": None, "cleared_by": None}, aer])
    tx.execute(
        schema.decision.insert(),
        [
            {
                "id": new_id("decision"),
                "node_id": node_id,
                "finding_id": "finding_7",
                "action": "reboot",
                "timing": "immediate",
                "verdict": "held",
                "reasons": ["rack r01 has one permit out already"],
                "at": now - 1950,
            },
            {
                "id": new_id("decision"),
                "node_id": node_id,
                "finding_id": "finding_7",
                "action": "reboot",
                "timing": "immediate",
                "verdict": "act",
                "reasons": [
                    "XID 79 is fatal and the GPU is gone",
                    "the pool grants reboot",
                    "the brake has room: 1 of 1 in rack r01",
                ],
                "permit_id": "permit_7",
                "at": now - 1900,
            },
            {
                "id": new_id("decision"),
                "node_id": node_id,
                "finding_id": "finding_7",
                "action": "triage",
                "timing": "immediate",
                "verdict": "act",
                "reasons": ["a reboot did not bring the GPU back"],
                "at": now - 720,
            },
        ],
    )
    tx.execute(
        schema.permit.insert(),
        [
            {
                "id": "permit_7",
                "node_id": node_id,
                "action": "reboot",
                "groups": {},
                "actor": "ostler:remediation",
                "reason": "XID 79",
                "granted_at": now - 1900,
                "expires_at": now,
            }
        ],
    )
    tx.execute(
        schema.outcome.insert(),
        [
            {
                "id": new_id("outcome"),
                "node_id": node_id,
                "name": "verification",
                "verdict": "failed",
                "measured": {"gpus": 7},
                "message": "7 of 8 GPUs answer",
                "started_at": now - 760,
                "finished_at": now - 722,
            },
            {
                "id": new_id("outcome"),
                "node_id": node_id,
                "name": "test",
                "verdict": "passed",
                "measured": {"gemm_tflops": 712.4, "nccl_busbw_gbs": 471.9},
                "message": "",
                "started_at": now - 90_000,
                "finished_at": now - 88_000,
            },
            {
                "id": new_id("outcome"),
                "node_id": node_id,
                "name": "HGX",
                "verdict": "passed",
                "measured": {},
                "message": "1.4.0 → 1.6.2",
                "firmware": True,
                "started_at": now - 96_000,
                "finished_at": now - 95_000,
            },
        ],
    )
    tx.execute(
        schema.ticket.insert(),
        [
            {
                "id": new_id("ticket"),
                "node_id": node_id,
                "slot": "dc1/A/r01/u08",
                "cause": "xid-79",
                "instruction": "Reseat the GPU at 0000:9a:00.0 (tray slot 5); if it stays away, swap it.",
                "state": "open",
                "evidence": {},
                "opened_at": now - 700,
                "closing": {},
            }
        ],
    )
    tx.execute(
        schema.condition.insert(),
        [
            {
                "id": new_id("cond"),
                "node_id": node_id,
                "type": "GpuUnhealthy",
                "reason": "xid-79",
                "message": "0000:9a:00.0 is gone",
                "evidence": {},
                "since": now - 1940,
            }
        ],
    )
    tx.execute(
        schema.cordon_hold.insert(),
        [{"node_id": node_id, "holder": "lifecycle", "reason": "triage", "actor": "ostler:nodes", "since": now - 1900}],
    )
    event(
        tx,
        "node.state_changed",
        node_id,
        {
            "node_id": node_id,
            "node_name": "gpu-0007",
            "from": "production",
            "to": "reboot",
            "cause": "finding",
            "reason": "XID 79: GPU has fallen off the bus",
        },
        at=now - 1900,
    )
    event(
        tx,
        "node.state_changed",
        node_id,
        {
            "node_id": node_id,
            "node_name": "gpu-0007",
            "from": "reboot",
            "to": "triage",
            "cause": "check-failed",
            "reason": "the verification found 7 of 8 GPUs",
        },
        at=now - 720,
    )


def node5(tx: Tx, node_id: str) -> None:
    reason = "XID 48: double-bit ECC error; reset after the workload"
    tx.execute(
        schema.node.update()
        .where(schema.node.c.id == node_id)
        .values(pending_state="reboot", pending_reason=reason, pending_deadline=tx.now + 5400)
    )
    tx.execute(
        schema.cordon_hold.insert(),
        [
            {
                "node_id": node_id,
                "holder": "remediation",
                "reason": "reboot pending",
                "actor": "ostler:remediation",
                "since": tx.now - 300,
            }
        ],
    )
    tx.execute(
        schema.condition.insert(),
        [
            {
                "id": new_id("cond"),
                "node_id": node_id,
                "type": "PendingReboot",
                "reason": "pending",
                "message": reason,
                "evidence": {},
                "since": tx.now - 300,
            }
        ],
    )
    event(
        tx, "node.cordoned", node_id, {"node_id": node_id, "holder": "remediation", "reason": reason}, at=tx.now - 300
    )
