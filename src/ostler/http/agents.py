"""The app of the agents' listener: what nodes say and are told, over mutual TLS. Built by `app.py`."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from ostler.http import problems
from ostler.http.edge import Edge, RequestMetrics

BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of one message: a full batch of signals with their evidence stays below."""


def agents_app(routers: Sequence[APIRouter], *, metrics: RequestMetrics | None = None) -> ASGIApp:
    """The routers behind the edge. Bodies are read by the strict decoders of `wire/`, so the edge only bounds them."""
    app = FastAPI(title="Ostler, for agents", openapi_url=None, docs_url=None, redoc_url=None)
    problems.install(app)
    for router in routers:
        app.include_router(router)
    return Edge(app, listener="agents", body_limit=BODY_LIMIT, strict_json=False, metrics=metrics)
