"""The runner as the server starts it: in threads, on the real clock, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from ostler.core.clock import SystemClock
from ostler.core.steps import Done, StepResult, Wait
from ostler.db.engine import Database
from ostler.db.lease import LostLease
from ostler.jobs import store
from ostler.jobs.procedure import JobView, Procedure
from ostler.jobs.runner import Runner
from ostler.jobs.schedule import Schedule
from tests.store.jobs.queueing import job, one_step, start


@pytest.fixture
def started(db_url: str) -> Callable[..., tuple[Database, Runner]]:
    """A runner in its threads on the real clock, with a short lease."""

    def make(
        *procedures: Procedure, schedules: tuple[Schedule, ...] = (), lease_seconds: float = 0.6
    ) -> tuple[Database, Runner]:
        database = Database(db_url, SystemClock())
        runner = Runner(
            database,
            procedures,
            owner="me",
            schedules=schedules,
            threads=2,
            lease_seconds=lease_seconds,
            poll_seconds=30.0,
        )
        runner.start()
        return database, runner

    return make


def test_started_it_runs_what_is_queued_without_waiting_for_its_poll(
    started: Callable[..., tuple[Database, Runner]],
) -> None:
    """The poll is at 30 s: only the nudge and the due time can have woken it."""
    finished = threading.Event()

    def answer(view: JobView) -> StepResult:
        if not view.data:
            return Wait(0.05, "a moment", {"again": 1})
        finished.set()
        return Done()

    db, runner = started(one_step(answer), lease_seconds=90.0)
    while runner.last_success is None:
        threading.Event().wait(0.01)  # until its first round is over and it sleeps
    job_id = start(db)
    assert finished.wait(20)
    runner.stop()
    assert job(db, job_id)["state"] == "done"
    assert runner.last_success is not None
    db.close()


def test_a_step_longer_than_its_lease_keeps_it(started: Callable[..., tuple[Database, Runner]]) -> None:
    """Renewed by the dispatcher: a second replica finds nothing to take until long after the lease's first end."""
    running, release = threading.Event(), threading.Event()
    runs: list[bool] = []

    def answer(view: JobView) -> StepResult:
        running.set()
        release.wait()
        runs.append(view.lost())
        return Done()

    db, runner = started(one_step(answer))
    job_id = start(db)
    assert running.wait(20)
    first_end = job(db, job_id)["lease_until"]
    other = Runner(db, [one_step(answer)], owner="other")
    while db.clock.real() < first_end + 0.3:
        assert other._claim(1) == []
    release.set()
    runner.stop()
    assert runs == [False]
    assert job(db, job_id)["state"] == "done"
    db.close()


def test_a_step_that_lost_its_lease_is_told(started: Callable[..., tuple[Database, Runner]]) -> None:
    told = threading.Event()

    def answer(view: JobView) -> StepResult:
        db.write(lambda tx: store.cancel(tx, view.id, "by hand"))
        while not view.lost():
            threading.Event().wait(0.01)
        told.set()
        raise LostLease

    db, runner = started(one_step(answer))
    start(db)
    assert told.wait(20)
    runner.stop()
    db.close()


def test_a_started_schedule_runs(started: Callable[..., tuple[Database, Runner]]) -> None:
    ran = threading.Semaphore(0)
    db, runner = started(schedules=(Schedule("often", 0.02, ran.release),))
    for _ in range(3):
        assert ran.acquire(timeout=20)
    runner.stop()
    db.close()
