"""Files of designers → `Blueprint`. Every form ends in the same words, checked, with everything that is doubtful said.

| form | module | from |
|---|---|---|
| `ostler-csv`, `ostler-yaml` | `own_csv.py`, `own_yaml.py` | people, and Ostler itself |
| `ndt` | `ndt.py` | UFM |
| `topo` | `topo.py` | ibdiagnet, ibutils, UFM's master topology |
| `point-to-point` | `point_to_point.py` | integrators' sheets, CSV and XLSX |
| `netbox` | `netbox.py` | NetBox and Nautobot, CSV and JSON |

`fat_tree.py` makes a blueprint from numbers, `bootstrap.py` from a snapshot, `lint.py` says what is doubtful.
Called by `ostler fabric import` and `check`, and by the server's import. The forms for operators: docs/blueprints.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ostler.core.errors import BadInput
from ostler.fabric.designs import ndt, netbox, own_csv, own_yaml, point_to_point, topo
from ostler.fabric.designs.table import rows_of, text_of
from ostler.fabric.model import Blueprint, Lint

__all__ = ["FORMATS", "Reader", "format_of", "read"]


class Reader(Protocol):
    """Reads one form. `switch_model`: of the switches whose model the file does not say, for front-panel labels."""

    def __call__(self, data: bytes, name: str, *, switch_model: str = "") -> tuple[Blueprint, list[Lint]]: ...


FORMATS: Mapping[str, Reader] = {
    "ostler-csv": own_csv.read,
    "ostler-yaml": own_yaml.read,
    "ndt": ndt.read,
    "topo": topo.read,
    "point-to-point": point_to_point.read,
    "netbox": netbox.read,
}


def read(data: bytes, name: str, *, format: str = "auto", switch_model: str = "") -> tuple[Blueprint, list[Lint]]:
    """The blueprint of a file, and what is doubtful about it, errors first. `name`: the file's, for messages.

    With an error in the list the blueprint cannot be used: of a port that is in two cables, it holds the first.
    BadInput with file and line where it is no blueprint at all.
    """
    if format != "auto" and format not in FORMATS:
        raise BadInput(f"there is no form {format!r}; there are auto, {', '.join(FORMATS)}", where=name)
    return FORMATS[format_of(data, name) if format == "auto" else format](data, name, switch_model=switch_model)


def format_of(data: bytes, name: str) -> str:
    """Which form it is, told from the beginning of the file; BadInput where it is none."""
    if data.startswith(b"PK"):
        return "point-to-point"
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise BadInput("is an old Excel workbook (.xls); save it as .xlsx or CSV", where=name)
    text = text_of(data, name)
    head = text[: 256 * 1024]
    if head.lstrip()[:1] in {"{", "["}:
        return "netbox"
    lines = [line for line in head.splitlines()[:400] if line.strip()]
    if lines and lines[0].lstrip("\ufeff# ").lower().startswith("ostler blueprint"):
        return "ostler-csv"
    plain = [line for line in lines if not line.lstrip().startswith("#")]
    if any(line.split(":", 1)[0] in _YAML_KEYS and ":" in line for line in plain[:40]):
        return "ostler-yaml"
    if any("->" in line and len(line.split()) >= 4 for line in plain):
        return "topo"
    rows = rows_of(head if len(head) == len(text) else head[: head.rfind("\n") + 1] or head, name)
    for row in rows[: point_to_point.HEADER_WITHIN]:
        if own_csv.table_of(row.cells):
            return "ostler-csv"
        if ndt.is_header(row.cells):
            return "ndt"
        if netbox.is_header(row.cells):
            return "netbox"
    if point_to_point.header_of(rows) is not None:
        return "point-to-point"
    first = rows[0] if rows else None
    raise BadInput(
        f"is no blueprint that is known: {', '.join(FORMATS)}; the first row is "
        f"{(' | '.join(first.cells) if first else '')[:60]!r}. Name the form, or see docs/blueprints.md",
        where=f"{name}:{first.line if first else 1}",
    )


_YAML_KEYS = {"name", "cables", "chassis", "fat_tree", "proven"}
