"""`/v1/nodes…`, `/v1/pools…`, `/v1/adopt` as a client sees them, on both databases: pages, roles, problem documents."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from ostler.access import service as access
from ostler.access.model import Role
from ostler.core.actor import Actor
from ostler.db.engine import Database
from ostler.http.auth import Doorkeeper
from ostler.http.operator import operator_app
from ostler.nodes import api, service
from ostler.nodes.model import Pool, State

MARA = Actor("person:mara")
FLEET = "name,serial,slot,sku,service\n" + "".join(
    f"gpu-{n:02},SN{n},fra1/a/r{n % 3}/u{n},{'h100' if n % 2 else 'b200'},{'unmanaged' if n == 7 else ''}\n"
    for n in range(10)
)


class Site:
    def __init__(self, db: Database) -> None:
        self.db = db
        db.write(lambda tx: service.define_pool(tx, Pool("default"), actor=MARA))
        app = operator_app([api.router(db, Doorkeeper(db, None).authorize)], registry=CollectorRegistry())
        self.client = TestClient(app, base_url="http://127.0.0.1:8470")
        self.headers: dict[Role, dict[str, str]] = {
            role: {"Authorization": f"Bearer {self._token(role)}"} for role in Role if role != Role.TENANT
        }

    def _token(self, role: Role) -> str:
        return self.db.write(lambda tx: access.create_token(tx, name=f"t-{role}", role=role, actor=MARA)).secret

    def get(self, path: str, **params: Any) -> Any:
        return self.client.get(path, params=params, headers=self.headers[Role.VIEWER])

    def post(self, path: str, body: dict[str, Any], role: Role = Role.ADMIN) -> Any:
        return self.client.post(path, json=body, headers=self.headers[role])

    def names(self, **params: Any) -> list[str]:
        answer = self.get("/v1/nodes", **params)
        assert answer.status_code == 200, answer.text
        return [item["name"] for item in answer.json()["items"]]


@pytest.fixture
def site(db: Database) -> Site:
    site = Site(db)
    answer = site.post("/v1/adopt", {"csv": FLEET, "reason": "move in"})
    done = answer.json()
    assert (done["adopted"], done["known"], done["held"]) == ([f"gpu-{n:02}" for n in range(10)], [], [])
    return site


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("limit", [1, 3, 5, 10, 200])
def test_pages_leave_nothing_out(site: Site, limit: int) -> None:
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = site.get("/v1/nodes", limit=limit, **({"after": after} if after else {})).json()
        assert len(page["items"]) <= limit
        seen += [item["name"] for item in page["items"]]
        after = page["next"]
    assert seen == [f"gpu-{n:02}" for n in range(10)]


@pytest.mark.parametrize(
    ("params", "chosen"),
    [
        ({"rack": "fra1/a/r1"}, ["gpu-01", "gpu-04", "gpu-07"]),
        ({"selector": "rack=fra1/a/r1,sku=h100"}, ["gpu-01", "gpu-07"]),
        ({"selector": "rack=fra1/a/r1,sku!=h100"}, ["gpu-04"]),
        ({"selector": "rack=r1"}, []),
        ({"selector": "service=unmanaged"}, ["gpu-07"]),
        ({"state": "triage"}, []),
        ({"pool": "default", "limit": 2}, ["gpu-00", "gpu-01"]),
        ({"selector": "serial=SN3"}, ["gpu-03"]),
    ],
)
def test_nodes_are_chosen(site: Site, params: dict[str, Any], chosen: list[str]) -> None:
    assert site.names(**params) == chosen


def test_one_node_by_any_name_with_what_is_true_of_it(site: Site) -> None:
    node = site.get("/v1/nodes/gpu-07").json()
    assert (node["state"], node["rack"], node["serial"]) == ("production", "fra1/a/r1", "SN7")
    assert [condition["type"] for condition in node["conditions"]] == ["Uncertified"]
    assert "no automatic lifecycle action" in node["notice"]
    assert site.get("/v1/nodes/SN7").json() == site.get(f"/v1/nodes/{node['id']}").json() == node
    assert "notice" not in site.get("/v1/nodes/gpu-01").json()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("GET", "/v1/nodes/gpu-99", None, 404, "No node has the name"),
        ("GET", "/v1/nodes/gpu-99/history", None, 404, "No node has the name"),
        ("GET", "/v1/nodes?selector=colour%3Dred", None, 422, "No field 'colour'"),
        ("GET", "/v1/nodes?limit=0", None, 422, "greater than or equal to 1"),
        (
            "POST",
            "/v1/nodes/gpu-01/transition",
            {"to": "test", "reason": "x"},
            409,
            "cannot go from production to test",
        ),
        ("POST", "/v1/nodes/gpu-01/transition", {"to": "heaven", "reason": "x"}, 422, "body.to"),
        ("POST", "/v1/nodes/gpu-01/transition", {"to": "reboot", "reason": "x"}, 409, "no permit was reserved"),
        ("POST", "/v1/nodes/gpu-01/transition", {"to": "triage", "reason": ""}, 422, "body.reason"),
        ("POST", "/v1/nodes/gpu-01/transition", {"to": "triage", "reason": "x", "force": True}, 422, "body.force"),
        ("POST", "/v1/nodes/gpu-01/uncordon", {}, 409, "No person cordoned gpu-01"),
        ("POST", "/v1/nodes/gpu-01/withdraw", {"reason": "x"}, 409, "Nothing is pending"),
        ("POST", "/v1/nodes/gpu-01/move", {"slot": "r3", "reason": "x"}, 422, "no SITE/ROW/RACK/U"),
        ("POST", "/v1/nodes/gpu-01/move", {"slot": "fra1/a/r2/u2", "reason": "x"}, 409, "gpu-02 stands in slot"),
        ("POST", "/v1/adopt", {"csv": "host\nx\n"}, 422, "csv:1: The header needs a column"),
        ("PUT", "/v1/pools/h100", {"capabilities": ["fly"], "reason": "x"}, 422, "fly"),
    ],
)
def test_mistakes_are_problem_documents(
    site: Site, method: str, path: str, body: dict[str, Any] | None, status: int, says: str
) -> None:
    answer = site.client.request(method, path, json=body, headers=site.headers[Role.ADMIN])
    found = problem(answer, status)
    assert says in f"{found.get('where', '')}: {found['detail']}", found


@pytest.mark.parametrize(
    ("path", "body", "needs"),
    [
        ("/v1/nodes/gpu-01/certify", {}, Role.TECHNICIAN),
        ("/v1/nodes/gpu-01/move", {"slot": "fra1/a/r9/u1", "reason": "x"}, Role.TECHNICIAN),
        ("/v1/nodes/gpu-01/cordon", {"reason": "x"}, Role.OPERATOR),
        ("/v1/nodes/gpu-01/transition", {"to": "triage", "reason": "x"}, Role.OPERATOR),
        ("/v1/adopt", {"csv": "name\ngpu-11\n"}, Role.OPERATOR),
    ],
)
def test_roles(site: Site, path: str, body: dict[str, Any], needs: Role) -> None:
    for role in (Role.VIEWER, Role.TECHNICIAN, Role.OPERATOR):
        answer = site.post(path, body, role)
        if role < needs:
            problem(answer, 403)
        else:
            assert answer.status_code == 200, answer.text
            break
    assert problem(site.client.post(path, json=body), 401)["title"] == "Unauthenticated"


def test_a_persons_cordon_and_hand(site: Site) -> None:
    cordoned = site.post("/v1/nodes/gpu-01/cordon", {"reason": "loud fan"}, Role.OPERATOR).json()
    assert [(hold["holder"], hold["reason"]) for hold in cordoned["cordon_holds"]] == [("person", "loud fan")]
    assert site.post("/v1/nodes/gpu-01/uncordon", {}, Role.OPERATOR).json()["cordon_holds"] == []
    moved = site.post("/v1/nodes/gpu-01/transition", {"to": "triage", "reason": "smoke"}, Role.OPERATOR).json()
    assert (moved["state"], [hold["holder"] for hold in moved["cordon_holds"]]) == (State.TRIAGE, ["lifecycle"])
    history = site.get("/v1/nodes/gpu-01/history").json()["items"]
    assert [(row["to_state"], row["actor"]) for row in history] == [
        ("production", "token:t-admin"),
        ("triage", "token:t-operator"),
    ]
    assert site.get("/v1/nodes/SN1/history", serial=True).json()["items"] == history


def test_pools(site: Site) -> None:
    assert site.get("/v1/pools").json()["items"] == [
        {"name": "default", "capabilities": ["observe"], "auto_certify": False, "cluster": "none"}
    ]
    body = {"capabilities": ["cordon"], "auto_certify": True, "reason": "trust"}
    made = site.client.put("/v1/pools/h100", json=body, headers=site.headers[Role.ADMIN])
    assert made.json()["capabilities"] == ["cordon", "observe"]
    assert len(site.get("/v1/pools").json()["items"]) == 2
    problem(site.client.put("/v1/pools/h100", json=body, headers=site.headers[Role.OPERATOR]), 403)
