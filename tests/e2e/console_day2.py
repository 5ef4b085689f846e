"""A day in the fleet of `console_fleet.py`, for looking at the rooms: incidents, repairs, maintenance, returns, checks.

Rows are written as tables (`db/schema`), because what is shown must not depend on which procedures exist.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from ostler.core.ids import new_id
from ostler.db import schema
from ostler.db.tx import Tx
from tests.e2e.console_stories import HOSTILE, event

HOUR = 3600.0
DAY = 86400.0
GPU = "0000:1b:00.0"
GPU_SERIAL = "1652922000123"


def day(tx: Tx, ids: list[str]) -> dict[str, str]:
    """Everything at once, on a fleet of 16. Returns ids by word: `window`, `upcoming`, `case`, `closed`, `ticket`."""
    pools(tx, ids)
    incident(tx, ids[0:3])
    would_act(tx, ids[8:12])
    held(tx, ids[13])
    work(tx, ids)
    node10(tx, ids[10])
    verifications(tx, ids)
    return {**windows(tx, ids), **cases(tx, ids)}


def finding(tx: Tx, node_id: str, fault: str, **more: Any) -> str:
    finding_id = new_id("finding")
    row: dict[str, Any] = {
        "id": finding_id,
        "node_id": node_id,
        "fault": fault,
        "component": "gpu",
        "device": GPU,
        "severity": "fatal",
        "confidence": "high",
        "action": "reboot",
        "message": f"{fault} was seen",
        "evidence": {},
        "serial": None,
        "count": 1,
        "first_at": tx.now - 900,
        "last_at": tx.now - 60,
        "incident_id": None,
        "cleared_at": None,
        "cleared_by": None,
    }
    tx.execute(schema.finding.insert(), [row | more])
    return finding_id


def decision(tx: Tx, node_id: str, finding_id: str | None, verdict: str, **more: Any) -> None:
    row: dict[str, Any] = {
        "id": new_id("decision"),
        "node_id": node_id,
        "finding_id": finding_id,
        "action": "reboot",
        "timing": "immediate",
        "verdict": verdict,
        "reasons": [],
        "fault": "",
        "serial": None,
        "at": tx.now - 300,
    }
    tx.execute(schema.decision.insert(), [row | more])


def pools(tx: Tx, ids: list[str]) -> None:
    """The second rack is observed only."""
    tx.execute(schema.pool.insert(), [{"name": "inference", "capabilities": ["observe"], "created_at": tx.now}])
    tx.execute(schema.node.update().where(schema.node.c.id.in_(ids[8:])).values(pool="inference"))


def incident(tx: Tx, ids: list[str]) -> None:
    """A leaf switch took three nodes' links; a fourth finding of it is over."""
    incident_id = new_id("incident")
    tx.execute(
        schema.incident.insert(),
        [
            {
                "id": incident_id,
                "cause": "fabric",
                "scope": "rack",
                "subject": "r01",
                "summary": "3 nodes of rack r01 lost links within 20 s: leaf-r01 is the common part",
                "evidence": {"fault": "ib-port-down"},
                "opened_at": tx.now - 1500,
            }
        ],
    )
    for node_id in ids:
        finding(tx, node_id, "ib-port-down", device="mlx5_0", component="nic", incident_id=incident_id)
    over = {"cleared_at": tx.now - 100, "cleared_by": "link is up"}
    finding(tx, ids[0], "ib-port-down", device="mlx5_1", component="nic", incident_id=incident_id, **over)


def would_act(tx: Tx, ids: list[str]) -> None:
    """Three nodes of the observed pool would have been rebooted, one repeatedly; a fourth finding is over."""
    not_granted = "the pool does not grant reboot: recorded as what Ostler would do"
    for number, node_id in enumerate(ids[:3]):
        about = finding(tx, node_id, "xid-119", message=HOSTILE if number == 0 else "GSP RPC timeout")
        why = ["xid-119 on 0000:1b:00.0 is fatal: reboot", "its work is lost already: immediate", not_granted]
        decision(tx, node_id, about, "would-act", reasons=why, fault="xid-119", at=tx.now - 600 - number)
    over = finding(tx, ids[3], "thermal-slowdown", severity="error", cleared_at=tx.now - HOUR, cleared_by="cool again")
    why = ["thermal-slowdown is error: triage", "the pool does not grant cordon: recorded as what Ostler would do"]
    decision(
        tx, ids[3], over, "would-act", action="triage", timing="pending", reasons=why, fault="thermal-slowdown",
        at=tx.now - 2 * DAY,
    )  # fmt: skip
    decision(tx, ids[3], over, "would-act", reasons=[not_granted], fault="xid-62", at=tx.now - 20 * DAY)


