"""The lifecycle: one table of states and one of transitions. Nothing else in Ostler knows which way a node may go.

`service.py` asks `check()` before it writes a transition; the diagram in docs/architecture.md and the transition tests
are generated from these tables. Guards are pure functions of `Facts`: they return None, or the reason for the refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from ostler.core.errors import Refused
from ostler.nodes.model import Capability, Facts, State

Guard: TypeAlias = Callable[[Facts], "str | None"]

_HOUR = 3600.0


class Phase(StrEnum):
    """When in a node's life."""

    DAY0 = "Day 0"
    DAY1 = "Day 1"
    DAY2 = "Day 2+"
    OVER = "–"


@dataclass(frozen=True)
class StateRow:
    """One state: its phase, what happens in it, and where it goes when it lasts too long."""

    phase: Phase
    does: str
    deadline: float | None = None
    """Domain seconds after which the state has failed; a start value where the field publishes none."""
    overdue: State | None = None
    """Where to then; None with a deadline: only the condition `Overdue`, because moving the node would help nobody."""
    cordoned: bool = True
    """Whether nothing new may be placed on a node in this state."""


STATES: dict[State, StateRow] = {
    State.DISCOVERED: StateRow(
        Phase.DAY0, "boot image, network and cloud-init are served; joins with a single-use token", 2 * _HOUR
    ),
    State.ONBOARD: StateRow(Phase.DAY1, "a technician inspects and cables; ends when certified", 7 * 24 * _HOUR),
    State.SEATRIAL: StateRow(
        Phase.DAY1, "observed: cabling, power supplies, inventory against the SKU", 6 * _HOUR, State.TRIAGE
    ),
    # 1–2 h is normal, over 6 h is a failure: CoreWeave's published lifecycle.
    State.ZAP: StateRow(Phase.DAY1, "firmware to the declared set, in order", 6 * _HOUR, State.ZAP_FAIL),
    State.ZAP_FAIL: StateRow(Phase.DAY1, "firmware failed; needs analysis"),
    State.TEST: StateRow(Phase.DAY1, "burn-in, or after a repair what it touched", 36 * _HOUR, State.TRIAGE),
    State.PRODUCTION: StateRow(Phase.DAY2, "available to users", cordoned=False),
    # A reconfiguring reboot takes at most 1 h: CoreWeave's published lifecycle.
    State.REBOOT: StateRow(Phase.DAY2, "rebooted or reset in place, then verified", 1 * _HOUR, State.TRIAGE),
    State.TRIAGE: StateRow(Phase.DAY2, "out of production; a technician diagnoses and replaces"),
    State.DEBUG: StateRow(Phase.DAY2, "held for people"),
    State.RMA: StateRow(Phase.DAY2, "the chassis is with the vendor"),
    State.RETIRED: StateRow(Phase.OVER, "terminal; the history is kept"),
}


# Guards ---------------------------------------------------------------------------------------------------------------


def joined(facts: Facts) -> str | None:
    """The node holds a certificate of ours and has reported."""
    return None if facts.joined else "the node has not joined yet"


def certified(facts: Facts) -> str | None:
    """A technician signed for it, or the pool does without."""
    if facts.certified or facts.auto_certify:
        return None
    return "nobody has certified the installation ('ostler nodes certify'), and the pool has no auto_certify"


def passed(check: str) -> Guard:
    """A check of this name passed since the node entered its state."""

    def guard(facts: Facts) -> str | None:
        return (
            None if check in facts.passed else f"the check '{check}' has not passed since the node entered this state"
        )

    guard.__name__ = f"{check} passed"
    return guard


def firmware_current(facts: Facts) -> str | None:
    """Every declared component reports its declared version."""
    return None if facts.firmware_current else "the firmware is not verified as the declared set"


def person(facts: Facts) -> str | None:
    """Only by a person's hand."""
    return None if facts.by_person else "only a person may do this"


def drained(facts: Facts) -> str | None:
    """Planned, and nothing runs on it."""
    return None if facts.idle else "a workload still runs on the node; drain it first"


