"""Verifies a webhook from its raw bytes. Called by consumers in whatever web framework they use.

    event = verify(body, headers, [secret])

Answers the event, or raises `VerificationError`: the only exception, whatever the bytes. Answer 401 to that, and 2xx
only once the event is durable on your side (`inbox.py` does both in one transaction).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ostler.wire import signatures

TOLERANCE_SECONDS = 300.0
"""How far a signature's timestamp may be from now, before or after: five minutes (Standard Webhooks 1.0.0; Stripe)."""

BODY_LIMIT = 1 << 20
"""Bytes. An event is far smaller."""

Headers: TypeAlias = Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[str, str] | tuple[bytes, bytes]]
"""As frameworks give them: a mapping in any case, or ASGI's list of pairs of bytes."""

_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
_MOST_SIGNATURES = 10


class VerificationError(Exception):
    """This is no webhook from who holds the secret, or not a fresh one. The message never contains a secret."""


@dataclass(frozen=True)
class Event:
    """A verified event. See `/v1/event-types` for what `data` holds per type."""

    id: str
    type: str
    version: int
    subject: str
    seq: int
    """1, 2, 3, … per subject."""
    time: str
    data: Mapping[str, Any]
    tenant: str | None = None


def verify(
    body: bytes,
    headers: Headers,
    secrets: Sequence[str],
    *,
    now: float | None = None,
    tolerance: float = TOLERANCE_SECONDS,
) -> Event:
    """Check signature and age of a webhook, then read it.

    `body` are the bytes as received, before any parsing. Each secret is tried, so that two can be given during a
    rotation. Either signature scheme will do (`x-coreweave-signature` or Standard Webhooks); both are checked in
    constant time. `now` are UTC seconds; left out, the system's clock.
    """
    if not isinstance(body, bytes | bytearray | memoryview):
        raise VerificationError("the body must be the raw bytes, as received")
    raw = bytes(body)
    if len(raw) > BODY_LIMIT:
        raise VerificationError(f"the body has more than {BODY_LIMIT} bytes")
    keys = [secrets] if isinstance(secrets, str) else list(secrets)
    if not keys or not all(isinstance(key, str) and key for key in keys):
        raise VerificationError("no secret to verify with")
    given = _lower(headers)
    moment = time.time() if now is None else now
    if not (_timestamped(raw, given, keys, moment, tolerance) or _standard(raw, given, keys, moment, tolerance)):
        raise VerificationError("no valid signature: wrong secret, changed body, or headers missing")
    event = _read(raw)
    if given.get(signatures.STANDARD_ID, event.id) != event.id:
        raise VerificationError("the webhook-id header names another event than the body")
    return event


def _timestamped(body: bytes, given: dict[str, str], keys: list[str], now: float, tolerance: float) -> bool:
    signature, timestamp = given.get(signatures.SIGNATURE), given.get(signatures.TIMESTAMP)
    if signature is None or timestamp is None:
        return False
    _fresh(timestamp, now, tolerance)
    return _any(signatures.same(signatures.timestamped(key, timestamp, body), signature) for key in keys)


def _standard(body: bytes, given: dict[str, str], keys: list[str], now: float, tolerance: float) -> bool:
    message_id, timestamp = given.get(signatures.STANDARD_ID), given.get(signatures.STANDARD_TIMESTAMP)
    shown = given.get(signatures.STANDARD_SIGNATURE)
    if message_id is None or timestamp is None or shown is None:
        return False
    _fresh(timestamp, now, tolerance)
    candidates = shown.split(" ")[:_MOST_SIGNATURES]
    return _any(
        signatures.same(signatures.standard(key, message_id, timestamp, body), candidate)
        for key in keys
        for candidate in candidates
    )


def _any(results: Iterable[bool]) -> bool:
    """`any` that looks at all of them."""
    return sum([bool(result) for result in results]) > 0


def _fresh(timestamp: str, now: float, tolerance: float) -> None:
    if _TIMESTAMP.fullmatch(timestamp) is None:
        raise VerificationError("the timestamp is no whole number of seconds")
    age = now - int(timestamp)
    if not abs(age) <= tolerance:
        raise VerificationError(f"the timestamp is {abs(age):.0f} s {'old' if age > 0 else 'ahead of this clock'}")


def _lower(headers: Headers) -> dict[str, str]:
    """The headers by lower-case name. One that stands there twice is refused: which one counts would be a guess."""
    pairs: Any
    found: dict[str, str] = {}
    try:
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        for name, value in pairs:
            key = (name.decode("latin-1") if isinstance(name, bytes) else str(name)).lower()
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            if not key.startswith(("x-coreweave-", "webhook-")):
                continue
            if key in found or not isinstance(text, str):
                raise VerificationError(f"the header {key} is there twice, or is no text")
            text.encode()  # a lone surrogate is no header
            found[key] = text
    except (TypeError, ValueError, AttributeError):
        raise VerificationError("the headers are no mapping and no pairs of texts") from None
    return found


def _read(raw: bytes) -> Event:
    try:
        document = json.loads(raw.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise VerificationError("the body is signed but is no JSON in UTF-8") from None
    kinds: dict[str, Any] = {
        "id": str,
        "type": str,
        "version": int,
        "subject": str,
        "seq": int,
        "time": str,
        "data": dict,
    }
    if not isinstance(document, dict):
        raise VerificationError("the body is signed but is no event")
    for name, kind in kinds.items():
        value = document.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise VerificationError(f"the body is signed but '{name}' is missing or of the wrong type")
    tenant = document.get("tenant")
    if tenant is not None and not isinstance(tenant, str):
        raise VerificationError("the body is signed but 'tenant' is no text")
    return Event(**{name: document[name] for name in kinds}, tenant=tenant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
