"""Brings a database to this program's schema and says which one it has. For `ostler db migrate`, `serve` and tests.

Alembic applies the revisions in `migrations/versions/`; its command line and ini file are not needed. A migration is
one transaction under a lock, so replicas may start together: the first migrates, the others find nothing to do.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from ostler.core.errors import WrongVersion
from ostler.db.engine import Database, open_engine
from ostler.db.failures import plain, translated

_LOCK = 0x6F73746C6572
"""The advisory lock's number: the letters "ostler"."""


def migrate(db_url: str) -> str:
    """Apply every revision that is missing and return the revision the database then has.

    Raises `WrongVersion` if the database is newer than this program, `BadInput`, `Unreachable` or `Unavailable` as
    `Database` does. SQLite's file is created when it is not there.
    """
    engine = open_engine(db_url, readers=1, busy_seconds=60.0, create=True)
    try:
        with translated(plain(db_url)), engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                # A revision may rebuild a table; with enforcement on, dropping the old one would take its references.
                connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"select pg_advisory_xact_lock({_LOCK})")
            _refuse_newer(_revision(connection), db_url)
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                raise WrongVersion("The migration would leave rows that refer to nothing; nothing was changed.")
            connection.commit()
        return head()
    finally:
        engine.dispose()


def head() -> str:
    """The revision that this program works with."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise WrongVersion("This Ostler was installed without its migrations; install it again.")
    return revision


def current(db: Database) -> str | None:
    """The database's revision; None if it has no schema yet."""
    return db.read(lambda tx: _revision(tx.conn))


def require_current(db: Database) -> None:
    """Raise `WrongVersion` unless the database has exactly this program's schema."""
    revision = current(db)
    if revision == head():
        return
    _refuse_newer(revision, db.url)
    found = "has no schema yet" if revision is None else f"has schema {revision}, this Ostler needs {head()}"
    raise WrongVersion(f"The database {found}; run 'ostler db migrate'.", where=plain(db.url))


def _refuse_newer(revision: str | None, url: str) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise WrongVersion(
            f"The database has schema {revision}, which this Ostler does not know: this Ostler is older than its "
            "database. Install the newer version, or restore a backup.",
            where=plain(url),
        )


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "ostler.db:migrations")
    config.set_main_option("path_separator", "os")
    return config
