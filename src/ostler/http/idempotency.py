"""`Idempotency-Key` on writes: the same key with the same request within a day gets the first answer, done once.

A layer between the edge and the operators' app (`operator.py`). The key is claimed in a transaction before the request
runs, so that two at once cannot both run; only successes are kept, so that what was refused may be tried again. Were
the server to die between the use case's commit and the keeping of its answer, the key is free again after a minute: a
client that retries then may do the thing twice, which for most of Ostler's writes the state of things refuses.

Answers that hold a secret are never stored; their repetition is told that it was done.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ostler.access.model import Principal
from ostler.core.errors import BadInput, Conflict
from ostler.db.engine import Database
from ostler.db.schema import idempotency
from ostler.db.tx import Tx

KEPT_SECONDS = 86_400.0
"""Real seconds for which an answer is given again."""

CLAIM_SECONDS = 60.0
"""Real seconds after which a claim without an answer is taken for abandoned."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_LARGEST = 1024 * 1024
"""Bytes of an answer that is kept."""
_SECRETS = re.compile(r"/v1/(tokens|webhooks).*|/v1/nodes/.+/seed", re.DOTALL)
"""Where answers hold secrets."""


@dataclass(frozen=True)
class _Answer:
    status: int
    content_type: str
    body: str | None
    """None: it held a secret."""


class Once:
    """The layer. `identify` tells who sent an Authorization header, or raises `Unauthenticated`."""

    def __init__(self, app: ASGIApp, db: Database, identify: Callable[[str | None], Principal]) -> None:
        self._app = app
        self._db = db
        self._identify = identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"]) if scope["type"] == "http" else {}
        given = headers.get(b"idempotency-key")
        if given is None or scope["method"] not in _WRITES or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        message = await receive()  # whole, as the edge hands it on
        key = given.decode("latin-1")
        authorization = headers.get(b"authorization", b"").decode("latin-1") or None
        what = b"\0".join((scope["method"].encode(), scope["path"].encode(), scope.get("query_string", b"")))
        digest = hashlib.sha256(what + b"\0" + bytes(message.get("body", b""))).hexdigest()
        name, known = await run_in_threadpool(self._begin, key, authorization, digest)
        if known is not None:
            await _again(known)(scope, receive, send)
            return
        await self._run(name, scope, message, receive, send)

    async def _run(self, name: str, scope: Scope, first: Message, receive: Receive, send: Send) -> None:
        status, content_type, kept = 0, "", bytearray()
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return first

        async def watch(message: Message) -> None:
            nonlocal status, content_type
            if message["type"] == "http.response.start":
                status = int(message["status"])
                content_type = dict(message.get("headers", ())).get(b"content-type", b"").decode("latin-1")
            elif len(kept) <= _LARGEST:
                kept.extend(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                # Kept before the client hears of it: one that has the answer can rely on getting it again.
                await run_in_threadpool(self._end, name, scope["path"], status, content_type, bytes(kept))
            await send(message)

        try:
            await self._app(scope, replay, watch)
        except BaseException:
            if not 200 <= status < 300:
                await run_in_threadpool(self._release, name)
            raise

    def _begin(self, key: str, authorization: str | None, digest: str) -> tuple[str, _Answer | None]:
        """Claim the key, or find the answer that is to be given again."""
        if not _KEY.fullmatch(key):
            raise BadInput("A key has 1 to 255 visible ASCII characters.", where="Idempotency-Key")
        who = self._identify(authorization)
        name = hashlib.sha256(f"{who.name}\0{key}".encode()).hexdigest()
        return name, self._db.write(lambda tx: _claim(tx, name, digest))

    def _end(self, name: str, path: str, status: int, content_type: str, body: bytes) -> None:
        if not 200 <= status < 300:
            self._release(name)
            return
        secret = _SECRETS.fullmatch(path) is not None or len(body) > _LARGEST
        values = {"status": status, "content_type": content_type, "body": None if secret else body.decode()}
        self._db.write(lambda tx: tx.execute(_of(name).values(**values)))

    def _release(self, name: str) -> None:
        self._db.write(lambda tx: tx.execute(idempotency.delete().where(idempotency.c.name == name)))


def _claim(tx: Tx, name: str, digest: str) -> _Answer | None:
    tx.lock(f"idempotency:{name}")
    tx.execute(idempotency.delete().where(idempotency.c.at < tx.real - KEPT_SECONDS))
    row = tx.one(sa.select(idempotency).where(idempotency.c.name == name))
    if row is None:
        tx.execute(idempotency.insert().values(name=name, request=digest, status=0, content_type="", at=tx.real))
        return None
    if row["request"] != digest:
        raise BadInput("This key was used for another request; make a new one.", where="Idempotency-Key")
    if row["status"]:
        return _Answer(row["status"], row["content_type"], row["body"])
    if row["at"] > tx.real - CLAIM_SECONDS:
        raise Conflict("The request with this key is still being worked on.", where="Idempotency-Key")
    tx.execute(_of(name).values(at=tx.real))
    return None


def _of(name: str) -> sa.Update:
    return idempotency.update().where(idempotency.c.name == name)


def _again(answer: _Answer) -> Response:
    if answer.body is None:
        raise Conflict("This was done already; its answer is not kept, as it held a secret.", where="Idempotency-Key")
    headers = {"idempotent-replayed": "true"}
    if answer.content_type:
        headers["content-type"] = answer.content_type
    return Response(answer.body, answer.status, headers)
