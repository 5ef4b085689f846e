"""Turns what database drivers raise into Ostler's own errors, with a message a person can act on.

Used by the modules of `db/`. SQLite's conditions are known by their message (the texts of
sqlite3_errstr, sqlite.org/rescode.html), PostgreSQL's by SQLSTATE (PostgreSQL manual, Appendix A).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ostler.core.errors import (
    BadInput,
    Conflict,
    NotFound,
    OstlerError,
    Permanent,
    Unavailable,
    Unreachable,
    WrongVersion,
)

_CONFLICTS = {"40001", "40P01", "23505"}
"""serialization_failure, deadlock_detected, and unique_violation: on a second run the use case sees the other's row."""


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Raise Ostler's errors for the driver's; `where` is the database's URL without a password."""
    try:
        yield
    except (DBAPIError, PoolTimeout, sqlite3.Error) as error:
        raise translate(error, where) from error


def translate(error: BaseException, where: str) -> BaseException:
    """The error to raise instead of `error`; `error` itself if nothing better is known."""
    if isinstance(error, PoolTimeout):
        return Unavailable("Every connection to the database is in use; try again.", where=where, delay=2.0)
    driver = error.orig if isinstance(error, DBAPIError) else error if isinstance(error, sqlite3.Error) else None
    if driver is None:
        return error
    cause = (str(driver).strip() or type(driver).__name__).splitlines()[0]
    state = getattr(driver, "sqlstate", None)
    known = _postgresql(state, cause, where) if state else _sqlite(cause, where)
    if known is not None:
        return known
    if isinstance(error, OperationalError | sqlite3.OperationalError):
        return Unreachable(f"The database does not answer: {cause}", where=where, delay=5.0)
    return error


def is_conflict(error: DBAPIError) -> bool:
    """True if another transaction was in the way (PostgreSQL): the same use case may succeed when it is run again."""
    return getattr(error.orig, "sqlstate", None) in _CONFLICTS


def plain(url: str) -> str:
    """The URL without a password, for messages."""
    return sa.make_url(url).render_as_string(hide_password=True)


_FULL = "The disk is full; nothing was written. Free some space."
_NO_SCHEMA = "The database has no schema or one of another version ({cause}); run 'ostler db migrate'."


def _sqlite(cause: str, where: str) -> OstlerError | None:
    if "disk is full" in cause:
        return Unavailable(_FULL, where=where)
    if "disk I/O error" in cause:
        return Unavailable("The disk refuses the write; nothing was written. Is it full or failing?", where=where)
    if "database is locked" in cause or "database table is locked" in cause:
        return Unavailable("The database is held by another process; nothing was written.", where=where, delay=2.0)
    if "no such table" in cause or "no such column" in cause:
        return WrongVersion(_NO_SCHEMA.format(cause=cause), where=where)
    if "unable to open database file" in cause:
        return NotFound("There is no database here, or it may not be opened; run 'ostler db migrate'.", where=where)
    if "file is not a database" in cause:
        return BadInput("This file is no SQLite database.", where=where)
    if "malformed" in cause:
        return Permanent("The database is damaged; stop Ostler and restore a backup.", where=where)
    if "readonly database" in cause:
        return BadInput("The database may not be written; check the file's and the folder's permissions.", where=where)
    if found := re.match(r"UNIQUE constraint failed: (.*)", cause):
        return Conflict(f"Another record already has this {found[1]}.")
    return None


def _postgresql(state: str, cause: str, where: str) -> OstlerError | None:
    if state == "53100":
        return Unavailable(_FULL, where=where)
    if state.startswith(("53", "57P")) or state in {"55P03", "40001", "40P01"}:
        return Unavailable(f"The database is too busy or shutting down: {cause}", where=where, delay=2.0)
    if state in {"42P01", "42703"}:
        return WrongVersion(_NO_SCHEMA.format(cause=cause), where=where)
    if state == "3D000":
        return NotFound(f"There is no such database: {cause}", where=where)
    if state == "25006":
        return Unavailable("This PostgreSQL server is read-only (a standby?); name the primary.", where=where)
    if state == "23505":
        return Conflict(f"Another record already has this value: {cause}")
    return None
