"""SQLite's grouping writer: one commit for many, nobody answered before it, and what happens when the disk is full."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from ostler.core.clock import ManualClock
from ostler.core.errors import Refused, Unavailable
from ostler.db.engine import Database
from ostler.db.schema import lease
from ostler.db.tx import Tx
from tests.store.db.rows import add, names

REPOSITORY = Path(__file__).parents[3]


class CountedCommits(Database):
    """Counts commits, and does something before the next one."""

    commits = 0
    before_next: Callable[[], None] | None = None

    def _commit(self, conn: sa.Connection) -> None:
        if self.before_next is not None:
            call, self.before_next = self.before_next, None
            call()
        super()._commit(conn)
        self.commits += 1


@pytest.fixture
def counted(sqlite_url: str, clock: ManualClock) -> Iterator[CountedCommits]:
    database = CountedCommits(sqlite_url, clock, busy_seconds=0.2)
    yield database
    database.close()


def grouped(db: Database, use_cases: list[Callable[[Tx], str]]) -> list[Future[str]]:
    """Hand them over while the writer is busy, so that they end up in one group."""
    busy, release = threading.Event(), threading.Event()

    def block(_tx: Tx) -> None:
        busy.set()
        release.wait()

    with ThreadPoolExecutor(len(use_cases) + 1) as pool:
        blocker = pool.submit(db.write, block)
        busy.wait()
        futures = [pool.submit(db.write, use_case) for use_case in use_cases]
        assert db._writer is not None
        while db._writer._queue.qsize() < len(use_cases):
            pass  # until all have queued
        release.set()
        blocker.result()
    return futures


def test_those_who_wait_share_a_commit(counted: CountedCommits) -> None:
    futures = grouped(counted, [add(f"n{number}") for number in range(50)])
    assert {future.result() for future in futures} == counted.read(names)
    assert counted.commits == 2, "one for the blocker, one for the fifty"


def test_a_failing_one_rolls_back_alone(counted: CountedCommits) -> None:
    def fails(tx: Tx) -> str:
        add("gone")(tx)
        raise Refused("no")

    def breaks(tx: Tx) -> str:
        add("gone too")(tx)
        tx.conn.exec_driver_sql("insert into nowhere values (1)")
        return "never"

    first, second, third, last = grouped(counted, [add("a"), fails, breaks, add("b")])
    assert (first.result(), last.result()) == ("a", "b")
    assert isinstance(second.exception(), Refused)
    assert "no such table: nowhere" in str(third.exception())
    assert counted.read(names) == {"a", "b"}
    assert counted.commits == 2


def test_nobody_is_answered_before_the_commit(counted: CountedCommits) -> None:
    """Not even with a refusal: it may rest on what a neighbour wrote, and that is not yet true."""
    answered = threading.Event()
    early: list[bool] = []

    def before_the_commit() -> None:
        early.append(answered.wait(0.1))  # long enough for a wrong answer to show; a right one never comes here

    def arm(_tx: Tx) -> str:
        counted.before_next = before_the_commit
        return "armed"

    def fails(_tx: Tx) -> str:
        raise Refused("no")

    def note(use_case: Callable[[Tx], str]) -> None:
        try:
            counted.write(use_case)
        except Refused:
            pass
        finally:
            answered.set()

    blocked, release = threading.Event(), threading.Event()

    def block(_tx: Tx) -> str:
        blocked.set()
        release.wait()
        return "blocker"

    with ThreadPoolExecutor(4) as pool:
        pool.submit(counted.write, block)
        blocked.wait()
        for use_case in (arm, fails, add("a")):
            pool.submit(note, use_case)
        assert counted._writer is not None
        while counted._writer._queue.qsize() < 3:
            pass  # until all have queued
        release.set()
    assert early == [False]
    assert counted.read(names) == {"a"}


def test_a_commit_that_fails_is_told_to_everybody_and_nothing_is_kept(counted: CountedCommits) -> None:
    def no() -> None:
        raise OSError("no commit today")

    counted.before_next = no
    with pytest.raises(OSError, match="no commit today"):
        counted.write(add("a"))
    assert counted.read(names) == set()
    assert counted.write(add("b")) == "b"


def test_a_group_whose_commit_fails_is_tried_one_by_one(counted: CountedCommits) -> None:
    def no() -> None:
        raise OSError("not all at once")

    def arm(_tx: Tx) -> str:
        counted.before_next = no
        return "armed"

    futures = grouped(counted, [add("a"), arm, add("b")])
    answers = [future.exception() or future.result() for future in futures]
    assert answers[0] == "a"
    assert counted.read(names) == {answer for answer in answers if answer in {"a", "b"}}
    assert str(answers[1]) == "not all at once", "the one whose own commit failed"
    assert answers[2] == "b"


def test_a_use_case_that_ends_the_thread_does_not(counted: CountedCommits) -> None:
    def exits(_tx: Tx) -> None:
        sys.exit(3)

    with pytest.raises(SystemExit):
        counted.write(exits)
    assert counted.write(add("a")) == "a"


def test_another_process_holds_the_lock(counted: CountedCommits, sqlite_url: str) -> None:
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="held by another process"):
        counted.write(add("a"))
    other.execute("ROLLBACK")
    other.close()
    assert counted.write(add("b")) == "b"
    assert counted.read(names) == {"b"}


def big(name: str) -> Callable[[Tx], str]:
    def use_case(tx: Tx) -> str:
        tx.execute(lease.insert().values(name=name, lease_owner="x" * 3_000_000))
        return name

    return use_case


def test_a_full_database_loses_nothing_and_works_again(counted: CountedCommits) -> None:
    """PRAGMA max_page_count makes SQLite answer as it does when the disk is full."""
    writer = counted._writer
    assert writer is not None

    def limit(extra_pages: int) -> None:
        with writer._engine.connect() as conn:
            pages = conn.exec_driver_sql("PRAGMA page_count").scalar()
            assert isinstance(pages, int)
            conn.exec_driver_sql(f"PRAGMA max_page_count={pages + extra_pages}")

    counted.write(add("before"))
    limit(20)
    with pytest.raises(Unavailable, match="disk is full"):
        counted.write(big("too much"))
    first, second, third = grouped(counted, [add("a"), big("too much"), add("b")])
    assert (first.result(), third.result()) == ("a", "b")
    assert isinstance(second.exception(), Unavailable)
    limit(100_000)
    assert counted.write(big("fits now")) == "fits now"
    assert counted.read(names) == {"before", "a", "b", "fits now"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], check=False, capture_output=True
    )
    if made.returncode != 0:
        pytest.skip("only root may mount a small file system; the test above covers SQLite's own answer")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_loses_nothing_and_works_again(small_disk: Path, sqlite_url: str, clock: ManualClock) -> None:
    path = small_disk / "ostler.db"
    path.write_bytes(Path(sqlite_url.removeprefix("sqlite:///")).read_bytes())
    db = Database(f"sqlite:///{path}", clock)
    db.write(add("before"))
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space left"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(Unavailable, match="disk"):
        db.write(big("too much"))
    assert db.read(names) == {"before"}
    ballast.unlink()
    assert db.write(add("after")) == "after"
    assert db.read(names) == {"before", "after"}
    db.close()


ACKNOWLEDGING = """
import sys, threading
from ostler.core.clock import SystemClock
from ostler.db.engine import Database
from tests.store.db.rows import add

db = Database(sys.argv[1], SystemClock())
def work(worker):
    for number in range(1_000_000):
        name = db.write(add(f"{worker}-{number}"))
        sys.stdout.write(name + "\\n")
        sys.stdout.flush()
for worker in range(6):
    threading.Thread(target=work, args=(worker,)).start()
"""


def test_everything_acknowledged_survives_kill_9(db: Database, db_url: str) -> None:
    """The process dies in the middle of its work; whatever it had said was written, is there."""
    process = subprocess.Popen(
        [sys.executable, "-c", ACKNOWLEDGING, db_url],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
    )
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(60)]
    process.kill()
    acknowledged += [line.strip() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    process.stdout.close()
    process.wait()
    assert len(acknowledged) >= 60
    assert set(acknowledged) <= db.read(names)
