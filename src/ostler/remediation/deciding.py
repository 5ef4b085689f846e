"""Steps `settle` and `decide`: from what is known to a plan, its permit, and the node's way. For `tasks.Remediation`.

`decide` is asked again and again while a node waits (for its workload, a window, the brake): each time from what is
known then, so a decision that went stale is never replayed. What runs on the node is asked before its transaction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ostler.adapters.cluster.port import DrainMode
from ostler.brake import service as brake
from ostler.brake.model import Held
from ostler.core.clock import iso
from ostler.core.ids import PermitId
from ostler.core.steps import Done, Go, StepResult, Wait
from ostler.db.tx import Tx
from ostler.faults.model import Action, Severity
from ostler.health import store as health
from ostler.jobs.procedure import JobView
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.model import Capability, Node, State, Timing
from ostler.remediation import endings, policy, service, store
from ostler.remediation.model import Plan, Verdict
from ostler.remediation.parts import gpu_indices
from ostler.remediation.world import LOOK_AGAIN_S, Running, World, actor_of, permit_of, unit

DRAINED_FOR_S = 2 * LOOK_AGAIN_S
"""A drain that found nothing left proves so for so long; after that it is looked at again."""

CORDON_S = 5.0
"""How often a node is looked at that is to be cordoned: the cordon controller runs once a second."""


class Deciding:
    """The steps before anything is touched."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._settings = world.settings

    def settle(self, job: JobView) -> StepResult:
        """Cordon at once what is certainly lost, then wait for what else is reported."""
        node = self._world.node(job)
        case = self._world.db.read(lambda tx: service.case_of(tx, node, self._settings))
        left = self._unsettled(policy.decide(case, self._settings), job.now)
        fatal = None if "ordered" in job.data else policy.cordon_now(case, self._settings)

        def cordon(tx: Tx) -> None:
            if fatal is not None:
                nodes_service.hold_cordon(tx, node.id, "remediation", fatal.fault, service.ACTOR)

        if left <= 0 or "ordered" in job.data:
            return Go("decide", write=cordon)  # late is no reason to leave it open while the brake holds the repair
        return Wait(left, "settling: what else is reported?", write=cordon)

    def decide(self, job: JobView) -> StepResult:
        """Everything that decides is read and written in the one transaction that journals this step."""
        node = self._world.node(job)
        running = self._world.running(node) if node.state is State.PRODUCTION else Running(False)
        return Done(write=lambda tx: self._decide(tx, job, running))

    def correlate(self, tx: Tx) -> None:
        service.correlate(tx, self._world.health)
        tx.after_commit(lambda: setattr(self._world, "correlated_at", tx.now))

    def plan(self, tx: Tx, job: JobView, node: Node) -> Plan:
        """What is to be done, as things stand in this transaction."""
        plan = self._ordered(job, node)
        if plan is None:
            hold_until = self._world.hold_until(tx, node)
            plan = policy.decide(service.case_of(tx, node, self._settings, hold_until), self._settings)
        taken_back = job.data.get("pending") == plan.key and node.pending_state is None
        if plan.verdict is Verdict.ACT and (taken_back or service.withdrawn(tx, plan)):
            why = "a person took this decision back; it is not made again for this finding"
            return replace(plan, verdict=Verdict.RECORD, reasons=(*plan.reasons, why))
        return plan

    def _decide(self, tx: Tx, job: JobView, running: Running) -> StepResult:
        node = nodes.get(tx, job.subject)
        if node.state is not State.PRODUCTION:
            return _let_go(tx, job)
        self._correlate_for(tx, node)
        swapped = self._hot_swaps(tx, node)
        plan = self.plan(tx, job, node)
        if plan.action is Action.POWER_OFF:
            return self._power_goes(tx, job, node, plan)
        if plan.verdict is not Verdict.ACT:
            return self._leave_alone(tx, job, node, plan, silently=swapped and plan.complaint is None)
        if (left := self._unsettled(plan, tx.now)) > 0:
            return Wait(left, "settling: what else is reported?")
        if plan.timing is Timing.IMMEDIATE:
            return self._begin(tx, job, node, plan, running)
        if plan.hold_until is not None and tx.now < plan.hold_until:
            why = f"{plan.action} waits for the maintenance window at {iso(plan.hold_until)}"
            return Wait(min(LOOK_AGAIN_S, plan.hold_until - tx.now), why)
        return self._pending(tx, job, node, plan, running)

    def _pending(self, tx: Tx, job: JobView, node: Node, plan: Plan, running: Running) -> StepResult:
        """The node still works for somebody: cordon it, let the work end or leave, and only then act."""
        deadline = node.pending_deadline if node.pending_state is plan.to else None
        deadline = tx.now + plan.drain.deadline_s if deadline is None else deadline
        drained = job.data.get("drained") or {}
        if drained.get("for") == plan.key and tx.now <= float(drained.get("at", 0.0)) + DRAINED_FOR_S:
            how = tuple(drained.get("how", ()))
            return self._begin(tx, job, node, plan, running, how, partial=drained.get("partial") is True)
        ours_to_cordon = running.scheduled and self._can_drain(tx, node)
        if not running.unknown and not running.busy and (running.cordoned or not ours_to_cordon):
            return self._begin(tx, job, node, plan, running)
        self._pend(tx, node, plan, deadline)
        data: dict[str, Any] = {"pending": plan.key, "deadline": deadline}
        if not running.unknown and not running.cordoned and ours_to_cordon:
            return Wait(CORDON_S, f"{plan.action} waits until the scheduler shows the node as cordoned", data=data)
        if running.unknown:
            why = f"{plan.action} waits: what runs on the node is not known ({running.unknown})"
            return Wait(LOOK_AGAIN_S, why, data=data)
        if plan.drain.mode is DrainMode.ALLOW_COMPLETION and tx.now < deadline:
            why = f"{plan.action} waits for the workload to end: {running.told}"
            return Wait(min(LOOK_AGAIN_S, deadline - tx.now), why, data=data)
        if not ours_to_cordon:
            if tx.now < deadline:
                why = f"{plan.action} waits for the workload to end; the pool has no scheduler that could drain it"
                return Wait(min(LOOK_AGAIN_S, deadline - tx.now), why, data=data)
            return self._begin(tx, job, node, plan, running, ("the deadline has passed: what still runs is lost",))
        return self._drain(tx, job, node, plan, running, data)

    def _drain(
        self, tx: Tx, job: JobView, node: Node, plan: Plan, running: Running, data: dict[str, Any]
    ) -> StepResult:
        """Evicting disrupts: the right to it is reserved first, and kept for the deed itself."""
        try:
            permit = self._reserve(tx, job, node, plan, running)
        except Held as held:
            service.record(tx, node, plan, job_id=job.id, held=held.message)
            return Wait(held.delay, held.message, data=data)
        how = f"draining first ({plan.drain.mode}{', only its GPUs' if plan.drain.partial else ''}): {running.told}"
        if job.data.get("permit") != permit:
            begun = replace(plan, action=Action.DRAIN, reasons=(*plan.reasons, how))
            service.record(tx, node, begun, job_id=job.id, permit=permit)
        return Go("drain", data={**data, "permit": permit, "drained": None})

    def _begin(
        self,
        tx: Tx,
        job: JobView,
        node: Node,
        plan: Plan,
        running: Running,
        how: tuple[str, ...] = (),
        *,
        partial: bool = False,
    ) -> StepResult:
        """Reserve the right, move the node, and go on to the deed."""
        plan = replace(plan, reasons=(*plan.reasons, *how))
        actor, reason = actor_of(job), "; ".join(plan.reasons)
        permit: PermitId | None = None
        try:
            if plan.to is State.REBOOT:
                permit = self._reserve(tx, job, node, plan, running)
            elif (stopped := brake.stopped(tx, node)) is not None:
                raise Held(f"{plan.action} of {node.name} is held: {stopped}.", delay=LOOK_AGAIN_S)
        except Held as held:
            service.record(tx, node, plan, job_id=job.id, held=held.message)
            return Wait(held.delay, held.message)
        if permit is None:
            permit = permit_of(job) or None  # of the drain that went before
            service.record(tx, node, plan, job_id=job.id, permit=permit)
            endings.to_triage(tx, node, instruction(plan, reason), actor=actor, reason=reason, permit=permit)
            return Done()
        service.record(tx, node, plan, job_id=job.id, permit=permit)
        facts = endings.facts_with_permit(nodes_service.facts(tx, node, actor))
        nodes_service.transition(
            tx,
            node.id,
            State.REBOOT,
            actor=actor,
            cause=plan.fault,
            facts=facts,
            reason=reason,
            evidence={"permit": permit, "finding": plan.complaint.finding_id if plan.complaint else None},
        )
        complaint = plan.complaint
        fatal = complaint is not None and complaint.severity is Severity.FATAL
        about = {
            "permit": permit,
            "fault": plan.fault,
            "finding": None if complaint is None else complaint.finding_id,
            "boot_before": node.boot_id,
            "force": fatal,
            "clear": plan.timing is Timing.IMMEDIATE,
            "partial": partial,
            "gpus": list((plan.drain.partial and gpu_indices(node.inventory, plan.devices)) or ()),
        }
        return Go("act", data={**about, "action": plan.action, "devices": list(plan.devices), "tried": []})

    # ------------------------------------------------------------------------------------------------------------------

    def _power_goes(self, tx: Tx, job: JobView, node: Node, plan: Plan) -> StepResult:
        """A leak has a job of its own; what this one prepared is taken back without uncordoning the node."""
        service.start_danger(tx, node.id)
        if plan.verdict is Verdict.ACT:
            return _let_go(tx, job)
        return self._leave_alone(tx, job, node, replace(plan, verdict=Verdict.RECORD))

    def _leave_alone(self, tx: Tx, job: JobView, node: Node, plan: Plan, *, silently: bool = False) -> StepResult:
        """Nothing is granted or nothing is wrong any more: take back what was prepared, and nothing else."""
        if plan.action is not Action.POWER_OFF and not silently:
            service.record(tx, node, plan, job_id=job.id)
        if node.pending_state is not None:
            nodes_service.withdraw_pending(tx, node.id, reason=plan.reasons[-1], actor=service.ACTOR)
        nodes_service.release_cordon(tx, node.id, "remediation", service.ACTOR, reason=plan.reasons[-1])
        return _let_go(tx, job)

    def _pend(self, tx: Tx, node: Node, plan: Plan, deadline: float) -> None:
        reason = plan.reasons[0]
        if node.pending_state is not plan.to and plan.to is not None:
            nodes_service.set_pending(tx, node.id, plan.to, reason=reason, deadline=deadline, actor=service.ACTOR)
            nodes_service.hold_cordon(tx, node.id, "remediation", reason, service.ACTOR)

    def _reserve(self, tx: Tx, job: JobView, node: Node, plan: Plan, running: Running) -> PermitId:
        if (stopped := brake.stopped(tx, node) or brake.flashing(tx, node)) is not None:
            raise Held(f"{plan.action} of {node.name} is held: {stopped}.", delay=LOOK_AGAIN_S)
        reason = "; ".join(plan.reasons)
        workload = unit(tx, running.workload)
        return brake.reserve(tx, node, plan.action, actor=actor_of(job), reason=reason, workload=workload)

    def _can_drain(self, tx: Tx, node: Node) -> bool:
        """Work is asked to leave only where the pool's scheduler can ask it, and its cordon is ours to put."""
        pool = nodes.get_pool(tx, node.pool)
        return (
            pool.cluster in self._world.clusters and pool.cluster != "none" and Capability.CORDON in pool.capabilities
        )

    def _hot_swaps(self, tx: Tx, node: Node) -> bool:
        """Tickets for what is changed while the node serves; whether there is such a thing."""
        found = policy.hot_swaps(service.case_of(tx, node, self._settings), self._settings)
        for one in found:
            endings.hot_swap(tx, node, one)
        return bool(found)

    def _correlate_for(self, tx: Tx, node: Node) -> None:
        """Causes before this node's action, unless that was done since it last complained, and just now.

        In a storm every node comes here, and each would look at all of them.
        """
        complaints = [row["last_at"] for row in health.active(tx, node.id)]
        last = self._world.correlated_at
        fresh = tx.now - last < self._settings.settle_s / 6
        if not (fresh and complaints and max(complaints) <= last):
            self.correlate(tx)

    def _unsettled(self, plan: Plan, now: float) -> float:
        """For how long what decides has still to wait for what else is reported (seconds)."""
        if plan.complaint is None or plan.action is Action.POWER_OFF:
            return 0.0
        return plan.complaint.first_at + self._settings.settle_s - now

    def _ordered(self, job: JobView, node: Node) -> Plan | None:
        if "ordered" not in job.data:
            return None
        ordered = job.data["ordered"]
        why = (f"ordered by {ordered['actor']}: {ordered['reason']}",)
        timing = Timing(ordered["timing"])
        devices = tuple(ordered.get("devices", ()))
        drain = policy.drain_of(node.pool, "", self._settings, gpus_only=bool(devices))
        action = Action(ordered["action"])
        return Plan(Verdict.ACT, action, why, timing, State.REBOOT, devices=devices, drain=drain)


def instruction(plan: Plan, reason: str) -> str:
    """What the ticket of a node that goes to triage says."""
    device = plan.complaint.device if plan.complaint is not None else ""
    if plan.action is Action.RMA:
        return f"{reason}. Return {device or 'the node'} to the vendor: open an RMA case, then replace it and test."
    return f"{reason}. Look at {device or 'the node'}; replace what is broken, then return the node to test."


def _let_go(tx: Tx, job: JobView) -> StepResult:
    """This job is over: its permit, if it has one, is given back. What a person ordered meanwhile goes on with it."""
    if "ordered" not in job.data and store.was_ordered(tx, job.id):
        return Wait(0.0, "a person ordered something while this was decided")
    if permit := permit_of(job):
        brake.release(tx, permit)
    return Done()
