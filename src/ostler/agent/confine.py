"""A child process that can be ended with everything it started: its own session, and its own cgroup where possible.

Used by verbs.py. Where a cgroup v2 hierarchy is mounted and the agent may make a group below its own, the check moves
itself into one and `cgroup.kill` ends it; elsewhere the process group is killed, which a child that makes a session of
its own escapes. Output is bounded and collected without blocking.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

OUTPUT_LIMIT = 256 * 1024
"""Bytes of output that are read; what a child writes beyond that is cut off."""

_log = logging.getLogger("ostler.agent")


class Child:
    """One running command. A check is told its group with `--cgroup` and moves there before it does anything."""

    def __init__(self, argv: Sequence[str], *, name: str) -> None:
        """Starts it. Raises OSError."""
        self._group = _make_group(name)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the child; closed in `finish`
        words = [*argv, "--cgroup", str(self._group)] if self._group is not None and _is_check(argv) else list(argv)
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError:
            self._output.close()
            self._remove_group()
            raise

    def poll(self) -> tuple[int, bytes] | None:
        """(exit status, output) when it has ended."""
        status = self._process.poll()
        if status is None:
            return None
        self._output.seek(0)
        output = self._output.read(OUTPUT_LIMIT)
        self.kill()
        return status, output

    def kill(self) -> None:
        """Ends it and all it started, and cleans up. Safe to repeat."""
        if self._output.closed:
            return
        if self._group is not None:
            with contextlib.suppress(OSError):
                (self._group / "cgroup.kill").write_text("1")
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()
        self._remove_group()

    def _remove_group(self) -> None:
        if self._group is not None:
            with contextlib.suppress(OSError):
                self._group.rmdir()


def _is_check(argv: Sequence[str]) -> bool:
    return "ostler.checks" in argv


def own_group(proc: Path = Path("/proc/self")) -> Path | None:
    """The folder of this process's cgroup v2; None where there is no such hierarchy."""
    try:
        mounts = (proc / "mountinfo").read_text().splitlines()
        groups = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return None
    root = next((line.split()[4] for line in mounts if " - cgroup2 " in line), None)
    path = next((line[3:] for line in groups if line.startswith("0::")), None)
    if root is None or path is None:
        return None
    folder = Path(root) / path.lstrip("/")
    return folder if (folder / "cgroup.procs").exists() else None


def _make_group(name: str) -> Path | None:
    parent = own_group()
    if parent is None:
        return None
    group = parent / f"ostler-{name}-{os.getpid()}"
    try:
        group.mkdir(exist_ok=True)
        if not os.access(group / "cgroup.procs", os.W_OK) or not (group / "cgroup.kill").exists():
            group.rmdir()
            return None
    except OSError:
        return None
    return group
