"""Silence is a fault, and never moves power by itself. A schedule calls `look`; the judgement itself is pure.

More than 5 % of the fleet silent together, or anything within ten minutes of the server's start, says more about Ostler
than about nodes: one incident that pages, and no node is blamed (DESIGN, principle 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.faults.model import Action, Severity
from ostler.health import findings, store
from ostler.health.model import Cause, Confidence, Diagnosis, HealthSettings
from ostler.nodes import store as nodes
from ostler.nodes.model import Condition

SELF = "ostler-suspects-itself"

AT_ONCE = 100
"""Nodes that one transaction writes about: others wait for it for a second at most."""


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
        """One round: new silences become findings, nodes heard of again lose theirs, first looks ripen.

        The whole fleet is read, and no writer waits for that; what is new is written in parts, for a whole fleet falls
        silent when its network does, and its heartbeats are written beside this.
        """
        back, news, verdict = self._db.read(self._found)
        for start in range(0, len(back), AT_ONCE):
            some = back[start : start + AT_ONCE]
            self._db.write(partial(findings.clear, findings=some, by="the node is heard of again"))
        for start in range(0, len(news), AT_ONCE):
            self._db.write(partial(self._note_all, rows=news[start : start + AT_ONCE], verdict=verdict))
        self._db.write(findings.ripen)

    def _found(self, tx: Tx) -> tuple[Sequence[sa.RowMapping], Sequence[sa.RowMapping], Judgement]:
        """Findings of nodes that are heard of again, nodes whose silence is news, and whose fault it is."""
        since = tx.now - self._settings.silent_after_s
        back, silent = store.heard_again(tx, since), store.unheard(tx, since)
        up_for = tx.now - self._started
        verdict = judge(len(silent), store.reporting(tx) if silent else 0, up_for, self._settings)
        if up_for < self._settings.grace_s:
            return back, [], verdict
        known = {row["node_id"]: row for row in store.silences(tx)} if silent else {}
        return back, [row for row in silent if _is_news(tx, known.get(row["id"]), verdict)], verdict

    def _note_all(self, tx: Tx, rows: Sequence[sa.RowMapping], verdict: Judgement) -> None:
        fold = []
        for row in rows:
            node = nodes.get(tx, row["id"])
            present = store.find_active(tx, node.id, "silent", "")
            if (node.last_seen or 0.0) > row["last_seen"] or not _is_news(tx, present, verdict):
                continue  # heard of, or noted by another, since the fleet was read
            if present is not None:
                # One that was blamed is one of many now; or, the others being back, this one is to blame itself.
                findings.take_out(tx, [present], why=verdict.why)
            fold.append(self._note(tx, row["id"], tx.now - row["last_seen"], verdict))
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


def _is_news(tx: Tx, silent: sa.RowMapping | None, verdict: Judgement) -> bool:
    """Whether there is no finding yet, or one made under the other judgement; another cause that explains it stands."""
    if silent is None:
        return True
    if silent["incident_id"] is None:
        return verdict.suspect_self
    return not verdict.suspect_self and store.get_incident(tx, silent["incident_id"])["cause"] == SELF
