"""Lines of bytes, fast and bounded: 100,000 ports come in 200,000 lines, and a hostile file may be one line of 1 GB.

Called by the readers of the topology tools. They work on bytes: decoding a whole file costs a copy, and up to four
times the memory where somebody put one rare character into a node's description.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ostler.fabric.formats.vocabulary import TEXT
from ostler.fabric.sweep import ProblemKind, Sweep

_CHUNK = 1 << 20
LONGEST = 4096
"""Bytes of a line that are looked at; the longest that a tool writes has 600."""
LAST_PORT = 254
"""The highest port number: InfiniBand Architecture Specification 1.7, volume 1, 14.2.5.3; 255 stands for all."""
_OUTSIDE = re.compile(r"[^\x20-\x7e]")

_COMPLAINTS: tuple[tuple[bytes, ProblemKind, bool], ...] = (
    (b"bad status 110", ProblemKind.TIMEOUT, True),
    (b"timed out", ProblemKind.TIMEOUT, True),
    (b"Duplicate", ProblemKind.DUPLICATE_GUID, True),
    (b"bad status 7", ProblemKind.REFUSED, True),
    (b"iberror", ProblemKind.FAILED, True),
    (b"discover failed", ProblemKind.FAILED, True),
    (b"Failed to", ProblemKind.FAILED, True),
    (b"ibwarn", ProblemKind.FAILED, True),
    (b"ibpanic", ProblemKind.FAILED, True),
)
"""What infiniband-diags writes to its standard error, where that went into the same file (`2>&1`)."""


def lines(data: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Runs of lines without their newline, each with the number of its first line, from 1.

    Of a line that is longer than a run only the begin is given. Memory: a run, whatever the file.
    """
    start, number, size = 0, 1, len(data)
    while start < size:
        end = data.rfind(b"\n", start, start + _CHUNK)
        if end < 0:
            end = data.find(b"\n", start + _CHUNK)
            end = size if end < 0 else end
            # Not sliced whole: it may be the file.
            run = [data[start : min(end, start + _CHUNK)]]
        else:
            run = data[start:end].split(b"\n")
        yield number, run
        number += len(run)
        start = end + 1


def text(raw: bytes) -> str:
    """A node's description as the tools show it: up to its first NUL, spaces for what cannot be printed."""
    shown = raw[: 4 * TEXT].partition(b"\0")[0].decode("utf-8", "replace")[:TEXT]
    if _OUTSIDE.search(shown):
        shown = "".join(sign if sign.isprintable() else " " for sign in shown)
    return shown


def strange(sweep: Sweep, line: bytes, number: int) -> None:
    """Note a line that is none of the format's: a tool's complaint for what it says, anything else as unreadable."""
    if len(line) > LONGEST:
        sweep.trouble(ProblemKind.UNREADABLE, "a line far longer than the tool writes was left out", line=number)
        return
    for words, kind, hides in _COMPLAINTS:
        if words in line:
            sweep.trouble(kind, f"the tool said: {text(line.strip())}", line=number, hides=hides)
            return
    sweep.trouble(ProblemKind.UNREADABLE, f"not understood: {text(line.strip())[:100]!r}", line=number)


def cut_off(sweep: Sweep, data: bytes) -> bool:
    """Whether the file ends within a line, which is noted: every tool ends its last line."""
    if data.endswith(b"\n"):
        return False
    sweep.trouble(ProblemKind.TRUNCATED, "the file ends within a line: it was cut off, or is still being written")
    return True
