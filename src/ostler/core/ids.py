"""Identifiers: `kind_` plus 26 base-32 characters that sort by creation (a ULID). Called wherever a row is born.

The prefix makes an id in a log line say what it names. Format: https://github.com/ulid/spec (48 bits of milliseconds,
80 random bits, Crockford's alphabet), lower case.
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import NewType

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"

PermitId = NewType("PermitId", str)
"""The right to one disruptive action. Every disruptive port asks for one; only the brake issues them."""


_lock = threading.Lock()
_last = 0


def new_id(kind: str) -> str:
    """A fresh id such as `node_01hf…`; those of one process sort in the order of their making.

    Within a millisecond the random part counts up (the specification's monotonic ids); between processes ids sort to
    the millisecond.
    """
    global _last
    value = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    with _lock:
        if value >> 80 == _last >> 80 and value <= _last:
            value = _last + 1 + secrets.randbits(32)
        _last = value
    return f"{kind}_" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))
