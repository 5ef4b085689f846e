"""The audit log over real HTTP and through the CLI, which trusts nobody's arithmetic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ostler.audit import merkle, service
from ostler.cli.audit import audit_app
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, NotFound
from ostler.db.engine import Database
from ostler.db.schema import audit
from tests.flow.access.serving import ADMIN, Served, serving


def record(db: Database, subject: str) -> None:
    db.write(lambda tx: service.record(tx, Actor("person:mara"), "node.cordon", subject))


@pytest.fixture
def served(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for number in range(7):
        record(db, f"node_{number % 3}")
    with serving(db, tmp_path) as made:
        made.seal()
        monkeypatch.setenv("OSTLER_URL", made.url)
        monkeypatch.setenv("OSTLER_TOKEN", ADMIN)
        yield made


def run(*arguments: str, app: typer.Typer = audit_app) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def test_pages_filters_and_proofs(served: Served) -> None:
    client = served.client()
    assert [item["position"] for item in client.pages("/v1/audit", limit=3)] == list(range(1, 8))
    assert len(client.get("/v1/audit", subject="node_0")["items"]) == 3
    assert client.get("/v1/audit", actor="person:eve")["items"] == []
    head = client.get("/v1/audit/head")
    for position in range(1, 8):
        proof = client.get(f"/v1/audit/{position}/proof")
        assert merkle.verify_inclusion(
            bytes.fromhex(proof["leaf"]),
            position - 1,
            head["size"],
            [bytes.fromhex(h) for h in proof["path"]],
            bytes.fromhex(head["root"]),
        )
    assert client.get("/v1/audit/consistency", old=3, new=7)["path"]
    assert client.get("/v1/audit/verify") == {"ok": True, "size": 7, "root": head["root"], "bad": None, "why": ""}
    with pytest.raises(NotFound):
        client.get("/v1/audit/8/proof")
    with pytest.raises(BadInput):
        client.get("/v1/audit", after="x")


def test_verify_and_export_from_the_command_line(served: Served, tmp_path: Path) -> None:
    root = served.client().get("/v1/audit/head")["root"]
    status, text = run("verify", "--json")
    assert (status, json.loads(text)["root"]) == (0, root)
    assert run("verify", "--root", root)[0] == 0
    assert run("verify", "--root", "00" * 32)[0] == 1
    status, text = run("export")
    file = tmp_path / "audit.jsonl"
    file.write_text(text)
    assert run("verify", str(file), "--root", root) == (0, f"7 entries, every one as it was sealed. Root {root}\n")
    lines = text.splitlines()
    file.write_text("\n".join([*lines[:3], lines[3].replace("person:mara", "person:eve"), *lines[4:]]))
    status, text = run("verify", str(file))
    assert status == 1
    assert text.startswith("Position 4: ")
    with pytest.raises(BadInput, match="cannot be read"):
        run("verify", str(tmp_path / "none.jsonl"))
    with pytest.raises(BadInput, match="no JSON"):
        file.write_bytes(b"\x00\xff\n")
        run("verify", str(file))


def test_the_command_line_finds_what_was_changed_in_the_database(served: Served) -> None:
    served.db.write(lambda tx: tx.execute(audit.update().where(audit.c.position == 5).values(reason="x")) and None)
    status, text = run("verify", "--json")
    assert (status, json.loads(text)["bad"]) == (1, 5)


def test_the_command_line_finds_what_was_removed(served: Served) -> None:
    served.db.write(lambda tx: tx.execute(audit.delete().where(audit.c.position == 7)) and None)
    status, text = run("verify", "--json")
    assert (status, json.loads(text)["bad"]) == (1, 7)
