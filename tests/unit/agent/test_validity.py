"""A certificate's life as the agent reads it, against the library that made the certificate."""

from __future__ import annotations

import base64
import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from ostler.agent.validity import validity
from ostler.core.errors import BadInput

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def made(begins: datetime.datetime, ends: datetime.datetime, *, large: bool = False) -> str:
    key = rsa.generate_private_key(65537, 2048) if large else ec.generate_private_key(ec.SECP256R1())
    units = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "u" * 60) for _ in range(20 if large else 0)]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node_1"), *units])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("years", [(1999, 2000), (2026, 2027), (2049, 2050), (2051, 2399)])
def test_it_reads_what_the_library_wrote(years: tuple[int, int], large: bool) -> None:
    begins, ends = (datetime.datetime(year, 12, 31, 23, 59, 58, tzinfo=datetime.UTC) for year in years)
    pem = made(begins, ends, large=large)
    assert validity(f"a key before it\n{pem}\n{made(EPOCH, ends)}") == (begins.timestamp(), ends.timestamp())


def test_what_is_no_certificate_is_bad_input() -> None:
    der = ssl.PEM_cert_to_DER_cert(made(EPOCH, EPOCH + datetime.timedelta(days=1)))
    bad = [der[:length] for length in range(len(der))]
    bad += [der[:at] + bytes([der[at] ^ 0x80]) + der[at + 1 :] for at in range(8)]
    for raw in bad:
        text = base64.encodebytes(raw).decode()
        with pytest.raises(BadInput, match="no certificate"):
            validity(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n")
    for text in ("", "nonsense", "-----BEGIN CERTIFICATE-----\n=\n-----END CERTIFICATE-----"):
        with pytest.raises(BadInput, match="no certificate"):
            validity(text)
