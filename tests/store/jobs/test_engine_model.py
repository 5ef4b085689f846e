"""The engine against a model of it: Hypothesis interleaves two replicas, deaths, wake-ups, time and people's hands.

A job's script says what each step answers, try by try. The model knows what must then be true: the state, the journal,
the effects of each answer exactly once, and that a replica whose lease was taken over changes nothing.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ostler.core.clock import ManualClock
from ostler.core.errors import Permanent, Temporary
from ostler.core.steps import Done, Failed, Go, StepResult, Wait
from ostler.db.engine import Database
from ostler.db.schema import incident
from ostler.db.tx import Tx
from ostler.jobs import store
from ostler.jobs.journal import CRASHES, LONGEST_DELAY
from ostler.jobs.procedure import JobView, Procedure
from ostler.jobs.runner import Runner, _Work

LEASE = 30.0
SCRIPT = st.lists(
    st.lists(
        st.sampled_from(["go", "wait", "temporary", "crash", "permanent", "fail", "override"]), min_size=1, max_size=3
    ),
    min_size=1,
    max_size=3,
)


@dataclass
class Model:
    """What must be true of one job."""

    script: list[list[str]]
    key: str | None
    due_at: float
    state: str = "ready"
    step: int = 0
    journal: list[tuple[str, str]] = field(default_factory=list)
    fence: int = 0
    lease_until: float | None = None
    woken: int = 0
    crashes: int = 0
    data: dict[str, int] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        return self.state in {"ready", "held"}


@dataclass
class Flight:
    """A claim in a replica's hands."""

    job_id: str
    runner: Runner
    work: _Work
    fence: int
    woken: int


