"""Faces of designs: import with lint, export, history, taking one over from a snapshot. Part of `api.py`'s router."""

from __future__ import annotations

import zlib
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ostler.access.api import Authorize, request_id
from ostler.access.model import Principal, Role
from ostler.core.clock import iso
from ostler.core.errors import BadInput, NotFound
from ostler.db.tx import Tx
from ostler.fabric import blueprints, designs, store
from ostler.fabric.designs.bootstrap import bootstrap
from ostler.fabric.designs.lint import lint
from ostler.fabric.places import archive
from ostler.fabric.report import lint_document
from ostler.fabric.service import Fabrics
from ostler.fabric.settings import NAME


class BootstrapIn(BaseModel):
    """Take what a snapshot shows for the design, flagged as unproven."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    snapshot_id: str = Field(default="latest", min_length=1, max_length=64)
    reason: str = Field(min_length=1, max_length=500)


class ProveIn(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    reason: str = Field(min_length=1, max_length=500)


def blueprint_routes(routes: APIRouter, fabrics: Fabrics, authorize: Authorize) -> None:
    """`/v1/fabrics/{fabric}/blueprint…`."""
    db = fabrics.db
    viewer, operator = Depends(authorize(Role.VIEWER)), Depends(authorize(Role.OPERATOR))

    @routes.put(
        "/{fabric}/blueprint",
        summary="Import a design: Ostler's CSV or YAML, UFM NDT, .topo, point-to-point sheets, NetBox",
        openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
    )
    def take_in(
        fabric: str,
        request: Request,
        body: Annotated[bytes, Depends(_body)],
        name: Annotated[str, Query(max_length=255, description="The file's name, for messages")] = "blueprint",
        format: Annotated[str, Query(max_length=32)] = "auto",
        switch_model: Annotated[str, Query(max_length=64)] = "",
        dry_run: bool = False,
        reason: Annotated[str, Query(max_length=500)] = "",
        who: Principal = operator,
    ) -> dict[str, Any]:
        if NAME.fullmatch(fabric) is None:
            raise BadInput("is no name for a fabric: letters, digits, '.', '_', '-', at most 64", where=fabric[:64])
        blueprint, lints = designs.read(body, name, format=format, switch_model=switch_model)
        found: dict[str, Any] = {
            "fabric": fabric,
            "source": blueprint.source,
            "chassis": len(blueprint.chassis),
            "cables": len(blueprint.cables),
            "lints": [lint_document(one) for one in lints[: blueprints.LINTS_KEPT]],
            "id": None,
        }
        if dry_run:
            return found
        actor = who.actor(request_id(request))
        found["id"] = db.write(lambda tx: blueprints.take_in(tx, fabric, blueprint, lints, actor=actor, reason=reason))
        return found

    @routes.get("/{fabric}/blueprint", response_class=Response, summary="The design that counts, as Ostler's CSV")
    def export(fabric: str, _who: Principal = viewer) -> Response:
        def query(tx: Tx) -> bytes:
            fabrics.check(tx, fabric)
            row = store.active_blueprint(tx, fabric)
            if row is None:
                raise NotFound(f"The fabric '{fabric}' has no blueprint; import one (ostler fabric import).")
            return store.blueprint_body(tx, row["id"])

        return Response(zlib.decompress(db.read(query)), media_type="text/csv; charset=utf-8")

    @routes.get("/{fabric}/blueprints", summary="Every version of the design, newest first")
    def history(fabric: str, _who: Principal = viewer) -> dict[str, Any]:
        def query(tx: Tx) -> list[dict[str, Any]]:
            fabrics.check(tx, fabric)
            return [{**blueprint_view(row), "lints": row["lints"]} for row in store.blueprints(tx, fabric)]

        return {"items": db.read(query), "next": None}

    @routes.post("/{fabric}/blueprint/bootstrap", status_code=201, summary="Take a snapshot for the design, unproven")
    def from_snapshot(fabric: str, body: BootstrapIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        def query(tx: Tx) -> bytes | None:
            fabrics.check(tx, fabric)
            row = store.latest(tx, fabric) if body.snapshot_id == "latest" else None
            wanted = body.snapshot_id if row is None else row["id"]
            return store.body(tx, store.snapshot(tx, fabric, wanted)["id"])

        packed = db.read(query)
        if packed is None:
            raise NotFound("Of that snapshot only the report is kept.")
        blueprint = bootstrap(archive.unpack(packed), fabric)
        lints = lint(blueprint)
        actor = who.actor(request_id(request))
        taken = db.write(lambda tx: blueprints.take_in(tx, fabric, blueprint, lints, actor=actor, reason=body.reason))
        return {
            "id": taken,
            "cables": len(blueprint.cables),
            "proven": False,
            "lints": [lint_document(one) for one in lints[: blueprints.LINTS_KEPT]],
        }

    @routes.post("/{fabric}/blueprint/prove", status_code=204, summary="Vouch for a design taken from a snapshot")
    def prove(fabric: str, body: ProveIn, request: Request, who: Principal = operator) -> None:
        actor = who.actor(request_id(request))

        def write(tx: Tx) -> None:
            fabrics.check(tx, fabric)
            blueprints.prove(tx, fabric, actor=actor, reason=body.reason)

        db.write(write)


async def _body(request: Request) -> bytes:
    """The file as it came; the edge has bounded it."""
    return await request.body()


def blueprint_view(row: sa.RowMapping) -> dict[str, Any]:
    """A design as every face shows it."""
    names = ("id", "source", "digest", "active", "proven", "chassis", "cables", "actor")
    return {**{name: row[name] for name in names}, "imported_at": iso(row["imported_at"])}
