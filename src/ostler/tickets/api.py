"""Faces of tickets: list, show, claim, done. Mounted by `app.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ostler.access.api import Authorize, request_id
from ostler.access.model import Principal, Role
from ostler.core.clock import iso, iso_or_none
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.nodes import store as nodes
from ostler.tickets import service, store


class DoneIn(BaseModel):
    """What was found and done; a ticket is closed only by evidence."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    evidence: str = Field(min_length=1, max_length=4000)


def router(db: Database, authorize: Authorize) -> APIRouter:
    """`/v1/tickets…`."""
    routes = APIRouter(prefix="/v1/tickets", tags=["tickets"])
    viewer, technician = Depends(authorize(Role.VIEWER)), Depends(authorize(Role.TECHNICIAN))

    @routes.get("", summary="Tickets, newest first")
    def tickets(
        state: Literal["open", "claimed", "done"] | None = None,
        node: Annotated[str | None, Query(max_length=253)] = None,
        after: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        _who: Principal = viewer,
    ) -> dict[str, Any]:
        def query(tx: Tx) -> list[dict[str, Any]]:
            node_id = None if node is None else nodes.get(tx, node).id
            return [
                ticket_view(row) for row in store.listed(tx, state=state, node_id=node_id, after=after, limit=limit)
            ]

        items = db.read(query)
        return {"items": items, "next": items[-1]["id"] if len(items) == limit else None}

    @routes.get("/{ticket_id}", summary="One ticket")
    def show(ticket_id: str, _who: Principal = viewer) -> dict[str, Any]:
        return ticket_view(db.read(lambda tx: store.get(tx, ticket_id)))

    @routes.post("/{ticket_id}/claim", summary="Take a ticket: nothing powers, flashes or boots its node until done")
    def claim(ticket_id: str, request: Request, who: Principal = technician) -> dict[str, Any]:
        actor = who.actor(request_id(request))
        db.write(lambda tx: service.claim(tx, ticket_id, actor=actor))
        return ticket_view(db.read(lambda tx: store.get(tx, ticket_id)))

    @routes.post("/{ticket_id}/done", summary="Close a ticket with its evidence")
    def done(ticket_id: str, body: DoneIn, request: Request, who: Principal = technician) -> dict[str, Any]:
        actor = who.actor(request_id(request))
        db.write(lambda tx: service.done(tx, ticket_id, actor=actor, evidence=body.evidence))
        return ticket_view(db.read(lambda tx: store.get(tx, ticket_id)))

    return routes


def ticket_view(row: sa.RowMapping) -> dict[str, Any]:
    """A ticket as every face shows it."""
    names = ("id", "node_id", "slot", "cause", "instruction", "state", "evidence", "incident_id", "assignee", "closing")
    return {
        **{name: row[name] for name in names},
        "parts": row["evidence"].get(service.PARTS, []),
        "opened_at": iso(row["opened_at"]),
        "claimed_at": iso_or_none(row["claimed_at"]),
        "closed_at": iso_or_none(row["closed_at"]),
    }
