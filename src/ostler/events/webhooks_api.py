"""Webhook endpoints over HTTP: `/v1/webhooks…`. Mounted by `http/`. For operators; a tenant's token manages its own."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ostler.access.api import Authorize, request_id
from ostler.access.model import Principal, Role
from ostler.access.policy import allowed, refusal
from ostler.core.clock import iso, iso_or_none
from ostler.core.errors import BadInput, Forbidden
from ostler.db.engine import Database
from ostler.events import endpoints
from ostler.events.model import Attempt, Delivery, DeliveryState, Endpoint, Secrets, WebhookSettings


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class WebhookIn(_Model):
    """A subscription: exactly these three."""

    url: str = Field(examples=["https://hooks.example.com/gpu"])
    events: list[str] = Field(examples=[["node.unhealthy", "job.*"]], description="types, 'node.*', or '*'")
    secret: str = Field(description="16 to 256 visible characters; shown to nobody again")


class WebhookPatch(_Model):
    enabled: bool


class RotateIn(_Model):
    secret: str


class ReplayIn(_Model):
    """Without `deliveries`: every dead one."""

    deliveries: list[str] | None = Field(default=None, max_length=1000)


class WebhookOut(_Model):
    id: str
    url: str
    events: list[str]
    tenant: str | None
    enabled: bool
    disabled_why: str | None
    failures: int
    failing_since: str | None
    created_at: str


class WebhookPage(_Model):
    items: list[WebhookOut]
    next: str | None


class TestOut(_Model):
    event_id: str
    delivery_id: str


class ReplayOut(_Model):
    replayed: int


class AttemptOut(_Model):
    at: str
    status: int
    milliseconds: int
    error: str


class DeliveryOut(_Model):
    id: str
    event_id: str
    subject: str
    seq: int
    state: str
    tries: int
    due_at: str | None
    created_at: str
    settled_at: str | None
    attempts: list[AttemptOut]


class DeliveryPage(_Model):
    """Newest first."""

    items: list[DeliveryOut]
    next: str | None


def router(db: Database, authorize: Authorize, secrets: Secrets, settings: WebhookSettings) -> APIRouter:
    api = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
    anyone = authorize(Role.TENANT)

    def manager(principal: Principal = Depends(anyone)) -> Principal:
        """Operators for the fleet; a tenant for itself."""
        if principal.tenant is None and not allowed(principal, Role.OPERATOR):
            raise Forbidden(refusal(principal, Role.OPERATOR))
        return principal

    @api.post("", status_code=201, summary="Subscribe a URL to event types")
    def create(body: WebhookIn, request: Request, principal: Principal = Depends(manager)) -> WebhookOut:
        made = endpoints.register(
            db,
            secrets,
            settings,
            url=body.url,
            events=body.events,
            secret=body.secret,
            tenant=principal.tenant,
            actor=principal.actor(request_id(request)),
        )
        return _webhook(made)

    @api.get("", summary="Every webhook, without its secret")
    def page(
        after: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        principal: Principal = Depends(manager),
    ) -> WebhookPage:
        found = db.read(lambda tx: endpoints.endpoints(tx, after=after, limit=limit, tenant=principal.tenant))
        return WebhookPage(items=[_webhook(item) for item in found], next=found[-1].id if len(found) == limit else None)

    @api.get("/{webhook_id}", summary="One webhook")
    def get(webhook_id: str, principal: Principal = Depends(manager)) -> WebhookOut:
        return _webhook(db.read(lambda tx: endpoints.get(tx, webhook_id, tenant=principal.tenant)))

    @api.patch("/{webhook_id}", summary="Enable or disable")
    def patch(
        webhook_id: str, body: WebhookPatch, request: Request, principal: Principal = Depends(manager)
    ) -> WebhookOut:
        actor = principal.actor(request_id(request))
        changed = db.write(
            lambda tx: endpoints.set_enabled(tx, webhook_id, body.enabled, tenant=principal.tenant, actor=actor)
        )
        return _webhook(changed)

    @api.delete("/{webhook_id}", status_code=204, summary="Unsubscribe for good")
    def delete(webhook_id: str, request: Request, principal: Principal = Depends(manager)) -> None:
        actor = principal.actor(request_id(request))
        endpoints.delete(db, secrets, webhook_id, tenant=principal.tenant, actor=actor)

    @api.post("/{webhook_id}/rotate", summary="Sign with a new secret; the old one signs beside it for a day")
    def rotate(
        webhook_id: str, body: RotateIn, request: Request, principal: Principal = Depends(manager)
    ) -> WebhookOut:
        actor = principal.actor(request_id(request))
        changed = endpoints.rotate(
            db, secrets, settings, webhook_id, secret=body.secret, tenant=principal.tenant, actor=actor
        )
        return _webhook(changed)

    @api.post("/{webhook_id}/test", status_code=202, summary="Send a test event now; see deliveries for the outcome")
    def test(webhook_id: str, request: Request, principal: Principal = Depends(manager)) -> TestOut:
        actor = principal.actor(request_id(request))
        event_id, delivery_id = db.write(
            lambda tx: endpoints.send_test(tx, webhook_id, tenant=principal.tenant, actor=actor)
        )
        return TestOut(event_id=event_id, delivery_id=delivery_id)

    @api.get("/{webhook_id}/deliveries", summary="What was sent, newest first, with every try")
    def deliveries(
        webhook_id: str,
        after: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        state: Annotated[str | None, Query(description="queued, due, delivered or dead")] = None,
        principal: Principal = Depends(manager),
    ) -> DeliveryPage:
        wanted = _state(state)
        found = db.read(
            lambda tx: endpoints.deliveries(
                tx, webhook_id, before=after, limit=limit, state=wanted, tenant=principal.tenant
            )
        )
        return DeliveryPage(
            items=[_delivery(*pair) for pair in found], next=found[-1][0].id if len(found) == limit else None
        )

    @api.post("/{webhook_id}/replay", status_code=202, summary="Send again what was given up, or what is named")
    def replay(webhook_id: str, body: ReplayIn, request: Request, principal: Principal = Depends(manager)) -> ReplayOut:
        actor = principal.actor(request_id(request))
        count = db.write(
            lambda tx: endpoints.replay(tx, webhook_id, ids=body.deliveries, tenant=principal.tenant, actor=actor)
        )
        return ReplayOut(replayed=count)

    return api


def _state(text: str | None) -> DeliveryState | None:
    if text is None:
        return None
    try:
        return DeliveryState(text)
    except ValueError:
        raise BadInput(f"'{text[:40]}' is no state; use queued, due, delivered or dead.", where="state") from None


def _webhook(endpoint: Endpoint) -> WebhookOut:
    return WebhookOut(
        id=endpoint.id,
        url=endpoint.url,
        events=list(endpoint.events),
        tenant=endpoint.tenant,
        enabled=endpoint.enabled,
        disabled_why=endpoint.disabled_why,
        failures=endpoint.failures,
        failing_since=iso_or_none(endpoint.failing_since),
        created_at=iso(endpoint.created_at),
    )


def _delivery(delivery: Delivery, attempts: list[Attempt]) -> DeliveryOut:
    return DeliveryOut(
        id=delivery.id,
        event_id=delivery.event_id,
        subject=delivery.subject,
        seq=delivery.seq,
        state=delivery.state.value,
        tries=delivery.tries,
        due_at=None if delivery.settled_at is not None else iso(delivery.due_at),
        created_at=iso(delivery.created_at),
        settled_at=iso_or_none(delivery.settled_at),
        attempts=[
            AttemptOut(at=iso(a.at), status=a.status, milliseconds=a.milliseconds, error=a.error) for a in attempts
        ],
    )
