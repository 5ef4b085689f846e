"""Tokens and roles over real HTTP: what each role opens, and the errors as problem documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ostler.access.model import Role
from ostler.core.errors import BadInput, Conflict, Forbidden, NotFound, Unauthenticated
from ostler.db.engine import Database
from tests.flow.access.serving import Served, serving


@pytest.fixture
def served(sqlite_db: Database, tmp_path: Path) -> Iterator[Served]:
    with serving(sqlite_db, tmp_path) as made:
        yield made


def test_a_token_from_first_start_to_revocation(served: Served) -> None:
    admin = served.client()
    made = admin.post("/v1/tokens", {"name": "ci", "role": "admin", "expires_in": 3600})
    assert made["secret"].startswith("ost_")
    mine = served.client(made["secret"])
    listed = mine.get("/v1/tokens")
    assert [token["name"] for token in listed["items"]] == ["ci"]
    assert "secret" not in listed["items"][0]
    with pytest.raises(Conflict):
        admin.post("/v1/tokens", {"name": "ci", "role": "viewer"})
    assert admin.delete(f"/v1/tokens/{made['id']}", reason="lost")["revoked_at"]
    with pytest.raises(Unauthenticated):
        mine.get("/v1/tokens")
    served.seal()
    entries = admin.get("/v1/audit")["items"]
    assert [(entry["action"], entry["actor"], entry["reason"]) for entry in entries] == [
        ("token.create", "token:OSTLER_ADMIN_TOKEN", ""),
        ("token.revoke", "token:OSTLER_ADMIN_TOKEN", "lost"),
    ]
    assert all(entry["request_id"] for entry in entries)
    assert made["secret"] not in repr(entries)


def test_tokens_page_by_cursor(served: Served) -> None:
    admin = served.client()
    for number in range(5):
        admin.post("/v1/tokens", {"name": f"t{number}", "role": "viewer"})
    assert sorted(token["name"] for token in admin.pages("/v1/tokens", limit=2)) == [f"t{n}" for n in range(5)]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"name": "x", "role": "king"},
        {"name": "x", "role": "viewer", "more": 1},
        {"name": 5, "role": "viewer"},
        {"name": "x", "role": "tenant"},
        {"name": "x", "role": "viewer", "expires_in": "60"},
        {"name": "x", "role": "viewer", "expires_in": 1},
        {"name": "a b", "role": "viewer"},
    ],
)
def test_bad_wishes_are_told(served: Served, body: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        served.client().post("/v1/tokens", body)


def test_unknown_tokens_are_not_found(served: Served) -> None:
    with pytest.raises(NotFound):
        served.client().delete("/v1/tokens/token_x")


OPENS = {
    "/v1/tokens": Role.ADMIN,
    "/v1/audit": Role.OPERATOR,
    "/v1/audit/head": Role.OPERATOR,
    "/v1/webhooks": Role.OPERATOR,
    "/v1/events": Role.VIEWER,
    "/v1/event-types": Role.VIEWER,
}


@pytest.mark.parametrize("path", OPENS)
def test_what_each_role_opens(served: Served, path: str) -> None:
    with pytest.raises(Unauthenticated):
        served.client(None).get(path)
    for role in (Role.VIEWER, Role.TECHNICIAN, Role.OPERATOR, Role.ADMIN):
        client = served.client(served.token(role))
        if role >= OPENS[path]:
            client.get(path)
        else:
            with pytest.raises(Forbidden, match=OPENS[path].value):
                client.get(path)


def test_a_tenant_opens_only_what_is_its_own(served: Served) -> None:
    blue, red = (served.client(served.token(Role.TENANT, name)) for name in ("blue", "red"))
    for path in ("/v1/tokens", "/v1/audit", "/v1/audit/verify"):
        with pytest.raises(Forbidden, match="whole fleet"):
            blue.get(path)
    hook = blue.post(
        "/v1/webhooks", {"url": "https://hooks.example/", "events": ["*"], "secret": "a-secret-that-is-long"}
    )
    assert hook["tenant"] == "blue"
    assert blue.get("/v1/events")["items"] == []
    assert red.get("/v1/webhooks")["items"] == []
    calls: tuple[Callable[[], object], ...] = (
        lambda: red.get(f"/v1/webhooks/{hook['id']}"),
        lambda: red.get(f"/v1/webhooks/{hook['id']}/deliveries"),
        lambda: red.delete(f"/v1/webhooks/{hook['id']}"),
        lambda: red.patch(f"/v1/webhooks/{hook['id']}", {"enabled": False}),
        lambda: red.post(f"/v1/webhooks/{hook['id']}/test"),
        lambda: red.post(f"/v1/webhooks/{hook['id']}/replay"),
        lambda: red.post(f"/v1/webhooks/{hook['id']}/rotate", {"secret": "another-secret-long"}),
    )
    for call in calls:
        with pytest.raises(NotFound):
            call()
    assert served.client().get("/v1/webhooks")["items"][0]["id"] == hook["id"]
