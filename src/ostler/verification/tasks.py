"""One run of active checks on one idle node. Registered by `app.py`, started by the sweep or a person.

    begin ──┬── follow-cluster ──┬── conclude ── done
            └── follow-agent ────┘       └── begin (again, to confirm a failure)

Where the node's pool has a scheduler the checks are a preemptible job of that scheduler, so that its own rule makes
room for work; else the agent runs them and stops when a workload takes a GPU. What was stopped is inconclusive.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ostler.adapters.cluster.port import Cluster, IdlePhase, IdleRun, IdleView
from ostler.core.errors import Permanent, Temporary
from ostler.core.steps import Done, Go, StepResult, Wait
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.health import orders
from ostler.health.model import Diagnosis, split_check
from ostler.jobs.procedure import JobView, Procedure
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, State
from ostler.trends.model import Verdict
from ostler.verification import policy, service
from ostler.verification.model import Result, VerificationSettings
from ostler.wire.agent import Verdict as OrderVerdict
from ostler.wire.decode import fit

LOOK_AGAIN_S = 15.0
MOST_TRIES = 5
"""A scheduler that takes no checks so often in a row is asked again with the next hourly run."""
NO_SCHEDULER = "none"
_AS_ONE_LINE = ("--json", "--fit", "4000")
"""Schedulers hand on the last line of a run, at most 4 KiB of it."""


class Verification:
    """The steps, with the ports they touch."""

    def __init__(
        self,
        db: Database,
        clusters: Mapping[str, Cluster],
        settings: VerificationSettings,
        on_diagnoses: Callable[[Tx, str, list[Diagnosis]], None],
    ) -> None:
        self._db = db
        self._clusters = clusters
        self._settings = settings
        self._on_diagnoses = on_diagnoses

    def procedure(self) -> Procedure:
        return Procedure(
            service.PROCEDURE,
            service.VERSION,
            service.FIRST,
            {
                "begin": self.begin,
                "follow-cluster": self.follow_cluster,
                "follow-agent": self.follow_agent,
                "conclude": self.conclude,
            },
        )

    def sweep(self) -> None:
        """A schedule: idle nodes that are due."""
        if self._settings.pools:
            self._db.write(lambda tx: service.sweep(tx, self._settings))

    def begin(self, job: JobView) -> StepResult:
        """Ask whoever runs the checks: the scheduler, or the agent."""
        node, cluster = self._db.read(lambda tx: self._node(tx, job.subject))
        if node.state is not State.PRODUCTION:
            return Done()
        data = {"began_at": job.now, "results": [], "run": None}
        if cluster is None:
            return Go("follow-agent", data={**data, "left": list(job.data["checks"]), "order": None})
        texts = list(job.data["checks"])
        run = IdleRun(
            node=node.name,
            command=("ostler", "checks", "run", *texts, *_AS_ONE_LINE, "--budget", f"{self._settings.limit_s:.0f}"),
            gpus=node.gpu_count,
            seconds=int(self._db.clock.real_seconds(self._settings.limit_s)) + 60,
        )
        try:
            return Go("follow-cluster", data={**data, "run": cluster.start_idle_run(run)})
        except Permanent as error:
            return Go("conclude", data={**data, "stopped": error.message})
        except Temporary as error:
            if job.tries < MOST_TRIES:
                raise
            return Go("conclude", data={**data, "stopped": f"the scheduler takes no checks: {error.message}"})

    def follow_cluster(self, job: JobView) -> StepResult:
        """Until the scheduler's job has ended, was preempted, or takes too long."""
        node, cluster = self._db.read(lambda tx: self._node(tx, job.subject))
        if cluster is None:
            return Go("conclude", data={"stopped": "the pool has no scheduler any more"})
        try:
            view = cluster.idle_run(job.data["run"])
        except Permanent as error:
            return Go("conclude", data={"stopped": error.message})
        over = view.phase in (IdlePhase.ENDED, IdlePhase.STOPPED)
        if over:
            cluster.end_idle_run(job.data["run"])
            stopped = "" if view.phase is IdlePhase.ENDED else view.output or "stopped"
            results = [one.data() for one in read_results(view, job.data["checks"])] if not stopped else []
            return Go("conclude", data={"stopped": stopped, "results": results})
        late = job.now > job.data["began_at"] + self._settings.limit_s + LOOK_AGAIN_S
        if late or node.state is not State.PRODUCTION or node.pending_state is not None:
            cluster.end_idle_run(job.data["run"])
            return Go("conclude", data={"stopped": "it took too long" if late else "the node is needed otherwise"})
        return Wait(LOOK_AGAIN_S, f"the checks are {view.phase}")

    def follow_agent(self, job: JobView) -> StepResult:
        """One check after the other, each as an order that gives way to a workload."""
        node, _cluster = self._db.read(lambda tx: self._node(tx, job.subject))
        if node.state is not State.PRODUCTION or node.pending_state is not None:
            return Go("conclude", data={"stopped": "the node is needed otherwise"})
        results, left, order = list(job.data["results"]), list(job.data["left"]), job.data["order"]
        if order is not None:
            came = self._db.read(lambda tx: orders.result(tx, order))
            if came is None:
                return Wait(LOOK_AGAIN_S, f"waiting for {left[0]}")
            if came.verdict is OrderVerdict.REFUSED:
                return Go("conclude", data={"stopped": came.message or "the agent does not run checks"})
            name, _arguments = split_check(left.pop(0))
            results.append(Result(name, Verdict(came.verdict.value), came.measured, came.message).data())
            if came.measured.get("stopped") is True:
                return Go("conclude", data={"stopped": came.message, "results": results})
        if not left:
            return Go("conclude", data={"results": results, "stopped": ""})
        name, arguments = split_check(left[0])

        def give(tx: Tx) -> StepResult:
            deadline = tx.now + self._settings.limit_s
            asked = {"check": name, **arguments, "yields": "true"}
            given = orders.give(tx, node.id, "run-check", asked, deadline=deadline, wake_key=service.key(node.id))
            return Wait(LOOK_AGAIN_S, f"waiting for {name}", data={"results": results, "left": left, "order": given})

        return Wait(LOOK_AGAIN_S, f"waiting for {name}", write=give)

    def conclude(self, job: JobView) -> StepResult:
        """Keep what was measured; a failure is run once more before it counts."""
        stopped = str(job.data.get("stopped") or "")
        results = [_result(one) for one in job.data["results"]]
        said = {one.check for one in results}
        missing = [name for name, _ in map(split_check, job.data["checks"]) if name not in said]
        results += [Result(name, Verdict.INCONCLUSIVE, {}, stopped or "it did not run") for name in missing]
        again = bool(job.data.get("again"))
        confirmed = again or not self._settings.confirm
        bad = [one.check for one in policy.failed(results)]

        def write(tx: Tx) -> None:
            node = nodes.get(tx, job.subject)
            whole = not job.data.get("by_hand")
            found = service.conclude(
                tx, node, results, started_at=job.data["began_at"], confirmed=confirmed, whole=whole
            )
            if found and node.state is State.PRODUCTION:
                self._on_diagnoses(tx, node.id, found)

        if bad and not confirmed and not stopped:
            checks = [text for text in job.data["checks"] if split_check(text)[0] in bad]
            return Go("begin", data={"again": True, "checks": checks}, write=write)
        return Done(write=write)

    def _node(self, tx: Tx, node_id: str) -> tuple[Node, Cluster | None]:
        node = nodes.get(tx, node_id)
        name = nodes.get_pool(tx, node.pool).cluster
        return node, None if name == NO_SCHEDULER else self._clusters.get(name)


