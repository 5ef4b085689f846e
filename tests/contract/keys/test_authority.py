"""The agents' certificate authority: what it signs, what it refuses, and that real TLS takes its certificates."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ostler.adapters.keys.authority import AGENT_DAYS, Authority, certificate_hash, request_certificate
from ostler.core.clock import ManualClock, SystemClock
from ostler.core.errors import BadInput, Permanent

SomeKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey
DAY = 86400.0


@pytest.fixture
def authority(tmp_path: Path, clock: ManualClock) -> Authority:
    return Authority.open(tmp_path / "ca", clock)


def builder(name: str = "someone") -> x509.CertificateSigningRequestBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject)


def request(key: SomeKey, name: str = "someone") -> bytes:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder(name).sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def common_name(certificate: bytes) -> str:
    found = x509.load_pem_x509_certificate(certificate)
    return str(found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def test_the_same_authority_after_a_restart(tmp_path: Path, clock: ManualClock) -> None:
    first, second = (Authority.open(tmp_path / "ca", clock) for _ in range(2))
    assert (first.certificate, first.ca_hash) == (second.certificate, second.ca_hash)
    assert first.ca_hash == certificate_hash(first.certificate)
    assert first.ca_hash.startswith("sha256:") and len(first.ca_hash) == 71
    assert (tmp_path / "ca" / "ca.key").stat().st_mode & 0o777 == 0o600


def test_half_or_damaged_or_readable_authority_is_not_replaced(tmp_path: Path, clock: ManualClock) -> None:
    folder = tmp_path / "ca"
    Authority.open(folder, clock)
    Authority.open(tmp_path / "other", clock)
    key, certificate = folder / "ca.key", folder / "ca.pem"
    good_key, good_certificate = key.read_bytes(), certificate.read_bytes()
    for file, good, bad, says in (
        (key, good_key, None, "One half"),
        (certificate, good_certificate, None, "One half"),
        (key, good_key, b"junk", "damaged"),
        (certificate, good_certificate, b"", "damaged"),
        (key, good_key, (tmp_path / "other" / "ca.key").read_bytes(), "does not belong"),
    ):
        if bad is None:
            file.unlink()
        else:
            file.write_bytes(bad)
        with pytest.raises(Permanent, match=says):
            Authority.open(folder, clock)
        file.write_bytes(good)
        file.chmod(0o600)
    key.chmod(0o644)
    with pytest.raises(Permanent, match=f"chmod 600 {key}"):
        Authority.open(folder, clock)


def test_the_name_is_the_node_whatever_was_asked_for(authority: Authority, clock: ManualClock) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    asked = (
        builder("node_someone_else")
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("ostler.example")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = authority.sign_agent(asked.public_bytes(serialization.Encoding.PEM), "node_01")
    certificate = x509.load_pem_x509_certificate(pem)
    assert common_name(pem) == "node_01" and authority.node_of(pem) == "node_01"
    assert certificate.public_key() == key.public_key()
    extensions = certificate.extensions
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):
        extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert certificate.not_valid_after_utc.timestamp() == clock.real() + AGENT_DAYS * DAY
    assert certificate.not_valid_before_utc.timestamp() < clock.real()


@pytest.mark.parametrize("key", ["rsa2048", "rsa3072", "p256", "p384", "p521", "ed25519"])
def test_good_keys(authority: Authority, key: str) -> None:
    made: SomeKey
    if key.startswith("rsa"):
        made = rsa.generate_private_key(65537, int(key[3:]))
    elif key == "ed25519":
        made = ed25519.Ed25519PrivateKey.generate()
    else:
        curve = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}[key]
        made = ec.generate_private_key(curve)
    assert common_name(authority.sign_agent(request(made), "node_1")) == "node_1"


def test_weak_and_strange_keys(authority: Authority) -> None:
    for weak, says in (
        (rsa.generate_private_key(65537, 1024), "RSA key of 1024 bits"),
        (ec.generate_private_key(ec.SECP224R1()), "curve secp224r1"),
        (ec.generate_private_key(ec.SECP256K1()), "curve secp256k1"),
        (dsa.generate_private_key(2048), "kind is not accepted"),
    ):
        with pytest.raises(BadInput, match=says):
            authority.sign_agent(request(weak), "node_1")


def test_forged_requests(authority: Authority) -> None:
    """Another's public key, or another name, put into a signed request."""
    key = ec.generate_private_key(ec.SECP256R1())
    mine, theirs = key.public_key(), ec.generate_private_key(ec.SECP256R1()).public_key()
    good = x509.load_pem_x509_csr(request(key)).public_bytes(serialization.Encoding.DER)
    stolen = good.replace(spki(mine), spki(theirs))
    altered = good.replace(b"someone", b"another")
    for forged in (stolen, altered):
        assert forged != good
        pem = ssl.DER_cert_to_PEM_cert(forged).replace("CERTIFICATE", "CERTIFICATE REQUEST").encode()
        with pytest.raises(BadInput, match="not signed by its own key"):
            authority.sign_agent(pem, "node_1")


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "csr", [b"", b"junk", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"]
)
def test_a_request_that_is_none(authority: Authority, csr: bytes) -> None:
    with pytest.raises(BadInput, match="no certificate request"):
        authority.sign_agent(csr, "node_1")


