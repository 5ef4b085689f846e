"""Starts runs and keeps what came of them, one transaction each. Called by `tasks.py`, `api.py` and a schedule."""

from __future__ import annotations

from collections.abc import Sequence

from ostler.audit import service as audit
from ostler.checks.plans import plan
from ostler.checks.registry import find
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, NotFound, Refused
from ostler.db.tx import Tx
from ostler.health import findings
from ostler.health import store as health
from ostler.health.model import Diagnosis, split_check
from ostler.jobs import store as jobs
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, State
from ostler.trends import service as trends
from ostler.trends.model import Verdict
from ostler.verification import policy, store
from ostler.verification.model import OUTCOME, Result, VerificationSettings

PROCEDURE = "verification"
VERSION = 1
FIRST = "begin"


def key(node_id: str) -> str:
    """At most one run per node."""
    return f"verification:{node_id}"


def sweep(tx: Tx, settings: VerificationSettings) -> list[str]:
    """Start what is due on idle nodes. Returns the jobs' ids."""
    names = [pool.name for pool in nodes.pools(tx) if "*" in settings.pools or pool.name in settings.pools]
    if not names:
        return []
    candidates = store.candidates(
        tx, names, heard_since=tx.now - settings.idle_for_s, settled_before=tx.now - settings.idle_for_s
    )
    chosen = policy.choose(candidates, store.running(tx, PROCEDURE), store.sizes(tx), settings, tx.now)
    return [
        jobs.enqueue(tx, PROCEDURE, node_id, step=FIRST, version=VERSION, key=key(node_id), data={"checks": texts})
        for node_id in chosen
        if (texts := checks_for(nodes.get(tx, node_id), settings))
    ]


def order(tx: Tx, node_id: str, checks: Sequence[str], settings: VerificationSettings, *, actor: Actor) -> str:
    """A person wants a node checked now; it waits for nobody, and still yields to work. Returns the job's id.

    Raises `Refused` for a node that is not in production, `BadInput` for a check that there is not.
    """
    node = nodes.get(tx, node_id)
    if node.state is not State.PRODUCTION:
        raise Refused(f"{node.name} is in {node.state}, which has checks of its own.")
    texts = list(checks) or checks_for(node, settings)
    if not texts:
        raise BadInput(f"Name the checks: there are no thresholds for {node.sku or 'a node without a SKU'}.")
    for text in texts:
        _known(text)
    audit.record(tx, actor=actor, action="node.checks.ordered", subject=node.id, detail={"checks": texts})
    data = {"checks": texts, "by_hand": bool(checks)}
    return jobs.enqueue(tx, PROCEDURE, node.id, step=FIRST, version=VERSION, key=key(node.id), data=data)


def checks_for(node: Node, settings: VerificationSettings) -> list[str]:
    """The checks of a node as texts: those of the settings, else its SKU's plan; nothing when neither is known."""
    if settings.checks:
        return list(settings.checks)
    gpus = node.inventory.get("gpus")
    model = str(gpus[0].get("model", "")) if isinstance(gpus, list) and gpus else ""
    for name in (node.sku or "", model):
        try:
            return [one.text for one in plan(name, settings.plan)]
        except NotFound:
            continue
    return []


def conclude(
    tx: Tx, node: Node, results: Sequence[Result], *, started_at: float, confirmed: bool, whole: bool = True
) -> list[Diagnosis]:
    """Keep the outcomes of a run, open findings for what failed, and end those that passed. Returns the diagnoses.

    `whole`: the run stands for the hourly one; a person's choice of checks does not put that off.
    """
    found: list[Diagnosis] = []
    for one in results:
        outcome_id = _record(tx, node, one.check, one, started_at)
        if one.verdict is Verdict.FAILED:
            found.append(policy.diagnosis(one, outcome_id, confirmed=confirmed))
            findings.note(tx, node, found[-1])
        elif one.verdict is Verdict.PASSED:
            over = [
                row
                for row in health.active(tx, node.id)
                if row["fault"] == policy.FAULT and row["device"] == one.check and row["incident_id"] is None
            ]
            findings.clear(tx, over, by=f"{one.check} passed ({outcome_id})")
    if not whole:
        return found
    message = "; ".join(f"{one.check}: {one.message}" for one in results if one.verdict is not Verdict.PASSED)
    measured = {"checks": len(results), "passed": sum(one.verdict is Verdict.PASSED for one in results)}
    _record(tx, node, OUTCOME, Result(OUTCOME, policy.overall(results), measured, message[:2000]), started_at)
    return found


def _record(tx: Tx, node: Node, name: str, result: Result, started_at: float) -> str:
    return trends.record(
        tx,
        node,
        name,
        result.verdict,
        measured=result.measured,
        message=result.message,
        started_at=started_at,
        finished_at=tx.now,
    )


def _known(text: str) -> None:
    try:
        name, arguments = split_check(text)
    except ValueError as error:
        raise BadInput(f"{error}.", where="checks") from None
    check = find(name)
    for argument in arguments:
        if argument not in check.arguments:
            raise BadInput(f"{name} takes no '{argument[:40]}'.", where="checks")
