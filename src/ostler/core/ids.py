"""Identifiers: `kind_` plus 26 base-32 characters that sort by creation (a ULID). Called wherever a row is born.

The prefix makes an id in a log line say what it names. Format: https://github.com/ulid/spec (48 bits of milliseconds,
80 random bits, Crockford's alphabet), lower case.
"""

from __future__ import annotations

import secrets
import time
from typing import NewType

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"

PermitId = NewType("PermitId", str)
"""The right to one disruptive action. Every disruptive port asks for one; only the brake issues them."""


def new_id(kind: str) -> str:
    """A fresh id such as `node_01hf…`; ids of one kind sort in the order of their making (to the millisecond)."""
    value = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    return f"{kind}_" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))
