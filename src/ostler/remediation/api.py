"""Faces of remediation: `why`, decisions, and what a person may order. Mounted by `app.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ostler.access.api import Authorize, request_id
from ostler.access.model import Principal, Role
from ostler.core.clock import iso
from ostler.core.errors import BadInput
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.faults.model import Action
from ostler.nodes import store as nodes
from ostler.nodes.model import Timing
from ostler.remediation import service, store, why
from ostler.remediation.model import Verdict


class Ordered(BaseModel):
    """A person's order to reboot or power cycle a node in production."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    reason: str = Field(min_length=1, max_length=500)
    action: Literal["reboot", "power-cycle"] = "reboot"
    timing: Literal["pending", "immediate"] = "pending"


def router(db: Database, authorize: Authorize) -> APIRouter:
    """`/v1/nodes/{node}/why`, `/v1/nodes/{node}/reboot`, `/v1/decisions`."""
    routes = APIRouter(tags=["remediation"])
    viewer, operator = Depends(authorize(Role.VIEWER)), Depends(authorize(Role.OPERATOR))

    @routes.get("/v1/nodes/{node}/why", summary="The chain of evidence behind a node's state")
    def explain(node: str, _who: Principal = viewer) -> dict[str, Any]:
        def query(tx: Tx) -> dict[str, Any]:
            found = nodes.get(tx, node)
            summary, links = why.explain(tx, found, now=tx.now)
            return why.view(summary, links, found)

        return db.read(query)

    @routes.post("/v1/nodes/{node}/reboot", status_code=202, summary="Reboot a node in place, through brake and check")
    def reboot(node: str, body: Ordered, request: Request, who: Principal = operator) -> dict[str, Any]:
        def use_case(tx: Tx) -> str:
            found = nodes.get(tx, node)
            return service.order(
                tx,
                found.id,
                Action(body.action),
                timing=Timing(body.timing),
                actor=who.actor(request_id(request)),
                reason=body.reason,
            )

        return {"job_id": db.write(use_case)}

    @routes.get("/v1/decisions", summary="What remediation decided, newest first; `would-act`: what it would have done")
    def decisions(
        verdict: Annotated[str | None, Query(max_length=20)] = None,
        node: Annotated[str | None, Query(max_length=253)] = None,
        after: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        _who: Principal = viewer,
    ) -> dict[str, Any]:
        if verdict is not None and verdict not in set(Verdict):
            raise BadInput(f"'{verdict}' is none of {', '.join(Verdict)}.", where="verdict")

        def query(tx: Tx) -> list[dict[str, Any]]:
            if node is not None:
                rows = store.of_node(tx, nodes.get(tx, node).id, limit=limit)
            else:
                wanted = None if verdict is None else Verdict(verdict)
                rows = store.listed(tx, verdict=wanted, after=after, limit=limit)
            return [decision_view(row) for row in rows]

        items = db.read(query)
        return {"items": items, "next": items[-1]["id"] if len(items) == limit else None}

    return routes


def decision_view(row: sa.RowMapping) -> dict[str, Any]:
    """A decision as every face shows it."""
    names = ("id", "node_id", "finding_id", "action", "timing", "verdict", "reasons", "permit_id", "job_id")
    return {**{name: row[name] for name in names}, "at": iso(row["at"])}