def held(tx: Tx, node_id: str) -> None:
    """First the brake let it wait, then again."""
    about = finding(tx, node_id, "xid-95", message="uncontained ECC error")
    decision(
        tx,
        node_id,
        about,
        "would-act",
        reasons=["xid-95 is fatal: reboot", "the rule for xid-95 is a dry run: recorded as what Ostler would do"],
        fault="xid-95",
        at=tx.now - 8000,
    )
    brake = "The brake holds: rack r02 has 1 of 1 permits out"
    decision(tx, node_id, about, "held", reasons=["xid-95 is fatal: reboot", brake], fault="xid-95", at=tx.now - 5000)


def work(tx: Tx, ids: list[str]) -> None:
    """A drain, a boot, and a job that waits for a person."""

    def job(node_id: str, step: str, why: str, **more: Any) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": new_id("job"),
            "procedure": "remediation",
            "version": 2,
            "subject": node_id,
            "step": step,
            "data": {},
            "state": "ready",
            "why": why,
            "due_at": tx.now,
            "created_at": tx.now - 1200,
            "finished_at": None,
        }
        return row | more

    blocked = "draining (allow-completion): 4 left of llama-70b; blocked: pod train-3 by budget llama"
    about = {"action": "reset-gpu", "fault": "xid-48"}
    tx.execute(
        schema.job.insert(),
        [
            job(ids[5], "drain", blocked, data=about),
            job(ids[3], "await-boot", "booting for 6 min", data={"action": "reboot", "fault": "xid-79"}),
            job(ids[4], "act", "the step fails: the BMC answers 500", state="held", created_at=tx.now - 7000),
            job(ids[6], "settle", "", finished_at=tx.now - 10, state="done"),
            job(ids[8], "follow-agent", "waiting for gemm", procedure="verification"),
        ],
    )


def node10(tx: Tx, node_id: str) -> None:
    """Locked after a leak, on probation, with two witnesses, parts, and a part that climbs the ladder."""
    tx.execute(
        schema.node.update()
        .where(schema.node.c.id == node_id)
        .values(
            power_locked=True,
            maintenance_by="person:mara",
            inventory={
                "system": {"manufacturer": "Acme", "model": "HGX-8", "serial": "SN7100010"},
                "gpus": [{"pci": GPU, "model": "H100 SXM5 80GB", "serial": GPU_SERIAL, "vbios": "96.00.74.00.01"}],
                "nics": [{"name": "mlx5_0", "pci": "0000:18:00.0", "mac": "02:aa:00:00:00:01", "firmware": "28.39"}],
            },
        )
    )
    tx.execute(
        schema.bmc_watch.insert(),
        [
            {
                "node_id": node_id,
                "firmware": {"BMC": "24.07-1", "CPLD": "0.4"},
                "inventory": {"psus": [{"name": "PSU 1", "model": "3000 W", "serial": "PS-77"}]},
            }
        ],
    )

    def condition(type_: str, reason: str, message: str, **evidence: Any) -> dict[str, Any]:
        return {
            "id": new_id("cond"),
            "node_id": node_id,
            "type": type_,
            "reason": reason,
            "message": message,
            "evidence": evidence,
            "since": tx.now - HOUR,
        }

    tx.execute(
        schema.condition.insert(),
        [
            condition("PowerLocked", "bmc-leak", "manifold sensor 2 is wet"),
            condition(
                "Probation", "xid-48", f"xid-48 of {GPU_SERIAL} again means more than reboot", until=tx.now + 7200
            ),
        ],
    )
    seen = {
        "rule": "gpu-lost",
        "source": "NVIDIA XID 79",
        "why": "the driver and the count of GPUs tell the same loss",
        "witnesses": [{"fault": "gpu-count", "by": "agent", "last": "7 of 8 GPUs answer"}],
        "explains": [f"xid-45@{GPU}"],
    }
    finding(tx, node_id, "xid-79", evidence=seen, serial=GPU_SERIAL, count=3)
    finding(tx, node_id, "disk-slow", severity="error", confidence="low", device="nvme0n1", component="disk")
    back = {"cleared_at": tx.now - 1.5 * DAY, "cleared_by": "verification outcome_1 passed after reboot"}
    before = finding(tx, node_id, "xid-48", serial=GPU_SERIAL, **back)
    for at in (3 * DAY, 2 * DAY):
        decision(tx, node_id, before, "act", fault="xid-48", serial=GPU_SERIAL, at=tx.now - at)


