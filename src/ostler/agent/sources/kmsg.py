"""/dev/kmsg: the kernel's ring buffer, one record per read. The default source; needs root or CAP_SYSLOG.

Format: Documentation/ABI/testing/dev-kmsg of the kernel: `priority,sequence,microseconds,flags[,…];message`, then
continuation lines ` KEY=value`; bytes that are not printable arrive as `\\xNN`. `read` answers EPIPE when the record
it stood at was overwritten: the sequence of the next one says how many were lost. The kernel sets facility 1 (user) on
what programs write there; `faults.formats` tells those from its own words, and the detector believes them or not.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ostler.agent.sources.port import LINES_PER_READ, Item, LogLine, Missed
from ostler.core.clock import Clock
from ostler.faults import formats

_RECORD = 8192
"""Bytes: the longest record that the kernel formats (PRINTKRB_RECORD_MAX is 1,024, CONSOLE_EXT_LOG_MAX 8,192)."""
_HEAD = re.compile(rb"(\d{1,6}),(\d{1,19}),(\d{1,19}),[^;]{0,200};")
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


def _unescape(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),))


class KmsgSource:
    """Follows the kernel's ring buffer without blocking, from its beginning or from where it was left."""

    name = "kmsg"
    interval = 1.0

    def __init__(
        self,
        clock: Clock,
        boot_id: str,
        *,
        path: Path = Path("/dev/kmsg"),
        trust_user_facility: bool = False,
        read: Callable[[int, int], bytes] = os.read,
        uptime: Callable[[], float] = time.monotonic,
    ) -> None:
        """`trust_user_facility` takes what programs wrote there for the kernel's own words: for tests only."""
        self._clock = clock
        self._boot_id = boot_id
        self._path = path
        self._trust = trust_user_facility
        self._read = read
        self._uptime = uptime
        self._fd: int | None = None
        self._next: int | None = None
        """The record that should come next; None: whatever the ring begins with."""
        self._skip_to = 0

    def start(self, position: str | None) -> None:
        boot_id, _, sequence = (position or "").rpartition(":")
        if boot_id == self._boot_id and sequence.isdecimal():
            self._skip_to = self._next = int(sequence) + 1
        self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def read(self) -> Sequence[Item]:
        if self._fd is None:
            self.start(self.position())
        items: list[Item] = []
        now, uptime = self._clock.now(), self._uptime()
        for _ in range(LINES_PER_READ):
            try:
                record = self._read(self._fd or 0, _RECORD)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.EPIPE:
                    self.close()
                    raise
                continue  # overwritten: the next record's sequence tells how many
            if not record:
                break
            head = _HEAD.match(record)
            if head is None:
                continue
            sequence = int(head[2])
            if sequence < self._skip_to:
                continue
            if self._next is not None and sequence > self._next:
                lost = f"{sequence - self._next} kernel log records were overwritten before they could be read"
                items.append(Missed("kmsg-overrun", lost, self._position(sequence - 1)))
            self._next = sequence + 1
            if self._trust:
                record = b"%d%b" % (int(head[1]) & 7, record[head.end(1) :])
            parsed = formats.parse(record.split(b"\n", 1)[0])
            if parsed is None:
                continue
            message = parsed.message
            if b"\\x" in message:
                message = _ESCAPE.sub(_unescape, message)
            age = max(0.0, uptime - int(head[3]) / 1e6)
            items.append(LogLine(now - age, message, self._position(sequence), parsed.source))
        return items

    def position(self) -> str | None:
        return None if self._next is None else self._position(self._next - 1)

    def _position(self, sequence: int) -> str:
        return f"{self._boot_id}:{sequence}"

    def fileno(self) -> int | None:
        return self._fd

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
