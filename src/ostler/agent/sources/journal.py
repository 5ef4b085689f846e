"""What the kernel and the fabric manager say, as journald keeps it: a child `journalctl --follow` is read.

Position: the journal's cursor. A journalctl that ends is started again behind the last cursor, so nothing is missed;
meanwhile `read` raises and the monitor grows old in the heartbeat.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from ostler.agent.sources.port import LINES_PER_READ, Item, LogLine
from ostler.core.clock import Clock
from ostler.faults import formats

_CHUNK = 1 << 16
_LINE_LIMIT = 1 << 20
_CURSOR = re.compile(rb'"__CURSOR" ?: ?"([!-~]{1,512}?)"')
"""The first one in the object: journalctl writes it ahead of every field that a program can set."""
_MATCHES = ("_TRANSPORT=kernel", "+", "_SYSTEMD_UNIT=nvidia-fabricmanager.service")
_PATIENCE = 5.0
"""Real seconds before a journalctl that ended is started again."""


class JournalSource:
    """Follows the journal of this boot through a child process, without blocking."""

    name = "journal"
    interval = 1.0

    def __init__(
        self,
        clock: Clock,
        *,
        command: Sequence[str] = ("journalctl",),
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._command = tuple(command)
        self._ticks = ticks
        self._cursor: str | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._lines: list[bytes] = []
        self._not_before = 0.0

    def start(self, position: str | None) -> None:
        self._cursor = position

    def read(self) -> Sequence[Item]:
        if self._child is None:
            self._spawn()
        if not self._lines:
            self._fill()
        items: list[Item] = []
        while self._lines and len(items) < LINES_PER_READ:
            item = self._item(self._lines.pop())
            if item is not None:
                items.append(item)
                self._cursor = item.position
        if self._child is None and not items:
            raise OSError("journalctl ended; it is started again shortly")
        return items

    def position(self) -> str | None:
        return self._cursor

    def fileno(self) -> int | None:
        return self._child.stdout.fileno() if self._child is not None and self._child.stdout is not None else None

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()

    def _spawn(self) -> None:
        if self._ticks() < self._not_before:
            raise OSError("journalctl ended; it is started again shortly")
        self._not_before = self._ticks() + _PATIENCE
        since = ("--lines=all",) if self._cursor is None else (f"--after-cursor={self._cursor}",)
        self._child = subprocess.Popen(
            (*self._command, "--boot", "--follow", "--output=json", "--no-pager", "--quiet", *since, *_MATCHES),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if self._child.stdout is not None:
            os.set_blocking(self._child.stdout.fileno(), False)
        self._rest = b""

    def _fill(self) -> None:
        descriptor = self.fileno()
        if descriptor is None:
            return
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(descriptor, _CHUNK)
            if not chunk:
                self.close()
                return
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            if len(self._rest) > _LINE_LIMIT:
                self._rest = b""
            lines.reverse()
            self._lines = lines

    def _item(self, line: bytes) -> Item | None:
        """One JSON object of journalctl; None for what is none."""
        record = formats.parse(line)
        found = _CURSOR.search(line)
        if record is None or record.family is not formats.Format.JOURNAL_JSON or found is None:
            return None
        at = self._clock.now()
        if record.time is not None:
            with contextlib.suppress(ValueError):
                at = datetime.fromisoformat(record.time).timestamp()
        return LogLine(at, record.message, found[1].decode("ascii"), record.source)
