"""Plain words about events, times and reasons. Pure; called by `queries.py` and the templates.

Texts from nodes are passed on as they are: the templates escape them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ostler.console.model import Line, Row

_REASON_KEYS = ("reason", "summary", "message", "why", "detail", "text")


def line(event: Mapping[str, Any], names: Mapping[str, str]) -> Line:
    """One event in the ticker's words."""
    data = event["data"] if isinstance(event["data"], dict) else {}
    node_id = str(data.get("node_id") or event["subject"])
    known = node_id in names
    who = names.get(node_id) or str(data.get("node_name") or data.get("name") or event["subject"])
    reason = next((str(data[key]) for key in _REASON_KEYS if data.get(key)), "")
    kind = str(event["type"])
    tone = "note"
    if kind == "node.state_changed":
        tone = str(data.get("to"))
        before = data.get("from")
        text = f"{before} → {tone}" if before else f"entered as {tone}"
    else:
        area, _, verb = kind.partition(".")
        words = verb.replace("_", " ").replace(".", " ") or area
        what = next((str(data[key]) for key in ("fault", "action", "cause", "to") if data.get(key)), "")
        text = " ".join(part for part in (words if area == "node" else f"{area} {words}", what) if part)
    if reason:
        text += f" · {reason}"
    return Line(str(event["id"]), float(event["at"]), who, text, tone, node_id if known else None)


def count(number: int, thing: str) -> str:
    """`1 node`, `3 nodes`; of the words that the pages use."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def duration(seconds: float | None) -> str:
    """`42 s`, `12 min`, `3 h 05 min`, `9 d`: two figures are enough for a person."""
    if seconds is None:
        return "–"
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{round(seconds / 86400)} d"


def clock_time(at: float, now: float) -> str:
    """The time of day in UTC; with the date when that is another day."""
    moment, today = datetime.fromtimestamp(at, UTC), datetime.fromtimestamp(now, UTC)
    return f"{moment:%H:%M:%S}" if moment.date() == today.date() else f"{moment:%Y-%m-%d %H:%M}"


def span(start: float, end: float | None, now: float) -> str:
    """`16:06 – 18:06` in UTC; the date stands with both ends unless it is today's, and once if they share it."""
    first, today = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(now, UTC).date()
    last = None if end is None else datetime.fromtimestamp(end, UTC)
    dated = first.date() != today or (last is not None and last.date() != today)
    told = f"{first:%Y-%m-%d %H:%M}" if dated else f"{first:%H:%M}"
    if last is None:
        return f"{told} – open end"
    return f"{told} – {last:%Y-%m-%d %H:%M}" if last.date() != first.date() else f"{told} – {last:%H:%M}"


def kept_back(reason: str) -> str:
    """What keeps Ostler from acting, without the words that say so on every such decision."""
    return reason.rstrip(".").removesuffix(": recorded as what Ostler would do")


def reasons_of(row: Row) -> list[str]:
    """A decision's reasons, each as text, however they were written down."""
    found = row["reasons"]
    items = found if isinstance(found, list) else [found] if found else []
    return [_plain(item).rstrip(".") for item in items]


def _plain(item: object) -> str:
    if isinstance(item, dict):
        return next((str(item[key]) for key in _REASON_KEYS if item.get(key)), "") or ", ".join(
            f"{key}: {value}" for key, value in item.items()
        )
    return str(item)
