"""Copies a running database to a file, brings it back, and checks it. Called by `ostler db backup / restore / check`.

SQLite: a copy made with its online backup API. PostgreSQL: pg_dump's custom format, read back with pg_restore; both
must be on the PATH. A restored database starts paused, because the world has moved on since (DESIGN, principle 9).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa

from ostler.core.clock import SystemClock
from ostler.core.errors import BadInput, NotFound, Permanent, Refused, Unavailable
from ostler.core.ids import new_id
from ostler.db.engine import Database, open_engine
from ostler.db.failures import plain, translated
from ostler.db.migrate import current, migrate, require_current
from ostler.db.schema import audit, event, metadata, pause
from ostler.db.tx import Tx

PAUSED_WHY = "restored from backup; resume when the world has been read again"

_NOT_EMPTY = "The database is not empty; --force replaces everything in it."


def backup(url: str, target: Path) -> int:
    """Write a consistent copy of the database to `target` while it is in use; the copy's size in bytes.

    `target` appears only when it is complete and has been read back. Raises `Refused` if it exists, `BadInput` if its
    folder does not, `NotFound` if there is no database or no pg_dump, `Unavailable` if the disk is full.
    """
    if target.exists():
        raise Refused("This file exists; name a new one.", where=str(target))
    if not target.absolute().parent.is_dir():
        raise BadInput("Its folder does not exist; create it first.", where=str(target))
    with closing(Database(url, SystemClock(), readers=1)) as db:
        if current(db) is None:
            raise NotFound("The database has no schema yet; there is nothing to back up.", where=plain(url))
    with _beside(target) as copy:
        if (file := _sqlite_file(url)) is not None:
            _copy_sqlite(file, copy)
            _verify_sqlite(copy)
        else:
            _postgresql("pg_dump", url, "--format=custom", "--no-owner", f"--file={copy}")
            _verify_postgresql(copy)
        copy.replace(target)
        return target.stat().st_size


def restore(url: str, source: Path, *, force: bool = False) -> None:
    """Make the database at `url` what `source` holds, migrate it to this program's schema, and pause the fleet in it.

    Raises `Refused` if the database holds something and `force` is not set, `Unavailable` if it is in use, `BadInput`
    if `source` is no backup of this kind of database, `WrongVersion` if it is of a newer Ostler. On SQLite the file
    that was there is kept beside the new one as `NAME.before-restore`.
    """
    if not source.is_file():
        raise NotFound("There is no such file.", where=str(source))
    if (file := _sqlite_file(url)) is not None:
        _restore_sqlite(file, source, force)
    else:
        _restore_postgresql(url, source, force)


def check(url: str) -> list[str]:
    """What is wrong with the database, one sentence each; empty if nothing is."""
    with closing(Database(url, SystemClock(), readers=1)) as db:
        try:
            require_current(db)
            return [*db.read(_integrity), *db.read(_positions)]
        except (NotFound, BadInput):
            raise
        except Permanent as wrong:  # another version, or too damaged to be read
            return [wrong.message]


def _integrity(tx: Tx) -> list[str]:
    if tx.dialect != "sqlite":
        return []  # PostgreSQL enforces its constraints; its pages are for pg_amcheck, run by its own administrators
    damage = [str(row[0]) for row in tx.execute(sa.text("PRAGMA integrity_check"))]
    problems = [f"SQLite's integrity check says: {line}." for line in damage if line != "ok"]
    for row in tx.all(sa.text("PRAGMA foreign_key_check")):
        problems.append(f"Row {row['rowid']} of {row['table']} refers to a row of {row['parent']} that is not there.")
    return problems


def _positions(tx: Tx) -> list[str]:
    problems = []
    for table in (audit, event):
        place = table.c.position
        count, lowest, highest = (tx.scalar(sa.select(of(place))) for of in (sa.func.count, sa.func.min, sa.func.max))
        if count and (lowest, highest) != (1, count):
            problems.append(
                f"The positions of {table.name} have gaps: {count} rows lie between {lowest} and {highest}."
            )
    return problems


def _pause_fleet(url: str) -> None:
    with closing(Database(url, SystemClock(), readers=1)) as db:
        values = {"id": new_id("pause"), "scope": "fleet", "actor": "ostler:db", "reason": PAUSED_WHY}
        db.write(lambda tx: tx.execute(pause.insert().values(**values, since=tx.now)))


def _sqlite_file(url: str) -> Path | None:
    parsed = sa.make_url(url)
    return Path(parsed.database or "") if parsed.drivername == "sqlite" else None


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A temporary file in the folder of `target`, to be renamed over it; removed if it was not."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.absolute().parent)
        os.close(handle)
        try:
            yield Path(name)
        finally:
            for suffix in ("", "-wal", "-shm", "-journal"):
                Path(name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise Unavailable(f"{error.strerror}; nothing was kept.", where=str(target)) from error


def _copy_sqlite(source: Path, target: Path) -> None:
    with translated(str(source)), _opened(source, "ro") as origin, _opened(target, "rw") as copy:
        origin.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
    with target.open("rb") as written:
        os.fsync(written.fileno())


def _verify_sqlite(path: Path) -> None:
    try:
        with _opened(path, "ro") as copy:
            verdict = copy.execute("PRAGMA integrity_check").fetchone()[0]
            ours = copy.execute("select 1 from sqlite_master where name = 'alembic_version'").fetchone()
    except sqlite3.DatabaseError as error:
        raise BadInput(f"This is no SQLite backup: {error}.", where=str(path)) from error
    if verdict != "ok":
        raise Permanent(f"The copy is damaged: {verdict}.", where=str(path))
    if not ours:
        raise BadInput("This SQLite file is no backup of Ostler's.", where=str(path))


def _restore_sqlite(target: Path, source: Path, force: bool) -> None:
    _verify_sqlite(source)
    if target.exists():
        if not force and _sqlite_rows(target):
            raise Refused(_NOT_EMPTY, where=str(target))
        _refuse_in_use(target)
    with _beside(target) as copy:
        _copy_sqlite(source, copy)
        migrate(f"sqlite:///{copy}")
        _pause_fleet(f"sqlite:///{copy}")
        if target.exists():
            target.replace(target.with_name(target.name + ".before-restore"))
            for suffix in ("-wal", "-shm"):
                target.with_name(target.name + suffix).unlink(missing_ok=True)
        copy.replace(target)


def _sqlite_rows(path: Path) -> bool:
    """True if any of our tables has a row, or if that cannot be told."""
    try:
        with _opened(path, "ro") as database:
            there = {row[0] for row in database.execute("select name from sqlite_master where type = 'table'")}
            tables = [name for name in metadata.tables if name in there]
            return any(database.execute(f'select 1 from "{name}" limit 1').fetchone() for name in tables)
    except sqlite3.DatabaseError:
        return True


def _refuse_in_use(path: Path) -> None:
    """In WAL mode an exclusive lock is to be had only if no other connection is open, however idle it is."""
    with _opened(path, "rw") as database:
        try:
            database.execute("PRAGMA locking_mode=EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            database.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise Unavailable("The database is in use; stop Ostler first.", where=str(path)) from error
        except sqlite3.DatabaseError:
            return  # too damaged to be in use: that is what restoring is for


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(address, uri=True, timeout=1.0, isolation_level=None)) as connection:
        yield connection


def _restore_postgresql(url: str, source: Path, force: bool) -> None:
    _verify_postgresql(source)
    engine = open_engine(url, readers=1)
    try:
        with translated(plain(url)), engine.begin() as conn:
            there = set(sa.inspect(conn).get_table_names())
            ours = [table for name, table in metadata.tables.items() if name in there]
            if not force and any(conn.scalar(sa.select(sa.literal(1)).select_from(table).limit(1)) for table in ours):
                raise Refused(_NOT_EMPTY, where=plain(url))
            others = conn.exec_driver_sql(
                "select count(*) from pg_stat_activity where datname = current_database()"
                " and application_name = 'ostler' and pid <> pg_backend_pid()"
            ).scalar()
            if others:
                raise Unavailable(f"It is in use by {others} connections; stop Ostler first.", where=plain(url))
            quote = conn.dialect.identifier_preparer.quote
            for name in there:
                conn.exec_driver_sql(f"drop table {quote(name)} cascade")
    finally:
        engine.dispose()
    _postgresql("pg_restore", url, "--no-owner", "--exit-on-error", "--single-transaction", str(source))
    migrate(url)
    _pause_fleet(url)


def _verify_postgresql(path: Path) -> None:
    done = _program("pg_restore", ["--list", str(path)], {})
    if done.returncode != 0:
        raise BadInput(f"This is no PostgreSQL backup: {_last_line(done)}", where=str(path))
    if "alembic_version" not in done.stdout:
        raise BadInput("This PostgreSQL backup is none of Ostler's.", where=str(path))


def _postgresql(program: str, url: str, *arguments: str) -> None:
    parsed = sa.make_url(url)
    bare = parsed.set(drivername="postgresql", password=None).render_as_string()
    # The password goes by the environment: arguments are there for every user of the machine to read.
    secret = {"PGPASSWORD": str(parsed.password)} if parsed.password else {}
    done = _program(program, [f"--dbname={bare}", *arguments], secret)
    if done.returncode != 0:
        raise Unavailable(f"{program} failed: {_last_line(done)}", where=plain(url))


def _program(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    path = shutil.which(name)
    if path is None:
        raise NotFound(
            f"The program {name} is not on the PATH; install PostgreSQL's client programs (Debian: postgresql-client)."
        )
    return subprocess.run(
        [path, *arguments],
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
    )


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
