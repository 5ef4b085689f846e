"""Faces of the fabric: what is wrong, what was seen, looks on demand, known parts. Mounted by `app.py`.

Designs and the weekly rounds have faces of their own: `blueprint_api.py`, `rounds_api.py`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ostler.access.api import Authorize, request_id
from ostler.access.model import Principal, Role
from ostler.audit import service as audit
from ostler.core.clock import iso, iso_or_none
from ostler.core.errors import BadInput, NotFound
from ostler.db.tx import Tx
from ostler.fabric import parts as part_service
from ostler.fabric import push, store, tasks
from ostler.fabric.blueprint_api import blueprint_routes, blueprint_view
from ostler.fabric.places import archive
from ostler.fabric.places.difference import difference
from ostler.fabric.rounds_api import rounds_routes
from ostler.fabric.service import Fabrics

Limit = Annotated[int, Query(ge=1, le=1000)]
After = Annotated[str | None, Query(max_length=64)]
_GUID = re.compile(r"0x[0-9a-f]{16}")


class ReasonIn(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    reason: str = Field(min_length=1, max_length=500)


def router(fabrics: Fabrics, authorize: Authorize) -> APIRouter:
    """`/v1/fabrics…`."""
    routes = APIRouter(prefix="/v1/fabrics", tags=["fabric"])
    _fabrics(routes, fabrics, authorize)
    _snapshots(routes, fabrics, authorize)
    _parts(routes, fabrics, authorize)
    blueprint_routes(routes, fabrics, authorize)
    rounds_routes(routes, fabrics, authorize)
    return routes


def _fabrics(routes: APIRouter, fabrics: Fabrics, authorize: Authorize) -> None:
    db = fabrics.db
    viewer, operator = Depends(authorize(Role.VIEWER)), Depends(authorize(Role.OPERATOR))

    @routes.get("", summary="Every fabric, with its last look")
    def every(_who: Principal = viewer) -> dict[str, Any]:
        items = db.read(lambda tx: [fabric_view(tx, fabrics, name) for name in fabrics.names(tx)])
        return {"items": items, "next": None}

    @routes.get("/{fabric}", summary="One fabric: design, last look, open causes")
    def one(fabric: str, _who: Principal = viewer) -> dict[str, Any]:
        def query(tx: Tx) -> dict[str, Any]:
            fabrics.check(tx, fabric)
            return {
                **fabric_view(tx, fabrics, fabric),
                "causes": [cause_view(row) for row in store.open_causes(tx, fabric)[:200]],
            }

        return db.read(query)

    @routes.get("/{fabric}/causes", summary="What is or was wrong, newest first")
    def causes(
        fabric: str,
        state: Literal["open", "cleared"] | None = None,
        after: After = None,
        limit: Limit = 100,
        _who: Principal = viewer,
    ) -> dict[str, Any]:
        def query(tx: Tx) -> list[dict[str, Any]]:
            fabrics.check(tx, fabric)
            return [cause_view(row) for row in store.causes(tx, fabric, state=state, after=after, limit=limit)]

        items = db.read(query)
        return {"items": items, "next": items[-1]["id"] if len(items) == limit else None}

    @routes.get("/{fabric}/links/{chassis}", summary="What the links of one host or switch did lately")
    def links(fabric: str, chassis: str, limit: Limit = 200, _who: Principal = viewer) -> dict[str, Any]:
        def query(tx: Tx) -> list[dict[str, Any]]:
            fabrics.check(tx, fabric)
            since = tx.now - fabrics.settings(fabric).events_days * 86_400
            rows = store.events(tx, fabric, since, chassis=chassis)
            return [link_view(row) for row in reversed(rows[-limit:])]

        return {"items": db.read(query), "next": None}

    @routes.post("/{fabric}/look", status_code=202, summary="Have the fabric looked at now")
    def look(fabric: str, request: Request, who: Principal = operator) -> dict[str, Any]:
        actor = who.actor(request_id(request))

        def write(tx: Tx) -> dict[str, Any]:
            fabrics.check(tx, fabric)
            job_id = tasks.asked(tx, fabric, actor=actor)
            audit.record(tx, actor=actor, action="fabric.look", subject=f"fabric:{fabric}", detail={"job_id": job_id})
            return {"job_id": job_id}

        return db.write(write)

    @routes.get("/{fabric}/look", summary="Whether a look is wanted now, and how the last one ended")
    def wanted(fabric: str, _who: Principal = viewer) -> dict[str, Any]:
        def query(tx: Tx) -> dict[str, Any]:
            fabrics.check(tx, fabric)
            why = tasks.wanted(tx, fabric, fabrics.settings(fabric))
            live = store.live_look(tx, tasks.job_key(fabric))
            last = store.last_look(tx, f"fabric:{fabric}", tasks.PROCEDURE)
            return {
                "wanted": why is not None,
                "why": why,
                "now": None if live is None else tasks.job_view(live),
                "last": None if last is None else tasks.job_view(last),
            }

        return db.read(query)


def _snapshots(routes: APIRouter, fabrics: Fabrics, authorize: Authorize) -> None:
    db = fabrics.db
    viewer, operator = Depends(authorize(Role.VIEWER)), Depends(authorize(Role.OPERATOR))

    @routes.post("/{fabric}/snapshots", status_code=201, summary="What another host saw of the fabric")
    def take_in(fabric: str, body: push.CollectionIn, _who: Principal = operator) -> dict[str, Any]:
        collection = push.unpacked(body, db.clock.real())
        taken_at = db.clock.now() - body.age_s * _speed(fabrics)
        taken = fabrics.take_in(fabric, collection, taken_at=taken_at)
        return {"id": taken.snapshot_id, "report": taken.report}

    @routes.get("/{fabric}/snapshots", summary="Looks, newest first")
    def snapshots(fabric: str, after: After = None, limit: Limit = 100, _who: Principal = viewer) -> dict[str, Any]:
        def query(tx: Tx) -> list[dict[str, Any]]:
            fabrics.check(tx, fabric)
            return [snapshot_view(row) for row in store.snapshots(tx, fabric, after=after, limit=limit)]

        items = db.read(query)
        return {"items": items, "next": items[-1]["id"] if len(items) == limit else None}

    @routes.get("/{fabric}/snapshots/{snapshot}", summary="One look with its whole report; `latest` is the newest")
    def snapshot(fabric: str, snapshot: str, _who: Principal = viewer) -> dict[str, Any]:
        row = db.read(lambda tx: _snapshot(tx, fabrics, fabric, snapshot))
        return {**snapshot_view(row), "report": row["report"]}

    @routes.get("/{fabric}/diff", summary="What changed between two looks")
    def diff(
        fabric: str,
        before: Annotated[str, Query(max_length=64)],
        after: Annotated[str, Query(max_length=64)] = "latest",
        _who: Principal = viewer,
    ) -> dict[str, Any]:
        def query(tx: Tx) -> tuple[bytes, bytes]:
            return _body(tx, fabrics, fabric, before), _body(tx, fabrics, fabric, after)

        old, new = db.read(query)
        changes = difference(archive.unpack(old), archive.unpack(new))
        return {
            "items": [
                {"kind": str(one.kind), "ports": [str(port) for port in one.ports], "message": one.message}
                for one in changes
            ],
            "next": None,
        }


def _parts(routes: APIRouter, fabrics: Fabrics, authorize: Authorize) -> None:
    db = fabrics.db
    viewer, technician = Depends(authorize(Role.VIEWER)), Depends(authorize(Role.TECHNICIAN))

    @routes.get("/{fabric}/parts", summary="Which GUID is where; `replaced` ones wait for a person's word")
    def parts(
        fabric: str,
        state: Literal["known", "replaced", "gone"] | None = None,
        chassis: Annotated[str | None, Query(max_length=253)] = None,
        limit: Limit = 1000,
        _who: Principal = viewer,
    ) -> dict[str, Any]:
        def query(tx: Tx) -> list[dict[str, Any]]:
            fabrics.check(tx, fabric)
            return [part_view(row) for row in store.parts(tx, fabric, state=state, chassis=chassis, limit=limit)]

        return {"items": db.read(query), "next": None}

    @routes.post("/{fabric}/parts/{guid}/approve", summary="A replaced part belongs where it was found")
    def approve(
        fabric: str, guid: str, body: ReasonIn, request: Request, who: Principal = technician
    ) -> dict[str, Any]:
        number = _guid(guid)
        actor = who.actor(request_id(request))

        def write(tx: Tx) -> dict[str, Any]:
            fabrics.check(tx, fabric)
            port = part_service.approve(tx, fabric, number, actor=actor, reason=body.reason)
            return {"guid": guid, "chassis": port.chassis, "port": port.name, "state": "known"}

        return db.write(write)

    @routes.post(
        "/{fabric}/parts/{guid}/forget", status_code=204, summary="A part was moved: the next look learns where it is"
    )
    def forget(fabric: str, guid: str, body: ReasonIn, request: Request, who: Principal = technician) -> None:
        number = _guid(guid)
        actor = who.actor(request_id(request))

        def write(tx: Tx) -> None:
            fabrics.check(tx, fabric)
            part_service.forget(tx, fabric, number, actor=actor, reason=body.reason)

        db.write(write)


def _guid(text: str) -> int:
    if _GUID.fullmatch(text) is None:
        raise BadInput("is no GUID; write 0x and 16 hexadecimal digits, lower case", where=text[:64])
    return int(text, 16)


def _speed(fabrics: Fabrics) -> float:
    """Domain seconds in a real one."""
    return 1.0 / max(1e-9, fabrics.db.clock.real_seconds(1.0))


def _snapshot(tx: Tx, fabrics: Fabrics, fabric: str, snapshot: str) -> sa.RowMapping:
    fabrics.check(tx, fabric)
    if snapshot != "latest":
        return store.snapshot(tx, fabric, snapshot)
    row = store.latest(tx, fabric)
    if row is None:
        raise NotFound(f"Nobody has looked at the fabric '{fabric}' yet.")
    return store.snapshot(tx, fabric, row["id"])


def _body(tx: Tx, fabrics: Fabrics, fabric: str, snapshot: str) -> bytes:
    row = _snapshot(tx, fabrics, fabric, snapshot)
    body = store.body(tx, row["id"])
    if body is None:
        raise NotFound(f"Of {row['id']} only the report is kept.")
    return body


def fabric_view(tx: Tx, fabrics: Fabrics, fabric: str) -> dict[str, Any]:
    """A fabric as lists show it."""
    design = store.active_blueprint(tx, fabric)
    last = store.latest(tx, fabric)
    found = store.count_causes(tx, fabric)
    return {
        "name": fabric,
        "collector": fabrics.settings(fabric).collector,
        "design": None if design is None else blueprint_view(design),
        "last_look": None if last is None else snapshot_view(last),
        "open_causes": sum(row["count"] for row in found),
        "confirmed_causes": sum(row["count"] for row in found if row["confirmed"]),
    }


def snapshot_view(row: sa.RowMapping) -> dict[str, Any]:
    """A look as every face shows it."""
    names = ("id", "fabric", "vantage", "source", "blueprint_id", "complete", "coverage")
    return {
        **{name: row[name] for name in names},
        "cables": row["counts"],
        "taken_at": iso(row["taken_at"]),
        "received_at": iso(row["received_at"]),
    }


def cause_view(row: sa.RowMapping) -> dict[str, Any]:
    """A cause as every face shows it."""
    names = (
        "id", "fabric", "key", "kind", "state", "confirmed", "message", "do", "where", "moves", "ticket_id",
        "sightings", "snapshot_id",
    )  # fmt: skip
    return {
        **{name: row[name] for name in names},
        "ports": [f"{chassis} {port}" for chassis, port in row["ports"]],
        "first_seen": iso(row["first_seen"]),
        "last_seen": iso(row["last_seen"]),
        "cleared_at": iso_or_none(row["cleared_at"]),
    }


def part_view(row: sa.RowMapping) -> dict[str, Any]:
    names = ("guid", "chassis", "port", "state", "actor")
    seen = {"first_seen": iso(row["first_seen"]), "last_seen": iso(row["last_seen"])}
    return {**{name: row[name] for name in names}, **seen}


def link_view(row: sa.RowMapping) -> dict[str, Any]:
    peer = f"{row['peer_chassis']} {row['peer_port']}" if row["peer_chassis"] else None
    return {
        "port": f"{row['chassis']} {row['port']}",
        "peer": peer,
        "kind": row["kind"],
        "count": row["count"],
        "at": iso(row["at"]),
    }
