"""Jobs as rows: queued, woken, resumed, cancelled, found. Called by services, `tasks.py`, faces and the runner.

A live job is `ready` (due at some time, or running) or `held` (a person must look); `done` and `failed` are finished.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.core.errors import NotFound, Refused
from ostler.core.ids import new_id
from ostler.db import lease
from ostler.db.schema import job, job_step
from ostler.db.tx import Tx
from ostler.jobs.procedure import Procedure

UNKNOWN_GRACE = 300.0
"""Seconds (domain) for which a job of an unknown procedure or version is left to a replica that knows it, as there is
one during a rolling upgrade. After that it is claimed to be held for a person."""

_idle: weakref.WeakSet[threading.Event] = weakref.WeakSet()


def enqueue(
    tx: Tx,
    procedure: str,
    subject: str,
    *,
    step: str,
    version: int,
    data: Mapping[str, Any] | None = None,
    key: str | None = None,
    due_at: float | None = None,
) -> str:
    """Start a procedure with `step`, at `due_at` (domain time, default now), and return the job's id.

    If a live job has this `key`, nothing is started and that job's id is returned.
    """
    if key is not None:
        tx.lock(f"job-key:{key}")
        if (live_id := tx.scalar(sa.select(job.c.id).where(_live_key(key)))) is not None:
            return str(live_id)
    job_id = new_id("job")
    tx.execute(
        job.insert().values(
            id=job_id,
            procedure=procedure,
            version=version,
            subject=subject,
            key=key,
            step=step,
            data=dict(data or {}),
            state="ready",
            due_at=tx.now if due_at is None else due_at,
            created_at=tx.now,
        )
    )
    tx.after_commit(nudge)
    return job_id


def wake(tx: Tx, *, job_id: str | None = None, key: str | None = None, data: Mapping[str, Any] | None = None) -> bool:
    """Make a waiting job due now and merge `data` into its own; False if no live job has this id or key.

    A wake-up that comes while the step runs is not lost: the wait that the step then asks for is cut to nothing. A held
    job keeps the data and stays held.
    """
    which = job.c.id == job_id if job_id is not None else _live_key(key or "")
    found = tx.one(sa.select(job.c.id, job.c.data).where(which, job.c.finished_at.is_(None)).with_for_update())
    if found is None:
        return False
    tx.execute(
        job.update()
        .where(job.c.id == found["id"])
        .values(
            due_at=sa.case((job.c.due_at > tx.now, tx.now), else_=job.c.due_at),
            woken=job.c.woken + 1,
            data={**found["data"], **(data or {})},
        )
    )
    tx.after_commit(nudge)
    return True


def note(tx: Tx, job_id: str, data: Mapping[str, Any]) -> None:
    """Merge `data` into a job's own before the running step touches the world: a repeat of the step finds it."""
    row = tx.one(sa.select(job.c.data).where(job.c.id == job_id).with_for_update())
    if row is not None:
        tx.execute(job.update().where(job.c.id == job_id).values(data={**row["data"], **data}))


def resume(tx: Tx, job_id: str) -> None:
    """Let a held job go on with the step it stands at. Raises `NotFound`, or `Refused` if it is not held."""
    _change(tx, job_id, ("held",), {"state": "ready", "due_at": tx.now, "why": "", "tries": 0, "crashes": 0})
    tx.after_commit(nudge)


def cancel(tx: Tx, job_id: str, why: str) -> None:
    """End a live job as failed; an answer of a step that runs just now is dropped. Raises `NotFound`, `Refused`."""
    ended = {"state": "failed", "why": why, "finished_at": tx.now, "lease_owner": None, "lease_until": None}
    _change(tx, job_id, ("ready", "held"), {**ended, "fence": job.c.fence + 1})


def get(tx: Tx, job_id: str) -> sa.RowMapping:
    """One job. Raises `NotFound`."""
    if (row := tx.one(sa.select(job).where(job.c.id == job_id))) is None:
        raise NotFound(f"There is no job {job_id}.")
    return row


def live(tx: Tx, subject: str) -> Sequence[sa.RowMapping]:
    """The unfinished jobs of a subject, oldest first."""
    mine = sa.select(job).where(job.c.subject == subject, job.c.finished_at.is_(None))
    return tx.all(mine.order_by(job.c.created_at, job.c.id))


def journal(tx: Tx, job_id: str) -> Sequence[sa.RowMapping]:
    """The finished steps of a job, in order."""
    return tx.all(sa.select(job_step).where(job_step.c.job_id == job_id).order_by(job_step.c.position))


def next_due(tx: Tx, procedures: Iterable[Procedure]) -> float | None:
    """When (domain time) the next job that `claim_due` would take is due; None if there is none."""
    free = sa.or_(job.c.lease_until.is_(None), job.c.lease_until < tx.real)
    earliest = sa.select(job.c.due_at).where(job.c.state == "ready", free, _ours(tx, procedures))
    due_at: float | None = tx.scalar(earliest.order_by(job.c.due_at).limit(1))
    return due_at


def claim_due(tx: Tx, procedures: Iterable[Procedure], *, owner: str, seconds: float, limit: int) -> list[lease.Claim]:
    """Take up to `limit` jobs that are due, the longest due first; unknown ones only after `UNKNOWN_GRACE`."""
    due = sa.and_(job.c.state == "ready", job.c.due_at <= tx.now, _ours(tx, procedures))
    return lease.claim(tx, job, due, owner=owner, seconds=seconds, limit=limit, order=job.c.due_at)


def listen(idle: threading.Event) -> None:
    """Have `idle` set whenever a job of this process may have become due; forgotten when `idle` is."""
    _idle.add(idle)


def nudge() -> None:
    """Set every event that listens."""
    for idle in list(_idle):
        idle.set()


def _ours(tx: Tx, procedures: Iterable[Procedure]) -> sa.ColumnElement[bool]:
    known = (sa.and_(job.c.procedure == one.name, job.c.version.in_(one.versions)) for one in procedures)
    return sa.or_(job.c.due_at <= tx.now - UNKNOWN_GRACE, *known)


def _live_key(key: str) -> sa.ColumnElement[bool]:
    return sa.and_(job.c.key == key, job.c.finished_at.is_(None))


def _change(tx: Tx, job_id: str, states: Sequence[str], values: Mapping[str, Any]) -> None:
    changed = tx.execute(job.update().where(job.c.id == job_id, job.c.state.in_(states)).values(**values))
    if changed.rowcount != 1:
        raise Refused(f"Job {job_id} is {get(tx, job_id)['state']}, not {' or '.join(states)}.")
