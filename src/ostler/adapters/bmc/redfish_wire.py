"""One bounded HTTP conversation with a Redfish service, over DMTF's `redfish` client. Called by `redfish.py` only.

A BMC is hostile until shown otherwise: its firmware is old, its network is shared, and its answers decide about power.
The library logs in, writes and logs out; `redfish_transport.py` under it bounds what a BMC can make us do (ADR 003),
and reads without it, on the same connection with the library's token: reading is what the watch does all day. One try
per call: repeating is for the job that knows whether the call may be repeated.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

import msgspec
import redfish
import requests
import urllib3
from redfish.messages import RedfishPasswordChangeRequiredError
from redfish.rest.v1 import (
    AuthMethod,
    InvalidCredentialsError,
    JsonDecodingError,
    RetriesExhaustedError,
    ServerDownOrUnreachableError,
    SessionCreationError,
)
from urllib3.util.ssl_match_hostname import CertificateError

from ostler.adapters.bmc.port import Credentials
from ostler.adapters.bmc.redfish_exchange import Misbehaved
from ostler.adapters.bmc.redfish_transport import BoundedAdapter, Limits, printable
from ostler.core.errors import (
    BadInput,
    Conflict,
    Forbidden,
    NotFound,
    Permanent,
    Unauthenticated,
    Unavailable,
    Unreachable,
)

# The library logs whole answers at error level, and at debug level the session's token. Nothing of it is for our log.
logging.getLogger("redfish.rest.v1").disabled = True

_AS_IS = "".join(map(chr, range(0x21, 0x7F)))
"""A path is sent as the service gave it; only what is not ASCII is quoted."""
_JSON = msgspec.json.Decoder()


@dataclass(frozen=True)
class Answer:
    """A decoded answer. `document` is empty when the body was."""

    status: int
    headers: Mapping[str, str]
    """Asked for by lower-case names."""
    document: Mapping[str, Any]


def base_url(address: str) -> str:
    """`10.0.0.7` -> `https://10.0.0.7`. Raises `BadInput` for what is no address of a BMC."""
    url = address if "://" in address else f"https://{address}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    clean = parts.scheme in ("http", "https") and parts.hostname and parts.username is None and port != 0
    clean = clean and url.isascii()
    if not clean or parts.path not in ("", "/") or parts.query or parts.fragment or not url.isprintable() or " " in url:
        shown = printable(address.rpartition("@")[2])  # a password before the @ is nobody's business
        raise BadInput(f"{shown!r} is no BMC address. Give a host name or IP address, or http(s)://host[:port].")
    return f"{parts.scheme}://{parts.netloc}"


class Wire:
    """Log in when first needed, ask, decode, translate errors. Not for use by two threads at once."""

    def __init__(self, address: str, credentials: Credentials, limits: Limits, ca_file: str | None) -> None:
        self.address = base_url(address)
        self.limits = limits
        self._credentials = credentials
        self._adapter = adapter = BoundedAdapter(limits, credentials.fingerprint, ca_file)
        self._client = redfish.redfish_client(
            base_url=self.address,
            username=credentials.username,
            password=credentials.password,
            cafile=ca_file,
            timeout=limits.read_seconds,
            max_retry=0,
            check_connectivity=False,
        )
        session: requests.Session = self._client._session  # its one way to bound plain HTTP as well as HTTPS
        session.trust_env = False
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        self._logged_in = False
        self.renewals = 0
        """How often it had to log in again: after that, the service may be another."""
        self._head = b""
        """The header lines of a GET, with the token."""

    def get(self, path: str) -> Answer:
        return self._ask("GET", path, None, {})

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        return self._ask("POST", path, dict(body), {})

    def patch(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Sends no ETag at first: some services choke on one. A service that asks for it (428) gets it."""
        try:
            return self._ask("PATCH", path, dict(body), {})
        except _PreconditionRequired:
            etag = self.get(path).headers.get("etag", "*")
            return self._ask("PATCH", path, dict(body), {"If-Match": etag})

    def close(self) -> None:
        with contextlib.suppress(Exception):  # the session may be gone with the BMC: it expires by itself
            self._client.logout()
        self._logged_in = False

    def _ask(self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Answer:
        self._log_in()
        answer = self._send(method, path, body, headers)
        if answer.status == 401:  # the session expired, and nothing was done: once more with a fresh one
            self._logged_in = False
            self._client.set_session_key(None)
            self._log_in()
            answer = self._send(method, path, body, headers)
        if answer.status >= 400:
            self._refuse(answer, method, path)
        return answer

    def _send(self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Answer:
        if method == "GET":
            return self._read(path)
        try:
            if method == "POST":
                response = self._client.post(path, body=body, headers=headers)
            else:
                response = self._client.patch(path, body=body, headers=headers)
        except RetriesExhaustedError as error:
            self._translate(error.__cause__)
        return self._answer(path, int(response.status), response._http_response.headers, bytes(response.read or b""))

    def _read(self, path: str) -> Answer:
        target = path.partition("#")[0]
        try:
            reply = self._adapter.get(target if target.isascii() else quote(target, safe=_AS_IS), self._head)
        except (OSError, HTTPException, Misbehaved, urllib3.exceptions.HTTPError, CertificateError) as error:
            self._translate(error)
        return self._answer(path, reply.status, reply.headers, reply.body)

    def _answer(self, path: str, status: int, headers: Mapping[str, str], raw: bytes) -> Answer:
        document: Mapping[str, Any] = {}
        try:
            document = _decode(raw)
        except Misbehaved as error:
            if status < 400:  # what an error page looks like does not matter
                raise BadInput(f"{path}: {error}.", where=self.address) from None
        return Answer(status, headers, document)

    def _log_in(self) -> None:
        if self._logged_in:
            return
        try:
            try:
                self._client.login(auth=AuthMethod.SESSION)
            except SessionCreationError:  # no session service, or all its places are taken
                self._client.login(auth=AuthMethod.BASIC)
        except InvalidCredentialsError:
            self._wrong_password()
        except RedfishPasswordChangeRequiredError:
            raise Forbidden(
                f"The BMC wants the password of {self._credentials.username!r} changed before it does anything.",
                where=self.address,
            ) from None
        except RetriesExhaustedError as error:
            self._translate(error.__cause__)
        except ServerDownOrUnreachableError as error:
            status = getattr(error.response, "status", 0)
            if status in (404, 405, 410):
                raise BadInput(
                    f"No Redfish service here (HTTP {status} for /redfish/v1/).", where=self.address
                ) from None
            raise Unavailable(f"The Redfish service is not ready (HTTP {status}).", where=self.address) from None
        except (JsonDecodingError, KeyError, TypeError, AttributeError, ValueError, RecursionError, Warning):
            # the library reads the answers to a login unchecked
            raise BadInput("This does not answer a log-in as a Redfish service does.", where=self.address) from None
        self.renewals += bool(self._head)
        self._head = self._head_lines()
        self._logged_in = True

    def _head_lines(self) -> bytes:
        """Headers of every GET of this session. The token is the BMC's own text: it must not become a header more."""
        token = self._client.get_session_key()
        name, value = ("X-Auth-Token", token) if token else ("Authorization", self._client.get_authorization_key())
        if not (isinstance(value, str) and value.isascii() and value.isprintable()):
            raise BadInput("The token of its session is no header.", where=self.address)
        lines = (
            f" HTTP/1.1\r\nHost: {urlsplit(self.address).netloc}",
            "Accept: application/json",
            "Accept-Encoding: gzip, identity",
            "OData-Version: 4.0",
            f"{name}: {value}",
        )
        return "\r\n".join((*lines, "", "")).encode("ascii")

    def _wrong_password(self) -> NoReturn:
        raise Unauthenticated(
            f"The BMC refuses user {self._credentials.username!r}: wrong name or password.", where=self.address
        )

    def _refuse(self, answer: Answer, method: str, path: str) -> NoReturn:
        status, said = answer.status, _said(answer.document)
        what = f"{method} {path} answered HTTP {status}" + (f": {said}" if said else ".")
        if status == 401:
            self._wrong_password()
        if status == 428:
            raise _PreconditionRequired(what, where=self.address)
        if status == 403:
            raise Forbidden(what, where=self.address)
        if status in (404, 410):
            raise NotFound(what, where=self.address)
        if status in (409, 412):
            raise Conflict(what, where=self.address)
        if status == 501 or (status < 500 and status != 429):
            raise BadInput(what, where=self.address)
        raise Unavailable(what, where=self.address)

    def _translate(self, cause: BaseException | None) -> NoReturn:
        """A failed request in one line. Walks the causes, because the library wraps what `requests` wrapped."""
        names: list[BaseException] = []
        seen: set[int] = set()
        todo: list[object] = [cause]
        while todo:
            error = todo.pop(0)
            if not isinstance(error, BaseException) or id(error) in seen:  # OpenSSL's errors have a text as reason
                continue
            seen.add(id(error))
            names.append(error)
            todo += [error.__cause__, error.__context__, getattr(error, "reason", None)]
            todo += error.args
        misbehaved = next((e for e in names if isinstance(e, Misbehaved)), None)
        if misbehaved is not None:
            raise BadInput(f"{misbehaved}.", where=self.address) from None
        kinds = {kind.__name__ for e in names for kind in type(e).__mro__}
        if kinds & {"SSLError", "CertificateError"}:
            raise Permanent(
                f"The BMC's TLS certificate is not the expected one ({printable(str(names[-1]), 120)}).",
                where=self.address,
            ) from None
        network = next((e for e in names if isinstance(e, OSError) and e.strerror), None)
        if "NameResolutionError" in kinds or "gaierror" in kinds:
            reason = "its name does not resolve"
        elif "ConnectionRefusedError" in kinds:
            reason = "connection refused"
        elif kinds & {"ConnectTimeout", "ConnectTimeoutError"}:
            reason = f"no connection within {self.limits.connect_seconds:g} s"
        elif kinds & {"ReadTimeout", "ReadTimeoutError", "TimeoutError", "TooSlow"}:
            reason = f"no answer within {self.limits.read_seconds:g} s"
        elif kinds & {"Dropped", "ConnectionResetError", "BrokenPipeError", "IncompleteRead", "RemoteDisconnected"}:
            reason = "it dropped the connection"
        elif network is not None:
            reason = printable(network.strerror, 120)
        elif kinds & {"BadStatusLine", "HTTPException", "InvalidHeader"}:
            raise BadInput("What answers here does not speak HTTP.", where=self.address) from None
        else:
            reason = "the connection failed"
        raise Unreachable(f"The BMC does not answer: {reason}.", where=self.address) from None


class _PreconditionRequired(Conflict):
    """HTTP 428: the service wants an ETag."""


def _decode(raw: bytes) -> Mapping[str, Any]:
    """Bytes to a JSON object; `Misbehaved` when it is anything else."""
    if not raw.strip():
        return {}
    if raw.lstrip()[:1] == b"<":
        raise Misbehaved("the answer is HTML or XML, not Redfish JSON")
    try:
        document = _JSON.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise Misbehaved("the answer is no valid JSON") from None
    if not isinstance(document, dict):
        raise Misbehaved("the answer is JSON, but no object")
    return document


def _said(document: Mapping[str, Any]) -> str:
    """The first message of a Redfish error body (DSP0266, error responses)."""
    error = document.get("error")
    if not isinstance(error, dict):
        return ""
    extended = error.get("@Message.ExtendedInfo")
    if isinstance(extended, list) and extended and isinstance(extended[0], dict):
        text = printable(extended[0].get("Message"))
        if text:
            return text
    return printable(error.get("message"))
