"""Steps `act`, `await-boot` and `escalate`: the deed, by the node's agent or its BMC. For `tasks.Remediation`.

Every deed is safe to repeat: a node that has booted since is left alone, and an order is given in the transaction that
journals that it was. What could not be done goes one rung up the ladder, under the same permit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ostler.adapters.bmc.port import ResetKind
from ostler.adapters.cluster.port import DrainMode
from ostler.brake import guard
from ostler.brake import service as brake
from ostler.brake.model import Held
from ostler.core.errors import OstlerError, Permanent, Refused, Temporary
from ostler.core.steps import Done, Go, StepResult, Wait
from ostler.db.tx import Tx
from ostler.faults.model import Action
from ostler.health import orders
from ostler.health import store as health
from ostler.jobs import store as jobs
from ostler.jobs.procedure import JobView
from ostler.nodes import store as nodes
from ostler.nodes.model import Capability, Node, State, Timing
from ostler.remediation import policy, service
from ostler.remediation.draining import WHO, left
from ostler.remediation.model import Complaint, Plan, Verdict
from ostler.remediation.world import LOOK_AGAIN_S, World, permit_of
from ostler.wire.agent import Verdict as OrderVerdict

FABRIC_MANAGER = "nvidia-fabricmanager"
"""The service whose restart recovers a solo XID 45 (NVIDIA's WORKFLOW_XID_45)."""

BY_ORDER = frozenset({Action.RESET_GPU, Action.RESTART_SERVICE})
"""Actions that the node's agent carries out; a reboot it may, the others go through the BMC."""


class Acting:
    """The steps that touch the machine."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._settings = world.settings

    def act(self, job: JobView) -> StepResult:
        """The deed. Safe to repeat: a node that has booted since is left alone."""
        node = self._world.node(job)
        if node.state is not State.REBOOT:
            return over(job)
        try:
            self._world.db.write(lambda tx: brake.keep(tx, permit_of(job)))  # a pause may outlast its two hours
        except Held as held:
            return Wait(held.delay, held.message)
        action = Action(job.data["action"])
        if job.data.get("clear") and (wait := self._clear(job, node, action)) is not None:
            return wait
        if action in BY_ORDER:
            asked = _orders(action, job.data["devices"])
            if (stop := self._stopped(job)) is not None:
                return stop
            return Go("judge", data={"acted_at": job.now}, write=lambda tx: self._give(tx, job, asked))
        if node.boot_id != job.data["boot_before"]:
            return Go("await-boot", data={"acted_at": job.now})
        if action is Action.REBOOT and self._in_band(job, node):
            if (stop := self._stopped(job)) is not None:
                return stop
            return Go("await-boot", data={"acted_at": job.now}, write=lambda tx: self._give_reboot(tx, job))
        return self._by_bmc(job, node, action)

    def await_boot(self, job: JobView) -> StepResult:
        """The node is back when its agent reports from another boot than before."""
        node = self._world.node(job)
        if node.state is not State.REBOOT:
            return over(job)
        if node.boot_id != job.data["boot_before"]:
            return Go("verify")
        heard = node.last_seen is not None and node.last_seen > job.data["acted_at"] + self._settings.in_band_s
        if job.data.get("unsure") and heard:
            return Go("act", data={"unsure": False})  # it runs on in its old boot: nothing reset it
        asked = job.data.get("in_band")
        if asked and (why := self._refused(job, str(asked))) is not None:
            return Go("act", data={"in_band": None, "in_band_failed": why})
        if job.now > self._world.heard_since(job.data["acted_at"]) + self._settings.boot_timeout_s:
            minutes = self._settings.boot_timeout_s / 60
            return Go("escalate", data={"why": f"the node did not come back within {minutes:g} min of its reboot"})
        return Wait(LOOK_AGAIN_S, "waiting for the node to boot")

    def escalate(self, job: JobView) -> StepResult:
        """A means failed: the ladder's next one, if the pool grants it and the node's other work does not forbid it."""
        return Done(write=lambda tx: self._escalate(tx, job))

    def _escalate(self, tx: Tx, job: JobView) -> StepResult:
        node = nodes.get(tx, job.subject)
        action, why = Action(job.data["action"]), str(job.data["why"])
        granted = nodes.get_pool(tx, node.pool).capabilities
        others = job.data.get("partial") or (job.data.get("clear") and job.data.get("gpus"))  # only its GPUs were freed
        following = policy.next_means(action, granted, job.data["fault"], self._settings)
        if following is Action.TRIAGE or node.bmc_address is None or others:
            return Go("give-up")
        tried = [*job.data.get("tried", []), action]
        reasons = (f"{action} failed: {why}", f"the next means: {following}")
        plan = Plan(Verdict.ACT, following, reasons, Timing.IMMEDIATE, State.REBOOT, self._complaint(tx, job, node))
        service.record(tx, node, plan, job_id=job.id, permit=permit_of(job))
        # A node that does not answer is not asked to shut down in order.
        data: dict[str, Any] = {"action": following, "tried": tried, "force": True, "in_band": None, "clear": True}
        return Go("act", data={**data, "boot_before": node.boot_id, "orders": None, "acted_at": None})

    # ------------------------------------------------------------------------------------------------------------------

    def _clear(self, job: JobView, node: Node, action: Action) -> StepResult | None:
        """Before an immediate deed: end what is left of the node's lost work, so that it does not start again there.

        Only a GPU reset has to wait for it: a reset fails while a process holds the GPU.
        """
        try:
            cluster = self._world.cluster_of(node)
            if cluster is None or not self._may_drain(node):
                return None
            self._world.db.read(lambda tx: guard.check(tx, node.id, permit_of(job)))
            told = f"{WHO}: {job.data['fault']}: {action}"
            gpus = tuple(job.data.get("gpus") or ())
            view = cluster.drain(node.name, DrainMode.FORCE, told, permit=permit_of(job), gpus=gpus)
        except OstlerError:
            return None  # its work is lost already: nothing waits for a scheduler that does not answer
        since = float(job.data.get("clearing_since") or job.now)
        if view.left is None or action is not Action.RESET_GPU or job.now >= since + self._settings.force_wait_s:
            return None
        return Wait(10.0, f"ending what holds the GPUs: {left(view)}", data={"clearing_since": since})

    def _may_drain(self, node: Node) -> bool:
        pool = self._world.db.read(lambda tx: nodes.get_pool(tx, node.pool))
        return Capability.CORDON in pool.capabilities

    def _by_bmc(self, job: JobView, node: Node, action: Action) -> StepResult:
        if node.bmc_address is None:
            return Go("give-up", data={"why": "the node has no BMC address, so nothing can power it"})
        if (asked := job.data.get("asking")) is not None:  # this server's forerunner died while it asked
            return Go("await-boot", data={"acted_at": asked, "unsure": True, "asking": None})
        hard = job.data.get("force") or job.data.get("in_band_failed")
        kind = ResetKind.FORCE_RESTART if hard else ResetKind.GRACEFUL_RESTART
        if action is Action.POWER_CYCLE:
            kind = ResetKind.POWER_CYCLE
        self._world.db.write(lambda tx: jobs.note(tx, job.id, {"asking": job.now}))
        try:
            with self._world.open_bmc(node) as bmc:
                bmc.reset(kind, permit=permit_of(job))
        except Temporary:
            self._world.db.write(lambda tx: jobs.note(tx, job.id, {"asking": None}))
            raise
        except Permanent as error:
            return Go("escalate", data={"why": f"the BMC refused {kind}: {error}", "asking": None})
        return Go("await-boot", data={"acted_at": job.now, "asking": None, "unsure": False})

    def _in_band(self, job: JobView, node: Node) -> bool:
        """Whether the node's agent is asked to reboot: not urgent, granted, heard of, and not asked in vain already."""
        if job.data.get("force") or job.data.get("in_band_failed") or not self._settings.in_band_reboot:
            return False
        granted = self._world.db.read(lambda tx: nodes.get_pool(tx, node.pool).capabilities)
        heard = node.last_seen is not None and node.last_seen >= job.now - self._world.health.silent_after_s
        return Capability.REBOOT in granted and heard

    def _refused(self, job: JobView, order_id: str) -> str | None:
        """Why the agent's reboot will not come; None while it may."""
        answer = self._world.db.read(lambda tx: orders.result(tx, order_id))
        if answer is not None and answer.answered and answer.verdict is not OrderVerdict.PASSED:
            return f"the agent's reboot {answer.verdict}: {answer.message}"
        if job.now > self._world.heard_since(job.data["acted_at"]) + self._settings.in_band_s:
            return f"the node did not boot within {self._settings.in_band_s:g} s of being asked"
        return None

    def _stopped(self, job: JobView) -> StepResult | None:
        """An order to an agent has no guard of its own, so the brake is asked before it is given. Raises `Held`."""
        try:
            self._world.db.read(lambda tx: guard.check(tx, job.subject, permit_of(job)))
        except Refused as error:
            return Go("give-up", data={"why": f"the brake refused it: {error}"})
        return None

    def _give(self, tx: Tx, job: JobView, asked: list[tuple[str, dict[str, Any]]]) -> StepResult:
        """Give the agent its orders in the transaction that journals the step, so that each is given once."""
        given = give(tx, job, asked, self._settings.verification_deadline_s)
        return Go("judge", data={"orders": given, "acted_at": tx.now})

    def _give_reboot(self, tx: Tx, job: JobView) -> StepResult:
        (given,) = give(tx, job, [("reboot", {})], self._settings.in_band_s)
        return Go("await-boot", data={"acted_at": tx.now, "in_band": given})

    def _complaint(self, tx: Tx, job: JobView, node: Node) -> Complaint | None:
        """The finding that this job is about, if it is still on record."""
        finding_id = job.data.get("finding")
        if not finding_id:
            return None
        row = health.get(tx, finding_id)
        return service.complaint(tx, node, row, self._settings)


def give(tx: Tx, job: JobView, asked: Sequence[tuple[str, dict[str, Any]]], seconds: float) -> list[str]:
    """Give the node's agent orders; their results wake this job. Returns their ids."""
    wake_key = service.key(job.subject)
    return [
        orders.give(tx, job.subject, verb, arguments, deadline=tx.now + seconds, wake_key=wake_key)
        for verb, arguments in asked
    ]


def over(job: JobView) -> StepResult:
    """The node is not in our hands any more: the permit goes back, and that is all."""
    return Done(write=lambda tx: brake.release(tx, permit_of(job)))


def _orders(action: Action, devices: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """What the agent is asked for: a reset of each GPU, or the service that a solo 45 is about."""
    if action is Action.RESET_GPU:
        return [(action.value, {"device": device}) for device in devices]
    return [(action.value, {"service": FABRIC_MANAGER})]
