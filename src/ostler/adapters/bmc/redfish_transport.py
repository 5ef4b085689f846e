"""The transport under the Redfish client: a ceiling on time and size, and no way elsewhere. Used by `redfish_wire.py`.

DMTF's client reads an answer of any size, follows redirects with the session's token, and its time-out starts anew with
each byte (measured in ADR 003). All of that is decided here, in one place, below the library. Questions of the watch
(`BoundedAdapter.get`) go over the same connection without passing through the library at all.
"""

from __future__ import annotations

import contextlib
import functools
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse
from urllib3.util.ssl_ import create_urllib3_context

from ostler.adapters.bmc.redfish_exchange import REDIRECTS, Dropped, Misbehaved, Reply, TooSlow, exchange, unpacked

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True)
class Limits:
    """What one BMC may cost us. In the recorded trees of real servers no answer that Ostler reads reaches 64 KiB."""

    connect_seconds: float = 5.0
    read_seconds: float = 15.0
    """Silence on an open connection."""
    request_seconds: float = 30.0
    """One request in all: a BMC that trickles bytes gets no longer."""
    body_bytes: int = 4 << 20
    resources: int = 4000
    """Resources one operation may read; a whole 8-GPU tree has about 1,000."""
    operation_seconds: float = 180.0
    layout_seconds: float = 3600.0
    """How long a conversation believes what it looked up of the tree: the host, where sensors stand."""


def printable(value: object, limit: int = 200) -> str:
    """A BMC's text, fit for one line of ours: no control characters, bounded. Empty for what is no string."""
    if not isinstance(value, str):
        return ""
    if not value.isprintable():
        value = _CONTROL.sub(" ", value)
    return value.strip()[:limit]


class BoundedAdapter(HTTPAdapter):
    """`requests`' transport with a ceiling on time and size, and no way elsewhere."""

    def __init__(self, limits: Limits, fingerprint: str | None, ca_file: str | None) -> None:
        self._limits = limits
        self._fingerprint = fingerprint
        self._ca_file = ca_file
        self._pool: HTTPConnectionPool | None = None
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        pool_kwargs["ssl_context"] = _context(self._ca_file, self._fingerprint is not None)
        if self._fingerprint is not None:
            pool_kwargs["assert_fingerprint"] = self._fingerprint
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **pool_kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self._limits.request_seconds)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        limits = self._limits
        deadline = time.monotonic() + limits.request_seconds
        request.headers["Accept-Encoding"] = "gzip, identity"
        kwargs |= {"stream": True, "timeout": (limits.connect_seconds, limits.read_seconds), "proxies": {}}
        response = super().send(request, **kwargs)
        try:
            if response.is_redirect:
                raise Misbehaved(f"{printable(request.path_url)} redirects elsewhere, which Redfish has no need of")
            response._content = self._body(response.raw, deadline)
        except BaseException:
            response.close()
            raise
        response._content_consumed = True
        response.raw.release_conn()
        return response

    def _body(self, raw: HTTPResponse, deadline: float) -> bytes:
        limit = self._limits.body_bytes
        body = bytearray()
        while chunk := raw.read1(65536, decode_content=False):
            body += chunk
            if len(body) > limit:
                raise Misbehaved(f"the answer is larger than {limit >> 20} MiB")
            if time.monotonic() > deadline:
                raise TooSlow
        return unpacked(bytes(body), raw.headers.get("content-encoding", ""), limit)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> HTTPConnectionPool:
        """The library asks here for its connections: with the TLS settings that it decided on."""
        self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return self._pool

    def get(self, target: str, head: bytes) -> Reply:
        """Ask for `target` on the connection that the library opened; `head`: the header lines, with the empty one.

        A connection that the BMC closed while nothing was asked is opened again, once: nothing was done by a GET.
        Raises as `exchange` does, and urllib3's errors where no connection comes about.
        """
        limits, pool = self._limits, self._pool
        if pool is None:
            raise RuntimeError("the library has not connected yet")
        deadline = time.monotonic() + limits.request_seconds
        request = b"GET " + target.encode("ascii") + head
        while True:
            connection = pool._get_conn()
            new = connection.is_closed
            keep = False
            try:
                if new:
                    connection.timeout = limits.connect_seconds
                    connection.connect()
                reply, keep = exchange(
                    _socket(connection),
                    request,
                    read_seconds=limits.read_seconds,
                    deadline=deadline,
                    body_bytes=limits.body_bytes,
                )
                break
            except Dropped as error:
                if new or not error.unanswered:
                    raise
            finally:
                if not keep:
                    connection.close()
                pool._put_conn(connection)
        if reply.status in REDIRECTS and "location" in reply.headers:
            raise Misbehaved(f"{printable(target)} redirects elsewhere, which Redfish has no need of")
        return reply


def _socket(connection: Any) -> socket.socket:
    found: socket.socket = connection.sock  # urllib3 types it None, as it is before `connect`
    return found


class _DeadlineHttp(HTTPConnection):
    seconds = 30.0

    def getresponse(self) -> Any:
        return _within(self.seconds, self.sock, super().getresponse)


class _DeadlineHttps(HTTPSConnection):
    seconds = 30.0

    def getresponse(self) -> Any:
        return _within(self.seconds, self.sock, super().getresponse)


@functools.cache
def _context(ca_file: str | None, pinned: bool) -> ssl.SSLContext:
    """One for all BMCs that are checked alike: one for each connection loads the system's authorities, 20 ms a time.

    urllib3 loads `ca_file` into it, and sets its checks anew with each connection: to the same, within one key.
    """
    return create_urllib3_context(cert_reqs=ssl.CERT_NONE if ca_file is None else ssl.CERT_REQUIRED)


@functools.cache
def _pools(seconds: float) -> dict[str, type[HTTPConnectionPool]]:
    """Connection pools whose connections know the deadline; urllib3 chooses them by class, not by value."""
    plain = {"ConnectionCls": type("Connection", (_DeadlineHttp,), {"seconds": seconds})}
    tls = {"ConnectionCls": type("Connection", (_DeadlineHttps,), {"seconds": seconds})}
    return {"http": type("Pool", (HTTPConnectionPool,), plain), "https": type("Pool", (HTTPSConnectionPool,), tls)}


def _within(seconds: float, sock: Any, read: Callable[[], HTTPResponse]) -> HTTPResponse:
    """Read status and headers, but end after `seconds` even when bytes keep trickling in.

    A socket's time-out starts anew with each byte, so a timer closes the socket under the reader instead.
    """
    expired = threading.Event()
    timer = threading.Timer(seconds, _hang_up, (sock, expired))
    timer.daemon = True
    timer.start()
    try:
        response = read()
        if expired.is_set():  # a connection that ends among the headers counts as their end
            response.close()
            raise TooSlow
        return response
    except (OSError, ValueError, HTTPException) as error:
        if expired.is_set():
            raise TooSlow from error
        raise
    finally:
        timer.cancel()


def _hang_up(sock: Any, expired: threading.Event) -> None:
    expired.set()
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
