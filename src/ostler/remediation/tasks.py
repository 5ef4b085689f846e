"""The remediation procedure: one per node at a time, from its first finding to its return or to a technician.

    settle ── decide ──┬── (nothing to do, or would act) ── done
                       ├── triage ── done
                       └── act ── await-boot ── verify ── judge ──┬── production ── done
                            └────────┴────────────┴─────────────┴── triage ── done

`decide` is asked again and again while the node waits (for its workload, for the brake): each time from what is known
then, so a decision that went stale is never replayed. Registered by `app.py`; started by `service.start`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ostler.adapters.bmc.port import Bmc, ResetKind
from ostler.brake import service as brake
from ostler.brake.model import Held
from ostler.core.actor import Actor
from ostler.core.errors import Permanent
from ostler.core.ids import PermitId
from ostler.core.steps import Done, Go, StepResult, Wait
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.faults.model import Action, Severity
from ostler.health import orders
from ostler.health import store as health
from ostler.health.model import HealthSettings, split_check
from ostler.jobs.procedure import JobView, Procedure
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, State, Timing
from ostler.remediation import endings, policy, service
from ostler.remediation.model import Plan, RemediationSettings, Verdict
from ostler.wire.agent import Verdict as OrderVerdict

LOOK_AGAIN_S = 30.0
"""How often a waiting step looks by itself (domain seconds); most wake-ups come sooner."""

FABRIC_MANAGER = "nvidia-fabricmanager"
"""The service whose restart recovers a solo XID 45 (NVIDIA's WORKFLOW_XID_45)."""

BY_ORDER = frozenset({Action.RESET_GPU, Action.RESTART_SERVICE})
"""Actions that the node's agent carries out; the others go through the BMC."""


class Remediation:
    """The steps, with the ports they touch."""

    def __init__(
        self,
        db: Database,
        open_bmc: Callable[[Node], Bmc],
        settings: RemediationSettings,
        health_settings: HealthSettings,
    ) -> None:
        self._db = db
        self._open_bmc = open_bmc
        self._settings = settings
        self._health = health_settings
        self._correlated_at = float("-inf")
        """Domain time of the last correlation of this process; only ever saves work."""

    def procedure(self) -> Procedure:
        return Procedure(
            service.PROCEDURE,
            service.VERSION,
            service.FIRST,
            {
                "settle": self.settle,
                "decide": self.decide,
                "act": self.act,
                "await-boot": self.await_boot,
                "verify": self.verify,
                "judge": self.judge,
                "give-up": self.give_up,
            },
        )

    def sweep(self) -> None:
        """A schedule: nodes that need looking after and have nobody get it, whatever nudge was lost."""
        self._db.write(self._correlate)
        while self._db.write(service.clear_outlived):
            pass
        if due := self._db.read(lambda tx: service.undecided(tx, self._settings)):
            self._db.write(lambda tx: [service.start(tx, node_id) for node_id in due])

    def _correlate(self, tx: Tx) -> None:
        service.correlate(tx, self._health)
        tx.after_commit(lambda: setattr(self, "_correlated_at", tx.now))

    def _correlate_for(self, tx: Tx, node: Node) -> None:
        """Causes before this node's action, unless that was done since it last complained, and just now.

        In a storm every node comes here, and each would look at all of them.
        """
        complaints = [row["last_at"] for row in health.active(tx, node.id)]
        fresh = tx.now - self._correlated_at < self._settings.settle_s / 6
        if not (fresh and complaints and max(complaints) <= self._correlated_at):
            self._correlate(tx)

    def _unsettled(self, plan: Plan, now: float) -> float:
        """For how long what decides has still to wait for what else is reported (seconds)."""
        if plan.complaint is None:
            return 0.0
        return plan.complaint.first_at + self._settings.settle_s - now

    # Deciding ---------------------------------------------------------------------------------------------------------

    def settle(self, job: JobView) -> StepResult:
        """Cordon at once what is certainly lost, then wait for what else is reported."""
        node = self._node(job)
        case = self._db.read(lambda tx: service.case_of(tx, node, self._settings))
        left = self._unsettled(policy.decide(case, self._settings), job.now)
        if left <= 0 or "ordered" in job.data:
            return Go("decide")
        fatal = policy.cordon_now(case)

        def cordon(tx: Tx) -> None:
            if fatal is not None:
                nodes_service.hold_cordon(tx, node.id, "remediation", fatal.fault, service.ACTOR)

        return Wait(left, "settling: what else is reported?", write=cordon)

    def decide(self, job: JobView) -> StepResult:
        """Everything that decides is read and written in the one transaction that journals this step."""
        return Done(write=lambda tx: self._decide(tx, job))

    def _decide(self, tx: Tx, job: JobView) -> StepResult:
        node = nodes.get(tx, job.subject)
        if node.state is not State.PRODUCTION:
            return Done()
        self._correlate_for(tx, node)
        plan = self._ordered(job) or policy.decide(service.case_of(tx, node, self._settings), self._settings)
        if plan.verdict is not Verdict.ACT:
            return self._leave_alone(tx, job, node, plan)
        taken_back = job.data.get("pending") == _pending(plan) and node.pending_state is None
        if taken_back or service.withdrawn(tx, plan):
            why = "a person took this decision back; it is not made again for this finding"
            return self._leave_alone(tx, job, node, replace(plan, verdict=Verdict.RECORD, reasons=(*plan.reasons, why)))
        if (left := self._unsettled(plan, tx.now)) > 0:
            return Wait(left, "settling: what else is reported?")
        deadline = node.pending_deadline or tx.now + self._settings.pending_deadline_s
        if plan.timing is Timing.PENDING and node.busy and tx.now < deadline:
            return self._pend(tx, job, node, plan, deadline)
        return self._begin(tx, job, node, plan)

    def _leave_alone(self, tx: Tx, job: JobView, node: Node, plan: Plan) -> StepResult:
        """Nothing is granted or nothing is wrong any more: take back what was prepared."""
        service.record(tx, node, plan, job_id=job.id)
        if node.pending_state is not None:
            nodes_service.withdraw_pending(tx, node.id, reason=plan.reasons[-1], actor=service.ACTOR)
        nodes_service.release_cordon(tx, node.id, "remediation", service.ACTOR, reason=plan.reasons[-1])
        return Done()

    def _pend(self, tx: Tx, job: JobView, node: Node, plan: Plan, deadline: float) -> StepResult:
        reason = plan.reasons[0]
        if node.pending_state is not plan.to and plan.to is not None:
            nodes_service.set_pending(tx, node.id, plan.to, reason=reason, deadline=deadline, actor=service.ACTOR)
            nodes_service.hold_cordon(tx, node.id, "remediation", reason, service.ACTOR)
        why = f"{plan.action} waits for the workload to end"
        return Wait(min(LOOK_AGAIN_S, deadline - tx.now), why, data={"pending": _pending(plan)})

    def _begin(self, tx: Tx, job: JobView, node: Node, plan: Plan) -> StepResult:
        """Reserve the right, move the node, and go on to the deed."""
        actor, reason = self._actor(job), "; ".join(plan.reasons)
        permit: PermitId | None = None
        try:
            if plan.to is State.REBOOT:
                permit = brake.reserve(tx, node, plan.action, actor=actor, reason=reason)
            elif (stopped := brake.stopped(tx, node)) is not None:
                raise Held(f"{plan.action} of {node.name} is held: {stopped}.", delay=LOOK_AGAIN_S)
        except Held as held:
            service.record(tx, node, plan, job_id=job.id, held=held.message)
            return Wait(held.delay, held.message)
        service.record(tx, node, plan, job_id=job.id, permit=permit)
        if permit is None:
            endings.to_triage(tx, node, self._instruction(plan, reason), actor=actor, reason=reason, permit=None)
            return Done()
        facts = endings.facts_with_permit(nodes_service.facts(tx, node, actor))
        nodes_service.transition(
            tx,
            node.id,
            State.REBOOT,
            actor=actor,
            cause=plan.complaint.fault if plan.complaint else "ordered",
            facts=facts,
            reason=reason,
            evidence={"permit": permit, "finding": plan.complaint.finding_id if plan.complaint else None},
        )
        fatal = plan.complaint is not None and plan.complaint.severity is Severity.FATAL
        fault = plan.complaint.fault if plan.complaint is not None else "ordered"
        why = {"permit": permit, "fault": fault, "boot_before": node.boot_id, "force": fatal}
        return Go("act", data={**why, "action": plan.action, "devices": list(plan.devices)})

    # Acting -----------------------------------------------------------------------------------------------------------

    def act(self, job: JobView) -> StepResult:
        """The deed. Safe to repeat: a node that has booted since is left alone."""
        node = self._node(job)
        if node.state is not State.REBOOT:
            return Done(write=lambda tx: brake.release(tx, self._permit(job)))
        action = Action(job.data["action"])
        if action in BY_ORDER:
            asked = _orders(action, job.data["devices"])
            return Go("judge", data={"acted_at": job.now}, write=lambda tx: self._give(tx, job, asked))
        if node.boot_id != job.data["boot_before"]:
            return Go("await-boot", data={"acted_at": job.now})
        if node.bmc_address is None:
            return Go("give-up", data={"why": "the node has no BMC address, so nothing can power it"})
        kind = ResetKind.FORCE_RESTART if job.data.get("force") else ResetKind.GRACEFUL_RESTART
        if action is Action.POWER_CYCLE:
            kind = ResetKind.POWER_CYCLE
        try:
            with self._open_bmc(node) as bmc:
                bmc.reset(kind, permit=self._permit(job))
        except Permanent as error:
            return Go("give-up", data={"why": f"the BMC refused {kind}: {error}"})
        return Go("await-boot", data={"acted_at": job.now})

    def await_boot(self, job: JobView) -> StepResult:
        """The node is back when its agent reports from another boot than before."""
        node = self._node(job)
        if node.state is not State.REBOOT:
            return Done(write=lambda tx: brake.release(tx, self._permit(job)))
        if node.boot_id != job.data["boot_before"]:
            return Go("verify")
        if job.now > job.data["acted_at"] + self._settings.boot_timeout_s:
            minutes = self._settings.boot_timeout_s / 60
            return Go("give-up", data={"why": f"the node did not come back within {minutes:g} min of its reboot"})
        return Wait(LOOK_AGAIN_S, "waiting for the node to boot")

    def verify(self, job: JobView) -> StepResult:
        """Ask the agent for the verification checks."""
        asked: list[tuple[str, dict[str, Any]]] = [
            ("run-check", {"check": name, **arguments})
            for name, arguments in map(split_check, self._settings.verification_checks)
        ]
        return Go("judge", data={"verifying_since": job.now}, write=lambda tx: self._give(tx, job, asked))

    def judge(self, job: JobView) -> StepResult:
        """All answers in: back to production, on to the checks after a deed by order, or to triage."""
        results = self._db.read(lambda tx: [orders.result(tx, one) for one in job.data["orders"]])
        if any(one is None for one in results):
            return Wait(LOOK_AGAIN_S, "waiting for the agent's results")
        bad = [one for one in results if one is not None and one.verdict is not OrderVerdict.PASSED]
        if "verifying_since" not in job.data:
            if bad:
                return Go("give-up", data={"why": f"{job.data['action']} on the node: {bad[0].message}"})
            return Go("verify")
        again = self._db.read(lambda tx: self._worse_since(tx, job))
        if bad or again:
            why = again or f"verification {bad[0].verdict}: {bad[0].message}"
            return Go("give-up", data={"why": why, "failed_verification": True})
        measured = {str(n): dict(one.measured) for n, one in enumerate(results) if one is not None}

        def write(tx: Tx) -> StepResult | None:
            if (worse := self._worse_since(tx, job)) is not None:  # said while the checks ran out
                return Go("give-up", data={"why": worse, "failed_verification": True})
            endings.to_production(tx, job, measured, actor=self._actor(job))
            return None

        return Done(write=write)

    def give_up(self, job: JobView) -> StepResult:
        """In place it did not work: out of production, with a ticket that says why."""
        why = job.data["why"]

        def write(tx: Tx) -> None:
            node = nodes.get(tx, job.subject)
            permit = self._permit(job)
            if node.state is not State.REBOOT:
                brake.release(tx, permit)
                return
            if job.data.get("failed_verification"):
                endings.record_verification(tx, node, job, passed=False, measured={}, message=why)
            fault = job.data["fault"]
            tried = "did not help" if "acted_at" in job.data else "could not be done"
            instruction = f"{fault}: {job.data['action']} {tried} ({why}). Diagnose; replace what is broken."
            endings.to_triage(tx, node, instruction, actor=self._actor(job), reason=why, permit=permit)

        return Done(write=write)

    # ------------------------------------------------------------------------------------------------------------------

    def _node(self, job: JobView) -> Node:
        return self._db.read(lambda tx: nodes.get(tx, job.subject))

    def _permit(self, job: JobView) -> PermitId:
        return PermitId(job.data["permit"])

    def _actor(self, job: JobView) -> Actor:
        return Actor(job.data["ordered"]["actor"]) if "ordered" in job.data else service.ACTOR

    def _ordered(self, job: JobView) -> Plan | None:
        if "ordered" not in job.data:
            return None
        ordered = job.data["ordered"]
        why = (f"ordered by {ordered['actor']}: {ordered['reason']}",)
        return Plan(Verdict.ACT, Action(ordered["action"]), why, Timing(ordered["timing"]), State.REBOOT)

    def _instruction(self, plan: Plan, reason: str) -> str:
        device = plan.complaint.device if plan.complaint is not None else ""
        return f"{reason}. Look at {device or 'the node'}; replace what is broken, then return the node to test."

    def _give(self, tx: Tx, job: JobView, asked: list[tuple[str, dict[str, Any]]]) -> StepResult:
        """Give the agent its orders in the transaction that journals the step, so that each is given once."""
        deadline = tx.now + self._settings.verification_deadline_s
        given = [
            orders.give(tx, job.subject, verb, arguments, deadline=deadline, wake_key=service.key(job.subject))
            for verb, arguments in asked
        ]
        data = {"orders": given}
        if job.step == "act":
            return Go("judge", data={**data, "acted_at": tx.now})
        return Go("judge", data={**data, "verifying_since": tx.now})

    def _worse_since(self, tx: Tx, job: JobView) -> str | None:
        """What was found on the node after the deed, if it is serious: after a boot, what was said in the new one."""
        boot_id = nodes.get(tx, job.subject).boot_id
        since = job.data["acted_at"]
        if boot_id is not None and boot_id != job.data["boot_before"]:
            booted = health.session(tx, job.subject, boot_id)
            since = since if booted is None else booted["first_seen"]
        for row in health.active(tx, job.subject):
            serious = row["severity"] in (Severity.ERROR, Severity.FATAL)
            if serious and row["incident_id"] is None and row["last_at"] >= since:
                return f"{row['fault']} again after the {job.data['action']}: {row['message'][:160]}"
        return None


def _pending(plan: Plan) -> str:
    """What a job remembers of the decision it waits with: if it is not pending any more, somebody took it back."""
    return f"{plan.action}:{plan.to}"


def _orders(action: Action, devices: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """What the agent is asked for: a reset of each GPU, or the service that a solo 45 is about."""
    if action is Action.RESET_GPU:
        return [(action.value, {"device": device}) for device in devices]
    return [(action.value, {"service": FABRIC_MANAGER})]
