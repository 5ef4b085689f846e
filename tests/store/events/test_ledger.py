"""The ledger: `seq` per subject, cursors that miss nothing, retention that says so, tenants apart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import sqlalchemy as sa

from ostler.audit.sequencer import Sequencer
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput, Gone, NotFound
from ostler.db.engine import Database
from ostler.db.schema import event
from ostler.db.tx import Tx
from ostler.events import service
from ostler.events.event_type import CatalogueMismatch


def publish(db: Database, subject: str = "node_1", tenant: str | None = None) -> str:
    return db.write(lambda tx: service.publish(tx, "node.healthy", subject, {"node_id": subject}, tenant=tenant))


def publish_odd(db: Database, type: str, data: Mapping[str, Any]) -> None:
    db.write(lambda tx: service.publish(tx, type, "node_1", data))


def page_after(db: Database, cursor: str | None, limit: int = 100) -> service.Page:
    return db.read(lambda tx: service.events(tx, after=cursor, limit=limit))


def seal(db: Database) -> None:
    while Sequencer(db, "a").run_once():
        pass


def test_seq_counts_per_subject_under_concurrency(db: Database) -> None:
    threads = [
        threading.Thread(target=lambda s=s: [publish(db, s) for _ in range(10)]) for s in ("node_1", "node_1", "node_2")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = db.read(lambda tx: tx.all(sa.select(event.c.subject, event.c.seq).order_by(event.c.subject, event.c.seq)))
    assert [row["seq"] for row in rows if row["subject"] == "node_1"] == list(range(1, 21))
    assert [row["seq"] for row in rows if row["subject"] == "node_2"] == list(range(1, 11))


def test_pages_lead_from_one_to_the_next_and_on(db: Database) -> None:
    ids = [publish(db, f"node_{n % 3}") for n in range(7)]
    seal(db)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = page_after(db, cursor, 3)
        seen += [e.id for e in page.events]
        cursor = page.cursor
        if not page.more:
            break
    assert sorted(seen) == sorted(ids)
    assert db.read(lambda tx: service.events(tx, after=cursor)).events == []
    late = publish(db)
    assert db.read(lambda tx: service.events(tx, after=cursor)).events == []  # not sealed yet
    seal(db)
    assert [e.id for e in db.read(lambda tx: service.events(tx, after=cursor)).events] == [late]


def test_filters_move_the_cursor_past_what_they_leave_out(db: Database) -> None:
    for n in range(5):
        publish(db, f"node_{n}")
    db.write(lambda tx: service.publish(tx, "ticket.closed", "ticket_1", {"ticket_id": "ticket_1"}))
    seal(db)
    page = db.read(lambda tx: service.events(tx, type="ticket.*"))
    assert [e.type for e in page.events] == ["ticket.closed"]
    assert page.cursor == "6"
    narrow = db.read(lambda tx: service.events(tx, subject="node_3"))
    assert ([e.subject for e in narrow.events], narrow.cursor) == (["node_3"], "6")
    with pytest.raises(BadInput, match="No event type"):
        db.read(lambda tx: service.events(tx, type="nodes"))


def test_tenants_see_their_own(db: Database) -> None:
    publish(db, "node_1")
    blue = publish(db, "node_2", "blue")
    red = publish(db, "node_3", "red")
    seal(db)
    assert [e.id for e in db.read(lambda tx: service.events(tx, tenant="blue")).events] == [blue]
    assert db.read(lambda tx: service.event(tx, red)).tenant == "red"
    with pytest.raises(NotFound):
        db.read(lambda tx: service.event(tx, red, tenant="blue"))


@pytest.mark.parametrize("cursor", ["x", "-1", "1e3", " 1", "٣", "9" * 40])
def test_what_is_no_cursor(db: Database, cursor: str) -> None:
    with pytest.raises(BadInput, match="no cursor"):
        db.read(lambda tx: service.events(tx, after=cursor))


def test_a_cursor_from_the_future_is_told(db: Database) -> None:
    publish(db)
    seal(db)
    with pytest.raises(BadInput, match="restored from a backup"):
        db.read(lambda tx: service.events(tx, after="2"))
    assert db.read(lambda tx: service.events(tx, after="1")).events == []


def test_retention_keeps_seq_and_tells_who_is_too_late(db: Database, clock: ManualClock) -> None:
    for _ in range(3):
        publish(db, "node_1")
    publish(db, "node_2")
    seal(db)
    clock.advance(1000)
    publish(db, "node_2")
    seal(db)
    before = clock.now() - 500
    assert db.write(lambda tx: service.forget(tx, before)) == 3  # not node_1's last, not the new one
    assert db.write(lambda tx: service.forget(tx, before)) == 0
    for late in ("1", "2", "3"):
        with pytest.raises(Gone, match="expired"):
            page_after(db, late)
    page = db.read(service.events)
    assert [(e.subject, e.seq) for e in page.events] == [("node_2", 2)]
    assert db.read(lambda tx: service.events(tx, after="4")).cursor == "5"
    publish(db, "node_1")
    seal(db)
    assert [(e.subject, e.seq) for e in db.read(lambda tx: service.events(tx, after="5")).events] == [("node_1", 4)]


def test_a_wrong_payload_is_loud_and_leaves_nothing(db: Database) -> None:
    for type, data in (("node.heathy", {"node_id": "x"}), ("node.healthy", {}), ("node.healthy", {"node_id": 5})):
        with pytest.raises(CatalogueMismatch):
            publish_odd(db, type, data)
    assert db.read(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(event))) == 0


def test_hostile_text_is_stored_clean(db: Database) -> None:
    name = "a\0b\ud800"
    made = db.write(lambda tx: service.publish(tx, "node.healthy", name, {"node_id": name}))
    assert db.read(lambda tx: service.event(tx, made)).data["node_id"] == "a\ufffdb\ufffd"


@pytest.mark.postgres
def test_two_publications_about_one_subject_at_once(new_postgres: Callable[[], str], clock: ManualClock) -> None:
    """The second waits for the first to commit, then counts on."""
    db = Database(new_postgres(), clock)
    published, go = threading.Event(), threading.Event()
    second: list[str] = []

    def first(tx: Tx) -> None:
        service.publish(tx, "node.healthy", "node_1", {"node_id": "node_1"})
        published.set()
        assert go.wait(60)

    threads = [threading.Thread(target=lambda: db.write(first))]
    threads[0].start()
    assert published.wait(60)
    threads.append(threading.Thread(target=lambda: second.append(publish(db))))
    threads[1].start()
    waiting = sa.text(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    )
    while db.read(lambda tx: tx.scalar(waiting)) == 0:
        pass
    go.set()
    for thread in threads:
        thread.join()
    assert db.read(lambda tx: service.event(tx, second[0])).seq == 2
    db.close()
