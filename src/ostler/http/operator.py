"""The app of the operators' listener: the API, the console, health, metrics. Built by `app.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

import ostler
from ostler.core.errors import OstlerError
from ostler.http import problems
from ostler.http.edge import Edge, RequestMetrics

BODY_LIMIT = 1024 * 1024
"""Bytes of one request body."""

LARGER = {
    "/v1/adopt": 80 * 1024 * 1024,
    "/v1/fabrics/[^/]+/(blueprint|snapshots)": 80 * 1024 * 1024,
}
"""A running fleet comes in as one file: 100,000 nodes are some 15 MB of CSV. So does a fabric: its design as a list of
cables, and what a collector saw, compressed.
"""

DESCRIPTION = """\
The control plane of a GPU fleet: nodes and their lifecycle, the brake, tickets, events and webhooks.

Send `Authorization: Bearer TOKEN` (`ostler token create`). Lists page by `after=`; the last page has `next: null`.
Errors are problem documents (RFC 9457). A write may carry an `Idempotency-Key`: the same key with the same request
within a day gets the first answer again, and nothing is done twice."""


@dataclass(frozen=True)
class Loop:
    """Something that must run again and again; `age` gives seconds of real time since its last success, None: never."""

    name: str
    age: Callable[[], float | None]
    stale_after: float

    @property
    def is_stale(self) -> bool:
        """Whether it stands still, or never ran."""
        age = self.age()
        return age is None or age > self.stale_after


class ProblemDocument(BaseModel):
    """An error (RFC 9457), as `http/problems.py` writes it."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    where: str | None = None
    errors: list[dict[str, str]] | None = None
    retry_after: float | None = None
    request_id: str | None = None


_PROBLEM = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}


class _Api(FastAPI):
    """FastAPI, with our errors in its OpenAPI document in place of its own."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            found = super().openapi()
            schemas = found.setdefault("components", {}).setdefault("schemas", {})
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            schemas["Problem"] = ProblemDocument.model_json_schema()
        return self.openapi_schema or {}


def operator_api(routers: Sequence[APIRouter]) -> FastAPI:
    """The routes and their OpenAPI document, without the edge: what `make openapi` and the contract tests read."""
    app = _Api(
        title="Ostler",
        version=ostler.__version__,
        description=DESCRIPTION,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses={
            422: {"description": "Bad input", "content": _PROBLEM},
            "default": {"description": "What went wrong", "content": _PROBLEM},
        },
    )
    problems.install(app)
    for router in routers:
        app.include_router(router)
    return app


def operator_app(
    routers: Sequence[APIRouter],
    *,
    registry: CollectorRegistry,
    loops: Sequence[Loop] = (),
    ping: Callable[[], object] = lambda: None,
    metrics: RequestMetrics | None = None,
    once: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> ASGIApp:
    """The whole app behind its edge. `ping` asks the database something small and raises if it does not answer.

    `once` wraps the app in the layer that honours `Idempotency-Key` (`idempotency.Once`).
    """
    app = once(operator_api([*routers, _operations(registry, loops, ping)]))
    return Edge(
        app,
        listener="operator",
        body_limit=BODY_LIMIT,
        strict_json=True,
        metrics=metrics or RequestMetrics.on(registry),
        larger=LARGER,
    )


def _operations(registry: CollectorRegistry, loops: Sequence[Loop], ping: Callable[[], object]) -> APIRouter:
    """What load balancers, Kubernetes and Prometheus ask; without a token, and it tells no secrets."""
    router = APIRouter(include_in_schema=False)

    @router.get("/healthz")
    def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok", "version": ostler.__version__}

    @router.get("/readyz")
    def readyz() -> Response:
        """The database answers and no loop is stale."""
        wrong: list[str] = []
        try:
            ping()
        except OstlerError as error:
            wrong.append(f"database: {error.message}")
        ages = {loop.name: loop.age() for loop in loops}
        for loop in loops:
            age = ages[loop.name]
            if age is None:
                wrong.append(f"{loop.name}: has not run yet")
            elif age > loop.stale_after:
                wrong.append(f"{loop.name}: last ran {age:.0f} s ago, stale after {loop.stale_after:.0f} s")
        content = {"status": "not ready" if wrong else "ready", "wrong": wrong, "loops": ages}
        return JSONResponse(content, 503 if wrong else 200)

    @router.get("/metrics")
    def metrics() -> Response:
        """Prometheus text format."""
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return router
