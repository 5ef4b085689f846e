"""A replica in a process of its own that kills itself at a named commit: `worker.py URL LOG KILL_AT OWNER`.

It runs the ten-step procedure of the restart tests until the job is finished. KILL_AT is `before:N` or `after:N`, the
Nth commit of this process counted from 1, or `never`. Every run of a step appends a line to LOG and syncs it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import sqlalchemy as sa

from ostler.core.clock import SystemClock
from ostler.core.steps import Done, Go, StepResult, Wait
from ostler.db.engine import Database
from ostler.db.schema import incident, job
from ostler.db.tx import Tx
from ostler.jobs.procedure import JobView, Procedure
from ostler.jobs.runner import Runner

STEPS = [f"step-{number}" for number in range(10)]
LEASE_SECONDS = 1.0


class DyingDatabase(Database):
    """The process is gone just before or just after its Nth commit, as with a power cut."""

    commits = 0
    kill_at = ("never", 0)

    def _commit(self, conn: sa.Connection) -> None:
        self.commits += 1
        self._perhaps_die("before")
        super()._commit(conn)
        self._perhaps_die("after")

    def _perhaps_die(self, when: str) -> None:
        if self.kill_at == (when, self.commits):
            os.kill(os.getpid(), signal.SIGKILL)


def procedure(log_path: str) -> Procedure:
    """Ten steps; each writes a line to the log (the world) and a row in its answer's transaction (the domain)."""

    def step(view: JobView) -> StepResult:
        log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, f"{view.step}\n".encode())
        os.fsync(log)
        os.close(log)
        number = STEPS.index(view.step)
        if number == 4 and not view.data.get("waited"):
            return Wait(0.01, "a pause in the middle", {"waited": True})

        def write(tx: Tx) -> None:
            # No key by which the same effect would fold into one: a second run of this would show.
            row = {"id": f"{view.step}-{os.getpid()}-{tx.scalar(sa.select(sa.func.count()).select_from(incident))}"}
            common = {"cause": view.step, "scope": "node", "subject": view.id, "summary": "", "evidence": {}}
            tx.execute(incident.insert().values(**row, **common, opened_at=tx.now))

        if number + 1 == len(STEPS):
            return Done({view.step: True}, write=write)
        return Go(STEPS[number + 1], {view.step: True}, write=write)

    return Procedure("ten-steps", 1, STEPS[0], dict.fromkeys(STEPS, step))


def main(url: str, log_path: str, kill_at: str, owner: str) -> None:
    """Work until the job is finished."""
    db = DyingDatabase(url, SystemClock())
    when, _, number = kill_at.partition(":")
    db.kill_at = (when, int(number or 0))
    runner = Runner(db, [procedure(log_path)], owner=owner, threads=2, lease_seconds=LEASE_SECONDS, poll_seconds=0.05)
    runner.start()
    finished = sa.select(sa.func.count()).select_from(job).where(job.c.finished_at.is_(None))
    tick = threading.Event()
    while db.read(lambda tx: tx.scalar(finished)):
        tick.wait(0.02)
    runner.stop()
    db.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
