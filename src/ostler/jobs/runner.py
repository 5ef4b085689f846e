"""Claims due jobs, those of schedules among them, and runs them. Built by `app.py` and, for `run_due`, by tests.

One dispatcher thread claims as much as there are free workers, renews the leases of what they run, and otherwise sleeps
until the next thing is due, it is nudged from within the process, or a slow sweep looks for what other replicas queued.
Any number of runners may share a database: the lease decides who works, the fence whose answer counts.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from ostler.core.errors import OstlerError, Permanent, Temporary
from ostler.core.steps import Done, Failed, Go, StepResult, Wait
from ostler.db import lease
from ostler.db.engine import Database
from ostler.db.schema import job
from ostler.db.tx import Tx
from ostler.jobs import journal, schedule, store
from ostler.jobs.procedure import JobView, OnHeld, Procedure, view
from ostler.jobs.schedule import Schedule

_log = logging.getLogger(__name__)


@dataclass
class _Work:
    """One claimed job and what its worker is told while it runs."""

    held: lease.Claim
    lost: threading.Event = field(default_factory=threading.Event)


class Runner:
    """Runs `procedures` and `schedules` under the name `owner`, which no other process may use."""

    def __init__(
        self,
        db: Database,
        procedures: Iterable[Procedure],
        *,
        owner: str,
        schedules: Iterable[Schedule] = (),
        on_held: OnHeld | None = None,
        threads: int = 4,
        lease_seconds: float = 30.0,
        poll_seconds: float = 1.0,
    ) -> None:
        self.last_success: float | None = None
        """Real time of the last round that reached the database, for `/readyz` (it is stale after some polls)."""
        self._db = db
        self._schedules = tuple(schedules)
        everything = (*procedures, *map(schedule.procedure, self._schedules))
        self._procedures = {procedure.name: procedure for procedure in everything}
        self._owner = owner
        self._on_held = on_held
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        self._stopping = threading.Event()
        self._nudged = threading.Event()
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._running: dict[str, _Work] = {}
        self._registered = False
        self._renewed = time.monotonic()
        self._workers = [
            threading.Thread(target=self._work, name=f"ostler-job-{n}", daemon=True) for n in range(threads)
        ]
        self._dispatcher = threading.Thread(target=self._dispatch, name="ostler-jobs", daemon=True)

    def start(self) -> None:
        """Begin to work, in threads of its own."""
        store.listen(self._nudged)
        for thread in (*self._workers, self._dispatcher):
            thread.start()

    def stop(self, *, grace_seconds: float = 10.0) -> None:
        """Claim nothing more and wait for the steps that run. One that takes longer is left to its lease's end."""
        self._stopping.set()
        self._nudged.set()
        deadline = time.monotonic() + grace_seconds
        for thread in (self._dispatcher, *self._workers):
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def run_due(self, *, limit: int = 10_000) -> int:
        """Run everything that is due now, here and one after the other, and return the number of steps.

        For tests. Raises `RuntimeError` after `limit` of them: then a procedure never comes to rest.
        """
        done = 0
        while work := self._claim(1):
            done += self._run(work[0])
            if done >= limit:
                raise RuntimeError(f"{done} steps were run and there is still one due")
        return done

    def _dispatch(self) -> None:
        while not self._stopping.is_set():
            self._nudged.clear()
            pause = self._poll_seconds
            try:
                pause = self._round()
                self.last_success = self._db.clock.real()
            except OstlerError as error:
                _log.warning("jobs: %s", error)
            except Exception:
                _log.exception("jobs: the round failed")
            self._nudged.wait(pause)
        for _worker in self._workers:
            self._queue.put(None)
        while self._running:  # steps still run: keep their leases
            self._nudged.wait(self._lease_seconds / 3)
            self._nudged.clear()
            self._renew()

    def _round(self) -> float:
        """Renew, claim, hand out; the real seconds after which there may be more to do."""
        self._renew()
        free = len(self._workers) - len(self._running)
        patience = min(self._poll_seconds, self._lease_seconds / 3)
        if free <= 0:
            return patience  # a worker that gets free nudges
        due_at = self._next_due()
        if not self._registered or (due_at is not None and due_at <= self._db.clock.now()):
            claimed = self._claim(free)
            for work in claimed:
                self._running[work.held.key] = work
                self._queue.put(work)
            due_at = self._next_due() if 0 < len(claimed) < free else None
        if due_at is None:
            return patience
        return min(patience, max(0.0, self._db.clock.real_seconds(due_at - self._db.clock.now())))

    def _next_due(self) -> float | None:
        return self._db.read(lambda tx: store.next_due(tx, self._procedures.values()))

    def _claim(self, limit: int) -> list[_Work]:
        def take(tx: Tx) -> list[lease.Claim]:
            if not self._registered:
                for one in self._schedules:
                    schedule.register(tx, one)
            known = self._procedures.values()
            return store.claim_due(tx, known, owner=self._owner, seconds=self._lease_seconds, limit=limit)

        claims = self._db.write(take)
        self._registered = True
        return [_Work(held) for held in claims]

    def _renew(self) -> None:
        if time.monotonic() - self._renewed < self._lease_seconds / 3:
            return
        for work in list(self._running.values()):
            try:
                self._db.write(partial(lease.renew, table=job, held=work.held, seconds=self._lease_seconds))
            except lease.LostLease:
                work.lost.set()
            except OstlerError as error:
                _log.warning("job %s: its lease cannot be renewed: %s", work.held.key, error)
        self._renewed = time.monotonic()

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                self._run(work)
            except BaseException:
                _log.exception("job %s: the lease is left to run out", work.held.key)
            finally:
                if self._running.get(work.held.key) is work:
                    del self._running[work.held.key]
                self._nudged.set()

    def _run(self, work: _Work) -> int:
        """Run a job's step and those that follow at once; the number of steps."""
        steps = 1
        try:
            held = self._step(work, work.held)
            while held is not None:
                steps += 1
                held = self._step(work, held)
        except lease.LostLease as lost:
            _log.info("%s; the result is dropped", lost)
        except OstlerError as error:
            _log.warning("job %s: %s; the lease is left to run out", work.held.key, error)
        return steps

    def _step(self, work: _Work, held: lease.Claim) -> lease.Claim | None:
        """Run one step and journal what it answers; the claim for the next step if that follows at once."""
        seen = view(held.row, self._db.clock.now(), work.lost.is_set)
        if unknown := _unknown(self._procedures.get(seen.procedure), seen):
            _log.error("job %s is held: %s", seen.id, unknown)
            return self._db.write(lambda tx: journal.hold(tx, held, unknown, self._on_held))
        try:
            result = self._procedures[seen.procedure].steps[seen.step](seen)
            if not isinstance(result, Go | Wait | Done | Failed):
                raise TypeError(f"the step answered {result!r}")
            keep = None if self._stopping.is_set() else self._lease_seconds
            return self._db.write(lambda tx: journal.answer(tx, held, result, keep_seconds=keep))
        except lease.LostLease:
            raise
        except Temporary as error:
            why, delay = str(error), error.delay
            return self._db.write(lambda tx: journal.retry(tx, held, why, delay=delay))
        except Permanent as error:
            failed: StepResult = Failed(str(error))
            return self._db.write(lambda tx: journal.answer(tx, held, failed, keep_seconds=None))
        except Exception as error:
            _log.exception("job %s: a step raised what nobody expected", seen.id)
            why = f"{seen.procedure}.{seen.step} raised {type(error).__name__}: {error}"
            return self._db.write(lambda tx: journal.crashed(tx, held, why, self._on_held))


def _unknown(procedure: Procedure | None, seen: JobView) -> str:
    """Why this job cannot be run here; empty if it can."""
    if procedure is None:
        return f"this server knows no procedure '{seen.procedure}'"
    if seen.version not in procedure.versions:
        return f"it is of version {seen.version}; this server's {seen.procedure} is of version {procedure.version}"
    return "" if seen.step in procedure.steps else f"{seen.procedure} has no step '{seen.step}'"
