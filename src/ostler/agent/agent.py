"""The agent itself: a machine that is stepped. Run by `run.py` on a node, and a thousand at a time by the twin.

One `poll()` (the twin calls it when it gave a scripted source a line): read the sources, detect, fold, keep; step
monitors and orders; send one report if something is due; write the spool. It never sleeps; it blocks only in
`transport.report`, for its time-outs at most. It answers the real seconds until it wants to be polled again, sooner if
a descriptor becomes readable.

What is due when: a fatal signal or a result at once; other signals after at most half a second, together; a heartbeat
every `heartbeat_s` domain seconds, jittered by a tenth, with the GPUs' readings every `readings_s`; the inventory at
the start and every `report_inventory_s`.
After a failure reports wait: the delay doubles from 1 s to 60 s with jitter, 5 to 10 minutes when this identity is
refused. Scheduling uses a monotonic clock, so a clock that is set does not stall it.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ostler import __version__
from ostler.agent.buffer import Buffer, Window
from ostler.agent.monitors.port import Monitors
from ostler.agent.orders import Orders
from ostler.agent.sources.port import LogLine, Source
from ostler.agent.throttle import WINDOW_S, Throttle
from ostler.agent.translate import is_urgent, signal_of
from ostler.agent.transport import SKEW_S, Transport
from ostler.agent.watch import Watch
from ostler.core.clock import Clock
from ostler.core.errors import BadInput, Forbidden, Permanent, Temporary, Unauthenticated
from ostler.faults.model import Fault
from ostler.wire.agent import REPORT_SIGNALS, AgentSettings, Heartbeat, Inventory, Report, ReportAnswer, Signal

GATHER_S = 0.5
"""Real seconds that a signal may wait for its neighbours."""
BACKOFF_S = (1.0, 60.0)
REFUSED_S = (300.0, 600.0)
ORDER_STEP_S = 0.2
"""Real seconds between looks at a running order."""

_log = logging.getLogger("ostler.agent")


class Detects(Protocol):
    """`faults.Detector`, or a faster one of the twin."""

    def detect(self, message: bytes | str, source: str = ...) -> Fault | None: ...


class Node(Protocol):
    """What the agent asks of the machine it runs on (inventory.py; the twin's node)."""

    def inventory(self) -> Inventory: ...

    def driver(self) -> str: ...

    def busy(self) -> bool | None: ...

    def uptime(self) -> float:
        """Domain seconds since boot."""
        ...


@dataclass(slots=True)
class Counters:
    """What this agent did, for its tests, the bench and the curious."""

    lines: int = 0
    signals: int = 0
    folded: int = 0
    reports: int = 0
    failures: int = 0


@dataclass(slots=True)
class _Due:
    """Monotonic real times at which something is next to be done."""

    heartbeat: float
    inventory: float
    report: float | None = None
    not_before: float = 0.0
    reads: dict[str, float] = field(default_factory=dict)


class Agent:
    """One node's agent. Not thread-safe: one thread polls it at a time."""

    def __init__(
        self,
        *,
        sources: Sequence[Source],
        buffer: Buffer,
        transport: Transport,
        clock: Clock,
        node: Node,
        detector: Detects,
        orders: Orders,
        monitors: Monitors | None = None,
        settings: AgentSettings = AgentSettings(),
        ticks: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        on_settings: Callable[[AgentSettings], None] = lambda settings: None,
    ) -> None:
        """Starts the sources where the buffer says they were left; a source that cannot start is tried again later."""
        self.counters = Counters()
        self.settings = settings
        self._sources = tuple(sources)
        self._buffer = buffer
        self._transport = transport
        self._clock = clock
        self._node = node
        self._detector = detector
        self._orders = orders
        self._ticks = ticks
        self._rng = rng or random.Random()  # noqa: S311  jitter is no secret
        self._on_settings = on_settings
        self._throttle = Throttle(clock.real_seconds(WINDOW_S))
        now = ticks()
        self._watch = Watch(monitors, clock, now)
        first_beat = now + self._rng.random() * min(1.0, self._beat_every())
        self._due = _Due(first_beat, inventory=now, reads={source.name: now for source in sources})
        self._worked: dict[str, float] = {}
        self._complained: dict[str, str] = {}
        self._started: set[str] = set()
        self._synced = False
        self._most = REPORT_SIGNALS
        self._doubt: Window | None = None
        """One signal that the server may be unable to read."""
        self._backoff = 0.0

    # ── stepping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def poll(self) -> float:
        """Does what is due; answers the real seconds until the next thing is (0: at once)."""
        now = self._ticks()
        more = False
        for source in self._sources:
            more |= self._read(source, now)
        for signal in self._throttle.due(now):
            self._keep(signal, now)
        for signal in self._watch.step(now):
            self._keep(signal, now)
        self._orders.step()
        if self._orders.results():
            self._due.report = now
        if now >= self._next_report():
            more |= self._report()
        self._flush()
        return 0.0 if more else max(0.0, self._next_due() - self._ticks())

    def close(self) -> None:
        """Stops orders, monitors and sources and writes the spool. What is unsent waits there for the next life."""
        self._orders.close()
        self._watch.close()
        for source in self._sources:
            source.close()
        self._transport.close()
        try:
            self._buffer.close()
        except OSError as error:
            _log.error("the spool cannot be written: %s", error)

    def descriptors(self) -> list[int]:
        """Descriptors whose readability should end the wait."""
        found = [source.fileno() for source in self._sources]
        return [fd for fd in (*found, self._watch.fileno()) if fd is not None]

    def tell_inventory(self) -> None:
        """What the node is made of has become better known: say it again."""
        self._due.inventory = self._ticks()

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, source: Source, now: float) -> bool:
        """One helping of lines; True when there may be more."""
        name = source.name
        self._due.reads[name] = now + source.interval
        try:
            if name not in self._started:
                source.start(self._buffer.position(name))
                self._started.add(name)
                self._mark(source)
            items = source.read()
        except OSError as error:
            self._complain(name, f"{name} cannot be read: {error}")
            return False
        self._well(name, now)
        for item in items:
            if isinstance(item, LogLine):
                self.counters.lines += 1
                fault = self._detector.detect(item.message, item.program)
                if fault is not None:
                    signal = signal_of(fault, item.at)
                    if self._throttle.admit(signal, now):
                        self._keep(signal, now, name, item.position)
                    else:
                        self.counters.folded += 1
            else:
                at = self._clock.now()
                self._buffer.declare(item.reason, item.detail, at, source=name, position=item.position)
                self._gather(now)
        return len(items) > 0 and source.fileno() is None

    def _keep(self, signal: Signal, now: float, source: str = "", position: str | None = None) -> None:
        self._buffer.append(signal, source=source, position=position)
        self.counters.signals += 1
        if is_urgent(signal):
            self._due.report = now
        else:
            self._gather(now)

    def _gather(self, now: float) -> None:
        if self._due.report is None:
            self._due.report = now + GATHER_S

    def _mark(self, source: Source) -> None:
        position = source.position()
        if position is not None:
            self._buffer.mark(source.name, position)

    # ── reporting ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _next_report(self) -> float:
        due = min(self._due.heartbeat, self._due.inventory)
        if not self._synced:
            due = self._due.not_before
        if self._due.report is not None:
            due = min(due, self._due.report)
        return max(due, self._due.not_before)

    def _next_due(self) -> float:
        due = min(self._next_report(), self._watch.next_due(self._ticks()))
        for source in self._sources:
            if source.fileno() is None:
                due = min(due, self._due.reads[source.name])
        folded = self._throttle.next_due()
        if folded is not None:
            due = min(due, folded)
        if self._orders.active():
            due = min(due, self._ticks() + ORDER_STEP_S)
        return due

    def _report(self) -> bool:
        """Sends one report; True when more waits and the server takes it."""
        window = self._buffer.window(most=self._most)
        current = window.boot_id == self._buffer.boot_id
        bare = not self._synced or self._doubt is not None
        if bare or (not current and self._ticks() >= self._due.heartbeat):
            # The first words of this life carry no signals: their numbers depend on what the server already holds.
            window, current = Window(self._buffer.boot_id, self._buffer.oldest_seq()), True
        report = self._compose(window, current)
        doubted, self._doubt = self._doubt, None  # a failure of the bare report clears the signal of suspicion
        try:
            answer = self._transport.report(report)
        except Temporary as error:
            self._failed(error, self._grow(error.delay))
            return False
        except (Unauthenticated, Forbidden) as error:
            self._failed(error, self._rng.uniform(*REFUSED_S))
            return False
        except Permanent as error:
            return self._rejected(window, report, error)
        if doubted is not None:
            _log.error("signal %d of boot %s is declared lost", doubted.first_seq, doubted.boot_id)
            self._buffer.reject(doubted, self._clock.now())
        return self._accepted(window, report, answer, current)

    def _compose(self, window: Window, current: bool) -> Report:
        now = self._ticks()
        heartbeat = inventory = readings = None
        if current:
            heartbeat = self._heartbeat(now)
            if self._synced and self._doubt is None:
                readings = self._watch.readings(now, self.settings)
            if now >= self._due.inventory and self._doubt is None:
                inventory = self._node.inventory()
        return Report(
            boot_id=window.boot_id,
            sent_at=self._clock.real(),
            first_seq=window.first_seq,
            signals=window.signals,
            lost=window.gaps,
            ended=window.ended,
            heartbeat=heartbeat,
            inventory=inventory,
            results=self._orders.results() if current else (),
            readings=readings,
            agent_version=__version__,
        )

    def _heartbeat(self, now: float) -> Heartbeat:
        scale = self._clock.real_seconds(1.0)
        worked = {source.name: self._worked.get(source.name) for source in self._sources}
        read = {name: -1.0 if at is None else (now - at) / scale for name, at in worked.items()}
        node = self._node
        return Heartbeat(node.uptime(), node.busy(), node.driver(), {**read, **self._watch.worked()})

    def _accepted(self, window: Window, report: Report, answer: ReportAnswer, current: bool) -> bool:
        now = self._ticks()
        self.counters.reports += 1
        self._backoff, self._due.not_before = 0.0, 0.0
        self._well("server", now)
        self._well("identity", now)
        if current:
            self._orders.told(report.results)
            self._due.heartbeat = now + self._beat_every() * self._rng.uniform(0.9, 1.1)
            if report.inventory is not None:
                self._due.inventory = now + self._clock.real_seconds(self.settings.report_inventory_s)
            if not self._throttle.holds():
                for source in self._sources:
                    if source.name in self._started:
                        self._mark(source)
        if answer.settings is not None and answer.settings != self.settings:
            self.settings = answer.settings
            self._on_settings(answer.settings)
        if current and not self._synced:
            self._synced = True
            self._buffer.sync(answer.ack_seq)
        else:
            self._buffer.ack(window.boot_id, answer.ack_seq)
            if window.entries and answer.ack_seq < window.first_seq:
                self._failed(Temporary("the server took a report but kept none of it"), self._grow(1.0))
        if abs(answer.clock_skew_s) > SKEW_S:
            side = "ahead of" if answer.clock_skew_s > 0 else "behind"
            self._complain(
                "clock", f"this node's clock is {abs(answer.clock_skew_s):.0f} s {side} the server's; set it"
            )
        else:
            self._well("clock", now)
        self._orders.take(answer.orders, self.settings)
        waiting = self._buffer.pending() > 0 or bool(self._orders.results())
        self._due.report = now if waiting else None
        if not waiting:
            self._most = REPORT_SIGNALS
        return waiting and now >= self._due.not_before

    def _rejected(self, window: Window, report: Report, error: Permanent) -> bool:
        """The server will not take this report: find the part that it chokes on. A single signal is declared lost only
        after a report without any was taken; a server that takes nothing at all costs nothing but time."""
        if isinstance(error, BadInput) and report.inventory is not None:
            _log.error("the server does not take this node's inventory: %s", error)
            self._due.inventory = self._ticks() + REFUSED_S[1]
            return True
        if isinstance(error, BadInput) and report.readings is not None:
            _log.error("the server does not take the GPUs' readings: %s", error)
            self._watch.refused(self._ticks() + REFUSED_S[1])
            return True
        if isinstance(error, BadInput) and window.entries:
            if self._most == REPORT_SIGNALS:
                _log.error("the server does not take signals from %d on: %s", window.first_seq, error)
            if len(window.entries) > 1:
                self._most = max(1, len(window.entries) // 2)
            else:
                self._doubt, self._most = window, REPORT_SIGNALS
            return True
        self._failed(error, self._rng.uniform(*REFUSED_S))
        return False

    def _failed(self, error: Exception, delay: float) -> None:
        self.counters.failures += 1
        self._due.not_before = self._ticks() + delay
        # Told apart, so that an absent server that comes back and refuses this node is not passed over in silence.
        what = "identity" if isinstance(error, Unauthenticated | Forbidden) else "server"
        self._complain(what, f"{error}; trying again, {self._buffer.pending()} signals wait")

    def _grow(self, least: float) -> float:
        """The next delay: doubling between the bounds, never below what the server asked for by more than jitter."""
        self._backoff = min(BACKOFF_S[1], max(BACKOFF_S[0], self._backoff * 2))
        asked = least if least > 10.0 else 0.0  # 10 s is the default of `Temporary` and no wish of the server
        return max(self._backoff * self._rng.uniform(0.5, 1.0), asked * self._rng.uniform(1.0, 1.2))

    def _beat_every(self) -> float:
        return self._clock.real_seconds(self.settings.heartbeat_s)

    # ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _flush(self) -> None:
        try:
            self._buffer.flush()
        except OSError as error:
            self._complain("spool", f"the spool cannot be written, signals are kept in memory only: {error}")
        else:
            self._well("spool", self._ticks())

    def _complain(self, what: str, message: str) -> None:
        """One line per failure, not one per try."""
        if what not in self._complained:
            _log.warning("%s", message)
        self._complained[what] = message

    def _well(self, what: str, now: float) -> None:
        self._worked[what] = now
        if self._complained.pop(what, None) is not None:
            _log.info("%s works again", what)
