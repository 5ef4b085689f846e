"""Faces of nodes: `/v1/nodes…`, `/v1/pools…`, `/v1/adopt`. Mounted by `app.py`; `cli/nodes.py` speaks to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ostler.access.api import Authorize, request_id
from ostler.access.model import Principal, Role
from ostler.adapters.cluster.port import Cluster
from ostler.core.actor import Actor
from ostler.core.clock import iso
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.nodes import adopt, adopt_cluster, selector, service, store
from ostler.nodes.model import Node, Pool, State
from ostler.nodes.view import view

Name = Annotated[str, Query(max_length=253)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ReasonIn(_Body):
    reason: str = Field(default="", max_length=500)


class NeededReasonIn(_Body):
    reason: str = Field(min_length=1, max_length=500)


class MoveIn(NeededReasonIn):
    slot: str = Field(min_length=1, max_length=200, description="SITE/ROW/RACK/U", examples=["fra1/a/r03/u12"])


class TransitionIn(NeededReasonIn):
    to: State = Field(strict=False)


class PoolIn(_Body):
    capabilities: list[str] = Field(default_factory=list, max_length=20)
    auto_certify: bool = False
    cluster: str = Field(default="none", min_length=1, max_length=64)
    reason: str = Field(min_length=1, max_length=500)


class AdoptIn(_Body):
    csv: str | None = Field(
        default=None, max_length=64 << 20, description="see `ostler adopt --help` for the columns; none: read a cluster"
    )
    source: str = Field(
        default="csv", max_length=200, description="with csv: its name in messages; else kubernetes:NAME or slurm:NAME"
    )
    pool: str = Field(default="default", min_length=1, max_length=64, description="of rows that name none")
    dry_run: bool = Field(default=False, description="check everything, enter nothing")
    reason: str = Field(default="", max_length=500)


def router(db: Database, authorize: Authorize, sources: Mapping[str, Cluster] | None = None) -> APIRouter:
    """Everything about nodes that needs no feature above this one. `sources`: clusters to adopt from, by KIND:NAME."""
    routes = APIRouter(tags=["nodes"])
    viewer, technician, operator, admin = (
        Depends(authorize(role)) for role in (Role.VIEWER, Role.TECHNICIAN, Role.OPERATOR, Role.ADMIN)
    )

    def change(
        node: str, request: Request, who: Principal, use_case: Callable[[Tx, Node, Actor], Any]
    ) -> dict[str, Any]:
        """Run a use case on a node found by any of its names, and answer the node as it is then."""
        actor = who.actor(request_id(request))

        def run(tx: Tx) -> str:
            found = store.get(tx, node)
            use_case(tx, found, actor)
            return found.id

        node_id = db.write(run)
        return db.read(lambda tx: view(tx, [store.get(tx, node_id)])[0])

    @routes.get("/v1/nodes", summary="Nodes by name")
    def nodes(
        state: Name | None = None,
        pool: Name | None = None,
        rack: Name | None = None,
        selected: Annotated[str, Query(alias="selector", max_length=2000)] = "",
        after: Name | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
        _who: Principal = viewer,
    ) -> dict[str, Any]:
        where = selector.parse(selected)
        for field, value in (("state", state), ("pool", pool), ("rack", rack)):
            if value is not None:
                where = sa.and_(where, selector.FIELDS[field] == value)
        if after is not None:
            where = sa.and_(where, selector.FIELDS["name"] > after)
        items = db.read(lambda tx: view(tx, store.find(tx, where, limit=limit)))
        return {"items": items, "next": items[-1]["name"] if len(items) == limit else None}

    @routes.get("/v1/nodes/{node}", summary="One node, by id, name, serial number or MAC")
    def show(node: str, _who: Principal = viewer) -> dict[str, Any]:
        return db.read(lambda tx: view(tx, [store.get(tx, node)])[0])

    @routes.get(
        "/v1/nodes/{node}/history", summary="The record of states; of a serial number through every node it was"
    )
    def history(node: str, serial: bool = False, _who: Principal = viewer) -> dict[str, Any]:
        def query(tx: Tx) -> list[dict[str, Any]]:
            if serial:
                rows = store.transitions(tx, serial=node)
            else:
                rows = store.transitions(tx, node_id=store.get(tx, node).id)
            return [{**row, "at": iso(row["at"])} for row in rows]

        return {"items": db.read(query), "next": None}

    @routes.post("/v1/nodes/{node}/certify", summary="A technician signs for a node")
    def certify(node: str, body: ReasonIn, request: Request, who: Principal = technician) -> dict[str, Any]:
        return change(
            node, request, who, lambda tx, n, actor: service.certify(tx, n.id, actor=actor, reason=body.reason)
        )

    @routes.post("/v1/nodes/{node}/move", summary="Note that a node stands in another slot")
    def move(node: str, body: MoveIn, request: Request, who: Principal = technician) -> dict[str, Any]:
        slot = adopt.parse_slot(body.slot, "slot")
        return change(
            node, request, who, lambda tx, n, actor: service.move(tx, n.id, slot, actor=actor, reason=body.reason)
        )

    @routes.post("/v1/nodes/{node}/cordon", summary="Place nothing new on a node; what runs is left alone")
    def cordon(node: str, body: NeededReasonIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        return change(
            node, request, who, lambda tx, n, actor: service.hold_cordon(tx, n.id, "person", body.reason, actor)
        )

    @routes.post("/v1/nodes/{node}/uncordon", summary="Take back a person's cordon; other holds stay")
    def uncordon(node: str, body: ReasonIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        return change(
            node, request, who, lambda tx, n, actor: service.release_person(tx, n, actor=actor, reason=body.reason)
        )

    @routes.post("/v1/nodes/{node}/withdraw", summary="Take back a pending transition that was not acted on")
    def withdraw(node: str, body: NeededReasonIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        return change(
            node, request, who, lambda tx, n, actor: service.withdraw_pending(tx, n.id, reason=body.reason, actor=actor)
        )

    @routes.post("/v1/nodes/{node}/transition", summary="Move a node by hand, where the lifecycle allows it")
    def transition(node: str, body: TransitionIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        def use_case(tx: Tx, found: Node, actor: Actor) -> None:
            facts = service.facts(tx, found, actor)
            service.transition(tx, found.id, body.to, actor=actor, cause="by hand", facts=facts, reason=body.reason)

        return change(node, request, who, use_case)

    @routes.get("/v1/pools", summary="Pools and what they grant")
    def pools(_who: Principal = viewer) -> dict[str, Any]:
        return {"items": [_pool_view(pool) for pool in db.read(store.pools)], "next": None}

    @routes.put("/v1/pools/{pool}", summary="Make a pool, or change what it grants")
    def define_pool(pool: str, body: PoolIn, request: Request, who: Principal = admin) -> dict[str, Any]:
        granted = service.parse_capabilities(body.capabilities, "capabilities")
        defined = Pool(pool, granted, body.auto_certify, body.cluster)
        actor = who.actor(request_id(request))
        db.write(lambda tx: service.define_pool(tx, defined, actor=actor, reason=body.reason))
        return _pool_view(defined)

    @routes.post("/v1/adopt", summary="Take a running fleet into the books without touching it")
    def adopt_fleet(body: AdoptIn, request: Request, who: Principal = operator) -> dict[str, Any]:
        found = adopt_cluster.Found()
        advice: tuple[str, ...] = ()
        if body.csv is not None:
            found.rows.extend(adopt.read_csv(body.csv, body.source, body.pool))
        else:
            cluster = adopt_cluster.source(sources or {}, body.source)
            pool = db.read(lambda tx: store.get_pool(tx, body.pool))
            found = adopt_cluster.rows_of(cluster.inventory(), body.pool)
            advice = adopt_cluster.advice(pool, cluster.name)
        if body.dry_run:
            done = db.read(lambda tx: adopt.check(tx, found.rows)).adoption
        else:
            done = adopt.take_in(db, found.rows, actor=who.actor(request_id(request)), reason=body.reason)
        return {
            "adopted": list(done.adopted),
            "known": list(done.known),
            "held": [{"name": name, "why": why} for name, why in done.held],
            "notes": [{"name": name, "note": note} for name, note in (*found.notes, *done.notes)],
            "advice": list(advice),
            "remaining": done.remaining,
            "dry_run": body.dry_run,
        }

    return routes


def _pool_view(pool: Pool) -> dict[str, Any]:
    return {
        "name": pool.name,
        "capabilities": sorted(pool.capabilities),
        "auto_certify": pool.auto_certify,
        "cluster": pool.cluster,
    }
