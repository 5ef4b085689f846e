"""SQLite's one writer: many use cases, one commit. Used by `db/engine.py` only.

A commit with synchronous=FULL costs one fsync (3 ms on a plain disk), whatever is in it. So use cases queue, and the
writer takes all that have gathered while the last commit ran; each runs in a SAVEPOINT of its own, so that one refusal
does not undo its neighbours. Nobody is answered before the commit, not even with a refusal: it may rest on what a
neighbour wrote, and that becomes true with the commit only.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

from ostler.core.errors import Unavailable
from ostler.db.failures import translate
from ostler.db.tx import Tx, run_after_commit

T = TypeVar("T")

GATHER_SECONDS = 0.002
"""How long a group waits to grow as large as the last one; a caller who is alone never waits."""

GROUP_LIMIT = 500
"""At most so many use cases in one commit, which bounds how long one can wait."""

Run = Callable[[sa.Connection, Callable[[Tx], Any]], tuple[Any, list[Callable[[], None]]]]
"""Runs a use case on a connection; returns its value and what to call after the commit."""


@dataclass
class _Pending:
    use_case: Callable[[Tx], Any]
    answer: Future[Any] = field(default_factory=Future)
    value: Any = None
    error: BaseException | None = None
    after: list[Callable[[], None]] = field(default_factory=list)


class GroupingWriter:
    """Runs use cases one after the other on one connection and commits them in groups."""

    def __init__(self, engine: sa.Engine, run: Run, commit: Callable[[sa.Connection], None], where: str) -> None:
        self._engine = engine
        self._run = run
        self._commit = commit
        self._where = where
        self._queue: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def run(self, use_case: Callable[[Tx], T]) -> T:
        """Queue a use case and wait for the commit that holds it. Not to be called from inside a use case."""
        pending = _Pending(use_case)
        with self._lock:  # so that nothing is queued behind the end that `close` queues
            if self._closed:
                raise Unavailable("The database is closed.", where=self._where)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="ostler-writer", daemon=True)
                self._thread.start()
            self._queue.put(pending)
        value: T = pending.answer.result()
        return value

    def close(self) -> None:
        """Commit what is queued, stop, and let go of the connection."""
        with self._lock:
            thread, already, self._closed = self._thread, self._closed, True
            if not already:
                self._queue.put(None)
        if thread is not None:
            thread.join()
        self._engine.dispose()

    def _loop(self) -> None:
        company = 1
        while (first := self._queue.get()) is not None:
            group, more = self._gather(first, company)
            company = len(group)
            self._settle(group)
            if not more:
                return

    def _gather(self, first: _Pending, company: int) -> tuple[list[_Pending], bool]:
        """All that wait now, plus those who come within a short wait if the last group had company."""
        group = [first]
        deadline = time.monotonic() + GATHER_SECONDS
        while len(group) < GROUP_LIMIT:
            try:
                patience = deadline - time.monotonic() if len(group) < company else 0.0
                pending = self._queue.get(timeout=patience) if patience > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if pending is None:
                return group, False
            group.append(pending)
        return group, True

    def _settle(self, group: Sequence[_Pending]) -> None:
        """Run and commit the group, then answer everybody in it."""
        if not self._try(group) and len(group) > 1:
            # One use case took the whole transaction down (it filled the disk, say): each gets a commit of its own.
            for pending in group:
                self._try([pending])
        for pending in group:
            if pending.error is not None:
                pending.answer.set_exception(pending.error)
            else:
                pending.answer.set_result(pending.value)
        for pending in group:
            run_after_commit(pending.after)

    def _try(self, group: Sequence[_Pending]) -> bool:
        """Commit the whole group, or keep nothing and give all the error. False if it is worth trying one by one."""
        begun = False
        try:
            with self._engine.connect() as conn:
                conn.exec_driver_sql("BEGIN IMMEDIATE")
                begun = True
                for pending in group:
                    self._one(conn, pending)
                self._commit(conn)
        except BaseException as error:
            for pending in group:
                pending.after, pending.error = [], translate(error, self._where)
            return not begun  # without even a BEGIN there is nothing to try one by one
        return True

    def _one(self, conn: sa.Connection, pending: _Pending) -> None:
        """Run one use case in its SAVEPOINT. Raises only if the whole transaction is gone with it."""
        pending.error = None
        conn.exec_driver_sql("SAVEPOINT use_case")
        try:
            pending.value, pending.after = self._run(conn, pending.use_case)
            conn.exec_driver_sql("RELEASE use_case")
        except BaseException as error:
            if not getattr(conn.connection.driver_connection, "in_transaction", False):
                raise  # SQLite has rolled everything back by itself, as it may when the disk is full
            conn.exec_driver_sql("ROLLBACK TO use_case")
            conn.exec_driver_sql("RELEASE use_case")
            pending.error = translate(error, self._where)
