"""The audit log over HTTP: `/v1/audit…`. Mounted by `http/`; for operators and admins."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict

from ostler.access.api import Authorize
from ostler.access.model import Role
from ostler.audit import service, verification
from ostler.audit.model import Entry, Head
from ostler.core.clock import iso
from ostler.db.engine import Database


class _Out(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class EntryOut(_Out):
    """One sealed entry. `leaf` is SHA-256(0x00 ‖ canonical JSON), see docs/events.md."""

    position: int
    id: str
    at: float
    time: str
    actor: str
    action: str
    subject: str
    reason: str
    request_id: str | None
    detail: dict[str, Any]
    leaf: str


class EntryPage(_Out):
    items: list[EntryOut]
    next: str | None


class HeadOut(_Out):
    size: int
    root: str
    time: str


class ProofOut(_Out):
    """RFC 9162, 2.1.3: hash `leaf` with `path` and get `root`."""

    position: int
    size: int
    leaf: str
    path: list[str]
    root: str


class ConsistencyOut(_Out):
    """RFC 9162, 2.1.4."""

    old: int
    new: int
    path: list[str]


class VerdictOut(_Out):
    ok: bool
    size: int
    root: str
    bad: int | None
    why: str


def router(db: Database, authorize: Authorize) -> APIRouter:
    """`GET /v1/audit`, `/head`, `/consistency`, `/verify`, `/{position}/proof`."""
    api = APIRouter(prefix="/v1/audit", tags=["audit"], dependencies=[Depends(authorize(Role.OPERATOR))])

    @api.get("", summary="Sealed entries in order")
    def entries(
        after: Annotated[str | None, Query(max_length=40)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        subject: Annotated[str | None, Query(max_length=200)] = None,
        actor: Annotated[str | None, Query(max_length=200)] = None,
        action: Annotated[str | None, Query(max_length=200)] = None,
    ) -> EntryPage:
        found = db.read(
            lambda tx: service.entries(tx, after=after, limit=limit, subject=subject, actor=actor, action=action)
        )
        return EntryPage(
            items=[_entry(entry) for entry in found], next=str(found[-1].position) if len(found) == limit else None
        )

    @api.get("/head", summary="Size and root of the log: keep it elsewhere, and nobody can rewrite the log unseen")
    def head() -> HeadOut:
        return _head(db.read(service.head))

    @api.get("/verify", summary="Recompute the whole log and name the first bad position")
    def verify() -> VerdictOut:
        verdict = db.read(verification.verify)
        return VerdictOut(
            ok=verdict.bad is None, size=verdict.size, root=verdict.root, bad=verdict.bad, why=verdict.why
        )

    @api.get("/consistency", summary="Proof that a newer log only adds to an older one")
    def consistency(
        old: Annotated[int, Query(ge=0, le=2**53)], new: Annotated[int, Query(ge=0, le=2**53)]
    ) -> ConsistencyOut:
        return ConsistencyOut(old=old, new=new, path=list(db.read(lambda tx: service.prove_consistency(tx, old, new))))

    @api.get("/{position}/proof", summary="Proof that an entry is in the log")
    def proof(
        position: Annotated[int, Path(ge=1, le=2**53)], size: Annotated[int | None, Query(ge=1, le=2**53)] = None
    ) -> ProofOut:
        found = db.read(lambda tx: service.prove(tx, position, size=size))
        return ProofOut(
            position=found.position, size=found.size, leaf=found.leaf, path=list(found.path), root=found.root
        )

    return api


def _entry(entry: Entry) -> EntryOut:
    return EntryOut(
        position=entry.position or 0,
        id=entry.id,
        at=float(entry.at),
        time=iso(entry.at),
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        reason=entry.reason,
        request_id=entry.request_id,
        detail=dict(entry.detail),
        leaf=entry.leaf or "",
    )


def _head(head: Head) -> HeadOut:
    return HeadOut(size=head.size, root=head.root, time=iso(head.at))
