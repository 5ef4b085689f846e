"""The commands for operators against a real server: what they print, what they exit with, what they leave behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import ostler.brake.api
import ostler.nodes.api
import ostler.remediation.api
import ostler.tickets.api
from ostler.cli import main
from ostler.core.actor import Actor
from ostler.db import schema
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.http.auth import Doorkeeper
from ostler.http.listeners import Listener, Listeners
from ostler.http.operator import operator_app
from ostler.nodes import service as nodes
from ostler.nodes import store
from ostler.nodes.model import Pool, Slot, State

ADMIN = "an-admin-secret-of-the-environment"
MARA = Actor("person:mara")


def _adopt(tx: Tx, *, number: int, slot: Slot) -> None:
    store.put_slot(tx, slot)
    nodes.register(
        tx,
        name=f"gpu-{number}",
        serial=f"SN{number}",
        slot=slot.name,
        pool="train",
        actor=MARA,
        cause="adopt",
        state=State.PRODUCTION,
    )


@pytest.fixture
def fleet(sqlite_db: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Three adopted nodes in two racks behind a running server, and the environment that finds it."""
    db = sqlite_db
    db.write(lambda tx: nodes.define_pool(tx, Pool("train"), actor=MARA))
    for number, rack in ((1, "r01"), (2, "r01"), (3, "r02")):
        place = Slot(f"dc1/A/{rack}/u{number:02d}", "dc1", "A", rack, f"u{number:02d}", {"rack": rack})
        db.write(partial(_adopt, number=number, slot=place))
    door = Doorkeeper(db, ADMIN)
    routers = [
        feature.router(db, door.authorize)
        for feature in (ostler.nodes.api, ostler.brake.api, ostler.tickets.api, ostler.remediation.api)
    ]
    app = operator_app(routers, registry=CollectorRegistry())
    running = Listeners([Listener("operator", "[server] listen", "127.0.0.1", 0, app)])
    running.start()
    monkeypatch.setenv("OSTLER_URL", running.bound["operator"].url)
    monkeypatch.setenv("OSTLER_TOKEN", ADMIN)
    yield db
    running.stop()


Out = pytest.CaptureFixture[str]


