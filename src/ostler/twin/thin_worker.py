"""One thread and its share of thin nodes: joins them, then goes round and reports. Started by `thin.py`.

A node is connected only while it speaks, unless there is room to keep the connection. A returning node resumes its TLS
session, so the certificate is shown once and a report costs one short handshake.
"""

from __future__ import annotations

import heapq
import http.client
import random
import socket
import ssl
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ostler import __version__
from ostler.agent.join import JOIN_PATH, trusted_ca
from ostler.agent.transport import REPORT_PATH, HttpsTransport, address, pinned_context
from ostler.core.clock import Clock
from ostler.core.errors import OstlerError, Unauthenticated, Unreachable
from ostler.twin import netboot
from ostler.twin.spec import DRIVER, NodeSpec
from ostler.wire.agent import (
    ANSWER_LIMIT,
    Heartbeat,
    JoinAnswer,
    JoinRequest,
    Order,
    OrderResult,
    Report,
    ReportAnswer,
    Signal,
    Verdict,
)
from ostler.wire.boot import Seed
from ostler.wire.decode import decode, encode

SOURCES = 200
"""Loopback addresses to connect from when the server is on this machine: each has 28,000 ports of its own."""


@dataclass(slots=True)
class ThinNode:
    """Everything that is kept of one node."""

    spec: NodeSpec
    boot_id: str = ""
    pem: bytes = b""
    """Key and certificate."""
    session: ssl.SSLSession | None = None
    connection: http.client.HTTPSConnection | None = None
    seq: int = 0
    joined_at: float = 0.0
    heartbeat_s: float = 30.0
    told: bool = False
    """Its inventory was reported."""
    results: tuple[OrderResult, ...] = ()
    signals: tuple[Signal, ...] = ()


@dataclass
class Counts:
    """What a thin fleet did; written by its workers, each under its own lock."""

    joined: int = 0
    reports: int = 0
    failures: int = 0
    handshakes: int = 0
    resumed: int = 0
    last_error: str = ""
    seconds: list[float] = field(default_factory=list)
    """Real seconds of the latest reports, connecting included."""


