"""Faces of health: the agents' report route, and reading findings and incidents. Mounted by `app.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ostler.access.api import Authorize, request_id
from ostler.access.model import Principal, Role
from ostler.core.clock import iso, iso_or_none
from ostler.core.errors import BadInput
from ostler.db.engine import Database
from ostler.health import findings as finding_service
from ostler.health import store
from ostler.health.desk import AgentDesk
from ostler.nodes import store as nodes
from ostler.wire.agent import REPORT_LIMIT, Report
from ostler.wire.decode import decode, encode


class Cleared(BaseModel):
    """A person's word that a verdict is over."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    reason: str = Field(min_length=1, max_length=500)


def agent_router(desk: AgentDesk, node_of: Callable[..., str]) -> APIRouter:
    """Routes of the agents' listener; `node_of` is a dependency that names the node of the verified certificate."""
    routes = APIRouter(prefix="/v1/agent", tags=["agent"])

    async def body(request: Request) -> bytes:
        taken = bytearray()
        async for chunk in request.stream():
            taken += chunk
            if len(taken) > REPORT_LIMIT:
                raise BadInput(f"A report has at most {REPORT_LIMIT} bytes.", where="body")
        return bytes(taken)

    @routes.post("/report")
    def report(node_id: str = Depends(node_of), raw: bytes = Depends(body)) -> Response:
        """One report of one node; answered when it is durable."""
        answer = desk.answer(node_id, decode(Report, raw))
        return Response(encode(answer), media_type="application/json")

    return routes


def router(db: Database, authorize: Authorize) -> APIRouter:
    """`/v1/findings`, `/v1/incidents`, `/v1/nodes/{node}/signals`."""
    routes = APIRouter(tags=["health"])
    viewer, operator = Depends(authorize(Role.VIEWER)), Depends(authorize(Role.OPERATOR))

    @routes.get("/v1/findings")
    def findings(
        node: str | None = None,
        active: bool = True,
        after: str | None = None,
        limit: int = 100,
        _who: Principal = viewer,
    ) -> dict[str, Any]:
        """What diagnosis found, newest first."""

        def query(tx: Any) -> list[dict[str, Any]]:
            node_id = None if node is None else nodes.get(tx, node).id
            rows = store.listed(tx, node_id=node_id, active_only=active, after=after, limit=_limit(limit))
            return [finding_view(row) for row in rows]

        return _page(db.read(query), limit)

    @routes.post("/v1/findings/{finding}/clear", summary="End a verdict by a person's word, with the reason")
    def clear(finding: str, body: Cleared, request: Request, who: Principal = operator) -> dict[str, Any]:
        actor = who.actor(request_id(request))
        return db.write(
            lambda tx: finding_view(finding_service.clear_by_person(tx, finding, reason=body.reason, actor=actor))
        )

    @routes.get("/v1/incidents")
    def incidents(
        open: bool = False, after: str | None = None, limit: int = 100, _who: Principal = viewer
    ) -> dict[str, Any]:
        """Causes that many findings were folded into, newest first."""
        rows = db.read(lambda tx: store.incidents(tx, open_only=open, after=after, limit=_limit(limit)))
        return _page([incident_view(row) for row in rows], limit)

    @routes.get("/v1/nodes/{node}/signals")
    def signals(node: str, limit: int = 100, _who: Principal = viewer) -> dict[str, Any]:
        """The latest raw observations of a node, newest first."""
        rows = db.read(lambda tx: store.signals(tx, nodes.get(tx, node).id, limit=_limit(limit)))
        return {"items": [signal_view(row) for row in rows], "next": None}

    return routes


def finding_view(row: sa.RowMapping) -> dict[str, Any]:
    """A finding as every face shows it."""
    return {
        "id": row["id"],
        "node_id": row["node_id"],
        "fault": row["fault"],
        "component": row["component"],
        "device": row["device"],
        "serial": row["serial"],
        "severity": row["severity"],
        "confidence": row["confidence"],
        "action": row["action"],
        "message": row["message"],
        "count": row["count"],
        "evidence": row["evidence"],
        "incident_id": row["incident_id"],
        "first_at": iso(row["first_at"]),
        "last_at": iso(row["last_at"]),
        "cleared_at": iso_or_none(row["cleared_at"]),
        "cleared_by": row["cleared_by"],
    }


def incident_view(row: sa.RowMapping) -> dict[str, Any]:
    return {
        "id": row["id"],
        "cause": row["cause"],
        "scope": row["scope"],
        "subject": row["subject"],
        "summary": row["summary"],
        "evidence": row["evidence"],
        "opened_at": iso(row["opened_at"]),
        "closed_at": iso_or_none(row["closed_at"]),
        "outcome": row["outcome"],
    }


def signal_view(row: sa.RowMapping) -> dict[str, Any]:
    return {
        "boot_id": row["boot_id"],
        "seq": row["seq"],
        "source": row["source"],
        "kind": row["kind"],
        "code": row["code"],
        "device": row["device"],
        "component": row["component"],
        "severity": row["severity"],
        "action": row["action"],
        "message": row["message"],
        "detail": row["detail"],
        "at": iso(row["at"]),
        "received_at": iso(row["received_at"]),
    }


def _limit(limit: int) -> int:
    if not 1 <= limit <= 1000:
        raise BadInput("Between 1 and 1000.", where="limit")
    return limit


def _page(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    return {"items": items, "next": items[-1]["id"] if len(items) == limit else None}
