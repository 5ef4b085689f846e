"""Step `drain`, and a drain that a person ordered: ask a node's work to leave, look again until nothing is left.

A drain touches what runs, so it happens under a permit, behind the cordon, and only as long as what it is for still
holds: a finding that is cleared or taken back stops it, and then only our cordon is lifted. For `tasks.Remediation`.
"""

from __future__ import annotations

from typing import Any

from ostler.adapters.cluster.port import Cluster, DrainMode, DrainView, Workload
from ostler.audit import service as audit
from ostler.brake import guard
from ostler.brake import service as brake
from ostler.brake import store as brake_store
from ostler.brake.model import Held
from ostler.core.errors import NotFound, OstlerError, Refused, Temporary
from ostler.core.ids import PermitId
from ostler.core.steps import Done, Go, StepResult, Wait
from ostler.db.tx import Tx
from ostler.jobs import store as jobs
from ostler.jobs.procedure import JobView
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, State
from ostler.remediation.deciding import Deciding
from ostler.remediation.model import Plan, Verdict
from ostler.remediation.parts import gpu_indices
from ostler.remediation.world import LOOK_AGAIN_S, World, actor_of, permit_of, unit

DRAIN = "drain"
"""The action of the permits of drains that a person ordered."""

WHO = "ostler"
"""The reason that others read on what is drained begins so."""


