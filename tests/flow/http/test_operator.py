"""The operators' app as a whole, in process: identity, problem documents, limits, headers, health, the console's door."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from ostler.access import service as access
from ostler.access.model import Role
from ostler.core.actor import Actor
from ostler.db.engine import Database
from ostler.http.auth import COOKIE
from ostler.http.operator import BODY_LIMIT
from tests.flow.http.operator_site import ADMIN, Site, new_site, problem_of


@pytest.fixture
def site(sqlite_db: Database) -> Iterator[Site]:
    yield new_site(sqlite_db)


# Identity -------------------------------------------------------------------------------------------------------------


def test_roles_open_what_they_should(site: Site) -> None:
    viewer, operator = site.bearer(Role.VIEWER), site.bearer(Role.OPERATOR)
    assert site.client.get("/v1/me", headers=viewer).json()["name"] == "token:t-viewer"
    assert site.client.post("/v1/things", json={"name": "a"}, headers=operator).json() == {
        "made": "a",
        "by": "token:t-operator",
        "count": 1,
    }
    refused = problem_of(site.client.post("/v1/things", json={"name": "a"}, headers=viewer))
    assert (refused["status"], refused["title"]) == (403, "Forbidden")
    assert refused["detail"] == "token:t-viewer has the role 'viewer'; this needs 'operator' or more."
    assert site.client.get("/v1/me", headers={"Authorization": f"Bearer {ADMIN}"}).json()["role"] == "admin"


@pytest.mark.parametrize("header", [None, "Bearer ost_wrong", "Bearer", "Basic YTpi", "bearer x y", "Bearer \xff"])
def test_without_a_valid_token_nothing_opens(site: Site, header: str | None) -> None:
    headers = [] if header is None else [(b"Authorization", header.encode("latin-1"))]
    answer = site.client.get("/v1/me", headers=headers)
    assert problem_of(answer)["status"] == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_api_takes_no_cookie(site: Site) -> None:
    site.client.cookies.set(COOKIE, site.token(Role.ADMIN))
    assert site.client.get("/v1/me").status_code == 401


def test_a_tenant_sees_neither_api_nor_console(site: Site) -> None:
    tenant = site.bearer(Role.TENANT, "acme")
    assert site.client.get("/v1/me", headers=tenant).status_code == 403
    assert site.client.get("/", headers=tenant).status_code == 403
    assert site.client.get("/live", headers=tenant).status_code == 403


@pytest.mark.parametrize(
    ("host", "client", "status"),
    [
        ("127.0.0.1:8470", "127.0.0.1", 200),
        ("localhost:8470", "127.0.0.1", 200),
        ("[::1]:8470", "::1", 200),
        ("evil.example:8470", "127.0.0.1", 401),  # DNS rebinding
        ("127.0.0.1.evil.example", "127.0.0.1", 401),
        ("127.0.0.1:8470", "10.1.2.3", 401),
        ("", "127.0.0.1", 401),
    ],
)
def test_open_to_this_machine_only_and_only_to_look(sqlite_db: Database, host: str, client: str, status: int) -> None:
    site = new_site(sqlite_db, open_to_loopback=True)
    here = TestClient(site.client.app, base_url="http://127.0.0.1:8470", client=(client, 50000))
    answer = here.get("/v1/me", headers={"Host": host, "X-Forwarded-For": "127.0.0.1"})
    assert answer.status_code == status
    wants = here.post("/v1/things", json={"name": "a"}, headers={"Host": host})
    assert wants.status_code == (403 if status == 200 else 401)


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "status", "kind", "detail"),
    [
        ("bad", 422, "bad-input", "No such pool."),
        ("refused", 409, "refused", "Not from test to production."),
        ("gone", 410, "gone", "The cursor is too old."),
        ("busy", 503, "temporarily-unavailable", "The disk is full."),
    ],
)
def test_errors_are_problem_documents(site: Site, how: str, status: int, kind: str, detail: str) -> None:
    answer = site.client.get(f"/v1/fails/{how}")
    found = problem_of(answer)
    assert (found["status"], found["type"], found["detail"]) == (status, f"urn:ostler:problem:{kind}", detail)
    assert found["instance"] == f"/v1/fails/{how}"
    assert found.get("where") == ("pool" if how == "bad" else None)
    assert answer.headers.get("retry-after") == ("8" if how == "busy" else None)


def test_a_bug_tells_no_secrets(site: Site) -> None:
    found = problem_of(site.client.get("/v1/fails/bug"))
    assert found["status"] == 500
    assert "passwd" not in json.dumps(found)
    assert found["request_id"] in found["detail"]


def test_unknown_paths_and_methods(site: Site) -> None:
    assert problem_of(site.client.get("/v1/nothing"))["status"] == 404
    answer = site.client.delete("/v1/me")
    assert problem_of(answer)["status"] == 405
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"name": 5}, "body.name"),
        ({"name": "a", "count": "1"}, "body.count"),
        ({"name": "a", "colour": "red"}, "body.colour"),
        ({}, "body.name"),
    ],
)
def test_wrong_fields_are_named(site: Site, body: dict[str, Any], where: str) -> None:
    answer = site.client.post("/v1/things", json=body, headers=site.bearer(Role.OPERATOR))
    found = problem_of(answer)
    assert (found["status"], found["where"]) == (422, where)
    assert [error["where"] for error in found["errors"]] == [where]


def test_what_was_sent_is_not_repeated(site: Site) -> None:
    answer = site.client.post("/v1/things", json={"name": ["hunter2"]}, headers=site.bearer(Role.OPERATOR))
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    "body", [b'{"name": "a", "name": "b"}', b'{"name": "\xff"}', b'{"name": "a\\u0000"}', b"{", b"[" * 100_000]
)
def test_json_that_nobody_should_send(site: Site, body: bytes) -> None:
    headers = site.bearer(Role.OPERATOR) | {"Content-Type": "application/json"}
    assert problem_of(site.client.post("/v1/things", content=body, headers=headers))["status"] == 400


def test_bodies_are_bounded_declared_or_not(site: Site) -> None:
    headers = site.bearer(Role.OPERATOR) | {"Content-Type": "application/json"}
    declared = site.client.post("/v1/things", content=b" " * (BODY_LIMIT + 1), headers=headers)
    assert problem_of(declared)["status"] == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(BODY_LIMIT // 65536 + 2):
            yield b" " * 65536

    assert problem_of(site.client.post("/v1/things", content=chunks(), headers=headers))["status"] == 413


@pytest.mark.parametrize("path", ["/v1/fails/%00", "/nodes/a%00b", "/v1/me?after=%00"])
def test_nul_goes_nowhere(site: Site, path: str) -> None:
    assert site.client.get(path).status_code == 400


# Requests -------------------------------------------------------------------------------------------------------------


def test_a_request_id_is_taken_over_or_given(site: Site) -> None:
    viewer = site.bearer(Role.VIEWER)
    answer = site.client.get("/v1/me", headers=viewer | {"X-Request-Id": "deploy-42"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "deploy-42"
    given = site.client.get("/v1/me", headers=viewer | {"X-Request-Id": "no good"}).json()["request_id"]
    assert given.startswith("req_")


@pytest.mark.parametrize("path", ["/login", "/v1/me", "/nothing", "/v1/fails/bug", "/healthz"])
def test_safe_headers_are_on_everything(site: Site, path: str) -> None:
    headers = site.client.get(path).headers
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_ready_says_what_is_wrong(site: Site) -> None:
    assert site.client.get("/readyz").json()["status"] == "ready"
    site.ages.update(jobs=31.0, webhooks=None)
    answer = site.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["wrong"] == ["jobs: last ran 31 s ago, stale after 30 s", "webhooks: has not run yet"]
    site.db.close()
    assert site.client.get("/healthz").json()["status"] == "ok"


def test_metrics_count_routes_not_paths(site: Site) -> None:
    for name in ("bad", "gone"):
        site.client.get(f"/v1/fails/{name}")
    site.client.get("/v1/random-path-of-a-scanner")
    text = site.client.get("/metrics").text
    wanted = 'ostler_http_requests_total{listener="operator",method="GET",route="/v1/fails/{how}",status="410"} 1.0'
    assert wanted in text
    assert "scanner" not in text


def test_the_api_describes_itself(site: Site) -> None:
    found = site.client.get("/openapi.json").json()
    assert found["openapi"].startswith("3.1")
    assert set(found["paths"]) == {"/v1/me", "/v1/things", "/v1/tokens", "/v1/fails/{how}"}
    assert found["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


# The door -------------------------------------------------------------------------------------------------------------


def test_pages_send_strangers_to_the_door_and_back(site: Site) -> None:
    answer = site.client.get("/nodes/gpu-1?x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/nodes/gpu-1%3Fx%3D1")
    token = site.token(Role.VIEWER)
    entered = site.client.post("/login", data={"token": f" {token} ", "next": "/nodes/gpu-1?x=1"})
    assert (entered.status_code, entered.headers["location"]) == (303, "/nodes/gpu-1?x=1")
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert site.client.get("/").status_code == 200
    assert site.client.get("/nodes/gpu-1").status_code == 404
    assert site.client.post("/logout").status_code == 303
    assert site.client.get("/").status_code == 303


def test_a_revoked_token_closes_the_page(site: Site) -> None:
    site.client.post("/login", data={"token": site.token(Role.VIEWER)})
    assert site.client.get("/parts/map").status_code == 200
    token = site.db.read(access.tokens)[0]
    site.db.write(lambda tx: access.revoke(tx, token.id, actor=Actor("person:mara")))
    answer = site.client.get("/parts/map")
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1:9999"},
    ],
)
def test_forms_of_other_sites_are_refused(site: Site, headers: dict[str, str]) -> None:
    data = {"token": site.token(Role.VIEWER)}
    assert problem_of(site.client.post("/login", data=data, headers=headers))["status"] == 403
    assert problem_of(site.client.post("/logout", headers=headers))["status"] == 403
    ours = {"Origin": "http://127.0.0.1:8470", "Sec-Fetch-Site": "same-origin"}
    assert site.client.post("/login", data=data, headers=ours).status_code == 303


def test_a_wrong_token_is_answered_in_place(site: Site) -> None:
    answer = site.client.post("/login", data={"token": "<script>", "next": "//evil.example"})
    assert answer.status_code == 401
    assert "evil.example" not in answer.text and "<script>" not in answer.text.replace("<script src", "")
    assert "set-cookie" not in answer.headers


def test_static_files_are_ours_alone(site: Site) -> None:
    answer = site.client.get("/static/console.css")
    assert "immutable" in answer.headers["cache-control"]
    for name in ("..%2fpages.py", "pages.py", "../pages.py"):
        assert site.client.get(f"/static/{name}").status_code == 404
