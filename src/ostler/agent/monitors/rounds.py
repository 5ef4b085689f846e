"""What became wrong, what is over, which monitor is dead: the one place where looks are compared. Pure but for time.

Called by child.py with what the child said, and by scripted.py with what a test sets. A monitor is dead when its look
raised or ran past its deadline, or when it has not worked for two periods. What it found before stays as it was until
it works again: nobody has seen it end. Then the dead one is over, and its census says what stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ostler.agent.monitors.port import Look
from ostler.agent.translate import UNNUMBERED, signal_of
from ostler.faults.model import Action, Fault, Severity
from ostler.faults.monitored import fault
from ostler.wire.agent import Readings, Signal
from ostler.wire.decode import JsonValue

DEAD = "monitor-dead"
PERIODS = 2
"""Periods without a look after which a monitor is dead."""
SOURCE = "monitor"


@dataclass(slots=True)
class _State:
    period_s: float
    since: float
    """When it last worked, or began to be waited for."""
    worked: float | None = None
    standing: dict[tuple[str, str], Fault] = field(default_factory=dict)
    readings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    dead: str = ""
    census_due: bool = True
    held: bool = False


class Rounds:
    """All monitors of one node. `now` is monotonic domain seconds throughout; signals carry `at()`."""

    def __init__(self, at: Callable[[], float]) -> None:
        self._at = at
        self._states: dict[str, _State] = {}
        self._said: list[Signal] = []

    def expect(self, name: str, period_s: float, now: float) -> None:
        """A monitor runs, again or for the first time: it has two periods to work."""
        state = self._states.get(name)
        if state is None:
            self._states[name] = _State(period_s, now)
        else:
            state.period_s, state.since = period_s, now

    def names(self) -> Sequence[str]:
        return tuple(self._states)

    def looked(self, name: str, look: Look, now: float) -> None:
        """A look that ended in time. One of an unknown monitor is passed over."""
        state = self._states.get(name)
        if state is None:
            return
        state.since = state.worked = now
        state.readings = look.readings
        if state.dead:
            self._revive(name, state)
        before = state.standing
        state.standing = {(f"{found.kind.value}-{found.code}", found.device): found for found in look.standing}
        for key, found in state.standing.items():
            former = before.get(key)
            if former is None or former.severity is not found.severity:
                self._said.append(self._signal(name, found))
        for key, found in before.items():
            if key not in state.standing:
                self._said.append(self._signal(name, found, over=True))
        if state.census_due:
            state.census_due = False
            self._said.append(self._census(name, state))

    def failed(self, name: str, reason: str) -> None:
        """Its look raised, or hangs."""
        state = self._states.get(name)
        if state is not None and not state.held:
            self._die(name, state, reason)

    def all_failed(self, reason: str) -> None:
        """Whoever runs them is gone."""
        for name in self._states:
            self.failed(name, reason)

    def hold(self, name: str) -> None:
        """It lets go of its device on purpose and is not waited for."""
        state = self._states.get(name)
        if state is not None:
            state.held = True

    def resume(self, name: str, now: float) -> None:
        """It may work again. What a repair meanwhile did not cure is said anew, and the census ends the rest."""
        state = self._states.get(name)
        if state is not None and state.held:
            state.held, state.census_due, state.since = False, True, now
            state.standing = {}

    def step(self, now: float) -> list[Signal]:
        """What is to be said."""
        for name, state in self._states.items():
            if not state.held and not state.dead and now - state.since > PERIODS * state.period_s:
                self._die(name, state, f"it has not worked for {now - state.since:.0f} s")
        said, self._said = self._said, []
        return said

    def next_due(self) -> float | None:
        """When `step` would find a dead one if nothing came; None: nobody is waited for."""
        waited = [s.since + PERIODS * s.period_s for s in self._states.values() if not s.held and not s.dead]
        return min(waited, default=None)

    def worked(self, now: float) -> dict[str, float]:
        """Monitor → domain seconds since it last worked, -1: never."""
        return {
            name: -1.0 if state.worked is None else max(0.0, now - state.worked) for name, state in self._states.items()
        }

    def readings(self) -> dict[str, Mapping[str, float]]:
        """Device → metric → value, of the monitors that live."""
        found: dict[str, Mapping[str, float]] = {}
        for state in self._states.values():
            if not state.dead and not state.held:
                found.update(state.readings)
        return found

    # ── signals ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _die(self, name: str, state: _State, reason: str) -> None:
        if not state.dead:
            state.census_due = True
            self._said.append(self._signal(name, fault(DEAD, name, f"{name}: {reason}")))
        state.dead = reason

    def _revive(self, name: str, state: _State) -> None:
        self._said.append(self._signal(name, fault(DEAD, name, f"{name}: {state.dead}"), over=True))
        state.dead = ""

    def _signal(self, monitor: str, found: Fault, *, over: bool = False) -> Signal:
        if over:
            found = replace(found, severity=Severity.INFO, action=Action.NONE, message=f"over: {found.message}"[:1024])
        signal = signal_of(found, self._at(), SOURCE)
        detail: dict[str, JsonValue] = {**signal.detail, "monitor": monitor}
        if over:
            detail["over"] = True
        return replace(signal, detail=detail)

    def _census(self, name: str, state: _State) -> Signal:
        standing: list[JsonValue] = [f"{fault_name}@{device}" for fault_name, device in sorted(state.standing)]
        return Signal(
            seq=UNNUMBERED,
            at=max(0.0, self._at()),
            source=SOURCE,
            kind="monitor",
            code="census",
            device=name,
            component="agent",
            severity=Severity.INFO.value,
            action=Action.NONE.value,
            message=f"{name}: {len(standing)} faults stand",
            detail={"monitor": name, "standing": standing},
        )


def table(found: Mapping[str, Mapping[str, float]], metrics: Sequence[str]) -> Readings | None:
    """Measurements by device as columns; None when there are none. Metrics that no device says are left out."""
    used = tuple(metric for metric in metrics if any(metric in values for values in found.values()))
    if not used:
        return None
    devices = tuple(sorted(found))[:64]
    return Readings(used, devices, tuple(tuple(found[device].get(metric) for metric in used) for device in devices))
