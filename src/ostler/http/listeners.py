"""Serves several apps on several addresses from one event loop. Used by `ostler serve`, `ostler demo` and the tests.

Addresses are bound before anything runs, so that a port in use is one clear line and port 0 is known at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from ostler.core.errors import BadInput, Unavailable
from ostler.http.peer import PeerProtocol

_GRACE_SECONDS = 3
"""How long open requests may take to finish after a stop; streams are told to end by `before_stop`."""

_ANY_V4 = "0.0.0.0"  # noqa: S104  only where an operator writes it, or no host


@dataclass(frozen=True)
class Listener:
    """One address and what is served there. `key` names the setting, for messages: `[operator] listen`."""

    name: str
    key: str
    host: str
    port: int
    app: ASGIApp
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True)
class Bound:
    """Where a listener really listens; `port` is never 0."""

    name: str
    host: str
    port: int
    tls: bool

    @property
    def url(self) -> str:
        """For people and programs on this machine: a wildcard address is shown as loopback."""
        host = {_ANY_V4: "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"{'https' if self.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"


def parse_address(text: str, key: str) -> tuple[str, int]:
    """`HOST:PORT`, `:PORT` or `[V6]:PORT` as a pair. Raises `BadInput` naming `key`."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise BadInput(f"'{text}' is no address; write HOST:PORT, for example 127.0.0.1:8470.", where=key)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise BadInput(f"'{text}' is no address; write an IPv6 address as [{host}]:{port}.", where=key)
    return host or _ANY_V4, int(port)


class Listeners:
    """Bound at once; `run()` serves in this thread, `start()` in one of its own; `stop()` from anywhere."""

    def __init__(self, listeners: Sequence[Listener], *, before_stop: Callable[[], None] = lambda: None) -> None:
        self._before_stop = before_stop
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._sockets: list[socket.socket] = []
        self._servers: list[_Server] = []
        try:
            for listener in listeners:
                self._sockets.append(_bind(listener))
        except BaseException:
            self.close()
            raise
        self.bound: dict[str, Bound] = {}
        for listener, bound in zip(listeners, self._sockets, strict=True):
            port = int(bound.getsockname()[1])
            self.bound[listener.name] = Bound(listener.name, listener.host, port, listener.tls is not None)
            self._servers.append(_Server(_config(listener), started=threading.Event()))

    def run(self, *, signals: bool = True) -> None:
        """Serve until `stop()`, SIGINT or SIGTERM (in the main thread, with `signals`). A second one does not wait."""
        if self._stopping.is_set():
            self.close()
            return
        factory = self._servers[0].config.get_loop_factory()
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(self._serve(signals and threading.current_thread() is threading.main_thread()))

    def start(self) -> None:
        """Serve in a thread; returns once every listener answers. Raises what kept one from starting."""
        self._thread = threading.Thread(target=self._run_thread, name="http", daemon=True)
        self._thread.start()
        for server in self._servers:
            server.ready.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Finish what is being answered, then leave; waits for the thread of `start()`."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._before_stop()
        for server in self._servers:
            server.should_exit = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def close(self) -> None:
        """Give the addresses back without having served."""
        for bound in self._sockets:
            bound.close()

    def _run_thread(self) -> None:
        try:
            self.run(signals=False)
        except BaseException as failure:
            self._failure = failure
        finally:
            for server in self._servers:
                server.ready.set()

    async def _serve(self, signals: bool) -> None:
        loop = asyncio.get_running_loop()
        handled = (signal.SIGINT, signal.SIGTERM) if signals else ()
        for number in handled:
            loop.add_signal_handler(number, self._on_signal)
        try:
            async with asyncio.TaskGroup() as group:
                for server, bound in zip(self._servers, self._sockets, strict=True):
                    group.create_task(server.serve([bound]))
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            for server in self._servers:
                server.force_exit = True
        self.stop()


class _Server(uvicorn.Server):
    """uvicorn's server, without signal handlers of its own (there are several) and with a word when it listens."""

    def __init__(self, config: uvicorn.Config, started: threading.Event) -> None:
        super().__init__(config)
        self.ready = started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def _config(listener: Listener) -> uvicorn.Config:
    tls = listener.tls
    return uvicorn.Config(
        listener.app,
        http=PeerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # who asks is who connects: X-Forwarded-For could be anyone's
        server_header=False,
        timeout_keep_alive=75 if tls else 10,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )


def _bind(listener: Listener) -> socket.socket:
    where = f"{listener.key} = {listener.host}:{listener.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listener.host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise BadInput(f"The host '{listener.host}' has no address here.", where=where) from None
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(2048)
        bound.setblocking(False)
    except PermissionError:
        bound.close()
        raise BadInput(f"Port {listener.port} needs root; choose one above 1023.", where=where) from None
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise BadInput(
                f"Port {listener.port} is in use by another program; stop it or choose another.", where=where
            ) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise BadInput(f"{listener.host} is no address of this machine.", where=where) from None
        raise Unavailable(f"Cannot listen: {error.strerror}.", where=where) from error
    return bound
