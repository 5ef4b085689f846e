"""Faces of active checks: order one on a node, and read outcomes. Mounted by `app.py`."""

from __future__ import annotations

from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ostler.access.api import Authorize, request_id
from ostler.access.model import Principal, Role
from ostler.core.clock import iso
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.nodes import store as nodes
from ostler.verification import service, store
from ostler.verification.model import VerificationSettings


class ChecksIn(BaseModel):
    """Checks as `NAME key=value …`; left out, the plan of the node's SKU."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    checks: list[str] = Field(default_factory=list, max_length=50)


def router(db: Database, authorize: Authorize, settings: VerificationSettings) -> APIRouter:
    """`/v1/nodes/{node}/checks`, `/v1/outcomes`."""
    routes = APIRouter(tags=["verification"])
    viewer, operator = Depends(authorize(Role.VIEWER)), Depends(authorize(Role.OPERATOR))

    @routes.post(
        "/v1/nodes/{node}/checks", status_code=202, summary="Check a node in production now; it yields to work"
    )
    def order(node: str, body: ChecksIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        actor = who.actor(request_id(request))

        def use_case(tx: Tx) -> str:
            return service.order(tx, nodes.get(tx, node).id, body.checks, settings, actor=actor)

        return {"job_id": db.write(use_case)}

    @routes.get("/v1/outcomes", summary="What checks measured and firmware runs came to, newest first")
    def outcomes(
        node: Annotated[str | None, Query(max_length=253)] = None,
        name: Annotated[str | None, Query(max_length=64)] = None,
        after: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        _who: Principal = viewer,
    ) -> dict[str, Any]:
        def query(tx: Tx) -> list[dict[str, Any]]:
            node_id = None if node is None else nodes.get(tx, node).id
            rows = store.outcomes(tx, node_id=node_id, name=name, after=after, limit=limit)
            return [outcome_view(row) for row in rows]

        items = db.read(query)
        return {"items": items, "next": items[-1]["id"] if len(items) == limit else None}

    return routes


def outcome_view(row: sa.RowMapping) -> dict[str, Any]:
    """An outcome as every face shows it."""
    names = ("id", "node_id", "serial", "name", "verdict", "measured", "message", "firmware")
    return {
        **{name: row[name] for name in names},
        "started_at": iso(row["started_at"]),
        "finished_at": iso(row["finished_at"]),
    }
