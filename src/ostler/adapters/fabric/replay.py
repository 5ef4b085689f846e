"""`Collector` over a folder into which others drop what the tools printed: a subnet manager's host that Ostler may not
enter, a fabric behind a wall, or recorded fabrics.

Every regular file is one output of any tool, plain or gzip; what the tool complained of may stand beside it as
`NAME.err`. Write elsewhere and rename into place: `ibnetdiscover >.new 2>fabric.txt.err; mv .new fabric.txt`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ostler.adapters.fabric.port import MOST_BYTES, MOST_STDERR, Collection, Output, Want
from ostler.core.errors import BadInput, Forbidden, Unavailable

MOST_FILES = 64
FRESH_S = 12 * 3600.0
"""A dump that is older says how the fabric was, and would close tickets for faults that have come back since."""
_PASSED_OVER = (".err", ".tmp", ".part", ".new")


class FolderCollector:
    """Takes what lies in a folder now. `fresh_s`: real seconds after which a file is too old; 0: never."""

    def __init__(self, vantage: str, folder: Path, real: Callable[[], float], *, fresh_s: float = FRESH_S) -> None:
        self._vantage = vantage
        self._folder = folder
        self._real = real
        self._fresh_s = fresh_s
        self._closed = False

    @property
    def vantage(self) -> str:
        return self._vantage

    def collect(self, what: Want) -> Collection:
        """All of it, however much was wanted. Raises as the port says; `Unavailable` if nothing fresh lies there."""
        if self._closed:
            raise Unavailable("The collection was stopped.", where=self._vantage)
        began, now = time.monotonic(), self._real()
        outputs = tuple(self._outputs(now))
        if not any(output.data for output in outputs):
            why = outputs[0].stderr if outputs else "no file is there"
            raise Unavailable(f"No dump of the fabric to read: {why}.", where=str(self._folder), delay=300.0)
        return Collection(self._vantage, now, time.monotonic() - began, outputs)

    def close(self) -> None:
        self._closed = True

    def _outputs(self, now: float) -> Iterator[Output]:
        try:
            names = sorted(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            raise BadInput("This folder does not exist; make it, or name another.", where=str(self._folder)) from None
        except PermissionError:
            raise Forbidden("This folder may not be read.", where=str(self._folder)) from None
        names = [name for name in names if not name.startswith(".") and not name.endswith(_PASSED_OVER)]
        for name in names[:MOST_FILES]:
            path = self._folder / name
            data, written, why = _read(path, MOST_BYTES)
            if data is not None and self._fresh_s and now - written > self._fresh_s:
                data, why = None, f"{name} is {(now - written) / 3600:.0f} h old"
            if data is None:
                yield Output("file", (str(path),), b"", why, 1)
                continue
            said, _, _ = _read(path.with_name(name + ".err"), MOST_STDERR)
            yield Output("file", (str(path),), data, (said or b"").decode(errors="replace"), 0, taken_at=written)
        if len(names) > MOST_FILES:
            yield Output("file", (str(self._folder),), b"", f"{len(names) - MOST_FILES} further files were not read", 1)


def _read(path: Path, most: int) -> tuple[bytes | None, float, str]:
    """A regular file's bytes, when it was written, and why there are none."""
    try:
        # Whoever may write here may not make us follow a link or wait at a pipe.
        with open(path, "rb", opener=_opener) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                return None, 0.0, f"{path.name} is no regular file"
            if about.st_size > most:
                return None, about.st_mtime, f"{path.name} has more than {most >> 20} MiB"
            data = file.read(most + 1)
            if len(data) != os.fstat(file.fileno()).st_size:
                return None, about.st_mtime, f"{path.name} is being written; rename it into place when it is done"
            return data, about.st_mtime, ""
    except OSError as error:
        return None, 0.0, f"{path.name} cannot be read: {error.strerror}"


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
