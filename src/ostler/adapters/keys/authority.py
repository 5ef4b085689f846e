"""Ostler's own certificate authority: it names the agents and the listeners they trust. Used by `http/` and the join.

One self-signed EC P-256 root in the data folder. An agent makes its own key, proves it with a signing request, and gets
a client certificate whose common name is its node id, whatever it asked for: who the caller is was settled by the join,
and the request proves possession of a key and nothing else. Agents find the authority by `ca_hash`, the SHA-256 of its
public key (as kubeadm does), which travels with the join token. Certificates live in real time, never in simulated.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ostler.adapters.keys.private_files import check_private, private_folder, write_private
from ostler.core.clock import Clock
from ostler.core.errors import BadInput, Permanent

AUTHORITY_YEARS = 10
SERVER_DAYS = 397
"""The longest that common TLS clients accept (CA/Browser Forum, Baseline Requirements 6.3.2)."""
AGENT_DAYS = 90
BACKDATED = timedelta(minutes=15)
"""Valid from a little before now, because nodes' clocks are off."""
MAX_REQUEST_BYTES = 16 << 10
RSA_BITS = (2048, 8192)
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


class Authority:
    """The root's key and certificate, in memory. Make one by `open`."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, clock: Clock) -> None:
        self._key = key
        self._certificate = certificate
        self._clock = clock

    @classmethod
    def open(cls, folder: Path, clock: Clock) -> Authority:
        """Load the authority from `folder` (`ca.pem`, `ca.key`), or make it there at the first start.

        Raises `Permanent` when the key can be read by others, is damaged, or does not belong to the certificate: a new
        root in its place would cut off every agent, so none is made silently.
        """
        private_folder(folder)
        key_file, certificate_file = folder / "ca.key", folder / "ca.pem"
        if not key_file.exists() and not certificate_file.exists():
            _make(key_file, certificate_file, clock)
        for file in (key_file, certificate_file):
            if not file.exists():
                raise Permanent("One half of the certificate authority is missing; restore it.", where=str(file))
        check_private(key_file)
        try:
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Permanent("The certificate authority's files are damaged; restore them.", where=str(folder)) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or _spki(key.public_key()) != _spki(
            certificate.public_key()
        ):
            raise Permanent("The key does not belong to the authority's certificate; restore both.", where=str(folder))
        return cls(key, certificate, clock)

    @property
    def certificate(self) -> bytes:
        """The root certificate, PEM: what peers verify against."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def ca_hash(self) -> str:
        """`sha256:` and the hex digest of the root's SubjectPublicKeyInfo (DER)."""
        return "sha256:" + hashlib.sha256(_spki(self._certificate.public_key())).hexdigest()

    def issue_server(self, names: Iterable[str], days: int = SERVER_DAYS) -> tuple[bytes, bytes]:
        """(certificate chain, private key), both PEM, for a listener under these DNS names and IP addresses."""
        alternatives = [_alternative(name) for name in names]
        if not alternatives:
            raise BadInput("A server certificate needs at least one host name or IP address.")
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = self._leaf("ostler", key.public_key(), days, usage)
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return self._sign(builder) + self.certificate, _private_pem(key)

    def sign_agent(self, csr: bytes, node_id: str, days: int = AGENT_DAYS) -> bytes:
        """The agent's client certificate, PEM, with the common name `node_id`.

        What the request says of itself (subject, extensions) is ignored. Raises `BadInput` when it is damaged, was not
        signed by its own key, or the key is weak (RSA under 2048 bits, a curve other than NIST's three).
        """
        public = _proved_key(csr)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return self._sign(self._leaf(node_id, public, days, usage))

    def renew_agent(self, csr: bytes, current: bytes, days: int = AGENT_DAYS) -> bytes:
        """A new certificate for the node that `current` (PEM) names: issued by us, still valid, for a client.

        The TLS listener has verified that the caller holds `current`'s key; this checks everything else again.
        """
        return self.sign_agent(csr, self.node_of(current), days)

    def node_of(self, certificate: bytes) -> str:
        """The node id in a valid agent certificate (PEM). Raises `BadInput` for any other."""
        try:
            found = x509.load_pem_x509_certificate(certificate)
            found.verify_directly_issued_by(self._certificate)
            usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
            raise BadInput("This certificate is not one that this authority issued.") from None
        now = datetime.fromtimestamp(self._clock.real(), UTC)
        if not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
            raise BadInput("This certificate is not valid now; join the node again.")
        names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if ExtendedKeyUsageOID.CLIENT_AUTH not in usage or len(names) != 1:
            raise BadInput("This certificate is not an agent's.")
        return str(names[0].value)

    def renew_after(self, certificate: bytes) -> float:
        """When to renew (real time, UTC epoch seconds): two thirds into the certificate's life."""
        found = x509.load_pem_x509_certificate(certificate)
        start, end = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
        return start + (end - start) * 2 / 3

    def _leaf(self, name: str, key: PublicKey, days: int, usage: x509.ExtendedKeyUsage) -> x509.CertificateBuilder:
        now = datetime.fromtimestamp(self._clock.real(), UTC)
        builder = _builder(name, self._certificate.subject, key, now, min(now + timedelta(days=days), self._end()))
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(usage, critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return builder.add_extension(issuer, critical=False)

    def _end(self) -> datetime:
        return self._certificate.not_valid_after_utc

    def _sign(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey


def request_certificate(folder: Path, name: str) -> bytes:
    """An agent's half: a fresh P-256 key in `folder/agent.key` and the signing request for it (PEM)."""
    private_folder(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(folder / "agent.key", _private_pem(key))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def certificate_hash(certificate: bytes) -> str:
    """`ca_hash` of a root certificate (PEM) that a peer presents: what a joining agent compares with its token."""
    try:
        return "sha256:" + hashlib.sha256(_spki(x509.load_pem_x509_certificate(certificate).public_key())).hexdigest()
    except (ValueError, UnsupportedAlgorithm):
        raise BadInput("The authority's certificate is damaged.") from None


def _make(key_file: Path, certificate_file: Path, clock: Clock) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.fromtimestamp(clock.real(), UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Ostler agents")])
    builder = _builder("Ostler agents", name, key.public_key(), now, now + timedelta(days=365 * AUTHORITY_YEARS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256())
    write_private(key_file, _private_pem(key))
    write_private(certificate_file, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _builder(name: str, issuer: x509.Name, key: PublicKey, now: datetime, until: datetime) -> x509.CertificateBuilder:
    try:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    except ValueError:
        raise BadInput(f"{name[:80]!r} cannot be a certificate's name (1 to 64 characters).") from None
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(until)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _proved_key(csr: bytes) -> PublicKey:
    if len(csr) > MAX_REQUEST_BYTES:
        raise BadInput(f"The certificate request is larger than {MAX_REQUEST_BYTES >> 10} KiB.")
    try:
        request = x509.load_pem_x509_csr(csr)
        public = request.public_key()
        proved = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        raise BadInput("This is no certificate request (PEM), or one of a kind that is not supported.") from None
    if not proved:
        raise BadInput("The certificate request was not signed by its own key.")
    if isinstance(public, rsa.RSAPublicKey):
        if not RSA_BITS[0] <= public.key_size <= RSA_BITS[1]:
            raise BadInput(
                f"An RSA key of {public.key_size} bits is not accepted; use EC P-256, or RSA from 2048 bits."
            )
        return public
    if isinstance(public, ec.EllipticCurvePublicKey):
        if public.curve.name not in _CURVES:
            raise BadInput(f"The curve {public.curve.name} is not accepted; use P-256, P-384 or P-521.")
        return public
    if isinstance(public, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return public
    raise BadInput("The key's kind is not accepted; use EC P-256.")


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise BadInput(f"{name!r} is no DNS name and no IP address.") from None


def _spki(key: object) -> bytes:
    if not hasattr(key, "public_bytes"):
        raise BadInput("The key's kind is not accepted.")
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


__all__ = ["AGENT_DAYS", "Authority", "certificate_hash", "request_certificate"]
