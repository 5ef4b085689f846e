"""UFM's NDT (network diagram topology) CSV, which its NDT plugin compares a fabric with.

Five columns matter: start device and port, end device and port, link type; the wide form adds racks, heights, speed and
cable length, and two columns called `U height`. The first header stands as `StartDevice`, `#StartDevice` or
`#Fields:StartDevice`. Ports are `Port 17`, of directors `Blade 2_Port 1/1` (leaf, ASIC, port), of hosts their device.
Form: NVIDIA UFM Enterprise user manual, "NDT plugin". Called by `designs.read`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ostler.core.errors import BadInput
from ostler.fabric.designs.draft import Draft, Row
from ostler.fabric.designs.port_names import device_of
from ostler.fabric.designs.table import Row as Cells
from ostler.fabric.designs.table import rows_of, text_of, word
from ostler.fabric.model import Blueprint, ChassisKind, Lint, Place

_NEEDED = ("startdevice", "startport", "enddevice", "endport")
_TAKEN = {"", "data", "ib", "infiniband", "fabric", "compute", "storage"}
"""Link types that are InfiniBand cables; others (console, power, management) are not this fabric's."""


def column_of(header: str) -> str:
    """`#Fields:Start Device` → `startdevice`."""
    return word(header).removeprefix("fields ").replace(" ", "")


def is_header(cells: Sequence[str]) -> bool:
    """Whether a row is the header of an NDT table."""
    return set(_NEEDED) <= {column_of(cell) for cell in cells}


def read(data: bytes, name: str, *, switch_model: str = "") -> tuple[Blueprint, list[Lint]]:
    """Rows of other link types and ports without an end are left out and counted; BadInput without a header."""
    rows = rows_of(text_of(data, name), name)
    start = next((index for index, row in enumerate(rows) if is_header(row.cells)), None)
    if start is None:
        raise BadInput("has no header with StartDevice, StartPort, EndDevice, EndPort", where=f"{name}:1")
    at: dict[str, int] = {}
    for index, cell in enumerate(rows[start].cells):
        column = column_of(cell)
        at.setdefault(column if column not in at else f"{column}1", index)
    draft = Draft(name, "ndt", both_ways=True, switch_model=switch_model)
    other: dict[str, int] = {}
    for row in rows[start + 1 :]:
        link = _get(row, at, "linktype")
        domain = _get(row, at, "domain").lower()
        if link.lower() not in _TAKEN:
            other[link] = other.get(link, 0) + 1
        elif domain == "disconnected" or not (_get(row, at, "enddevice") or _get(row, at, "endport")):
            other["no end"] = other.get("no end", 0) + 1
        elif not is_header(row.cells):
            _link(draft, row, at)
    for why, count in other.items():
        reason = "nothing is plugged in there" if why == "no end" else f"link type {why[:40]}"
        draft.book.add("left-out", f"{count} rows were left out: {reason}")
    return draft.finish()


def _link(draft: Draft, row: Cells, at: dict[str, int]) -> None:
    ends: list[tuple[str, str]] = []
    for side, rack, unit in (("start", "rack", "uheight"), ("end", "", "uheight1")):
        device, port = _get(row, at, f"{side}device"), _get(row, at, f"{side}port")
        chassis, hca = device_of(device)
        if hca:
            port = hca if port.lower() in {"", "port 1", "1", "p1"} else f"{hca}/{port.lower().removeprefix('port ')}"
        location = _get(row, at, f"{side}devicelocation")
        standing = _get(row, at, rack) if rack else ""
        place = Place(rack=standing or location, unit=_get(row, at, unit))
        if chassis:
            draft.chassis(chassis, kind=ChassisKind.HOST if hca else None, place=place, line=row.line)
        ends.append((chassis, port))
    (a, a_port), (b, b_port) = ends
    length = _get(row, at, "cablelength") or _get(row, at, "length")
    draft.cable(Row(a, a_port, b, b_port, row.line, speed=_get(row, at, "speed"), length=length))


def _get(row: Cells, at: dict[str, int], column: str) -> str:
    index = at.get(column, -1)
    return row.cells[index] if 0 <= index < len(row.cells) else ""
