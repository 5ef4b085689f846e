"""A real HTTP receiver for webhooks, as honest or as hostile as a test wants. Used by the tests of this folder."""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ostler.sdk.webhooks import Event, VerificationError, verify

PATIENCE = 60.0
"""Seconds after which a test gives up waiting for something that should happen at once."""

Behaviour = Callable[[BaseHTTPRequestHandler, int], None]
"""Answers a request, given its number on its path (from 1). What it raises closes the connection."""


def answer(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Behaviour:
    def behave(handler: BaseHTTPRequestHandler, _number: int) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def failing_until(number: int, status: int = 503) -> Behaviour:
    """Fails until the request of that number."""

    def behave(handler: BaseHTTPRequestHandler, now: int) -> None:
        answer(200 if now >= number else status)(handler, now)

    return behave


@dataclass
class Receiver:
    """What arrived, by path. Every request is verified with the SDK before anything else."""

    url: str
    secret: str
    now: Callable[[], float]
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=dict)
    """Verified events per path, in the order of arrival, whatever was answered."""
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, what: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(what, PATIENCE), "it did not happen"

    def got(self, path: str = "/") -> list[Event]:
        with self.changed:
            return list(self.events.get(path, []))

    def order(self, path: str = "/") -> list[tuple[str, int]]:
        return [(event.subject, event.seq) for event in self.got(path)]


@contextmanager
def receiving(now: Callable[[], float], secret: str, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Serve on a free port of 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with receiver.changed:
                receiver.requests[self.path] += 1
                number = receiver.requests[self.path]
                receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
                receiver.bodies.append(body)
                try:
                    event = verify(body, dict(self.headers.items()), [receiver.secret], now=receiver.now())
                    receiver.events.setdefault(self.path, []).append(event)
                except VerificationError as error:
                    receiver.refused.append(str(error))
                receiver.changed.notify_all()
            try:
                receiver.behaviours.get(self.path, answer(200))(self, number)
            except OSError:
                self.close_connection = True

        def do_GET(self) -> None:
            with receiver.changed:
                receiver.requests["GET " + self.path] += 1
            answer(200)(self, 0)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 256

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # connections that the sender breaks off are part of the tests

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "http" if tls is None else "https"
    receiver = Receiver(f"{scheme}://127.0.0.1:{server.server_port}", secret, now)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
