"""How commands print and ask: tables for people, JSON for programs, a count before what disrupts. Used by `cli/*`.

Texts that came from nodes lose their control characters here: a log line must not move the reader's cursor.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

import typer

from ostler.core.errors import BadInput

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Reason: TypeAlias = Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.", show_default=False)]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def clean(value: object) -> str:
    """Any value as one line of printable text, a list with commas; `–` for nothing."""
    if isinstance(value, list):
        value = ", ".join(map(clean, value))
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "".join(char if char.isprintable() else " " for char in str(value)).strip()


def print_json(value: Any) -> None:
    """One JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_lines(values: Iterable[Any]) -> None:
    """JSON Lines, each written as soon as it is known."""
    for value in values:
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> int:
    """A plain table, as wide as the terminal when a person looks, never cut when piped. Returns the number of rows."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for name in columns:
        drawn.add_column(name, overflow="fold", no_wrap=False)
    for row in rows:
        drawn.add_row(*(Text(clean(cell)) for cell in row))
    console = Console(highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else 400)
    if drawn.row_count:
        console.print(drawn)
    else:
        say(empty)
    return drawn.row_count


def facts(pairs: Mapping[str, object]) -> None:
    """Names and values, aligned; nothing is printed for what is None."""
    shown = {name: value for name, value in pairs.items() if value is not None}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        say(f"{name:<{width}}  {clean(value)}")


def say(text: str) -> None:
    """One line for the reader."""
    sys.stdout.write("".join(char if char.isprintable() or char == "\n" else " " for char in text) + "\n")


def when(iso: object, now: float | None = None) -> str:
    """`3 h ago`, `in 12 min`, from a time as the API writes it; `–` for none."""
    if not isinstance(iso, str) or not iso:
        return "–"
    try:
        at = datetime.fromisoformat(iso).timestamp()
    except ValueError:
        return clean(iso)
    seconds = (datetime.now(UTC).timestamp() if now is None else now) - at
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def span(seconds: object) -> str:
    """A length of time in two figures."""
    if not isinstance(seconds, int | float):
        return "–"
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def clock(iso: object) -> str:
    """A time as the API writes it, to the second, in UTC."""
    return clean(iso).replace("T", " ").split(".")[0].removesuffix("Z")


def confirm(names: Sequence[str], doing: str, *, yes: bool) -> None:
    """Ask a person for the count before something disruptive; a program must say `--yes`. Raises `BadInput`."""
    if yes:
        return
    count = len(names)
    if not sys.stdin.isatty():
        raise BadInput(f"This would {doing} {count} node{'s' * (count != 1)}; add --yes to do it without being asked.")
    listed = ", ".join(names[:8]) + (f" and {count - 8} more" if count > 8 else "")
    sys.stderr.write(f"This will {doing} {count} node{'s' * (count != 1)}: {clean(listed)}\n")
    sys.stderr.write("Type the number of nodes to go on: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != str(count):
        raise BadInput("That is not the number; nothing was done.")


def need_reason(reason: str) -> str:
    """A reason that says something. Raises `BadInput`."""
    if not reason.strip():
        raise BadInput("Say why: this is kept in the audit log.", where="--reason")
    return reason.strip()
