"""gzip, with a bound: a packed file of a few kilobytes must not fill the memory. Called by `formats.read` only."""

from __future__ import annotations

import zlib

from ostler.core.errors import BadInput

MAGIC = b"\x1f\x8b"
LIMIT = 4 << 30
"""Bytes that a file may unpack to; a sweep of 100,000 ports is 15 to 40 MB."""
RATIO = 200
"""Times its packed size; recorded fabrics have 8 to 20, and deflate can reach 1,032."""
FREE = 64 << 20
"""Bytes up to which the ratio does not matter."""
MEMBERS = 100_000
"""Of one file; block-wise compressors make one of every 64 KiB."""
_CHUNK = 4 << 20
_PIECE = 1 << 16
"""Bytes fed at once: what was unpacked of a piece is lost where the piece is damaged."""


def unpack(data: bytes, name: str) -> tuple[bytes, str]:
    """The bytes themselves, and one line on what is missing where a gzip file is damaged or cut (else empty).

    Raises `BadInput` where it unpacks to too much, or to nothing at all.
    """
    if not data.startswith(MAGIC):
        return data, ""
    bound = min(LIMIT, max(FREE, RATIO * len(data)))
    view, at = memoryview(data), 0
    parts: list[bytes] = []
    total = members = 0
    damage = ""
    while data.startswith(MAGIC, at) and not damage:  # a gzip file may have several members, one behind the other
        members += 1
        stream = zlib.decompressobj(wbits=31)
        feed: bytes | memoryview = b""
        part = b""
        while not stream.eof:
            if not feed and len(part) < _CHUNK:
                feed = view[at : at + _PIECE]
                at += len(feed)
                if not feed:
                    damage = "the gzip file is cut off, only its begin was read"
                    break
            try:
                part = stream.decompress(feed, _CHUNK)
            except zlib.error as error:
                damage = f"the gzip file is damaged, only its begin was read ({error})"
                break
            feed = stream.unconsumed_tail
            total += len(part)
            if total > bound or members > MEMBERS:
                raise BadInput(
                    f"The gzip file unpacks to more than {bound >> 20} MiB from {len(data)} bytes, or has more than "
                    f"{MEMBERS} members. Unpack it yourself if it is what it should be.",
                    where=name,
                )
            parts.append(part)
        at -= len(stream.unused_data)
    if not total:
        raise BadInput(f"Nothing could be unpacked: {damage or 'the gzip file is empty'}.", where=name)
    return b"".join(parts), damage
