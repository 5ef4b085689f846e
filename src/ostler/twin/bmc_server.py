"""Many simulated BMCs behind real sockets, on one event loop in one thread. Started by the twin's fleet and by tests.

Plain HTTP/1.1 by hand on asyncio: one listening port per BMC on 127.0.0.1, as each BMC has its address, and thousands
in one process. It serves a simulation on the loopback interface; nothing else should use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import ssl
import threading
from collections.abc import Iterable
from http import HTTPStatus

from ostler.twin.bmc import Response, TwinBmc

_MAX_HEAD = 16 << 10
_MAX_BODY = 1 << 20


class BmcServer:
    """`start()`, `add_all(bmcs)` from any thread, `close()`."""

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._host = host
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="twin-bmc", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.Transport] = set()

    def start(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:  # a descriptor per BMC
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._thread.start()

    def add(self, bmc: TwinBmc, port: int = 0) -> str:
        """Listen for one BMC; returns its address, `http://127.0.0.1:PORT`."""
        return asyncio.run_coroutine_threadsafe(self._listen(bmc, port), self._loop).result()

    def add_all(self, bmcs: Iterable[TwinBmc]) -> list[str]:
        """Listen for each, on ports of the system's choice; the addresses in the same order."""

        async def listen() -> list[str]:
            return [await self._listen(bmc, 0) for bmc in bmcs]

        return asyncio.run_coroutine_threadsafe(listen(), self._loop).result()

    def close(self) -> None:
        """Stop listening, drop what is open, end the thread."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        if not self._loop.is_closed():
            self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _listen(self, bmc: TwinBmc, port: int) -> str:
        server = await self._loop.create_server(lambda: _Connection(bmc, self._open), self._host, port, ssl=self._tls)
        self._servers.append(server)
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{self._host}:{server.sockets[0].getsockname()[1]}"

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for transport in list(self._open):
            transport.abort()
        for server in self._servers:
            await server.wait_closed()
        await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    """One client connection: requests one after another, kept alive."""

    def __init__(self, bmc: TwinBmc, known: set[asyncio.Transport]) -> None:
        self._bmc = bmc
        self._known = known
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self._known.add(transport)
            if self._bmc.faults.unreachable:
                transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._known.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def _next(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self._answering:
            return
        if self._bmc.faults.unreachable:
            transport.abort()
            return
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD:
                transport.abort()
            return
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        length = headers.get("content-length", "0")
        size = int(length) if length.isdecimal() and len(length) < 10 else _MAX_BODY + 1
        if len(words) != 3 or size > _MAX_BODY or end > _MAX_HEAD or "transfer-encoding" in headers:
            transport.abort()
            return
        if len(self._buffer) < end + 4 + size:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + size])
        del self._buffer[: end + 4 + size]
        self._answering = True
        delay = self._bmc.faults.slow_seconds
        loop = asyncio.get_running_loop()
        keep = headers.get("connection", "").lower() != "close" and words[2] == "HTTP/1.1"
        loop.call_later(delay, self._answer, words[0], words[1], headers, body, keep)

    def _answer(self, method: str, target: str, headers: dict[str, str], body: bytes, keep: bool) -> None:
        self._answering = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._bmc.faults.unreachable:
            transport.abort()
            return
        transport.write(_bytes_of(self._bmc.handle(method, target, headers, body), method, keep))
        if keep:
            with contextlib.suppress(RecursionError):
                self._next()
        else:
            transport.close()


def _bytes_of(response: Response, method: str, keep: bool) -> bytes:
    body = b"" if response.document is None else json.dumps(response.document).encode()
    head = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}", f"Content-Length: {len(body)}"]
    if body:
        head.append("Content-Type: application/json")
    head += ["OData-Version: 4.0", f"Connection: {'keep-alive' if keep else 'close'}"]
    head += [f"{name}: {value}" for name, value in response.headers.items()]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + (b"" if method == "HEAD" else body)
