"""One HTTP/1.1 GET on a kept connection, written and read by hand. Used by `redfish_transport.py`.

Ten thousand BMCs are asked some 2,000 questions a second by one process: what a general client does for each (objects,
header parsers, a timer) costs five times what the answer does. Here is only what a GET of a JSON document needs, with
the bounds that a hostile service calls for: every wait ends at the deadline, every length is checked before it is
believed.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import BadStatusLine, HTTPException

_HEAD_BYTES = 64 << 10
_HEADERS = 100
"""As many as `http.client` takes."""
_CHUNK = 64 << 10
_LINE = 1024
"""Longest line before a chunk."""
_INTERIM = 5
"""Interim answers (1xx) that are skipped before the real one."""
_BEGIN = b"HTTP/1."
_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: |$)")
_DIGITS = re.compile(r"[0-9]{1,15}")
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,12}")
_NO_BODY = (204, 304)
REDIRECTS = (301, 302, 303, 307, 308)


class Misbehaved(Exception):
    """The answer breaks the rules of HTTP or of Redfish; the text says how."""


class TooSlow(OSError):
    """The whole-request deadline passed."""


class Dropped(ConnectionError):
    """The connection ended. `unanswered`: before a byte of the answer came."""

    def __init__(self, unanswered: bool) -> None:
        super().__init__("the connection ended")
        self.unanswered = unanswered


@dataclass(frozen=True, slots=True)
class Reply:
    """Header names in lower case; of a repeated one the last."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def exchange(
    sock: socket.socket, request: bytes, *, read_seconds: float, deadline: float, body_bytes: int
) -> tuple[Reply, bool]:
    """Send and read the answer; also whether the connection can serve another request.

    `deadline` is an instant of `time.monotonic()`. Raises `Dropped`, `TooSlow`, `TimeoutError`, other `OSError`,
    `HTTPException` for what is no HTTP, `Misbehaved` for what is too large or encoded unasked.
    """
    reader = _Reader(sock, read_seconds, deadline)
    try:
        sock.sendall(request)
    except (BrokenPipeError, ConnectionResetError, ssl.SSLError) as error:
        raise Dropped(unanswered=True) from error
    for _ in range(_INTERIM):
        minor, status, headers = _head(reader)
        if status >= 200:
            break
    else:
        raise HTTPException("no answer after interim ones")
    keep = headers.get("connection", "").lower() == "keep-alive" if minor == 0 else _keeps(headers)
    coding = headers.get("transfer-encoding", "").strip().lower()
    length = headers.get("content-length")
    if status in _NO_BODY:
        body = b""
    elif coding:
        if coding != "chunked":
            raise Misbehaved("the answer is encoded in a way nobody asked for")
        body, keep = _chunked(reader, body_bytes), keep and length is None
    elif length is not None:
        if not _DIGITS.fullmatch(length):
            raise HTTPException("no length")
        body = reader.take(_bounded(int(length), body_bytes))
    else:
        body, keep = reader.rest(body_bytes), False
    return Reply(status, headers, _plain(body, headers, body_bytes)), keep and reader.empty


class _Reader:
    """The bytes of one answer, as they come."""

    def __init__(self, sock: socket.socket, read_seconds: float, deadline: float) -> None:
        self._sock = sock
        self._read_seconds = read_seconds
        self._deadline = deadline
        self._buffer = bytearray()
        self._any = False
        sock.settimeout(max(0.001, min(read_seconds, deadline - time.monotonic())))

    @property
    def empty(self) -> bool:
        return not self._buffer

    def more(self) -> bool:
        """Wait for bytes; False at the end of the connection."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TooSlow
        if left < self._read_seconds:
            self._sock.settimeout(left)
        try:
            chunk = self._sock.recv(_CHUNK)
        except (ConnectionResetError, ssl.SSLError) as error:
            raise Dropped(unanswered=not self._any) from error
        self._buffer += chunk
        self._any = self._any or bool(chunk)
        return bool(chunk)

    def head(self) -> bytes:
        """Up to the empty line, which is left out."""
        start = 0
        while (found := _END.search(self._buffer, start)) is None:
            if len(self._buffer) > _HEAD_BYTES:
                raise HTTPException("endless headers")
            start = max(0, len(self._buffer) - 3)
            if not self.more():
                raise Dropped(unanswered=not self._any)
            if not self._buffer.startswith(_BEGIN[: len(self._buffer)]):
                raise BadStatusLine("")
        head = bytes(self._buffer[: found.start()])
        del self._buffer[: found.end()]
        return head

    def take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            if not self.more():
                raise Dropped(unanswered=False)
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def line(self) -> bytes:
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > _LINE:
                raise HTTPException("endless line")
            if not self.more():
                raise Dropped(unanswered=False)
        return self.take(end + 1).rstrip(b"\r\n")

    def rest(self, limit: int) -> bytes:
        while self.more():
            _bounded(len(self._buffer), limit)
        return self.take(_bounded(len(self._buffer), limit))


def _head(reader: _Reader) -> tuple[int, int, dict[str, str]]:
    """(minor version, status, headers). A folded line is no header of ours and is left out."""
    raw = reader.head()
    status = _STATUS.match(raw)
    if status is None:
        raise BadStatusLine(raw[:40].decode("latin-1"))
    lines = raw.decode("latin-1").split("\n")
    if len(lines) > _HEADERS + 1:
        raise HTTPException("more than 100 headers")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or line[0] in " \t":
            continue
        name, value = name.lower(), value.strip()
        if name == "content-length" and headers.get(name, value) != value:
            raise HTTPException("two lengths")
        headers[name] = value
    return int(status[1]), int(status[2]), headers


def _keeps(headers: Mapping[str, str]) -> bool:
    return "close" not in headers.get("connection", "").lower()


def _bounded(size: int, limit: int) -> int:
    if size > limit:
        raise Misbehaved(f"the answer is larger than {limit >> 20} MiB")
    return size


def _chunked(reader: _Reader, limit: int) -> bytes:
    body = bytearray()
    while True:
        size = reader.line().partition(b";")[0].strip()
        if not _SIZE.fullmatch(size):
            raise HTTPException("no chunk")
        count = int(size, 16)
        if count == 0:
            break
        body += reader.take(_bounded(len(body) + count, limit) - len(body))
        if reader.line():
            raise HTTPException("a chunk that is longer than it says")
    for _ in range(_HEADERS):  # trailers say nothing to us
        if not reader.line():
            return bytes(body)
    raise HTTPException("endless trailers")


def _plain(body: bytes, headers: Mapping[str, str], limit: int) -> bytes:
    encoding = headers.get("content-encoding")
    return body if encoding is None or not body else unpacked(body, encoding, limit)


def unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """The body as it was before `encoding`; never more than `limit` bytes are unpacked."""
    coding = encoding.strip().lower()
    if coding in ("", "identity"):
        return body
    if coding != "gzip":
        raise Misbehaved("the answer is encoded in a way nobody asked for")
    try:
        found = zlib.decompressobj(31).decompress(body, limit + 1)
    except zlib.error:
        raise Misbehaved("the answer is no valid gzip") from None
    _bounded(len(found), limit)
    return found
