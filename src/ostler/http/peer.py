"""Whose certificate is at the other end of a TLS connection, as TLS itself verified it.

`PeerProtocol` puts it where only the server can write (`scope["extensions"]`); `peer_fingerprint` is the dependency
that the agents' router gets. Headers that claim an identity are never read: whoever connects could send them.
"""

from __future__ import annotations

import hashlib
import ssl

from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "ostler.peer"


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, plus the peer's certificate on every request of the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        tls: ssl.SSLObject | None = self.transport.get_extra_info("ssl_object")
        der = None if tls is None else tls.getpeercert(binary_form=True)
        fingerprint = None if der is None else hashlib.sha256(der).hexdigest()
        self.scope["extensions"] = {EXTENSION: {"fingerprint": fingerprint}}


def peer_fingerprint(request: Request) -> str | None:
    """SHA-256 (hex) of the DER form of the verified client certificate; None when the client showed none."""
    extensions = request.scope.get("extensions") or {}
    peer = extensions.get(EXTENSION) or {}
    found = peer.get("fingerprint")
    return found if isinstance(found, str) else None


def server_context(*, certificate: str, key: str, client_ca: str) -> ssl.SSLContext:
    """TLS of the agents' listener, from the names of three PEM files.

    A client certificate is optional, because a node that joins has none yet; one that is shown must come from
    `client_ca` or the handshake fails. Sessions resume, by tickets, and keep the certificate that opened them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context
