"""Test as a durable procedure: checks in rounds over a day (profile `full`) or an hour (profile `repair`).

Steps: `begin` → (`order` → `answer` [→ `pause`])* → `rest` → `judge`. The checks run on the node, by orders to its
agent; here it is only decided which is next and what the answers mean. A check that could not run is tried again and
never counts as passed. Started by `driver.py`, collected by `tasks.py`.
"""

from __future__ import annotations

from typing import Any

from ostler.acceptance import policy, service, store
from ostler.acceptance.model import AcceptanceSettings, CheckRun, Profile
from ostler.acceptance.seatrial import gone
from ostler.acceptance.service import TEST, job_key
from ostler.core.steps import Done, Go, StepResult, Wait
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.health import orders
from ostler.jobs.procedure import JobView, Procedure
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, State
from ostler.trends import service as trends
from ostler.trends.model import Verdict
from ostler.wire.agent import Verdict as Answer

VERB = "run-check"

_TO_BE_SURE = 60.0
"""Domain seconds after an order's deadline at which the job looks again, should no answer have woken it."""


def procedure(db: Database, settings: AcceptanceSettings) -> Procedure:
    """The procedure over these ports."""
    test = _BurnIn(db, settings)
    return Procedure(
        TEST,
        1,
        "begin",
        {
            "begin": test.begin,
            "order": test.order,
            "answer": test.answer,
            "pause": test.pause,
            "rest": test.rest,
            "judge": test.judge,
        },
    )


