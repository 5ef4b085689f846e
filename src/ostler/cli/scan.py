"""`ostler scan`: hardware faults in kernel logs, offline. Registered by `cli/__init__.py`; the work is "
"`faults/bulk.py`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, BinaryIO, NoReturn, cast

import typer

from ostler.faults.detector import Detector
from ostler.faults.formats import Format
from ostler.faults.logfile import Trouble
from ostler.faults.model import Fault, Hit

if TYPE_CHECKING:
    from rich.table import Table

STDIN = "-"
GROUPS_SHOWN = 1000
"""Rows of the table at most; a log that someone has forged cannot fill the memory with different faults."""
_PROGRESS_FROM = 64 << 20
"""Bytes of log from which a progress bar is worth showing."""
_MESSAGE_SHOWN = 120
_RANK = {"fatal": 3, "error": 2, "warning": 1, "info": 0}
_STYLE = {"fatal": "bold red", "error": "red", "warning": "yellow", "info": "dim"}


def scan_command(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="Kernel logs, plain or gzip; - or none reads standard input."),
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="What the logs are; auto looks at each line.")
    ] = Format.AUTO,
    json: Annotated[bool, typer.Option("--json", help="JSON Lines, one object per fault.")] = False,
) -> None:
    """Find hardware faults in kernel logs, offline.

    Reads /dev/kmsg records, dmesg with or without stamps, syslog, journald JSON (journalctl -o json) and BMC event logs
    (ipmitool sel list). Exits 0 when there is no fault, 1 when there is one, 2 when a file cannot be read.
    """
    names = files or [STDIN]
    if not files and sys.stdin.isatty():
        _fail("no FILE given, and standard input is a terminal; name a log or pipe one in")
    with ExitStack() as opened:
        streams = [(name, _open(name, opened)) for name in names]
        found = unread = False
        table = Summary()
        try:
            for name, stream in streams:
                trouble = Trouble()
                for hit in _hits(name, stream, format, trouble):
                    found = True
                    if json:
                        sys.stdout.write(dumps(_document(name, hit)) + "\n")
                        if name == STDIN:  # it may be a log that still grows
                            sys.stdout.flush()
                    else:
                        table.add(name, hit)
                table.lines += trouble.lines
                unread = unread or bool(trouble.archive)
                for sentence in trouble.sentences():
                    sys.stderr.write(f"ostler scan: {_shown(name)}: warning: {sentence}\n")
            if not json:
                table.show(len(streams))
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader has seen enough (`| head`). Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # A packed log was not looked into: "no fault" would be a false all-clear.
    raise typer.Exit(1 if found else 2 if unread else 0)


def _fail(sentence: str) -> NoReturn:
    sys.stderr.write(f"ostler scan: {sentence}\n")
    raise typer.Exit(2)


def _shown(name: str) -> str:
    return "standard input" if name == STDIN else "".join(c if c.isprintable() else "?" for c in name)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _open(name: str, opened: ExitStack) -> IO[bytes]:
    """All files are opened before the first is read, so that a mistyped name costs nothing."""
    if name == STDIN:
        return sys.stdin.buffer
    try:
        return opened.enter_context(Path(name).open("rb", buffering=0))
    except OSError as error:
        _fail(f"{_shown(name)}: {_reason(error)}")
    except ValueError as error:  # a NUL in the name
        _fail(f"{_shown(name)}: {error}")


def _hits(name: str, stream: IO[bytes], format: Format, trouble: Trouble) -> Iterator[Hit]:
    """The hits of one file; a read error ends the program with one line."""
    from ostler.faults import bulk

    source = _watched(name, stream)
    hits = bulk.scan(Detector(), source, format, trouble=trouble)
    while True:
        try:
            hit = next(hits, None)
        except OSError as error:
            _fail(f"{_shown(name)}: cannot be read any further: {_reason(error)}")
        if hit is None:
            return
        yield hit


def _watched(name: str, stream: IO[bytes]) -> IO[bytes]:
    """The stream, behind a progress bar when a person waits for a large file."""
    if name == STDIN or not sys.stderr.isatty():
        return stream
    size = os.fstat(stream.fileno()).st_size
    if size < _PROGRESS_FROM:
        return stream
    from rich.console import Console
    from rich.progress import wrap_file

    return wrap_file(
        cast(BinaryIO, stream), size, description=_shown(name), console=Console(stderr=True), transient=True
    ).__enter__()


def _document(name: str, hit: Hit) -> dict[str, Any]:
    fault = hit.fault
    return {
        "file": name,
        "line_no": hit.line_no,
        "time": hit.time,
        "kind": fault.kind.value,
        "code": fault.code,
        "device": fault.device,
        "component": fault.component,
        "severity": fault.severity.value,
        "action": fault.action.value,
        "message": fault.message,
        "meaning": fault.meaning,
        "workflow": fault.workflow,
        "recovery": fault.recovery,
        "detail": dict(fault.detail),
    }


@dataclass(slots=True)
class Group:
    """Faults that differ only in when they came."""

    fault: Fault
    where: str
    first: str | None
    last: str | None
    count: int = 1


class Summary:
    """The table for people: one row per different fault, gravest first, and one line that sums up."""

    def __init__(self) -> None:
        self.groups: dict[tuple[str, str, str, str, str], Group] = {}
        self.hits = 0
        self.lines = 0
        self.unshown = 0

    def add(self, name: str, hit: Hit) -> None:
        fault = hit.fault
        self.hits += 1
        key = (fault.kind.value, fault.code, fault.device, fault.severity.value, fault.action.value)
        group = self.groups.get(key)
        if group is not None:
            group.count += 1
            group.last = hit.time
        elif len(self.groups) < GROUPS_SHOWN:
            self.groups[key] = Group(fault, f"{_shown(name)}:{hit.line_no}", hit.time, hit.time)
        else:
            self.unshown += 1

    def show(self, files: int) -> None:
        read = f"{self.lines} lines in {files} {'log' if files == 1 else 'logs'}"
        if not self.groups:
            sys.stdout.write(f"No fault in {read}.\n")
            return
        from rich.console import Console

        console = Console(soft_wrap=False)
        if not console.is_terminal:
            console = Console(width=max(console.width, 220))
        console.print(self._table())
        if self.unshown:
            sys.stdout.write(f"{self.unshown} more faults of other kinds or devices are not shown; --json gives all.\n")
        wanted: dict[str, set[str]] = {}
        for group in self.groups.values():
            if group.fault.action.value != "none":
                wanted.setdefault(group.fault.action.value, set()).add(group.fault.device)
        actions = ", ".join(f"{action} ({len(devices)})" for action, devices in sorted(wanted.items()))
        sys.stdout.write(
            f"{self.hits} faults, {len(self.groups)} different, in {read}. "
            f"Recommended, by number of devices: {actions or 'nothing'}.\n"
        )

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(show_edge=False, pad_edge=False, box=None, header_style="bold", padding=(0, 2, 0, 0))
        for title in ("TIME", "FAULT", "DEVICE", "SEVERITY", "ACTION"):
            table.add_column(title, overflow="fold", no_wrap=title != "DEVICE")
        table.add_column("TIMES", justify="right", no_wrap=True)
        table.add_column("FIRST SEEN IN", overflow="fold")
        table.add_column("WHAT IT MEANS, AND SAYS", overflow="fold", min_width=40)
        order = sorted(self.groups.values(), key=lambda g: (-_RANK[g.fault.severity.value], -g.count))
        for group in order:
            fault, time = group.fault, group.first or "-"
            if group.count > 1 and group.last != group.first:
                time = f"{time}\n… {group.last or '-'}"
            table.add_row(
                Text(time),
                Text(f"{fault.kind.value} {fault.code}".strip()),
                Text(fault.device or "-"),
                Text(fault.severity.value, style=_STYLE[fault.severity.value]),
                Text(fault.action.value),
                Text(str(group.count)),
                Text(group.where),
                Text.assemble(fault.meaning, "\n", (fault.message[:_MESSAGE_SHOWN], "dim")),
            )
        return table
