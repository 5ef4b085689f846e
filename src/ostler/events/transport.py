"""Sends signed requests over the network, many at once, and lets no receiver do harm. Used by `sender.py` only.

One thread of its own drives libcurl's multi interface with epoll. For each request: a total time-out, no redirects, no
proxy from the environment, no decompression, TLS verified, caps on what is read back, and every socket's address passed
by `addresses.closed` just before it connects. A receiver's 2xx status line is an acknowledgement, whatever follows it.
"""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pycurl

from ostler import __version__
from ostler.events import addresses
from ostler.events.model import WebhookSettings
from ostler.events.policy import Answer

HEADER_LIMIT = 16 * 1024
"""Bytes of response headers, informational responses included; more ends the try."""

BODY_LIMIT = 64 * 1024
"""Bytes of response body that are read (and thrown away) to keep the connection; more ends the connection."""

_IDLE_HANDLES = 64
_CONNECTIONS_KEPT = 512

_EVENTS = {
    pycurl.POLL_IN: selectors.EVENT_READ,
    pycurl.POLL_OUT: selectors.EVENT_WRITE,
    pycurl.POLL_INOUT: selectors.EVENT_READ | selectors.EVENT_WRITE,
}


@dataclass(frozen=True)
class Request:
    url: str
    headers: Mapping[str, str]
    body: bytes
    done: Callable[[Answer], None]
    """Called once, in the transport's thread; must be quick and must not raise."""


@dataclass
class _Exchange:
    """One request under way, and what the receiver has said so far."""

    request: Request
    began: float = field(default_factory=time.monotonic)
    header_bytes: int = 0
    body_bytes: int = 0
    status: int = 0
    retry_after: str | None = None
    refused: str = ""

    def on_header(self, line: bytes) -> int | None:
        self.header_bytes += len(line)
        if self.header_bytes > HEADER_LIMIT:
            self.refused = f"the response has more than {HEADER_LIMIT} bytes of headers"
            return 0
        if line.startswith(b"HTTP/"):
            words = line.split(None, 2)
            code = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
            self.status = code if code >= 200 else 0  # 1xx is not yet the answer
            self.retry_after = None
        elif line[:12].lower() == b"retry-after:":
            self.retry_after = line[12:].strip().decode("latin-1")[:100]
        return None

    def on_body(self, data: bytes) -> int | None:
        self.body_bytes += len(data)
        if self.body_bytes > BODY_LIMIT:
            self.refused = f"the response has more than {BODY_LIMIT} bytes"
            return 0
        return None


