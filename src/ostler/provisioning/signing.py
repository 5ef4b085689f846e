"""Ostler's certificate authority as the `Signer` that joining needs. Built by `app.py`."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ostler.adapters.keys.authority import Authority
from ostler.adapters.keys.port import SecretStore
from ostler.core.errors import NotFound
from ostler.provisioning.model import Trust

TOKEN_KEY = "join-token-key"  # noqa: S105 - the name under which it is kept


@dataclass(frozen=True)
class AgentCertificate:
    """What the join keeps and hands out."""

    pem: str
    fingerprint: str
    """SHA-256 of the DER form, lower-case hex: how the TLS listener names it."""
    expires_at: float
    """Real time."""


class AuthoritySigner:
    """Signs agents' requests; pure computation, no I/O."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def sign_agent(self, csr_pem: str, node_id: str, days: int) -> AgentCertificate:
        """Raises `BadInput` for a damaged, forged or weak request."""
        pem = self._authority.sign_agent(csr_pem.encode(), node_id, days)
        certificate = x509.load_pem_x509_certificate(pem)
        return AgentCertificate(pem.decode(), _sha256_der(certificate), certificate.not_valid_after_utc.timestamp())


def trust_of(authority: Authority, store: SecretStore) -> Trust:
    """What seeds are made of; the token key is made at the first start and kept in the secret store."""
    try:
        key = store.get(TOKEN_KEY)
    except NotFound:
        key = secrets.token_hex(32)
        store.put(TOKEN_KEY, key)
    certificate = x509.load_pem_x509_certificate(authority.certificate)
    return Trust(authority.certificate.decode(), _sha256_der(certificate), bytes.fromhex(key))


def _sha256_der(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
