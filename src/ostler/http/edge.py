"""What is true of every request, before any router sees it: an id, a bounded and strict body, safe headers, a metric.

One plain ASGI layer around each listener's app (`operator.py`, `boot.py`, `agents.py`), so that streams pass untouched.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ostler.core.errors import OstlerError
from ostler.core.ids import new_id
from ostler.http import problems

_log = structlog.get_logger()

REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,64}")
"""What we take over as a request id from outside; anything else is replaced, so that logs stay clean."""

_BODY_SECONDS = 30.0
"""How long a client may take to send its body."""

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


@dataclass(frozen=True)
class RequestMetrics:
    """Requests counted and timed by method, route template and status class. One per process."""

    total: Counter
    seconds: Histogram

    @classmethod
    def on(cls, registry: CollectorRegistry) -> RequestMetrics:
        labels = ("listener", "method", "route", "status")
        return cls(
            Counter("ostler_http_requests", "HTTP requests answered", labels, registry=registry),
            Histogram("ostler_http_request_seconds", "Time to answer", ("listener", "route"), registry=registry),
        )


class Edge:
    """The layer itself. `strict_json` refuses what JSON parsers disagree about; `body_limit` is in bytes.

    `larger` names the few paths where a whole file comes in, with their own limits: regular expressions.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        listener: str,
        body_limit: int,
        strict_json: bool,
        metrics: RequestMetrics | None = None,
        larger: Mapping[str, int] | None = None,
    ) -> None:
        self.app = app
        self.listener = listener
        self.body_limit = body_limit
        self.strict_json = strict_json
        self.metrics = metrics
        self.larger = [(re.compile(path), most) for path, most in (larger or {}).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _take_request_id(scope)
        started = time.perf_counter()
        status = 0
        complete = False

        async def guarded_send(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = int(message["status"])
                message = {**message, "headers": _with_safe_headers(message.get("headers", ()), request_id)}
            await send(message)
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            receive = await self._bounded(scope, receive)
            await self.app(scope, receive, guarded_send)
        except _Reply as reply:
            await problems.of_status(reply.status, reply.detail, scope)(scope, receive, guarded_send)
        except OstlerError as error:
            if status:
                raise
            await problems.of_error(error, scope)(scope, receive, guarded_send)
        except Exception:
            _log.exception("request failed", listener=self.listener, path=scope["path"], request_id=request_id)
            if status and not complete:  # half an answer is on its way: only a broken connection tells the client
                raise
            if not complete:
                await problems.of_bug(scope)(scope, receive, guarded_send)
        finally:
            self._count(scope, status, time.perf_counter() - started)

    async def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Read the whole body within the limit and the time, look at it, and hand it on."""
        if b"\0" in scope.get("raw_path", b"") or "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
            raise _Reply(400, "A NUL character has no place in a path or query.")
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return receive
        limit = next((most for path, most in self.larger if path.fullmatch(scope["path"])), self.body_limit)
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            raise _Reply(413, f"The body has {int(declared)} bytes; at most {limit} are taken here.")
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise _Reply(400, "The client left before its body was complete.")
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise _Reply(413, f"The body is longer than the {limit} bytes taken here.")
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise _Reply(408, f"The body did not arrive within {_BODY_SECONDS:.0f} s.") from None
        if self.strict_json and body and _is_json(headers.get(b"content-type", b"")):
            try:
                check_json(bytes(body))
            except ValueError as error:
                raise _Reply(400, f"The body is no JSON that Ostler reads: {error}.") from None
        whole = bytes(body)
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": whole, "more_body": False}

        return replay

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        if self.metrics is None:
            return
        route = getattr(scope.get("route"), "path", "(none)")
        self.metrics.total.labels(self.listener, scope["method"], route, str(status)).inc()
        self.metrics.seconds.labels(self.listener, route).observe(seconds)


class _Reply(Exception):
    """Answer with this status at once."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail


def check_json(body: bytes) -> None:
    """Raise `ValueError` for JSON that two parsers may read differently, or that a database cannot keep.

    Duplicate keys, NaN and Infinity, NUL characters, lone surrogates, deep nesting, another encoding than UTF-8.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeError:
        raise ValueError("it is not UTF-8 throughout") from None
    if b"\\u0000" in body or b"\0" in body:
        raise ValueError("a text in it has a NUL character")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice in one object")
    return found


def _is_json(content_type: bytes) -> bool:
    kind = content_type.split(b";", 1)[0].strip().lower()
    return kind == b"application/json" or kind.endswith(b"+json")


def _take_request_id(scope: MutableMapping[str, Any]) -> str:
    """The caller's `X-Request-Id` if it is sane, else a new one; the header that handlers read is made to agree."""
    others = [(name, value) for name, value in scope["headers"] if name != b"x-request-id"]
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    request_id = given if REQUEST_ID.fullmatch(given) else new_id("req")
    scope["headers"] = [*others, (b"x-request-id", request_id.encode())]
    scope.setdefault("state", {})["request_id"] = request_id
    return request_id


def _with_safe_headers(given: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    headers = [(bytes(name), bytes(value)) for name, value in given]
    present = {name.lower() for name, _ in headers}
    headers += [(name, value) for name, value in _HEADERS if name not in present]
    if b"cache-control" not in present:
        headers.append((b"cache-control", b"no-store"))
    headers.append((b"x-request-id", request_id.encode()))
    return headers
