"""Runs a check in a process group of its own, so that it can be ended at once, and reads what it says.

Used by `ostler checks run`; the agent has its own way (agent/confine.py). A kernel on a GPU cannot be interrupted from
within its process, and a crash or a hang of the driver must not take the caller along. What a check has written counts
only when it ended by itself: stopped or killed, it is inconclusive.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import IO, Any

from ostler.checks.model import Arguments, CheckResult, CheckVerdict
from ostler.checks.registry import Check, find
from ostler.core.errors import BadInput

GRACE_S = 30.0
"""What starting PyTorch and cleaning up may take beyond the check's own budget."""
_KILL_S = 3.0
"""How long a killed process may take to be gone: longer, and the driver holds it."""
_OUTPUT = 1 << 20
_PR_SET_PDEATHSIG = 1


class Stopped(Exception):
    """Somebody wants the machine: SIGTERM or an interrupt."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def arguments_of(check: Check, pairs: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` texts as arguments of this check. Raises BadInput."""
    arguments = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise BadInput(f"{pair[:60]!r} is no KEY=VALUE", where="--set")
        if key not in check.arguments:
            raise BadInput(f"this check takes no {key[:40]!r}", where="--set")
        arguments[key] = value
    return arguments


def end_with_parent() -> None:
    """Asks the kernel to kill this process when its parent ends (prctl(2), PR_SET_PDEATHSIG); Linux only."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class _Gate:
    """Lets a stop through, or keeps it until what must not be interrupted is done."""

    def __init__(self) -> None:
        self.shut = False
        self.kept: int | None = None

    def stop(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.shut:
            self.kept = number
        else:
            raise Stopped(number)

    def open(self) -> None:
        """Raises Stopped if a stop came while it was shut."""
        self.shut = False
        if self.kept is not None:
            number, self.kept = self.kept, None
            raise Stopped(number)


_gate = _Gate()


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Within it SIGTERM and SIGINT raise Stopped, also where this is process 1 of a container."""
    _gate.shut, _gate.kept = False, None
    before = {number: signal.signal(number, _gate.stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_apart(name: str, arguments: Arguments, budget_s: float, *, grace_s: float = GRACE_S) -> CheckResult:
    """One check, ended at `budget_s` plus some grace. Raises BadInput, and Stopped once nothing of it runs any more."""
    check = find(name)
    argv = [sys.executable, "-m", "ostler.checks", check.name, "--json", "--with-parent", "--budget", f"{budget_s:.1f}"]
    for key, value in arguments.items():
        argv += ["--set", f"{key}={value}"]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        late = False
        _gate.shut = True  # a stop between the start of the child and the `try` would leave it running
        try:
            running = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
            )
        except OSError as error:
            _gate.open()
            return _unknown(name, f"it could not be started: {error.strerror}")
        try:
            _gate.open()
            running.wait(budget_s + grace_s)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            _gate.shut = True
            gone = _kill(running)
            _gate.shut = False
        if _gate.kept is not None:
            _gate.open()
        if not gone:
            return _unknown(name, "it does not end even when killed: the driver holds it")
        if late:
            return _unknown(name, f"it was not done {grace_s:.0f} s after its time of {budget_s:.0f} s, and was ended")
        return _read(check, running.returncode, output, errors)


def _kill(running: subprocess.Popen[bytes]) -> bool:
    """Ends the process and all it started; False when it cannot be ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(running.pid, signal.SIGKILL)
    try:
        running.wait(_KILL_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _read(check: Check, status: int, output: IO[bytes], errors: IO[bytes]) -> CheckResult:
    said, complaint = _tail(output), _tail(errors)
    last = complaint.splitlines()[-1] if complaint else ""
    if status == 2:
        where, _, message = last.partition(": ")
        raise BadInput(message or last or "bad arguments", where=where if message else check.name)
    if status not in (0, 1):
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        return _unknown(check.name, f"it ended without a result ({how}): {last[:300]}")
    try:
        document: Mapping[str, Any] = json.loads(said.splitlines()[-1])
        result = CheckResult(
            str(document["name"]),
            CheckVerdict(document["verdict"]),
            dict(document["measured"]),
            str(document["message"]),
        )
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return _unknown(check.name, f"it ended without a result (exit status {status}): {last[:300]}")
    if result.name != check.name or (result.verdict is CheckVerdict.PASSED) != (status == 0):
        return _unknown(check.name, "its result and its exit status contradict each other")
    return result


def _tail(stream: IO[bytes]) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _OUTPUT))
    text = stream.read().decode("utf-8", "replace").strip()
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)


def _unknown(name: str, message: str) -> CheckResult:
    return CheckResult(name, CheckVerdict.INCONCLUSIVE, {}, message)
