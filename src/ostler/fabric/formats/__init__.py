"""From the bytes of the field's tools to a `Sweep`. Called by `ostler fabric`, the API's upload and the collectors.

A format is a row of `_MODULES`: its name and the module of this package that has `read(data, name) -> Sweep` and
`looks_like(head) -> bool`. Modules are imported when first wanted: an offline command reads one file and should not
wait for ten readers.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import cast

from ostler.core.errors import BadInput
from ostler.fabric.formats.unpack import unpack
from ostler.fabric.sweep import PROBLEMS_KEPT, Problem, ProblemKind, Sweep

Reader = Callable[[bytes, str], Sweep]
"""Bytes of a file and its name for messages. Raises `BadInput` where nothing sensible can be read."""

_MODULES: Mapping[str, str] = {
    "ibnetdiscover": "ibnetdiscover",
    "ibnetdiscover-cache": "ibnetdiscover_cache",
    "opensm-subnet": "opensm_subnet",
    "iblinkinfo": "iblinkinfo",
    "ibdiagnet-db-csv": "db_csv",
    "ibdiagnet-net-dump": "net_dump",
    "ufm": "ufm",
    "mlxlink": "mlxlink",
    "perfquery": "perfquery",
    "ibqueryerrors": "ibqueryerrors",
}
"""Name of the format → module of this package."""

HEAD = 65536
"""Bytes that `looks_like` gets to see: enough for the longest preamble and a node behind it."""

_BY_LINES = ("ibnetdiscover", "opensm-subnet", "iblinkinfo")
"""Formats whose every line shows what it is: two of them in one file are found by its end."""


def _read_by(module: str, data: bytes, name: str) -> Sweep:
    return cast(Sweep, import_module(f"{__name__}.{module}").read(data, name))


def _looks_like(name: str, head: bytes) -> bool:
    return cast(bool, import_module(f"{__name__}.{_MODULES[name]}").looks_like(head))


FORMATS: Mapping[str, Reader] = {name: partial(_read_by, module) for name, module in _MODULES.items()}
"""Name → reader of bytes that are not compressed."""


def read(data: bytes, name: str, *, format: str = "auto") -> list[Sweep]:
    """What a file says of a fabric, plain or gzip. `name` is for messages; `format` a key of `FORMATS` or `auto`.

    Raises `BadInput` in one line: nothing in it, a format that is not known, two formats in one file, a gzip bomb.
    """
    if format != "auto" and format not in FORMATS:
        raise BadInput(f"There is no format {format[:60]!r}. Known are: auto, {', '.join(FORMATS)}.", where=name)
    data, damage = unpack(data, name)
    data = data.removeprefix(BOM_UTF8)  # an editor was here
    if not data.strip(b" \t\r\n\0"):
        raise BadInput("The file is empty: nothing was collected, or the collector wrote elsewhere.", where=name)
    sweep = FORMATS[sniff(data, name) if format == "auto" else format](data, name)
    if damage:
        # First, or a file full of damage would have it among those that are only counted.
        sweep.problems.insert(0, Problem(ProblemKind.TRUNCATED, damage))
        if len(sweep.problems) > PROBLEMS_KEPT:
            del sweep.problems[-2]
    return [sweep]


def sniff(data: bytes, name: str) -> str:
    """The key of `FORMATS` that fits these bytes. Raises `BadInput` where none or several do."""
    head = data[:HEAD]
    found = [format for format in FORMATS if _looks_like(format, head)]
    if len(found) == 1 and found[0] in _BY_LINES and len(data) > 1:
        # The end, from a line's begin on: another tool's output may have been appended to the same file.
        tail = data[-HEAD:].partition(b"\n")[2]
        found += [format for format in _BY_LINES if format != found[0] and _looks_like(format, tail)]
    if not found:
        raise BadInput(f"No known format fits. Known are: {', '.join(FORMATS)}; name one if it is.", where=name)
    if len(found) > 1:
        raise BadInput(f"Several formats are in one file ({', '.join(found)}): give each its own file.", where=name)
    return found[0]
