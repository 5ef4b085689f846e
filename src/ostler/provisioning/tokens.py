"""Join tokens: derived, not stored. Called by `service.py` when a machine asks to boot and when its seed is rendered.

The seed must show the token on every GET until the node joins, and the database must not hold secrets. So the token is
an HMAC of the boot request's nonce, MAC and serial number under a key that only the servers have; the database keeps
the token's SHA-256. Whoever reads the database, or a backup of it, can join nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from ostler.core.errors import BadInput

KEY_BYTES = 32


def new_nonce() -> str:
    """160 random bits that name one boot request in its seed's URL."""
    return secrets.token_urlsafe(20)


def derive(key: bytes, *, nonce: str, mac: str, serial: str) -> str:
    """The join token of one boot request: 256 bits in URL-safe base 64. Raises `BadInput` for a short key."""
    if len(key) < KEY_BYTES:
        raise BadInput(f"The key that join tokens are derived from has {len(key)} bytes; {KEY_BYTES} are needed.")
    message = "\n".join(("ostler-join-1", nonce, mac, serial)).encode()
    return base64.urlsafe_b64encode(hmac.digest(key, message, "sha256")).rstrip(b"=").decode()


def digest(token: str) -> str:
    """What the database keeps of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