def test_list_and_show(fleet: Database, capsys: Out) -> None:
    assert main(["nodes", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "FOR", "RACK", "SLOT", "POOL", "MARKS", "SEEN"]
    assert [line.split()[0] for line in lines[2:]] == ["gpu-1", "gpu-2", "gpu-3"]
    assert main(["nodes", "list", "--json", "--rack", "r01"]) == 0
    assert [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()] == ["gpu-1", "gpu-2"]
    assert main(["nodes", "list", "--state", "rma"]) == 0
    assert capsys.readouterr().out == "No node matches.\n"
    assert main(["nodes", "show", "SN2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "gpu-2"
    assert main(["nodes", "show", "gpu-2"]) == 0
    assert "production (Day 2+)" in capsys.readouterr().out


def test_what_is_not_there(fleet: Database, capsys: Out) -> None:
    assert main(["nodes", "show", "gpu-9/../x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["nodes", "show", "gpu-9"]) == 2
    assert capsys.readouterr().err == "ostler: No node has the name, id, serial number or MAC 'gpu-9'.\n"


def test_a_bad_token_is_one_line(fleet: Database, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTLER_TOKEN", "ost_wrong")
    assert main(["nodes", "list"]) == 2
    assert capsys.readouterr().err.startswith("ostler: The token is not valid")
    monkeypatch.delenv("OSTLER_TOKEN")
    assert main(["nodes", "list"]) == 2
    assert "put it in OSTLER_TOKEN" in capsys.readouterr().err


def test_cordon_by_selector_dry_then_done(fleet: Database, capsys: Out) -> None:
    cordon = ["nodes", "cordon", "-l", "rack=r01", "--reason", "cable swap"]
    assert main([*cordon, "--dry-run"]) == 0
    assert capsys.readouterr().out == "would cordon gpu-1\nwould cordon gpu-2\n2 nodes; nothing was done.\n"
    assert main(cordon) == 2  # nobody is there to type the count
    assert "This would cordon 2 nodes; add --yes" in capsys.readouterr().err
    assert main([*cordon, "--yes"]) == 0
    capsys.readouterr()
    assert main(["nodes", "list"]) == 0
    assert capsys.readouterr().out.count("cordoned") == 2
    assert main(["nodes", "uncordon", "gpu-1"]) == 0
    holds = fleet.read(lambda tx: [dict(row) for row in tx.all(schema.cordon_hold.select())])
    assert [(hold["holder"], hold["reason"]) for hold in holds] == [("person", "cable swap")]
    entry = fleet.read(
        lambda tx: tx.all(schema.audit.select().where(schema.audit.c.action == "node.cordon").order_by("at"))[-1]
    )
    assert (entry["actor"], entry["reason"]) == ("token:OSTLER_ADMIN_TOKEN", "cable swap")
    assert entry["request_id"].startswith("req_")


def test_what_the_lifecycle_refuses_is_said_per_node(fleet: Database, capsys: Out) -> None:
    move = ["nodes", "transition", "--to", "rma", "--reason", "x", "--yes"]
    assert main([*move, "gpu-1"]) == 1
    assert "cannot go from production to rma" in capsys.readouterr().err
    assert main([*move, "gpu-1", "gpu-2"]) == 1
    assert capsys.readouterr().out.count("cannot go from production to rma") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["nodes", "cordon", "--reason", "x"],
        ["nodes", "cordon", "gpu-1", "-l", "rack=r01", "--reason", "x"],
        ["nodes", "cordon", "gpu-1"],
        ["nodes", "cordon", "-l", "colour=red", "--reason", "x"],
        ["nodes", "cordon", "-l", "rack=none", "--reason", "x"],
        ["nodes", "history"],
        ["nodes", "transition", "gpu-1", "--to", "heaven", "--reason", "x", "--yes"],
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(fleet: Database, arguments: list[str], capsys: Out) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith("ostler: ") and said.err.count("\n") == 1
    assert fleet.read(lambda tx: tx.all(schema.cordon_hold.select())) == []


def test_history_and_why(fleet: Database, capsys: Out) -> None:
    assert main(["nodes", "triage", "gpu-3", "--reason", "smells of smoke", "--yes"]) == 0
    capsys.readouterr()
    assert main(["nodes", "history", "gpu-3", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["from_state"], row["to_state"]) for row in rows] == [(None, "production"), ("production", "triage")]
    assert main(["nodes", "history", "--serial", "SN3"]) == 0
    assert "smells of smoke" in capsys.readouterr().out
    assert main(["nodes", "why", "gpu-3"]) == 0
    said = capsys.readouterr().out
    assert "is in triage" in said and "smells of smoke" in said


def test_certify_and_move(fleet: Database, capsys: Out) -> None:
    assert main(["nodes", "move", "gpu-3", "dc1/A/r02/u09", "--reason", "swap"]) == 0
    assert capsys.readouterr().out == "gpu-3 stands in dc1/A/r02/u09.\n"
    assert main(["nodes", "move", "gpu-3", "dc1/A/r01/u01", "--reason", "swap"]) == 1
    assert "gpu-1 stands in slot" in capsys.readouterr().err


def test_pause_and_resume(fleet: Database, capsys: Out) -> None:
    assert main(["pause", "--rack", "r01", "--for", "2h", "--reason", "spine work"]) == 0
    assert main(["brake"]) == 0
    said = capsys.readouterr().out
    assert "PAUSED rack:r01 by token:OSTLER_ADMIN_TOKEN" in said and "spine work" in said
    assert main(["resume", "--rack", "r01", "--reason", "done"]) == 0
    assert main(["brake", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.split("\n", 1)[1])["pauses"] == []


def test_limits_are_set_from_what_was_printed(fleet: Database, capsys: Out, tmp_path: Path) -> None:
    assert main(["brake", "--json"]) == 0
    limits = json.loads(capsys.readouterr().out)
    rack = next(rule for rule in limits["rules"] if rule["group"] == "rack")
    rack["at_once"] = 7
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps(limits))
    assert main(["brake", "set", str(rules), "--reason", "more room"]) == 0
    capsys.readouterr()
    assert main(["brake", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["rules"]
    assert {rule["group"]: rule for rule in found} == {rule["group"]: rule for rule in limits["rules"]}
    rules.write_text("[")
    assert main(["brake", "set", str(rules), "--reason", "x"]) == 2
    assert "is no JSON of the form" in capsys.readouterr().err


def test_the_pause_file_needs_no_server(tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTLER_URL", "http://127.0.0.1:9")
    file = tmp_path / "pause"
    assert main(["pause", "--all", "--file", str(file), "--reason", "smoke\nin rack 4"]) == 0
    assert file.read_text() == "smoke in rack 4\n"
    assert main(["pause", "--all", "--file", str(file), "--reason", "again"]) == 1
    assert main(["pause", "--rack", "r1", "--file", str(file), "--reason", "x"]) == 2
    assert main(["resume", "--all", "--file", str(file)]) == 0
    assert not file.exists()
    assert main(["resume", "--all", "--file", str(file)]) == 1
    capsys.readouterr()
    assert main(["pause", "--all", "--reason", "x"]) == 1
    assert "--file DATA/pause" in capsys.readouterr().err


def test_tickets(fleet: Database, capsys: Out) -> None:
    node_id = fleet.read(lambda tx: store.get(tx, "gpu-1").id)
    row = {"id": "ticket_1", "node_id": node_id, "cause": "psu", "instruction": "Swap PSU 2.\x1b[2J", "state": "open"}
    fleet.write(
        lambda tx: tx.execute(schema.ticket.insert(), [row | {"evidence": {}, "closing": {}, "opened_at": tx.now}])
    )
    assert main(["tickets", "list"]) == 0
    said = capsys.readouterr().out
    assert "ticket_1" in said and "Swap PSU 2." in said and "\x1b" not in said
    assert main(["tickets", "claim", "ticket_1"]) == 0
    assert "claimed" in capsys.readouterr().out
    assert main(["tickets", "done", "ticket_1"]) == 2
    capsys.readouterr()
    assert main(["tickets", "done", "ticket_1", "--evidence", "swapped, serial P77", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "done"
    assert main(["tickets", "show", "ticket_2"]) == 2
