"""Cables out of NetBox (and Nautobot): the CSV of its import form, the table as it is shown, the REST API's JSON.

NetBox's own CSV export of releases before 3 names terminations by number alone; that is said, with what to export
instead (netbox-community/netbox issue 5952). The JSON is that of `/api/dcim/cables/`, a page, a list of pages, or the
results alone. Cables with several ends on a side (breakouts) are taken apart where both sides have as many.
Called by `designs.read`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ostler.core.errors import BadInput
from ostler.fabric.designs.draft import Draft, Row
from ostler.fabric.designs.table import rows_of, text_of, word
from ostler.fabric.model import Blueprint, Lint, Place

_COLUMNS = {
    "side a device": "a", "side a name": "a_port", "side b device": "b", "side b name": "b_port",
    "device a": "a", "termination a": "a_port", "device b": "b", "termination b": "b_port",
    "termination a device": "a", "termination a name": "a_port", "termination b device": "b",
    "termination b name": "b_port", "side a": "a", "side b": "b",
    "rack a": "a_rack", "rack b": "b_rack", "site a": "a_site", "site b": "b_site",
    "location a": "a_row", "location b": "b_row",
    "label": "serial", "length": "length", "length unit": "unit", "side a type": "a_type", "side b type": "b_type",
    "status": "status",
}  # fmt: skip
_ENDS = {"a", "a_port", "b", "b_port"}
_INTERFACES = {"", "interface", "dcim.interface", "frontport", "dcim.frontport"}
_NUMBERED = {"termination a id", "termination b id"}


def is_header(cells: Sequence[str]) -> bool:
    """Whether a row is the header of NetBox's table of cables, in any of its forms."""
    words = {word(cell) for cell in cells}
    return {_COLUMNS[one] for one in words if one in _COLUMNS} >= _ENDS or words >= _NUMBERED


def read(data: bytes, name: str, *, switch_model: str = "") -> tuple[Blueprint, list[Lint]]:
    """CSV or JSON; BadInput where terminations have no names, or it is neither."""
    text = text_of(data, name)
    draft = Draft(name, "netbox", switch_model=switch_model)
    if text.lstrip()[:1] in {"{", "["}:
        _json(draft, text, name)
    else:
        _csv(draft, text, name)
    return draft.finish()


def _csv(draft: Draft, text: str, name: str) -> None:
    rows = rows_of(text, name)
    start = next((index for index, row in enumerate(rows[:5]) if is_header(row.cells)), None)
    if start is None:
        raise BadInput("has no header with device and termination of both sides", where=f"{name}:1")
    at: dict[str, int] = {}
    for index, cell in enumerate(rows[start].cells):
        if column := _COLUMNS.get(word(cell)):
            at.setdefault(column, index)
    if not at.keys() >= _ENDS:
        raise BadInput(
            "names terminations by number only, as NetBox's old export does; export side_a_device, side_a_name, "
            "side_b_device, side_b_name, or take the JSON of /api/dcim/cables/",
            where=f"{name}:{rows[start].line}",
        )
    other = 0
    for row in rows[start + 1 :]:
        said = {key: row.cells[index] for key, index in at.items() if index < len(row.cells)}
        types = {said.get("a_type", "").lower(), said.get("b_type", "").lower()}
        if not types <= _INTERFACES:
            other += 1
            continue
        for side in "ab":
            if chassis := said.get(side, ""):
                place = Place(said.get(f"{side}_site", ""), said.get(f"{side}_row", ""), said.get(f"{side}_rack", ""))
                draft.chassis(chassis, place=place, line=row.line)
        ends = [said.get(key, "") for key in ("a", "a_port", "b", "b_port")]
        length = f"{said.get('length', '')} {said.get('unit', '')}".strip()
        draft.cable(Row(ends[0], ends[1], ends[2], ends[3], row.line, serial=said.get("serial", ""), length=length))
    if other:
        draft.book.add("left-out", f"{other} rows were left out: console, power and panel cables")


def _json(draft: Draft, text: str, name: str) -> None:
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise BadInput(f"is no JSON: {getattr(error, 'msg', 'unreadable')}", where=f"{name}:{line}") from None
    except RecursionError:
        raise BadInput("is nested too deep for a list of cables", where=f"{name}:1") from None
    other = 0
    for number, cable in enumerate(_results(draft, document, name), 1):
        a, b = _side(cable, "a"), _side(cable, "b")
        if len(a) != len(b) or not a:
            draft.book.add("half-cable", f"cable {_id(cable, number)} has {len(a)} and {len(b)} ends; left out")
            continue
        for one, two in zip(a, b, strict=True):
            if not (_is_interface(one) and _is_interface(two)):
                other += 1
                continue
            ends = (*_end(one), *_end(two))
            for chassis in (ends[0], ends[2]):
                if chassis:
                    draft.chassis(chassis)
            length = cable.get("length")
            unit = _word(cable.get("length_unit"))
            said = f"{length} {unit}".strip() if isinstance(length, (int, float)) and length else ""
            draft.cable(Row(*ends, serial=_word(cable.get("label")), length=said))
    if other:
        draft.book.add("left-out", f"{other} cables were left out: console, power and panel cables")


def _results(draft: Draft, document: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """The cables of a page, of a list of pages, or of a bare list."""
    pages = document if isinstance(document, list) else [document]
    have = 0
    said: int = 0
    for page in pages:
        if not isinstance(page, dict):
            raise BadInput("is no list of NetBox cables: it has other things than objects", where=f"{name}:1")
        if "results" not in page:
            if "a_terminations" not in page and "termination_a" not in page:
                raise BadInput("is no list of NetBox cables: no results and no a_terminations", where=f"{name}:1")
            have += 1
            yield page
            continue
        results = page["results"]
        if not isinstance(results, list) or not all(isinstance(item, dict) for item in results):
            raise BadInput("is no list of NetBox cables: results is no list of objects", where=f"{name}:1")
        if isinstance(page.get("count"), int):
            said = max(said, page["count"])
        have += len(results)
        yield from results
    if said > have:
        draft.book.add(
            "incomplete",
            f"holds {have} of {said} cables: one page of several; ask with ?limit=0, or put the pages in one list",
            error=True,
        )


def _side(cable: Mapping[str, Any], side: str) -> Sequence[Mapping[str, Any]]:
    """The ends on one side; before NetBox 3.3 and in Nautobot there is one, by another name."""
    listed = cable.get(f"{side}_terminations")
    if isinstance(listed, list):
        return [end for end in listed if isinstance(end, dict)][:64]
    single = cable.get(f"termination_{side}")
    if isinstance(single, dict):
        return [{"object_type": cable.get(f"termination_{side}_type", ""), "object": single}]
    return []


def _is_interface(end: Mapping[str, Any]) -> bool:
    return _word(end.get("object_type")).lower() in _INTERFACES


def _end(end: Mapping[str, Any]) -> tuple[str, str]:
    thing = end.get("object")
    found: Mapping[str, Any] = thing if isinstance(thing, dict) else {}
    device = found.get("device")
    named: Mapping[str, Any] = device if isinstance(device, dict) else {}
    return _word(named.get("name") or named.get("display")), _word(found.get("name") or found.get("display"))


def _word(value: Any) -> str:
    """A text, or the value of one of NetBox's choices ({value, label})."""
    if isinstance(value, dict):
        value = value.get("value")
    return " ".join(value[:4096].split()) if isinstance(value, str) else ""


def _id(cable: Mapping[str, Any], number: int) -> str:
    value = cable.get("id")
    return str(value)[:40] if isinstance(value, (int, str)) else f"number {number}"
