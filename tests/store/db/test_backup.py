"""`ostler db backup / restore / check` on both databases, as a user runs them and with what can go wrong."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from ostler.cli.db import db_app
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput, NotFound, OstlerError, Refused, Unavailable, WrongVersion
from ostler.db.backup import PAUSED_WHY, backup, check, restore
from ostler.db.engine import Database
from ostler.db.migrate import migrate
from ostler.db.schema import audit, pause, pool
from ostler.db.tx import Tx
from tests.store.db.rows import add, names


def paused(tx: Tx) -> list[str]:
    return list(tx.execute(sa.select(pause.c.reason).where(pause.c.scope == "fleet")).scalars())


@pytest.fixture
def another(db: Database, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a second empty database of the same kind."""
    if db.dialect == "sqlite":
        return f"sqlite:///{tmp_path}/another.db"
    new: Callable[[], str] = request.getfixturevalue("new_postgres")
    return new()


def test_a_backup_brings_everything_back_and_paused(
    db: Database, another: str, tmp_path: Path, clock: ManualClock
) -> None:
    db.write(add("a"))
    copy = tmp_path / "copy"
    assert backup(db.url, copy) == copy.stat().st_size > 0
    db.write(add("after the backup"))
    restore(another, copy)
    restored = Database(another, clock)
    assert restored.read(names) == {"a"}
    assert restored.read(paused) == [PAUSED_WHY]
    assert restored.write(add("b")) == "b"
    restored.close()
    assert check(another) == []
    assert db.read(paused) == [], "the original goes on"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [], "nothing is left lying about"


def test_a_database_that_holds_something_is_not_overwritten(db: Database, tmp_path: Path, clock: ManualClock) -> None:
    db.write(add("old"))
    backup(db.url, tmp_path / "copy")
    db.write(add("new"))
    db.close()
    with pytest.raises(Refused, match="--force"):
        restore(db.url, tmp_path / "copy")
    restore(db.url, tmp_path / "copy", force=True)
    restored = Database(db.url, clock)
    assert restored.read(names) == {"old"}
    restored.close()
    if db.dialect == "sqlite":
        with sqlite3.connect(tmp_path / "ostler.db.before-restore") as before:
            assert {row[0] for row in before.execute("select name from lease")} == {"old", "new"}
        before.close()


def test_a_database_in_use_is_not_replaced(db: Database, tmp_path: Path) -> None:
    db.write(add("a"))
    backup(db.url, tmp_path / "copy")
    with pytest.raises(Unavailable, match="stop Ostler first"):
        restore(db.url, tmp_path / "copy", force=True)
    assert db.read(names) == {"a"}
    assert db.write(add("b")) == "b"


def test_what_is_no_backup_is_refused_and_nothing_is_touched(db: Database, another: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello\n" * 1000)
    with sqlite3.connect(tmp_path / "foreign") as foreign:
        foreign.execute("create table x (y)")
    foreign.close()
    for name in ("text", "foreign"):
        with pytest.raises(BadInput, match="backup"):
            restore(another, tmp_path / name)
    with pytest.raises(NotFound, match="no such file"):
        restore(another, tmp_path / "nowhere")


def test_a_backup_of_a_newer_ostler_is_refused(db: Database, another: str, tmp_path: Path) -> None:
    version = sa.table("alembic_version", sa.column("version_num"))
    db.write(lambda tx: tx.execute(version.update().values(version_num="9999")))
    backup(db.url, tmp_path / "copy")
    with pytest.raises(WrongVersion, match="older than its database"):
        restore(another, tmp_path / "copy")


def test_a_backup_needs_a_new_file_in_a_folder_that_exists(db: Database, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    with pytest.raises(Refused, match="exists"):
        backup(db.url, tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"
    with pytest.raises(BadInput, match="folder"):
        backup(db.url, tmp_path / "no" / "where")


@pytest.mark.postgres
def test_without_pg_dump_it_says_what_to_install(
    new_postgres: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match=r"pg_dump is not on the PATH.*postgresql-client"):
        backup(new_postgres(), tmp_path / "copy")
    assert list(tmp_path.glob("*copy*")) == []


def test_a_damaged_database_is_replaced(tmp_path: Path, sqlite_url: str, clock: ManualClock) -> None:
    """That is what a backup is for."""
    backup(sqlite_url, tmp_path / "copy")
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    path.write_bytes(b"\0" * 100_000)
    with pytest.raises(Refused):
        restore(sqlite_url, tmp_path / "copy")
    restore(sqlite_url, tmp_path / "copy", force=True)
    assert check(sqlite_url) == []


def test_check_finds_gaps(db: Database) -> None:
    def fill(tx: Tx) -> None:
        common = {"at": 0.0, "actor": "a", "action": "a", "subject": "s", "detail": {}}
        tx.execute(audit.insert(), [{"id": f"audit_{n}", "position": n, **common} for n in (1, 2, 4)])

    assert check(db.url) == []
    db.write(fill)
    assert check(db.url) == ["The positions of audit have gaps: 3 rows lie between 1 and 4."]


def test_check_finds_references_to_nothing_and_damage(sqlite_url: str) -> None:
    path = sqlite_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as raw:  # without enforcement
        raw.execute("insert into node_mac (mac, node_id) values ('00:11', 'node_gone')")
    raw.close()
    (problem,) = check(sqlite_url)
    assert "node_mac refers to a row of node" in problem
    with Path(path).open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 30_000)
    assert check(sqlite_url) != []


def test_check_tells_a_wrong_version(db: Database) -> None:
    db.write(lambda tx: tx.execute(sa.text("delete from alembic_version")))
    (problem,) = check(db.url)
    assert "ostler db migrate" in problem


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(db_app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, OstlerError), "the command's caller turns these into one line"
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.stdout


def test_the_commands(db_url: str, tmp_path: Path) -> None:
    copy = str(tmp_path / "copy")
    assert run("migrate", "--database", db_url) == (0, "The database has schema 0001.\n")
    code, text = run("backup", copy, "--database", db_url)
    assert code == 0
    assert "read back and complete" in text
    assert run("backup", copy, "--database", db_url)[0] == 1
    code, text = run("restore", copy, "--database", db_url, "--force")
    assert code == 0
    assert "paused" in text
    assert run("check", "--database", db_url) == (0, "The database is sound.\n")
    code, text = run("check", "--database", db_url, "--json")
    assert (code, json.loads(text)) == (0, {"ok": True, "problems": []})
    assert run("check", "--database", "mysql://x")[0] == 2


def test_check_exits_1_when_something_is_wrong(sqlite_db: Database) -> None:
    sqlite_db.write(lambda tx: tx.execute(sa.text("delete from alembic_version")))
    code, text = run("check", "--database", sqlite_db.url, "--json")
    assert code == 1
    assert json.loads(text)["ok"] is False


def test_migrate_makes_the_database(tmp_path: Path, clock: ManualClock) -> None:
    url = f"sqlite:///{tmp_path}/a folder/ünïcode & more.db"
    with pytest.raises(BadInput, match="does not exist"):
        migrate(url)
    (tmp_path / "a folder").mkdir()
    migrate(url)
    db = Database(url, clock)
    assert db.read(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(pool))) == 0
    db.close()
    backup(url, tmp_path / "copy")
