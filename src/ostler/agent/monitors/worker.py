"""The process that runs all monitors, each in a thread of its own: `python -m ostler.agent.monitors.worker`.

Started by child.py, which reads what is said here (lines.py). A look that hangs in the kernel (an ioctl of the GPU's
driver, a dead NFS mount) hangs its thread and nothing else: the main thread goes on saying that the process lives and
which look is over its deadline. What an overdue look finds in the end is thrown away, because it is old.

Standard input is the leash: one JSON document a line says what to expect or to hold, and its end ends this process.
Nothing waits for a thread then, and `os._exit` leaves one that the kernel will not give back.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ostler.agent.monitors.gpu import GpuMonitor
from ostler.agent.monitors.lines import Line, Said, Told, look_line
from ostler.agent.monitors.port import Monitor
from ostler.wire.decode import encode, fit

BEAT_S = 5.0
"""Seconds between two signs of life, and at most between two looks at the deadlines."""
SPREAD_S = 0.2
"""Seconds between the first looks of two monitors."""
NICE = 10
_NAME = b"ostler-monitors\0"
_PR_SET_NAME = 15


class _Runner:
    """One monitor and its thread."""

    def __init__(self, monitor: Monitor, say: Callable[[bytes], None], first: float) -> None:
        self.monitor = monitor
        self.started: float | None = None
        """When the look that runs now began."""
        self.told_hanging = False
        self._say = say
        self._next = first
        self._wake = threading.Condition()
        self._held = False
        threading.Thread(target=self._run, name=monitor.name, daemon=True).start()

    def hold(self, held: bool) -> None:
        """Let go of the device, or take it again."""
        with self._wake:
            self._held = held
            self._next = time.monotonic()
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._held and (rest := self._next - time.monotonic()) > 0:
                    self._wake.wait(rest)
                held = self._held
            if held:
                self._let_go()
                continue
            begin = time.monotonic()
            self.told_hanging, self.started = False, begin
            line = self._look(begin)
            self.started = None
            took = time.monotonic() - begin
            if took > self.monitor.deadline_s:
                line = self._failure(f"its look took {took:.1f} s, over its deadline of {self.monitor.deadline_s:g} s")
            self._say(line)
            self._next = max(begin + self.monitor.period_s, time.monotonic())

    def _let_go(self) -> None:
        if isinstance(self.monitor, GpuMonitor):
            self.monitor.release()
        self._say(encode(Line(Said.HELD, self.monitor.name)) + b"\n")
        with self._wake:
            self._wake.wait_for(lambda: not self._held)

    def _look(self, now: float) -> bytes:
        try:
            look = self.monitor.look(now)
            gpus = self.monitor.serials() if isinstance(self.monitor, GpuMonitor) else ()
            return look_line(self.monitor.name, look, gpus)
        except OSError as error:
            return self._failure(str(error))
        except Exception as error:  # a defect of one monitor is that monitor's death, never the others'
            return self._failure(f"{type(error).__name__}: {error}")

    def _failure(self, reason: str) -> bytes:
        return encode(Line(Said.FAILED, self.monitor.name, fit(reason))) + b"\n"


class _Out:
    """The pipe to the agent; lines of several threads do not mix."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def say(self, line: bytes) -> None:
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                os._exit(0)  # nobody listens any more


def serve(monitors: Sequence[Monitor], descriptor_in: int = 0, descriptor_out: int = 1) -> None:
    """Runs until the input ends. Never returns: the process ends here, whatever its threads do."""
    out = _Out(os.dup(descriptor_out))
    os.dup2(2, descriptor_out)  # a library that prints must not speak in our name
    told = tuple(Told(monitor.name, monitor.period_s, monitor.deadline_s) for monitor in monitors)
    out.say(encode(Line(Said.HELLO, monitors=told)) + b"\n")
    first = time.monotonic()
    runners = [_Runner(monitor, out.say, first + SPREAD_S * number) for number, monitor in enumerate(monitors)]
    poll = select.poll()
    poll.register(descriptor_in, select.POLLIN)
    beat, heard = first + BEAT_S, b""
    while True:
        if poll.poll(max(0.0, _wait(runners, beat)) * 1000):
            chunk = os.read(descriptor_in, 65536)
            if not chunk:
                os._exit(0)
            *lines, heard = (heard + chunk).split(b"\n")
            for line in lines:
                _obey(json.loads(line), runners)
        now = time.monotonic()
        for runner in runners:
            started, limit = runner.started, runner.monitor.deadline_s
            if started is not None and now - started > limit and not runner.told_hanging:
                runner.told_hanging = True
                reason = f"its look has been running for {now - started:.1f} s, over its deadline of {limit:g} s"
                out.say(encode(Line(Said.HANGS, runner.monitor.name, reason)) + b"\n")
            if isinstance(runner.monitor, GpuMonitor) and runner.monitor.stale:
                out.say(encode(Line(Said.AGAIN, reason="another driver's library needs a new process")) + b"\n")
                os._exit(0)
        if now >= beat:
            out.say(encode(Line(Said.BEAT)) + b"\n")
            beat = now + BEAT_S


def _wait(runners: Sequence[_Runner], beat: float) -> float:
    until = beat
    for runner in runners:
        started = runner.started
        if started is not None and not runner.told_hanging:
            until = min(until, started + runner.monitor.deadline_s + 0.01)
    return until - time.monotonic()


def _obey(wish: dict[str, Any], runners: Sequence[_Runner]) -> None:
    """Says of the agent itself: `expected_gpus` (a count, -1: unknown), `hold` and `resume` (the GPUs' monitor)."""
    for runner in runners:
        if isinstance(runner.monitor, GpuMonitor):
            if "expected_gpus" in wish:
                runner.monitor.expected = int(wish["expected_gpus"])
            if "hold" in wish:
                runner.hold(bool(wish["hold"]))


def _settle() -> None:
    """A name that people and `agent/inventory.py` know, low priority, and the first to go when memory runs out."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_NAME, _NAME, 0, 0, 0)
        gc.collect()
        gc.freeze()
        libc.malloc_trim(0)  # what the imports needed for a moment
    with contextlib.suppress(OSError):
        os.nice(NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def build(root: Path, names: Sequence[str], expected: int, keep: Path | None) -> list[Monitor]:
    """All monitors, or those of these names."""
    from ostler.agent.monitors.host import monitors as host_monitors

    found: list[Monitor] = [GpuMonitor(root, expected=expected), *host_monitors(root, keep=keep)]
    return [monitor for monitor in found if not names or monitor.name in names]


def main(document: str) -> None:
    """`document`: the JSON of child.command(); this process has no other caller, and no room for an argument parser."""
    asked = json.loads(document)
    keep = asked["keep"]
    monitors = build(Path(asked["root"]), asked["names"], asked["expected_gpus"], None if keep is None else Path(keep))
    _settle()
    serve(monitors)


if __name__ == "__main__":
    main(sys.argv[1])
