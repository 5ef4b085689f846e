"""Bytes of a table → rows with line numbers, whatever the spreadsheet that wrote them thought a CSV is.

Called by every reader here that takes CSV. Byte order marks, UTF-16 (Excel's "Unicode text"), Windows-1252, `;` and
tabs for commas, CR line ends, `sep=;` lines, blank rows: all of these come from designers' machines.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import NamedTuple

from ostler.core.errors import BadInput

TEXT_MOST = 64 * 2**20
"""Bytes. A fabric of 98,304 ports is a CSV of 4 MiB."""
CELL_MOST = 4096
DELIMITERS = ",;\t|"
_HEAD = 40
"""Lines that are looked at to tell delimiter and header."""
_NOT_WORD = re.compile(r"[^a-z0-9]+")


class Row(NamedTuple):
    """One row; `line` is that of the file (of a sheet: the row number), from 1."""

    line: int
    cells: list[str]


def text_of(data: bytes, name: str) -> str:
    """Decode; BadInput where it is too large, or no text at all."""
    if len(data) > TEXT_MOST:
        raise BadInput(
            f"is larger than {TEXT_MOST // 2**20} MiB, which no list of cables is; give the file of the design",
            where=name,
        )
    if not data.strip():
        raise BadInput("is empty; give the file of the design", where=name)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", "replace")
    nul = text.find("\0")
    if nul >= 0:
        line = text.count("\n", 0, nul) + 1
        raise BadInput("holds NUL bytes: this is no text; export it as CSV or XLSX", where=f"{name}:{line}")
    return text


def rows_of(text: str, name: str) -> list[Row]:
    """All rows that have anything in them, cells stripped; BadInput where a quote is never closed.

    Lines that begin with `# ` are comments; `#StartDevice` is a header.
    """
    return list(each_row(text, name))


def each_row(text: str, name: str) -> Iterator[Row]:
    """The same, one by one."""
    delimiter, skip = _delimiter(text)
    before = 0
    lines = ("\n" if line.startswith("# ") else line for line in io.StringIO(text, newline=""))
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    try:
        for cells in reader:
            line, before = before + 1, reader.line_num
            if line <= skip or not any(cells):
                continue
            stripped = [cell.strip() for cell in cells]
            if before > line and any(len(cell) > 200 and "\n" in cell for cell in stripped):
                raise BadInput("a quote is opened here and not closed; close it or take it out", where=f"{name}:{line}")
            if any(stripped):
                yield Row(line, stripped)
    except csv.Error as error:
        raise BadInput(
            f"cannot be read as a table ({error}); is a quote not closed, or a line far too long?",
            where=f"{name}:{before + 1}",
        ) from None


def _delimiter(text: str) -> tuple[str, int]:
    """The delimiter, and how many lines at the top only name it (`sep=;`)."""
    head = text[: 64 * 1024].splitlines()[:_HEAD]
    if head and head[0].strip().lower().startswith("sep=") and len(head[0].strip()) == 5:
        return head[0].strip()[4], 1
    for line in head:  # the header comes before anything that may hold all kinds of marks
        counts = {mark: line.count(mark) for mark in DELIMITERS}
        best = max(DELIMITERS, key=lambda mark: counts[mark])
        if counts[best] >= 3 and not line.startswith("# "):
            return best, 0
    return ",", 0


def word(header: str) -> str:
    """A header cell as it is compared: lower case, everything but letters and digits a single space."""
    return _NOT_WORD.sub(" ", header[:CELL_MOST].lower()).strip()


def metres(text: str, unit: str = "m") -> float | None:
    """`3`, `3 m`, `2,5m`, `10 ft`, `50 cm` → metres; None where it is no length."""
    found = re.fullmatch(r"(\d{1,6}(?:[.,]\d{1,6})?)\s*([a-z]*)\.?", text[:40].strip().lower())
    if found is None:
        return None
    factor = _METRES.get(found[2] or unit.strip().lower() or "m")
    return None if factor is None else round(float(found[1].replace(",", ".")) * factor, 6)


_METRES = {
    "m": 1.0, "mtr": 1.0, "meter": 1.0, "meters": 1.0, "metre": 1.0, "metres": 1.0, "km": 1000.0,
    "cm": 0.01, "mm": 0.001, "ft": 0.3048, "feet": 0.3048, "foot": 0.3048, "in": 0.0254, "inch": 0.0254,
}  # fmt: skip
