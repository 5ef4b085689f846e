"""A server for agents, for tests and the bench: real TLS with client certificates, the real wire messages, a store in
memory that keeps what the real server must keep. Made of http.server so that nothing of the product judges itself.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ostler.agent.join import CA_PATH, JOIN_PATH
from ostler.agent.renewal import RENEW_PATH
from ostler.core.errors import BadInput
from ostler.wire.agent import (
    REPORT_LIMIT,
    AgentSettings,
    Gap,
    JoinAnswer,
    JoinRequest,
    Order,
    OrderResult,
    Report,
    ReportAnswer,
    Signal,
)
from ostler.wire.decode import decode, encode


class Authority:
    """Makes certificates for the address 127.0.0.1, and signs what agents ask for."""

    def __init__(self, folder: Path, name: str = "test ca") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        ski = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        built = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(ski, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = built.public_bytes(serialization.Encoding.PEM).decode()
        self.sha256 = hashlib.sha256(built.public_bytes(serialization.Encoding.DER)).hexdigest()

    def sign(self, name: str, key: Any, **when: datetime.datetime) -> str:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        built = (
            self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, **when)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return built.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, name: str, **when: datetime.datetime) -> tuple[Path, Path]:
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, secret = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        certificate.write_text(self.sign(name, key.public_key(), **when))
        form = serialization.PrivateFormat.PKCS8
        secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return certificate, secret

    def _builder(
        self,
        subject: x509.Name,
        key: Any,
        begins: datetime.datetime | None = None,
        ends: datetime.datetime | None = None,
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins or now - datetime.timedelta(hours=1))
            .not_valid_after(ends or now + datetime.timedelta(hours=1))
        )


@dataclass
class Boot:
    """What is known of one boot of one node."""

    last_seq: int = 0
    signals: list[Signal] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    ended: str = ""
    holes: list[tuple[int, int]] = field(default_factory=list)
    """Sequences that came neither as signals nor as gaps: must stay empty."""
    repeated: int = 0
    received: dict[int, float] = field(default_factory=dict)


class Memory:
    """What the server knows. Survives the listener, which may go away and come back."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.boots: dict[str, Boot] = {}
        self.reports: list[Report] = []
        self.results: list[OrderResult] = []
        self.orders: list[Order] = []
        self.settings: AgentSettings | None = None
        self.token = "token-1"
        self.joined: list[JoinRequest] = []
        self.lives: list[tuple[float, float]] = []
        """(begins, ends) of the next certificates, hours from now; then from an hour ago to an hour from now."""
        self.certificates: list[str] = []
        """Of every report that was asked for: SHA-256 of the client's certificate."""
        self.renewals: list[str] = []
        """Likewise of every request to renew."""
        self.refuse_renewal: Callable[[], tuple[int, str] | None] = lambda: None
        self.deafen_renewal: Callable[[], bool] = lambda: False
        self.refuse: Callable[[Report], tuple[int, str] | None] = lambda report: None
        self.deafen: Callable[[Report], bool] = lambda report: False
        """True: the report is kept, but its answer never arrives."""
        self.skew = 0.0

    def boot(self, boot_id: str | None = None) -> Boot:
        """The only boot, unless named."""
        return self.boots[boot_id] if boot_id is not None else next(iter(self.boots.values()))

    def signals(self) -> list[Signal]:
        return [signal for boot in self.boots.values() for signal in boot.signals]

    def take(self, report: Report) -> ReportAnswer:
        """Stores a report as the real server must: clips what it holds already, notices holes."""
        with self.changed:
            boot = self.boots.setdefault(report.boot_id, Boot())
            entries: list[Signal | Gap] = sorted(
                (*report.signals, *report.lost), key=lambda e: e.seq if isinstance(e, Signal) else e.from_seq
            )
            for entry in entries:
                first = entry.seq if isinstance(entry, Signal) else entry.from_seq
                last = entry.seq if isinstance(entry, Signal) else entry.to_seq
                if last <= boot.last_seq:
                    boot.repeated += 1
                    continue
                if first > boot.last_seq + 1:
                    boot.holes.append((boot.last_seq + 1, first - 1))
                if isinstance(entry, Signal):
                    boot.signals.append(entry)
                    boot.received[entry.seq] = time.time()
                else:
                    boot.gaps.append(replace(entry, from_seq=max(first, boot.last_seq + 1)))
                boot.last_seq = last
            boot.ended = report.ended or boot.ended
            self.reports.append(report)
            self.results.extend(report.results)
            done = {result.order_id for result in self.results}
            self.changed.notify_all()
            orders = tuple(order for order in self.orders if order.id not in done)
            return ReportAnswer(boot.last_seq, self.settings, orders, self.skew)

    def wait_until(self, true: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
        """Returns as soon as `true()`; fails the test after `timeout`."""
        with self.changed:
            assert self.changed.wait_for(true, timeout), f"never happened: {what}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == CA_PATH:
            self._answer(200, self.server.authority.pem.encode())
        else:
            self._answer(404, b"{}")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        connection = self.connection
        assert isinstance(connection, ssl.SSLSocket)
        peer = connection.getpeercert(binary_form=True)
        shown = hashlib.sha256(peer).hexdigest() if peer else ""
        try:
            if self.path == JOIN_PATH:
                self._join(decode(JoinRequest, raw))
            elif not shown:
                self._problem(401, "show the certificate of a join")
            elif self.path == RENEW_PATH:
                self._renew(raw, shown)
            else:
                self.server.memory.certificates.append(shown)
                self._report(decode(Report, raw, limit=REPORT_LIMIT))
        except BadInput as error:
            self._problem(422, str(error))

    def _join(self, request: JoinRequest) -> None:
        memory = self.server.memory
        if request.token != memory.token:
            self._problem(401, "the join token has expired")
            return
        with memory.changed:
            memory.joined.append(request)
            memory.changed.notify_all()
        self._answer(200, self._signed(request.csr_pem.encode()))

    def _renew(self, csr: bytes, shown: str) -> None:
        memory = self.server.memory
        refused = memory.refuse_renewal()
        with memory.changed:
            memory.renewals.append(shown)
            memory.changed.notify_all()
        if refused is not None:
            self._problem(*refused)
        elif memory.deafen_renewal():
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self._answer(200, self._signed(csr))

    def _signed(self, csr: bytes) -> bytes:
        memory, authority = self.server.memory, self.server.authority
        key = x509.load_pem_x509_csr(csr).public_key()
        begins, ends = memory.lives.pop(0) if memory.lives else (-1.0, 1.0)
        now = datetime.datetime.now(datetime.UTC)
        when = {"begins": now + datetime.timedelta(hours=begins), "ends": now + datetime.timedelta(hours=ends)}
        return encode(JoinAnswer("node_1", "gpu-1", authority.sign("node_1", key, **when), authority.pem))

    def _report(self, report: Report) -> None:
        memory = self.server.memory
        refused = memory.refuse(report)
        if refused is not None:
            self._problem(*refused)
            return
        deaf = memory.deafen(report)
        answer = memory.take(report)
        if deaf:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._answer(200, encode(answer))

    def _problem(self, status: int, detail: str) -> None:
        self._answer(status, json.dumps({"status": status, "detail": detail}).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    authority: Authority
    memory: Memory

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._context = context
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """The handshake happens in the connection's own thread."""
        try:
            wrapped = self._context.wrap_socket(request, server_side=True)
        except OSError:
            request.close()
            return
        self._open.add(wrapped)
        try:
            super().finish_request(wrapped, client_address)
        except OSError:
            pass
        finally:
            self._open.discard(wrapped)
            wrapped.close()

    def cut(self) -> None:
        """Ends every connection, as a dying server does."""
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class Collector:
    """A listener on 127.0.0.1 that can be stopped and started again on the same port."""

    def __init__(self, authority: Authority, memory: Memory | None = None, *, identity: str = "server") -> None:
        self.authority = authority
        self.memory = memory or Memory()
        self._files = (authority.folder / f"{identity}.pem", authority.folder / f"{identity}-key.pem")
        if not self._files[0].exists():
            authority.issue(identity)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._files)
        context.load_verify_locations(cadata=self.authority.pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        self._server = _Server(self.port, context)
        self._server.authority, self._server.memory = self.authority, self.memory
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None and thread is not None:
            server.shutdown()
            server.server_close()
            server.cut()
            thread.join()
