"""The app of the boot listener: plain HTTP for machines that have nothing yet, so it serves no secrets.

Built by `app.py` from provisioning's router, served by `listeners.py`. Errors are plain text here: what reads them is a
boot loader's console.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from ostler.core.errors import OstlerError
from ostler.http.edge import Edge, RequestMetrics

BODY_LIMIT = 64 * 1024
"""Bytes; boot loaders send next to nothing."""


def boot_app(routers: Sequence[APIRouter], *, metrics: RequestMetrics | None = None) -> ASGIApp:
    """The routers behind the edge."""
    app = FastAPI(title="Ostler, for booting machines", openapi_url=None, docs_url=None, redoc_url=None)

    async def plain(request: Request, error: Exception) -> Response:
        del request
        if isinstance(error, OstlerError):
            return PlainTextResponse(f"ostler: {error}\n", error.status)
        if isinstance(error, HTTPException):
            return PlainTextResponse(f"ostler: {error.detail}\n", error.status_code)
        if isinstance(error, RequestValidationError):
            return PlainTextResponse("ostler: the request has wrong parameters\n", HTTPStatus.UNPROCESSABLE_ENTITY)
        return PlainTextResponse("ostler: something went wrong inside\n", HTTPStatus.INTERNAL_SERVER_ERROR)

    for kind in (OstlerError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, plain)
    for router in routers:
        app.include_router(router)
    return Edge(app, listener="boot", body_limit=BODY_LIMIT, strict_json=False, metrics=metrics)
