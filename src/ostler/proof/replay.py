"""Runs a recorded incident through the current policy, in virtual time, and tells what was decided and why.

The real services decide; `stage.py` holds them, the recording moves them. Called by `cli/replay.py` and the tests.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ostler.adapters.bmc.port import ResetKind
from ostler.config import Config
from ostler.core.errors import BadInput, OstlerError
from ostler.db.tx import Tx
from ostler.health import orders
from ostler.proof import expectations
from ostler.proof.books import read
from ostler.proof.recording import Event, Recording
from ostler.proof.stage import START, Stage, of_node, settings_of
from ostler.proof.voices import Voice, faults_of
from ostler.wire.agent import Order

SWEEP_S = 10.0
"""How often remediation sweeps while something happens (as `app.py` schedules it)."""
QUIET_SWEEP_S = 300.0
LOOK_S = 30.0
"""How often silence is looked for, and agents are heard of."""
BOOT_S = 300.0
ORDER_S = 5.0
TAIL_S = 900.0
"""What follows the last line is played for so long."""
STEPS = 200_000
"""Moments that a replay may have; more is a recording that never comes to rest."""


@dataclass(frozen=True)
class Replayed:
    """What became of it. Times are seconds since the recording's beginning."""

    name: str
    title: str
    nodes: int
    ended_at: float
    decisions: Sequence[Mapping[str, Any]] = ()
    incidents: Sequence[Mapping[str, Any]] = ()
    findings: Sequence[Mapping[str, Any]] = ()
    states: Mapping[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    """Expectations of the recording that were not met, each in one line."""


def replay(recording: Recording, load: Callable[[Mapping[str, str]], Config]) -> Replayed:
    """Play it. `load` makes the policy from an environment of overrides. Raises `BadInput` for what cannot be."""
    stage = Stage(recording, settings_of(recording, load))
    try:
        return _Play(stage, recording).run()
    finally:
        stage.close()


@dataclass(order=True)
class _Due:
    at: float
    number: int
    run: Callable[[], None] = field(compare=False)


class _Play:
    def __init__(self, stage: Stage, recording: Recording) -> None:
        self._stage, self._recording = stage, recording
        self._due: list[_Due] = []
        self._numbers = itertools.count()
        self._asked: set[str] = set()
        self._failed: list[str] = []
        self._boot_s = float(recording.head.get("boot_s", BOOT_S))
        self._order_s = float(recording.head.get("order_s", ORDER_S))
        self._busy_until = 0.0

    def run(self) -> Replayed:
        for at, together in itertools.groupby(self._recording.events, key=lambda one: one.at):
            events = list(together)
            self._at(at, partial(self._happen, events))
        last = max((one.at for one in self._recording.events), default=0.0)
        asked = [one.at for one in self._recording.expected if one.at != float("inf")]
        end = float(self._recording.head.get("end_s", max([last + TAIL_S, *(at + 1 for at in asked)])))
        for one in self._recording.expected:
            if one.at <= end:
                self._at(one.at, partial(self._expect, one))
        self._every(LOOK_S, self._look, end)
        self._every(SWEEP_S, self._sweep, end)
        for _ in range(STEPS):
            if (at := self._next(end)) is None:
                break
            self._step(at)
        else:
            raise BadInput("The recording never comes to rest.", where=self._recording.path)
        self._stage.clock.advance(max(0.0, START + end - self._stage.now))
        for one in self._recording.expected:
            if one.at > end:
                self._expect(one)
        return self._result(end)

    # Time -------------------------------------------------------------------------------------------------------------

    def _at(self, at: float, run: Callable[[], None]) -> None:
        heapq.heappush(self._due, _Due(at, next(self._numbers), run))

    def _every(self, seconds: float, run: Callable[[], None], end: float) -> None:
        def again() -> None:
            run()
            quiet = self._now > self._busy_until
            pause = max(seconds, QUIET_SWEEP_S) if quiet and run == self._sweep else seconds
            if self._now + pause <= end:
                self._at(self._now + pause, again)

        self._at(seconds, again)

    @property
    def _now(self) -> float:
        return self._stage.now - START

    def _next(self, end: float) -> float | None:
        job = self._stage.next_job()
        times = [self._due[0].at] if self._due else []
        times += [max(job - START, self._now)] if job is not None else []
        at = min(times, default=None)
        return None if at is None or at > end else at

    def _step(self, at: float) -> None:
        self._stage.clock.advance(max(0.0, at - self._now))
        while self._due and self._due[0].at <= self._now:
            heapq.heappop(self._due).run()
        if self._stage.runner.run_due(limit=100_000):
            self._stage.cordon.run_once()
        self._follow_power()
        self._follow_orders()

    # The world answers ------------------------------------------------------------------------------------------------

    def _follow_power(self) -> None:
        powered, self._stage.powered[:] = list(self._stage.powered), []
        for node_id, kind in powered:
            voice = self._stage.voices[node_id]
            if kind is ResetKind.OFF:
                voice.silent = True
            else:
                by = "power-cycle" if kind in (ResetKind.POWER_CYCLE, ResetKind.ON) else "reboot"
                self._boot_later(voice, by)

    def _boot_later(self, voice: Voice, by: str) -> None:
        if voice.comes_back:
            self._at(self._now + self._boot_s, lambda: self._boot(voice, by))

    def _boot(self, voice: Voice, by: str) -> None:
        voice.silent = False
        self._touched()
        self._stage.say([(voice, voice.reboot(self._stage.now, by), ())], whole=True)

    def _follow_orders(self) -> None:
        def look(tx: Tx) -> list[tuple[str, Order]]:
            return [(node_id, one) for node_id in orders.outstanding(tx) for one in orders.of_node(tx, node_id)]

        for node_id, order in self._stage.db.read(look):
            if order.id not in self._asked:
                self._asked.add(order.id)
                voice = self._stage.voices[node_id]
                self._at(self._now + self._order_s, partial(self._answer, voice, order))

    def _answer(self, voice: Voice, order: Order) -> None:
        if voice.silent:
            return
        self._touched()
        if order.verb == "reboot" and voice.verdicts.get("reboot", "passed") == "passed":
            self._boot_later(voice, "reboot")
            return
        result = voice.answer(order, self._stage.now)
        if result is None:
            return
        passed = result.verdict == "passed"
        signals = voice.repaired(self._stage.now, order.verb) if passed and order.verb != "run-check" else []
        self._stage.say([(voice, signals, (result,))])

    def _look(self) -> None:
        self._stage.heartbeat()
        self._stage.silence.look()

    def _sweep(self) -> None:
        self._stage.remediation.sweep()

    def _touched(self) -> None:
        self._busy_until = self._now + 120.0

    # The recording happens --------------------------------------------------------------------------------------------

    def _happen(self, events: list[Event]) -> None:
        self._touched()
        said: list[tuple[Voice, list[Any], tuple[Any, ...]]] = []
        for one in events:
            voices = [self._stage.voices[self._stage.ids[name]] for name in one.nodes]
            try:
                of_nodes = one.kind in _SAID and "source" not in one.more
                signals = [(voice, self._signals(one, voice)) for voice in voices if of_nodes]
                said += [(voice, found, ()) for voice, found in signals if found]
                if not of_nodes:
                    self._stage.say(said)
                    said = []
                    self._do(one, voices)
            except (OstlerError, ValueError, KeyError) as error:
                where = f"{self._recording.path}:{one.line}: {one.kind}"
                message = error.message if isinstance(error, OstlerError) else str(error)
                raise BadInput(message, where=where) from None
        self._stage.say(said)

    def _signals(self, one: Event, voice: Voice) -> list[Any]:
        now = self._stage.now
        if one.kind == "kernel":
            return voice.kernel([one.value] if isinstance(one.value, str) else one.value, now)
        if one.kind == "signal":
            return [voice.raw(one.value, now)]
        if one.kind == "dead":
            return voice.dead(str(one.more.get("monitor", "nvml")), now, over=not one.value)
        return voice.monitor(str(one.more["monitor"]), faults_of(one.value), now)

    def _do(self, one: Event, voices: list[Voice]) -> None:
        stage = self._stage
        simple: dict[str, Callable[[Voice], None]] = {
            "busy": lambda voice: stage.set_busy(voice, one.value),
            "to": lambda voice: stage.move_state(voice, one.value),
            "slot": lambda voice: stage.move_slot(voice, one.value),
            "clear": lambda voice: stage.clear(voice, one.value, str(one.more.get("reason", "the recording"))),
            "boots": lambda voice: self._boot(voice, ""),
        }
        attributes = {
            "silent": ("silent", one.value),
            "cures": ("cures", tuple(one.value) if isinstance(one.value, list) else ()),
            "comes_back": ("comes_back", one.value),
        }
        if one.kind in ("pause", "resume", "grant"):
            self._policy(one)
        for voice in voices:
            if one.kind in simple:
                simple[one.kind](voice)
            elif one.kind in attributes:
                name, value = attributes[one.kind]
                setattr(voice, name, value)
            elif one.kind == "answers":
                voice.verdicts[str(one.more.get("verb", "*"))] = one.value
            elif one.kind in ("driver", "gpus"):
                setattr(voice, one.kind, of_node(one.value, voice.name) if one.kind == "gpus" else one.value)
                stage.say([(voice, [], ())], whole=True)
            elif one.kind == "bmc" and (bmc := stage.bmc_of(voice)) is not None:
                bmc.unreachable = one.value == "unreachable"
        if one.kind == "standing":
            stage.watch(voices, str(one.more["source"]), one.value)
        if one.kind == "busy":
            stage.heartbeat()

    def _policy(self, one: Event) -> None:
        if one.kind == "pause":
            self._stage.pause(one.value, str(one.more.get("reason", "the recording")))
        elif one.kind == "resume":
            self._stage.resume(one.value)
        else:
            self._stage.grant("default", one.value)

    # What became of it ------------------------------------------------------------------------------------------------

    def _expect(self, one: Event) -> None:
        books = self._stage.db.read(lambda tx: read(tx, self._stage))
        for why in expectations.unmet(one.value, books):
            at = "" if one.at == float("inf") else f" at {one.at:g} s"
            self._failed.append(f"{self._recording.path}:{one.line}{at}: {why}")

    def _result(self, end: float) -> Replayed:
        books = self._stage.db.read(lambda tx: read(tx, self._stage))
        states = {name: str(node.state) for name, node in books.nodes.items()}
        return Replayed(
            self._recording.name,
            self._recording.title,
            len(states),
            end,
            books.decisions,
            books.incidents,
            books.findings,
            states,
            self._failed,
        )


_SAID = frozenset({"kernel", "signal", "dead", "standing"})
