"""Looks at fabrics as durable work: when they are due, when a person asks, when a repair waits for its proof.

Registered by `app.py`. The schedule `look` starts a job per fabric that is due and that this server can look at itself;
the job collects and hands over to `service.py`. A fabric whose looks are pushed by another host is only waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
import structlog

from ostler.adapters.fabric.port import Collector, Want
from ostler.core.actor import Actor
from ostler.core.errors import OstlerError, Temporary
from ostler.core.steps import Done, Failed, StepResult, Wait
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.fabric import policy, rounds, store
from ostler.fabric.service import Fabrics
from ostler.fabric.settings import FabricSettings
from ostler.jobs import store as jobs
from ostler.jobs.procedure import JobView, Procedure
from ostler.tickets import store as tickets

PROCEDURE = "fabric-look"
VERSION = 1
LOOK_S = 10.0
"""How often the schedule asks what is due (domain seconds)."""
PUSH_PATIENCE_S = 900.0
"""So long a wanted look is waited for when another host has to take it."""
_PUSH_POLL_S = 2.0
_TRIES = 3
_BATCH = 500
_DAY = 86_400.0

_log = structlog.get_logger(__name__)


def job_key(fabric: str) -> str:
    """At most one look at a fabric at a time."""
    return f"{PROCEDURE}:{fabric}"


def order(tx: Tx, fabric: str, why: str) -> str:
    """Have a look taken now. Returns the job's id: the present one's, if a look is under way already."""
    return jobs.enqueue(
        tx,
        PROCEDURE,
        f"fabric:{fabric}",
        step="look",
        version=VERSION,
        key=job_key(fabric),
        data={"fabric": fabric, "why": why, "asked_at": tx.now},
    )


def due(tx: Tx, fabric: str, settings: FabricSettings) -> str | None:
    """Why a look is due now, or None."""
    last = store.latest(tx, fabric)
    waiting = [row["verifying_at"] for row in tickets.verifying(tx, fabric) if row["verifying_at"] is not None]
    return policy.due(
        fabric,
        settings,
        now=tx.now,
        looked_at=None if last is None else last["taken_at"],
        repaired_at=max(waiting, default=None),
    )


def wanted(tx: Tx, fabric: str, settings: FabricSettings) -> str | None:
    """Why somebody who pushes looks should take one now: it is due, or a person asked for it."""
    job = store.live_look(tx, job_key(fabric))
    return str(job["data"]["why"]) if job is not None else due(tx, fabric, settings)


class Looks:
    """The procedure and the schedule, with the collectors they use."""

    def __init__(self, db: Database, fabrics: Fabrics, collectors: Mapping[str, Collector]) -> None:
        self._db = db
        self._fabrics = fabrics
        self._collectors = collectors

    def procedure(self) -> Procedure:
        return Procedure(PROCEDURE, VERSION, "look", {"look": self.look})

    def sweep(self) -> None:
        """A schedule: start what is due and open the weekly rounds."""
        for fabric in self._db.read(self._fabrics.names):
            try:
                self._tend(fabric, self._fabrics.settings(fabric))
            except OstlerError as error:  # of one fabric; the others are looked at all the same
                _log.warning("fabric.not_tended", fabric=fabric, error=str(error))

    def forget(self) -> None:
        """A schedule: drop what was seen long ago."""
        for fabric in self._db.read(self._fabrics.names):
            self._forget(fabric, self._fabrics.settings(fabric))

    def _tend(self, fabric: str, settings: FabricSettings) -> None:
        """Reads first: where nothing is due nothing is written."""
        if fabric in self._collectors and self._db.read(lambda tx: due(tx, fabric, settings)) is not None:
            self._db.write(lambda tx: _start(tx, fabric, settings))
        if self._db.read(lambda tx: rounds.is_due(tx, fabric, settings)):
            self._open_round(fabric, settings)

    def _open_round(self, fabric: str, settings: FabricSettings) -> None:
        found = self._db.read(lambda tx: rounds.material(tx, fabric, settings, self._fabrics.shelf))
        if found is not None:
            rows = rounds.chosen(found, settings)
            self._db.write(lambda tx: rounds.open_round(tx, fabric, settings, found.snapshot_id, rows))

    def _forget(self, fabric: str, settings: FabricSettings) -> None:
        now = self._db.clock.now()
        old, events = now - settings.keep_days * _DAY, now - settings.events_days * _DAY
        _until_none(self._db, lambda tx: store.forget_bodies(tx, fabric, settings.keep_bodies, _BATCH))
        _until_none(self._db, lambda tx: store.forget_snapshots(tx, fabric, old, _BATCH))
        _until_none(self._db, lambda tx: store.forget_events(tx, fabric, events, _BATCH))

    def look(self, job: JobView) -> StepResult:
        """Look now, or wait for who looks."""
        fabric = str(job.data["fabric"])
        collector = self._collectors.get(fabric)
        if collector is None:
            return self._pushed(job, fabric)
        began = self._db.clock.now()
        try:
            collection = collector.collect(Want(counters=True))
            taken = self._fabrics.take_in(fabric, collection, taken_at=began)
        except Temporary as error:
            if job.tries < _TRIES:
                raise
            return Failed(str(error))
        except OstlerError as error:
            return Failed(str(error))
        return Done({"snapshot_id": taken.snapshot_id})

    def _pushed(self, job: JobView, fabric: str) -> StepResult:
        last = self._db.read(lambda tx: store.latest(tx, fabric))
        asked = float(job.data["asked_at"])
        if last is not None and last["taken_at"] >= asked:
            return Done({"snapshot_id": last["id"]})
        if job.now - asked > PUSH_PATIENCE_S:
            return Failed(f"no collector sent a look at {fabric}; is 'ostler fabric collect' running at its host?")
        return Wait(_PUSH_POLL_S, "for a collector to send what it sees")


def _start(tx: Tx, fabric: str, settings: FabricSettings) -> None:
    if store.live_look(tx, job_key(fabric)) is not None:
        return
    last = store.last_look(tx, f"fabric:{fabric}", PROCEDURE)
    if last is not None and last["state"] == "failed" and tx.now - last["finished_at"] < settings.repair_look_s:
        return  # what failed is tried again, not at once
    why = due(tx, fabric, settings)
    if why is not None:
        order(tx, fabric, why)


def asked(tx: Tx, fabric: str, *, actor: Actor) -> str:
    """A person wants a look now. Returns the job's id."""
    return order(tx, fabric, f"{actor.name} asked for it")


def job_view(row: sa.RowMapping) -> dict[str, Any]:
    """A look under way, as faces show it."""
    data = row["data"]
    return {
        "job_id": row["id"],
        "state": row["state"],
        "why": data.get("why"),
        "waits": row["why"],
        "snapshot_id": data.get("snapshot_id"),
    }


def _until_none(db: Database, delete: Callable[[Tx], int]) -> None:
    while db.write(delete) > 0:
        pass
