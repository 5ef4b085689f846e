"""Runs one command for `tools.py`: no shell, a small environment, its own process group, a deadline, bounded output."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ostler.adapters.fabric.port import MOST_BYTES, MOST_STDERR
from ostler.core.errors import BadInput, Unavailable

_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended. `status` None: stopped by its deadline."""

    data: bytes
    stderr: str
    status: int | None
    seconds: float


class Commands:
    """Runs commands one after another in one folder, and can be stopped from another thread."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._closed = False

    def run(self, argv: Sequence[str], folder: Path, seconds: float, *, most: int = MOST_BYTES) -> Finished:
        """Run it in `folder`, where tools may leave files of their own. Its output goes through files there, so that
        a full pipe never stops it and nothing is read before it has ended.

        Raises `BadInput` if it cannot be started, `Unavailable` once `close` was called.
        """
        began = time.monotonic()
        out, err = folder / "stdout", folder / "stderr"
        with out.open("wb") as to, err.open("wb") as complaints:
            process = self._start(argv, folder, to.fileno(), complaints.fileno())
        try:
            # What is beyond the limit kills it by SIGXFSZ instead of filling the disk; what it wrote before the limit
            # was set is not read.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))
            try:
                status: int | None = process.wait(seconds)
            except subprocess.TimeoutExpired:
                status = None
        finally:
            _end(process)
            with self._lock:
                self._running = None
        if self._closed:
            raise Unavailable("The collection was stopped.", where=argv[0])
        said = _text(err)
        if status == -signal.SIGXFSZ:
            said += f"\n{argv[0]} printed more than {most >> 20} MiB and was stopped"
        with out.open("rb") as file:
            return Finished(file.read(most), said, status, time.monotonic() - began)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._running is not None:
                _signal(self._running, signal.SIGKILL)

    def _start(self, argv: Sequence[str], folder: Path, out: int, err: int) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise Unavailable("The collection was stopped.", where=argv[0])
            try:
                self._running = subprocess.Popen(
                    argv,
                    cwd=folder,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
            except OSError as error:
                raise BadInput(f"It does not run: {error.strerror}.", where=argv[0]) from None
            return self._running


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of its group stays, however the wait for it ended."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    _signal(process, signal.SIGKILL)  # and what it started
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MOST_STDERR).decode(errors="replace")
