"""One order, dense, never behind a reader's back: interleaved writers, two sequencers, a killed one."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from ostler.audit import sequencer as module
from ostler.audit import service, store
from ostler.audit.sequencer import LEASE_SECONDS, Sealed, Sequencer
from ostler.core.actor import Actor, ostler
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.schema import audit, event
from ostler.db.tx import Tx
from ostler.events import service as events

MARA = Actor("person:mara", "request_1")


def record(db: Database, subject: str) -> None:
    db.write(lambda tx: service.record(tx, MARA, "node.cordon", subject, reason="test"))


def publish(db: Database, subject: str) -> None:
    db.write(lambda tx: events.publish(tx, "node.healthy", subject, {"node_id": subject}))


def page_after(db: Database, cursor: str | None) -> events.Page:
    return db.read(lambda tx: events.events(tx, after=cursor))


def positions(db: Database, table: sa.Table = audit) -> list[int | None]:
    return db.read(lambda tx: [row[0] for row in tx.execute(sa.select(table.c.position).order_by(table.c.position))])


def drain(db: Database, owner: str = "a") -> Sealed:
    sequencer = Sequencer(db, owner)
    total = Sealed()
    while sealed := sequencer.run_once():
        total = Sealed(total.audit + sealed.audit, total.others + sealed.others)
    return total


def test_positions_are_dense_in_both_logs(db: Database) -> None:
    for n in range(5):
        record(db, f"node_{n}")
        publish(db, f"node_{n}")
    assert drain(db) == Sealed(5, 5)
    assert positions(db) == positions(db, event) == [1, 2, 3, 4, 5]
    record(db, "node_9")
    assert drain(db) == Sealed(1, 0)
    assert positions(db) == [1, 2, 3, 4, 5, 6]
    assert drain(db) == Sealed()
    assert db.read(service.head).size == 6


def test_nothing_to_do_writes_nothing(sqlite_db: Database) -> None:
    before = sqlite_db.read(lambda tx: tx.scalar(sa.text("pragma data_version")))
    drain(sqlite_db)
    assert sqlite_db.read(lambda tx: tx.scalar(sa.text("select count(*) from lease"))) == 0
    assert before == sqlite_db.read(lambda tx: tx.scalar(sa.text("pragma data_version")))


@pytest.mark.postgres
def test_a_late_commit_is_not_skipped(new_postgres: Callable[[], str], clock: ManualClock) -> None:
    """Two transactions commit in the reverse order of their inserts, with a sealing and a reader in between."""
    db = Database(new_postgres(), clock)
    inserted, go = threading.Event(), threading.Event()

    def slow(tx: Tx) -> None:
        service.record(tx, MARA, "node.cordon", "node_slow")
        events.publish(tx, "node.healthy", "node_slow", {"node_id": "node_slow"})
        inserted.set()
        assert go.wait(30)

    thread = threading.Thread(target=lambda: db.write(slow))
    thread.start()
    assert inserted.wait(30)
    record(db, "node_fast")
    publish(db, "node_fast")
    drain(db)
    first = db.read(service.entries)
    page = db.read(events.events)
    assert [entry.subject for entry in first] == ["node_fast"]
    assert [e.subject for e in page.events] == ["node_fast"]
    go.set()
    thread.join()
    drain(db)
    rest = db.read(lambda tx: service.entries(tx, after=str(first[-1].position)))
    more = db.read(lambda tx: events.events(tx, after=page.cursor))
    assert [entry.subject for entry in rest] == ["node_slow"]
    assert [e.subject for e in more.events] == ["node_slow"]
    db.close()


def test_a_reader_beside_many_writers_misses_nothing_and_sees_each_subject_in_order(db: Database) -> None:
    """Writers, two sequencers that take over from each other, and a reader that follows its cursor, all at once."""
    writers, each, subjects = 4, 25, 3
    stop = threading.Event()
    errors: list[BaseException] = []

    def write(number: int) -> None:
        rng = random.Random(number)
        for _ in range(each):
            subject = f"node_{rng.randrange(subjects)}"

            def use_case(tx: Tx, subject: str = subject) -> None:
                service.record(tx, ostler("test"), "node.test", subject)
                events.publish(tx, "node.healthy", subject, {"node_id": subject})

            db.write(use_case)

    def seal(owner: str) -> None:
        sequencer = Sequencer(db, owner)
        while not stop.is_set():
            sequencer.run_once()
            db.write(lambda tx: tx.execute(sa.text("update lease set lease_until = 0")))  # every lease runs out at once

    def guarded(call: Callable[[Any], None], argument: Any) -> threading.Thread:
        def run() -> None:
            try:
                call(argument)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    sealing = [guarded(seal, name) for name in ("a", "b")]
    writing = [guarded(write, number) for number in range(writers)]
    seen: list[tuple[str, int]] = []
    cursor: str | None = None
    while len(seen) < writers * each and not errors:
        page = page_after(db, cursor)
        seen += [(e.subject, e.seq) for e in page.events]
        cursor = page.cursor
    for thread in writing:
        thread.join()
    stop.set()
    for thread in sealing:
        thread.join()
    assert errors == []
    for subject in {pair[0] for pair in seen}:
        assert [seq for s, seq in seen if s == subject] == list(range(1, sum(s == subject for s, _ in seen) + 1))
    assert len(seen) == writers * each
    drain(db, "a")
    assert positions(db) == list(range(1, writers * each + 1))


def test_a_subjects_order_survives_a_clock_that_goes_back_and_a_small_batch(
    db: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    for step in (0, -50, 30, -80, 200):
        clock.advance(step)
        for subject in ("node_a", "node_b"):
            publish(db, subject)
    drain(db)
    page = db.read(lambda tx: events.events(tx, limit=100))
    for subject in ("node_a", "node_b"):
        assert [e.seq for e in page.events if e.subject == subject] == [1, 2, 3, 4, 5]


def test_only_the_holder_of_the_lease_seals_until_it_runs_out(db: Database, clock: ManualClock) -> None:
    record(db, "node_1")
    assert Sequencer(db, "a").run_once() == Sealed(1, 0)
    record(db, "node_2")
    assert Sequencer(db, "b").run_once() == Sealed()
    clock.advance(LEASE_SECONDS + 1)
    assert Sequencer(db, "b").run_once() == Sealed(1, 0)
    record(db, "node_3")
    assert Sequencer(db, "a").run_once() == Sealed()
    assert positions(db) == [1, 2, None] or positions(db) == [None, 1, 2]


def test_a_crash_in_the_middle_leaves_nothing_half_done(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    record(db, "node_1")
    with monkeypatch.context() as patch:
        patch.setattr(store, "insert_head", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Sequencer(db, "a").run_once()
    assert positions(db) == [None]
    drain(db)
    assert positions(db) == [1]


def test_the_loop_seals_and_stops(db: Database) -> None:
    sequencer = Sequencer(db, "a")
    sequencer.start()
    record(db, "node_1")
    sequencer.nudge()
    while not db.read(service.entries):
        pass
    sequencer.stop()
    assert sequencer.last_success is not None
