"""A snapshot as bytes: what the database keeps of a look at the fabric, and what `ostler fabric snapshot` writes.

`OSTLER-FABRIC 1` and a line end, then zlib over JSON. All about ports is in columns over one sorted list of ports, so
that 100,000 of them take about two megabytes and less than a second; equal snapshots give equal bytes. What comes back
is checked like any file from elsewhere: `BadInput` in one line for whatever `pack` has not written.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from ostler.core.errors import BadInput
from ostler.fabric.model import Chassis, ChassisKind, Port, Snapshot
from ostler.fabric.sweep import Ber, End, Module, Physical, PortFacts, PortState, Problem, ProblemKind

MAGIC = b"OSTLER-FABRIC "
VERSION = 1
LARGEST = 512 * 1024 * 1024
"""Bytes of JSON. A fabric of 100,000 ports with counters and readings has 60 million."""
_LEVEL = 3
"""Of zlib: the next ones take twice as long for a tenth less."""

_STATES = tuple(PortState)
_PHYSICAL = tuple(Physical)
"""Written by their order: who changes it changes `VERSION`."""
_NONE, _ELSEWHERE = -1, -2
"""In a column of ports: none; and one that is in no place, or not where its place says."""

T = TypeVar("T")


def pack(snapshot: Snapshot) -> bytes:
    """The whole snapshot."""
    body = json.dumps(_document(snapshot), separators=(",", ":"), sort_keys=True, ensure_ascii=True)
    return MAGIC + b"%d\n" % VERSION + zlib.compress(body.encode("ascii"), _LEVEL)


def unpack(data: bytes) -> Snapshot:
    """The snapshot that `pack` was given. BadInput for anything else."""
    head = data[:64].partition(b"\n")[0]
    if not head.startswith(MAGIC):
        raise BadInput(
            "This is no snapshot of a fabric: it does not begin as one. `ostler fabric snapshot` writes them."
        )
    if head != MAGIC + b"%d" % VERSION:
        version = ascii(head[len(MAGIC) :].decode("ascii", "replace"))
        raise BadInput(f"This snapshot of a fabric is of version {version}; only {VERSION} can be read here.")
    inflate = zlib.decompressobj()
    try:
        body = inflate.decompress(data[len(head) + 1 :], LARGEST)
    except zlib.error:
        raise BadInput("This snapshot of a fabric is damaged: it cannot be decompressed.") from None
    if not inflate.eof or inflate.unused_data:
        raise BadInput("This snapshot of a fabric is damaged: it is cut off, or something stands behind it.")
    try:
        return _snapshot(json.loads(body))
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        raise BadInput("This snapshot of a fabric is damaged: what is in it does not fit together.") from None


# ── to JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _document(snapshot: Snapshot) -> dict[str, Any]:
    held: set[Port] = set(snapshot.facts)
    held.update(snapshot.links, snapshot.links.values(), snapshot.ends, snapshot.counters, snapshot.modules)
    held.update(snapshot.bers, snapshot.replaced)
    ports = sorted(held)
    number = {port: index for index, port in enumerate(ports)}
    names = sorted({port.chassis for port in ports})
    index = {name: at for at, name in enumerate(names)}
    return {
        "source": snapshot.source,
        "vantage": snapshot.vantage,
        "taken_at": snapshot.taken_at,
        "states": snapshot.states,
        "monitor": snapshot.monitor,
        "chassis": [
            [one.name, one.kind.value, one.model, one.guids, one.answered]
            for _, one in sorted(snapshot.chassis.items())
        ],
        "names": names,
        "port_chassis": [index[port.chassis] for port in ports],
        "port_names": [port.name for port in ports],
        **_ends(snapshot, ports),
        **_facts(snapshot, ports, number),
        **_counters(snapshot.counters, number),
        "modules": [[number[port], _given(one)] for port, one in sorted(snapshot.modules.items())],
        "bers": [[number[port], _given(one)] for port, one in sorted(snapshot.bers.items())],
        "problems": [[one.kind.value, one.message, one.line, one.guid, one.hides] for one in snapshot.problems],
        "replaced": [[number[port], *guids] for port, guids in sorted(snapshot.replaced.items())],
        "unplaced": snapshot.unplaced,
    }


def _ends(snapshot: Snapshot, ports: list[Port]) -> dict[str, Any]:
    guids = sorted({end.guid for end in snapshot.ends.values()})
    index = {guid: at for at, guid in enumerate(guids)}
    ends = snapshot.ends
    return {
        "guids": guids,
        "end_guids": [index[ends[port].guid] if port in ends else _NONE for port in ports],
        "end_ports": [ends[port].port if port in ends else 0 for port in ports],
    }


def _facts(snapshot: Snapshot, ports: list[Port], number: Mapping[Port, int]) -> dict[str, Any]:
    """Facts as columns. A neighbour is told by its place, and a link where it is another than that."""
    place_of = {end: port for port, end in snapshot.ends.items()}
    states = {state: at for at, state in enumerate(_STATES)}
    physicals = {physical: at for at, physical in enumerate(_PHYSICAL)}
    speeds = sorted(
        {facts.speed for facts in snapshot.facts.values()} | {f.speed_supported for f in snapshot.facts.values()}
    )
    speed_at = {speed: at for at, speed in enumerate(speeds)}
    having: list[int] = []
    peers: list[int] = []
    elsewhere: list[list[int]] = []
    rows: list[tuple[int, ...]] = []
    links: list[list[int]] = []
    for at, port in enumerate(ports):
        facts = snapshot.facts.get(port)
        told = None
        if facts is not None:
            having.append(at)
            if facts.peer is None:
                peers.append(_NONE)
            elif (told := place_of.get(facts.peer)) is not None:
                peers.append(number[told])
            else:
                peers.append(_ELSEWHERE)
                elsewhere.append([at, *facts.peer])
            rows.append((
                states[facts.state], physicals[facts.physical], facts.width, speed_at[facts.speed],
                facts.width_supported, speed_at[facts.speed_supported], facts.lid,
            ))  # fmt: skip
        linked = snapshot.links.get(port)
        if linked != told:
            links.append([at, _NONE if linked is None else number[linked]])
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(7)]
    return {
        "facts": having if len(having) != len(ports) else None,
        "peers": peers,
        "elsewhere": elsewhere,
        "links": links,
        "speeds": speeds,
        "columns": columns,
    }


def _counters(counters: Mapping[Port, dict[str, int]], number: Mapping[Port, int]) -> dict[str, Any]:
    """Each different set of values once: most ports of a healthy fabric have the same, all zero."""
    shapes: dict[tuple[str, ...], int] = {}
    rows: dict[tuple[int, tuple[int, ...]], int] = {}
    of_same: dict[int, int] = {}
    """id of a dictionary that several ports share → its row."""
    of: list[tuple[int, int]] = []
    for port, values in sorted(counters.items()):
        row = of_same.get(id(values))
        if row is None:
            names = tuple(sorted(values))
            shape = shapes.setdefault(names, len(shapes))
            row = rows.setdefault((shape, tuple(values[name] for name in names)), len(rows))
            of_same[id(values)] = row
        of.append((number[port], row))
    return {
        "counter_names": [list(names) for names in shapes],
        "counter_rows": [[shape, *values] for shape, values in rows],
        "counter_ports": [at for at, _ in of],
        "counter_of": [row for _, row in of],
    }


def _given(one: Module | Ber) -> dict[str, Any]:
    return {field.name: value for field in fields(one) if (value := getattr(one, field.name)) != field.default}


# ── and back ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _snapshot(document: Any) -> Snapshot:
    """Raises LookupError, TypeError, ValueError or AttributeError where something is not as it was written."""
    names = _texts(document["names"])
    port_names = _texts(document["port_names"])
    owners = _numbers(document["port_chassis"], len(names))
    ports = list(map(Port._make, zip([names[at] for at in owners], port_names, strict=True)))
    count = len(ports)
    if len(set(ports)) != count:
        raise ValueError("a port twice")
    snapshot = Snapshot(
        _is(str, document["source"]),
        _is(str, document["vantage"]),
        None if document["taken_at"] is None else _float(document["taken_at"]),
        _is(bool, document["states"]),
        monitor=_is(str, document["monitor"]),
        problems=[
            Problem(
                ProblemKind(kind),
                _is(str, message),
                None if line is None else _is(int, line),
                None if guid is None else _is(int, guid),
                _is(bool, hides),
            )
            for kind, message, line, guid, hides in document["problems"]
        ],
        unplaced=_texts(document["unplaced"]),
    )
    for name, kind, model, guids, answered in document["chassis"]:
        snapshot.chassis[_is(str, name)] = Chassis(
            name, ChassisKind(kind), _is(str, model), _numbers(guids), _is(bool, answered)
        )
    guids = _numbers(document["guids"])
    at_guids = _numbers(document["end_guids"], len(guids), _NONE)
    ends = [
        End(guids[at], port) if at >= 0 else None
        for at, port in zip(at_guids, _numbers(document["end_ports"]), strict=True)
    ]
    snapshot.ends = {port: end for port, end in zip(ports, ends, strict=True) if end is not None}
    _take_facts(document, snapshot, ports, ends)
    _take_counters(document, snapshot, ports)
    for at, given in document["modules"]:
        snapshot.modules[ports[_index(at, count)]] = Module(**_fields(Module, given))
    for at, given in document["bers"]:
        snapshot.bers[ports[_index(at, count)]] = Ber(**_fields(Ber, given))
    for at, known, found in document["replaced"]:
        snapshot.replaced[ports[_index(at, count)]] = (_is(int, known), _is(int, found))
    return snapshot


def _take_facts(document: Any, snapshot: Snapshot, ports: list[Port], ends: list[End | None]) -> None:
    count = len(ports)
    having = range(count) if document["facts"] is None else _numbers(document["facts"], count)
    peers = _numbers(document["peers"], count, _ELSEWHERE)
    elsewhere = {_index(at, count): End(_is(int, guid), _is(int, port)) for at, guid, port in document["elsewhere"]}
    speeds = _texts(document["speeds"])
    state, physical, width, speed, width_supported, speed_supported, lid = document["columns"]
    told = [
        None if peer == _NONE else elsewhere[at] if peer == _ELSEWHERE else ends[peer]
        for at, peer in zip(having, peers, strict=True)
    ]
    facts = map(
        PortFacts._make,
        zip(
            told,
            [_STATES[at] for at in _numbers(state, len(_STATES))],
            [_PHYSICAL[at] for at in _numbers(physical, len(_PHYSICAL))],
            _numbers(width),
            [speeds[at] for at in _numbers(speed, len(speeds))],
            _numbers(width_supported),
            [speeds[at] for at in _numbers(speed_supported, len(speeds))],
            _numbers(lid),
            strict=True,
        ),
    )
    snapshot.facts = dict(zip([ports[at] for at in having], facts, strict=True))
    links = {ports[at]: ports[peer] for at, peer in zip(having, peers, strict=True) if peer >= 0}
    for at, peer in document["links"]:
        if peer == _NONE:
            del links[ports[_index(at, count)]]
        else:
            links[ports[_index(at, count)]] = ports[_index(peer, count)]
    snapshot.links = links


def _take_counters(document: Any, snapshot: Snapshot, ports: list[Port]) -> None:
    shapes = [_texts(names) for names in document["counter_names"]]
    rows: list[dict[str, int]] = []
    for shape, *values in document["counter_rows"]:
        rows.append(dict(zip(shapes[_index(shape, len(shapes))], _numbers(values), strict=True)))
    at_ports = _numbers(document["counter_ports"], len(ports))
    of = _numbers(document["counter_of"], len(rows))
    snapshot.counters = {ports[at]: rows[row] for at, row in zip(at_ports, of, strict=True)}


def _is(kind: type[T], value: Any) -> T:
    if type(value) is not kind:
        raise TypeError(kind.__name__)
    return value


def _float(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise TypeError("a number")
    return value


def _index(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value < most:
        raise ValueError("an index")
    return value


def _numbers(values: Any, most: int | None = None, least: int = 0) -> list[int]:
    """A list of whole numbers, of indices below `most` where that is given."""
    found: list[int] = _is(list, values)
    if not set(map(type, found)) <= {int}:
        raise TypeError("whole numbers")
    if most is not None and found and (min(found) < least or max(found) >= most):
        raise ValueError("an index")
    return found


def _texts(values: Any) -> list[str]:
    found: list[str] = _is(list, values)
    if not set(map(type, found)) <= {str}:
        raise TypeError("texts")
    return found


def _tuple(values: Any) -> tuple[float, ...]:
    return tuple(_float(value) for value in _is(list, values))


def _pair(values: Any) -> tuple[float, ...]:
    if len(_is(list, values)) != 2:
        raise ValueError("two numbers")
    return _tuple(values)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "str": lambda value: _is(str, value),
    "float | None": _float,
    "int | None": lambda value: _is(int, value),
    "tuple[float, float] | None": _pair,
    "tuple[float, ...]": _tuple,
}
"""By the annotations of `Module` and `Ber`."""


def _fields(kind: type[Module] | type[Ber], given: Any) -> dict[str, Any]:
    readers: Iterable[tuple[str, Any]] = ((field.name, field.type) for field in fields(kind))
    types = dict(readers)
    return {name: _READERS[types[name]](value) for name, value in _is(dict, given).items()}
