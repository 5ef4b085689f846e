"""From when to when a certificate is good. Used by `renewal.py`: the standard library tells it of a peer's only.

Reads as far as the validity of an X.509 certificate and no further (RFC 5280, section 4.1): DER, definite lengths.
"""

from __future__ import annotations

import re
import ssl
from calendar import timegm
from time import strptime

from ostler.core.errors import BadInput

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_FORMS = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


def validity(pem: str) -> tuple[float, float]:
    """(begins, ends) of the first certificate in `pem`, real time, UTC epoch seconds. Raises BadInput for any other."""
    found = _CERTIFICATE.search(pem)
    try:
        if found is None:
            raise ValueError("no certificate")
        der = ssl.PEM_cert_to_DER_cert(found.group())
        certificate, _ = _read(der, _SEQUENCE)
        rest, _ = _read(certificate, _SEQUENCE)
        if rest[:1] == bytes([_VERSION]):
            _, rest = _read(rest)
        for _field in ("serial number", "signature", "issuer"):
            _, rest = _read(rest)
        times, _ = _read(rest, _SEQUENCE)
        begins, times = _time(times)
        ends, _ = _time(times)
    except (ValueError, IndexError) as error:
        raise BadInput(f"this is no certificate ({error})") from None
    return begins, ends


def _time(der: bytes) -> tuple[float, bytes]:
    value, rest = _read(der)
    return float(timegm(strptime(value.decode("ascii"), _FORMS.get(der[0], "")))), rest


def _read(der: bytes, expected: int | None = None) -> tuple[bytes, bytes]:
    """The content of the first element, and what follows it. Raises ValueError, IndexError."""
    if expected is not None and der[0] != expected:
        raise ValueError(f"found {der[0]:#x} instead of {expected:#x}")
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    if start + length > len(der):
        raise ValueError("it is cut off")
    return der[start : start + length], der[start + length :]