class Worker:
    """A thread and its share of the nodes."""

    def __init__(
        self,
        nodes: Sequence[ThinNode],
        boot_url: str,
        clock: Clock,
        rng: random.Random,
        kept: int,
        images: bool,
        pace: float | None,
    ) -> None:
        self.counts = Counts()
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="twin-thin", daemon=True)
        self._boot_url = boot_url.rstrip("/")
        self._clock = clock
        self._rng = rng
        self._kept = kept
        self._open = 0
        self._images = images
        self._pace = pace
        self._context: ssl.SSLContext | None = None
        self._server = ("", 0)
        self._due = [(rng.random(), n, node) for n, node in enumerate(nodes)]
        self._count = len(nodes)
        heapq.heapify(self._due)
        self._start = time.monotonic()

    def say(self, node: ThinNode, signal: Signal) -> None:
        """Report it soon; what was planned for the node is then one report more."""
        with self.lock:
            node.seq += 1
            node.signals = (*node.signals, replace(signal, seq=node.seq))
            self._count += 1
            heapq.heappush(self._due, (0.0, self._count, node))

    def _run(self) -> None:
        try:
            while not self.stopping.is_set():
                with self.lock:
                    due, _, node = self._due[0]
                wait = due - (time.monotonic() - self._start)
                if wait > 0:
                    self.stopping.wait(min(wait, 0.2))
                    continue
                with self.lock:
                    heapq.heappop(self._due)
                self._plan(node, self._step(node))
        finally:
            for _, _, node in self._due:
                self._close(node)

    def _plan(self, node: ThinNode, seconds: float) -> None:
        with self.lock:
            self._count += 1
            heapq.heappush(self._due, (time.monotonic() - self._start + seconds, self._count, node))

    def _step(self, node: ThinNode) -> float:
        """Joins or reports; real seconds until the next time."""
        try:
            if not node.pem:
                self._join(node)
                with self.lock:
                    self.counts.joined += 1
                return 0.0
            began = time.perf_counter()
            self._report(node)
            with self.lock:
                self.counts.reports += 1
                self.counts.seconds.append(time.perf_counter() - began)
                del self.counts.seconds[:-20_000]
        except (OstlerError, OSError, ssl.SSLError, http.client.HTTPException) as error:
            self._close(node)
            node.session = None
            if isinstance(error, Unauthenticated):
                node.pem = b""  # boots anew
            with self.lock:
                self.counts.failures += 1
                self.counts.last_error = f"{node.spec.name}: {error}"
            return 1.0 + self._rng.random()
        if node.results:
            return 0.0
        pace = self._clock.real_seconds(node.heartbeat_s) if self._pace is None else self._pace
        return pace * self._rng.uniform(0.9, 1.1)

    # ── joining: as every node, without the files ────────────────────────────────────────────────────────────────────

    def _join(self, node: ThinNode) -> None:
        seed: Seed | None = None
        loader = netboot.boot(node.spec, self._boot_url, images=self._images)
        while True:
            try:
                self.stopping.wait(next(loader))
            except StopIteration as stop:
                seed = stop.value
                break
        if seed is None:
            raise Unreachable("the boot server sends this machine to its own disk", where=node.spec.name)
        ca_pem = trusted_ca(seed.ca_pem or "", seed.ca_sha256)
        key = ec.generate_private_key(ec.SECP256R1())
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        asked = JoinRequest(
            token=seed.token,
            nonce=seed.nonce,
            mac=node.spec.mac,
            serial=node.spec.serial,
            uuid=node.spec.uuid,
            csr_pem=request.public_bytes(serialization.Encoding.PEM).decode(),
            agent_version=__version__,
        )
        transport = HttpsTransport(seed.server, pinned_context(ca_pem), real=self._clock.real)
        try:
            answer = decode(JoinAnswer, transport.post(JOIN_PATH, encode(asked)), limit=ANSWER_LIMIT)
        finally:
            transport.close()
        form = serialization.PrivateFormat.PKCS8
        secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        if self._context is None:
            self._context, self._server = pinned_context(ca_pem), address(seed.server)
        node.pem = secret + answer.certificate_pem.encode()
        node.boot_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        node.joined_at, node.heartbeat_s = self._clock.now(), answer.settings.heartbeat_s
        node.seq, node.told, node.session = 0, False, None

    # ── reporting ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _report(self, node: ThinNode) -> None:
        signals = node.signals
        first = signals[0].seq if signals else node.seq + 1  # one signal of this very moment waits for the next report
        report = Report(
            boot_id=node.boot_id,
            sent_at=self._clock.real(),
            first_seq=first,
            signals=signals,
            heartbeat=Heartbeat(self._clock.now() - node.joined_at, busy=False, driver=DRIVER),
            inventory=None if node.told else node.spec.inventory(node.spec.firmware),
            results=node.results,
            agent_version=__version__,
        )
        connection, response, raw = self._exchange(node, encode(report))
        if response.status in (401, 403):
            raise Unauthenticated(f"the server answered {response.status}", where=node.spec.name)
        if response.status != 200:
            raise Unreachable(f"the server answered {response.status}: {raw[:200]!r}", where=node.spec.name)
        answer = decode(ReportAnswer, raw, limit=ANSWER_LIMIT)
        node.told = True
        with self.lock:
            node.signals = node.signals[len(signals) :]
        done = {result.order_id for result in node.results}
        node.results = tuple(_result(order, self._clock.now()) for order in answer.orders if order.id not in done)
        if answer.settings is not None:
            node.heartbeat_s = answer.settings.heartbeat_s
        if response.will_close or node.connection is None:
            self._keep(node, connection, lasting=not response.will_close)

    def _exchange(
        self, node: ThinNode, body: bytes
    ) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse, bytes]:
        """One request. A kept connection that the server had closed meanwhile is opened once more."""
        while True:
            connection = node.connection or self._connect(node)
            try:
                connection.request("POST", REPORT_PATH, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                return connection, response, response.read(ANSWER_LIMIT + 1)
            except (OSError, http.client.HTTPException):
                connection.close()
                if node.connection is None:
                    raise
                self._close(node)

    def _connect(self, node: ThinNode) -> http.client.HTTPSConnection:
        """TLS with this node's certificate, or with the session that it opened.

        A context belongs to one thread here; what `load_cert_chain` puts in it is copied into the connection that is
        made next (OpenSSL's SSL_new), so one context serves all nodes and can resume all their sessions.
        """
        context = self._context
        if context is None:
            raise Unreachable("no node of this worker has joined yet")
        host, port = self._server
        if node.session is None:
            with tempfile.NamedTemporaryFile(suffix=".pem", dir=_memory()) as file:
                file.write(node.pem)
                file.flush()
                context.load_cert_chain(file.name)
        source = (f"127.0.1.{1 + node.spec.number % SOURCES}", 0) if host == "127.0.0.1" else None
        plain = socket.create_connection((host, port), 10.0, source)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock = context.wrap_socket(plain, server_hostname=host, session=node.session)
        except BaseException:
            plain.close()
            raise
        if node.session is not None and not sock.session_reused:
            sock.close()  # the certificate that was shown is the last one loaded, and perhaps another node's
            node.session = None
            return self._connect(node)
        with self.lock:
            self.counts.handshakes += 1
            self.counts.resumed += bool(sock.session_reused)
        connection = http.client.HTTPSConnection(host, port, timeout=10.0, context=context)
        connection.sock = sock
        return connection

    def _keep(self, node: ThinNode, connection: http.client.HTTPSConnection, *, lasting: bool) -> None:
        if lasting and self._open < self._kept:
            self._open += 1
            node.connection = connection
            return
        sock: Any = connection.sock
        if node.session is None and isinstance(sock, ssl.SSLSocket):
            # Once per handshake with the certificate: a ticket is good for two hours, and CPython (3.11) loses 5 KiB
            # with each look at this attribute.
            node.session = sock.session
        connection.close()
        if node.connection is not None:
            node.connection = None
            self._open -= 1

    def _close(self, node: ThinNode) -> None:
        connection, node.connection = node.connection, None
        if connection is not None:
            self._open -= 1
            connection.close()


def _result(order: Order, now: float) -> OrderResult:
    return OrderResult(order.id, Verdict.PASSED, "", {"simulated": True}, now, now)


def _memory() -> Path | None:
    memory = Path("/dev/shm")  # noqa: S108  a private file for a moment
    return memory if memory.is_dir() else None
