"""Point-to-point sheets as integrators hand them over, CSV or XLSX: rack, U, name and port of both ends, in any words.

`headers.py` tells what the columns mean; what it understood is part of the answer (`columns`), so that nobody has to
guess. In a workbook every sheet with such a header is read, and a sheet of nodes gives models and places.
Called by `designs.read`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ostler.core.errors import BadInput
from ostler.fabric.designs import workbook
from ostler.fabric.designs.draft import Draft, Row, named_as_switch
from ostler.fabric.designs.headers import Columns, columns_of
from ostler.fabric.designs.port_names import device_of, is_switch
from ostler.fabric.designs.table import Row as Cells
from ostler.fabric.designs.table import rows_of, text_of
from ostler.fabric.model import Blueprint, ChassisKind, Lint, Place

HEADER_WITHIN = 40
"""Rows of a sheet that may stand before its header: titles, revisions, legends."""
_KINDS = {
    "host": ChassisKind.HOST, "server": ChassisKind.HOST, "node": ChassisKind.HOST, "compute": ChassisKind.HOST,
    "switch": ChassisKind.SWITCH, "leaf": ChassisKind.SWITCH, "spine": ChassisKind.SWITCH, "core": ChassisKind.SWITCH,
    "tor": ChassisKind.SWITCH,
}  # fmt: skip
_OURS = {"", "ib", "infiniband", "infini band", "data", "compute"}


def header_of(rows: Sequence[Cells]) -> tuple[int, Columns] | None:
    """Where the header of a list of cables stands, and what it means."""
    for index, row in enumerate(rows[:HEADER_WITHIN]):
        above = rows[index - 1].cells if index and rows[index - 1].line == row.line - 1 else ()
        found = columns_of(row.cells, above)
        if found.complete:
            return index, found
    return None


def read(data: bytes, name: str, *, switch_model: str = "") -> tuple[Blueprint, list[Lint]]:
    """A CSV, or every sheet of an XLSX; BadInput where no header names both ends."""
    draft = Draft(name, "point-to-point", switch_model=switch_model)
    if data.startswith(b"PK"):
        sheets = workbook.read(data, name)
    else:
        sheets = [workbook.Sheet("", rows_of(text_of(data, name), name))]
    read_any = False
    for sheet in sheets:
        found = header_of(sheet.rows)
        if found is not None:
            read_any = True
            header = sheet.rows[found[0]].cells
            _Cables(draft, found[1], sheet.name).read(
                [row for row in sheet.rows[found[0] + 1 :] if row.cells != header]
            )
        elif sheet.name:
            _nodes(draft, sheet.rows)
    if not read_any:
        seen = next((row for sheet in sheets for row in sheet.rows), None)
        shown = f"; the first row is {' | '.join(seen.cells)[:80]!r}" if seen else ""
        raise BadInput(
            f"has no header that names device and port of both ends, such as Rack,U,Name,Port,Rack,U,Name,Port{shown}",
            where=f"{name}:{seen.line if seen else 1}",
        )
    return draft.finish()


class _Cables:
    """One sheet of cables."""

    def __init__(self, draft: Draft, columns: Columns, sheet: str) -> None:
        self._draft, self._columns = draft, columns
        self._last: dict[str, dict[str, str]] = {"a": {}, "b": {}}
        self._skipped: dict[str, int] = {}
        self._numbered = 0
        draft.book.add("columns", f"{sheet + ': ' if sheet else ''}{columns.understood()}")

    def read(self, rows: Sequence[Cells]) -> None:
        for row in rows:
            protocol = self._get(row, "protocol")
            if protocol.lower() not in _OURS:
                self._skipped[protocol] = self._skipped.get(protocol, 0) + 1
                continue
            self._cable(row)
        book = self._draft.book
        for protocol, count in self._skipped.items():
            book.add("left-out", f"{count} rows were left out: {protocol[:40]}")
        if self._numbered:
            book.add(
                "hca-numbers",
                f"{self._numbered} HCA ports are numbered; 1 was read as mlx5_0, 2 as mlx5_1, and so on. "
                "If that is not the order in your hosts, name the devices in the sheet",
            )

    def _cable(self, row: Cells) -> None:
        (a, a_port), (b, b_port) = self._end(row, "a"), self._end(row, "b")
        if not (a_port or b_port):
            return  # a caption or a total
        length = self._get(row, "length")
        if length and length.replace(".", "", 1).replace(",", "", 1).isdecimal():
            length = f"{length} {self._get(row, 'length unit')}".strip()
        get = self._get
        cable = Row(a, a_port, b, b_port, row.line, "", get(row, "rail"), get(row, "serial"), length, get(row, "speed"))
        self._draft.cable(cable)

    def _end(self, row: Cells, side: str) -> tuple[str, str]:
        """Chassis and port of one end; takes note of where it stands."""
        said = {thing: self._get(row, f"{side} {thing}") for thing in _THINGS}
        port = said["port"] or said["hca"]
        last = self._last[side]
        if port and not said["name"]:  # a name over several rows, written once
            said = {thing: said[thing] or last.get(thing, "") for thing in _THINGS}
        self._last[side] = said
        name, hca = device_of(said["name"])
        port = hca or port
        kind = _KINDS.get(said["kind"].lower())
        model = said["model"] or (said["kind"] if is_switch(said["kind"]) else "")
        if kind is None and (hca or (said["hca"] and not is_switch(model) and not named_as_switch(name))):
            kind = ChassisKind.HOST  # trunks are often in the same sheet, with the leaf in the column of the HCAs
        if kind is ChassisKind.HOST and said["hca"] and port.isdecimal():
            port = self._numbered_hca(port)
        if name:
            place = Place(said["site"], said["row"], said["rack"], said["unit"])
            self._draft.chassis(name, kind=kind, model=model, place=place, line=row.line)
        return name, port

    def _numbered_hca(self, port: str) -> str:
        """NVIDIA's cable validation tool: HCA port 1 of a host is mlx5_0, 2 is mlx5_1 ("P2P File")."""
        number = int(port[:4])
        if not 1 <= number <= 64:
            return port
        self._numbered += 1
        return f"mlx5_{number - 1}"

    def _get(self, row: Cells, key: str) -> str:
        index = self._columns.at.get(key, -1)
        return row.cells[index] if 0 <= index < len(row.cells) else ""


_THINGS = ("site", "row", "rack", "unit", "name", "port", "hca", "model", "kind")


def _nodes(draft: Draft, rows: Sequence[Cells]) -> None:
    """A sheet that lists boxes, not cables: name and any of model, rack, U, type."""
    from ostler.fabric.designs.headers import THINGS
    from ostler.fabric.designs.table import word

    for index, row in enumerate(rows[:HEADER_WITHIN]):
        at: dict[str, int] = {}
        for column, cell in enumerate(row.cells):
            if thing := THINGS.get(word(cell)):
                at.setdefault(thing, column)
        if "name" in at and len(at) >= 2:
            for box in rows[index + 1 :]:
                said = {thing: box.cells[column] for thing, column in at.items() if column < len(box.cells)}
                if name := said.get("name", ""):
                    model = said.get("model", "") or (said.get("kind", "") if is_switch(said.get("kind", "")) else "")
                    place = Place(*(said.get(part, "") for part in ("site", "row", "rack", "unit")))
                    kind = _KINDS.get(said.get("kind", "").lower())
                    draft.chassis(name, kind=kind, model=model, place=place, line=box.line)
            return
