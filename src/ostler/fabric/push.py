"""A collection on its way from another host: as JSON, with the tools' output packed. Pure.

Written by `ostler fabric collect`, read by `api.py` at `POST /v1/fabrics/NAME/snapshots`. Hostile input: sizes are
bounded before anything is unpacked, and a host's clock orders nothing; only how long ago it looked is taken.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from ostler.adapters.fabric.port import MOST_BYTES, MOST_STDERR, Collection, Output
from ostler.core.errors import BadInput

MOST_OUTPUTS = 32
MOST_AGE_S = 3600.0
"""A look older than that says nothing of now."""


class OutputIn(BaseModel):
    """One tool's output: `data` is base64 of zlib's compression."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    tool: str = Field(min_length=1, max_length=64)
    argv: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=64)] = []
    data: str = Field(max_length=80 << 20)
    stderr: str = Field(default="", max_length=MOST_STDERR)
    status: int | None = Field(default=0, ge=-255, le=255)
    seconds: float = Field(default=0.0, ge=0, le=86_400)
    age_s: float | None = Field(default=None, ge=0, le=1e9)
    """How old a file was that something else wrote; null: made during this look."""


class CollectionIn(BaseModel):
    """What one host saw. `age_s`: how long ago the look began, in seconds of its own clock."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    vantage: str = Field(min_length=1, max_length=128)
    age_s: float = Field(default=0.0, ge=0, le=MOST_AGE_S)
    seconds: float = Field(default=0.0, ge=0, le=86_400)
    outputs: Annotated[list[OutputIn], Field(min_length=1, max_length=MOST_OUTPUTS)]


def unpacked(body: CollectionIn, now: float) -> Collection:
    """The collection as if it had been made here. `now`: real UTC seconds. Raises `BadInput`."""
    left = MOST_BYTES
    outputs: list[Output] = []
    for one in body.outputs:
        data = _inflated(one, left)
        left -= len(data)
        written = None if one.age_s is None else now - one.age_s
        outputs.append(
            Output(one.tool, tuple(one.argv) or (one.tool,), data, one.stderr, one.status, one.seconds, written)
        )
    return Collection(body.vantage, now - body.age_s, body.seconds, tuple(outputs))


def packed(collection: Collection, now: float) -> dict[str, Any]:
    """The body that `unpacked` reads. `now`: real UTC seconds."""
    return {
        "vantage": collection.vantage,
        "age_s": min(max(0.0, now - collection.started_at), MOST_AGE_S),
        "seconds": collection.seconds,
        "outputs": [_deflated(one, now) for one in _first(collection.outputs)],
    }


def _first(outputs: Sequence[Output]) -> Sequence[Output]:
    return outputs[:MOST_OUTPUTS]


def _deflated(one: Output, now: float) -> dict[str, Any]:
    return {
        "tool": one.tool,
        "argv": [part[:1024] for part in one.argv[:64]],
        "data": base64.b64encode(zlib.compress(one.data, 6)).decode(),
        "stderr": one.stderr[:MOST_STDERR],
        "status": one.status,
        "seconds": one.seconds,
        "age_s": None if one.taken_at is None else max(0.0, now - one.taken_at),
    }


def _inflated(one: OutputIn, most: int) -> bytes:
    where = f"outputs: {one.tool}"
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(base64.b64decode(one.data, validate=True), most + 1)
    except (binascii.Error, zlib.error, ValueError):
        raise BadInput("is not base64 of zlib's compression", where=where) from None
    if len(data) > most:
        raise BadInput(f"is more than {MOST_BYTES >> 20} MiB unpacked", where=where)
    if not unpacker.eof:
        raise BadInput("is cut off", where=where)
    return data
