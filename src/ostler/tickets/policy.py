"""Decisions about tickets: what a reader would notice, what to suspect when a fault is back, where hands may go.

Pure. Called by `service.py` and, for its words, by the faces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ostler.audit.canonical import clean
from ostler.tickets.model import Stage, TicketState, Work

RECURS_WITHIN_S = 30 * 86_400.0
"""A cable that is bad again within so long of its last ticket has come back; later it is a new fault."""
BACK_WITHIN_S = 3600.0
"""So long after somebody said `done` it is taken that they are still at the rack, if the fault is too."""
NOTICED = ("cause", "instruction", "place", "steps", "harms", "safe")
"""Columns that a reader would notice a change of; the nodes beside them."""
MOST_NOTES = 200
"""Notes that a ticket keeps; the oldest go."""

_STAGES = tuple(Stage)
_RECOMMENDED = {
    Stage.CABLE: "Reseat the cable at both ends; if the fault stays, replace the cable.",
    Stage.MODULE: "It is back after work on the cable: replace the module (transceiver), first at the end that reports "
    "the errors.",
    Stage.HCA: "It is back after work on the cable and the module: replace the HCA, or use another port of the switch "
    "and report that one.",
}


def columns(work: Work) -> dict[str, Any]:
    """What a `Work` says, as columns of `ticket`; every text is one that any database can hold."""
    said: dict[str, Any] = clean(
        {
            "key": work.key,
            "fabric": work.fabric,
            "subject": work.subject.value,
            "place": work.place,
            "cause": work.cause,
            "instruction": work.instruction,
            "proof": work.proof.value,
            "steps": [asdict(step) for step in work.steps],
            "harms": asdict(work.harms),
            "safe": asdict(work.safe),
            "evidence": dict(work.evidence),
            "incident_id": work.incident_id,
        }
    )
    return said


def plugs(work: Work) -> dict[tuple[str, str], str]:
    """(chassis, port) → serial number of the cable in it, as far as it is known."""
    found = {(clean(chassis), clean(port)): "" for chassis, port in work.ports}
    for step in work.steps:
        for plug in (step.at, step.stays):
            if plug is not None and (plug.chassis, plug.port) in work.ports and step.cable_serial:
                found[clean(plug.chassis), clean(plug.port)] = clean(step.cable_serial)
    return found


def noticed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Which of `NOTICED` differ."""
    return [name for name in NOTICED if before[name] != after[name]]


def survivor(found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Which of several tickets for what turned out to be one cause goes on: one that somebody works on, else the
    oldest.
    """
    order = (TicketState.CLAIMED, TicketState.VERIFYING, TicketState.OPEN)
    return min(found, key=lambda row: (order.index(TicketState(row["state"])), row["id"]), default=None)


def came_back(previous: Mapping[str, Any] | None, *, escalates: bool) -> tuple[int, str]:
    """How often it came back by now, and what is to be suspected.

    `previous`: the last ticket of the same cable or ports, done within `RECURS_WITHIN_S`. The next stage is taken only
    when somebody worked on the stage before; what went away by itself was not repaired.
    """
    times = 0 if previous is None else int(previous["recurrence"]) + 1
    if not escalates:
        return times, ""
    if previous is None or not previous["escalation"]:
        return times, Stage.CABLE.value
    stage = Stage(previous["escalation"])
    if previous["claimed_at"] is None and previous["verifying_at"] is None:
        return times, stage.value
    return times, _STAGES[min(_STAGES.index(stage) + 1, len(_STAGES) - 1)].value


def recommended(escalation: str) -> str:
    """What to do at this stage, in a sentence; empty where nothing escalates."""
    return _RECOMMENDED[Stage(escalation)] if escalation else ""


def refusal(ticket_id: str, safe: Mapping[str, Any], force: str) -> str | None:
    """Why hands may not go there now; None: they may, or somebody says why they do it all the same."""
    if safe.get("safe") is not False or force.strip():
        return None
    why = str(safe.get("why") or "nobody wrote down why").rstrip(".")
    return f"{ticket_id} is not safe to touch now: {why}. Whoever does it all the same says why (force)."


def returns_to(row: Mapping[str, Any], now: float) -> TicketState:
    """Where a ticket goes whose fault is still there after somebody said `done`."""
    said = row["verifying_at"]
    near = row["assignee"] is not None and said is not None and now - said <= BACK_WITHIN_S
    return TicketState.CLAIMED if near else TicketState.OPEN
