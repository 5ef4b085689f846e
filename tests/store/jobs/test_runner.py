"""What the runner promises to those who write steps, on both databases and a clock that stands still."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pytest

from ostler.core.clock import ManualClock
from ostler.core.errors import NotFound, Permanent, Refused, Temporary, Unreachable
from ostler.core.steps import Done, Failed, Go, StepResult, Wait
from ostler.db.engine import Database
from ostler.db.schema import schedule
from ostler.db.tx import Tx
from ostler.jobs import store
from ostler.jobs.journal import CRASHES
from ostler.jobs.procedure import JobView, Procedure, Step
from ostler.jobs.runner import Runner
from ostler.jobs.schedule import Schedule
from tests.store.jobs.queueing import job, one_step, start


def test_steps_follow_each_other_and_are_journaled(db: Database, clock: ManualClock) -> None:
    def second(view: JobView) -> StepResult:
        return Wait(10, "because", {"seen": view.data["a"]}) if "seen" not in view.data else Done({"b": 2})

    steps: Mapping[str, Step] = {"first": lambda view: Go("second", {"a": 1}), "second": second}
    runner = Runner(db, [Procedure("p", 1, "first", steps)], owner="me")
    job_id = start(db, step="first")
    assert runner.run_due() == 2
    assert job(db, job_id)["why"] == "because"
    assert runner.run_due() == 0
    clock.advance(10)
    assert runner.run_due() == 1
    assert job(db, job_id)["data"] == {"a": 1, "seen": 1, "b": 2}
    assert [(row["step"], row["answer"]) for row in db.read(lambda tx: store.journal(tx, job_id))] == [
        ("first", "go"),
        ("second", "done"),
    ]
    assert db.read(lambda tx: store.live(tx, "node_1")) == []


def test_a_temporary_failure_is_tried_again_ever_more_slowly(db: Database, clock: ManualClock) -> None:
    def answer(view: JobView) -> StepResult:
        raise Unreachable("no answer", where="bmc-7", delay=10.0)

    runner = Runner(db, [one_step(answer)], owner="me")
    job_id = start(db)
    waits = []
    for tries in range(1, 9):
        assert runner.run_due() == 1
        row = job(db, job_id)
        assert (row["tries"], row["why"], row["state"]) == (tries, "bmc-7: no answer", "ready")
        waits.append(row["due_at"] - clock.now())
        clock.advance(waits[-1])
    for wait, nominal in zip(waits, [10, 20, 40, 80, 160, 320, 600, 600], strict=True):
        assert nominal * 0.75 <= wait <= nominal * 1.25


def test_a_permanent_failure_ends_the_job(db: Database) -> None:
    def answer(view: JobView) -> StepResult:
        raise Permanent("no such firmware")

    job_id = start(db)
    assert Runner(db, [one_step(answer)], owner="me").run_due() == 1
    assert (job(db, job_id)["state"], job(db, job_id)["why"]) == ("failed", "no such firmware")


@pytest.mark.parametrize("answer", [lambda view: 1 / 0, lambda view: None], ids=["raises", "answers nothing"])
def test_a_bug_is_tried_a_few_times_and_then_held_for_a_person(
    db: Database, clock: ManualClock, answer: Step, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    held = []

    def on_held(tx: Tx, view: JobView, why: str) -> None:
        told.append(f"{view.id}: {why}")

    runner = Runner(db, [one_step(answer)], owner="me", on_held=on_held)
    job_id = start(db)
    for _ in range(CRASHES):
        assert runner.run_due() == 1
        held.append(job(db, job_id)["state"] == "held")
        clock.advance(3600)
    assert held == [False] * (CRASHES - 1) + [True]
    assert runner.run_due() == 0
    assert len(told) == 1 and job_id in told[0] and "p.only raised" in told[0]
    db.write(lambda tx: store.resume(tx, job_id))
    assert (job(db, job_id)["state"], job(db, job_id)["why"]) == ("ready", "")
    assert runner.run_due() == 1


def test_what_write_raises_rolls_back_the_answer(db: Database, clock: ManualClock) -> None:
    def answer(view: JobView) -> StepResult:
        def write(tx: Tx) -> None:
            store.enqueue(tx, "other", "node_1", step="x", version=1)
            if view.tries == 0:
                raise Temporary("not now", delay=1.0)

        return Done({"done": True}, write=write)

    runner = Runner(db, [one_step(answer)], owner="me")
    job_id = start(db)
    runner.run_due()
    assert job(db, job_id)["data"] == {}
    assert [row["procedure"] for row in db.read(lambda tx: store.live(tx, "node_1"))] == ["p"]
    clock.advance(2)
    runner.run_due()
    assert job(db, job_id)["state"] == "done"
    assert [row["procedure"] for row in db.read(lambda tx: store.live(tx, "node_1"))] == ["other"]


def test_write_may_put_another_answer_in_place(db: Database) -> None:
    seen: list[str] = []

    def answer(view: JobView) -> StepResult:
        def last(tx: Tx) -> None:
            seen.append("the other's write runs too")

        return Done(write=lambda tx: Failed("no permit", {"held": 1}, write=last))

    job_id = start(db)
    Runner(db, [one_step(answer)], owner="me").run_due()
    row = job(db, job_id)
    assert (row["state"], row["why"], row["data"]) == ("failed", "no permit", {"held": 1})
    assert seen == ["the other's write runs too"]


@pytest.mark.parametrize("late", ["go", "done", "wait", "temporary", "permanent", "crash"])
def test_a_replica_that_slept_through_its_lease_changes_nothing(db: Database, clock: ManualClock, late: str) -> None:
    """Another took over and finished the step while it slept; whatever it answers then is dropped."""
    sleeper = Runner(db, [], owner="sleeper")
    heir = Runner(db, [Procedure("p", 1, "only", {"only": lambda view: Wait(99, "as the heir says")})], owner="heir")

    def sleeps(view: JobView) -> StepResult:
        clock.advance(31)
        assert heir.run_due() == 1
        match late:
            case "temporary":
                raise Temporary("late")
            case "permanent":
                raise Permanent("late")
            case "crash":
                raise ZeroDivisionError("late")
            case "go":
                return Go("other", {"late": 1})
            case "wait":
                return Wait(1, "late", {"late": 1})
            case _:
                return Done({"late": 1})

    sleeper = Runner(db, [one_step(sleeps)], owner="sleeper")
    job_id = start(db)
    assert sleeper.run_due() == 1
    row = job(db, job_id)
    assert (row["why"], row["state"], row["step"], row["data"]) == ("as the heir says", "ready", "only", {})
    assert db.read(lambda tx: store.journal(tx, job_id)) == []


def test_each_step_of_a_chain_has_the_whole_lease(db: Database, clock: ManualClock) -> None:
    def first(view: JobView) -> StepResult:
        clock.advance(20)
        return Go("second")

    def second(view: JobView) -> StepResult:
        clock.advance(20)
        return Done() if runner._claim(1) == [] else Failed("its lease ran out in the middle")

    runner = Runner(db, [Procedure("p", 1, "first", {"first": first, "second": second})], owner="me", lease_seconds=30)
    job_id = start(db, step="first")
    assert runner.run_due() == 2
    assert job(db, job_id)["state"] == "done"


def test_a_wake_up_while_the_step_runs_is_not_lost(db: Database) -> None:
    runs: list[Mapping[str, object]] = []

    def answer(view: JobView) -> StepResult:
        runs.append(dict(view.data))
        if len(runs) == 1:
            assert db.write(lambda tx: store.wake(tx, job_id=view.id, data={"news": 1}))
            return Wait(3600, "for news", {"mine": 1})
        return Done()

    start(db)
    assert Runner(db, [one_step(answer)], owner="me").run_due() == 2
    assert runs == [{}, {"news": 1, "mine": 1}]


def test_wake_finds_the_live_job_by_its_key(db: Database) -> None:
    runner = Runner(db, [one_step(lambda view: Done() if view.data else Wait(3600, "for news"))], owner="me")
    start(db, key="k")
    runner.run_due()
    assert db.write(lambda tx: store.wake(tx, key="k", data={"news": 1}))
    assert runner.run_due() == 1
    assert not db.write(lambda tx: store.wake(tx, key="k")), "it is finished"


def test_one_live_job_per_key(db: Database) -> None:
    first = start(db, key="k")
    assert start(db, key="k") == first
    Runner(db, [one_step(lambda view: Done())], owner="me").run_due()
    assert start(db, key="k") != first


@pytest.mark.parametrize(
    ("procedure", "version", "step", "says"),
    [
        ("gone", 1, "only", "knows no procedure 'gone'"),
        ("p", 9, "only", "version 9"),
        ("p", 1, "gone", "has no step 'gone'"),
    ],
)
def test_what_this_server_does_not_know_is_held(
    db: Database, clock: ManualClock, procedure: str, version: int, step: str, says: str
) -> None:
    told: list[str] = []
    known = Procedure("p", 2, "only", {"only": lambda view: Done()}, resumes=frozenset({1}))
    runner = Runner(db, [known], owner="me", on_held=lambda tx, view, why: told.append(why))
    job_id = start(db, procedure=procedure, version=version, step=step)
    if step == "only":
        assert runner.run_due() == 0, "first it is left to a newer replica that may know it"
        clock.advance(store.UNKNOWN_GRACE)
    assert runner.run_due() == 1
    assert job(db, job_id)["state"] == "held"
    assert says in job(db, job_id)["why"] and says in told[0]


def test_an_earlier_version_is_resumed_if_the_procedure_says_so(db: Database) -> None:
    job_id = start(db, version=1)
    known = Procedure("p", 2, "only", {"only": lambda view: Done()}, resumes=frozenset({1}))
    assert Runner(db, [known], owner="me").run_due() == 1
    assert job(db, job_id)["state"] == "done"


def test_cancel_drops_what_the_running_step_answers(db: Database) -> None:
    def answer(view: JobView) -> StepResult:
        db.write(lambda tx: store.cancel(tx, view.id, "moved by hand"))
        return Done({"late": 1})

    job_id = start(db)
    Runner(db, [one_step(answer)], owner="me").run_due()
    assert (job(db, job_id)["state"], job(db, job_id)["why"]) == ("failed", "moved by hand")
    assert job(db, job_id)["data"] == {}


def test_what_cannot_be_changed_says_why(db: Database) -> None:
    with pytest.raises(NotFound, match="no job job_x"):
        db.write(lambda tx: store.resume(tx, "job_x"))
    job_id = start(db)
    with pytest.raises(Refused, match="is ready, not held"):
        db.write(lambda tx: store.resume(tx, job_id))


def test_a_procedure_must_begin_with_a_step_of_its_own() -> None:
    with pytest.raises(ValueError, match="none of its steps"):
        Procedure("p", 1, "nowhere", {})


def test_run_due_tells_of_a_procedure_that_never_rests(db: Database) -> None:
    start(db)
    with pytest.raises(RuntimeError, match="still one due"):
        Runner(db, [one_step(lambda view: Wait(0, "now"))], owner="me").run_due(limit=20)


def test_a_schedule_runs_every_period_in_one_replica(db: Database, clock: ManualClock) -> None:
    ran: list[str] = []
    replicas = [
        Runner(db, [], owner=name, schedules=[Schedule("sweep", 60, partial(ran.append, name))]) for name in "ab"
    ]
    for _ in range(3):
        assert [replica.run_due() for replica in replicas] == [1, 0]
        clock.advance(60)
    assert ran == ["a", "a", "a"]
    assert (
        db.read(lambda tx: tx.scalar(schedule.select().with_only_columns(schedule.c.last_success))) == clock.now() - 60
    )


def test_a_schedule_that_fails_is_tried_again_soon(db: Database, clock: ManualClock) -> None:
    ran: list[float] = []

    def sweep() -> None:
        ran.append(clock.now())
        raise RuntimeError("no")

    runner = Runner(db, [], owner="a", schedules=[Schedule("sweep", 86400, sweep)])
    for _ in range(10):
        assert runner.run_due() == 1
        clock.advance(60)
    (row,) = db.read(lambda tx: store.live(tx, "fleet"))
    assert (row["state"], row["why"]) == ("ready", "RuntimeError: no")
    assert db.read(lambda tx: tx.scalar(schedule.select().with_only_columns(schedule.c.last_success))) is None


def test_a_schedule_with_a_shorter_period_is_brought_forward(db: Database, clock: ManualClock) -> None:
    ran: list[str] = []
    Runner(db, [], owner="a", schedules=[Schedule("sweep", 86400, lambda: ran.append("slow"))]).run_due()
    hasty = Runner(db, [], owner="b", schedules=[Schedule("sweep", 60, lambda: ran.append("fast"))])
    assert hasty.run_due() == 0
    clock.advance(60)
    assert hasty.run_due() == 1
    assert ran == ["slow", "fast"]
