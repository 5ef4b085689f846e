"""The operators' app in process, with a router of its own, for the tests of what is true of every request."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, Request
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict
from starlette.testclient import TestClient

from ostler.access import service as access
from ostler.access.api import request_id
from ostler.access.model import Principal, Role
from ostler.console import Console
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, Gone, Refused, Unavailable
from ostler.db.engine import Database
from ostler.http.auth import Doorkeeper
from ostler.http.idempotency import Once
from ostler.http.operator import Loop, operator_app

ADMIN = "an-admin-secret-of-the-environment"


class Thing(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    name: str
    count: int = 0


def _router(door: Doorkeeper) -> APIRouter:
    api = APIRouter()
    viewer, operator = Depends(door.authorize(Role.VIEWER)), Depends(door.authorize(Role.OPERATOR))

    made: list[str] = []

    @api.get("/v1/me")
    def me(request: Request, who: Principal = viewer) -> dict[str, Any]:
        return {"name": who.name, "role": who.role, "request_id": request_id(request)}

    @api.post("/v1/things")
    def make(body: Thing, who: Principal = operator) -> dict[str, Any]:
        made.append(body.name)
        if body.name == "refused":
            raise Refused("Not now.")
        return {"made": body.name, "by": who.name, "count": len(made)}

    @api.post("/v1/tokens")
    def secret(who: Principal = operator) -> dict[str, Any]:
        return {"secret": "ost_never_stored"}

    @api.get("/v1/fails/{how}")
    def fails(how: str) -> None:
        raise {
            "bad": BadInput("No such pool.", where="pool"),
            "refused": Refused("Not from test to production."),
            "gone": Gone("The cursor is too old."),
            "busy": Unavailable("The disk is full.", delay=7.2),
            "bug": RuntimeError("secret in /etc/passwd"),
        }[how]

    return api


@dataclass
class Site:
    client: TestClient
    db: Database
    ages: dict[str, float | None]

    def token(self, role: Role, tenant: str | None = None) -> str:
        made = self.db.write(
            lambda tx: access.create_token(tx, name=f"t-{role}", role=role, tenant=tenant, actor=Actor("person:mara"))
        )
        return made.secret

    def bearer(self, role: Role, tenant: str | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(role, tenant)}"}


def new_site(db: Database, *, open_to_loopback: bool = False) -> Site:
    ages: dict[str, float | None] = {"jobs": 1.0, "webhooks": 2.0}
    door = Doorkeeper(db, ADMIN, open_to_loopback=open_to_loopback)
    app = operator_app(
        [_router(door), Console(db, door).router],
        registry=CollectorRegistry(),
        loops=[Loop(name, partial(ages.get, name), 30.0) for name in ages],
        once=lambda app: Once(app, db, door.identify),
        ping=lambda: db.read(lambda tx: tx.conn.exec_driver_sql("select 1")),
    )
    client = TestClient(app, base_url="http://127.0.0.1:8470", client=("127.0.0.1", 50000), follow_redirects=False)
    return Site(client, db, ages)


def problem_of(answer: Any) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == answer.status_code
    assert found["request_id"] == answer.headers["x-request-id"]
    return found
