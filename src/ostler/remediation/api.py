"""Faces of remediation: `why`, decisions, and what a person may order. Mounted by `app.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ostler.access.api import Authorize, request_id
from ostler.access.model import Principal, Role
from ostler.adapters.cluster.port import DrainMode
from ostler.core.clock import iso
from ostler.core.errors import BadInput
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.faults.model import Action
from ostler.nodes import store as nodes
from ostler.nodes.model import Timing
from ostler.nodes.view import view
from ostler.remediation import by_hand, store, why
from ostler.remediation.model import Verdict


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Because(_Body):
    reason: str = Field(min_length=1, max_length=500)


class PowerIn(Because):
    """A person's order to a node's power or BMC. A node of production is cycled in place and verified."""

    action: Literal["on", "off", "cycle", "reset-bmc"]
    timing: Literal["pending", "immediate"] = "pending"


class DrainIn(Because):
    """A person's order to empty a node: it is cordoned, and stays so until it is uncordoned."""

    mode: Literal["allow-completion", "evict"] = "evict"
    deadline_s: float = Field(default=24 * 3600.0, ge=0, le=30 * 86400, description="then what is left is ended")


class Ordered(Because):
    """A person's order to reboot or power cycle a node in production."""

    action: Literal["reboot", "power-cycle"] = "reboot"
    timing: Literal["pending", "immediate"] = "pending"


class ResetIn(Because):
    """A person's order to reset a GPU."""

    timing: Literal["pending", "immediate"] = "pending"


def router(db: Database, authorize: Authorize) -> APIRouter:
    """`/v1/nodes/{node}/why`, what people order for a node, `/v1/decisions`."""
    routes = APIRouter(tags=["remediation"])
    viewer, operator = Depends(authorize(Role.VIEWER)), Depends(authorize(Role.OPERATOR))

    @routes.get("/v1/nodes/{node}/why", summary="The chain of evidence behind a node's state")
    def explain(node: str, _who: Principal = viewer) -> dict[str, Any]:
        def query(tx: Tx) -> dict[str, Any]:
            found = nodes.get(tx, node)
            summary, links = why.explain(tx, found, now=tx.now)
            return why.view(summary, links, found)

        return db.read(query)

    @routes.post("/v1/nodes/{node}/reboot", status_code=202, summary="Reboot a node in place, through brake and check")
    def reboot(node: str, body: Ordered, request: Request, who: Principal = operator) -> dict[str, Any]:
        def use_case(tx: Tx) -> str:
            found = nodes.get(tx, node)
            return by_hand.order(
                tx,
                found.id,
                Action(body.action),
                timing=Timing(body.timing),
                actor=who.actor(request_id(request)),
                reason=body.reason,
            )

        return {"job_id": db.write(use_case)}

    @routes.post("/v1/nodes/{node}/gpus/{gpu}/reset", status_code=202, summary="Reset one GPU, drained and verified")
    def reset_gpu(node: str, gpu: str, body: ResetIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        actor, timing = who.actor(request_id(request)), Timing(body.timing)

        def use_case(tx: Tx) -> str:
            found = nodes.get(tx, node)
            return by_hand.order_gpu_reset(tx, found.id, [gpu], timing=timing, actor=actor, reason=body.reason)

        return {"job_id": db.write(use_case)}

    @routes.post(
        "/v1/nodes/{node}/power", status_code=202, summary="Switch a node on or off, cycle it, restart its BMC"
    )
    def power(node: str, body: PowerIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        actor, timing = who.actor(request_id(request)), Timing(body.timing)

        def use_case(tx: Tx) -> str:
            found = nodes.get(tx, node)
            return by_hand.order_power(tx, found.id, body.action, timing=timing, actor=actor, reason=body.reason)

        return {"job_id": db.write(use_case)}

    @routes.post("/v1/nodes/{node}/power-lock/clear", summary="A named person answers for switching on after a leak")
    def clear_lock(node: str, body: Because, request: Request, who: Principal = operator) -> dict[str, Any]:
        actor = who.actor(request_id(request))

        def use_case(tx: Tx) -> str:
            found = nodes.get(tx, node)
            by_hand.clear_power_lock(tx, found.id, actor=actor, reason=body.reason)
            return found.id

        node_id = db.write(use_case)
        return db.read(lambda tx: view(tx, [nodes.get(tx, node_id)])[0])

    @routes.post("/v1/nodes/{node}/reprovision", status_code=202, summary="Boot a node from the network and onboard it")
    def reprovision(node: str, body: Because, request: Request, who: Principal = operator) -> dict[str, Any]:
        actor = who.actor(request_id(request))
        return {
            "job_id": db.write(
                lambda tx: by_hand.reprovision(tx, nodes.get(tx, node).id, actor=actor, reason=body.reason)
            )
        }

    @routes.post("/v1/nodes/{node}/drain", status_code=202, summary="Cordon a node and empty it, without a reboot")
    def drain(node: str, body: DrainIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        actor, mode = who.actor(request_id(request)), DrainMode(body.mode)

        def use_case(tx: Tx) -> str:
            found = nodes.get(tx, node)
            return by_hand.order_drain(tx, found.id, mode, body.deadline_s, actor=actor, reason=body.reason)

        return {"job_id": db.write(use_case)}

    @routes.get("/v1/decisions", summary="What remediation decided, newest first; `would-act`: what it would have done")
    def decisions(
        verdict: Annotated[str | None, Query(max_length=20)] = None,
        node: Annotated[str | None, Query(max_length=253)] = None,
        after: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        _who: Principal = viewer,
    ) -> dict[str, Any]:
        if verdict is not None and verdict not in set(Verdict):
            raise BadInput(f"'{verdict}' is none of {', '.join(Verdict)}.", where="verdict")

        def query(tx: Tx) -> list[dict[str, Any]]:
            if node is not None:
                rows = store.of_node(tx, nodes.get(tx, node).id, limit=limit)
            else:
                wanted = None if verdict is None else Verdict(verdict)
                rows = store.listed(tx, verdict=wanted, after=after, limit=limit)
            return [decision_view(row) for row in rows]

        items = db.read(query)
        return {"items": items, "next": items[-1]["id"] if len(items) == limit else None}

    return routes


def decision_view(row: sa.RowMapping) -> dict[str, Any]:
    """A decision as every face shows it."""
    about = ("id", "node_id", "finding_id", "incident_id", "fault", "serial")
    decided = ("action", "timing", "verdict", "reasons", "permit_id", "job_id")
    return {**{name: row[name] for name in (*about, *decided)}, "at": iso(row["at"])}
