"""What people and programs ask of Day 1. Mounted by `app.py`.

| route | role | does |
|---|---|---|
| `GET /v1/nodes/{node}/acceptance` | viewer | where the node is on its way, why, its outcomes, its firmware plan |
| `GET /v1/skus`, `GET /v1/skus/{name}` | viewer | what nodes of a model must have |
| `PUT /v1/skus/{name}` | admin | declare a SKU or change it |
| `PUT /v1/nodes/{node}/sku` | operator | say what a node is meant to be |

Certifying a node (`POST /v1/nodes/{node}/certify`) is in `nodes/api.py`.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from ostler.acceptance import policy, service, store
from ostler.acceptance import sku as documents
from ostler.acceptance.model import AcceptanceSettings, FirmwarePlan, Profile, Sku, Update
from ostler.acceptance.service import SEATRIAL, ZAP, job_key
from ostler.access.api import Authorize, request_id
from ostler.access.model import Principal, Role
from ostler.core.clock import iso, iso_or_none
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.nodes import store as nodes
from ostler.nodes.model import Condition, State
from ostler.trends import store as trends

_OUTCOMES = 100


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class SkuIn(_Body):
    sku: dict[str, Any] = Field(description="see docs/day0-day1.md for the keys")
    reason: str = Field(default="", max_length=500)


class AssignIn(_Body):
    sku: str = Field(min_length=1, max_length=64)
    reason: str = Field(default="", max_length=500)


def router(db: Database, authorize: Authorize, settings: AcceptanceSettings) -> APIRouter:
    """The routes of Day 1."""
    api = APIRouter(tags=["acceptance"])
    viewer, operator, admin = (Depends(authorize(role)) for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN))

    @api.get("/v1/nodes/{node}/acceptance", summary="A node on its way to production")
    def acceptance(node: str, _who: Principal = viewer) -> dict[str, Any]:
        return db.read(lambda tx: _acceptance(tx, node, settings))

    @api.get("/v1/skus", summary="Every SKU")
    def skus(_who: Principal = viewer) -> dict[str, Any]:
        return {"items": [_sku(sku) for sku in db.read(store.skus)], "next": None}

    @api.get("/v1/skus/{name}", summary="One SKU")
    def show(name: str, _who: Principal = viewer) -> dict[str, Any]:
        return _sku(db.read(lambda tx: store.get_sku(tx, name)))

    @api.put("/v1/skus/{name}", summary="Declare a SKU, or change it")
    def put(name: str, body: SkuIn, request: Request, who: Principal = admin) -> dict[str, Any]:
        actor = who.actor(request_id(request))
        return _sku(db.write(lambda tx: service.put_sku(tx, name, body.sku, actor=actor, reason=body.reason)))

    @api.put("/v1/nodes/{node}/sku", summary="Say what a node is meant to be")
    def assign(node: str, body: AssignIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        actor = who.actor(request_id(request))
        changed = db.write(lambda tx: service.assign_sku(tx, node, body.sku, actor=actor, reason=body.reason))
        return {"node": changed.name, "node_id": changed.id, "sku": changed.sku}

    return api


def _acceptance(tx: Tx, name: str, settings: AcceptanceSettings) -> dict[str, Any]:
    node = nodes.get(tx, name)
    job = store.live_job(tx, job_key(node.id))
    sku = store.find_sku(tx, node.sku)
    held = nodes.active_condition(tx, node.id, Condition.HELD_FOR_PERSON)
    versions = store.last_measured(tx, node.id, (SEATRIAL, ZAP)).get("firmware", {})
    came = store.last_transition(tx, node.id)
    start = State(came["from_state"]) if came is not None and came["from_state"] is not None else None
    in_test = node.state is State.TEST
    profile = policy.profile_of(start, came["evidence"]) if in_test and came is not None else Profile.FULL
    plan = policy.plan_burn_in(profile, settings)
    return {
        "node": node.name,
        "node_id": node.id,
        "state": node.state.value,
        "since": iso(node.state_since),
        "deadline": iso_or_none(node.state_deadline),
        "sku": node.sku,
        "held": None if held is None else held["message"],
        "job": None
        if job is None
        else {
            "id": job["id"],
            "procedure": job["procedure"],
            "step": job["step"],
            "state": job["state"],
            "why": job["why"],
            "due_at": iso(job["due_at"]),
        },
        "firmware": _plan(policy.firmware_plan(sku, versions, node.service)) if versions else None,
        "test": {
            "profile": plan.profile.value,
            "seconds": plan.seconds,
            "checks": [{"round": run.round, "check": run.check, "after_s": run.due} for run in plan.runs],
        },
        "outcomes": [
            {
                "name": row["name"],
                "verdict": row["verdict"],
                "message": row["message"],
                "measured": row["measured"],
                "firmware": row["firmware"],
                "started_at": iso(row["started_at"]),
                "finished_at": iso(row["finished_at"]),
            }
            for row in trends.of_node(tx, node.id, limit=_OUTCOMES)
        ],
    }


def _plan(plan: FirmwarePlan) -> dict[str, Any]:
    def told(update: Update) -> dict[str, str]:
        target = update.target
        return {
            "component": target.component,
            "from": update.present,
            "to": target.version,
            "activation": target.activation.value,
        }

    return {
        "current": plan.current,
        "updates": [told(update) for update in plan.updates],
        "impossible": [told(update) for update in plan.impossible],
        "missing": list(plan.missing),
        "left_alone": list(plan.left_alone),
    }


def _sku(sku: Sku) -> dict[str, Any]:
    return {"name": sku.name, "sku": documents.document(sku)}
