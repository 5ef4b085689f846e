"""Steps that move power outside of a repair: a leak's power-off, and what a person orders by hand. For `tasks.py`.

danger ── power-off ── watch-off ── done                  (a leak: one job per node, beside its remediation)
hand-power ── done                                        (on, off, cycle, reset-bmc, reprovision)
"""

from __future__ import annotations

from ostler.adapters.bmc.port import BootTarget, PowerState, ResetKind
from ostler.audit import service as audit
from ostler.brake import service as brake
from ostler.brake import store as brake_store
from ostler.brake.model import Held
from ostler.core.errors import Permanent, Refused, Temporary
from ostler.core.ids import PermitId
from ostler.core.steps import Done, Failed, Go, StepResult, Wait
from ostler.db.tx import Tx
from ostler.jobs.procedure import JobView
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, State
from ostler.remediation import by_hand, leaks, policy, service
from ostler.remediation.model import Plan, Verdict
from ostler.remediation.world import LOOK_AGAIN_S, World, actor_of, permit_of

RETRY_S = 5.0
"""How often a leaking node's BMC is asked again while it does not answer, or the host is not off yet."""

PATIENCE_S = 60.0
"""A node that is not off so long after the first try is a page: somebody has to pull the plug."""

EXPIRES_S = 3600.0
"""A person's order that could not be carried out for so long (a pause, a BMC that does not answer) is over: whoever
gave it has gone home, and the node may be in other hands by then."""

KINDS = {"on": ResetKind.ON, "off": ResetKind.OFF, "cycle": ResetKind.POWER_CYCLE}


