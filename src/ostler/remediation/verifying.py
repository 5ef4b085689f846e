"""Steps `verify`, `judge` and `give-up`: a node returns only through checks that passed. For `tasks.Remediation`."""

from __future__ import annotations

from typing import Any

from ostler.brake import service as brake
from ostler.core.steps import Done, Go, StepResult, Wait
from ostler.db.tx import Tx
from ostler.faults.model import Action, Severity
from ostler.health import orders
from ostler.health import store as health
from ostler.health.model import Confidence, split_check
from ostler.jobs.procedure import JobView
from ostler.nodes import store as nodes
from ostler.nodes.model import State, Timing
from ostler.remediation import endings, service
from ostler.remediation.acting import give, over
from ostler.remediation.model import Plan, Verdict
from ostler.remediation.world import LOOK_AGAIN_S, World, actor_of, permit_of
from ostler.wire.agent import Verdict as OrderVerdict


class Verifying:
    """The steps after the deed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._settings = world.settings

    def verify(self, job: JobView) -> StepResult:
        """Ask the agent for the verification checks."""
        asked: list[tuple[str, dict[str, Any]]] = [
            ("run-check", {"check": name, **arguments})
            for name, arguments in map(split_check, self._settings.verification_checks)
        ]

        def write(tx: Tx) -> StepResult:
            given = give(tx, job, asked, self._settings.verification_deadline_s)
            return Go("judge", data={"orders": given, "verifying_since": tx.now})

        return Go("judge", data={"verifying_since": job.now}, write=write)

    def judge(self, job: JobView) -> StepResult:
        """All answers in: back to production, on to the checks after a deed by order, or further up the ladder."""
        if self._world.node(job).state is not State.REBOOT:
            return over(job)
        results = self._world.db.read(lambda tx: [orders.result(tx, one) for one in job.data["orders"]])
        if any(one is None for one in results):
            return Wait(LOOK_AGAIN_S, "waiting for the agent's results")
        bad = [one for one in results if one is not None and one.verdict is not OrderVerdict.PASSED]
        if job.data.get("verifying_since") is None:
            if bad:
                return Go("escalate", data={"why": f"{job.data['action']} on the node: {bad[0].message}"})
            return Go("verify")
        unheard = any(not one.answered for one in bad) and self._world.began > job.data["verifying_since"]
        if unheard and not job.data.get("asked_again"):
            return Go("verify", data={"asked_again": True})  # this server was away: nobody was there to take answers
        again = self._world.db.read(lambda tx: self._worse_since(tx, job))
        if bad or again:
            why = again or f"verification {bad[0].verdict}: {bad[0].message}"
            return Go("give-up", data={"why": why, "failed_verification": True})
        measured = {str(n): dict(one.measured) for n, one in enumerate(results) if one is not None}

        def write(tx: Tx) -> StepResult | None:
            if (worse := self._worse_since(tx, job)) is not None:  # said while the checks ran out
                return Go("give-up", data={"why": worse, "failed_verification": True})
            endings.to_production(tx, job, measured, self._settings, actor=actor_of(job))
            return None

        return Done(write=write)

    def give_up(self, job: JobView) -> StepResult:
        """In place it did not work: out of production, with a ticket that says why."""
        why = job.data["why"]

        def write(tx: Tx) -> None:
            node = nodes.get(tx, job.subject)
            permit = permit_of(job)
            if node.state is not State.REBOOT:
                brake.release(tx, permit)
                return
            if job.data.get("failed_verification"):
                endings.record_verification(tx, node, job, passed=False, measured={}, message=why)
            fault, action = job.data["fault"], job.data["action"]
            means = ", then ".join([*job.data.get("tried", []), action])
            tried = "did not help" if job.data.get("acted_at") else "could not be done"
            if finding_id := job.data.get("finding"):
                about = service.complaint(tx, node, health.get(tx, finding_id), self._settings)
                reasons = (f"{means} {tried}: {why}", "a person looks")
                plan = Plan(Verdict.ACT, Action.TRIAGE, reasons, Timing.IMMEDIATE, State.TRIAGE, about)
                service.record(tx, node, plan, job_id=job.id, permit=permit)
            instruction = f"{fault}: {means} {tried} ({why}). Diagnose; replace what is broken."
            endings.to_triage(tx, node, instruction, actor=actor_of(job), reason=why, permit=permit)

        return Done(write=write)

    def _worse_since(self, tx: Tx, job: JobView) -> str | None:
        """What was found on the node after the deed, if it is serious: after a boot, what was said in the new one."""
        boot_id = nodes.get(tx, job.subject).boot_id
        since = job.data["acted_at"]
        if boot_id is not None and boot_id != job.data["boot_before"]:
            booted = health.session(tx, job.subject, boot_id)
            since = since if booted is None else booted["first_seen"]
        for row in health.active(tx, job.subject):
            # A first look after the boot may be a false alarm; if it lasts, the node comes back here on probation.
            serious = row["severity"] in (Severity.ERROR, Severity.FATAL) and row["confidence"] != Confidence.LOW
            if serious and row["incident_id"] is None and row["last_at"] >= since:
                return f"{row['fault']} again after the {job.data['action']}: {row['message'][:160]}"
        return None
