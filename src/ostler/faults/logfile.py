"""Reading a log file as chunks of whole lines, in constant memory, whatever is in it. Used by `bulk.py`.

Plain or gzip (found by its magic number, so a pipe may carry it too); several gzip members; a truncated or corrupt
gzip file gives what could be read. A line longer than LINE_LIMIT keeps its first part.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from ostler.faults.formats import LINE_LIMIT

CHUNK = 128 << 10
"""Bytes per chunk: large enough that per-chunk costs vanish, small enough for the processor's cache and for the
allocator to hand the same memory out again (measured: 1 MiB costs a third of the speed in page faults)."""

_GZIP = b"\x1f\x8b\x08"
_OTHER_ARCHIVES = {
    b"\xfd7zXZ\0": "xz",
    b"(\xb5/\xfd": "zstd",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
    b"LPKSHHRH": "a binary journal (use journalctl -o json)",
}
_LONGEST_MAGIC = max(map(len, _OTHER_ARCHIVES))


@dataclass(slots=True)
class Trouble:
    """What was in the way of reading a log. Counted, never raised."""

    lines: int = 0
    """Lines read in all; no trouble, but counted beside it."""
    long_lines: int = 0
    undecodable_lines: int = 0
    nul_bytes: int = 0
    unbelieved_lines: int = 0
    """Lines that look like a fault but do not have the file's format."""
    gzip_error: str = ""
    archive: str = ""

    def sentences(self) -> list[str]:
        """One for each kind of trouble met."""
        said = []
        if self.gzip_error:
            said.append(f"gzip data is {self.gzip_error}; scanned what could be read")
        if self.archive:
            said.append(f"this looks like {self.archive}, which is not read: unpack it first")
        if self.long_lines:
            said.append(
                f"{self.long_lines} lines longer than {LINE_LIMIT // 1024} KiB, of which the first part was looked at"
            )
        if self.undecodable_lines:
            said.append(f"{self.undecodable_lines} lines are not valid UTF-8")
        if self.nul_bytes:
            said.append(f"{self.nul_bytes} NUL bytes")
        if self.unbelieved_lines:
            said.append(f"{self.unbelieved_lines} lines look like faults but are not in the file's format; passed over")
        return said


Read = Callable[[int], bytes]


def _gunzip(head: bytes, read: Read, trouble: Trouble) -> Iterator[bytes]:
    """The content of all gzip members, at most CHUNK bytes at a time, so that a gzip bomb costs time and no memory."""
    unpack = zlib.decompressobj(wbits=31)
    packed = head
    while True:
        if not packed:
            packed = read(CHUNK // 4)
        if not packed:
            if not unpack.eof:
                trouble.gzip_error = "cut off"
            return
        try:
            out = unpack.decompress(packed, CHUNK)
        except zlib.error:
            trouble.gzip_error = "corrupt"
            return
        if out:
            yield out
        if unpack.eof:
            rest = unpack.unused_data.lstrip(b"\0") or read(CHUNK // 4).lstrip(b"\0")
            if not rest:
                return
            if not rest.startswith(_GZIP[:2]):
                trouble.gzip_error = "followed by something else"
                return
            unpack, packed = zlib.decompressobj(wbits=31), rest
        else:
            packed = unpack.unconsumed_tail


def _plain(head: bytes, read: Read) -> Iterator[bytes]:
    data = head
    while data:
        yield data
        data = read(CHUNK)


def blocks(stream: IO[bytes], trouble: Trouble) -> Iterator[bytes]:
    """The file's content in pieces of any size, as soon as they come: a pipe may have more to say much later."""
    read: Read = getattr(stream, "read1", stream.read)
    head = read(CHUNK)
    while len(head) < _LONGEST_MAGIC and (more := read(CHUNK)):
        head += more
    if head.startswith(_GZIP):
        return _gunzip(head, read, trouble)
    for magic, name in _OTHER_ARCHIVES.items():
        if head.startswith(magic):
            trouble.archive = name
    return _plain(head, read)


def line_chunks(pieces: Iterator[bytes], trouble: Trouble) -> Iterator[bytes]:
    """Regroup pieces so that each ends with a newline (but the file's last). A line that does not end within LINE_LIMIT
    is cut there; what follows of it is dropped."""
    carry = b""
    skipping = False
    for piece in pieces:
        data = piece
        if skipping:
            end = data.find(b"\n")
            if end < 0:
                continue
            data, skipping = data[end:], False  # keeps the newline that ends the long line
        end = data.rfind(b"\n") + 1
        if not end:
            carry += data
            if len(carry) > LINE_LIMIT:
                yield carry[:LINE_LIMIT]
                trouble.long_lines += 1
                carry, skipping = b"", True
            continue
        yield carry + data[:end] if carry else data[:end]
        carry = data[end:]
        if len(carry) > LINE_LIMIT:
            yield carry[:LINE_LIMIT]
            trouble.long_lines += 1
            carry, skipping = b"", True
    if carry:
        yield carry


def count_trouble(chunk: bytes, trouble: Trouble) -> None:
    """Count what is odd in a chunk. Costs next to nothing on ordinary text."""
    trouble.nul_bytes += chunk.count(0)
    if not chunk.isascii():
        try:
            chunk.decode()
        except UnicodeDecodeError:
            trouble.undecodable_lines += sum(_undecodable(line) for line in chunk.split(b"\n"))
    start, size = 0, len(chunk)
    while size - start > LINE_LIMIT:
        end = chunk.rfind(b"\n", start, start + LINE_LIMIT + 1)
        if end < 0:
            trouble.long_lines += 1
            end = chunk.find(b"\n", start)
            if end < 0:
                return
        start = end + 1


def _undecodable(line: bytes) -> bool:
    if line.isascii():
        return False
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False