def may_reboot(facts: Facts) -> str | None:
    """Granted in the pool (or ordered by a person), and permitted by the brake."""
    if not facts.by_person:
        if facts.unmanaged:
            return "the node is unmanaged: no automatic lifecycle action"
        if not facts.granted & {Capability.REBOOT, Capability.GPU_RESET, Capability.POWER}:
            return "the pool grants neither reboot nor gpu-reset nor power"
    return None if facts.permit else "no permit was reserved from the brake"


def may_leave(facts: Facts) -> str | None:
    """Taking a node out of production by ourselves needs the grant to cordon."""
    if facts.by_person or (Capability.CORDON in facts.granted and not facts.unmanaged):
        return None
    return "the pool does not grant cordon, so Ostler may not take the node out by itself"


def firmware_granted(facts: Facts) -> str | None:
    """Planned firmware work in production: granted and drained, never while a workload runs."""
    if not facts.by_person and Capability.FIRMWARE not in facts.granted:
        return "the pool does not grant firmware"
    return drained(facts)


def planned_end(facts: Facts) -> str | None:
    """Retiring a production node: by a person, drained."""
    return person(facts) or drained(facts)


def always(facts: Facts) -> str | None:
    """No guard."""
    del facts
    return None


# The table ------------------------------------------------------------------------------------------------------------

S = State
TRANSITIONS: dict[State, dict[State, Guard]] = {
    S.DISCOVERED: {S.ONBOARD: joined, S.TRIAGE: always, S.RETIRED: person},
    S.ONBOARD: {S.SEATRIAL: certified, S.TRIAGE: always, S.RETIRED: person},
    S.SEATRIAL: {S.ZAP: passed("seatrial"), S.TRIAGE: always},
    S.ZAP: {S.TEST: firmware_current, S.ZAP_FAIL: always},
    S.ZAP_FAIL: {S.ZAP: person, S.TRIAGE: always},
    S.TEST: {S.PRODUCTION: passed("test"), S.TRIAGE: always},
    S.PRODUCTION: {S.REBOOT: may_reboot, S.TRIAGE: may_leave, S.ZAP: firmware_granted, S.RETIRED: planned_end},
    S.REBOOT: {S.PRODUCTION: passed("verification"), S.TRIAGE: always},
    S.TRIAGE: {S.TEST: person, S.RMA: person, S.ONBOARD: person},
    S.DEBUG: {S.TEST: person, S.ONBOARD: person, S.RMA: person, S.RETIRED: person},
    S.RMA: {S.ONBOARD: person, S.RETIRED: person},
    S.RETIRED: {},
}
"""from → to → guard. Any state but production and retired may also go to debug by a person's hand (added below)."""

for _state, _row in TRANSITIONS.items():
    if _state not in (S.PRODUCTION, S.RETIRED, S.DEBUG):
        _row[S.DEBUG] = person

BIRTH: tuple[State, ...] = (S.DISCOVERED, S.PRODUCTION)
"""States a node may be entered in: by its first boot, or by `ostler adopt` as it runs."""


def check(start: State, to: State, facts: Facts) -> None:
    """Raise `Refused` with the reason unless a node may go from `start` to `to` now."""
    ways = TRANSITIONS[start]
    if to not in ways:
        known = ", ".join(ways) or "nowhere: it is terminal"
        raise Refused(f"A node cannot go from {start} to {to}; from {start} it may go to {known}.")
    if facts.maintenance_by is not None and not facts.by_person and to is S.REBOOT:
        raise Refused(f"{facts.maintenance_by} has hands on the node (maintenance lock); it is not touched.")
    if (why := ways[to](facts)) is not None:
        raise Refused(f"Not from {start} to {to}: {why}.")


def mermaid() -> str:
    """The diagram of docs/architecture.md, from the tables."""
    lines = ["stateDiagram-v2", "    direction LR"]
    names = {state: state.value.replace("-", "_") for state in State}
    lines += [f'    state "{state}" as {names[state]}' for state in State if names[state] != state.value]
    lines += [f"    [*] --> {names[state]}: {'first boot' if state is S.DISCOVERED else 'adopt'}" for state in BIRTH]
    for start, ways in TRANSITIONS.items():
        for to, guard in ways.items():
            label = "" if guard is always else f": {guard.__name__.replace('_', ' ')}"
            lines.append(f"    {names[start]} --> {names[to]}{label}")
    lines.append(f"    {names[S.RETIRED]} --> [*]")
    return "\n".join(lines)
