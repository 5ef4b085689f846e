"""The edge: which JSON is refused, which request ids are taken over, where a login may lead."""

from __future__ import annotations

import json

import pytest

from ostler.console.pages import _local
from ostler.http.edge import REQUEST_ID, check_json


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"a": 1, "a": 2}', "a key comes twice"),
        (b'{"a": {"b": 1, "b": 1}}', "a key comes twice"),
        (b"[NaN]", "NaN is no JSON number"),
        (b'{"a": -Infinity}', "-Infinity is no JSON number"),
        (b'"\xff"', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'"\\ud800"', "not UTF-8"),
        (b'"a\\u0000b"', "NUL"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a": 1', "delimiter"),
        (b"", "Expecting value"),
    ],
)
def test_json_that_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_json(body)


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True, "ü", "😀"]}, [], "x", 0, {"": {}}])
def test_json_that_is_read(value: object) -> None:
    check_json(json.dumps(value).encode())
    check_json(json.dumps(value, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("req_01hf", True),
        ("4bf92f35-77b3/4", True),
        ("", False),
        ("x" * 65, False),
        ("a b", False),
        ("a\n", False),
        ("ä", False),
    ],
)
def test_request_ids(given: str, taken: bool) -> None:
    assert (REQUEST_ID.fullmatch(given) is not None) is taken


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("/nodes/gpu-1?x=1", "/nodes/gpu-1?x=1"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\\b", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/\t/evil.example", "/"),
        ("/\r\nSet-Cookie: a=b", "/"),
        ("", "/"),
    ],
)
def test_a_login_leads_to_our_own_pages_only(wanted: str, found: str) -> None:
    assert _local(wanted) == found
