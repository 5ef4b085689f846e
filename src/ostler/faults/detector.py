"""One message in, at most one Fault out. The agent calls `detect` for every line that it follows; `bulk.py` calls
`examine` for the few lines of a file that hold an anchor.
"""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING

from ostler.faults import catalogue, formats
from ostler.faults.entry import printable, text
from ostler.faults.formats import Format, Record
from ostler.faults.model import Fault, Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

_BANNER = re.compile(
    rb"NVRM: loading NVIDIA UNIX [^\n]{0,80}?Kernel Module(?: for \w{1,16})?  (\d{3,4}(?:\.\d{1,4}){1,2})"
)
_CACHE_ENTRIES = 4096
_CACHE_BYTES = 512


class Detector:
    """Reads the catalogue for one node or one file.

    `driver` is the NVIDIA driver's version ("570.124.06"), which decides how XID 144-150 decode; without it the version
    is taken from the driver's own banner when that goes by. `trust_user_facility` believes what programs wrote into the
    kernel's log as if the kernel had said it: for fault injection and tests, never for production.
    """

    def __init__(self, driver: str | None = None, trust_user_facility: bool = False) -> None:
        self._pinned = driver is not None
        self._driver = driver
        self._trust_user = trust_user_facility
        self._cache: dict[tuple[str, bytes], Fault | None] = {}

    @property
    def driver(self) -> str | None:
        """The driver's version as given or as last seen in the log."""
        return self._driver

    def detect(self, message: bytes | str, source: str = formats.KERNEL) -> Fault | None:
        """The fault that one message reports, or None. `message` is without stamp and tag; `source` is who wrote it:
        "kernel", a program's name, `formats.USER`, or "" when nothing says."""
        raw = message.encode("utf-8", "surrogateescape") if isinstance(message, str) else message
        raw = raw[: formats.LINE_LIMIT]
        mask = catalogue.anchors_in(raw)
        return self._detect(raw, source, mask) if mask else None

    def examine(self, line: bytes) -> tuple[Record, Fault | None] | None:
        """Take one line of a log file apart and judge it, whatever form it has. None when it is no record."""
        record = formats.parse(line[: formats.LINE_LIMIT].lstrip(b"\0").rstrip(b"\r\n"))
        return None if record is None else (record, self.judge(record, 0))

    def judge(self, record: Record, mask: int) -> Fault | None:
        """The fault in a record. `mask` (0: look) says which anchors its line is known to hold; it may be too wide, but
        not too narrow."""
        message = record.message
        if not mask or record.family is Format.JOURNAL_JSON:
            mask = catalogue.anchors_in(message)
        return self._detect(message, record.source, mask) if mask else None

    def _detect(self, message: bytes, source: str, mask: int) -> Fault | None:
        if source == formats.USER and self._trust_user:
            source = formats.KERNEL
        key = (source, message)
        if key in self._cache:
            return self._cache[key]
        fault = None
        for entry in catalogue.entries_for(mask):
            if source not in entry.programs and source != formats.UNKNOWN:
                continue
            match = entry.pattern.match(message)
            if match is not None:
                fault = entry.fault(match, printable(message), self._driver)
                break
        if mask & catalogue.DRIVER_BANNER_BIT and source in (formats.KERNEL, formats.UNKNOWN):
            self._learn_driver(message)
        if len(message) <= _CACHE_BYTES:
            if len(self._cache) >= _CACHE_ENTRIES:
                self._cache.clear()
            self._cache[key] = fault
        return fault

    def _learn_driver(self, message: bytes) -> None:
        found = _BANNER.match(message)
        if found is not None and not self._pinned and (seen := text(found[1])) != self._driver:
            self._driver = seen
            self._cache.clear()

    def scan(self, stream: IO[bytes], format: Format = Format.AUTO) -> Iterator[Hit]:
        """Every fault in a log file, in order, in constant memory. See `bulk.scan` for engines and counters."""
        from ostler.faults import bulk  # an agent that follows single lines never needs it

        return bulk.scan(self, stream, format)
