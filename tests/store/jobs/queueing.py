"""Short ways to say what most of these tests begin with: a one-step procedure, a queued job, a job's row."""

from __future__ import annotations

import sqlalchemy as sa

from ostler.db.engine import Database
from ostler.jobs import store
from ostler.jobs.procedure import Procedure, Step


def one_step(answer: Step) -> Procedure:
    return Procedure("p", 1, "only", {"only": answer})


def start(db: Database, *, step: str = "only", version: int = 1, procedure: str = "p", key: str | None = None) -> str:
    """Queue a job and return its id."""
    return db.write(lambda tx: store.enqueue(tx, procedure, "node_1", step=step, version=version, key=key))


def job(db: Database, job_id: str) -> sa.RowMapping:
    return db.read(lambda tx: store.get(tx, job_id))
