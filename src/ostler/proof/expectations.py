"""What a recording expects, held against the books: pure. Called by `replay.py` at the moment of each `expect` line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ostler.nodes.model import Node
from ostler.proof.recording import expand


@dataclass(frozen=True)
class Books:
    """What is known of the fleet at one moment, by node name."""

    nodes: Mapping[str, Node]
    held: set[str]
    """Whom something holds cordoned."""
    decisions: Sequence[Mapping[str, Any]]
    findings: Sequence[Mapping[str, Any]]
    incidents: Sequence[Mapping[str, Any]]
    powered: Mapping[str, Sequence[str]]
    events: Sequence[str]
    tickets: set[str]
    conditions: Sequence[tuple[str, str]]


def unmet(wanted: Mapping[str, Any], books: Books) -> Iterator[str]:
    """Why an expectation is not met, one line each; nothing when it is."""
    names = _names(wanted.get("node", "*"), books)
    if "incident" in wanted:
        yield from _incident(wanted["incident"], books)
    if "event" in wanted and not any(one == wanted["event"] for one in books.events):
        yield f"no event '{wanted['event']}' was published"
    if "acted" in wanted:
        acted = len({one["node"] for one in books.decisions if one["verdict"] == "act" and one["node"] in names})
        if acted != wanted["acted"]:
            yield f"{acted} nodes were acted on, {wanted['acted']} were expected"
    if "never" in wanted:
        yield from _never(wanted["never"], names, books)
    for name in names:
        yield from _of_node(name, wanted, books)


def _of_node(name: str, wanted: Mapping[str, Any], books: Books) -> Iterator[str]:
    node = books.nodes[name]
    seen = {
        "state": str(node.state),
        "cordoned": name in books.held,
        "pending": None if node.pending_state is None else str(node.pending_state),
        "power": list(books.powered.get(name, ())),
        "ticket": name in books.tickets,
    }
    for key, value in seen.items():
        if key in wanted and wanted[key] != value:
            yield f"{name}: {key} is {value!r}, {wanted[key]!r} was expected"
    if "condition" in wanted and (name, wanted["condition"]) not in books.conditions:
        yield f"{name}: the condition {wanted['condition']} is not true"
    if "decision" in wanted:
        mine = [one for one in books.decisions if one["node"] == name]
        yield from _matching(name, "decision", wanted["decision"], mine)
    if "finding" in wanted:
        mine = [one for one in books.findings if one["node"] == name]
        yield from _matching(name, "finding", wanted["finding"], mine)
    if "no_finding" in wanted:
        for one in books.findings:
            if one["node"] == name and one["fault"] == wanted["no_finding"] and not one["cleared"]:
                yield f"{name}: there is a finding {one['fault']} that should not be"


def _matching(name: str, what: str, wanted: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    count = wanted.get("count")
    fields = {key: value for key, value in wanted.items() if key not in ("count", "explains", "witnesses")}
    found = [
        row
        for row in rows
        if all(row.get(key) == value for key, value in fields.items())
        and set(wanted.get("explains", ())) <= set(_evidence(row, "explains"))
        and len(_evidence(row, "witnesses")) >= wanted.get("witnesses", 0)
    ]
    if count is None and not found:
        there = ", ".join(_short(row, what) for row in rows) or "none"
        yield f"{name}: no {what} is {dict(wanted)}; there are: {there}"
    if count is not None and len(found) != count:
        yield f"{name}: {len(found)} times {what} {fields}, {count} were expected"


def _never(wanted: Mapping[str, Any], names: Sequence[str], books: Books) -> Iterator[str]:
    """`{}`: nothing was done; else no decision like this. Without a verdict it is about what was done."""
    fields = {"verdict": "act", **wanted}
    for one in books.decisions:
        if one["node"] in names and all(one.get(key) == value for key, value in fields.items()):
            yield f"{one['node']}: {_short(one, 'decision')} at {one['at']:g} s must never be"
    if not wanted:
        for name in names:
            if books.powered.get(name):
                yield f"{name}: its power was touched: {', '.join(books.powered[name])}"


def _incident(wanted: Mapping[str, Any], books: Books) -> Iterator[str]:
    count = wanted.get("count")
    fields = {key: value for key, value in wanted.items() if key != "count"}
    found = [row for row in books.incidents if all(row.get(key) == value for key, value in fields.items())]
    if count is None and not found:
        shown = ("cause", "scope", "subject", "nodes")
        there = "; ".join(" ".join(str(row[key]) for key in shown) for row in books.incidents) or "none"
        yield f"no incident is {fields}; there are: {there}"
    if count is not None and len(found) != count:
        yield f"{len(found)} incidents {fields}, {count} were expected"


def _short(row: Mapping[str, Any], what: str) -> str:
    if what == "decision":
        return f"{row['verdict']} {row['action']} ({row['timing']}) for {row['fault']}"
    over = " (cleared)" if row["cleared"] else ""
    return f"{row['fault']}@{row['device']} {row['severity']} {row['confidence']} {row['action']}{over}"


def _evidence(row: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = row.get("evidence", {}).get(key, ())
    return value if isinstance(value, list) else ()


def _names(given: Any, books: Books) -> list[str]:
    if given == "*":
        return list(books.nodes)
    return [name for text in (given if isinstance(given, list) else [given]) for name in expand(text)]
