"""Opens the database and owns the one way to write (`Database.write`) and to read (`Database.read`).

Called by `app.py`, the CLI's `db` commands and the tests. A use case is a function of a `Tx`; it holds no I/O, because
it may be run again: after a serialization failure, or when a neighbour in its commit failed.

- SQLite: one writer. Callers hand their function to a single thread that runs all that wait in one transaction, each in
  its own SAVEPOINT, commits once (one fsync for many), and answers after the commit. A failing one rolls back alone.
- PostgreSQL: an ordinary transaction per call, repeated on deadlock and serialization failure.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError

from ostler.core.clock import Clock
from ostler.core.errors import BadInput, WrongVersion
from ostler.db.failures import is_conflict, plain, translated
from ostler.db.tx import Tx, run_after_commit
from ostler.db.writer import GroupingWriter

T = TypeVar("T")

SQLITE_MINIMUM = (3, 38, 0)
"""RETURNING needs 3.35, unixepoch() and `->>` 3.38 (sqlite.org/changes.html); Debian 12 has 3.40."""

BUSY_SECONDS = 10.0
"""How long a transaction waits for another process's lock before it answers `Unavailable`."""

_TRIES = 6
"""A use case that still conflicts after so many runs is answered `Unavailable`."""


class Database:
    """An open database; whether its schema is the present one, `db/migrate.py` says.

    Raises `BadInput` for a URL that names none and `WrongVersion` for an old SQLite; it connects on first use.
    """

    def __init__(self, url: str, clock: Clock, *, readers: int = 8, busy_seconds: float = BUSY_SECONDS) -> None:
        self.url = url
        self.clock = clock
        self.engine = open_engine(url, readers=readers, busy_seconds=busy_seconds)
        """What reads (and on PostgreSQL writes) go through."""
        self.dialect = self.engine.dialect.name
        """`sqlite` or `postgresql`."""
        self._inside = threading.local()
        self._writer: GroupingWriter | None = None
        if self.dialect == "sqlite":
            # A connection of its own, so that no number of slow readers can starve it.
            writing = open_engine(url, readers=1, busy_seconds=busy_seconds)
            self._writer = GroupingWriter(writing, self._run, self._commit, plain(url))
            sa.event.listen(self.engine, "connect", _forbid_writing)

    def write(self, use_case: Callable[[Tx], T]) -> T:
        """Run one use case in one transaction and return its value once it is durable.

        Raises what the use case raises (nothing of it is kept), `Unavailable` when the disk is full or the database is
        busy for long, `Unreachable` when there is no connection, `Conflict` when a value must be unique and is not.
        """
        self._refuse_nesting()
        if self._writer is not None:
            return self._writer.run(use_case)
        return self._write_postgresql(use_case)

    def read(self, query: Callable[[Tx], T]) -> T:
        """Run a read-only function on a consistent snapshot."""
        self._refuse_nesting()
        with translated(plain(self.url)), self.engine.connect() as conn:
            if self.dialect == "sqlite":
                conn.exec_driver_sql("BEGIN")
            else:
                conn.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            value = query(self._tx(conn))
            conn.rollback()
            return value

    def close(self) -> None:
        """Finish what is queued, then let go of every connection."""
        if self._writer is not None:
            self._writer.close()
        self.engine.dispose()

    def _tx(self, conn: sa.Connection) -> Tx:
        return Tx(conn=conn, now=self.clock.now(), real=self.clock.real(), dialect=self.dialect)

    def _run(self, conn: sa.Connection, use_case: Callable[[Tx], T]) -> tuple[T, list[Callable[[], None]]]:
        tx = self._tx(conn)
        self._inside.use_case = True
        try:
            return use_case(tx), tx.after
        finally:
            self._inside.use_case = False

    def _commit(self, conn: sa.Connection) -> None:
        """Where every commit of this process happens: a restart test kills the process just before or after."""
        conn.commit()

    def _refuse_nesting(self) -> None:
        if getattr(self._inside, "use_case", False):
            raise RuntimeError("a use case opened a transaction inside its transaction; pass the Tx on instead")

    def _write_postgresql(self, use_case: Callable[[Tx], T]) -> T:
        with translated(plain(self.url)):
            for attempt in range(1, _TRIES + 1):
                try:
                    with self.engine.connect() as conn:
                        value, after = self._run(conn, use_case)
                        self._commit(conn)
                except DBAPIError as error:
                    if attempt == _TRIES or not is_conflict(error):
                        raise
                    time.sleep(0.01 * 2**attempt * random.random())  # noqa: S311 (jitter, no secret)
                else:
                    run_after_commit(after)
                    return value
        raise AssertionError("unreachable: the loop returns or raises")


def open_engine(url: str, *, readers: int, busy_seconds: float = BUSY_SECONDS, create: bool = False) -> sa.Engine:
    """Connections to the database at `url`; `create` lets SQLite make its file.

    Raises `BadInput` for a URL that names no database, `WrongVersion` for an old SQLite.
    """
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        raise BadInput(
            "This is no database URL; use sqlite:///PATH or postgresql://…", where="[database] url"
        ) from None
    if parsed.drivername == "sqlite":
        return _sqlite_engine(parsed, readers, busy_seconds, create)
    if parsed.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        milliseconds = int(busy_seconds * 1000)
        return sa.create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=readers,
            max_overflow=readers,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": 10,
                "application_name": "ostler",
                "options": f"-c lock_timeout={milliseconds} -c idle_in_transaction_session_timeout=60000",
            },
        )
    raise BadInput(
        f"'{parsed.drivername}' is no database that Ostler knows; use sqlite:///PATH or postgresql://…",
        where="[database] url",
    )


def _sqlite_engine(url: sa.URL, readers: int, busy_seconds: float, create: bool) -> sa.Engine:
    if sqlite3.sqlite_version_info < SQLITE_MINIMUM:
        raise WrongVersion(
            f"SQLite {sqlite3.sqlite_version} is too old; Ostler needs {'.'.join(map(str, SQLITE_MINIMUM))} or newer."
        )
    path = url.database
    if not path or path == ":memory:":
        raise BadInput("An in-memory SQLite cannot be shared by Ostler's threads; name a file.", where="[database] url")
    if not Path(path).absolute().parent.is_dir():
        raise BadInput(f"The folder {Path(path).parent} does not exist; create it first.", where="[database] url")
    address = f"file:{quote(path)}?mode={'rwc' if create else 'rw'}"

    def connect() -> sqlite3.Connection:
        # isolation_level None: BEGIN is ours, IMMEDIATE for the writer and deferred for readers.
        connection = sqlite3.connect(
            address, uri=True, timeout=busy_seconds, check_same_thread=False, isolation_level=None
        )
        try:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    return sa.create_engine(url, pool_size=readers, max_overflow=readers, creator=connect)


def _forbid_writing(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA query_only=ON")
