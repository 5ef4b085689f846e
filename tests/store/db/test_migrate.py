"""The schema's history leads to the schema, on both databases; a wrong version is told in one line."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import alembic.op
import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from ostler.core.clock import ManualClock
from ostler.core.errors import WrongVersion
from ostler.db.engine import Database
from ostler.db.migrate import current, head, migrate, require_current
from ostler.db.migrations import regenerate
from ostler.db.schema import metadata
from tests.store.db.rows import add, names


def set_revision(db: Database, revision: str | None) -> None:
    table = sa.table("alembic_version", sa.column("version_num"))
    db.write(lambda tx: tx.execute(table.delete() if revision is None else table.update().values(version_num=revision)))


def test_the_migrations_lead_to_the_schema(db: Database) -> None:
    """Red after a change in db/schema? Until the first release: python -m ostler.db.migrations.regenerate."""
    # SQLite gives the empty default '' back as nothing, so defaults are compared on PostgreSQL only.
    how = {"compare_type": True, "compare_server_default": db.dialect == "postgresql"}
    assert db.read(lambda tx: compare_metadata(MigrationContext.configure(tx.conn, opts=how), metadata)) == []


def test_partial_indexes_are_partial(db: Database) -> None:
    """What compare_metadata does not see: the condition of a unique index decides what may be there twice."""
    catalogue = "select sql from sqlite_master" if db.dialect == "sqlite" else "select indexdef from pg_indexes"
    made = [str(text).lower() for text in db.read(lambda tx: tx.execute(sa.text(catalogue)).scalars().all()) if text]
    for table in metadata.tables.values():
        for index in table.indexes:
            condition = index.dialect_options[db.dialect].get("where")
            (text,) = [one for one in made if f"index {index.name} " in one]
            assert (" where " in text) == (condition is not None), index.name


def test_migrating_again_changes_nothing(db: Database) -> None:
    db.write(add("a"))
    assert migrate(db.url) == current(db) == head()
    require_current(db)
    assert db.read(names) == {"a"}


def test_replicas_may_start_together(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    together = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: (together.wait(), migrate(url))[1], range(4))) == {head()}


@pytest.mark.postgres
def test_replicas_may_start_together_on_postgresql(postgres_url: str) -> None:
    with psycopg.connect(f"{postgres_url}/postgres", autocommit=True) as admin:
        admin.execute("drop database if exists ostler_together")
        admin.execute("create database ostler_together")
        together = threading.Barrier(4)
        with ThreadPoolExecutor(4) as pool:
            url = f"{postgres_url}/ostler_together"
            assert set(pool.map(lambda _: (together.wait(), migrate(url))[1], range(4))) == {head()}
        admin.execute("drop database ostler_together with (force)")


def test_an_older_database_says_what_to_run(db: Database) -> None:
    set_revision(db, None)
    with pytest.raises(WrongVersion, match="no schema yet; run 'ostler db migrate'"):
        require_current(db)


def test_a_newer_database_says_that_this_ostler_is_older(db: Database) -> None:
    set_revision(db, "9999")
    with pytest.raises(WrongVersion, match="this Ostler is older than its database"):
        require_current(db)
    with pytest.raises(WrongVersion, match="this Ostler is older than its database"):
        migrate(db.url)
    assert current(db) == "9999"


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction: half a schema is never left behind."""
    made: list[str] = []
    real: Callable[..., object] = alembic.op.create_table

    def fails(name: str, *arguments: object, **options: object) -> object:
        made.append(name)
        if len(made) == 5:
            raise OSError("the power is gone")
        return real(name, *arguments, **options)

    monkeypatch.setattr(alembic.op, "create_table", fails)
    url = f"sqlite:///{tmp_path}/x.db"
    with pytest.raises(OSError, match="the power is gone"):
        migrate(url)
    monkeypatch.undo()
    db = Database(url, clock)
    assert current(db) is None
    assert db.read(lambda tx: sa.inspect(tx.conn).get_table_names()) == []
    assert migrate(url) == head()
    db.close()


def test_a_released_revision_is_not_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "0001_initial.py"
    first.write_text("as released")
    (tmp_path / "0002_next.py").touch()
    monkeypatch.setattr(regenerate, "TARGET", first)
    assert regenerate.main() == 2
    assert "0002_next.py builds on it" in capsys.readouterr().err
    assert first.read_text() == "as released"
