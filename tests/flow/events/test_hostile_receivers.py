"""Receivers that mean harm get nothing: no memory, no time, no redirect, no secret path around TLS."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput
from ostler.db.engine import Database
from ostler.events.model import DeliveryState, WebhookSettings
from ostler.events.sender import Sender
from ostler.events.transport import BODY_LIMIT, HEADER_LIMIT
from tests.flow.events.memory import LOOPBACK, SECRET, MemorySecrets, log_of, publish, subscribe
from tests.flow.events.receiver import Behaviour, Receiver, answer, receiving

SHORT = dataclasses.replace(LOOPBACK, timeout_s=0.5)


@pytest.fixture
def receiver(clock: ManualClock) -> Iterator[Receiver]:
    with receiving(clock.real, SECRET) as made:
        yield made


def endless_body(handler: BaseHTTPRequestHandler, _number: int) -> None:
    handler.send_response(500)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65536)


def endless_headers(handler: BaseHTTPRequestHandler, _number: int) -> None:
    handler.wfile.write(b"HTTP/1.1 500 No\r\n")
    while True:
        handler.wfile.write(b"X-More: " + b"y" * 1000 + b"\r\n")


def endless_hints(handler: BaseHTTPRequestHandler, _number: int) -> None:
    while True:
        handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n")


def never(handler: BaseHTTPRequestHandler, _number: int) -> None:
    handler.rfile.read(1)


def drip(handler: BaseHTTPRequestHandler, _number: int) -> None:
    handler.wfile.write(b"HTTP/1.1 500 No\r\nContent-Length: 10\r\n\r\nx")
    handler.rfile.read(1)


def garbage(handler: BaseHTTPRequestHandler, _number: int) -> None:
    handler.wfile.write(b"\x00\xffSSH-2.0-no http at all\r\n\r\n")
    handler.close_connection = True


def close(handler: BaseHTTPRequestHandler, _number: int) -> None:
    handler.close_connection = True


def deaf_after_ok(handler: BaseHTTPRequestHandler, _number: int) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    handler.rfile.read(1)


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (endless_body, f"more than {BODY_LIMIT} bytes"),
        (endless_headers, f"more than {HEADER_LIMIT} bytes of headers"),
        (endless_hints, f"more than {HEADER_LIMIT} bytes of headers"),
        (never, "timed out"),
        (drip, "timed out"),
        (garbage, "HTTP/0.9"),
        (close, "Empty reply"),
        (answer(307, {"Location": "/other"}), "HTTP 307"),
    ],
    ids=["body", "headers", "hints", "never", "drip", "garbage", "close", "redirect"],
)
def test_a_hostile_answer_is_one_failed_try(
    sqlite_db: Database, receiver: Receiver, behaviour: Behaviour, error: str
) -> None:
    secrets = MemorySecrets()
    receiver.behaviours["/"] = behaviour
    endpoint = subscribe(sqlite_db, secrets, receiver.url + "/")
    publish(sqlite_db)
    sender = Sender(sqlite_db, secrets, SHORT, "a")
    assert sender.run_once() == [DeliveryState.DUE]
    sender.stop()
    ((_, (attempt,)),) = log_of(sqlite_db, endpoint)
    assert error in attempt.error
    assert set(receiver.requests) == {"/"}  # nothing followed


def test_2xx_is_an_acknowledgement_whatever_follows(sqlite_db: Database, receiver: Receiver) -> None:
    secrets = MemorySecrets()
    receiver.behaviours["/"] = deaf_after_ok
    subscribe(sqlite_db, secrets, receiver.url + "/")
    publish(sqlite_db)
    sender = Sender(sqlite_db, secrets, SHORT, "a")
    assert sender.run_once() == [DeliveryState.DELIVERED]
    sender.stop()


def test_nobody_there(sqlite_db: Database, clock: ManualClock) -> None:
    with receiving(clock.real, SECRET) as gone:
        url = gone.url
    secrets = MemorySecrets()
    endpoint = subscribe(sqlite_db, secrets, url + "/")
    publish(sqlite_db)
    sender = Sender(sqlite_db, secrets, SHORT, "a")
    assert sender.run_once() == [DeliveryState.DUE]
    sender.stop()
    ((_, (attempt,)),) = log_of(sqlite_db, endpoint)
    assert (attempt.status, "Could not connect" in attempt.error or "Failed to connect" in attempt.error) == (0, True)


def test_proxies_of_the_environment_are_ignored(
    sqlite_db: Database, receiver: Receiver, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = MemorySecrets()
    with receiving(clock.real, SECRET) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        subscribe(sqlite_db, secrets, receiver.url + "/")
        publish(sqlite_db)
        sender = Sender(sqlite_db, secrets, LOOPBACK, "a")
        assert sender.run_once() == [DeliveryState.DELIVERED]
        sender.stop()
        assert proxy.requests == {}


SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0x7f.0x0.0x0.0x1",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "127.000.000.001",
    "127.0.0.1.",
    "127.1.",
    "0",
    "0.0.0.0",
    "127.127.127.127",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]",
    "[fe80::1%25lo]",
    "%31%32%37.0.0.1",
    "１２７.0.0.1",
    "127。0。0。1",
    "①②⑦.0.0.1",
    "user@127.0.0.1",
    "127.0.0.1%00.example.com",
    "example.com@127.0.0.1",
    "127.0.0.1\\@example.com",
]


@pytest.mark.parametrize("network", ["none", "another"])
def test_no_spelling_of_loopback_is_reached(
    sqlite_db: Database, receiver: Receiver, clock: ManualClock, network: str
) -> None:
    """With the early check passed over where it refuses, so that the guard at the socket has to hold."""
    settings = WebhookSettings(timeout_s=5.0, allow_networks=() if network == "none" else ("10.99.0.0/16",))
    careless = dataclasses.replace(LOOPBACK, allow_networks=("0.0.0.0/0", "::/0"))
    secrets = MemorySecrets()
    port = receiver.url.rpartition(":")[2]
    tried = []
    for spelling in SPELLINGS:
        try:
            tried.append(subscribe(sqlite_db, secrets, f"http://{spelling}:{port}/x", settings=careless))
        except BadInput:
            continue
    assert len(tried) > 20
    publish(sqlite_db)
    sender = Sender(sqlite_db, secrets, settings, "a")
    assert set(sender.run_once()) == {DeliveryState.DUE}
    sender.stop()
    assert receiver.requests == {}
    for endpoint in tried:
        ((_, (attempt,)),) = log_of(sqlite_db, endpoint)
        assert attempt.status == 0
        assert attempt.error


def test_plain_http_goes_only_to_listed_networks(sqlite_db: Database) -> None:
    secrets = MemorySecrets()
    with pytest.raises(BadInput, match="Use https"):
        subscribe(sqlite_db, secrets, "http://hooks.example/", settings=WebhookSettings())
    assert secrets.kept == {}


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server context for 127.0.0.1 and the PEM of its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ostler test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "ca.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = folder / "key.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    return context, pem


def test_tls_is_verified(sqlite_db: Database, clock: ManualClock, tmp_path: Path) -> None:
    context, pem = certificate(tmp_path)
    secrets = MemorySecrets()
    with receiving(clock.real, SECRET, context) as receiver:
        endpoint = subscribe(sqlite_db, secrets, receiver.url + "/")
        publish(sqlite_db)
        distrusting = Sender(sqlite_db, secrets, LOOPBACK, "a")
        assert distrusting.run_once() == [DeliveryState.DUE]
        distrusting.stop()
        assert receiver.requests == {}
        assert "certificate" in log_of(sqlite_db, endpoint)[0][1][0].error
        clock.advance(10)
        trusting = Sender(sqlite_db, secrets, dataclasses.replace(LOOPBACK, ca_file=str(pem)), "a")
        assert trusting.run_once() == [DeliveryState.DELIVERED]
        trusting.stop()
        assert receiver.order() == [("node_1", 1)]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example",
        "ftp://hooks.example/",
        "https://",
        "https:///x",
        "https://user:pw@hooks.example/",
        "https://hooks.example/#x",
        "https://hooks.example:0/",
        "https://hooks.example:99999/",
        "https://hooks.example/ x",
        "https://hooks.example/\r\nX: y",
        "https://höoks.example/",
        "https://hooks.example\\@evil.example/",
        "https://[::1",
        "https://127.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest",
        "https://x.example/" + "a" * 2048,
        "javascript:alert(1)",
        "file:///etc/passwd",
    ],
)
def test_urls_that_are_refused_at_once(sqlite_db: Database, url: str) -> None:
    secrets = MemorySecrets()
    with pytest.raises(BadInput) as caught:
        subscribe(sqlite_db, secrets, url, settings=WebhookSettings())
    assert caught.value.where == "url"
    assert secrets.kept == {}


def test_urls_that_are_fine(sqlite_db: Database) -> None:
    secrets = MemorySecrets()
    for url in ("https://hooks.example/gpu?x=1", "https://8.8.8.8/", "https://hooks.example:8443"):
        subscribe(sqlite_db, secrets, url, settings=WebhookSettings())
