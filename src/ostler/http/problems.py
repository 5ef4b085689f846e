"""Every error as an RFC 9457 problem document. Installed on each listener's app; the edge uses it outside of the app.

A document has `type` (`urn:ostler:problem:refused`, stable, for programs), `title`, `status`, `detail` (a sentence for
people), `instance` (the path asked for), and where they are known `where`, `errors` (for each wrong field its `where`
and `message`), `retry_after` (seconds) and `request_id`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ostler.core.errors import BadInput, OstlerError, Temporary, Unauthenticated

MEDIA_TYPE = "application/problem+json"
"""RFC 9457, section 3."""

_MOST_ERRORS = 20
"""Wrong fields listed in one document; the rest is counted."""


class Problem(Response):
    """The response that carries one problem document."""

    media_type = MEDIA_TYPE


def document(
    status: int,
    title: str,
    detail: str,
    *,
    scope: Mapping[str, Any],
    where: str = "",
    errors: Sequence[Mapping[str, str]] = (),
    retry_after: float | None = None,
) -> dict[str, Any]:
    """The document as plain data; members that say nothing are left out."""
    found: dict[str, Any] = {
        "type": "urn:ostler:problem:" + "-".join(title.lower().split()),
        "title": title,
        "status": status,
        "detail": detail,
        "instance": str(scope.get("path", "")),
    }
    optional = {
        "where": where,
        "errors": list(errors),
        "retry_after": retry_after,
        "request_id": scope.get("state", {}).get("request_id"),
    }
    return found | {name: value for name, value in optional.items() if value}


def response(found: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Problem:
    """The document as a response; lone surrogates and other odd characters are escaped, never an encoding error."""
    return Problem(json.dumps(found), status_code=int(found["status"]), headers=dict(headers or {}))


def of_error(error: OstlerError, scope: Mapping[str, Any]) -> Problem:
    """Ostler's own errors: the class gives status and title, the message is the detail."""
    headers: dict[str, str] = {}
    retry_after: float | None = None
    if isinstance(error, Temporary):
        retry_after = math.ceil(error.delay)
        headers["Retry-After"] = str(retry_after)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="ostler"'
    found = document(error.status, error.title, error.message, scope=scope, where=error.where, retry_after=retry_after)
    return response(found, headers)


def of_status(status: int, detail: str, scope: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Problem:
    """Errors that HTTP itself has a word for (404 of an unknown path, 405, 413)."""
    return response(document(status, HTTPStatus(status).phrase, detail, scope=scope), headers)


def of_bug(scope: Mapping[str, Any]) -> Problem:
    """Something that Ostler did not foresee: where to look for it, and nothing of its inside."""
    request_id = scope.get("state", {}).get("request_id", "")
    return of_status(500, f"Something went wrong inside Ostler; its log has it under request {request_id}.", scope)


def of_validation(error: RequestValidationError, scope: Mapping[str, Any]) -> Problem:
    """Fields that are not what a model asks for. What was sent is not repeated: it may be a secret."""
    errors = [{"where": _path(item["loc"]), "message": _sentence(item["msg"])} for item in error.errors()]
    shown = errors[:_MOST_ERRORS]
    more = f" … and {len(errors) - len(shown)} more" if len(errors) > len(shown) else ""
    detail = "; ".join(f"{item['where']}: {item['message']}" for item in shown[:3])
    if len(errors) > 3:
        detail += f"; {len(errors)} mistakes in all"
    where = shown[0]["where"] if len(errors) == 1 else ""
    return response(document(BadInput.status, BadInput.title, detail + more, scope=scope, where=where, errors=shown))


def install(app: FastAPI) -> None:
    """Make the app answer every error with a problem document."""

    async def ostler_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, OstlerError)
        return of_error(error, request.scope)

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return of_validation(error, request.scope)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = str(error.detail)
        path = request.scope.get("path", "")
        if error.status_code == HTTPStatus.NOT_FOUND and detail == HTTPStatus.NOT_FOUND.phrase:
            detail = f"Nothing is served at {path}; /openapi.json lists what is."
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            detail = f"{request.method} is not possible at {path}."
        return of_status(error.status_code, detail, request.scope, error.headers)

    async def bug(request: Request, error: Exception) -> Response:
        del error  # the edge logs it; the answer tells no inside
        return of_bug(request.scope)

    app.add_exception_handler(Exception, bug)
    app.add_exception_handler(OstlerError, ostler_error)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)


def _path(loc: Sequence[Any]) -> str:
    """`("body", "pools", 0, "name")` as `body.pools[0].name`; FastAPI puts a JSON syntax error's offset last."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _sentence(message: str) -> str:
    """pydantic's messages, with the noise of value errors taken off."""
    return message.removeprefix("Value error, ")