def test_a_request_that_floods(authority: Authority) -> None:
    with pytest.raises(BadInput, match="larger than 16 KiB"):
        authority.sign_agent(b"x" * 20_000, "node_1")


def test_a_name_that_no_certificate_can_have(authority: Authority) -> None:
    csr = request(ec.generate_private_key(ec.SECP256R1()))
    for name in ("", "x" * 65):
        with pytest.raises(BadInput, match="cannot be a certificate's name"):
            authority.sign_agent(csr, name)


def test_renewal_keeps_the_node_and_takes_a_new_key(authority: Authority, clock: ManualClock) -> None:
    old = authority.sign_agent(request(ec.generate_private_key(ec.SECP256R1())), "node_7")
    assert authority.renew_after(old) == pytest.approx(clock.real() + 60 * DAY, abs=3600)
    clock.advance(60 * DAY)
    new_key = ec.generate_private_key(ec.SECP256R1())
    new = authority.renew_agent(request(new_key, "node_8"), old)
    assert authority.node_of(new) == "node_7"
    assert x509.load_pem_x509_certificate(new).not_valid_after_utc.timestamp() == clock.real() + AGENT_DAYS * DAY


def test_what_cannot_be_renewed(authority: Authority, clock: ManualClock, tmp_path: Path) -> None:
    csr = request(ec.generate_private_key(ec.SECP256R1()))
    mine = authority.sign_agent(csr, "node_1")
    strangers = Authority.open(tmp_path / "other", clock).sign_agent(csr, "node_1")
    servers, _ = authority.issue_server(["localhost"])
    for bad, says in (
        (strangers, "not one that this authority issued"),
        (b"junk", "not one"),
        (servers, "not an agent's"),
    ):
        with pytest.raises(BadInput, match=says):
            authority.renew_agent(csr, bad)
    clock.advance(AGENT_DAYS * DAY + 1)
    with pytest.raises(BadInput, match="not valid now; join the node again"):
        authority.renew_agent(csr, mine)


def test_nothing_outlives_the_root(authority: Authority, clock: ManualClock) -> None:
    clock.advance(3640 * DAY)
    agent = authority.sign_agent(request(ec.generate_private_key(ec.SECP256R1())), "node_1", days=365)
    root = x509.load_pem_x509_certificate(authority.certificate)
    assert x509.load_pem_x509_certificate(agent).not_valid_after_utc == root.not_valid_after_utc


@pytest.mark.parametrize("names", [[], ["ü.example"], ["\N{SNOWMAN}"]])
def test_a_server_that_has_no_usable_name(authority: Authority, names: list[str]) -> None:
    with pytest.raises(BadInput):
        authority.issue_server(names)


def test_mutual_tls_with_these_certificates(tmp_path: Path) -> None:
    """A server and an agent by this authority meet; an agent of another authority is turned away."""
    authority = Authority.open(tmp_path / "ca", SystemClock())
    certificate, key = authority.issue_server(["localhost", "127.0.0.1"])
    (tmp_path / "server.pem").write_bytes(certificate)
    (tmp_path / "server.key").write_bytes(key)
    other = Authority.open(tmp_path / "other", SystemClock())
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.certificate.decode())
    served.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    served.verify_mode = ssl.CERT_REQUIRED
    seen: list[str] = []

    for name, signer in (("good", authority), ("bad", other)):
        folder = tmp_path / name
        csr = request_certificate(folder, "whatever")
        (folder / "agent.pem").write_bytes(signer.sign_agent(csr, f"node_{name}"))
        asks = ssl.create_default_context(cadata=authority.certificate.decode())
        asks.load_cert_chain(folder / "agent.pem", folder / "agent.key")
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve(listener: socket.socket = listener) -> None:
                connection, _ = listener.accept()
                with connection:
                    try:
                        with served.wrap_socket(connection, server_side=True) as tls:
                            peer = tls.getpeercert(binary_form=True) or b""
                            seen.append(common_name(ssl.DER_cert_to_PEM_cert(peer).encode()))
                            tls.sendall(b"hello")
                    except (ssl.SSLError, ConnectionError) as error:
                        seen.append(type(error).__name__)

            thread = threading.Thread(target=serve)
            thread.start()
            with socket.create_connection(listener.getsockname()) as plain:
                try:
                    with asks.wrap_socket(plain, server_hostname="localhost") as tls:
                        assert tls.recv(5) == (b"hello" if name == "good" else b"")
                except (ssl.SSLError, ConnectionError):
                    assert name == "bad"
            thread.join()
    assert seen == ["node_good", "SSLCertVerificationError"]


def test_times_are_real_not_simulated(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    authority = Authority.open(tmp_path / "ca", SystemClock())
    root = x509.load_pem_x509_certificate(authority.certificate)
    assert abs((root.not_valid_before_utc - now).total_seconds()) < 3600
