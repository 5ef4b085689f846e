"""Applies each event's effect exactly once, though a webhook may arrive twice. For consumers with a SQL database.

The event's id and the effect are written in one transaction: a crash between "done" and "remembered" cannot happen.

    inbox = Inbox(lambda: sqlite3.connect("app.db"))
    inbox.apply(event, lambda cursor: cursor.execute("insert into orders …"))

Works with any DB-API connection in transaction mode; the paramstyle is `?` (sqlite3) or `%s` (psycopg).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ostler.sdk.webhooks import Event


class Inbox:
    """Remembers which events were applied, in a table of the consumer's own database.

    `connect` opens a DB-API connection; it is closed after each call. `placeholder` is `?` for sqlite3, `%s` for
    psycopg.
    """

    def __init__(self, connect: Callable[[], Any], *, placeholder: str = "?", table: str = "ostler_inbox") -> None:
        if placeholder not in ("?", "%s") or not table.isidentifier():
            raise ValueError("placeholder is '?' or '%s', and table is a plain name")
        self._connect = connect
        self._create = (
            f"create table if not exists {table} "
            "(event_id text primary key, subject text not null, seq bigint not null, type text not null)"
        )
        values = ", ".join([placeholder] * 4)
        self._insert = (
            f"insert into {table} (event_id, subject, seq, type) values ({values}) on conflict (event_id) do nothing"
        )

    def create_table(self) -> None:
        """Make the table if it is not there. Once, at start."""
        self._in_transaction(lambda cursor: cursor.execute(self._create))

    def apply(self, event: Event, effect: Callable[[Any], object]) -> bool:
        """Run `effect(cursor)` if this event was not applied before; True if it was run.

        What `effect` raises undoes everything, so the event can come again. Effects outside the database do not belong
        here: write down that they are due, and do them from there.
        """

        def once(cursor: Any) -> bool:
            cursor.execute(self._insert, (event.id, event.subject, event.seq, event.type))
            if cursor.rowcount != 1:
                return False
            effect(cursor)
            return True

        return bool(self._in_transaction(once))

    def _in_transaction(self, work: Callable[[Any], Any]) -> Any:
        connection = self._connect()
        try:
            cursor = connection.cursor()
            try:
                value = work(cursor)
            finally:
                cursor.close()
            connection.commit()
            return value
        except BaseException:
            connection.rollback()
            raise
        finally:
            connection.close()
