"""Tokens over HTTP: `/v1/tokens`, for admins. Also the type of the dependency that every router is handed.

`http/auth.py` builds the `Authorize`: given the role that a route needs, it answers a FastAPI dependency which reads
the Authorization header, checks the role and yields the `Principal`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ostler.access import service
from ostler.access.model import Principal, Role, Token
from ostler.core.clock import iso, iso_or_none
from ostler.db.engine import Database

Authorize: TypeAlias = Callable[[Role], Callable[..., Principal]]
"""From the role that a route needs to the FastAPI dependency that lets in whoever has it."""


def request_id(request: Request) -> str | None:
    """The id that the HTTP layer gave this request (`request.state.request_id`), for the audit log."""
    value = getattr(request.state, "request_id", None)
    return value if isinstance(value, str) else None


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class TokenIn(_Model):
    """What a new token should be."""

    name: str = Field(min_length=1, max_length=64, examples=["ci"])
    role: Role = Field(strict=False, examples=["operator"])
    tenant: str | None = Field(default=None, max_length=64, description="only with the role 'tenant'")
    expires_in: float | None = Field(default=None, description="seconds; left out: until revoked")
    reason: str = Field(default="", max_length=500)


class TokenOut(_Model):
    id: str
    name: str
    role: str
    tenant: str | None
    created_by: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None


class NewTokenOut(TokenOut):
    """`secret` is shown this once."""

    secret: str


class TokenPage(_Model):
    items: list[TokenOut]
    next: str | None


def router(db: Database, authorize: Authorize) -> APIRouter:
    """`GET/POST /v1/tokens`, `DELETE /v1/tokens/{id}`."""
    api = APIRouter(prefix="/v1/tokens", tags=["access"])
    admin = authorize(Role.ADMIN)

    @api.get("", summary="Every token, without its secret")
    def tokens(
        after: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        _principal: Principal = Depends(admin),
    ) -> TokenPage:
        found = db.read(lambda tx: service.tokens(tx, after=after, limit=limit))
        return TokenPage(
            items=[TokenOut(**_fields(token)) for token in found], next=found[-1].id if len(found) == limit else None
        )

    @api.post("", status_code=201, summary="Make a token; the secret is shown this once")
    def create(body: TokenIn, request: Request, principal: Principal = Depends(admin)) -> NewTokenOut:
        made = db.write(
            lambda tx: service.create_token(
                tx,
                name=body.name,
                role=body.role,
                tenant=body.tenant,
                expires_in=body.expires_in,
                reason=body.reason,
                actor=principal.actor(request_id(request)),
            )
        )
        return NewTokenOut(**_fields(made.token), secret=made.secret)

    @api.delete("/{token_id}", summary="Revoke a token")
    def revoke(
        token_id: str,
        request: Request,
        reason: Annotated[str, Query(max_length=500)] = "",
        principal: Principal = Depends(admin),
    ) -> TokenOut:
        actor = principal.actor(request_id(request))
        return TokenOut(**_fields(db.write(lambda tx: service.revoke(tx, token_id, actor=actor, reason=reason))))

    return api


def _fields(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "role": token.role.value,
        "tenant": token.tenant,
        "created_by": token.created_by,
        "created_at": iso(token.created_at),
        "expires_at": iso_or_none(token.expires_at),
        "revoked_at": iso_or_none(token.revoked_at),
    }
