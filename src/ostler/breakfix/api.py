"""Faces of break-fix: parts, logs, maintenance, replacements and RMA cases. Mounted by `app.py`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ostler.access.api import Authorize, request_id
from ostler.access.model import Principal, Role
from ostler.breakfix import bundle, cases, maintenance, store
from ostler.breakfix.model import OPEN, BreakfixSettings, CaseState, Kind, Window
from ostler.core.clock import iso
from ostler.core.errors import Forbidden
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.health.api import finding_view, signal_view
from ostler.nodes import store as nodes
from ostler.remediation.api import decision_view
from ostler.tickets.api import ticket_view

Limit = Annotated[int, Query(ge=1, le=1000)]
After = Annotated[str | None, Query(max_length=64)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class MaintenanceIn(_Body):
    """`scope`: `node:NAME`, `rack:NAME` or another domain. Times are UTC epoch seconds; immediate begins at once."""

    scope: str = Field(min_length=1, max_length=300, examples=["rack:fra1/a/r3"])
    kind: Kind = Field(default=Kind.PLANNED, strict=False)
    summary: str = Field(min_length=1, max_length=500)
    starts_at: float | None = Field(default=None, ge=0)
    ends_at: float | None = Field(default=None, ge=0)


class ReturnIn(_Body):
    """Hand a node or rack over for maintenance now."""

    reason: str = Field(min_length=1, max_length=500)
    ends_at: float | None = Field(default=None, ge=0)


class EvidenceIn(_Body):
    evidence: str = Field(min_length=1, max_length=4000)


class ReasonIn(_Body):
    reason: str = Field(min_length=1, max_length=500)


class ReplacementIn(_Body):
    """`part`: gpu, nic, psu, disk, cpu, baseboard or chassis; `name`: which one. `override` needs the operator role."""

    part: str = Field(min_length=1, max_length=40, examples=["gpu"])
    name: str = Field(default="", max_length=120, examples=["0000:1b:00.0"])
    reason: str = Field(min_length=1, max_length=500)
    override: bool = False


class CaseIn(_Body):
    """Where a case goes next."""

    state: Literal["shipped", "replaced", "refused"]
    reason: str = Field(min_length=1, max_length=500)
    vendor_case: str | None = Field(default=None, min_length=1, max_length=120)
    replacement_serial: str | None = Field(default=None, min_length=1, max_length=120)


def router(db: Database, authorize: Authorize, settings: BreakfixSettings) -> APIRouter:
    """`/v1/maintenance…`, `/v1/rma…`, and what belongs to a node: parts, logs, repairs, replacement, return."""
    routes = APIRouter(tags=["break-fix"])
    _nodes(routes, db, authorize, settings)
    _maintenance(routes, db, authorize)
    _cases(routes, db, authorize, settings)
    return routes


def _nodes(routes: APIRouter, db: Database, authorize: Authorize, settings: BreakfixSettings) -> None:
    viewer, technician = Depends(authorize(Role.VIEWER)), Depends(authorize(Role.TECHNICIAN))
    operator = Depends(authorize(Role.OPERATOR))

    @routes.get("/v1/nodes/{node}/parts", summary="Serial numbers and firmware of every part, by agent and BMC")
    def parts(node: str, _who: Principal = viewer) -> dict[str, Any]:
        def query(tx: Tx) -> dict[str, Any]:
            found = nodes.get(tx, node)
            return {"node_id": found.id, "items": [asdict(part) for part in cases.parts(tx, found)], "next": None}

        return db.read(query)

    @routes.get(
        "/v1/nodes/{node}/logs", summary="Excerpts of the kernel's and the BMC's log, as far as they were faults"
    )
    def logs(
        node: str, source: Literal["kernel", "bmc", "all"] = "all", limit: Limit = 200, _who: Principal = viewer
    ) -> dict[str, Any]:
        wanted = {"kernel": bundle.KERNEL_SOURCES, "bmc": bundle.BMC_SOURCES, "all": ()}[source]
        rows = db.read(lambda tx: store.log(tx, nodes.get(tx, node).id, wanted, limit))
        return {"items": [signal_view(row) for row in rows], "next": None}

    @routes.get("/v1/nodes/{node}/repairs", summary="What was found, decided, done and replaced on a node")
    def repairs(node: str, _who: Principal = viewer) -> dict[str, Any]:
        def query(tx: Tx) -> dict[str, Any]:
            found = nodes.get(tx, node)
            rows = store.history(tx, found.id)
            names = ("id", "from_state", "to_state", "cause", "actor", "reason")
            return {
                "node_id": found.id,
                "maintenance": [one.view() for one in store.open_of_node(tx, found.id)],
                "transitions": [
                    {**{name: row[name] for name in names}, "at": iso(row["at"])} for row in rows["transitions"]
                ],
                "decisions": [decision_view(row) for row in rows["decisions"]],
                "tickets": [ticket_view(row) for row in rows["tickets"]],
                "cases": [cases.view(row) for row in rows["cases"]],
                "findings": [finding_view(row) for row in rows["findings"]],
            }

        return db.read(query)

    @routes.post("/v1/nodes/{node}/replacement", status_code=201, summary="Request a part's replacement")
    def replacement(node: str, body: ReplacementIn, request: Request, who: Principal = technician) -> dict[str, Any]:
        if body.override and who.role < Role.OPERATOR:
            raise Forbidden("Only an operator may override the thresholds of a replacement.", where="override")
        actor = who.actor(request_id(request))

        def use_case(tx: Tx) -> dict[str, Any]:
            case_id = cases.request(
                tx,
                nodes.get(tx, node),
                part=body.part,
                name=body.name,
                reason=body.reason,
                actor=actor,
                settings=settings,
                override=body.override,
            )
            return cases.view(store.case(tx, case_id))

        return db.write(use_case)

    @routes.post("/v1/nodes/{node}/return", status_code=201, summary="Hand a node over for maintenance now")
    def return_node(node: str, body: ReturnIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        return _handed_over(f"node:{node}", body, request, who)

    @routes.post("/v1/racks/{rack:path}/return", status_code=201, summary="Hand a whole rack over for maintenance now")
    def return_rack(rack: str, body: ReturnIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        return _handed_over(f"rack:{rack}", body, request, who)

    def _handed_over(scope: str, body: ReturnIn, request: Request, who: Principal) -> dict[str, Any]:
        actor = who.actor(request_id(request))
        return db.write(
            lambda tx: maintenance.plan(
                tx, scope, Kind.IMMEDIATE, summary=body.reason, actor=actor, ends_at=body.ends_at
            ).view()
        )


def _maintenance(routes: APIRouter, db: Database, authorize: Authorize) -> None:
    viewer, operator = Depends(authorize(Role.VIEWER)), Depends(authorize(Role.OPERATOR))

    @routes.get("/v1/maintenance", summary="Maintenance, newest first; `open`: upcoming and current only")
    def listed(
        open: bool = False,
        node: Annotated[str | None, Query(max_length=253)] = None,
        after: After = None,
        limit: Limit = 100,
        _who: Principal = viewer,
    ) -> dict[str, Any]:
        def query(tx: Tx) -> list[Window]:
            found = store.windows(tx, phases=OPEN if open else (), after=after, limit=limit)
            if node is None:
                return found
            node_id = nodes.get(tx, node).id
            return [one for one in found if node_id in one.nodes]

        items = [one.view() for one in db.read(query)]
        return {"items": items, "next": items[-1]["id"] if len(items) == limit else None}

    @routes.post("/v1/maintenance", status_code=201, summary="Announce maintenance of a node, a rack or another domain")
    def plan(body: MaintenanceIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        actor = who.actor(request_id(request))
        return db.write(
            lambda tx: maintenance.plan(
                tx,
                body.scope,
                body.kind,
                summary=body.summary,
                actor=actor,
                starts_at=body.starts_at,
                ends_at=body.ends_at,
            ).view()
        )

    @routes.get("/v1/maintenance/{window_id}", summary="One maintenance, and how far each of its nodes is")
    def show(window_id: str, _who: Principal = viewer) -> dict[str, Any]:
        return db.read(lambda tx: store.window(tx, window_id).view())

    @routes.post("/v1/maintenance/{window_id}/finish", summary="The work is done: its nodes come back through a test")
    def finish(window_id: str, body: EvidenceIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        actor = who.actor(request_id(request))
        return db.write(lambda tx: maintenance.finish(tx, window_id, actor=actor, evidence=body.evidence).view())

    @routes.post("/v1/maintenance/{window_id}/cancel", summary="Call it off, while no node is out of service for it")
    def cancel(window_id: str, body: ReasonIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        actor = who.actor(request_id(request))
        return db.write(lambda tx: maintenance.cancel(tx, window_id, actor=actor, reason=body.reason).view())


def _cases(routes: APIRouter, db: Database, authorize: Authorize, settings: BreakfixSettings) -> None:
    viewer, technician = Depends(authorize(Role.VIEWER)), Depends(authorize(Role.TECHNICIAN))

    @routes.get("/v1/rma", summary="RMA cases, newest first")
    def listed(
        open: bool = False,
        node: Annotated[str | None, Query(max_length=253)] = None,
        after: After = None,
        limit: Limit = 100,
        _who: Principal = viewer,
    ) -> dict[str, Any]:
        def query(tx: Tx) -> list[dict[str, Any]]:
            node_id = None if node is None else nodes.get(tx, node).id
            return [
                cases.view(row) for row in store.cases(tx, node_id=node_id, open_only=open, after=after, limit=limit)
            ]

        items = db.read(query)
        return {"items": items, "next": items[-1]["id"] if len(items) == limit else None}

    @routes.get("/v1/rma/{case_id}", summary="One RMA case")
    def show(case_id: str, _who: Principal = viewer) -> dict[str, Any]:
        return db.read(lambda tx: cases.view(store.case(tx, case_id)))

    @routes.post("/v1/rma/{case_id}", summary="Shipped, replaced or refused by the vendor")
    def advance(case_id: str, body: CaseIn, request: Request, who: Principal = technician) -> dict[str, Any]:
        actor = who.actor(request_id(request))

        def use_case(tx: Tx) -> dict[str, Any]:
            cases.advance(
                tx,
                case_id,
                CaseState(body.state),
                actor=actor,
                reason=body.reason,
                vendor_case=body.vendor_case,
                replacement_serial=body.replacement_serial,
            )
            return cases.view(store.case(tx, case_id))

        return db.write(use_case)

    @routes.get(
        "/v1/rma/{case_id}/bundle",
        summary="The evidence for the vendor: one gzipped tar",
        response_class=Response,
        responses={200: {"content": {"application/gzip": {}}}},
    )
    def export(case_id: str, _who: Principal = technician) -> Response:
        packed = db.read(lambda tx: bundle.archive(tx, case_id, settings))
        name = f'attachment; filename="{case_id}.tar.gz"'
        return Response(packed, media_type="application/gzip", headers={"Content-Disposition": name})
