"""Ostler's own table of a fabric: one file, everything in it, written and read back the same.

    # ostler blueprint v1
    # name: hall-2
    chassis,kind,model,site,row,rack,unit
    leaf-r0-01,switch,MQM9700,ams1,A,A07,U40
    gpu-0001,host,,ams1,A,A01,U1

    a,a_port,b,b_port,role,rail,serial,length_m,speed,width
    gpu-0001,mlx5_0,leaf-r0-01,1,host,0,MT2345X,3,NDR,4

    guid,chassis,port
    0x98039b0300a1b2c3,gpu-0001,mlx5_0

Any of the tables may be absent except that of the cables, columns may stand in any order, unknown ones are left alone.
A table begins where its header stands. Called by `designs.read`, `ostler fabric import`, and whoever hands a blueprint
out again.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from operator import itemgetter

from ostler.core.errors import BadInput
from ostler.fabric.designs.draft import Draft, Row
from ostler.fabric.designs.table import each_row, text_of
from ostler.fabric.model import Blueprint, ChassisKind, Lint, Place
from ostler.fabric.sweep import guid_text

HEADER = "# ostler blueprint v1"
CABLE_COLUMNS = ("a", "a_port", "b", "b_port", "role", "rail", "serial", "length_m", "speed", "width")
CHASSIS_COLUMNS = ("chassis", "kind", "model", "site", "row", "rack", "unit")
GUID_COLUMNS = ("guid", "chassis", "port")
_NEEDED = {"cables": set(CABLE_COLUMNS[:4]), "chassis": {"chassis", "kind"}, "guids": set(GUID_COLUMNS)}


def table_of(cells: Sequence[str]) -> str:
    """Which table has this header: `cables`, `chassis`, `guids`; empty: this is no header."""
    words = {cell.lower() for cell in cells}
    return next((table for table, needed in _NEEDED.items() if needed <= words), "")


def read(data: bytes, name: str, *, switch_model: str = "") -> tuple[Blueprint, list[Lint]]:
    """Shapes as above; BadInput where there is no table of cables."""
    text = text_of(data, name)
    draft = Draft(name, "ostler-csv", switch_model=switch_model)
    for number, comment in enumerate(text[:4096].split("\n"), 1):
        if not comment.startswith("# "):
            break
        _comment(comment.strip(), draft, f"{name}:{number}")
    table = ""
    at: dict[str, int] = {}
    pick = _picker({column: index for index, column in enumerate(CABLE_COLUMNS)})
    for line, cells in each_row(text, name):
        if cells[0].startswith("#"):
            continue
        lowered = [cell.lower() for cell in cells] if cells[0].lower() in _HEADS else cells
        if lowered is not cells and (found := table_of(lowered)):
            table, at = found, {word: index for index, word in reversed(list(enumerate(lowered)))}
            pick = _picker(at) if table == "cables" else pick
            continue
        if not table:
            raise BadInput(
                f"begins with a row that is no header; the table of cables begins with {','.join(CABLE_COLUMNS[:4])}",
                where=f"{name}:{line}",
            )
        if table == "cables":
            a, a_port, b, b_port, *more = pick(cells)
            draft.cable(Row(a, a_port, b, b_port, line, *more))
        elif table == "chassis":
            _chassis(draft, cells, at, line)
        else:
            draft.guid(_get(cells, at, "guid"), _get(cells, at, "chassis"), _get(cells, at, "port"), line)
    return draft.finish()


_HEADS = {*CABLE_COLUMNS, *CHASSIS_COLUMNS, "guid"}


def _get(cells: Sequence[str], at: dict[str, int], column: str) -> str:
    index = at.get(column, -1)
    return cells[index] if 0 <= index < len(cells) else ""


def _picker(at: dict[str, int]) -> Callable[[list[str]], tuple[str, ...]]:
    """Takes the cells of a row in the order of `CABLE_COLUMNS`; columns that the file has not are empty."""
    width = max(at[column] for column in CABLE_COLUMNS if column in at) + 1
    pick = itemgetter(*(at.get(column, width) for column in CABLE_COLUMNS))
    padding = [""] * (width + 1)

    def take(cells: list[str]) -> tuple[str, ...]:
        got: tuple[str, ...] = pick([*cells[:width], *padding[len(cells[:width]) :]])
        return got

    return take


def _chassis(draft: Draft, cells: Sequence[str], at: dict[str, int], line: int) -> None:
    word = _get(cells, at, "kind").lower()
    kind = ChassisKind(word) if word in set(ChassisKind) else None
    if word and kind is None:
        draft.book.add("bad-value", f"kind {word[:40]!r} is none of {', '.join(ChassisKind)}; it is guessed", line)
    place = Place(*(_get(cells, at, part) for part in ("site", "row", "rack", "unit")))
    name = _get(cells, at, "chassis")
    if draft.chassis(name, kind=kind, model=_get(cells, at, "model"), place=place, line=line):
        draft.declare(name, line)


def _comment(text: str, draft: Draft, where: str) -> None:
    """What the lines with `#` at the top say of the whole; others are comments."""
    body = text.lstrip("# ")
    lowered = body.lower()
    if lowered.startswith("ostler blueprint") and not lowered.startswith("ostler blueprint v1"):
        raise BadInput(f"is of a form that this version does not read: {body[:60]!r}; it reads v1", where=where)
    if lowered.startswith("name:") and (name := _unquoted(body[5:].strip())):
        draft.name = name[:128]
    if lowered.startswith("proven:"):
        draft.proven = lowered[7:].strip(",; \t") != "no"


def _unquoted(text: str) -> str:
    """A name, in quotes where it has marks that spreadsheets would take for more cells."""
    try:
        value = json.JSONDecoder().raw_decode(text)[0] if text.startswith('"') else text.rstrip(",;\t")
    except ValueError:
        return text
    return value if isinstance(value, str) and value.isprintable() else ""


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False) if set(name) & set(',;"\t|') else name


def write(blueprint: Blueprint) -> str:
    """The whole blueprint; `read` of it gives an equal one, but for lines and source."""
    out = io.StringIO()
    out.write(f"{HEADER}\n# name: {_quoted(blueprint.name)}\n")
    if not blueprint.proven:
        out.write("# proven: no\n")
    table = csv.writer(out, lineterminator="\n")
    if blueprint.chassis:
        table.writerow(CHASSIS_COLUMNS)
        for box in blueprint.chassis.values():
            place = box.place
            table.writerow((box.name, box.kind, box.model, place.site, place.row, place.rack, place.unit))
        out.write("\n")
    table.writerow(CABLE_COLUMNS)
    for cable in blueprint.cables:
        (a, a_port), (b, b_port) = cable.a, cable.b
        length = f"{cable.length_m:.12g}" if cable.length_m else ""
        more = (cable.role, cable.rail, cable.serial, length, cable.speed, cable.width or "")
        table.writerow((a, a_port, b, b_port, *more))
    if blueprint.guids:
        out.write("\n")
        table.writerow(GUID_COLUMNS)
        for guid, port in blueprint.guids.items():
            table.writerow((guid_text(guid), port.chassis, port.name))
    return out.getvalue()
