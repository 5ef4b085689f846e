"""What is run again and again, by one replica at a time: sweeps, retention, the sequencer. Run by `runner.py`.

A schedule is a procedure of one step that always waits for its next turn, and its job is the only live one of its key:
so lease, fence and failover are those of every job. `last_success` is real time, kept in the table `schedule`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ostler.core.errors import OstlerError
from ostler.core.steps import StepResult, Wait
from ostler.db import lease
from ostler.db.schema import job, schedule
from ostler.db.tx import Tx
from ostler.jobs import store
from ostler.jobs.procedure import JobView, Procedure

RETRY_SECONDS = 60.0
"""A run that failed is tried again after so long (domain), or after its own period if that is shorter."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """Run `run` every `every_seconds` of domain time, the first time at once. It may do I/O and open transactions."""

    name: str
    every_seconds: float
    run: Callable[[], None]


def procedure(one: Schedule) -> Procedure:
    """The procedure that runs a schedule."""

    def turn(_job: JobView) -> StepResult:
        try:
            one.run()
        except OstlerError as error:
            _log.warning("schedule %s: %s", one.name, error)
            return Wait(min(one.every_seconds, RETRY_SECONDS), str(error))
        except Exception as error:
            _log.exception("schedule %s failed", one.name)
            return Wait(min(one.every_seconds, RETRY_SECONDS), f"{type(error).__name__}: {error}")
        return Wait(one.every_seconds, "until its next turn", write=succeeded)

    def succeeded(tx: Tx) -> None:
        tx.execute(schedule.update().where(schedule.c.name == one.name).values(last_success=tx.real))

    return Procedure(f"schedule:{one.name}", 1, "turn", {"turn": turn})


def register(tx: Tx, one: Schedule) -> None:
    """Make sure of the schedule's job: there is one, it is not held, and it is due within one period from now."""
    lease.insert_ignore(tx, schedule, {"name": one.name})
    name = f"schedule:{one.name}"
    row = store.get(tx, store.enqueue(tx, name, "fleet", step="turn", version=1, key=name))
    if row["state"] == "held":
        store.resume(tx, row["id"])
    elif row["due_at"] > tx.now + one.every_seconds:  # its period was longer, or the clock another
        tx.execute(job.update().where(job.c.id == row["id"]).values(due_at=tx.now + one.every_seconds))
