"""How a report reaches the server: one HTTPS request over mutual TLS, on a connection that is kept.

`Transport` is the seam: `HttpsTransport` is the real one; the twin and tests bring their own. Standard library only:
http.client knows no proxies, follows no redirects and reads no environment. The server's certificate must come from
the pinned CA and name the host; answers are bounded.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import ssl
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import urlsplit

from ostler.core.errors import BadInput, Forbidden, OstlerError, Permanent, Temporary, Unauthenticated, Unreachable
from ostler.wire.agent import ANSWER_LIMIT, Report, ReportAnswer
from ostler.wire.decode import decode, encode

TIMEOUT_S = 10.0
"""Real seconds for connecting, and for each wait for bytes."""
SKEW_S = 300.0
"""A node's clock that is further off than this is named in the log."""
REPORT_PATH = "/v1/agent/report"

_NOT_YET_VALID, _EXPIRED = 9, 10
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""
_OURS_REFUSED: Mapping[str, str] = {
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it has expired by the server's clock",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it was revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it is no good there, or not valid yet by the server's clock",
    "TLSV1_ALERT_UNKNOWN_CA": "it comes from another authority than the server's",
}
"""Alerts of TLS (RFC 8446, section 6.2) by OpenSSL's names: the server has looked at our certificate and says no."""

_log = logging.getLogger("ostler.agent")


class Transport(Protocol):
    """Takes one report to the server and brings back its answer.

    Raises Temporary (try again after its delay), Unauthenticated or Forbidden (this identity is not taken: try rarely),
    or another Permanent (this very report is not taken: do not send it again as it is).
    """

    def report(self, report: Report) -> ReportAnswer: ...

    def close(self) -> None: ...


