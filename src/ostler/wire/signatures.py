"""How a webhook is signed: the bytes that go under the HMAC, in both schemes. Used by `events/` to sign and `sdk/` to
verify.

| scheme | headers | HMAC-SHA256 over | shown as |
|---|---|---|---|
| timestamped | `x-coreweave-timestamp`, `x-coreweave-signature` | `{timestamp}.{body}` | hex |
| Standard | `webhook-id`, `webhook-timestamp`, `webhook-signature` | `{id}.{timestamp}.{body}` | `v1,`+base64 |

The first is byte for byte what Stripe calls v1; the second is https://github.com/standard-webhooks/standard-webhooks
(spec/standard-webhooks.md). Timestamps are whole UTC seconds of real time. Pure: no clock, no I/O.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

SIGNATURE = "x-coreweave-signature"
TIMESTAMP = "x-coreweave-timestamp"
STANDARD_ID = "webhook-id"
STANDARD_TIMESTAMP = "webhook-timestamp"
STANDARD_SIGNATURE = "webhook-signature"

_STANDARD_PREFIX = "whsec_"


def timestamped(secret: str, timestamp: int | str, body: bytes) -> str:
    """The value of `x-coreweave-signature`: 64 lower-case hex digits.

    The key is the secret's UTF-8 bytes as they are.
    """
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def standard(secret: str, message_id: str, timestamp: int | str, body: bytes) -> str:
    """One value of `webhook-signature`, e.g. `v1,g0hM9SsE…`."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(standard_key(secret), signed, hashlib.sha256).digest()).decode()


def standard_key(secret: str) -> bytes:
    """The key bytes of the Standard Webhooks scheme.

    A secret written as `whsec_<base64>` is decoded, as that specification asks. Any other secret is used as its UTF-8
    bytes. A `whsec_` secret that is no base64 counts as "any other", so that signing never fails.
    """
    if secret.startswith(_STANDARD_PREFIX):
        encoded = secret[len(_STANDARD_PREFIX) :]
        try:
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if key:
            return key
    return secret.encode()


def headers(message_id: str, timestamp: int, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """Every signature header of one delivery. The first secret is the current one.

    During a rotation the standard header carries one signature per secret. The timestamped header has room for one: the
    current secret's.
    """
    if not secrets:
        raise ValueError("a delivery without a secret cannot be signed")
    return {
        SIGNATURE: timestamped(secrets[0], timestamp, body),
        TIMESTAMP: str(timestamp),
        STANDARD_ID: message_id,
        STANDARD_TIMESTAMP: str(timestamp),
        STANDARD_SIGNATURE: " ".join(standard(secret, message_id, timestamp, body) for secret in secrets),
    }


def same(left: str, right: str) -> bool:
    """Whether two signatures are equal, in a time that does not tell where they differ. Any text is accepted."""
    return hmac.compare_digest(left.encode("utf-8", "replace"), right.encode("utf-8", "replace"))
