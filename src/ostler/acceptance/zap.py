"""Zap as a durable procedure: firmware to the SKU's declared set, one component after the other, in the declared order.

Steps: `plan` → `reserve` → `flash` → `watch` → (`activate`) → `verify` → `plan` …; when the plan is empty, `finish`.

- Versions are read from the BMC before and after; what a task says of itself decides nothing but when to look.
- Before the BMC is told to flash, that is written down. If we die in between, nobody knows whether a flash runs: then
  it is waited for, and only told again when it cannot be running any more.
- A node that left zap meanwhile (overdue, a person) is not touched any more; a flash that runs is watched to its end.
- Nothing here touches a machine without a permit, held from `reserve` until the component is verified or given up.

Started by `driver.py`, collected by `tasks.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ostler.acceptance import policy, service, store
from ostler.acceptance.model import AcceptanceSettings, Activation, FirmwareTarget, OpenBmc, Sku, Update
from ostler.acceptance.seatrial import gone
from ostler.acceptance.service import ACTOR, ZAP
from ostler.adapters.bmc.port import ResetKind, TaskState, UpdateTask
from ostler.brake import service as brake
from ostler.core.errors import NotFound, Permanent, Refused, Temporary, Unreachable
from ostler.core.ids import PermitId
from ostler.core.steps import Done, Go, StepResult, Wait
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.jobs import store as jobs
from ostler.jobs.procedure import JobView, Procedure
from ostler.nodes import store as nodes
from ostler.nodes.model import Capability, Node, Pool, State
from ostler.trends import service as trends
from ostler.trends.model import Verdict

_REFUSALS = 3
"""How often a permit that ended under a step is asked for again."""


def procedure(db: Database, settings: AcceptanceSettings, open_bmc: OpenBmc) -> Procedure:
    """The procedure over these ports."""
    zap = _Zap(db, settings, open_bmc)
    steps = {
        "plan": zap.plan,
        "reserve": zap.reserve,
        "flash": zap.flash,
        "watch": zap.watch,
        "activate": zap.activate,
        "verify": zap.verify,
        "finish": zap.finish,
    }
    return Procedure(ZAP, 1, "plan", {name: zap.guarded(step) for name, step in steps.items()})


class _Zap:
    def __init__(self, db: Database, settings: AcceptanceSettings, open_bmc: OpenBmc) -> None:
        self._db = db
        self._settings = settings
        self._open_bmc = open_bmc

    def guarded(self, step: Callable[[JobView], StepResult]) -> Callable[[JobView], StepResult]:
        """A permanent error of a BMC is a failed zap with a reason, not a job that ends without telling anybody."""

        def run(job: JobView) -> StepResult:
            try:
                return step(job)
            except Permanent as error:
                return self._fail(job, str(error))

        return run

    def plan(self, job: JobView) -> StepResult:
        """What is not at its version? Nothing: finish. What cannot be helped: fail. Else the next component."""
        node, sku, pool = self._read(job)
        if gone(node, State.ZAP, job):
            return self._left(job, node)
        if sku is None or not sku.firmware:
            return Go("finish", {"versions": {}})
        versions = self._versions(node)
        plan = policy.firmware_plan(sku, versions, node.service)
        if plan.missing:
            return self._fail(job, f"the BMC lists no firmware component {', '.join(plan.missing)}")
        if plan.impossible:
            told = ", ".join(_change(update) for update in plan.impossible)
            return self._fail(job, f"no image is declared for {told}")
        if not plan.updates:
            return Go("finish", {"versions": versions, "left_alone": list(plan.left_alone)})
        again = [update for update in plan.updates if update.target.component in job.data.get("done", [])]
        if again:
            return self._fail(job, f"{_change(again[0])}: it was verified and did not stay")
        if (lack := _not_granted(pool, plan.updates)) is not None:
            return Wait(
                self._settings.observe_s, lack, {"versions": versions}, lambda tx: service.hold(tx, node.id, ZAP, lack)
            )
        first = plan.updates[0]
        data = {
            "component": first.target.component,
            "from": first.present,
            "to": first.target.version,
            "versions": versions,
            "begun": job.now,
            "called": None,
            "task": None,
            "message": "",
        }
        return Go("reserve", data, write=lambda tx: service.release(tx, node.id, ZAP))

    def reserve(self, job: JobView) -> StepResult:
        """A permit from the brake, for as long as this component may take."""
        seconds = self._settings.flash_limit_s + self._settings.flash_unknown_s + 2 * self._settings.settle_s + 3600.0

        def write(tx: Tx) -> StepResult:
            node = nodes.get(tx, job.subject)
            if gone(node, State.ZAP, job):
                return Done({"ended": f"the node is in {node.state}"})
            permit = brake.reserve(tx, node, "firmware", actor=ACTOR, reason=f"zap: {_told(job)}", seconds=seconds)
            return Go("flash", {"permit": permit})

        return Go("flash", write=write)

    def flash(self, job: JobView) -> StepResult:
        """Tell the BMC to flash, unless it is at the version or a flash may be under way."""
        node, sku, _ = self._read(job)
        if gone(node, State.ZAP, job) and job.data.get("called") is None:
            return self._left(job, node)
        target = _target(sku, job)
        if policy.same_version(self._versions(node).get(target.component, ""), target.version):
            return Go("verify", {"verify_until": job.now})
        if (called := job.data.get("called")) is not None:
            left = float(called) + self._settings.flash_unknown_s - job.now
            if left > 0:
                why = f"{_told(job)}: a flash may be under way that nobody knows the task of"
                return Wait(min(left, self._settings.task_poll_s), why)
            if gone(node, State.ZAP, job):
                return self._left(job, node)
        self._note_call(job, job.now)
        try:
            with self._open_bmc(node) as bmc:
                task = bmc.update_firmware(target.component, target.image, permit=_permit(job))
        except Unreachable:
            raise  # it may have heard us
        except Refused as refusal:
            self._note_call(job, None)
            return self._ask_again(job, refusal)
        except (Temporary, Permanent):
            self._note_call(job, None)
            raise
        return Go("watch", {"task": task, "flash_started": job.now})

    def watch(self, job: JobView) -> StepResult:
        """Look at the task until it is over. Nothing is powered while it runs, whatever state the node is in by now."""
        node, sku, _ = self._read(job)
        target = _target(sku, job)
        ran = job.now - float(job.data["flash_started"])
        try:
            with self._open_bmc(node) as bmc:
                task = bmc.task(str(job.data["task"]))
        except NotFound:
            task = UpdateTask(str(job.data["task"]), TaskState.DONE, "the BMC no longer knows the task", None)
        except Temporary as error:
            if ran > self._settings.flash_limit_s:
                return self._fail(job, f"{_told(job)}: the BMC has not answered for long while it flashed: {error}")
            raise
        message = " ".join(task.message.split())[:500]
        if task.state is TaskState.RUNNING:
            if ran > self._settings.flash_limit_s:
                return self._fail(job, f"{_told(job)}: stuck for {ran / 3600:.1f} h at '{message}'; it may still run")
            percent = "" if task.percent is None else f" ({task.percent} %)"
            return Wait(self._settings.task_poll_s, f"{_told(job)}: {message}{percent}", {"message": message})
        if task.state is TaskState.FAILED:
            return self._fail(job, f"{_told(job)}: the update failed: {message}", message=message)
        data = {"message": message, "verify_until": job.now + self._settings.settle_s}
        if target.activation is Activation.POWER_CYCLE and not gone(node, State.ZAP, job):
            return Go("activate", data)
        return Go("verify", data)

    def activate(self, job: JobView) -> StepResult:
        """Power cycle the host, so that the new image is the running one; then let it settle."""
        node, _, _ = self._read(job)
        if gone(node, State.ZAP, job):
            return Go("verify", {"verify_until": job.now})
        try:
            with self._open_bmc(node) as bmc:
                bmc.reset(ResetKind.POWER_CYCLE, permit=_permit(job))
        except Refused as refusal:
            return self._ask_again(job, refusal)
        until = job.now + 2 * self._settings.settle_s
        return Go("verify", {"verify_from": job.now + self._settings.settle_s, "verify_until": until})

    def verify(self, job: JobView) -> StepResult:
        """The version as the BMC's inventory has it now, and nothing else, says whether the component is done."""
        node, sku, _ = self._read(job)
        target = _target(sku, job)
        rest = float(job.data.get("verify_from") or 0.0) - job.now
        if rest > 0:
            return Wait(rest, f"{_told(job)}: settling after the power cycle")
        version = self._versions(node).get(target.component, "nothing")
        if not policy.same_version(version, target.version):
            if job.now < float(job.data["verify_until"]):
                return Wait(self._settings.task_poll_s, f"{_told(job)}: flashed, the BMC still reports {version}")
            said = job.data.get("message") or "nothing"
            return self._fail(job, f"{_told(job)}: still at {version} after the flash; the task said '{said}'")

        def write(tx: Tx) -> StepResult | None:
            now = nodes.get(tx, job.subject)
            self._record(tx, now, job, Verdict.PASSED, f"{_told(job)}: verified", found=version)
            brake.release(tx, _permit(job))
            return Done({"ended": f"the node is in {now.state}"}) if gone(now, State.ZAP, job) else None

        done = [*job.data.get("done", []), target.component]
        return Go("plan", {"done": done, "permit": None, "verify_from": None, "refusals": 0}, write=write)

    def finish(self, job: JobView) -> StepResult:
        """Every declared component reports its declared version: on to test."""

        def write(tx: Tx) -> None:
            node = nodes.get(tx, job.subject)
            if gone(node, State.ZAP, job):
                return
            done = job.data.get("done", [])
            message = f"{len(done)} updated ({', '.join(done)})" if done else "nothing to update"
            measured = {
                "firmware": job.data["versions"],
                "updated": done,
                "left_alone": job.data.get("left_alone", []),
                "seconds": tx.now - node.state_since,
            }
            service.conclude(tx, node, ZAP, Verdict.PASSED, measured=measured, message=message)
            service.advance(
                tx, node, State.TEST, cause="zap-passed", reason=message, evidence=measured, firmware_current=True
            )

        return Done(write=write)

    # ------------------------------------------------------------------------------------------------------------------

    def _fail(self, job: JobView, why: str, *, message: str = "") -> StepResult:
        """Zap has failed at this step: `zap-fail`, a ticket, the permit back. No power, no second try by ourselves."""

        def write(tx: Tx) -> None:
            node = nodes.get(tx, job.subject)
            if job.data.get("component"):
                self._record(tx, node, job, Verdict.FAILED, why, found=None)
            if job.data.get("permit"):
                brake.release(tx, _permit(job))
            if gone(node, State.ZAP, job):
                return
            evidence = {
                "step": job.step,
                "component": job.data.get("component"),
                "from": job.data.get("from"),
                "to": job.data.get("to"),
                "task": job.data.get("task"),
                "task_message": message or job.data.get("message", ""),
                "done": job.data.get("done", []),
            }
            service.conclude(tx, node, ZAP, Verdict.FAILED, measured=evidence, message=why)
            service.divert(
                tx,
                node,
                State.ZAP_FAIL,
                cause="zap-failed",
                reason=f"at '{job.step}': {why}",
                instruction=f"firmware: {why}. Analyse it, then 'ostler nodes transition' it to zap or triage.",
                evidence=evidence,
            )

        return Done({"failed": why}, write=write)

    def _left(self, job: JobView, node: Node) -> StepResult:
        def write(tx: Tx) -> None:
            if job.data.get("permit"):
                brake.release(tx, _permit(job))

        return Done({"ended": f"the node is in {node.state}"}, write=write)

    def _ask_again(self, job: JobView, refusal: Refused) -> StepResult:
        """The permit ended, or was taken back: ask for another, a few times."""
        refusals = int(job.data.get("refusals", 0)) + 1
        if refusals > _REFUSALS or not job.data.get("permit"):
            return self._fail(job, str(refusal))
        if job.step == "flash":
            return Go("reserve", {"refusals": refusals})
        return Wait(self._settings.task_poll_s, str(refusal), write=lambda tx: self._renew(tx, job, refusals))

    def _renew(self, tx: Tx, job: JobView, refusals: int) -> StepResult:
        node = nodes.get(tx, job.subject)
        permit = brake.reserve(tx, node, "firmware", actor=ACTOR, reason=f"zap: {_told(job)}")
        return Wait(self._settings.task_poll_s, "the permit was renewed", {"permit": permit, "refusals": refusals})

    def _record(self, tx: Tx, node: Node, job: JobView, verdict: Verdict, why: str, *, found: str | None) -> None:
        measured: dict[str, Any] = {name: job.data.get(name) for name in ("from", "to", "task", "message")}
        trends.record(
            tx,
            node,
            service.firmware_outcome(str(job.data["component"])),
            verdict,
            measured={**measured, "found": found, "seconds": tx.now - float(job.data["begun"])},
            message=why,
            started_at=float(job.data["begun"]),
            finished_at=tx.now,
            firmware=True,
        )

    def _note_call(self, job: JobView, at: float | None) -> None:
        self._db.write(lambda tx: jobs.wake(tx, job_id=job.id, data={"called": at}))

    def _read(self, job: JobView) -> tuple[Node, Sku | None, Pool]:
        def read(tx: Tx) -> tuple[Node, Sku | None, Pool]:
            node = nodes.get(tx, job.subject)
            return node, store.find_sku(tx, node.sku), nodes.get_pool(tx, node.pool)

        return self._db.read(read)

    def _versions(self, node: Node) -> dict[str, str]:
        if node.bmc_address is None:
            raise NotFound(f"{node.name} has no BMC address in the books, so its firmware cannot be read.")
        with self._open_bmc(node) as bmc:
            return {item.component: item.version for item in bmc.firmware()}


def _target(sku: Sku | None, job: JobView) -> FirmwareTarget:
    """The target this job works on; the SKU may have been changed under it."""
    for target in sku.firmware if sku is not None else ():
        if target.component == job.data["component"] and target.version == job.data["to"]:
            return target
    raise Refused(f"The SKU no longer declares {job.data['component']} {job.data['to']}; run zap again.")


def _permit(job: JobView) -> PermitId:
    return PermitId(str(job.data.get("permit") or ""))


def _told(job: JobView) -> str:
    return f"{job.data['component']} {job.data['from']} → {job.data['to']}"


def _change(update: Update) -> str:
    return f"{update.target.component} {update.present} → {update.target.version}"


def _not_granted(pool: Pool, updates: tuple[Update, ...]) -> str | None:
    """What the pool does not let Ostler do, with what it would do."""
    needed = {Capability.FIRMWARE}
    if any(update.target.activation is Activation.POWER_CYCLE for update in updates):
        needed.add(Capability.POWER)
    if not (lacking := sorted(needed - pool.capabilities)):
        return None
    would = "; ".join(_change(update) for update in updates)
    return f"would update {would}, but the pool {pool.name} does not grant {' and '.join(lacking)}"