class Powering:
    """The steps."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._settings = world.settings

    # A leak -----------------------------------------------------------------------------------------------------------

    def danger(self, job: JobView) -> StepResult:
        """Judge the leak in one transaction: the permit, the lock, the way to triage; or the page that says why not."""
        return Done(write=lambda tx: self._danger(tx, job))

    def _danger(self, tx: Tx, job: JobView) -> StepResult:
        node = nodes.locked(tx, job.subject)
        case = service.case_of(tx, node, self._settings)
        leak = policy.leak_of(case, self._settings)
        if leak is None or node.state in leaks.NOT_HERE:
            return Done()
        plan = policy.decide(case, self._settings)
        if plan.verdict is not Verdict.ACT:
            service.record(tx, node, plan, job_id=job.id)
            leaks.page(tx, node, f"coolant leaks, and Ostler may not switch it off ({plan.reasons[-1]}): do it by hand")
            return Done()
        try:
            permit = brake.reserve_danger(tx, node, plan.action, actor=service.ACTOR, reason="; ".join(plan.reasons))
        except Held as held:
            return self._held(tx, job, node, plan, held.message)
        service.record(tx, node, plan, job_id=job.id, permit=permit)
        leaks.lock(tx, node, permit, plan.reasons[0])
        leaks.look(tx, self._settings)
        return Go("power-off", data={"permit": permit, "since": tx.now})

    def _held(self, tx: Tx, job: JobView, node: Node, plan: Plan, why: str) -> StepResult:
        service.record(tx, node, plan, job_id=job.id, held=why)
        leaks.page(tx, node, f"coolant leaks, and it is not switched off because {why}")
        leaks.look(tx, self._settings)
        return Wait(RETRY_S, f"a leak, and power is not moved: {why}")

    def power_off(self, job: JobView) -> StepResult:
        """Power goes. Safe to repeat: off is off."""
        node = self._world.node(job)
        if not node.power_locked:
            return self._end(job)  # a named person has cleared it meanwhile
        if node.bmc_address is None:
            return self._by_hand(job, node, "it has no BMC address")
        try:
            with self._world.open_bmc(node) as bmc:
                bmc.reset(ResetKind.OFF, permit=permit_of(job))
        except Held as held:
            return self._again(job, node, held.message)
        except Temporary as error:
            return self._again(job, node, str(error))
        except Refused:
            return Go("danger")  # the permit is over: judge it again
        except Permanent as error:
            return self._by_hand(job, node, str(error))
        return Go("watch-off")

    def watch_off(self, job: JobView) -> StepResult:
        """Off means that the BMC says so."""
        node = self._world.node(job)
        if not node.power_locked:
            return self._end(job)
        try:
            with self._world.open_bmc(node) as bmc:
                power = bmc.power_state()
        except Temporary as error:
            return self._again(job, node, str(error))
        except Permanent as error:
            return self._by_hand(job, node, str(error))
        if power is PowerState.OFF:
            return self._end(job, "switched off because of a leak")
        if job.now >= float(job.data["since"]) + PATIENCE_S and not job.data.get("repeated"):
            return Go("power-off", data={"repeated": True})
        return self._again(job, node, f"its power is {power}")

    def _again(self, job: JobView, node: Node, why: str) -> StepResult:
        def write(tx: Tx) -> None:
            leaks.page(tx, node, f"coolant leaks, and it is not off yet ({why})")

        late = job.now >= float(job.data["since"]) + PATIENCE_S
        return Wait(RETRY_S, f"a leak, and the node is not off yet: {why}", write=write if late else None)

    def _by_hand(self, job: JobView, node: Node, why: str) -> StepResult:
        def write(tx: Tx) -> None:
            leaks.page(tx, node, f"coolant leaks, and Ostler cannot switch it off ({why}): pull the plug")
            brake.release(tx, permit_of(job))

        return Done(write=write)

    def _end(self, job: JobView, told: str = "") -> StepResult:
        def write(tx: Tx) -> None:
            brake.release(tx, permit_of(job))
            if told:
                audit.record(tx, actor=service.ACTOR, action="node.power.off", subject=job.subject, reason=told)

        return Done(write=write)

    # By a person's order ----------------------------------------------------------------------------------------------

    def hand_power(self, job: JobView) -> StepResult:
        """What a person ordered, within the brake. If its end is not journaled, it is done once more."""
        node = self._world.node(job)
        what = str(job.data["ordered"]["action"])
        if job.now > job.created_at + EXPIRES_S:
            why = f"{what} could not be done within {EXPIRES_S / 60:g} min; order it again if it is still wanted"
            return Failed(why, write=lambda tx: self._ended(tx, job, what, why))
        try:
            permit = self._world.db.write(lambda tx: self._reserve(tx, job, node.id, what))
            with self._world.open_bmc(node) as bmc:
                if what == "reset-bmc":
                    bmc.reset_bmc(permit=permit)
                elif what == by_hand.REPROVISION:
                    bmc.boot_once(BootTarget.PXE, permit=permit)
                    on = bmc.power_state() is PowerState.ON
                    bmc.reset(ResetKind.POWER_CYCLE if on else ResetKind.ON, permit=permit)
                else:
                    bmc.reset(KINDS[what], permit=permit)
        except Held as held:
            return Wait(held.delay, held.message)
        except Permanent as error:
            why = f"{what} could not be done: {error}"
            return Failed(why, write=lambda tx: self._ended(tx, job, what, why))
        return Done(write=lambda tx: self._ended(tx, job, what, "done"))

    def _reserve(self, tx: Tx, job: JobView, node_id: str, what: str) -> PermitId:
        node = nodes.locked(tx, node_id)
        by_hand.refuse_in_service(node, what)  # it may have waited for hours, and the node be back at work
        if (stopped := brake.stopped(tx, node) or brake.flashing(tx, node)) is not None:
            raise Held(f"{what} of {node.name} is held: {stopped}.", delay=LOOK_AGAIN_S)
        present = brake_store.live_of_node(tx, node.id)
        if present is not None and present["action"] != what:
            raise Held(f"{what} of {node.name} waits until its {present['action']} is over.", delay=LOOK_AGAIN_S)
        reason = str(job.data["ordered"]["reason"])
        return brake.reserve(tx, node, what, actor=actor_of(job), reason=reason)

    def _ended(self, tx: Tx, job: JobView, what: str, told: str) -> None:
        present = brake_store.live_of_node(tx, job.subject)
        if present is not None and present["action"] == what:
            brake.release(tx, PermitId(present["id"]))
        node, actor = nodes.get(tx, job.subject), actor_of(job)
        reason = str(job.data["ordered"]["reason"])
        audit.record(tx, actor=actor, action=f"node.power.{what}", subject=node.id, reason=f"{reason}: {told}")
        if what == by_hand.REPROVISION and told == "done" and node.state in (State.TRIAGE, State.DEBUG):
            facts = nodes_service.facts(tx, node, actor)
            nodes_service.transition(
                tx, node.id, State.ONBOARD, actor=actor, cause="reprovision", facts=facts, reason=reason
            )
