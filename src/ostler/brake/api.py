"""Faces of the brake: limits, live permits, pause and resume. Mounted by `app.py`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from ostler.access.api import Authorize, request_id
from ostler.access.model import Principal, Role
from ostler.brake import service, store
from ostler.brake.model import Rule
from ostler.core.clock import iso, iso_or_none
from ostler.db.engine import Database
from ostler.db.tx import Tx


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class RuleIn(_Body):
    """A limit of one group; leave out what is not limited."""

    group: str = Field(min_length=1, max_length=40, examples=["rack"])
    share: float | None = Field(default=None, gt=0, le=1)
    at_once: int | None = Field(default=None, ge=0, le=100_000)
    per_window: int | None = Field(default=None, ge=0, le=1_000_000)
    window_s: float = Field(default=3600.0, gt=0, le=30 * 86400)


class RulesIn(_Body):
    rules: list[RuleIn] = Field(min_length=1, max_length=50)
    reason: str = Field(min_length=1, max_length=500)


class PauseIn(_Body):
    """`scope`: `fleet`, `rack:NAME`, `node:NAME`. `seconds`: until resumed when left out."""

    scope: str = Field(default="fleet", min_length=1, max_length=300)
    reason: str = Field(min_length=1, max_length=500)
    seconds: float | None = Field(default=None, gt=0, le=365 * 86400)


class ResumeIn(_Body):
    scope: str = Field(default="fleet", min_length=1, max_length=300)
    reason: str = Field(min_length=1, max_length=500)


def router(db: Database, authorize: Authorize) -> APIRouter:
    """`/v1/brake`, `/v1/pause`, `/v1/resume`."""
    routes = APIRouter(tags=["brake"])
    viewer, operator, admin = (Depends(authorize(role)) for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN))

    @routes.get("/v1/brake", summary="Limits, live permits and pauses")
    def show(_who: Principal = viewer) -> dict[str, Any]:
        return db.read(view)

    @routes.put("/v1/brake", summary="Set the limits")
    def limits(body: RulesIn, request: Request, who: Principal = admin) -> dict[str, Any]:
        rules = [Rule(**rule.model_dump()) for rule in body.rules]
        actor = who.actor(request_id(request))
        db.write(lambda tx: service.set_rules(tx, rules, actor=actor, reason=body.reason))
        return db.read(view)

    @routes.post("/v1/pause", status_code=201, summary="Hold all automation of a scope")
    def pause(body: PauseIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        def use_case(tx: Tx) -> str:
            until = None if body.seconds is None else tx.now + body.seconds
            actor = who.actor(request_id(request))
            return service.pause(tx, body.scope, actor=actor, reason=body.reason, until=until)

        return {"id": db.write(use_case)}

    @routes.post("/v1/resume", summary="Lift the pauses of a scope")
    def resume(body: ResumeIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        actor = who.actor(request_id(request))
        db.write(lambda tx: service.resume(tx, body.scope, actor=actor, reason=body.reason))
        return db.read(view)

    return routes


def view(tx: Tx) -> dict[str, Any]:
    """The brake as every face shows it."""
    return {
        "rules": [asdict(rule) for rule in store.rules(tx)],
        "permits": [
            {
                "id": row["id"],
                "node_id": row["node_id"],
                "action": row["action"],
                "groups": row["groups"],
                "actor": row["actor"],
                "reason": row["reason"],
                "granted_at": iso(row["granted_at"]),
                "expires_at": iso(row["expires_at"]),
            }
            for row in store.listed(tx, live_only=True)
        ],
        "pauses": [
            {
                "scope": row["scope"],
                "actor": row["actor"],
                "reason": row["reason"],
                "since": iso(row["since"]),
                "until": iso_or_none(row["until"]),
            }
            for row in store.pauses(tx)
        ],
    }