class EngineMachine(RuleBasedStateMachine):
    new_url: Callable[[], str]

    jobs = Bundle("jobs")
    flights = Bundle("flights")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.db = Database(self.new_url(), self.clock)
        self.models: dict[str, Model] = {}
        self.runs: dict[tuple[str, int], int] = {}
        """The world: how often each step has run, journaled or not."""
        self.during: Callable[[str], None] | None = None
        steps = {f"s{number}": self.step for number in range(4)}
        self.replicas = [
            Runner(self.db, [Procedure("p", 1, "s0", steps)], owner=name, lease_seconds=LEASE) for name in "ab"
        ]

    def teardown(self) -> None:
        self.db.close()

    def planned(self, job_id: str, number: int) -> str:
        """What the step will answer next; past its script, a job is done."""
        script = self.models[job_id].script
        if number >= len(script):
            return "done"
        return script[number][min(self.runs.get((job_id, number), 0), len(script[number]) - 1)]

    def step(self, view: JobView) -> StepResult:
        number = int(view.step[1:])
        plan = self.planned(view.id, number)
        run = self.runs[view.id, number] = self.runs.get((view.id, number), 0) + 1
        if self.during is not None:
            call, self.during = self.during, None
            call(view.id)

        def write(tx: Tx) -> StepResult | None:
            row = {"id": f"{view.id}/{number}/{run}", "cause": plan, "scope": "node", "subject": view.id, "summary": ""}
            tx.execute(incident.insert().values(**row, evidence={}, opened_at=tx.now))
            return Failed("the last word") if plan == "override" else None

        data = {f"ran-{number}": run}
        match plan:
            case "temporary":
                raise Temporary("not yet", delay=5.0)
            case "crash":
                raise ZeroDivisionError("a bug")
            case "permanent":
                raise Permanent("never")
            case "wait":
                return Wait(10.0, "waiting", data, write)
            case "fail":
                return Failed("no", data, write)
            case "done":
                return Done(data, write)
            case _:
                return Go(f"s{number + 1}", data, write)

    @rule(target=jobs, script=SCRIPT, key=st.sampled_from([None, "k1", "k2"]), later=st.sampled_from([0.0, 15.0]))
    def enqueue(self, script: list[list[str]], key: str | None, later: float) -> str:
        due_at = self.clock.now() + later
        job_id = self.db.write(
            lambda tx: store.enqueue(tx, "p", "node_1", step="s0", version=1, key=key, due_at=due_at)
        )
        twin = [known for known, model in self.models.items() if key is not None and model.key == key and model.live]
        if twin:
            assert [job_id] == twin, "at most one live job per key"
        else:
            assert job_id not in self.models
            self.models[job_id] = Model(script, key, due_at)
        return job_id

    @rule(target=flights, replica=st.sampled_from([0, 1]))
    def claim(self, replica: int) -> Flight | None:
        return self.claim_now(replica)

    def claim_now(self, replica: int) -> Flight | None:
        now = self.clock.now()
        taken = self.replicas[replica]._claim(1)
        free = {
            job_id: model.due_at
            for job_id, model in self.models.items()
            if model.state == "ready" and model.due_at <= now and (model.lease_until is None or model.lease_until < now)
        }
        if not taken:
            assert not free, "what is due and free is found"
            return None
        job_id = taken[0].held.key
        model = self.models[job_id]
        assert job_id in free, "nobody works on it, and it is due"
        assert model.due_at == min(free.values()), "the longest due comes first"
        model.fence += 1
        model.lease_until = now + LEASE
        return Flight(job_id, self.replicas[replica], taken[0], model.fence, model.woken)

    @rule(flight=consumes(flights), wakes=st.booleans())
    def run(self, flight: Flight | None, wakes: bool) -> None:
        """The replica comes to the end of its step, perhaps long after its lease; perhaps woken meanwhile."""
        if flight is None:
            return
        self.during = self.wake if wakes else None
        before = dict(self.runs)
        flight.runner._run(flight.work)
        self.during = None
        model = self.models[flight.job_id]
        baseline = flight.woken
        while flight.fence == model.fence and model.lease_until is not None:
            number = model.step
            # The plan as it was when this step ran, which may be earlier in this same chain.
            tries = before.get((flight.job_id, number), 0)
            before[flight.job_id, number] = tries + 1
            script = model.script
            plan = script[number][min(tries, len(script[number]) - 1)] if number < len(script) else "done"
            if not self.answered(flight.job_id, model, plan, tries + 1, woken=model.woken != baseline):
                break
            baseline = model.woken

    def answered(self, job_id: str, model: Model, plan: str, run: int, *, woken: bool) -> bool:
        """Bring the model to where an answer leads; True if the next step follows at once."""
        now, number = self.clock.now(), model.step
        data = {f"ran-{number}": run}
        if plan == "go":
            model.journal.append((f"s{number}", "go"))
            model.step, model.crashes, model.due_at = number + 1, 0, now
            model.data |= data
            model.lease_until = now + LEASE
            return True
        model.lease_until = None
        if plan in {"wait", "temporary"}:
            model.crashes = 0
            model.data |= data if plan == "wait" else {}
            model.due_at = now if woken else now + 10.0
            if plan == "temporary" and not woken:  # jitter: take it from the row, within its bounds
                model.due_at = self.row(job_id)["due_at"]
                assert 5.0 * 0.75 <= model.due_at - now <= LONGEST_DELAY * 1.25
        elif plan == "crash":
            model.crashes += 1
            model.due_at = self.row(job_id)["due_at"]
            if model.crashes >= CRASHES:
                model.state = "held"
            else:
                assert model.due_at > now
        else:
            answer = "done" if plan == "done" else "failed"
            model.journal.append((f"s{number}", answer))
            model.state = answer
            model.data |= data if plan in {"fail", "done"} else {}
        return False

    @rule(target=flights, flight=flights, replica=st.sampled_from([0, 1]))
    def take_over(self, flight: Flight | None, replica: int) -> Flight | None:
        """A flight outlives its lease, and the work is claimed again while it is still in the air."""
        if flight is not None:
            self.clock.advance(LEASE + 1)
        return self.claim_now(replica)

    @rule(flight=consumes(flights))
    def die(self, flight: Flight | None) -> None:
        """The replica is gone; only its lease tells."""

    @rule(job_id=jobs)
    def wake(self, job_id: str) -> None:
        model = self.models[job_id]
        found = self.db.write(lambda tx: store.wake(tx, job_id=job_id, data={"woken": model.woken + 1}))
        assert found == model.live
        if found:
            model.woken += 1
            model.due_at = min(model.due_at, self.clock.now())
            model.data["woken"] = model.woken

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        model = self.models[job_id]
        if model.live:
            self.db.write(lambda tx: store.cancel(tx, job_id, "by hand"))
            model.state, model.fence, model.lease_until = "failed", model.fence + 1, None

    @precondition(lambda self: any(model.state == "held" for model in self.models.values()))
    @rule()
    def resume(self) -> None:
        job_id = next(known for known, model in self.models.items() if model.state == "held")
        self.db.write(lambda tx: store.resume(tx, job_id))
        self.models[job_id].state, self.models[job_id].crashes = "ready", 0
        self.models[job_id].due_at = self.clock.now()

    @rule(seconds=st.sampled_from([1.0, 10.0, 31.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def row(self, job_id: str) -> sa.RowMapping:
        return self.db.read(lambda tx: store.get(tx, job_id))

    @invariant()
    def the_database_agrees(self) -> None:
        for job_id, model in self.models.items():
            row = self.row(job_id)
            steps = self.db.read(partial(store.journal, job_id=job_id))
            assert [(step["step"], step["answer"]) for step in steps] == model.journal
            assert [step["position"] for step in steps] == list(range(1, len(steps) + 1))
            assert (row["state"], row["step"], row["fence"]) == (model.state, f"s{model.step}", model.fence)
            assert (row["data"], row["lease_until"]) == (model.data, model.lease_until)
            assert (row["finished_at"] is None) == model.live
            if model.state == "ready":
                assert row["due_at"] == model.due_at

    @invariant()
    def effects_are_those_of_the_journal(self) -> None:
        """Each journaled answer with a `write` left its effect once; a dropped answer left none."""
        for job_id, model in self.models.items():
            mine = sa.select(incident.c.id, incident.c.cause).where(incident.c.subject == job_id)
            rows = self.db.read(partial(Tx.all, statement=mine))
            expected = [step for step, answer in model.journal if answer in {"go", "done"}]
            found = [f"s{row['id'].split('/')[1]}" for row in rows if row["cause"] in {"go", "done"}]
            assert sorted(found) == sorted(expected)


EXAMPLES = int(os.environ.get("OSTLER_MODEL_EXAMPLES", "60"))
"""How many interleavings to try on SQLite; a fifth of it on PostgreSQL. `make proof` raises it."""


def check(new_url: Callable[[], str], examples: int) -> None:
    machine = type("Machine", (EngineMachine,), {"new_url": staticmethod(new_url)})
    every = settings(
        max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine, settings=every)


def test_on_sqlite(sqlite_url: str, tmp_path: Path) -> None:
    empty = Path(sqlite_url.removeprefix("sqlite:///"))
    numbers = itertools.count()

    def new_url() -> str:
        path = tmp_path / f"{next(numbers)}.db"
        shutil.copy(empty, path)
        return f"sqlite:///{path}"

    check(new_url, EXAMPLES)


@pytest.mark.postgres
def test_on_postgresql(new_postgres: Callable[[], str]) -> None:
    check(new_postgres, max(1, EXAMPLES // 5))
