"""`ostler token`, `events` and `webhooks` against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ostler.cli import events as events_command
from ostler.cli.events import events_app
from ostler.cli.token import token_app
from ostler.cli.webhooks import webhooks_app
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput, NotFound
from ostler.db.engine import Database
from tests.flow.access.serving import ADMIN, Served, serving
from tests.flow.events.memory import SECRET, publish
from tests.flow.events.receiver import Receiver, answer, receiving


@pytest.fixture
def served(sqlite_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with serving(sqlite_db, tmp_path) as made:
        monkeypatch.setenv("OSTLER_URL", made.url)
        monkeypatch.setenv("OSTLER_TOKEN", ADMIN)
        yield made


@pytest.fixture
def receiver(clock: ManualClock) -> Iterator[Receiver]:
    with receiving(clock.real, SECRET) as made:
        yield made


def run(app: typer.Typer, *arguments: str, input: str | None = None) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments, input=input)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def test_tokens(served: Served) -> None:
    _, text = run(token_app, "create", "ci", "--role", "operator", "--expires", "90d", "--json")
    made = json.loads(text)
    assert "ost_" in run(token_app, "create", "other", "--expires", "12h")[1]
    listed = [json.loads(line) for line in run(token_app, "list", "--json")[1].splitlines()]
    assert [token["name"] for token in listed] == ["ci", "other"]
    assert made["secret"] not in run(token_app, "list")[1]
    assert "is revoked" in run(token_app, "revoke", made["id"], "--reason", "left")[1]
    assert json.loads(run(token_app, "revoke", made["id"], "--json")[1])["revoked_at"]
    with pytest.raises(BadInput, match="secret"):
        run(token_app, "revoke", made["secret"])
    with pytest.raises(BadInput, match="length of time"):
        run(token_app, "create", "x", "--expires", "soon")
    with pytest.raises(BadInput):
        run(token_app, "create", "x", "--role", "king")
    with pytest.raises(NotFound):
        run(token_app, "revoke", "../webhooks")


def test_events(served: Served) -> None:
    publish(served.db, "node_1", 3)
    served.seal()
    lines = [json.loads(line) for line in run(events_app, "list", "--json", "--limit", "2")[1].splitlines()]
    assert [event["seq"] for event in lines] == [1, 2]
    assert "node.healthy" in run(events_app, "list", "--after", "2")[1]
    assert run(events_app, "list", "--subject", "none")[1] == "No event.\n"


def test_tail_follows(served: Served) -> None:
    publish(served.db, "node_1", 2)
    served.seal()
    stream = events_command._stream(served.client(), after="0", subject="node_1")
    assert [next(stream)["seq"], next(stream)["seq"]] == [1, 2]
    publish(served.db, "node_1")
    served.seal()
    assert next(stream)["seq"] == 3
    del stream


def test_webhooks(served: Served, receiver: Receiver, tmp_path: Path) -> None:
    secret = tmp_path / "hook.secret"
    secret.write_text(SECRET + "\n")
    _, text = run(webhooks_app, "add", receiver.url + "/", "-e", "node.*", "--secret-file", str(secret), "--json")
    hook = json.loads(text)
    assert "secret" not in hook
    served.sender.start()
    assert "It arrived: HTTP 200" in run(webhooks_app, "test", hook["id"])[1]
    receiver.behaviours["/"] = answer(404)
    status, text = run(webhooks_app, "test", hook["id"])
    assert (status, "HTTP 404" in text) == (1, True)
    states = [
        json.loads(line)["state"] for line in run(webhooks_app, "deliveries", hook["id"], "--json")[1].splitlines()
    ]
    assert states == ["due", "delivered"]
    assert "HTTP 404" in run(webhooks_app, "deliveries", hook["id"])[1]
    assert hook["id"] in run(webhooks_app, "list")[1]
    assert "failing for" in run(webhooks_app, "list")[1]
    assert json.loads(run(webhooks_app, "replay", hook["id"], "--json")[1]) == {"replayed": 0}
    made = json.loads(run(webhooks_app, "rotate", hook["id"], "--json")[1])
    assert len(made["secret"]) == 64
    run(webhooks_app, "rotate", hook["id"], "--secret-file", "-", input=SECRET)
    assert "disabled" in run(webhooks_app, "disable", hook["id"])[1]
    assert "disabled: disabled by token:OSTLER_ADMIN_TOKEN" in run(webhooks_app, "list")[1]
    assert "enabled" in run(webhooks_app, "enable", hook["id"])[1]
    assert "removed" in run(webhooks_app, "remove", hook["id"])[1]
    assert run(webhooks_app, "list")[1] == "No webhook.\n"
    with pytest.raises(BadInput, match="cannot be read"):
        run(webhooks_app, "add", "https://x.example/", "--secret-file", str(tmp_path / "none"))
