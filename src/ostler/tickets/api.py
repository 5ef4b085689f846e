"""Faces of tickets: list, show, claim, give back, done, notes, QR code. Mounted by `app.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ostler.access.api import Authorize, request_id
from ostler.access.model import Principal, Role
from ostler.core.actor import Actor
from ostler.core.clock import iso, iso_or_none
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.nodes import store as nodes
from ostler.tickets import policy, service, store, words
from ostler.tickets.model import Subject

_NAMES = (
    "id", "key", "fabric", "subject", "node_id", "slot", "place", "cause", "instruction", "proof", "state", "steps",
    "harms", "evidence", "incident_id", "assignee", "recurrence", "escalation", "updates", "closing",
)  # fmt: skip
_TIMES = ("opened_at", "updated_at", "seen_at", "claimed_at", "verifying_at", "closed_at")
_SVG = "image/svg+xml"

State: TypeAlias = Literal["open", "claimed", "verifying", "done", "unfinished"]
_Short: TypeAlias = Annotated[str | None, Query(max_length=253)]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ClaimIn(_Model):
    """Taking a ticket."""

    force: str = Field(default="", max_length=1000, description="why it is done although it is not safe to touch")


class UnclaimIn(_Model):
    """Giving a ticket back."""

    reason: str = Field(default="", max_length=1000, description="why; needed to take it from somebody else")


class DoneIn(_Model):
    """What was found and done; a ticket is closed only by evidence."""

    evidence: str = Field(min_length=1, max_length=4000)


class WithdrawIn(_Model):
    """Why no evidence will come."""

    reason: str = Field(min_length=1, max_length=1000)


class CommentIn(_Model):
    """A note for whoever comes next."""

    text: str = Field(min_length=1, max_length=4000)


def router(db: Database, authorize: Authorize, console_url: str = "") -> APIRouter:
    """`/v1/tickets…`. `console_url`: where people reach the console; empty: by the name the request came to."""
    routes = APIRouter(prefix="/v1/tickets", tags=["tickets"])
    viewer, technician = Depends(authorize(Role.VIEWER)), Depends(authorize(Role.TECHNICIAN))
    operator = Depends(authorize(Role.OPERATOR))

    def act(ticket_id: str, request: Request, who: Principal, use: Callable[[Tx, Actor], None]) -> dict[str, Any]:
        actor = who.actor(request_id(request))
        db.write(lambda tx: use(tx, actor))
        return db.read(lambda tx: whole_view(tx, ticket_id))

    @routes.get("", summary="Tickets, newest first")
    def tickets(
        state: State | None = None,
        node: _Short = None,
        subject: Literal["node", "cable", "switch"] | None = None,
        place: Annotated[
            str | None, Query(max_length=253, description="the first parts of site/row/rack/U", examples=["fra1/a/r03"])
        ] = None,
        mine: Annotated[bool, Query(description="only what the caller has claimed or said to be done")] = False,
        after: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        who: Principal = viewer,
    ) -> dict[str, Any]:
        def query(tx: Tx) -> list[dict[str, Any]]:
            found = store.listed(
                tx,
                state=state,
                node_id=None if node is None else nodes.get(tx, node).id,
                subject=None if subject is None else Subject(subject),
                place=place,
                assignee=who.actor().name if mine else None,
                after=after,
                limit=limit,
            )
            return [ticket_view(row) for row in found]

        items = db.read(query)
        return {"items": items, "next": items[-1]["id"] if len(items) == limit else None}

    @routes.get("/{ticket_id}", summary="One ticket, with its plugs and what was closed for them before")
    def show(ticket_id: str, _who: Principal = viewer) -> dict[str, Any]:
        return db.read(lambda tx: whole_view(tx, ticket_id))

    @routes.get(
        "/{ticket_id}/qr.svg",
        summary="A QR code that leads to the ticket's page",
        response_class=Response,
        responses={200: {"content": {_SVG: {"schema": {"type": "string"}}}, "description": "The code"}},
    )
    def qr(ticket_id: str, request: Request, _who: Principal = viewer) -> Response:
        found = db.read(lambda tx: store.get(tx, ticket_id))
        target = words.address(console_url or str(request.base_url), found["id"])
        return Response(words.qr_svg(target), media_type=_SVG)

    @routes.post("/{ticket_id}/claim", summary="Take a ticket: nothing powers, flashes or boots its nodes until done")
    def claim(
        ticket_id: str, request: Request, body: ClaimIn | None = None, who: Principal = technician
    ) -> dict[str, Any]:
        force = "" if body is None else body.force
        return act(ticket_id, request, who, lambda tx, actor: service.claim(tx, ticket_id, actor=actor, force=force))

    @routes.post("/{ticket_id}/unclaim", summary="Give a ticket back")
    def unclaim(
        ticket_id: str, request: Request, body: UnclaimIn | None = None, who: Principal = technician
    ) -> dict[str, Any]:
        why = "" if body is None else body.reason
        return act(ticket_id, request, who, lambda tx, actor: service.unclaim(tx, ticket_id, actor=actor, reason=why))

    @routes.post("/{ticket_id}/done", summary="Say what was done: it closes the ticket, or waits for the proof")
    def done(ticket_id: str, body: DoneIn, request: Request, who: Principal = technician) -> dict[str, Any]:
        said = body.evidence
        return act(ticket_id, request, who, lambda tx, actor: service.done(tx, ticket_id, actor=actor, evidence=said))

    @routes.post("/{ticket_id}/withdraw", summary="Close a ticket that nothing can prove any more")
    def withdraw(ticket_id: str, body: WithdrawIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        why = body.reason
        return act(ticket_id, request, who, lambda tx, actor: service.withdraw(tx, ticket_id, actor=actor, reason=why))

    @routes.post("/{ticket_id}/comment", summary="Leave a note on a ticket")
    def comment(ticket_id: str, body: CommentIn, request: Request, who: Principal = technician) -> dict[str, Any]:
        said = body.text
        return act(ticket_id, request, who, lambda tx, actor: service.comment(tx, ticket_id, actor=actor, text=said))

    return routes


def ticket_view(row: sa.RowMapping) -> dict[str, Any]:
    """A ticket as every face shows it."""
    return {
        **{name: row[name] for name in _NAMES},
        "parts": row["evidence"].get(service.PARTS, []),
        "safe": {"safe": None, "why": "", **row["safe"]},
        "recommended": policy.recommended(row["escalation"]),
        "notes": [{**note, "at": iso(note["at"])} for note in row["notes"]],
        **{name: iso_or_none(row[name]) for name in _TIMES},
    }


def whole_view(tx: Tx, ticket_id: str) -> dict[str, Any]:
    """One ticket with what a list leaves out: nodes, plugs, and earlier tickets of the same cable."""
    ids = store.nodes_of(tx, ticket_id)
    row = store.get(tx, ticket_id)
    history = [
        {
            **{name: past[name] for name in ("id", "cause", "recurrence", "escalation", "closing")},
            **{name: iso_or_none(past[name]) for name in ("opened_at", "closed_at")},
        }
        for past in store.earlier(tx, ticket_id)
    ]
    ports = [{"chassis": chassis, "port": port} for chassis, port in store.ports_of(tx, ticket_id)]
    return {**ticket_view(row), "node_ids": ids, "ports": ports, "history": history}
