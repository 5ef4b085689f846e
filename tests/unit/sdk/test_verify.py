"""The consumer's verification against two independent implementations, and against everything hostile."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest
import standardwebhooks
import stripe
from hypothesis import given
from hypothesis import strategies as st

from ostler.sdk.webhooks import Event, VerificationError, verify
from ostler.wire import signatures

SECRET = "a-secret-of-some-length"
OLD = "the-secret-before-that-one"
NOW = 1_800_000_000
DOCUMENT: dict[str, Any] = {
    "id": "event_01",
    "type": "node.unhealthy",
    "version": 1,
    "subject": "node_1",
    "seq": 4,
    "time": "2027-01-15T08:00:00.000Z",
    "tenant": None,
    "data": {"node_id": "node_1", "reason": "XID 79", "gpu_count": 8},
}
BODY = json.dumps(DOCUMENT).encode()


def signed(body: bytes = BODY, secrets: tuple[str, ...] = (SECRET,), at: int = NOW) -> dict[str, str]:
    return signatures.headers("event_01", at, body, secrets)


def only(headers: dict[str, str], prefix: str) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith(prefix)}


def test_what_was_signed_is_verified() -> None:
    event = verify(BODY, signed(), [SECRET], now=NOW)
    assert event == Event(**DOCUMENT)


@pytest.mark.parametrize("prefix", ["x-coreweave-", "webhook-"])
def test_either_scheme_will_do(prefix: str) -> None:
    assert verify(BODY, only(signed(), prefix), [SECRET], now=NOW).seq == 4


@pytest.mark.parametrize("prefix", ["x-coreweave-", "webhook-"])
@pytest.mark.parametrize("age", [-301, -300, -1, 0, 299, 300, 301, 10**11])
def test_the_window_has_two_sides(prefix: str, age: int) -> None:
    headers = only(signed(at=NOW), prefix)
    if abs(age) <= 300:
        verify(BODY, headers, [SECRET], now=NOW + age)
    else:
        with pytest.raises(VerificationError, match="timestamp"):
            verify(BODY, headers, [SECRET], now=NOW + age)


@pytest.mark.parametrize(
    "timestamp",
    [
        f"+{NOW}",
        f" {NOW}",
        f"{NOW} ",
        "1_800_000_000",
        f"{NOW}.0",
        "18e8",
        "",
        "-1",
        "0x6b49d200",
        "١٨٠٠٠٠٠٠٠٠",
        f"{NOW}\n",
        "9" * 13,
    ],
)
def test_a_timestamp_is_plain_digits(timestamp: str) -> None:
    headers = {
        "x-coreweave-timestamp": timestamp,
        "x-coreweave-signature": signatures.timestamped(SECRET, timestamp, BODY),
    }
    with pytest.raises(VerificationError):
        verify(BODY, headers, [SECRET], now=NOW)
    standard = {
        "webhook-id": "event_01",
        "webhook-timestamp": timestamp,
        "webhook-signature": signatures.standard(SECRET, "event_01", timestamp, BODY),
    }
    with pytest.raises(VerificationError):
        verify(BODY, standard, [SECRET], now=NOW)


def test_rotation() -> None:
    both = signed(secrets=(SECRET, OLD))
    verify(BODY, both, [SECRET], now=NOW)
    verify(BODY, both, [OLD], now=NOW)
    verify(BODY, signed(secrets=(OLD,)), [SECRET, OLD], now=NOW)
    with pytest.raises(VerificationError):
        verify(BODY, both, ["another-secret-altogether"], now=NOW)


def test_headers_in_every_shape() -> None:
    headers = signed()
    verify(BODY, {name.title(): value for name, value in headers.items()}, [SECRET], now=NOW)
    verify(BODY, [(name.encode(), value.encode()) for name, value in headers.items()], [SECRET], now=NOW)
    verify(BODY, list(headers.items()), [SECRET], now=NOW)
    twice = [*headers.items(), ("X-Coreweave-Signature", headers["x-coreweave-signature"])]
    with pytest.raises(VerificationError, match="twice"):
        verify(BODY, twice, [SECRET], now=NOW)


@given(st.binary(max_size=300), st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=64))
def test_stripes_own_verification_agrees(body: bytes, secret: str) -> None:
    """Stripe's v1 is the same HMAC under other headers: an independent oracle. It takes text bodies only."""
    text = body.decode("latin-1")
    header = f"t={NOW},v1={signatures.timestamped(secret, NOW, text.encode())}"
    assert stripe.WebhookSignature.verify_header(text, header, secret, tolerance=None)


