"""The ledger over HTTP: `/v1/events…` and `/v1/event-types`. Mounted by `http/`. Webhooks are in `webhooks_api.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from ostler.access.api import Authorize
from ostler.access.model import Principal, Role
from ostler.db.engine import Database
from ostler.events import service, stream
from ostler.events.body import document
from ostler.events.catalogue import CATALOGUE
from ostler.events.model import Event


class _Out(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class EventOut(_Out):
    """An event, as in a webhook's body, and its place in the ledger (null until sealed, within a second)."""

    id: str
    type: str
    version: int
    subject: str
    seq: int
    time: str
    tenant: str | None
    data: dict[str, Any]
    position: int | None


class EventPage(_Out):
    """`next` is set when there is more already; `cursor` is where to go on at any time."""

    items: list[EventOut]
    next: str | None
    cursor: str


class EventTypeOut(_Out):
    type: str
    version: int
    summary: str
    subject: str
    payload_schema: dict[str, Any]


class EventTypePage(_Out):
    items: list[EventTypeOut]
    next: str | None


def router(db: Database, authorize: Authorize, *, stopping: Callable[[], bool] = stream.never) -> APIRouter:
    """`GET /v1/events`, `/v1/events/stream`, `/v1/events/{id}`, `/v1/event-types`. A tenant's token sees its own
    events.

    `stopping` ends open streams when the server shuts down.
    """
    api = APIRouter(prefix="/v1", tags=["events"])
    reader = authorize(Role.TENANT)

    @api.get("/event-types", summary="Every type of event, with the JSON Schema of its payload")
    def event_types(_principal: Principal = Depends(reader)) -> EventTypePage:
        items = [
            EventTypeOut(
                type=kind.name,
                version=kind.version,
                summary=kind.summary,
                subject=kind.subject,
                payload_schema=kind.schema(),
            )
            for kind in CATALOGUE.values()
        ]
        return EventTypePage(items=items, next=None)

    @api.get("/events", summary="The ledger in order: read on from 'cursor' and nothing is missed or seen twice")
    def events(
        after: Annotated[
            str | None, Query(max_length=40, description="a 'cursor' or 'next' of an earlier answer")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        type: Annotated[str | None, Query(max_length=100, description="a type, or 'node.*'")] = None,
        subject: Annotated[str | None, Query(max_length=200)] = None,
        principal: Principal = Depends(reader),
    ) -> EventPage:
        page = db.read(
            lambda tx: service.events(tx, after=after, limit=limit, type=type, subject=subject, tenant=principal.tenant)
        )
        return EventPage(
            items=[_event(event) for event in page.events],
            next=page.cursor if page.more else None,
            cursor=page.cursor,
        )

    @api.get(
        "/events/stream",
        summary="The ledger as it grows (Server-Sent Events); Last-Event-ID or 'after' resumes, else only what is new",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    def events_stream(
        after: Annotated[str | None, Query(max_length=40)] = None,
        type: Annotated[str | None, Query(max_length=100)] = None,
        subject: Annotated[str | None, Query(max_length=200)] = None,
        last_event_id: Annotated[str | None, Header(max_length=40)] = None,
        principal: Principal = Depends(reader),
    ) -> StreamingResponse:
        start = last_event_id or after or db.read(service.head_cursor)
        # A bad cursor or type must be told by the status, so it is looked at before the stream begins.
        db.read(lambda tx: service.events(tx, after=start, limit=1, type=type))
        pages = stream.follow(db, start, type=type, subject=subject, tenant=principal.tenant, stopping=stopping)
        return StreamingResponse(
            stream.server_sent(pages),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @api.get("/events/{event_id}", summary="One event")
    def event(event_id: str, principal: Principal = Depends(reader)) -> EventOut:
        return _event(db.read(lambda tx: service.event(tx, event_id, tenant=principal.tenant)))

    return api


def _event(event: Event) -> EventOut:
    return EventOut(**document(event), position=event.position)
