"""Tickets over HTTP and by `ostler tickets`, against a real server: who may, what is asked for, what is answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from prometheus_client import CollectorRegistry

import ostler.tickets.api
from ostler.access.model import Role
from ostler.access.service import create_token
from ostler.cli import main
from ostler.core.actor import Actor
from ostler.db.engine import Database
from ostler.http.auth import Doorkeeper
from ostler.http.listeners import Listener, Listeners
from ostler.http.operator import operator_app
from ostler.nodes import service as nodes
from ostler.nodes import store as node_store
from ostler.nodes.model import Pool, State
from ostler.tickets import service
from ostler.tickets.model import Harms, Plug, Safety, Step, Subject, Work

MARA = Actor("person:mara")
A, B = ("gpu-1", "mlx5_0"), ("leaf01", "35")
Out = pytest.CaptureFixture[str]


@dataclass
class Site:
    """A running server with one node, and a token per role."""

    url: str
    db: Database
    node: str
    tokens: dict[Role, str]

    def ask(self, method: str, path: str, role: Role = Role.TECHNICIAN, **more: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.tokens[role]}"}
        return httpx2.request(method, f"{self.url}/v1/tickets{path}", headers=headers, **more)

    def report(self, key: str = "k1", **more: Any) -> str:
        return self.db.write(lambda tx: service.report(tx, work(self.node, key, **more)))


def work(node: str, key: str, **more: Any) -> Work:
    host = Plug("gpu-1", "mlx5_0", "R03 U17")
    said: dict[str, Any] = {
        "subject": Subject.CABLE,
        "cause": "Two plugs of gpu-1 are exchanged.",
        "instruction": "Exchange them.",
        "place": "fra1/a/R03/U17",
        "node_ids": (node,),
        "steps": (Step("Move it.", host, Plug("gpu-1", "mlx5_1"), Plug("leaf01", "35", "R10 U40", "18/1"), "MT1"),),
        "harms": Harms(("gpu-1",), "llama"),
        "safe": Safety(True, "both ports are down"),
        "fabric": "ib",
        "ports": (A, B),
    }
    return Work(key=key, **{**said, **more})


@pytest.fixture
def site(sqlite_db: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    db = sqlite_db
    db.write(lambda tx: nodes.define_pool(tx, Pool("train"), actor=MARA))
    node = db.write(
        lambda tx: nodes.register(tx, name="gpu-1", pool="train", actor=MARA, cause="adopt", state=State.PRODUCTION)
    )

    def token(role: Role) -> str:
        return db.write(lambda tx: create_token(tx, name=role.value, role=role, actor=MARA)).secret

    tokens = {role: token(role) for role in (Role.VIEWER, Role.TECHNICIAN, Role.OPERATOR)}
    routers = [ostler.tickets.api.router(db, Doorkeeper(db).authorize, "https://o.example")]
    app = operator_app(routers, registry=CollectorRegistry())
    running = Listeners([Listener("operator", "[server] listen", "127.0.0.1", 0, app)])
    running.start()
    url = running.bound["operator"].url
    monkeypatch.setenv("OSTLER_URL", url)
    monkeypatch.setenv("OSTLER_TOKEN", tokens[Role.TECHNICIAN])
    yield Site(url, db, node.id, tokens)
    running.stop()


def test_one_ticket_has_all_that_a_technician_needs(site: Site) -> None:
    ticket = site.report()
    said = site.ask("GET", f"/{ticket}", Role.VIEWER).json()
    assert {name: said[name] for name in ("state", "subject", "place", "proof", "recurrence", "escalation")} == {
        "state": "open",
        "subject": "cable",
        "place": "fra1/a/R03/U17",
        "proof": "fabric",
        "recurrence": 0,
        "escalation": "cable",
    }
    assert said["node_ids"] == [site.node]
    assert said["ports"] == [{"chassis": "gpu-1", "port": "mlx5_0"}, {"chassis": "leaf01", "port": "35"}]
    assert said["steps"][0]["stays"] == {"chassis": "leaf01", "place": "R10 U40", "port": "35", "label": "18/1"}
    assert said["safe"] == {"safe": True, "why": "both ports are down"}
    assert said["harms"] == {"nodes": ["gpu-1"], "workload": "llama"}
    assert (said["history"], said["notes"]) == ([], [])


def test_a_node_ticket_reads_as_before(site: Site) -> None:
    node = site.db.read(lambda tx: node_store.get(tx, site.node))
    ticket = site.db.write(
        lambda tx: service.open_ticket(tx, node=node, cause="psu", instruction="Swap it.", evidence={})
    )
    said = site.ask("GET", f"/{ticket}").json()
    old = ("id", "node_id", "slot", "cause", "instruction", "state", "evidence", "incident_id", "assignee", "closing")
    assert set(old) | {"parts", "opened_at", "claimed_at", "closed_at"} <= set(said)
    assert (said["key"], said["proof"], said["subject"], said["safe"]["safe"]) == (None, "person", "node", None)
    assert site.ask("POST", f"/{ticket}/claim").json()["state"] == "claimed"
    assert site.ask("POST", f"/{ticket}/done", json={"evidence": "swapped"}).json()["state"] == "done"


def test_the_way_of_a_ticket_over_http(site: Site) -> None:
    ticket = site.report(safe=Safety(False, "a job runs"))
    refused = site.ask("POST", f"/{ticket}/claim")
    assert refused.status_code == 409
    assert "a job runs" in refused.json()["detail"]
    claimed = site.ask("POST", f"/{ticket}/claim", json={"force": "agreed"}).json()
    assert (claimed["state"], claimed["assignee"]) == ("claimed", "token:technician")
    assert site.ask("POST", f"/{ticket}/unclaim", Role.OPERATOR).status_code == 409
    assert site.ask("POST", f"/{ticket}/unclaim", Role.OPERATOR, json={"reason": "shift"}).json()["state"] == "open"
    site.ask("POST", f"/{ticket}/claim", json={"force": "agreed"})
    assert site.ask("POST", f"/{ticket}/done", json={"evidence": "moved"}).json()["state"] == "verifying"
    assert site.ask("POST", f"/{ticket}/done", json={"evidence": "moved"}).status_code == 409
    noted = site.ask("POST", f"/{ticket}/comment", json={"text": "tight cable"}).json()
    assert [(note["by"], note["text"]) for note in noted["notes"]] == [("token:technician", "tight cable")]


@pytest.mark.parametrize("deed", ["claim", "unclaim", "done", "comment"])
def test_who_only_looks_changes_nothing(site: Site, deed: str) -> None:
    ticket = site.report()
    body = {"done": {"evidence": "x"}, "comment": {"text": "x"}}.get(deed, {})
    assert site.ask("POST", f"/{ticket}/{deed}", Role.VIEWER, json=body).status_code == 403
    assert site.ask("GET", f"/{ticket}").json()["state"] == "open"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("claim", {"force": 1}),
        ("claim", {"forced": "x"}),
        ("claim", {"force": "x" * 1001}),
        ("unclaim", {"why": "x"}),
        ("done", {}),
        ("done", {"evidence": ""}),
        ("comment", {"text": ""}),
        ("comment", {"text": "x" * 4001}),
    ],
)
def test_what_is_malformed_is_refused(site: Site, path: str, body: dict[str, Any]) -> None:
    ticket = site.report()
    assert site.ask("POST", f"/{ticket}/{path}", json=body).status_code == 422
    assert site.ask("GET", f"/{ticket}").json()["state"] == "open"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, {"k1", "k2"}),
        ({"state": "unfinished"}, {"k1", "k2"}),
        ({"state": "claimed"}, {"k1"}),
        ({"mine": "true"}, {"k1"}),
        ({"mine": "false"}, {"k1", "k2"}),
        ({"subject": "switch"}, {"k2"}),
        ({"place": "fra1/a/R03"}, {"k1"}),
        ({"node": "gpu-1"}, {"k1"}),
    ],
)
def test_lists_are_narrowed(site: Site, asked: dict[str, str], found: set[str]) -> None:
    ticket = site.report()
    site.report("k2", subject=Subject.SWITCH, place="fra1/a/R10/U40", node_ids=(), ports=(("leaf07", "1"),))
    site.ask("POST", f"/{ticket}/claim")
    assert {one["key"] for one in site.ask("GET", "", params=asked).json()["items"]} == found


@pytest.mark.parametrize("asked", [{"state": "broken"}, {"subject": "rack"}, {"mine": "perhaps"}])
def test_a_filter_that_is_none_is_refused(site: Site, asked: dict[str, str]) -> None:
    assert site.ask("GET", "", params=asked).status_code == 422


def test_the_code_is_an_image(site: Site) -> None:
    ticket = site.report()
    answer = site.ask("GET", f"/{ticket}/qr.svg", Role.VIEWER)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert answer.text.startswith("<?xml")
    assert site.ask("GET", "/ticket_none/qr.svg").status_code == 404
    assert httpx2.get(f"{site.url}/v1/tickets/{ticket}/qr.svg").status_code == 401


def test_the_commands(site: Site, capsys: Out) -> None:
    ticket = site.report(safe=Safety(False, "a job\x1b[2J runs"))
    assert main(["tickets", "list", "--place", "fra1/a", "--subject", "cable"]) == 0
    assert "fra1/a/R03/U17" in capsys.readouterr().out
    assert main(["tickets", "list", "--mine"]) == 0
    assert capsys.readouterr().out == "No ticket.\n"
    assert main(["tickets", "claim", ticket]) == 1
    assert "not safe to touch" in capsys.readouterr().err
    assert main(["tickets", "claim", ticket, "--force", "agreed with the owner"]) == 0
    said = capsys.readouterr().out
    assert "1. Move it. gpu-1 (R03 U17) mlx5_0 → mlx5_1 (leaf01 (R10 U40) 18/1 stays) cable MT1\n" in said
    assert "Do not touch: a job" in said and "\x1b" not in said
    assert main(["tickets", "note", ticket, "tight cable"]) == 0
    assert "token:technician: tight cable" in capsys.readouterr().out
    assert main(["tickets", "unclaim", ticket, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "open"
    assert main(["tickets", "done", ticket, "--evidence", "moved"]) == 0
    assert "verifying" in capsys.readouterr().out
    site.db.write(lambda tx: service.confirm(tx, "k1", "all right", seen_at=tx.now + 1))
    site.report("k1")
    assert main(["tickets", "list", "--state", "unfinished", "--json"]) == 0
    (again,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert main(["tickets", "show", again["id"]]) == 0
    said = capsys.readouterr().out
    assert "came back" in said and "replace the module" in said and "all right" in said