class Transport:
    """`submit` from any thread; `done` is called in the transport's own. Start and close it once."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._allowed = addresses.networks(settings.allow_networks)
        self._ca_file = settings.ca_file or _system_ca_file()
        self._inbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._wake_receive, self._wake_send = socket.socketpair()
        self._wake_receive.setblocking(False)
        self._wake_send.setblocking(False)
        self._selector.register(self._wake_receive, selectors.EVENT_READ)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, _CONNECTIONS_KEPT)
        self._timer: float | None = None
        self._idle: list[Any] = []
        self._exchanges: dict[Any, _Exchange] = {}
        self._thread = threading.Thread(target=self._loop, name="ostler-webhook-wire", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        self._inbox.put(request)
        self._wake()

    def close(self) -> None:
        """Break off what is under way, without telling anyone: the leases run out and it is sent again."""
        self._inbox.put(None)
        self._wake()
        self._thread.join()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # then enough wake-ups are waiting already
            self._wake_send.send(b"\0")

    def _loop(self) -> None:
        try:
            while self._take():
                timeout = None if self._timer is None else max(0.0, self._timer - time.monotonic())
                for key, mask in self._selector.select(timeout):
                    if key.fileobj is self._wake_receive:
                        self._drain()
                        continue
                    flags = (pycurl.CSELECT_IN if mask & selectors.EVENT_READ else 0) | (
                        pycurl.CSELECT_OUT if mask & selectors.EVENT_WRITE else 0
                    )
                    self._multi.socket_action(key.fd, flags)
                if self._timer is not None and self._timer <= time.monotonic():
                    self._timer = None
                    self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
                self._collect()
        finally:
            self._release()

    def _take(self) -> bool:
        """Start what was submitted; False to stop."""
        while True:
            try:
                request = self._inbox.get_nowait()
            except queue.Empty:
                return True
            if request is None:
                return False
            self._begin(request)

    def _begin(self, request: Request) -> None:
        exchange = _Exchange(request)
        handle = self._idle.pop() if self._idle else pycurl.Curl()
        try:
            self._configure(handle, exchange)
            self._multi.add_handle(handle)
        except (pycurl.error, UnicodeError) as error:
            handle.close()
            request.done(Answer(0, error=f"cannot be sent: {error}"))
            return
        self._exchanges[handle] = exchange

    def _configure(self, handle: Any, exchange: _Exchange) -> None:
        request, settings = exchange.request, self._settings
        handle.setopt(pycurl.URL, request.url)
        handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        handle.setopt(pycurl.REDIR_PROTOCOLS, 0)
        handle.setopt(pycurl.FOLLOWLOCATION, 0)
        handle.setopt(pycurl.PROXY, "")
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        handle.setopt(pycurl.TIMEOUT_MS, int(settings.timeout_s * 1000))
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, int(min(settings.connect_timeout_s, settings.timeout_s) * 1000))
        handle.setopt(pycurl.SSL_VERIFYPEER, 1)
        handle.setopt(pycurl.SSL_VERIFYHOST, 2)
        if self._ca_file is not None:
            handle.setopt(pycurl.CAINFO, self._ca_file)
        handle.setopt(pycurl.OPENSOCKETFUNCTION, lambda _purpose, address: self._open_socket(exchange, address))
        handle.setopt(pycurl.HEADERFUNCTION, exchange.on_header)
        handle.setopt(pycurl.WRITEFUNCTION, exchange.on_body)
        handle.setopt(pycurl.POST, 1)
        handle.setopt(pycurl.POSTFIELDS, request.body)
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        # An empty Expect keeps libcurl from waiting for "100 Continue".
        handle.setopt(pycurl.HTTPHEADER, [*lines, "Content-Type: application/json", "Expect:", "Accept: */*"])
        handle.setopt(pycurl.USERAGENT, f"ostler/{__version__}")

    def _open_socket(self, exchange: _Exchange, address: Any) -> int:
        """Called by libcurl with the address it is about to connect to; answers a socket, or refuses."""
        try:
            if address.family not in (socket.AF_INET, socket.AF_INET6):
                exchange.refused = "only IPv4 and IPv6 are spoken here"
                return int(pycurl.SOCKET_BAD)
            host = address.addr[0]
            why = addresses.closed(host, self._allowed)
            plain = urlsplit(exchange.request.url).scheme != "https"
            if why is None and plain and not addresses.is_listed(host, self._allowed):
                why = f"{host} is not in [webhooks] allow_networks, and plain http goes nowhere else; use https"
            if why is not None:
                exchange.refused = why
                return int(pycurl.SOCKET_BAD)
            # detach: libcurl owns the descriptor from here on.
            return socket.socket(address.family, address.socktype, address.protocol).detach()
        except OSError as error:
            exchange.refused = f"no socket: {error.strerror}"
            return int(pycurl.SOCKET_BAD)

    def _collect(self) -> None:
        while True:
            left, succeeded, failed = self._multi.info_read()
            for handle in succeeded:
                self._finish(handle, "")
            for handle, _code, message in failed:
                self._finish(handle, message or "the connection failed")
            if not left:
                return

    def _finish(self, handle: Any, error: str) -> None:
        exchange = self._exchanges.pop(handle)
        self._multi.remove_handle(handle)
        handle.reset()
        if len(self._idle) < _IDLE_HANDLES:
            self._idle.append(handle)
        else:
            handle.close()
        acknowledged = 200 <= exchange.status < 300
        milliseconds = int((time.monotonic() - exchange.began) * 1000)
        if acknowledged or not (error or exchange.refused):
            why = "" if acknowledged else f"HTTP {exchange.status}"
        else:
            why = exchange.refused or error
        exchange.request.done(Answer(exchange.status, milliseconds, why, exchange.retry_after))

    def _on_socket(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        registered = fd in self._selector.get_map()
        if what == pycurl.POLL_REMOVE:
            if registered:
                self._selector.unregister(fd)
        elif registered:
            self._selector.modify(fd, _EVENTS[what])
        else:
            self._selector.register(fd, _EVENTS[what])

    def _on_timer(self, milliseconds: int) -> None:
        self._timer = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_receive.recv(4096):
                pass

    def _release(self) -> None:
        for handle in list(self._exchanges):
            self._multi.remove_handle(handle)
            handle.close()
        for handle in self._idle:
            handle.close()
        self._multi.close()
        self._selector.close()
        self._wake_receive.close()
        self._wake_send.close()


def _system_ca_file() -> str | None:
    """The system's certificate authorities; libcurl's own build may look elsewhere."""
    return ssl.get_default_verify_paths().cafile