class _BurnIn:
    def __init__(self, db: Database, settings: AcceptanceSettings) -> None:
        self._db = db
        self._settings = settings

    def begin(self, job: JobView) -> StepResult:
        """Which profile, from where the node came."""

        def read(tx: Tx) -> Profile:
            came = store.last_transition(tx, job.subject)
            start = None if came is None or came["from_state"] is None else State(came["from_state"])
            return policy.profile_of(start, {} if came is None else came["evidence"])

        profile = self._db.read(read)
        return Go("order", {"profile": profile.value, "begun": job.now, "next": 0, "passed": {}, "retries": 0})

    def order(self, job: JobView) -> StepResult:
        """Give the next check to the agent when its time has come."""
        runs = self._runs(job)
        number = int(job.data["next"])
        if number >= len(runs):
            return Go("rest")
        run = runs[number]
        wait = float(job.data["begun"]) + run.due - job.now
        if wait > 0:
            return Wait(wait, f"round {run.round} begins in {wait / 60:.0f} min")

        def give(tx: Tx) -> StepResult | None:
            node = nodes.get(tx, job.subject)
            if gone(node, State.TEST, job):
                return Done({"ended": f"the node is in {node.state}"})
            deadline = tx.now + self._settings.check_deadline_s
            arguments = {"check": run.check, **self._arguments(tx, node, run)}
            given = orders.give(tx, node.id, VERB, arguments, deadline=deadline, wake_key=job_key(node.id))
            return Go("answer", {"order": given, "deadline": deadline})

        return Go("answer", write=give)

    def answer(self, job: JobView) -> StepResult:
        """Wait for the check's verdict and act on it."""
        run = self._runs(job)[int(job.data["next"])]
        node, outcome = self._db.read(
            lambda tx: (nodes.get(tx, job.subject), orders.result(tx, str(job.data["order"])))
        )
        if gone(node, State.TEST, job):
            return Done({"ended": f"the node is in {node.state}"})
        if outcome is None:
            left = max(float(job.data["deadline"]) - job.now, 0.0)
            return Wait(left + _TO_BE_SURE, f"{run.check} runs (round {run.round})")
        refused = outcome.verdict is Answer.REFUSED  # the agent does not have the verb: asking again is no use
        verdict = Verdict.INCONCLUSIVE if refused else Verdict(outcome.verdict.value)

        def keep(tx: Tx) -> None:
            trends.record(
                tx,
                nodes.get(tx, job.subject),
                run.check,
                verdict,
                measured={**outcome.measured, "round": run.round, "profile": job.data["profile"]},
                message=outcome.message,
                started_at=outcome.given_at,
                finished_at=outcome.finished_at,
            )

        if verdict is Verdict.PASSED:
            passed = {**job.data["passed"], run.check: int(job.data["passed"].get(run.check, 0)) + 1}
            return Go("order", {"next": int(job.data["next"]) + 1, "passed": passed, "retries": 0}, write=keep)
        told = {"verdict": verdict.value, "check": run.check, "message": outcome.message or f"{run.check} {verdict}"}
        if verdict is Verdict.INCONCLUSIVE and not refused and job.data["retries"] < self._settings.test_retries:
            return Go("pause", {"retries": int(job.data["retries"]) + 1}, write=keep)
        return Go("judge", {"end": told}, write=keep)

    def pause(self, job: JobView) -> StepResult:
        """A check could not run; wait a moment before it is tried again."""
        until = float(job.data.get("pause_until") or job.now + self._settings.retry_s)
        if job.now < until:
            why = f"the last check was inconclusive; try {job.data['retries']} of {self._settings.test_retries} follows"
            return Wait(until - job.now, why, {"pause_until": until})
        return Go("order", {"pause_until": None})

    def rest(self, job: JobView) -> StepResult:
        """Every check has passed; the time is not over yet."""
        plan = policy.plan_burn_in(Profile(job.data["profile"]), self._settings)
        left = float(job.data["begun"]) + plan.seconds - job.now
        if left > 0:
            return Wait(left, f"every check passed; {left / 3600:.1f} h of test are left")
        return Go("judge")

    def judge(self, job: JobView) -> StepResult:
        """Into production, or to triage with a ticket."""

        def write(tx: Tx) -> None:
            node = nodes.get(tx, job.subject)
            if gone(node, State.TEST, job):
                return
            end: dict[str, Any] = job.data.get("end", {"verdict": Verdict.PASSED.value})
            verdict = Verdict(end["verdict"])
            if verdict is Verdict.PASSED and not self._complete(job):
                verdict, end = Verdict.INCONCLUSIVE, {"message": "not every check of the plan has passed"}
            measured = {
                "profile": job.data["profile"],
                "seconds": job.now - float(job.data["begun"]),
                "passed": job.data["passed"],
                "check": end.get("check"),
            }
            message = str(end.get("message", "every check of every round passed"))
            service.conclude(tx, node, TEST, verdict, measured=measured, message=message)
            if verdict is Verdict.PASSED:
                service.advance(tx, node, State.PRODUCTION, cause="test-passed", reason=message, evidence=measured)
                return
            found = "did not pass" if verdict is Verdict.FAILED else "could not be run"
            service.divert(
                tx,
                node,
                State.TRIAGE,
                cause=f"test-{verdict}",
                reason=f"{end.get('check', 'the plan')}: {message}",
                instruction=f"the check '{end.get('check', 'plan')}' {found}: {message}. Diagnose and repair it.",
                evidence=measured,
            )

        return Done(write=write)

    def _complete(self, job: JobView) -> bool:
        """Whether each check passed as often as the plan has it: a test that ran on less never passes."""
        wanted: dict[str, int] = {}
        for run in self._runs(job):
            wanted[run.check] = wanted.get(run.check, 0) + 1
        return bool(wanted) and all(int(job.data["passed"].get(check, 0)) >= times for check, times in wanted.items())

    def _runs(self, job: JobView) -> list[CheckRun]:
        return list(policy.plan_burn_in(Profile(job.data["profile"]), self._settings).runs)

    def _arguments(self, tx: Tx, node: Node, run: CheckRun) -> dict[str, str]:
        arguments = dict(run.arguments)
        if run.check == "gpu-present" and "expected" not in arguments:
            sku = store.find_sku(tx, node.sku)
            if sku is not None and sku.gpus is not None:
                arguments["expected"] = str(sku.gpus)
        return arguments
