"""Scanning whole log files fast. Called by `Detector.scan` and `ostler scan`.

Only lines that hold one of the catalogue's anchors are taken apart. Two engines find those lines: Hyperscan (the extra
`hyperscan`) in one pass over a chunk, or one `bytes.find` per anchor, which the C library does at gigabytes a second
for a rare literal. Everything after that is the same code, so both give the same hits.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from typing import IO, TYPE_CHECKING, Protocol

from ostler.faults import formats, logfile
from ostler.faults.catalogue import ANCHORS, COVERS
from ostler.faults.formats import LINE_LIMIT, Format
from ostler.faults.logfile import Trouble
from ostler.faults.model import Hit

if TYPE_CHECKING:
    from ostler.faults.detector import Detector

JOURNAL_BYTES = (b'"MESSAGE":[', b'"MESSAGE" : [', b'"MESSAGE": [')
"""A journal entry whose text journald wrote as a list of bytes, in which no anchor can be seen."""

_LOOK = len(ANCHORS)
"""The number of no anchor: read the record first, then look."""

Found = list[tuple[int, int]]
"""(an offset within the literal, its number), ordered by offset."""


class Engine(Protocol):
    name: str

    def find(self, chunk: bytes) -> Found:
        """Every anchor in the chunk. An anchor may be reported twice, or at another place of its line."""
        ...


class LiteralEngine:
    """One pass of `bytes.find` per cover, then the anchors in the lines that hold it. Needs nothing but Python."""

    name = "literals"

    def find(self, chunk: bytes) -> Found:
        """Every anchor that stands in the chunk with its cover."""
        found: Found = []
        find = chunk.find
        for cover, numbers in COVERS:
            at = find(cover)
            if at < 0:
                continue
            if len(numbers) == 1 and ANCHORS[numbers[0]] == cover:
                while at >= 0:
                    found.append((at, numbers[0]))
                    at = find(cover, at + len(cover))
                continue
            anchors = [(number, ANCHORS[number]) for number in numbers]
            while at >= 0:
                start = chunk.rfind(b"\n", 0, at) + 1
                end = find(b"\n", at)
                if end < 0:
                    end = len(chunk)
                line = chunk[start:end]
                for number, anchor in anchors:
                    if anchor in line:
                        found.append((at, number))
                at = find(cover, end)
        found.sort()
        return found


class HyperscanEngine:
    """One pass for all anchors together. Raises ImportError without the extra."""

    name = "hyperscan"

    def __init__(self) -> None:
        import hyperscan

        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        self._database.compile(
            expressions=ANCHORS, ids=list(range(len(ANCHORS))), elements=len(ANCHORS), flags=0, literal=True
        )

    def find(self, chunk: bytes) -> Found:
        """Every anchor in the chunk."""
        found: Found = []
        add = found.append

        def on_match(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            add((end - 1, number))  # the byte before the end is surely on the anchor's line

        self._database.scan(chunk, match_event_handler=on_match)
        found.sort()
        return found


@lru_cache(maxsize=1)
def fastest() -> Engine:
    """Hyperscan where it is installed and works on this processor, else the literals."""
    try:
        return HyperscanEngine()
    except Exception:
        return LiteralEngine()


def scan(
    detector: Detector,
    stream: IO[bytes],
    format: Format = Format.AUTO,
    *,
    engine: Engine | None = None,
    trouble: Trouble | None = None,
) -> Iterator[Hit]:
    """Every fault in a log, in the order of its lines. What was in the way is counted in `trouble`. Raises OSError only
    where reading the stream does."""
    find = (engine or fastest()).find
    trouble = Trouble() if trouble is None else trouble
    chunks = logfile.line_chunks(logfile.blocks(stream, trouble), trouble)
    first = next(chunks, b"")
    seen = formats.sniff(first[: formats.SAMPLE_LINES * LINE_LIMIT].split(b"\n", 4 * formats.SAMPLE_LINES))
    journal = Format.JOURNAL_JSON in (format, seen) or (seen is Format.AUTO and b'"MESSAGE"' in first)
    line_no = 1
    for chunk in chain((first,), chunks):
        logfile.count_trouble(chunk, trouble)
        found = find(chunk)
        if journal:
            found = sorted(found + _journal_bytes(chunk))
        if found:
            yield from _hits(detector, chunk, found, line_no, format, seen, trouble)
        line_no += chunk.count(b"\n")
        trouble.lines = line_no - (not chunk or chunk.endswith(b"\n"))


def _journal_bytes(chunk: bytes) -> Found:
    """Where a journal entry's text is a list of bytes."""
    found: Found = []
    for literal in JOURNAL_BYTES:
        at = chunk.find(literal)
        while at >= 0:
            found.append((at, _LOOK))
            at = chunk.find(literal, at + 1)
    return found


def _hits(
    detector: Detector,
    chunk: bytes,
    found: Found,
    line_no: int,
    chosen: Format,
    seen: Format,
    trouble: Trouble,
) -> Iterator[Hit]:
    """The hits of one chunk. `line_no` is the number of its first line."""
    counted = 0  # bytes of the chunk whose newlines are in line_no
    index, total = 0, len(found)
    while index < total:
        offset, number = found[index]
        start = chunk.rfind(b"\n", 0, offset) + 1
        end = chunk.find(b"\n", offset)
        if end < 0:
            end = len(chunk)
        mask = 0
        while offset < end:
            mask |= 1 << number
            index += 1
            if index == total:
                break
            offset, number = found[index]
        line = chunk[start : min(end, start + LINE_LIMIT)].strip(b"\0\r")
        record = formats.parse(line)
        if record is None:
            continue
        fault = detector.judge(record, 0 if mask >> _LOOK else mask)
        if fault is None:
            continue
        if not formats.believed(record, chosen, seen):
            trouble.unbelieved_lines += 1
            continue
        line_no += chunk.count(b"\n", counted, start)
        counted = start
        yield Hit(line_no, record.time, fault)