class Draining:
    """The steps that make work leave."""

    def __init__(self, world: World, deciding: Deciding) -> None:
        self._world = world
        self._deciding = deciding
        self._settings = world.settings

    # Before an action -------------------------------------------------------------------------------------------------

    def drain(self, job: JobView) -> StepResult:
        """One look: still wanted and still permitted, then ask, then see what is left."""
        node, plan, stop = self._world.db.read(lambda tx: self._still(tx, job))
        if stop is not None or plan is None:
            return stop or Go("decide")
        forced_since = job.data.get("forced_since")
        mode = plan.drain.mode
        if job.now >= float(job.data["deadline"]):
            mode = DrainMode.FORCE
            forced_since = job.now if forced_since is None else float(forced_since)
        gpus = gpu_indices(node.inventory, plan.devices) if plan.drain.partial else None
        try:
            cluster = self._world.cluster_of(node)
            if cluster is None:
                return Go("decide")
            view = cluster.drain(node.name, mode, f"{WHO}: {plan.reasons[0]}", permit=permit_of(job), gpus=gpus or ())
        except NotFound:
            return Go("decide")  # its scheduler does not know it (any more): the agent's word counts
        except Temporary as error:
            return Wait(LOOK_AGAIN_S, f"draining: how far it is is not known ({error})")
        if view.left is None:
            how = ["nothing of it is left"]
            if forced_since is not None:
                how = [f"what was left was ended at the deadline ({job.data.get('left') or 'not looked at before'})"]
            if gpus is not None and view.partial:
                how = [f"only GPU {', '.join(map(str, gpus))} was drained; the others work on"]
            return self._drained(job, plan, how, forced_since, partial=gpus is not None and view.partial)
        told = left(view)
        if forced_since is not None and job.now >= forced_since + self._settings.force_wait_s:
            return self._drained(job, plan, [f"the deadline has passed and it does not go: {told}"], forced_since)
        wait = min(LOOK_AGAIN_S, max(1.0, float(job.data["deadline"]) - job.now)) if forced_since is None else 10.0
        return Wait(wait, f"draining ({mode}): {told}", data={"forced_since": forced_since, "left": told})

    def _drained(
        self, job: JobView, plan: Plan, how: list[str], forced_since: float | None, *, partial: bool = False
    ) -> StepResult:
        drained = {"for": plan.key, "at": job.now, "how": how, "partial": partial}
        return Go("decide", data={"drained": drained, "forced_since": forced_since})

    def _still(self, tx: Tx, job: JobView) -> tuple[Node, Plan | None, StepResult | None]:
        """The plan that this drain is for, or why it does not go on now."""
        node = nodes.get(tx, job.subject)
        if node.state is not State.PRODUCTION or node.pending_state is None:
            return node, None, Go("decide")
        plan = self._deciding.plan(tx, job, node)
        if plan.verdict is not Verdict.ACT or plan.key != job.data.get("pending"):
            return node, None, Go("decide")
        try:
            guard.check(tx, node.id, permit_of(job))
        except Held as held:
            return node, None, Wait(held.delay, held.message)
        except Refused:
            return node, None, Go("decide")  # the permit is over: ask for another
        return node, plan, None

    # By a person's order ----------------------------------------------------------------------------------------------

    def hand_drain(self, job: JobView) -> StepResult:
        """A person wants the node empty: this ends with the work, with its deadline or with the cordon."""
        node = self._world.node(job)
        ordered = job.data["ordered"]
        held = self._world.db.read(lambda tx: any(row["holder"] == "person" for row in nodes.holds(tx, [node.id])))
        if not held:
            return self._over(job, node, "the cordon was taken back; what still runs is left alone")
        running = self._world.running(node)
        if running.unknown:
            return Wait(LOOK_AGAIN_S, f"draining: what runs there is not known ({running.unknown})")
        late = job.now >= float(ordered["deadline"])
        mode = DrainMode.FORCE if late else DrainMode(ordered["mode"])
        try:
            cluster = self._world.cluster_of(node)
        except NotFound as error:
            return Wait(LOOK_AGAIN_S, str(error))
        if cluster is not None and not running.cordoned:
            return Wait(5.0, "waits until the scheduler shows the node as cordoned")
        if not running.busy:
            return self._over(job, node, "nothing runs there any more")
        if cluster is None:
            if late:
                return self._over(job, node, "the deadline has passed; there is no scheduler that could end what runs")
            return Wait(LOOK_AGAIN_S, f"waits for {running.told} to end")
        if mode is DrainMode.ALLOW_COMPLETION:
            return Wait(LOOK_AGAIN_S, f"waits for {running.told} to end")
        return self._ask(job, node, cluster, mode, running.workload)

    def _ask(
        self, job: JobView, node: Node, cluster: Cluster, mode: DrainMode, workload: Workload | None
    ) -> StepResult:
        ordered = job.data["ordered"]

        def reserve(tx: Tx) -> PermitId:
            if (stopped := brake.stopped(tx, node) or brake.flashing(tx, node)) is not None:
                raise Held(f"The drain of {node.name} is held: {stopped}.", delay=LOOK_AGAIN_S)
            why, by = str(ordered["reason"]), actor_of(job)
            return brake.reserve(tx, node, DRAIN, actor=by, reason=why, workload=unit(tx, workload))

        try:
            permit = self._world.db.write(reserve)
            told = f"{WHO}: {ordered['reason']} ({ordered['actor']})"
            view = cluster.drain(node.name, mode, told, permit=permit)
        except Held as held:
            return Wait(held.delay, held.message)
        except OstlerError as error:
            return Wait(LOOK_AGAIN_S, f"draining: {error}")
        if view.left is None:
            return self._over(job, node, "nothing runs there any more", permit)
        return Wait(LOOK_AGAIN_S, f"draining ({mode}): {left(view)}", data={"permit": permit})

    def _over(self, job: JobView, node: Node, why: str, permit: str | None = None) -> StepResult:
        held = permit or job.data.get("permit")

        def write(tx: Tx) -> None:
            row = brake_store.get(tx, str(held)) if held else None
            live = [one for one in jobs.live(tx, node.id) if one["id"] != job.id]
            taken_over = any(one["data"].get("permit") == held for one in live)
            # Another's permit, under which this ran, is the other's; so is ours by now if a repair goes on under it.
            if row is not None and row["action"] == DRAIN and not taken_over:
                brake.release(tx, PermitId(row["id"]))
            detail: dict[str, Any] = {"mode": job.data["ordered"]["mode"]}
            audit.record(tx, actor=actor_of(job), action="node.drained", subject=node.id, reason=why, detail=detail)

        return Done(write=write)


def left(view: DrainView) -> str:
    """What a drain still waits for, in one line: how much, whose, and what does not go and why."""
    if view.left is None:
        return "nothing is left"
    told = f"{view.left.pods} left"
    if view.left.jobs:
        told += f" of {', '.join(view.left.jobs[:3])}{' …' if len(view.left.jobs) > 3 else ''}"
    if view.blocked:
        more = f" (and {len(view.blocked) - 3} more)" if len(view.blocked) > 3 else ""
        told += f"; blocked: {'; '.join(view.blocked[:3])}{more}"
    return told[:1000]
