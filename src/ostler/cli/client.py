"""The server's API as the commands use it: one token, one address, errors as Ostler's own words. Used by `cli/*.py`.

A problem document becomes the error that it was on the server, so that a command fails with the same line and exit
status as if it had run there.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2

from ostler.core.errors import (
    BadInput,
    Conflict,
    Forbidden,
    Gone,
    NotFound,
    OstlerError,
    Permanent,
    Refused,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from ostler.core.ids import new_id

DEFAULT_URL = "http://127.0.0.1:8470"
_SECONDS = 30.0

_BY_STATUS: Mapping[int, type[OstlerError]] = {
    400: BadInput,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: BadInput,
    409: Conflict,
    410: Gone,
    413: BadInput,
    422: BadInput,
}


class Client:
    """Talks to one server. Values that are None are left out of queries; every write carries an `Idempotency-Key`."""

    def __init__(self, url: str, token: str | None = None, *, transport: httpx2.BaseTransport | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise BadInput(f"'{url}' is no address of a server; write http://HOST:PORT.", where="OSTLER_URL")
        if token and not (token.isascii() and token.isprintable()):
            raise BadInput(
                "A token has no spaces, line breaks or special characters; copy it again.", where="OSTLER_TOKEN"
            )
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=_SECONDS, transport=transport)
        weakref.finalize(self, self._http.close)

    @classmethod
    def from_environment(cls) -> Client:
        """The server of `OSTLER_URL` (default: this machine), with the token of `OSTLER_TOKEN`."""
        return cls(os.environ.get("OSTLER_URL") or DEFAULT_URL, os.environ.get("OSTLER_TOKEN") or None)

    def get(self, path: str, **params: object) -> Any:
        return self._send("GET", path, params=params)

    def post(self, path: str, json: Mapping[str, Any] | None = None) -> Any:
        return self._send("POST", path, json=json or {})

    def put(self, path: str, json: Mapping[str, Any]) -> Any:
        return self._send("PUT", path, json=json)

    def put_file(self, path: str, data: bytes, **params: object) -> Any:
        """Put a file as it is; it may be large, so the answer is waited for longer."""
        headers = {"Idempotency-Key": new_id("cli"), "Content-Type": "application/octet-stream"}
        try:
            answer = self._http.put(path, params=_query(params), content=data, headers=headers, timeout=10 * _SECONDS)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        if answer.status_code >= 400:
            raise _error(answer, self.url)
        return answer.json()

    def patch(self, path: str, json: Mapping[str, Any]) -> Any:
        return self._send("PATCH", path, json=json)

    def delete(self, path: str, **params: object) -> Any:
        return self._send("DELETE", path, params=params)

    def pages(self, path: str, **params: object) -> Iterator[Any]:
        """Every item of a paged list, one page at a time."""
        after = params.pop("after", None)
        while True:
            page = self.get(path, **params, after=after)
            yield from page["items"]
            after = page.get("next")
            if after is None:
                return

    def lines(self, path: str, **params: object) -> Iterator[str]:
        """The lines of a stream (server-sent events), for as long as the server sends."""
        try:
            with self._http.stream(
                "GET", path, params=_query(params), timeout=httpx2.Timeout(_SECONDS, read=60.0)
            ) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    raise _error(answer, self.url)
                yield from answer.iter_lines()
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error

    def download(self, path: str, **params: object) -> bytes:
        """A file as the server has it."""
        return self._answer("GET", path, params=params).content

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, object] | None = None,
        json: Mapping[str, Any] | None = None,
    ) -> Any:
        answer = self._answer(method, path, params=params, json=json)
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError:
            raise Permanent(f"{self.url} answered something that is no JSON; is it an Ostler server?") from None

    def _answer(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, object] | None = None,
        json: Mapping[str, Any] | None = None,
    ) -> httpx2.Response:
        headers = {} if method == "GET" else {"Idempotency-Key": new_id("cli")}
        try:
            answer = self._http.request(method, path, params=_query(params or {}), json=json, headers=headers)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        if answer.status_code >= 400:
            raise _error(answer, self.url)
        return answer

    def _unreachable(self, error: httpx2.TransportError) -> Unreachable:
        why = str(error) or type(error).__name__
        return Unreachable(
            f"No answer ({why}). Is 'ostler serve' running there? OSTLER_URL says where.", where=self.url
        )


def _query(params: Mapping[str, object]) -> dict[str, str]:
    """Query values as text; booleans as JSON has them."""
    return {
        name: ("true" if value else "false") if isinstance(value, bool) else str(value)
        for name, value in params.items()
        if value is not None
    }


def _error(answer: httpx2.Response, url: str) -> OstlerError:
    """The error that the server meant; another server's error page becomes one plain line."""
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "detail" not in problem:
        kind = Unavailable if answer.status_code >= 500 else _BY_STATUS.get(answer.status_code, Permanent)
        return kind(f"HTTP {answer.status_code} {answer.reason_phrase}; is it an Ostler server?", where=url)
    detail, where = str(problem["detail"]), str(problem.get("where") or "")
    detail = detail.removeprefix(f"{where}: ")  # the place stands before the line already
    if answer.status_code == 409 and problem.get("title") == Refused.title:
        return Refused(detail, where=where)
    if answer.status_code in (502, 503, 504):
        delay = problem.get("retry_after")
        return Unavailable(detail, where=where, delay=float(delay) if isinstance(delay, int | float) else 10.0)
    if answer.status_code == 401 and not os.environ.get("OSTLER_TOKEN"):
        return Unauthenticated(f"{url} asks for a token; put it in OSTLER_TOKEN.", where=where)
    kind = _BY_STATUS.get(answer.status_code, Permanent)
    return kind(detail, where=where)
