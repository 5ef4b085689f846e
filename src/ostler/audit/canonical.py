"""One spelling per value, so that a hash means the same on SQLite, on PostgreSQL and in an exported file.

Used by `audit/` for leaves and by `audit` and `events` to clean what they are given before it is stored. The form is
close to RFC 8785 (sorted keys, no spaces, UTF-8) with one difference: a whole number is written without a point
whatever its type, in full, because PostgreSQL's JSONB gives `1e20` back as an integer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_DEPTH = 64


def canonical(value: Any) -> bytes:
    """The canonical bytes of a JSON value. Raises `ValueError` for what JSON cannot hold."""
    return json.dumps(
        _whole(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return value


def clean_text(text: str) -> str:
    """The text with NUL and lone surrogates replaced by U+FFFD: no database and no UTF-8 can hold them."""
    return text.replace("\0", "�").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def clean(value: Any, *, depth: int = 0) -> Any:
    """Plain JSON that every database keeps unchanged: texts cleaned, tuples and sets as lists, NaN and infinities as
    text.

    Raises `TypeError` for a value that is no JSON at all, which is a caller's bug, and `ValueError` for one nested
    deeper than 64.
    """
    if depth > _DEPTH:
        raise ValueError(f"nested deeper than {_DEPTH}")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean_text(str(value))
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {clean_text(str(key)): clean(item, depth=depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item, depth=depth + 1) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((clean(item, depth=depth + 1) for item in value), key=canonical)
    raise TypeError(f"{type(value).__name__} is no JSON value")
