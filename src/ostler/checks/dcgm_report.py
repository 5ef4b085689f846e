"""Reads what `dcgmi diag` and `dcgmi nvlink` print, as values. Used by dcgm_diag.py, which judges them.

Two forms: the JSON of `-j` (DCGM 3 says "DCGM GPU Diagnostic", DCGM 4 "DCGM Diagnostic"; below both there are
test_categories → tests → results), and the table for people, whose long cells are wrapped over several lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_RESULT = re.compile(r"(Pass|Fail|Warn|Skip|Not Run)\w*(?:\s*-\s*(?:GPUs?:?\s*)?(All|[\d,\s]+))?", re.IGNORECASE)
_PROSE = ("Warning", "Info", "Error", "EUD", "")
_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Line:
    """One result of one test, for one GPU or for all."""

    test: str
    status: str
    """pass, fail, warn, skip, or whatever else it says, in lower case."""
    gpus: tuple[str, ...] = ()
    """Empty: not said, or all."""
    said: str = ""
    """Warnings and information that came with it."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one run said."""

    lines: tuple[Line, ...]
    error: str = ""
    """The run as a whole went wrong."""
    gpus: tuple[str, ...] = ()
    """GPUs that the report names."""


def parse(output: str) -> Report | None:
    """The report in a command's output, whichever form it has; None when there is none."""
    return _from_json(output) or _from_table(output)


def _from_json(output: str) -> Report | None:
    start = output.find("{")
    if start < 0:
        return None
    try:
        document, _ = json.JSONDecoder().raw_decode(output[start:])
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    error, lines = "", []
    for body in [document, *document.values()]:
        if not isinstance(body, dict):
            continue
        error = error or _said(body.get("runtime_error"))
        for category in _dicts(body.get("test_categories")):
            for test in _dicts(category.get("tests")):
                lines += _lines(test)
    if not lines and not error:
        return None
    entities = [
        str(one["entity_id"])
        for group in _dicts(document.get("entity_groups"))
        if str(group.get("entity_group", "")).upper() == "GPU"
        for one in _dicts(group.get("entities"))
        if "entity_id" in one
    ]
    return Report(tuple(lines), error, _unique([*entities, *(gpu for line in lines for gpu in line.gpus)]))


def _lines(test: Mapping[str, Any]) -> list[Line]:
    name = str(test.get("name", "?"))[:80]
    found = [
        Line(
            name,
            str(result.get("status", "")).strip().lower()[:40],
            _gpus(result),
            _said([result.get("warnings"), result.get("info")]),
        )
        for result in _dicts(test.get("results"))
    ]
    summary = test.get("test_summary")
    if isinstance(summary, dict) and summary.get("status"):
        said = _said([summary.get("warnings"), summary.get("info"), test.get("warnings"), test.get("info")])
        found.append(Line(name, str(summary["status"]).strip().lower()[:40], (), said))
    return found or [Line(name, "no result")]


def _gpus(result: Mapping[str, Any]) -> tuple[str, ...]:
    if "entity_id" in result:
        return (str(result["entity_id"]),) if str(result.get("entity_group", "GPU")).upper() == "GPU" else ()
    return tuple(re.findall(r"\d+", str(result.get("gpu_ids", result.get("gpu_id", "")))))


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, dict))


def _said(value: Any) -> str:
    """Every text in there, error codes included."""
    if isinstance(value, dict):
        return _joined(_said(one) for one in value.values())
    if isinstance(value, list | tuple):
        return _joined(_said(one) for one in value)
    return "" if value is None else str(value)[:_LIMIT]


def _joined(texts: Iterator[str]) -> str:
    return "; ".join(text for text in texts if text)[:_LIMIT]


def _unique(values: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _from_table(output: str) -> Report | None:
    rows: list[tuple[str, str]] = []
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.lstrip().startswith("|") or len(cells) != 2 or cells[0].startswith("-----"):
            continue
        rows.append((cells[0], cells[1]))
    lines: list[Line] = []
    metadata: list[str] = []
    prose = False
    for name, cell in rows:
        if name == "GPU Device IDs Detected":
            metadata = [str(n) for n in range(len([part for part in cell.split(",") if part.strip()]))]
        found = _RESULT.fullmatch(cell)
        if name in _PROSE:
            if found is not None and not name and not prose and lines:  # a second result of the same test
                lines.append(Line(lines[-1].test, found[1].lower(), _table_gpus(found)))
            elif lines:
                last = lines[-1]
                lines[-1] = Line(last.test, last.status, last.gpus, f"{last.said}{' ' if name else ''}{cell}"[:_LIMIT])
                prose = True
            continue
        prose = False
        if found is not None:
            lines.append(Line(name, found[1].lower(), _table_gpus(found)))
    if not lines:
        return None
    return Report(tuple(lines), "", _unique([*metadata, *(gpu for line in lines for gpu in line.gpus)]))


def _table_gpus(found: re.Match[str]) -> tuple[str, ...]:
    return tuple(re.findall(r"\d+", found[2] or ""))


def links_down(output: str) -> tuple[list[str], int]:
    """From `dcgmi nvlink --link-status`: (`GPU 0 link 3`, … that are down, how many are up).

    Each GPU's line is a row of U (up), D (down), X (disabled) and _ (none).
    """
    down, up, owner = [], 0, ""
    for line in output.splitlines():
        title = re.match(r"\s*(gpuId|physicalId|switchId)\s+(\d+)\s*:", line)
        if title is not None:
            owner = f"{'GPU' if title[1] == 'gpuId' else 'NVSwitch'} {title[2]}"
            continue
        marks = line.split()
        if not owner or not marks or any(mark not in ("U", "D", "X", "_") for mark in marks):
            continue
        down += [f"{owner} link {number}" for number, mark in enumerate(marks) if mark == "D"]
        up += marks.count("U")
    return down, up
