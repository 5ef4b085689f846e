"""The level loop of Day 1: looks at every node on its way to production and sees to it that something moves it on.

A schedule that `app.py` gives to the runner. It starts procedures and moves states; it never touches a machine, so it
is safe to repeat, and safe while a flash runs: an overdue zap becomes `zap-fail` on paper and nothing is powered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import structlog

from ostler.acceptance import service, store
from ostler.acceptance.model import AcceptanceSettings
from ostler.acceptance.service import ACTOR, SEATRIAL, TEST, ZAP, job_key
from ostler.brake import service as brake
from ostler.core.errors import OstlerError
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.jobs import store as jobs
from ostler.jobs.procedure import Procedure
from ostler.jobs.schedule import Schedule
from ostler.nodes import lifecycle
from ostler.nodes import service as nodes
from ostler.nodes import store as node_store
from ostler.nodes.model import Condition, Node, State

_log = structlog.get_logger()

_UseCase: TypeAlias = Callable[[Tx, Node], object]

STAGES: Mapping[State, str] = {State.SEATRIAL: SEATRIAL, State.ZAP: ZAP, State.TEST: TEST}
"""Which procedure works on a node in which state."""

TIMED = tuple(state for state, row in lifecycle.STATES.items() if row.deadline is not None)
"""States that may not last for ever."""

_BATCH = 1000
"""Nodes of each kind that one sweep moves; the next sweep takes the next ones."""


def schedule(db: Database, settings: AcceptanceSettings, procedures: Mapping[str, Procedure]) -> Schedule:
    """The driver as a schedule; `procedures` are those of this folder, by name."""
    return Schedule("acceptance", settings.sweep_s, lambda: sweep(db, procedures))


def sweep(db: Database, procedures: Mapping[str, Procedure]) -> None:
    """One look at every node of Day 1, each moved in a transaction of its own, so that one refusal stops no other."""
    onboard, staged, late = db.read(
        lambda tx: (
            store.may_leave_onboard(tx, limit=_BATCH),
            store.without_job(tx, tuple(STAGES), job_key(""), limit=_BATCH),
            store.overdue(tx, TIMED, limit=_BATCH),
        )
    )
    for node in onboard:
        _each(db, node, _leave_onboard)
    for node in late:
        _each(db, node, _overdue)
    for node in staged:
        _each(db, node, lambda tx, node: ensure(tx, node, procedures))


def _each(db: Database, node: Node, use_case: _UseCase) -> None:
    try:
        db.write(lambda tx: use_case(tx, node_store.get(tx, node.id)))
    except OstlerError as error:
        _log.warning("acceptance.not_moved", node=node.name, state=node.state.value, error=str(error))


def ensure(tx: Tx, node: Node, procedures: Mapping[str, Procedure]) -> str | None:
    """The live job of a node's present stage, started if there is none."""
    name = STAGES.get(node.state)
    if name is None:
        return None
    procedure = procedures[name]
    data = {"since": node.state_since}
    return jobs.enqueue(
        tx, name, node.id, step=procedure.first, version=procedure.version, key=job_key(node.id), data=data
    )


def _leave_onboard(tx: Tx, node: Node) -> None:
    """A certified node goes to sea; by policy one does without the certificate."""
    if node.state is not State.ONBOARD:
        return
    cause = "certified" if nodes.facts(tx, node, ACTOR).certified else "auto-certified"
    service.advance(tx, node, State.SEATRIAL, cause=cause, reason=cause, evidence={})


def _overdue(tx: Tx, node: Node) -> None:
    row = lifecycle.STATES[node.state]
    if node.state_deadline is None or node.state_deadline >= tx.now or row.deadline is None:
        return
    if brake.stopped(tx, node) is not None:
        # Nothing could be done meanwhile: its time begins anew when the pause or the hands-on lock is over.
        node_store.update(tx, node.id, {"state_deadline": tx.now + row.deadline})
        return
    hours = (tx.now - node.state_since) / 3600
    reason = f"in {node.state} for {hours:.1f} h; at most {row.deadline / 3600:g} h are planned"
    if row.overdue is None:
        nodes.raise_condition(tx, node.id, Condition.OVERDUE, reason=f"{node.state}-overdue", message=reason)
        return
    job = store.live_job(tx, job_key(node.id))
    evidence: dict[str, Any] = {"state": node.state.value, "hours": round(hours, 2)}
    if job is not None:
        evidence |= {"step": job["step"], "why": job["why"], "data": job["data"]}
    service.divert(
        tx,
        node,
        row.overdue,
        cause=f"{node.state}-overdue",
        reason=reason if job is None else f"{reason}; it stands at '{job['step']}' {job['why']}".rstrip(),
        instruction=f"{reason}. Find out what keeps it; do not power it while firmware may be flashing.",
        evidence=evidence,
    )
