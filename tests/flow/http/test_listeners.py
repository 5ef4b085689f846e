"""Listeners over real sockets: addresses, real TLS clients with and without certificates, resumption, forged headers."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import APIRouter, Request

from ostler.core.errors import BadInput
from ostler.http import listeners
from ostler.http.agents import agents_app
from ostler.http.boot import boot_app
from ostler.http.listeners import Listener, Listeners, parse_address
from ostler.http.peer import peer_fingerprint, server_context
from tests.flow.http.authority import Authority


def _whoami() -> APIRouter:
    router = APIRouter()

    @router.get("/whoami")
    def whoami(request: Request) -> dict[str, str | None]:
        return {"peer": peer_fingerprint(request), "client": request.client.host if request.client else None}

    return router


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority("ours", tmp_path_factory.mktemp("ca"))


@pytest.fixture
def agents(authority: Authority) -> Iterator[listeners.Bound]:
    server = authority.issue("localhost")
    context = server_context(
        certificate=str(server.certificate), key=str(server.key), client_ca=str(authority.certificate)
    )
    running = Listeners([Listener("agents", "[agents] listen", "127.0.0.1", 0, agents_app([_whoami()]), tls=context)])
    running.start()
    yield running.bound["agents"]
    running.stop()


def _client(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.certificate))


def _ask(port: int, context: ssl.SSLContext, headers: dict[str, str] | None = None) -> dict[str, str | None]:
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=30)
    try:
        connection.request("GET", "/whoami", headers=headers or {})
        found: dict[str, str | None] = json.loads(connection.getresponse().read())
        return found
    finally:
        connection.close()


def test_the_verified_certificate_reaches_the_handler(agents: listeners.Bound, authority: Authority) -> None:
    node = authority.issue("gpu-0001")
    context = _client(authority)
    context.load_cert_chain(node.certificate, node.key)
    assert _ask(agents.port, context)["peer"] == node.fingerprint


def test_without_a_certificate_headers_claim_nothing(agents: listeners.Bound, authority: Authority) -> None:
    node = authority.issue("gpu-0001")
    forged = {
        "X-Client-Cert": node.certificate.read_text().replace("\n", " "),
        "X-SSL-Client-Fingerprint": node.fingerprint,
        "X-Forwarded-Client-Cert": f"Hash={node.fingerprint}",
        "X-Forwarded-For": "10.9.8.7",
        "ostler.peer": node.fingerprint,
    }
    assert _ask(agents.port, _client(authority), forged) == {"peer": None, "client": "127.0.0.1"}


def test_a_certificate_of_another_authority_is_refused(
    agents: listeners.Bound, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority("theirs", tmp_path).issue("gpu-0001")
    context = _client(authority)
    context.load_cert_chain(stranger.certificate, stranger.key)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        _ask(agents.port, context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_resume_and_keep_the_certificate(
    agents: listeners.Bound, authority: Authority, version: ssl.TLSVersion
) -> None:
    node = authority.issue("gpu-0001")
    context = _client(authority)
    context.maximum_version = version
    context.load_cert_chain(node.certificate, node.key)
    session: ssl.SSLSession | None = None
    for resumed in (False, True):
        with (
            socket.create_connection(("localhost", agents.port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as tls,
        ):
            assert tls.session_reused is resumed
            tls.sendall(b"GET /whoami HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: tls.recv(65536), b""))
            assert node.fingerprint.encode() in answer
            session = tls.session  # TLS 1.3 gives the ticket after the handshake


def test_a_port_in_use_is_one_line_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        free = Listener("boot", "[boot] listen", "127.0.0.1", 0, boot_app([]))
        with pytest.raises(BadInput) as caught:
            Listeners([free, Listener("operator", "[operator] listen", "127.0.0.1", port, boot_app([]))])
    assert str(caught.value) == (
        f"[operator] listen = 127.0.0.1:{port}: Port {port} is in use by another program; stop it or choose another."
    )


@pytest.mark.parametrize(
    ("host", "words"), [("no-such-host.invalid", "has no address here"), ("192.0.2.1", "is no address of this machine")]
)
def test_a_host_that_is_not_here(host: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Listeners([Listener("operator", "[operator] listen", host, 0, boot_app([]))])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:8470", ("127.0.0.1", 8470)),
        (":8470", ("0.0.0.0", 8470)),
        ("[::1]:0", ("::1", 0)),
        ("ostler.lan:80", ("ostler.lan", 80)),
    ],
)
def test_addresses(text: str, found: tuple[str, int]) -> None:
    assert parse_address(text, "[operator] listen") == found


@pytest.mark.parametrize("text", ["", "8470", "host:", "host:http", "host:70000", "::1:80", "host:-1", "host:８４"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_address(text, "[operator] listen")
    assert caught.value.where == "[operator] listen"


_PROGRAM = """
from ostler.http.boot import boot_app
from ostler.http.listeners import Listener, Listeners
running = Listeners(
    [Listener(name, f"[{name}] listen", "127.0.0.1", 0, boot_app([])) for name in ("operator", "boot")],
    before_stop=lambda: print("stopping", flush=True),
)
print(running.bound["operator"].port, running.bound["boot"].port, flush=True)
running.run()
print("left", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_every_listener_gracefully(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        for port in map(int, program.stdout.readline().split()):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/nothing")  # answered: the loop runs, so its signal handlers are in place
            assert connection.getresponse().status == 404
            connection.close()
        program.send_signal(number)
        assert program.stdout.read() == "stopping\nleft\n"
        assert program.wait() == 0
