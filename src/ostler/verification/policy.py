"""Which idle nodes are checked next, and what a run amounts to: pure. Called by `service.py` and `tasks.py`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from ostler.faults.model import Action, Severity
from ostler.health.model import Confidence, Diagnosis
from ostler.trends.model import Verdict
from ostler.verification.model import Candidate, Result, VerificationSettings

FAULT = "check-failed"
"""Fault of a failed check; its device is the check's name."""


def choose(
    candidates: Sequence[Candidate],
    running: Mapping[str, int],
    sizes: Mapping[str, int],
    settings: VerificationSettings,
    now: float,
) -> list[str]:
    """Node ids to start now: the suspicious first, then who has waited longest.

    `running` and `sizes` count, per pool, the runs under way and the nodes in production.
    """
    due = [one for one in candidates if one.last_at is None or now - one.last_at >= settings.every_s]
    due.sort(key=lambda one: (-one.suspicion, one.last_at if one.last_at is not None else -math.inf, one.node_id))
    counts = Counter(running)
    chosen: list[str] = []
    for one in due:
        if sum(counts.values()) >= settings.at_once:
            break
        limit = max(1, math.floor(settings.at_once_share * sizes.get(one.pool, 0)))
        if counts[one.pool] < limit:
            counts[one.pool] += 1
            chosen.append(one.node_id)
    return chosen


def overall(results: Sequence[Result]) -> Verdict:
    """One verdict for a run: a failure counts, and nothing that did not run counts as passed."""
    verdicts = {one.verdict for one in results}
    if Verdict.FAILED in verdicts:
        return Verdict.FAILED
    if not results or Verdict.INCONCLUSIVE in verdicts:
        return Verdict.INCONCLUSIVE
    return Verdict.PASSED


def failed(results: Sequence[Result]) -> list[Result]:
    """Those that failed."""
    return [one for one in results if one.verdict is Verdict.FAILED]


def diagnosis(result: Result, outcome_id: str, *, confirmed: bool) -> Diagnosis:
    """The finding of a failed check. Not confirmed, it is shown and never acted on: one odd run moves no node."""
    times = "twice in a row" if confirmed else "once so far"
    return Diagnosis(
        fault=FAULT,
        component="gpu" if "gpu" in result.message.lower() else "node",
        device=result.check,
        severity=Severity.ERROR if confirmed else Severity.WARNING,
        confidence=Confidence.HIGH if confirmed else Confidence.LOW,
        action=Action.TRIAGE if confirmed else Action.WATCH,
        message=f"{result.check} failed {times}: {result.message}"[:1024],
        evidence={
            "outcome": outcome_id,
            "measured": dict(list(result.measured.items())[:32]),
            "why": "an active check",
        },
    )
