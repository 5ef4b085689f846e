"""The client: problem documents become Ostler's errors, and whatever else answers becomes one plain line."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from ostler.cli.client import Client
from ostler.core.errors import (
    BadInput,
    Conflict,
    Forbidden,
    Gone,
    NotFound,
    OstlerError,
    Permanent,
    Refused,
    Unauthenticated,
    Unavailable,
    Unreachable,
)


def _client(status: int, body: object, **headers: str) -> Client:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = httpx2.Response(status, content=content, headers=headers)
    return Client("http://server", "ost_secret", transport=httpx2.MockTransport(lambda _request: answer))


@pytest.mark.parametrize(
    ("status", "title", "kind"),
    [
        (400, "Bad Request", BadInput),
        (401, "Unauthenticated", Unauthenticated),
        (403, "Forbidden", Forbidden),
        (404, "Not found", NotFound),
        (409, "Conflict", Conflict),
        (409, "Refused", Refused),
        (410, "Gone", Gone),
        (422, "Bad input", BadInput),
        (500, "Internal error", Permanent),
        (503, "Temporarily unavailable", Unavailable),
    ],
)
def test_problem_documents(status: int, title: str, kind: type[OstlerError], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTLER_TOKEN", "ost_secret")
    problem: dict[str, Any] = {"title": title, "status": status, "detail": "It said no.", "where": "pool"}
    with pytest.raises(OstlerError) as caught:
        _client(status, problem | {"retry_after": 7}).get("/v1/nodes")
    assert type(caught.value) is kind
    assert str(caught.value) == "pool: It said no."
    if isinstance(caught.value, Unavailable):
        assert caught.value.delay == 7


@pytest.mark.parametrize("body", [b"<html>502 Bad Gateway</html>", b"", b"[1]", b'{"error": 1}', b"\xff\xfe"])
def test_another_servers_error_page_is_one_line(body: bytes) -> None:
    with pytest.raises(Unavailable, match=r"HTTP 502 .* is it an Ostler server"):
        _client(502, body).get("/v1/nodes")


def test_an_answer_that_is_no_json() -> None:
    with pytest.raises(Permanent, match="is no JSON"):
        _client(200, b"<html>").get("/v1/nodes")


def test_no_answer_says_where_and_what_to_do() -> None:
    with pytest.raises(Unreachable) as caught:
        Client("http://127.0.0.1:9").get("/v1/nodes")
    assert str(caught.value).startswith("http://127.0.0.1:9: No answer (")
    assert "OSTLER_URL" in str(caught.value)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8470", "ftp://x", "http://"])
def test_a_bad_address(url: str) -> None:
    with pytest.raises(BadInput, match="no address of a server"):
        Client(url)


def test_pages_are_followed_and_writes_carry_a_key() -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        after = request.url.params.get("after")
        page = {None: ([1, 2], "b"), "b": ([3], None)}[after] if request.method == "GET" else ([], None)
        return httpx2.Response(200, json={"items": page[0], "next": page[1]})

    client = Client("http://server", "ost_secret", transport=httpx2.MockTransport(answer))
    assert list(client.pages("/v1/nodes", state=None, busy=True)) == [1, 2, 3]
    client.post("/v1/pause", {"scope": "fleet"})
    client.post("/v1/pause", {"scope": "fleet"})
    assert [dict(request.url.params) for request in seen[:2]] == [{"busy": "true"}, {"busy": "true", "after": "b"}]
    keys = [request.headers.get("idempotency-key") for request in seen]
    assert keys[:2] == [None, None] and keys[2] and keys[3] and keys[2] != keys[3]
    assert seen[0].headers["authorization"] == "Bearer ost_secret"
