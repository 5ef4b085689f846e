"""Faces of the weekly rounds: the list, results item by item, the signature. Part of `api.py`'s router."""

from __future__ import annotations

from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ostler.access.api import Authorize, request_id
from ostler.access.model import Principal, Role
from ostler.core.clock import iso, iso_or_none
from ostler.core.errors import Conflict
from ostler.db.tx import Tx
from ostler.fabric import round_store, rounds
from ostler.fabric.service import Fabrics


class ResultIn(BaseModel):
    """What was found at one item."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    result: rounds.Found = Field(strict=False)
    note: str = Field(default="", max_length=1000)


class SignIn(BaseModel):
    """The name under it is the token's; the summary is needed where an item has no result."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    summary: str = Field(default="", max_length=4000)


def rounds_routes(routes: APIRouter, fabrics: Fabrics, authorize: Authorize) -> None:
    """`/v1/fabrics/{fabric}/rounds…`."""
    db = fabrics.db
    viewer, technician = Depends(authorize(Role.VIEWER)), Depends(authorize(Role.TECHNICIAN))

    @routes.get("/{fabric}/rounds", summary="Weekly validations by hand, newest first")
    def every(
        fabric: str,
        after: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        _who: Principal = viewer,
    ) -> dict[str, Any]:
        def query(tx: Tx) -> list[dict[str, Any]]:
            fabrics.check(tx, fabric)
            return [round_view(row) for row in round_store.listed(tx, fabric, after=after, limit=limit)]

        items = db.read(query)
        return {"items": items, "next": items[-1]["id"] if len(items) == limit else None}

    @routes.post("/{fabric}/rounds", status_code=201, summary="Open a round now")
    def begin(fabric: str, request: Request, who: Principal = technician) -> dict[str, Any]:
        settings = fabrics.settings(fabric)
        actor = who.actor(request_id(request))

        def query(tx: Tx) -> rounds.Material | None:
            fabrics.check(tx, fabric)
            return rounds.material(tx, fabric, settings, fabrics.shelf)

        found = db.read(query)
        if found is None:
            raise Conflict("A round is made of a look at the fabric, and none has been taken yet.")
        rows = rounds.chosen(found, settings)

        def write(tx: Tx) -> dict[str, Any]:
            round_id = rounds.open_round(tx, fabric, settings, found.snapshot_id, rows, actor=actor)
            return round_view(round_store.get(tx, fabric, round_id))

        return db.write(write)

    @routes.get("/{fabric}/rounds/{round_id}", summary="One round with its items")
    def one(fabric: str, round_id: str, _who: Principal = viewer) -> dict[str, Any]:
        return round_view(db.read(lambda tx: round_store.get(tx, fabric, round_id)))

    @routes.put("/{fabric}/rounds/{round_id}/items/{number}", summary="What was found at one item")
    def enter(
        fabric: str, round_id: str, number: int, body: ResultIn, request: Request, who: Principal = technician
    ) -> dict[str, Any]:
        actor = who.actor(request_id(request))

        def write(tx: Tx) -> dict[str, Any]:
            rounds.enter(tx, fabric, round_id, number, body.result, body.note, actor=actor)
            return round_view(round_store.get(tx, fabric, round_id))

        return db.write(write)

    @routes.post("/{fabric}/rounds/{round_id}/sign", summary="Sign a round off")
    def sign(fabric: str, round_id: str, body: SignIn, request: Request, who: Principal = technician) -> dict[str, Any]:
        actor = who.actor(request_id(request))

        design = db.read(lambda tx: fabrics.shelf.active(tx, fabric))
        blueprint = None if design is None else design.blueprint

        def write(tx: Tx) -> dict[str, Any]:
            rounds.sign(tx, fabric, round_id, body.summary, actor=actor, blueprint=blueprint)
            return round_view(round_store.get(tx, fabric, round_id))

        return db.write(write)


def round_view(row: sa.RowMapping) -> dict[str, Any]:
    """A round as every face shows it."""
    names = ("id", "fabric", "state", "items", "snapshot_id", "signed_by", "summary")
    return {
        **{name: row[name] for name in names},
        "left": sum(not item.get("result") for item in row["items"]),
        "opened_at": iso(row["opened_at"]),
        "due_at": iso_or_none(row["due_at"]),
        "signed_at": iso_or_none(row["signed_at"]),
    }
