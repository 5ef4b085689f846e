"""Runs Slurm's commands for `slurm.py`: no shell, a small environment, a deadline, bounded output, plain errors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import NoReturn

from ostler.core.errors import BadInput, Forbidden, NotFound, Unauthenticated, Unavailable, Unreachable

SECONDS = 30.0
"""A tool waits 10 s (MessageTimeout) for a controller and then asks its backup."""
MOST_BYTES = 256 << 20
"""`scontrol -o show node` prints about 0.8 KiB per node: 100,000 nodes are 80 MB."""
NEEDED = ("scontrol", "squeue", "scancel", "sbatch")

_ERRORS: tuple[tuple[str, type[Forbidden | NotFound | Unauthenticated | Unreachable | Unavailable]], ...] = (
    ("invalid node name", NotFound),
    ("invalid user id", Forbidden),
    ("permission denied", Forbidden),
    ("protocol authentication", Unauthenticated),
    ("munge", Unauthenticated),
    ("invalid authentication", Unauthenticated),
    ("unable to contact slurm controller", Unreachable),
    ("connection refused", Unreachable),
    ("timed out", Unreachable),
    ("socket", Unreachable),
    ("zero bytes were transmitted", Unreachable),
)


class Failed(Exception):
    """A tool ended with an error; its words."""

    def __init__(self, tool: str, said: str) -> None:
        super().__init__(said)
        self.tool = tool
        self.said = said


class Tools:
    """The commands of one cluster. `conf`: its slurm.conf ('': the tools' default); `bin`: their folder ('': PATH)."""

    def __init__(self, name: str, conf: str = "", bin: str = "") -> None:
        self.name = name
        path = os.pathsep.join(part for part in (bin, os.environ.get("PATH", os.defpath)) if part)
        # Nothing else of the server's environment: sbatch hands it to the job, and it may hold secrets.
        self._environment = {"PATH": path, "LC_ALL": "C", "HOME": str(Path.home())}
        if conf:
            self._environment["SLURM_CONF"] = conf
            if not os.access(conf, os.R_OK):
                raise BadInput(f"slurm.conf cannot be read at {conf}.", where=f"[clusters.{name}] slurm_conf")
        self._programs: dict[str, str] = {}
        for tool in NEEDED:
            program = shutil.which(tool, path=bin or path)
            if program is None:
                raise BadInput(
                    f"No {tool} in {bin or 'PATH'}; install Slurm's client commands, or say where they are.",
                    where=f"[clusters.{name}] bin",
                )
            self._programs[tool] = program

    def ask(self, tool: str, *arguments: str, text: str = "", seconds: float = SECONDS) -> str:
        """Its standard output. Raises `Failed` for an answer that says no, or the error that says what is wrong."""
        with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as given:
            given.write(text.encode())
            given.seek(0)
            try:
                process = subprocess.Popen(
                    [self._programs[tool], *arguments],
                    env=self._environment,
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
            except OSError as error:
                raise Unavailable(f"{tool} does not run: {error.strerror}.", where=self.name) from None
            late = threading.Event()

            def kill() -> None:
                late.set()
                process.kill()

            watch = threading.Timer(seconds, kill)
            watch.start()
            try:
                with process:
                    assert process.stdout is not None
                    output = process.stdout.read(MOST_BYTES + 1)
                    if len(output) > MOST_BYTES:
                        process.kill()
                        raise Unavailable(f"{tool} prints more than {MOST_BYTES >> 20} MiB.", where=self.name)
            finally:
                watch.cancel()
            if late.is_set():
                raise Unreachable(f"{tool} gave no answer in {seconds:.0f} s.", where=self.name)
            answer = output.decode(errors="replace")
            if process.returncode != 0:
                errors.seek(0)
                self._no(tool, answer, errors.read(4096).decode(errors="replace"))
            return answer

    def _no(self, tool: str, answer: str, complaint: str) -> NoReturn:
        if not complaint and re.search(r"^Node \S+ not found$", answer, re.MULTILINE):
            raise Failed(tool, answer)
        said = " ".join((complaint or answer[-400:]).split())
        for words, kind in _ERRORS:
            if words in said.lower():
                raise kind(f"{tool}: {said[:300]}.", where=self.name)
        raise Failed(tool, said[:300])