class HttpsTransport:
    """Keeps one connection to the agents' listener; opens it again when it was lost."""

    def __init__(
        self,
        server: str,
        context: ssl.SSLContext,
        *,
        real: Callable[[], float],
        timeout: float = TIMEOUT_S,
    ) -> None:
        """`server`: `https://host:port`. `real`: wall time, compared with the server's Date."""
        self.server = server
        self._host, self._port = address(server)
        self._context = context
        self._real = real
        self._timeout = timeout
        self._connection: http.client.HTTPSConnection | None = None
        self._skewed = False

    def report(self, report: Report) -> ReportAnswer:
        answer = self.post(REPORT_PATH, encode(report))
        try:
            return decode(ReportAnswer, answer, limit=ANSWER_LIMIT)
        except BadInput as error:
            raise Unreachable(f"an answer that cannot be understood ({error})", where=self.server) from None

    def post(self, path: str, body: bytes, kind: str = "application/json") -> bytes:
        """The body of a 200 answer. A connection that the server had closed meanwhile is opened once more."""
        kept = self._connection is not None
        try:
            return self._exchange("POST", path, body, kind)
        except Unreachable:
            if not kept:
                raise
        return self._exchange("POST", path, body, kind)

    def get(self, path: str) -> bytes:
        """The body of a 200 answer."""
        return self._exchange("GET", path, b"")

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(self, method: str, path: str, body: bytes, kind: str = "application/json") -> bytes:
        connection = self._connection
        if connection is None:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout, context=self._context
            )
            self._connection = connection
        try:
            if connection.sock is None:
                connection.connect()  # sets TCP_NODELAY
            try:
                connection.request(method, path, body=body or None, headers={"Content-Type": kind})
            except OSError:
                # Who ends a handshake says why and hangs up at once: its words are there although ours did not get out.
                connection.sock.recv(1)
                raise
            response = connection.getresponse()
            answer = response.read(ANSWER_LIMIT + 1)
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise Unreachable(self._distrust(error), where=self.server, delay=30.0) from None
        except ssl.SSLError as error:
            self.close()
            if (why := _OURS_REFUSED.get(error.reason or "")) is not None:
                said = f"the server does not take this node's certificate: {why}"
                raise Unauthenticated(said, where=self.server) from None
            raise Unreachable(f"the server does not answer ({error})", where=self.server) from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            what = str(error) or type(error).__name__
            raise Unreachable(f"the server does not answer ({what})", where=self.server) from None
        if len(answer) > ANSWER_LIMIT:
            self.close()
            raise Unreachable(f"an answer of more than {ANSWER_LIMIT} bytes", where=self.server, delay=60.0)
        if response.will_close:
            self.close()
        if response.status != 200:
            self._compare_clocks(response.getheader("Date", ""))
            raise self._refusal(response, answer)
        return answer

    def _distrust(self, error: ssl.SSLCertVerificationError) -> str:
        if error.verify_code == _NOT_YET_VALID:
            return "the server's certificate is not valid yet by this node's clock; set the clock"
        if error.verify_code == _EXPIRED:
            return "the server's certificate has expired by this node's clock; set the clock or renew the certificate"
        return f"this is not the server that the node joined: {error.verify_message}"

    def _refusal(self, response: http.client.HTTPResponse, answer: bytes) -> OstlerError:
        """What a status other than 200 means for the agent (errors are RFC 9457 documents with a `detail`)."""
        said = _detail(answer) or response.reason or "no reason given"
        status, where = response.status, self.server
        if status == 401:
            return Unauthenticated(f"the server does not take these credentials: {said}", where=where)
        if status == 403:
            return Forbidden(f"the server says no: {said}", where=where)
        if status in (400, 413, 422):
            return BadInput(f"the server refused the message: {said}", where=where)
        if status in (404, 405, 409, 410):
            return Permanent(f"the server answered {status}: {said}", where=where)
        after = response.getheader("Retry-After", "")
        delay = min(float(after), 600.0) if after.isdecimal() else 10.0
        return Temporary(f"the server answered {status}: {said}", where=where, delay=delay)

    def _compare_clocks(self, date: str) -> None:
        try:
            ahead = self._real() - parsedate_to_datetime(date).timestamp()
        except (ValueError, OverflowError):
            return
        skewed = abs(ahead) > SKEW_S
        if skewed and not self._skewed:
            _log.warning(
                "this node's clock is %.0f s %s the server's; set it, or TLS will fail and times will mislead",
                abs(ahead),
                "ahead of" if ahead > 0 else "behind",
            )
        self._skewed = skewed


def address(server: str) -> tuple[str, int]:
    """Host and port of `https://host[:port]`. Raises BadInput."""
    try:
        parts = urlsplit(server)
        port = parts.port or 443
    except ValueError as error:
        raise BadInput(f"{server[:200]!r} is no address ({error})") from None
    if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.username:
        raise BadInput(f"{server[:200]!r} is no address of a server; write https://HOST:PORT")
    return parts.hostname, port


def pinned_context(ca_pem: str) -> ssl.SSLContext:
    """A client context that trusts this CA and nothing else. Raises BadInput."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError) as error:
        raise BadInput(f"the CA certificate cannot be read ({error})") from None
    return context


def identity_context(ca_pem: str, certificate_pem: str, key_pem: str) -> ssl.SSLContext:
    """`pinned_context` that also shows this node's certificate. Raises BadInput."""
    context = pinned_context(ca_pem)
    try:
        descriptor = os.memfd_create("identity")  # OpenSSL wants a file; this one is on no disk
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(f"{key_pem}\n{certificate_pem}\n".encode())
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    except (ssl.SSLError, OSError) as error:
        raise BadInput(
            f"this node's certificate and key do not work together ({error}); join again", where="identity"
        ) from None
    return context


def _detail(answer: bytes) -> str:
    """The first line of a problem document's `detail`, bounded: it goes to a log."""
    try:
        problem = json.loads(answer)
    except (ValueError, RecursionError):
        return ""
    detail = problem.get("detail") or problem.get("title") if isinstance(problem, dict) else None
    if not isinstance(detail, str):
        return ""
    return "".join(character if character.isprintable() else " " for character in detail[:300])
