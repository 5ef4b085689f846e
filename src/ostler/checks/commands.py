"""Runs a tool of somebody else's for a check: bounded in time and output, in our process group, never through a shell.

Used by ib_write_bw.py and dcgm_diag.py. A test gives another `Runner`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

_OUTPUT = 4 << 20


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command said. `status` None: it was ended because the time was over."""

    status: int | None
    output: str
    errors: str = ""

    @property
    def last_words(self) -> str:
        """The last line that says something, of the errors if there are any; for a message."""
        for text in (self.errors, self.output):
            lines = [line.strip() for line in text.splitlines() if any(char.isalnum() for char in line)]
            if lines:
                return "".join(char if char.isprintable() else " " for char in lines[-1])[:300]
        return "it said nothing"


Runner: TypeAlias = Callable[[Sequence[str], float], Ran]
"""(argv, seconds) -> Ran. Raises FileNotFoundError when there is no such tool, OSError when it cannot be started."""


def run_command(argv: Sequence[str], seconds: float) -> Ran:
    """Runs it with a C locale, for at most so many seconds."""
    path = shutil.which(argv[0])
    if path is None:
        raise FileNotFoundError(argv[0])
    environment = {**os.environ, "LC_ALL": "C"}
    with subprocess.Popen(
        [path, *argv[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as running:
        try:
            output, errors = running.communicate(timeout=max(seconds, 0.1))
            status: int | None = running.returncode
        except subprocess.TimeoutExpired:
            running.kill()
            output, errors = running.communicate()
            status = None
    return Ran(status, output[:_OUTPUT].decode("utf-8", "replace"), errors[:_OUTPUT].decode("utf-8", "replace"))
