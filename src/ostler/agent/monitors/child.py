"""All monitors of a real node, as the agent sees them: the child process of worker.py and its pipe. Never blocks.

The child is started, read, and when it has died or fallen silent killed and started again, with a growing delay. A
child whose thread hangs in the kernel cannot be killed: it is left behind and not waited for, three of them at most,
because each holds memory and a driver's handle. While no child runs all monitors are dead, which `Rounds` tells.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ostler.agent.monitors.lines import LINE_LIMIT, Line, Said, Serial, read_line
from ostler.agent.monitors.port import Look
from ostler.agent.monitors.rounds import Rounds, table
from ostler.core.errors import BadInput
from ostler.faults.metrics import METRICS
from ostler.wire.agent import Readings, Signal

SILENT_S = 30.0
"""Seconds without a line after which the child counts as dead; it speaks every 5 s."""
BACKOFF_S = (1.0, 60.0)
LEFT_BEHIND = 3
LINES_PER_STEP = 256
GPUS = "gpu"
"""The monitor that holds the GPUs' driver."""

_log = logging.getLogger("ostler.agent")


def command(root: Path, names: Sequence[str], expected: int, keep: Path | None) -> tuple[str, ...]:
    """argv of the child."""
    asked = {"root": str(root), "names": list(names), "expected_gpus": expected, "keep": keep and str(keep)}
    # Without `site`: its path comes from this process, and what it loads would lie there unused.
    return (sys.executable, "-S", "-m", "ostler.agent.monitors.worker", json.dumps(asked))


