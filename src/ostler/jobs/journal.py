"""What becomes of a job when its step has answered or failed: one fenced transaction each. Called by `runner.py`.

The answer's `write` comes first and the job's row last, because services too lock a node before the job they wake: two
transactions that take their locks in one order cannot deadlock. If the fence has moved, all of it is rolled back.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ostler.core.steps import Done, Failed, Go, StepResult, Wait
from ostler.db import lease
from ostler.db.schema import job, job_step
from ostler.db.tx import Tx
from ostler.jobs.procedure import OnHeld, view

LONGEST_DELAY = 600.0
"""Seconds (domain) between two tries of a step that keeps failing temporarily; they double up to this."""

CRASHES = 5
"""After so many unexpected exceptions in a row, a step's job is held: a person should look."""


def answer(tx: Tx, held: lease.Claim, result: StepResult, *, keep_seconds: float | None) -> lease.Claim | None:
    """Make a step's answer and its `write` true. After `Go`, with `keep_seconds`, the claim is kept for the next step.

    Raises `LostLease` if another replica took over, and whatever `write` raises: then nothing of it is kept.
    """
    result = _written(tx, result)
    row = _locked(tx, held)
    values: dict[str, Any] = {"data": {**row["data"], **result.data}, "tries": 0, "crashes": 0, "why": ""}
    if isinstance(result, Wait):
        values |= {"due_at": _due(tx, held, row, result.seconds), "why": result.why}
    else:
        _append(tx, held, row["step"], result)
        if isinstance(result, Go):
            values |= {"step": result.to, "due_at": tx.now}
            if keep_seconds is not None:
                return _go_on(tx, held, values, tx.real + keep_seconds)
        else:
            failed = isinstance(result, Failed)
            values |= {"state": "failed" if failed else "done", "finished_at": tx.now}
            values["why"] = result.why if isinstance(result, Failed) else ""
    lease.settle(tx, job, held, values)
    return None


def retry(tx: Tx, held: lease.Claim, why: str, *, delay: float) -> None:
    """The step failed temporarily: try again after `delay` seconds (domain), doubled with every try, with jitter."""
    row = _locked(tx, held)
    grown = min(LONGEST_DELAY, delay * 2.0 ** min(row["tries"], 20)) * random.uniform(0.75, 1.25)  # noqa: S311
    due_at = _due(tx, held, row, grown)
    lease.settle(tx, job, held, {"tries": row["tries"] + 1, "crashes": 0, "why": why, "due_at": due_at})


def crashed(tx: Tx, held: lease.Claim, why: str, on_held: OnHeld | None) -> None:
    """The step raised what nobody expected: try again a few times, then hold the job for a person."""
    row = _locked(tx, held)
    crashes = row["crashes"] + 1
    if crashes >= CRASHES:
        hold(tx, held, f"{why} ({crashes} times)", on_held)
    else:
        lease.settle(tx, job, held, {"crashes": crashes, "why": why, "due_at": tx.now + 10.0 * 2.0**crashes})


def hold(tx: Tx, held: lease.Claim, why: str, on_held: OnHeld | None) -> None:
    """Nothing more happens to this job until a person resumes or cancels it."""
    if on_held is not None:
        on_held(tx, view(held.row, tx.now), why)
    lease.settle(tx, job, held, {"state": "held", "why": why})


def _written(tx: Tx, result: StepResult) -> StepResult:
    """Run `write`, and that of an answer which it puts in its place."""
    while result.write is not None:
        instead = result.write(tx)
        if instead is None:
            break
        result = instead
    return result


def _locked(tx: Tx, held: lease.Claim) -> sa.RowMapping:
    mine = (job.c.id == held.key, job.c.fence == held.fence, job.c.lease_owner == held.owner)
    row = tx.one(sa.select(job).where(*mine).with_for_update())
    if row is None:
        raise lease.LostLease(where=f"job {held.key}")
    return row


def _due(tx: Tx, held: lease.Claim, row: sa.RowMapping, seconds: float) -> float:
    """When the step runs again: at once if it was woken since it was claimed."""
    return tx.now if row["woken"] != held.row["woken"] else tx.now + max(seconds, 0.0)


def _append(tx: Tx, held: lease.Claim, step: str, result: Go | Done | Failed) -> None:
    last = tx.scalar(sa.select(sa.func.max(job_step.c.position)).where(job_step.c.job_id == held.key))
    row = {"job_id": held.key, "position": (last or 0) + 1, "step": step, "at": tx.now, "data": dict(result.data)}
    tx.execute(job_step.insert().values(**row, answer=type(result).__name__.lower()))


def _go_on(tx: Tx, held: lease.Claim, values: Mapping[str, Any], until: float) -> lease.Claim:
    update = job.update().where(job.c.id == held.key).values(**values, lease_until=until).returning(*job.c)
    (row,) = tx.all(update)
    return lease.Claim(row, held.key, held.owner, held.fence, until)
