"""One GET by hand over a real pair of sockets: what is read, what is refused, and when the connection is kept."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import BadStatusLine, HTTPException

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.adapters.bmc.redfish_exchange import Dropped, Misbehaved, Reply, TooSlow, exchange

LIMIT = 1 << 20
OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def answering(*parts: bytes, hang_up: bool) -> Iterator[socket.socket]:
    """A socket whose other end reads a request, sends the parts, and hangs up or keeps still."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            theirs.recv(65536)
            for part in parts:
                theirs.sendall(part)
            if hang_up:
                theirs.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # we hung up first

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield ours
    finally:
        ours.close()
        thread.join()
        theirs.close()


def ask(*parts: bytes, hang_up: bool = False, within: float = 30.0) -> tuple[Reply, bool]:
    with answering(*parts, hang_up=hang_up) as sock:
        return exchange(
            sock, b"GET / HTTP/1.1\r\n\r\n", read_seconds=30.0, deadline=time.monotonic() + within, body_bytes=LIMIT
        )


@pytest.mark.parametrize(
    ("raw", "body", "kept"),
    [
        (OK + b"Content-Length: 2\r\n\r\n{}", b"{}", True),
        (OK + b"content-length:2\r\n\r\n{}", b"{}", True),
        (OK + b"Content-Length: 2\n\n{}", b"{}", True),
        (OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", b"{}", True),
        (OK + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}", b"{}", False),
        (OK + b"Content-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n", b"{}", False),
        (OK + b"X: a\r\n folded: b\r\nContent-Length: 0\r\n\r\n", b"", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\n{}", b"{}", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}", b"{}", True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n", b"{}", True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nTrailer: x\r\n\r\n", b"{}", True),
        (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"{}", False),
        (OK + b"Content-Encoding: gzip\r\nContent-Length: 22\r\n\r\n" + gzip.compress(b"{}", mtime=0), b"{}", True),
    ],
)
def test_what_is_read_and_whether_the_connection_is_kept(raw: bytes, body: bytes, kept: bool) -> None:
    reply, keeps = ask(raw)
    assert (reply.body, keeps) == (body, kept)


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    reply, keeps = ask(OK + b"\r\n{}", hang_up=True)
    assert (reply.body, keeps) == (b"{}", False)


def test_bytes_that_come_one_by_one() -> None:
    raw = OK + b"ETag: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    reply, keeps = ask(*(raw[n : n + 1] for n in range(len(raw))))
    assert (reply.body, reply.headers["etag"], keeps) == (b"{}", "x", True)


@pytest.mark.parametrize(
    ("raw", "error", "says"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", BadStatusLine, "."),
        (b"HTTP/2.0 200 OK\r\n\r\n", BadStatusLine, "."),
        (b"HTTP/1.1 999 OK\r\n\r\n", BadStatusLine, "."),
        (b"HTTP/1.1 2000 OK\r\n\r\n", BadStatusLine, "."),
        (OK + b"X: y\r\n" * 101 + b"\r\n", HTTPException, "100 headers"),
        (OK + b"X: " + b"y" * 70_000, HTTPException, "endless headers"),
        (OK + b"Content-Length: -1\r\n\r\n", HTTPException, "no length"),
        (OK + b"Content-Length: 0x2\r\n\r\n{}", HTTPException, "no length"),
        (OK + "Content-Length: ²\r\n\r\n".encode("latin-1"), HTTPException, "no length"),
        (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", HTTPException, "two lengths"),
        (OK + b"Content-Length: 1048577\r\n\r\n", Misbehaved, "larger than 1 MiB"),
        (OK + b"\r\n" + b"x" * (LIMIT + 1), Misbehaved, "larger than 1 MiB"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n100001\r\n", Misbehaved, "larger than 1 MiB"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", HTTPException, "no chunk"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", HTTPException, "no chunk"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 2000, HTTPException, "endless line"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}}\r\n", HTTPException, "longer than it says"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 200, HTTPException, "endless trailers"),
        (OK + b"Transfer-Encoding: gzip\r\n\r\n", Misbehaved, "nobody asked for"),
        (OK + b"Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx", Misbehaved, "nobody asked for"),
        (OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", Misbehaved, "no valid gzip"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9, HTTPException, "interim"),
    ],
)
def test_what_is_refused(raw: bytes, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ask(raw)


def test_a_gzip_bomb_is_stopped_at_the_limit() -> None:
    body = gzip.compress(b" " * (64 << 20))
    with pytest.raises(Misbehaved, match="larger than 1 MiB"):
        ask(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize(
    ("raw", "unanswered"),
    [
        (b"", True),
        (b"HTT", False),
        (OK + b"Content-Length: 5\r\n\r\n{}", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5", False),
    ],
)
def test_a_connection_that_ends_early(raw: bytes, unanswered: bool) -> None:
    with pytest.raises(Dropped) as caught:
        ask(raw, hang_up=True)
    assert caught.value.unanswered is unanswered


@pytest.mark.parametrize("raw", [b"", OK, OK + b"Content-Length: 5\r\n\r\n{"])
def test_the_deadline_ends_a_wait(raw: bytes) -> None:
    with pytest.raises((TimeoutError, TooSlow)):
        ask(raw, within=0.05)


def test_a_deadline_that_has_passed_waits_for_nothing() -> None:
    with pytest.raises((TimeoutError, TooSlow)):
        ask(OK, within=-1.0)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_end_in_an_answer_or_a_known_error(raw: bytes, begins_well: bool) -> None:
    begin = OK if begins_well else b""
    try:
        reply, _ = ask(begin + raw, hang_up=True)
    except (OSError, HTTPException, Misbehaved):
        return
    assert len(reply.body) <= LIMIT
