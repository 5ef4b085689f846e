"""A log file that grows: `tail -F` with rotation, truncation, half-written lines. For nodes where only syslog is left.

Position: `device:inode:offset`, the offset behind the last whole line. After a restart the rest of a file that was
renamed to `NAME.1` meanwhile is read before `NAME`. What a copy-and-truncate rotation throws away between two looks
(0.2 s) cannot be known and is not declared.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ostler.agent.sources.port import LINES_PER_READ, Item, LogLine, Missed
from ostler.core.clock import Clock
from ostler.faults import formats

_CHUNK = 1 << 18
_ABSENT = "absent"
_LINE_LIMIT = 1 << 16
"""Bytes of one line; a longer one is no kernel message and is passed over."""


class FileSource:
    """Follows one file by name, in any form that `faults.formats` knows. A line that nobody signed is passed over."""

    interval = 0.2

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        from_beginning: bool = False,
        name: str | None = None,
    ) -> None:
        """`from_beginning`: without a stored position, read what the file already holds; else begin at its end."""
        self.name = name or f"file:{path}"[:128]
        self._path = path
        self._clock = clock
        self._from_beginning = from_beginning
        self._fd: int | None = None
        self._identity = _ABSENT
        self._offset = 0
        """Of the first byte that is not yet part of a whole line, in the open file."""
        self._rest = b""
        self._oversize = False
        self._lines: list[bytes] = []
        """Whole lines that were read and not yet answered, last first."""
        self._news: list[Item] = []

    def start(self, position: str | None) -> None:
        if position == f"{_ABSENT}:0":
            self._open(self._path)  # there was no file: all of it is new
        elif position is not None:
            identity, _, digits = position.rpartition(":")
            offset = int(digits) if digits.isdecimal() else 0
            for path in (self._path, self._path.with_name(self._path.name + ".1")):
                if self._open(path) and self._identity == identity and self._size() >= offset:
                    self._seek(offset)
                    return
            self._shut()
            self._news.append(Missed("file-rotated", f"{self._path} was replaced while the agent was away", position))
        elif self._open(self._path) and not self._from_beginning:
            self._seek(self._size())

    def read(self) -> Sequence[Item]:
        items, self._news = self._news, []
        if self._fd is None and not self._open(self._path):
            return items  # not there yet, or between rename and create
        if not self._lines:
            self._fill()
        now = self._clock.now()
        while self._lines and len(items) < LINES_PER_READ:
            line = self._lines.pop()
            self._offset += len(line) + 1
            record = formats.parse(line.rstrip(b"\r"))
            if record is not None and record.source != formats.UNKNOWN:
                position = f"{self._identity}:{self._offset}"
                items.append(LogLine(_at(record.time, now), record.message, position, record.source))
        return items

    def position(self) -> str | None:
        return f"{self._identity}:{self._offset}"

    def fileno(self) -> int | None:
        return None  # a regular file is always "readable"

    def close(self) -> None:
        self._shut()

    def _fill(self) -> None:
        """Reads the next chunk, following the name to another file when this one is at its end."""
        chunk = os.read(self._fd or 0, _CHUNK)
        if chunk:
            self._take(chunk)
            return
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return
        if f"{named.st_dev}:{named.st_ino}" != self._identity:
            chunk = os.read(self._fd or 0, _CHUNK)  # written between the last look and the renaming
            if chunk:
                self._take(chunk)
                return
            if self._rest and not self._oversize:
                self._lines = [self._rest]  # the last line of a rotated file may lack its newline
                self._offset -= 1
            self._shut()
        elif named.st_size < self._offset + len(self._rest):
            self._seek(0)

    def _take(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if self._oversize and lines:
            self._offset += len(lines[0]) + 1
            del lines[0]
            self._oversize = False
        if len(self._rest) > _LINE_LIMIT:
            self._offset += len(self._rest)
            self._rest = b""
            self._oversize = True
        lines.reverse()
        self._lines = lines

    def _open(self, path: Path) -> bool:
        self._shut()
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        status = os.fstat(self._fd)
        self._identity = f"{status.st_dev}:{status.st_ino}"
        self._offset = 0
        return True

    def _size(self) -> int:
        return os.fstat(self._fd or 0).st_size

    def _seek(self, offset: int) -> None:
        os.lseek(self._fd or 0, offset, os.SEEK_SET)
        self._offset, self._rest, self._lines, self._oversize = offset, b"", [], False

    def _shut(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._rest, self._oversize = b"", False


def _at(stamp: str | None, now: float) -> float:
    """A full ISO stamp with its zone as UTC seconds; `now` for everything less."""
    if stamp is None or len(stamp) < 20:
        return now
    try:
        at = datetime.fromisoformat(stamp)
    except ValueError:
        return now
    return at.timestamp() if at.tzinfo is not None else now
