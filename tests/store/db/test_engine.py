"""What a transaction promises, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput, Conflict, NotFound, Refused, Unavailable, Unreachable, WrongVersion
from ostler.db.engine import Database
from ostler.db.schema import lease
from ostler.db.tx import Tx
from tests.store.db.rows import add, names


def test_a_failing_use_case_leaves_nothing(db: Database) -> None:
    def fails(tx: Tx) -> None:
        add("a")(tx)
        raise Refused("no")

    with pytest.raises(Refused, match="no"):
        db.write(fails)
    assert db.read(names) == set()


def test_what_write_returned_is_there_for_every_reader(db: Database) -> None:
    assert db.write(add("a")) == "a"
    assert db.read(names) == {"a"}


def test_a_reader_sees_one_snapshot(db: Database) -> None:
    def read(tx: Tx) -> tuple[set[str], set[str]]:
        before = names(tx)
        with ThreadPoolExecutor(1) as other:
            other.submit(db.write, add("meanwhile")).result()
        return before, names(tx)

    before, after = db.read(read)
    assert before == after == set()
    assert db.read(names) == {"meanwhile"}


def test_a_reader_cannot_write(db: Database) -> None:
    with pytest.raises((BadInput, Unavailable), match=r"written|read-only"):
        db.read(add("a"))
    assert db.read(names) == set()


def test_a_transaction_inside_a_transaction_is_refused(db: Database) -> None:
    with pytest.raises(RuntimeError, match="pass the Tx on"):
        db.write(lambda tx: db.write(add("a")))
    with pytest.raises(RuntimeError, match="pass the Tx on"):
        db.write(lambda tx: db.read(names))
    assert db.write(add("b")) == "b"


def test_after_commit_runs_after_the_commit_and_only_then(db: Database) -> None:
    seen: list[set[str]] = []

    def look() -> None:
        seen.append(db.read(names))

    def good(tx: Tx) -> None:
        add("a")(tx)
        tx.after_commit(look)

    def bad(tx: Tx) -> None:
        tx.after_commit(look)
        raise Refused("no")

    with pytest.raises(Refused):
        db.write(bad)
    db.write(good)
    db.write(add("b"))  # on SQLite the calls run in the writer's thread: this waits for them
    assert seen == [{"a"}]


def test_a_call_after_commit_that_raises_changes_nothing(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    def breaks() -> None:
        raise RuntimeError("this nudge is broken")

    def use_case(tx: Tx) -> str:
        tx.after_commit(breaks)
        return add("a")(tx)

    assert db.write(use_case) == "a"
    assert db.write(add("b")) == "b"
    assert "after commit failed" in caplog.text


def test_an_empty_list_of_rows_inserts_nothing(db: Database) -> None:
    db.write(lambda tx: tx.execute(lease.insert(), []))
    assert db.read(names) == set()
    db.write(lambda tx: tx.execute(lease.insert(), [{"name": "a"}, {"name": "b"}]))
    assert db.read(names) == {"a", "b"}


def test_a_second_row_of_one_name_is_a_conflict(db: Database) -> None:
    db.write(add("a"))
    with pytest.raises(Conflict, match="Another record"):
        db.write(add("a"))


def test_two_that_check_and_then_insert_at_once(db: Database) -> None:
    """Both see that the row is missing; the second runs again and finds it."""
    together = threading.Barrier(2, timeout=5)
    waited = threading.local()

    def ensure(tx: Tx) -> str:
        missing = "a" not in names(tx)
        if db.dialect == "postgresql" and not getattr(waited, "once", False):
            waited.once = True
            together.wait()
        return add("a")(tx) if missing else "was there"

    with ThreadPoolExecutor(2) as pool:
        answers = [future.result() for future in [pool.submit(db.write, ensure) for _ in range(2)]]
    assert sorted(answers) == ["a", "was there"]


@pytest.mark.postgres
def test_a_deadlock_is_run_again(new_postgres: Callable[[], str], clock: ManualClock) -> None:
    db = Database(new_postgres(), clock)
    db.write(lambda tx: tx.execute(lease.insert(), [{"name": "a"}, {"name": "b"}]))
    together = threading.Barrier(2, timeout=10)
    waited = threading.local()

    def both(first: str, second: str) -> None:
        def use_case(tx: Tx) -> None:
            raise_fence = lease.update().values(fence=lease.c.fence + 1)
            tx.execute(raise_fence.where(lease.c.name == first))
            if not getattr(waited, "once", False):
                waited.once = True
                together.wait()
            tx.execute(raise_fence.where(lease.c.name == second))

        db.write(use_case)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(both, "a", "b"), pool.submit(both, "b", "a")]:
            future.result()
    assert db.read(lambda tx: list(tx.execute(sa.select(lease.c.fence)).scalars())) == [2, 2]
    db.close()


def test_a_lock_lets_one_in_at_a_time(db: Database) -> None:
    first_is_in, second_is_in = threading.Event(), threading.Event()
    together: list[bool] = []

    def first(tx: Tx) -> None:
        tx.lock("door")
        first_is_in.set()
        together.append(second_is_in.wait(0.3))  # long enough for a missing lock to show; a right one never opens here

    def second(tx: Tx) -> None:
        tx.lock("door")
        second_is_in.set()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(db.write, first)
        first_is_in.wait()
        pool.submit(db.write, second).result()
        one.result()
    assert together == [False]


@pytest.mark.parametrize(
    ("url", "error", "says"),
    [
        ("mysql://x/y", BadInput, "no database that Ostler knows"),
        ("nonsense", BadInput, "no database URL"),
        ("sqlite://", BadInput, "in-memory"),
        ("sqlite:///:memory:", BadInput, "in-memory"),
        ("sqlite:////nowhere/at/all/x.db", BadInput, "does not exist"),
    ],
)
def test_a_bad_url_is_told_at_once(url: str, error: type[Exception], says: str, clock: ManualClock) -> None:
    with pytest.raises(error, match=says):
        Database(url, clock)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path, clock: ManualClock) -> None:
    db = Database(f"sqlite:///{tmp_path}/typo.db", clock)
    with pytest.raises(NotFound, match="ostler db migrate"):
        db.read(names)
    with pytest.raises(NotFound, match="ostler db migrate"):
        db.write(names)
    db.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "x.db").write_bytes(b"This is a text.\n" * 100)
    db = Database(f"sqlite:///{tmp_path}/x.db", clock)
    with pytest.raises(BadInput, match="no SQLite database"):
        db.read(names)
    db.close()


def test_no_schema_yet(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "x.db").touch()
    db = Database(f"sqlite:///{tmp_path}/x.db", clock)
    with pytest.raises(WrongVersion, match="ostler db migrate"):
        db.write(add("a"))
    db.close()


def test_no_server_there_and_the_password_is_not_told(clock: ManualClock) -> None:
    db = Database("postgresql://mara:geheim@127.0.0.1:1/ostler", clock)
    with pytest.raises(Unreachable, match="does not answer") as caught:
        db.write(add("a"))
    assert "geheim" not in str(caught.value)
    db.close()


def test_a_closed_database_says_so(sqlite_db: Database) -> None:
    sqlite_db.write(add("a"))
    sqlite_db.close()
    with pytest.raises(Unavailable, match="closed"):
        sqlite_db.write(add("b"))
    sqlite_db.close()
