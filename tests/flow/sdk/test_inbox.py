"""The inbox: an effect exactly once, on both databases, though events come twice and effects fail."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ostler.sdk.inbox import Inbox
from ostler.sdk.webhooks import Event


def event(number: int) -> Event:
    return Event(f"event_{number}", "node.healthy", 1, "node_1", number, "2027-01-15T08:00:00Z", {})


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def inbox(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Inbox, Callable[[], Any]]:
    connect: Callable[[], Any]
    if request.param == "sqlite":
        file = tmp_path / "consumer.db"

        def connect() -> Any:
            return sqlite3.connect(file, timeout=30)

        made = Inbox(connect)
    else:
        url = request.getfixturevalue("new_postgres")()

        def connect() -> Any:
            return psycopg.connect(url)

        made = Inbox(connect, placeholder="%s")
    made.create_table()
    made.create_table()
    connection = connect()
    connection.cursor().execute("create table effects (event text)")
    connection.commit()
    connection.close()
    return made, connect


def effects(connect: Callable[[], Any]) -> list[str]:
    connection = connect()
    cursor = connection.cursor()
    cursor.execute("select event from effects order by event")
    found = [row[0] for row in cursor.fetchall()]
    connection.close()
    return found


def insert(name: str) -> Callable[[Any], None]:
    return lambda cursor: cursor.execute(f"insert into effects values ('{name}')") and None


def test_once(inbox: tuple[Inbox, Callable[[], Any]]) -> None:
    box, connect = inbox
    assert box.apply(event(1), insert("a"))
    assert not box.apply(event(1), insert("a"))
    assert box.apply(event(2), insert("b"))
    assert effects(connect) == ["a", "b"]


def test_an_effect_that_fails_may_come_again(inbox: tuple[Inbox, Callable[[], Any]]) -> None:
    box, connect = inbox

    def fail(cursor: Any) -> None:
        insert("half")(cursor)
        raise LookupError

    with pytest.raises(LookupError):
        box.apply(event(1), fail)
    assert effects(connect) == []
    assert box.apply(event(1), insert("a"))
    assert effects(connect) == ["a"]


def test_the_same_event_twice_at_once(inbox: tuple[Inbox, Callable[[], Any]]) -> None:
    box, connect = inbox
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(box.apply(event(1), insert("a")))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]
    assert effects(connect) == ["a"]


@pytest.mark.parametrize(("placeholder", "table"), [(":1", "inbox"), ("?", "in box"), ("?", "x; drop table y")])
def test_nonsense_is_refused(placeholder: str, table: str) -> None:
    with pytest.raises(ValueError, match="plain name"):
        Inbox(lambda: None, placeholder=placeholder, table=table)
