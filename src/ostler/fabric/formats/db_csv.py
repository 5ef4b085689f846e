"""ibdiagnet2's `ibdiagnet2.db_csv`: sections of CSV between `START_NAME` and `END_NAME`. Called by `formats`.

Each section has a heading, and columns are taken by name in any order and spelling (`NodeGUID`, `NodeGuid`); sections
that are not known are passed over unread. `NODES`, `PORTS` and `LINKS` are the topology; `PM_INFO` has the counters,
where the 64-bit ones (`…Ext`, `…Extended`) are preferred; `CABLE_INFO` the modules. Bit error rates are taken from any
section that names them, and from `PHY_DB16`, whose `field12` to `field17` are raw, effective and symbol BER as
coefficient and negative exponent of ten, as the PPCNT register has them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from ostler.core.errors import BadInput
from ostler.fabric.formats import vocabulary as say
from ostler.fabric.formats.agreement import settle
from ostler.fabric.sweep import Ber, End, Module, Node, NodeKind, PortFacts, ProblemKind, Sweep

_START = re.compile(r"START_(\w{1,60})\s*")
_NOT_A_WORD = re.compile(r"[^a-z0-9]+")
_TAKEN = re.compile(r"#.*?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?: [A-Z]{1,5})? ([+-]\d{4})")
_KINDS = {"1": NodeKind.HCA, "2": NodeKind.SWITCH, "3": NodeKind.ROUTER}
_DBM = re.compile(r"(-?\d{1,3}(?:\.\d{1,4})?)\s*dBm", re.IGNORECASE)

_Columns = Mapping[str, int]
_Row = Sequence[str]


def looks_like(head: bytes) -> bool:
    return re.search(rb"^START_[A-Z0-9_]{1,60}[ \t\r]*$", head, re.MULTILINE) is not None


def read(data: bytes, name: str) -> Sweep:
    """All that the known sections say. Raises `BadInput` where none of them has a row."""
    sweep = Sweep("ibdiagnet-db-csv", name, states=True)
    section, take, columns, opened, rows = "", None, _NO_COLUMNS, 0, 0
    # A last line without its end may be half a number.
    for line, text in say.lines(data if data.endswith(b"\n") else data[: data.rfind(b"\n") + 1], sweep):
        if text.startswith("START_") and (found := _START.fullmatch(text)):
            if section:
                sweep.trouble(ProblemKind.TRUNCATED, f"section {section} has no end", line=opened)
            section, opened, columns = found[1], line, _NO_COLUMNS
            take = _reader(section)
        elif text.startswith("END_"):
            section, take = "", None
        elif take is None:
            if not section and text.startswith("#") and sweep.taken_at is None and (found := _TAKEN.match(text)):
                sweep.taken_at = _time(f"{found[1]} {found[2]}")
        elif text:
            row = _cells(text)
            if columns is _NO_COLUMNS:
                columns = {_NOT_A_WORD.sub("", part.lower()): at for at, part in enumerate(row)}
            elif len(row) < len(columns):
                sweep.trouble(ProblemKind.TRUNCATED, f"a row of {section} is cut off", line=line)
            else:
                try:
                    take(sweep, row, columns)
                    rows += 1
                except KeyError as error:
                    sweep.trouble(ProblemKind.UNREADABLE, f"{section} has no column {error.args[0]}", line=opened)
                    take = None
                except _Unreadable as error:
                    sweep.trouble(ProblemKind.UNREADABLE, f"{section}: {error}", line=line)
                except _Twice as error:
                    sweep.trouble(error.kind, str(error), line=line, guid=error.guid)
    if section and not data.endswith(f"END_{section}".encode()):
        sweep.trouble(ProblemKind.TRUNCATED, f"section {section} has no end", line=opened)
    if not rows:
        raise BadInput("No section of ibdiagnet's db_csv that is known has a row.", where=f"{name}:1")
    sweep.topology = bool(sweep.nodes)
    ends = (end for port, facts in sweep.ports.items() for end in (port, facts.peer) if end is not None)
    settle(sweep, {end.guid: (NodeKind.HCA, "") for end in ends if end.guid not in sweep.nodes})
    return sweep


_NO_COLUMNS: _Columns = {}


def _cells(text: str) -> _Row:
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader((text,)), [])
    except csv.Error:  # a cell of more than 128 KiB
        return []


class _Unreadable(Exception):
    """A row that says nothing: its GUID or its port is none."""


class _Twice(Exception):
    """A row that contradicts an earlier one."""

    def __init__(self, kind: ProblemKind, message: str, guid: int) -> None:
        super().__init__(message)
        self.kind, self.guid = kind, guid


def _reader(section: str) -> Callable[[Sweep, _Row, _Columns], None] | None:
    if section.startswith(("PHY_DB", "PM_BER", "EFF_BER", "BER_")):
        return _phy16 if section == "PHY_DB16" else _phy
    return {"NODES": _node, "PORTS": _port, "LINKS": _link, "PM_INFO": _counters, "CABLE_INFO": _cable}.get(section)


def _guid(row: _Row, columns: _Columns, name: str) -> int:
    found = say.guid(row[columns[name]])
    if not found:
        raise _Unreadable(f"{say.words(row[columns[name]])[:40]!r} is no GUID")
    return found


def _number(row: _Row, columns: _Columns, *names: str) -> int:
    """The port number of a row; -1 for port 0, which has no cable."""
    for name in names:
        if name in columns:
            found = say.whole(row[columns[name]], 255)
            if found is None:
                raise _Unreadable(f"{say.words(row[columns[name]])[:40]!r} is no port number")
            return found or -1
    raise KeyError(names[0])


def _optional(row: _Row, columns: _Columns, name: str) -> str:
    return row[columns[name]].strip() if name in columns else ""


def _node(sweep: Sweep, row: _Row, columns: _Columns) -> None:
    guid = _guid(row, columns, "nodeguid")
    node = Node(
        guid,
        _KINDS.get(row[columns["nodetype"]].strip(), NodeKind.HCA),
        say.words(_optional(row, columns, "nodedesc")),
        say.whole(_optional(row, columns, "numports"), 255) or 0,
        say.guid(_optional(row, columns, "systemimageguid")) or 0,
        say.whole(_optional(row, columns, "vendorid")) or 0,
        say.whole(_optional(row, columns, "deviceid")) or 0,
    )
    if sweep.nodes.setdefault(guid, node) is not node:
        raise _Twice(ProblemKind.DUPLICATE_GUID, "two nodes have this GUID", guid)


def _port(sweep: Sweep, row: _Row, columns: _Columns) -> None:
    guid, number = _guid(row, columns, "nodeguid"), _number(row, columns, "portnum")
    if number < 0:
        return
    end = End(guid, number)
    up = say.state(row[columns["portstate"]])
    known = sweep.ports.get(end)
    if known is not None and known.state:
        raise _Twice(ProblemKind.CONTRADICTION, f"port {number} is listed twice", guid)
    linked = say.physical(_optional(row, columns, "portphystate"))
    sweep.ports[end] = PortFacts(
        known.peer if known else None,
        up,
        linked,
        say.WIDTH_BITS.get(say.whole(_optional(row, columns, "linkwidthactv")) or 0, 0),
        say.SPEED_BITS.get(say.whole(_optional(row, columns, "linkspeedactv")) or 0, ""),
        say.widest(say.whole(_optional(row, columns, "linkwidthsup"))),
        say.fastest(say.whole(_optional(row, columns, "linkspeedsup"))),
        say.whole(_optional(row, columns, "lid"), 0xC000) or 0,
    )


def _link(sweep: Sweep, row: _Row, columns: _Columns) -> None:
    one = End(_guid(row, columns, "nodeguid1"), _number(row, columns, "portnum1"))
    two = End(_guid(row, columns, "nodeguid2"), _number(row, columns, "portnum2"))
    if one.port < 0 or two.port < 0:
        return
    for end, peer in ((one, two), (two, one)):
        known = sweep.ports.get(end, PortFacts())
        if known.peer is not None and known.peer != peer:
            raise _Twice(ProblemKind.CONTRADICTION, f"port {end.port} is in two links", end.guid)
        sweep.ports[end] = known._replace(peer=peer)


def _counters(sweep: Sweep, row: _Row, columns: _Columns) -> None:
    guid, number = _guid(row, columns, "nodeguid"), _number(row, columns, "portnumber", "portnum")
    if number < 0:
        return
    found: dict[str, int] = {}
    for counter, at in _wanted(columns):
        if counter not in found:
            text = row[at]
            value = 0 if text == "0" else say.whole(text)
            if value is not None:
                found[counter] = value
    if found:
        sweep.counters[End(guid, number)] = found


_WANTED: dict[tuple[str, ...], tuple[tuple[str, int], ...]] = {}


def _wanted(columns: _Columns) -> tuple[tuple[str, int], ...]:
    """Counters and their columns, the 64-bit ones first. Kept for the headings met last: a file has one."""
    key = tuple(columns)
    if key not in _WANTED:
        _WANTED.clear()
        _WANTED[key] = tuple(
            (counter, columns[name + suffix])
            for suffix in ("extended", "ext", "")
            for name, counter in say.COUNTERS.items()
            if name + suffix in columns
        )
    return _WANTED[key]


def _cable(sweep: Sweep, row: _Row, columns: _Columns) -> None:
    guid, number = _guid(row, columns, "nodeguid"), _number(row, columns, "portnum", "portnumber")
    if number < 0:
        return
    said = {name: row[at].strip().strip('"') for name, at in columns.items()}
    high, low = (say.number(said.get(f"alarmtemperature{end}thresh")) for end in ("high", "low"))
    top, bottom = (_dbm(said.get(f"rxpower{end}thresh")) for end in ("high", "low"))
    sweep.modules[End(guid, number)] = Module(
        say.words(said.get("vendor")),
        say.words(said.get("pn")),
        say.words(said.get("sn")),
        say.words(said.get("typedesc") or said.get("cabletype")),
        say.number(said.get("lengthdesc")) or say.number(said.get("lengthcopperoractive")),
        say.words(said.get("fwversion")),
        say.number(said.get("temperature")),
        (low, high) if low is not None and high is not None and low < high else None,
        _lanes(said, "rx"),
        (bottom, top) if bottom is not None and top is not None and bottom < top else None,
        _lanes(said, "tx"),
    )


def _lanes(said: Mapping[str, str], way: str) -> tuple[float, ...]:
    """Only where the unit is written: older versions print milliwatts, or the register as it stands."""
    found = (_dbm(said.get(f"{way}{lane}power") or said.get(f"{way}power{lane}")) for lane in range(1, 9))
    return tuple(value for value in found if value is not None)


def _dbm(text: str | None) -> float | None:
    found = _DBM.search(text[:64]) if text else None
    return float(found[1]) if found else None


_BERS = {
    "raw": ("rawber", "physicalrawber"),
    "effective": ("effectiveber", "effber"),
    "symbol": ("symbolber",),
}


def _phy(sweep: Sweep, row: _Row, columns: _Columns) -> None:
    if not any(name in columns for names in _BERS.values() for name in names):
        raise KeyError("of a bit error rate")
    raw, effective, symbol = (
        next((say.ber(row[columns[name]]) for name in names if name in columns), None) for names in _BERS.values()
    )
    _keep(sweep, row, columns, Ber(raw=raw, effective=effective, symbol=symbol))


def _phy16(sweep: Sweep, row: _Row, columns: _Columns) -> None:
    raw, effective, symbol = (
        say.ber(f"{row[columns[f'field{at}']].strip()}e-{row[columns[f'field{at + 1}']].strip()}")
        for at in (12, 14, 16)
    )
    _keep(sweep, row, columns, Ber(raw=raw, effective=effective, symbol=symbol))


def _keep(sweep: Sweep, row: _Row, columns: _Columns, found: Ber) -> None:
    guid, number = _guid(row, columns, "nodeguid"), _number(row, columns, "portnum", "portnumber")
    if number > 0 and found != Ber():
        sweep.bers[End(guid, number)] = found


def _time(text: str) -> float | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S %z").timestamp()
    except ValueError:
        return None