class ChildMonitors:
    """A `Monitors`, and what the agent's own process asks besides: hold and resume the GPUs, their serial numbers."""

    def __init__(
        self,
        argv: Callable[[int], Sequence[str]],
        *,
        at: Callable[[], float],
        expected_gpus: int = -1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`argv` gets the number of GPUs to expect; `at` is the domain time of signals. Starts with the first step."""
        self.on_serials: Callable[[], None] = lambda: None
        """Called when `serials` has changed."""
        self._argv = argv
        self._rounds = Rounds(at)
        self._expected = expected_gpus
        # Threads would each get an arena of the allocator, which costs more than all that the monitors keep.
        path = os.pathsep.join(entry or "." for entry in sys.path)
        self._environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "PYTHONPATH": path, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._left: list[subprocess.Popen[bytes]] = []
        self._input = b""
        self._heard = 0.0
        self._start_at: float | None = None
        self._backoff = 0.0
        self._held = False
        self._let_go = False
        self._serials: tuple[Serial, ...] = ()
        self._fresh = False
        self._closed = False

    # ── Monitors ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def step(self, now: float) -> Sequence[Signal]:
        self._left = [process for process in self._left if process.poll() is None]
        if self._process is not None:
            self._read(now)
        if self._process is not None and now - self._heard > SILENT_S:
            self._lose(f"their process has been silent for {now - self._heard:.0f} s", now)
        if self._process is None and not self._closed and (self._start_at is None or now >= self._start_at):
            self._start(now)
        return self._rounds.step(now)

    def readings(self) -> Readings | None:
        if not self._fresh:
            return None
        self._fresh = False
        return table(self._rounds.readings(), METRICS)

    def worked(self) -> Mapping[str, float]:
        return self._rounds.worked(self._heard)

    def fileno(self) -> int | None:
        process = self._process
        return None if process is None or process.stdout is None else process.stdout.fileno()

    def close(self) -> None:
        self._closed = True
        if self._process is not None:
            process, self._process = self._process, None
            self._drop(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)  # it is killed; only one that hangs in the kernel takes longer

    # ── for the agent's own process ──────────────────────────────────────────────────────────────────────────────────

    def expect(self, gpus: int) -> None:
        """The server has said how many GPUs there should be."""
        if gpus != self._expected:
            self._expected = gpus
            self._tell({"expected_gpus": gpus})

    def hold(self) -> None:
        """Let go of the GPUs, for a reset."""
        if not self._held:
            self._held, self._let_go = True, False
            self._rounds.hold(GPUS)
            self._tell({"hold": True})

    def let_go(self) -> bool:
        """Nothing of ours holds a GPU any more: the child has said so, or there is none."""
        return self._let_go or (self._process is None and not self._left) or GPUS not in self._rounds.names()

    def kill(self) -> None:
        """End it: it does not let go. Another one is started with the next step, while held after `resume`."""
        if self._process is not None:
            self._drop(self._process)
            self._process, self._start_at = None, None

    def resume(self) -> None:
        """Look at the GPUs again."""
        if self._held:
            self._held = False
            self._tell({"hold": False})
            self._rounds.resume(GPUS, self._heard)

    def pids(self) -> frozenset[int]:
        """Processes of ours that may hold a GPU."""
        running = [self._process] if self._process is not None else []
        return frozenset(process.pid for process in (*running, *self._left))

    def serials(self) -> Mapping[str, Serial]:
        """PCI address → who the GPU is, as NVML said last."""
        return {gpu.pci: gpu for gpu in self._serials}

    # ── the child ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, now: float) -> None:
        if self._held:
            return  # a new one would take the GPU that is about to be reset
        self._grow(now)
        if len(self._left) >= LEFT_BEHIND:
            self._rounds.all_failed(f"{len(self._left)} processes of theirs hang in the kernel; no other is started")
            return
        try:
            self._process = subprocess.Popen(
                self._argv(self._expected),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            self._rounds.all_failed(f"their process cannot be started: {error.strerror}")
            return
        self._heard, self._input = now, b""
        if self._process.stdout is not None:
            os.set_blocking(self._process.stdout.fileno(), False)
        if self._process.stdin is not None:
            os.set_blocking(self._process.stdin.fileno(), False)

    def _grow(self, now: float) -> None:
        self._backoff = min(BACKOFF_S[1], max(BACKOFF_S[0], self._backoff * 2))
        self._start_at = now + self._backoff

    def _read(self, now: float) -> None:
        process = self._process
        if process is None or process.stdout is None:
            return
        for _ in range(LINES_PER_STEP):
            end = self._input.find(b"\n")
            if end >= 0:
                raw, self._input = self._input[:end], self._input[end + 1 :]
                try:
                    self._take(read_line(raw), now)
                except (BadInput, KeyError) as error:
                    self._lose(f"their process says what cannot be understood: {str(error)[:200]}", now)
                if self._process is not process:
                    return
                continue
            if len(self._input) > LINE_LIMIT:
                self._lose("their process speaks without end", now)
                return
            try:
                chunk = os.read(process.stdout.fileno(), 65536)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(f"their process cannot be heard: {error.strerror}", now)
                return
            if not chunk:
                self._lose("their process has ended", now)
                return
            self._input += chunk

    def _take(self, line: Line, now: float) -> None:
        self._heard = now
        rounds = self._rounds
        match line.said:
            case Said.HELLO:
                for told in line.monitors:
                    rounds.expect(told.name, told.period_s, now)
                if self._held:
                    rounds.hold(GPUS)
                    self._tell({"hold": True})
            case Said.LOOK:
                faults = tuple(standing.fault() for standing in line.standing)
                rounds.looked(line.monitor, Look(faults, line.readings), now)
                self._backoff = 0.0  # it works: the next death is a new one
                if line.monitor == GPUS:
                    self._fresh = True
                    if line.gpus != self._serials:
                        self._serials = line.gpus
                        self.on_serials()
            case Said.FAILED | Said.HANGS:
                rounds.failed(line.monitor, line.reason)
            case Said.HELD:
                self._let_go = self._held
            case Said.AGAIN:
                _log.info("the monitors start anew: %s", line.reason)
                self.kill()
            case Said.BEAT:
                return

    def _lose(self, reason: str, now: float) -> None:
        """The child is of no use any more."""
        process, self._process = self._process, None
        if process is not None:
            self._drop(process)
        self._grow(now)
        _log.warning("the monitors: %s", reason)
        self._rounds.all_failed(reason)

    def _drop(self, process: subprocess.Popen[bytes]) -> None:
        """End it without waiting: one that hangs in the kernel never ends."""
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.kill()
        if process.poll() is None:
            self._left.append(process)

    def _tell(self, wish: Mapping[str, object]) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                os.write(process.stdin.fileno(), json.dumps(wish).encode() + b"\n")
