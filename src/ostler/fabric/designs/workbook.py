"""An XLSX file → the rows of its sheets, after a look at what is in it: a workbook is a zip of XML from anywhere.

Called by `point_to_point.py`. The library that reads cells makes a sheet as large as its farthest cell, so one cell in
the last corner would ask for 17,000,000,000. Everything is therefore unpacked within bounds and read through once with
expat; the library gets a new zip with exactly the parts that were seen.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from typing import Any, NamedTuple
from xml.parsers import expat

from ostler.core.errors import BadInput
from ostler.fabric.designs.table import CELL_MOST, Row

FILE_MOST = 64 * 2**20
UNPACKED_MOST = 512 * 2**20
CELLS_MOST = 2_000_000
MEMBERS_MOST = 2_000
MERGED_MOST = 100_000
_CELL = re.compile(r"([A-Za-z]{1,3})(\d{1,7})")


class Sheet(NamedTuple):
    """A sheet's rows; merged cells hold their value in every row they span."""

    name: str
    rows: list[Row]


def read(data: bytes, name: str) -> list[Sheet]:
    """All sheets; BadInput where the file is too large, no workbook, or damaged."""
    if len(data) > FILE_MOST:
        raise BadInput(f"is larger than {FILE_MOST // 2**20} MiB; give the sheet with the cables alone", where=name)
    safe = _checked(data, name)
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(safe))
        return [_sheet(book.get_sheet_by_name(title), title) for title in book.sheet_names]
    except (CalamineError, ValueError, OSError) as error:
        raise BadInput(f"is a damaged workbook ({str(error)[:80]}); save it again, or as CSV", where=name) from None


def _sheet(sheet: Any, title: str) -> Sheet:
    table = [[_text(cell) for cell in cells] for cells in sheet.to_python(skip_empty_area=False)]
    for (top, left), (bottom, right) in (sheet.merged_cell_ranges or [])[:MERGED_MOST]:
        if left != right or bottom - top > len(table) or left >= (len(table[0]) if table else 0):
            continue
        for index in range(top + 1, min(bottom + 1, len(table))):
            table[index][left] = table[index][left] or table[top][left]
    return Sheet(title, [Row(index, cells) for index, cells in enumerate(table, 1) if any(cells)])


def _text(cell: object) -> str:
    """A cell as it would be in a CSV: numbers without `.0`."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return " ".join(str(cell)[:CELL_MOST].split())


def _checked(data: bytes, name: str) -> bytes:
    """A new zip with the XML parts of this one, each read through."""
    damaged = BadInput("is no workbook that can be opened; save it again as .xlsx, or as CSV", where=name)
    out = io.BytesIO()
    seen: set[str] = set()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as fresh:
            members = archive.infolist()
            if len(members) > MEMBERS_MOST or sum(member.file_size for member in members) > UNPACKED_MOST:
                raise BadInput(f"unpacks to more than {UNPACKED_MOST // 2**20} MiB; refused", where=name)
            for member in members:
                if member.filename in seen:
                    raise BadInput(f"holds {member.filename[:60]!r} twice; save it again", where=name)
                seen.add(member.filename)
                if member.filename.lower().endswith((".xml", ".rels")):
                    content = archive.read(member)
                    _look(content, f"{name}:{member.filename[:60]}")
                    fresh.writestr(member.filename, content)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, KeyError):
        raise damaged from None
    if "xl/workbook.xml" not in seen:
        raise damaged
    return out.getvalue()


def _look(content: bytes, where: str) -> None:
    """Read a part through: well formed, no document type, and its cells within bounds."""
    looked = _Look(where)
    try:
        looked.parser.Parse(content, True)
    except expat.ExpatError as error:
        raise BadInput(f"is damaged ({str(error)[:60]}); save it again as .xlsx, or as CSV", where=where) from None


class _Look:
    """Counts cells, and how far out the farthest one stands. A cell without a reference follows the one before."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.StartDoctypeDeclHandler = self._doctype
        self._cells = self._row = self._column = self._rows = self._columns = 0

    def _doctype(self, *_: object) -> None:
        raise BadInput("declares a document type, which no workbook does; refused", where=self.where)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "c" or tag.endswith(":c"):
            self._cells += 1
            self._column += 1
            if found := _CELL.fullmatch(attributes.get("r", "")):
                self._column = _column(found[1])
                self._row = int(found[2])
            self._reach()
        elif tag == "row" or tag.endswith(":row"):
            self._row += 1
            self._column = 0
            number = attributes.get("r", "")
            if number.isdecimal() and len(number) < 9:
                self._row = int(number)

    def _reach(self) -> None:
        self._rows, self._columns = max(self._rows, self._row), max(self._columns, self._column)
        if self._rows * self._columns > CELLS_MOST or self._cells > CELLS_MOST:
            raise BadInput(
                f"has a sheet of more than {CELLS_MOST:,} cells; give the list of cables alone", where=self.where
            )


def _column(letters: str) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - 64
    return number