@given(st.integers(0, 63), st.integers(1, 15))
def test_one_changed_nibble_is_refused_by_both(place: int, change: int) -> None:
    good = signatures.timestamped(SECRET, NOW, BODY)
    bent = good[:place] + f"{int(good[place], 16) ^ change:x}" + good[place + 1 :]
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(BODY.decode(), f"t={NOW},v1={bent}", SECRET, tolerance=None)
    with pytest.raises(VerificationError):
        verify(BODY, {"x-coreweave-timestamp": str(NOW), "x-coreweave-signature": bent}, [SECRET], now=NOW)


@pytest.mark.parametrize("secret", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "any-other-secret-text"])
def test_the_standard_webhooks_package_agrees(secret: str) -> None:
    at = int(time.time())  # it has no clock parameter
    headers = signed(secrets=(secret,), at=at)
    oracle = standardwebhooks.Webhook(secret if secret.startswith("whsec_") else secret.encode())
    assert oracle.verify(BODY, only(headers, "webhook-")) == DOCUMENT


def test_the_standard_webhooks_vector() -> None:
    """The vector of the specification's own Python library (libraries/python/tests/test_webhooks.py)."""
    signature = signatures.standard(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


MALFORMED = [
    {},
    {"x-coreweave-signature": "x"},
    {"x-coreweave-timestamp": str(NOW)},
    {"x-coreweave-timestamp": str(NOW), "x-coreweave-signature": ""},
    {"x-coreweave-timestamp": str(NOW), "x-coreweave-signature": "é" * 64},
    {"x-coreweave-timestamp": str(NOW), "x-coreweave-signature": "\ud800"},
    {"x-coreweave-timestamp": str(NOW), "x-coreweave-signature": None},
    {"x-coreweave-timestamp": 5, "x-coreweave-signature": 5},
    {"webhook-id": "", "webhook-timestamp": "", "webhook-signature": ""},
    {"webhook-id": "a", "webhook-timestamp": str(NOW), "webhook-signature": "v1"},
    {"webhook-id": "a", "webhook-timestamp": str(NOW), "webhook-signature": "v1,=== v2, , v1a,x"},
    {"webhook-id": "a", "webhook-timestamp": str(NOW), "webhook-signature": "v1," + "A" * 100_000},
    None,
    5,
    "text",
    [("a",)],
    [(1, 2, 3)],
]


@pytest.mark.parametrize("headers", MALFORMED)
def test_malformed_headers_raise_the_one_exception(headers: Any) -> None:
    with pytest.raises(VerificationError):
        verify(BODY, headers, [SECRET], now=NOW)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"[" * 200_000,
        b'{"a":' * 10_000,
        b"1" * 5000,
        b'{"id": NaN}',
        json.dumps({**DOCUMENT, "seq": "4"}).encode(),
        json.dumps({**DOCUMENT, "seq": True}).encode(),
        json.dumps({**DOCUMENT, "data": []}).encode(),
        json.dumps({**DOCUMENT, "tenant": 3}).encode(),
        json.dumps({**DOCUMENT, "id": "event_02"}).encode(),
        b" " * (1 << 20) + b"{}",
    ],
)
def test_signed_nonsense_raises_the_one_exception(body: bytes) -> None:
    with pytest.raises(VerificationError):
        verify(body, signed(body), [SECRET], now=NOW)


@pytest.mark.parametrize("secrets", [[], [""], "", [None], [b"bytes"]])
def test_without_a_secret_nothing_is_valid(secrets: Any) -> None:
    with pytest.raises(VerificationError):
        verify(BODY, signed(), secrets, now=NOW)


def test_a_body_that_was_parsed_before_is_refused() -> None:
    parsed: Any = BODY.decode()
    with pytest.raises(VerificationError, match="raw bytes"):
        verify(parsed, signed(), [SECRET], now=NOW)


@given(st.binary(max_size=200), st.dictionaries(st.sampled_from(sorted(signed())), st.text(max_size=80)))
def test_fuzz(body: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(VerificationError):
        verify(body, headers, [SECRET], now=NOW)


def test_the_sdk_is_light() -> None:
    """A consumer has none of the server's dependencies."""
    code = (
        "import sys, ostler.sdk.webhooks, ostler.sdk.inbox;"
        "print([m for m in ('sqlalchemy', 'fastapi', 'pydantic', 'pycurl', 'structlog') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