def windows(tx: Tx, ids: list[str]) -> dict[str, str]:
    """One under way and late, one announced for a node, one for good, one over."""

    def window(scope: str, state: str, summary: str, nodes: dict[str, str], **more: Any) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": new_id("mnt"),
            "scope": scope,
            "kind": "planned",
            "state": state,
            "summary": summary,
            "actor": "person:mara",
            "starts_at": tx.now - 2 * HOUR,
            "ends_at": tx.now - 600,
            "started_at": None,
            "finished_at": None,
            "detail": {"nodes": nodes},
            "created_at": tx.now - DAY,
        }
        return row | more

    members = dict.fromkeys(ids[:8], "out") | {ids[1]: "draining", ids[2]: "waiting: its firmware is being written"}
    late = window("rack:r01", "draining", "swap the PDU", members, started_at=tx.now - 2 * HOUR)
    soon = {"starts_at": tx.now + 5 * HOUR, "ends_at": tx.now + 7 * HOUR}
    upcoming = window(f"node:{ids[10]}", "announced", "replace the cold plate", {ids[10]: "waiting"}, **soon)
    away = {"kind": "retirement", "starts_at": tx.now + 9 * DAY, "ends_at": None}
    done = {"starts_at": tx.now - 50 * HOUR, "ends_at": tx.now - 48 * HOUR, "started_at": tx.now - 50 * HOUR}
    done["finished_at"] = tx.now - 48.5 * HOUR
    rows = [
        late,
        upcoming,
        window(f"node:{ids[15]}", "announced", "end of its lease", {ids[15]: "waiting"}, **away),
        window("rack:r02", "done", "clean the filters", dict.fromkeys(ids[8:], "returned"), **done),
    ]
    tx.execute(schema.maintenance.insert(), rows)
    told = {"maintenance_id": late["id"], "state": "draining", "reason": "swap the PDU"}
    event(tx, "maintenance.announced", late["id"], {"summary": "swap the PDU, notice given"}, at=tx.now - DAY)
    event(tx, "maintenance.changed", late["id"], told, at=tx.now - 2 * HOUR)
    return {"window": late["id"], "upcoming": upcoming["id"]}


def cases(tx: Tx, ids: list[str]) -> dict[str, str]:
    """One on its way, one that the vendor refused."""

    def case(node_id: str, part: str, state: str, **more: Any) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": new_id("rma"),
            "node_id": node_id,
            "part": part,
            "serial": None,
            "state": state,
            "fault": "",
            "summary": "two repairs did not help",
            "vendor_case": None,
            "replacement_serial": None,
            "actor": "ostler:remediation",
            "evidence": {},
            "opened_at": tx.now - 3 * DAY,
            "closed_at": None,
        }
        return row | more

    way = {"vendor_case": "NV-4711", "fault": "xid-48", "evidence": {"name": GPU, "repairs": 3}}
    shipped = case(ids[10], "gpu", "shipped", serial=GPU_SERIAL, **way)
    refused = case(ids[12], "psu", "refused", closed_at=tx.now - DAY, summary="out of warranty")
    tx.execute(schema.rma_case.insert(), [shipped, refused])
    told = {"case_id": shipped["id"], "node_id": ids[10], "state": "shipped", "reason": "parcel 1Z999"}
    event(tx, "rma.changed", shipped["id"], told, at=tx.now - DAY)
    ticket = new_id("ticket")
    tx.execute(
        schema.ticket.insert(),
        [
            {
                "id": ticket,
                "node_id": ids[10],
                "slot": None,
                "cause": "replace gpu",
                "instruction": f"Replace gpu {GPU}. Send the old one back.",
                "state": "open",
                "evidence": {"rma": shipped["id"]},
                "opened_at": tx.now - 3 * DAY,
                "closing": {},
            }
        ],
    )
    return {"case": shipped["id"], "closed": refused["id"], "ticket": ticket}


def verifications(tx: Tx, ids: list[str]) -> None:
    """Last runs: 9 passed, 1 failed (it had passed before), 2 inconclusive; one run is older than a day."""

    def run(node_id: str, verdict: str, ago: float, message: str = "", **measured: Any) -> dict[str, Any]:
        return {
            "id": new_id("outcome"),
            "node_id": node_id,
            "name": "idle-verification",
            "verdict": verdict,
            "measured": measured,
            "message": message,
            "started_at": tx.now - ago - 1200,
            "finished_at": tx.now - ago,
        }

    slow = "hbm-bandwidth: 1.9 TB/s of 3.0 expected on GPU 3"
    tx.execute(
        schema.outcome.insert(),
        [
            *(run(one, "passed", 1800.0 + number, checks=8, passed=8) for number, one in enumerate(ids[:9])),
            run(ids[9], "passed", 9000.0, checks=8, passed=8),
            run(ids[9], "failed", 600.0, slow, checks=8, passed=7),
            run(ids[12], "inconclusive", 300.0, "gemm: stopped: a workload arrived", checks=8, passed=2),
            run(ids[13], "inconclusive", 400.0, "gemm: stopped: a workload arrived", checks=8, passed=0),
            run(ids[15], "failed", 2 * DAY, "long ago", checks=8, passed=0),
        ],
    )


def of_fault(tx: Tx, fault: str) -> str:
    """The id of the one finding of a fault."""
    return str(tx.scalar(select(schema.finding.c.id).where(schema.finding.c.fault == fault)))


def inventory(tx: Tx, node_id: str, found: dict[str, Any]) -> None:
    tx.execute(schema.node.update().where(schema.node.c.id == node_id).values(inventory=found))
