"""Silence is a fault, and never moves power by itself. A schedule calls `look`; the judgement itself is pure.

More than 5 % of the fleet silent together, or anything within ten minutes of the server's start, says more about Ostler
than about nodes: one incident that pages, and no node is blamed (DESIGN, principle 5).
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.faults.model import Action, Severity
from ostler.health import findings, store
from ostler.health.model import Cause, Confidence, Diagnosis, HealthSettings
from ostler.nodes import store as nodes
from ostler.nodes.model import Condition

SELF = "ostler-suspects-itself"


@dataclass(frozen=True)
class Judgement:
    """What so much silence means."""

    suspect_self: bool
    why: str


def judge(silent: int, reporting: int, up_for: float, settings: HealthSettings) -> Judgement:
    """Whose fault is it that `silent` of `reporting` nodes are not heard, `up_for` seconds after the server's start?"""
    if up_for < settings.grace_s:
        return Judgement(True, f"the server is up for {up_for:.0f} s only; silence proves nothing yet")
    if silent > 1 and silent > settings.silent_share * reporting:
        return Judgement(
            True, f"{silent} of {reporting} nodes are silent together: look at Ostler and its network first"
        )
    return Judgement(False, f"{silent} of {reporting} nodes are silent")


class SilenceWatch:
    """Compares last-seen with the clock, level by level; one replica at a time through its schedule's lease."""

    def __init__(self, db: Database, settings: HealthSettings) -> None:
        self._db = db
        self._settings = settings
        self._started = db.clock.now()

    def look(self) -> None:
        """One round: new silences become findings, nodes heard of again lose theirs, first looks ripen."""
        self._db.write(self._round)
        self._db.write(findings.ripen)

    def _round(self, tx: Tx) -> None:
        back = store.heard_again(tx, tx.now - self._settings.silent_after_s)
        if back:
            findings.clear(tx, back, by="the node is heard of again")
        silent = store.unheard(tx, tx.now - self._settings.silent_after_s)
        if not silent:
            return
        verdict = judge(len(silent), store.reporting(tx), tx.now - self._started, self._settings)
        if verdict.suspect_self and tx.now - self._started < self._settings.grace_s:
            return
        fold = []
        for row in silent:
            present = store.find_active(tx, row["id"], "silent", "")
            if present is None:
                finding_id = self._note(tx, row["id"], tx.now - row["last_seen"], verdict)
            elif _judged_otherwise(tx, present, verdict):
                # One that was blamed is one of many now; or, the others being back, this one is to blame itself.
                findings.take_out(tx, [present], why=verdict.why)
                finding_id = self._note(tx, row["id"], tx.now - row["last_seen"], verdict)
            else:
                continue
            fold.append(finding_id)
        if verdict.suspect_self and fold:
            findings.open_incident(tx, Cause(SELF, "fleet", "fleet", verdict.why, tuple(fold)))

    def _note(self, tx: Tx, node_id: str, quiet_for: float, verdict: Judgement) -> str:
        return findings.note(
            tx,
            nodes.get(tx, node_id),
            Diagnosis(
                fault="silent",
                component="node",
                device="",
                severity=Severity.WARNING if verdict.suspect_self else Severity.ERROR,
                confidence=Confidence.LOW,
                action=Action.WATCH,
                message=f"not heard of for {quiet_for:.0f} s; nothing is done about it without two other witnesses",
                evidence={"quiet_for_s": round(quiet_for), "judgement": verdict.why},
            ),
            condition=Condition.SILENT,
        )


def _judged_otherwise(tx: Tx, silent: sa.RowMapping, verdict: Judgement) -> bool:
    """Whether an active finding was made under the other judgement; another cause that explains it stands."""
    if silent["incident_id"] is None:
        return verdict.suspect_self
    return not verdict.suspect_self and store.get_incident(tx, silent["incident_id"])["cause"] == SELF