def read_results(view: IdleView, checks: Sequence[str]) -> list[Result]:
    """The last line of `ostler checks run --json`, strictly; what cannot be read is inconclusive.

    Raises nothing: the text comes from a node.
    """
    asked = {split_check(text)[0] for text in checks}
    try:
        document = json.loads(view.output.strip().splitlines()[-1])
        rows = document["checks"]
        found = [_result(row) for row in rows if isinstance(row, dict) and row.get("name") in asked]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, Permanent):
        why = f"the checks ended without a result (exit status {view.exit_status})"
        return [Result(name, Verdict.INCONCLUSIVE, {}, why) for name in sorted(asked)]
    return found


def _result(row: Mapping[str, Any]) -> Result:
    name = fit(str(row.get("check") or row.get("name") or ""), 64)
    measured = row.get("measured")
    kept = (
        {fit(str(key), 64): _kept(value) for key, value in list(measured.items())[:64]}
        if isinstance(measured, dict)
        else {}
    )
    try:
        verdict = Verdict(str(row.get("verdict")))
    except ValueError:
        return Result(name, Verdict.INCONCLUSIVE, kept, "a verdict that nobody knows")
    return Result(name, verdict, kept, fit(str(row.get("message", "")), 2000))


def _kept(value: object) -> object:
    """A measured value as every database takes it: PostgreSQL knows no NUL, and JSON neither NaN nor infinity."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, dict):
        return {fit(str(key), 64): _kept(one) for key, one in list(value.items())[:64]}
    if isinstance(value, list):
        return [_kept(one) for one in value[:64]]
    return fit(str(value), 256)
