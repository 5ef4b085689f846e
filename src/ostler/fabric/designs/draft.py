"""A blueprint while its file is being read: rows go in as they stand, a checked `Blueprint` comes out.

Every reader of this room fills one `Draft` and returns `finish()`. What a port is called by contract depends on what
kind of box it is in and which model that is, and files say that anywhere, so names are settled at the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple

from ostler.core.errors import BadInput
from ostler.fabric.designs import port_names
from ostler.fabric.designs.lint import lint
from ostler.fabric.designs.lint_book import LintBook
from ostler.fabric.designs.speeds import speed_of
from ostler.fabric.designs.table import metres
from ostler.fabric.model import Blueprint, ChassisKind, DesignedCable, DesignedChassis, Lint, Place, Port, Role

NAME_MOST = 128
CABLES_MOST = 500_000
"""Ten times the largest subnet there can be."""
_SWITCH_NAME = re.compile(
    r"(?:leaf|spine|core|switch|director|tor|(?:^|[-_.])(?:i?sw|ibsw|l\d+s?|s\d+)(?=[-_.\d]|$)|m?qm\d{4})",
    re.IGNORECASE,
)
_HOST_NAME = re.compile(
    r"(?:gpu|node|host|dgx|hgx|srv|server|compute|storage|login|head|(?:^|[-_.])(?:cn|gn|n)\d)", re.IGNORECASE
)


class Row(NamedTuple):
    """One cable as its file has it."""

    a: str
    a_port: str
    b: str
    b_port: str
    line: int = 0
    role: str = ""
    rail: str = ""
    serial: str = ""
    length: str = ""
    speed: str = ""
    width: str = ""


class Draft:
    """Collects what a file says. `both_ways`: the format lists a cable at both of its ends."""

    def __init__(self, file: str, source: str, *, both_ways: bool = False, switch_model: str = "") -> None:
        self.file, self.source = file, source
        self.name = PurePath(file).stem or "fabric"
        self.proven = True
        self.book = LintBook()
        self.rows: list[Row] = []
        self._both_ways = both_ways
        self._switch_model = switch_model
        self._declared: dict[str, int] = {}
        self._kinds: dict[str, ChassisKind] = {}
        self._models: dict[str, str] = {}
        self._places: dict[str, Place] = {}
        self._guids: dict[int, tuple[str, str]] = {}
        self._order: dict[str, None] = {}
        self._good: set[str] = set()
        self.table = False
        """Whether the file lists its chassis: then a cable's end that is not listed is a slip."""

    # ── what readers put in ───────────────────────────────────────────────────────────────────────────────────────

    def chassis(
        self, name: str, *, kind: ChassisKind | None = None, model: str = "", place: Place | None = None, line: int = 0
    ) -> bool:
        """A box. What was said of it before stays where this says nothing. False: the name is no name."""
        if not self._named(name, line):
            return False
        self._order.setdefault(name)
        if kind is not None:
            self._kinds.setdefault(name, kind)
        if model:
            self._models.setdefault(name, model[:NAME_MOST])
        if place is not None and str(place):
            known = self._places.setdefault(name, place)
            if known != place:
                self._merge_place(name, known, place, line)
        return True

    def declare(self, name: str, line: int) -> None:
        """A row of the table of chassis: a second one of the same name is said."""
        self.table = True
        if name in self._declared:
            self.book.add("chassis-twice", f"chassis {name} is listed again; line {self._declared[name]} had it", line)
        self._declared.setdefault(name, line)

    def cable(self, row: Row) -> None:
        """A cable, cells stripped. A row without two ends, or with names that are none, is left out and said."""
        if not (row.a and row.a_port and row.b and row.b_port):
            missing = [word for word, cell in zip(("a", "a's port", "b", "b's port"), row, strict=False) if not cell]
            self.book.add("half-cable", f"{' and '.join(missing)} is missing; the row was left out", row.line)
            return
        for name in row[:4]:
            if name not in self._good and not self._named(name, row.line):
                return
        if len(self.rows) >= CABLES_MOST:
            raise BadInput(f"has more than {CABLES_MOST} cables; split it by subnet", where=f"{self.file}:{row.line}")
        self.rows.append(row)

    def guid(self, text: str, chassis: str, port: str, line: int) -> None:
        """A node GUID and the place where it belongs."""
        try:
            value = int(text[:40], 16)
        except ValueError:
            value = 0
        if not 0 < value < 1 << 64:
            self.book.add("bad-value", f"{text[:40]!r} is no GUID; left out", line)
        elif value in self._guids:
            self.book.add("guid-twice", f"GUID {text[:40]} is listed again; the first place stays", line)
        elif self._named(chassis, line):
            self._guids[value] = (chassis, port)

    # ── what comes out ────────────────────────────────────────────────────────────────────────────────────────────

    def finish(self) -> tuple[Blueprint, list[Lint]]:
        """The blueprint and everything that is doubtful about it, errors first; BadInput where it has no cable."""
        if not self.rows:
            more = f" ({first.message})" if (first := self.book.first()) else ""
            raise BadInput(f"names no cable{more}; see docs/blueprints.md for the forms", where=self.file)
        for row in self.rows:
            self._order.setdefault(row.a)
            self._order.setdefault(row.b)
        self._settle_kinds()
        chassis = {
            name: DesignedChassis(name, self._kinds[name], self._model(name), self._places.get(name, Place()))
            for name in self._order
        }
        if self.table:
            for row in self.rows:
                for name in (row.a, row.b):
                    if name not in self._declared:
                        self._declared[name] = row.line
                        self.book.add("unknown-chassis", f"{name} is not in the table of chassis; a slip?", row.line)
        guids = {guid: self._guid_place(name, port) for guid, (name, port) in self._guids.items()}
        blueprint = Blueprint(self.name, self.source, chassis, tuple(self._cables()), self.proven, guids)
        return blueprint, sorted(self.book.all() + lint(blueprint), key=lambda item: not item.error)

    def _cables(self) -> list[DesignedCable]:
        used: dict[Port, int] = {}
        speeds: dict[tuple[str, str], tuple[str, int]] = {("", ""): ("", 0)}
        is_host = {name: kind is ChassisKind.HOST for name, kind in self._kinds.items()}
        models = {name: self._model(name) for name in self._order}
        cables: list[DesignedCable] = []
        for a, a_port, b, b_port, line, role, rail, serial, length, speed, width in self.rows:
            one, two = self._port(a, a_port, models[a], line), self._port(b, b_port, models[b], line)
            if one is None or two is None:
                continue
            if one == two:
                self.book.add("self-cable", f"{one} is cabled to itself; left out", line, error=True)
                continue
            if two < one:
                one, two = two, one
            if one in used or two in used:
                self._again(one, two, used, cables, line)
                continue
            used[one] = used[two] = len(cables)
            if (speed, width) not in speeds:
                speeds[speed, width] = self._speed(speed, width, line)
            run, lanes = speeds[speed, width]
            what = _ROLES.get(role) or (Role.HOST if is_host[a] or is_host[b] else Role.TRUNK)
            metres_long = self._length(length, line) if length else 0.0
            cables.append(DesignedCable(one, two, what, rail[:16], serial[:NAME_MOST], metres_long, lanes, run, line))
        return cables

    def _again(self, a: Port, b: Port, used: Mapping[Port, int], cables: Sequence[DesignedCable], line: int) -> None:
        """A port that is in a cable already: the same cable again, or another one."""
        before = cables[used[a] if a in used else used[b]]
        if (before.a, before.b) == (a, b):
            if not self._both_ways:
                self.book.add("cable-twice", f"{a} - {b} is listed again; line {before.line} had it", line)
            return
        for port, other in ((a, b), (b, a)):
            if port in used:
                was = cables[used[port]]
                far = was.b if was.a == port else was.a
                at = f" by line {was.line} and to {other} by line {line}" if line else f" and to {other}"
                self.book.add("port-twice", f"{port} is cabled to {far}{at}; the first stays", line, error=True)

    def _port(self, chassis: str, raw: str, model: str, line: int) -> Port | None:
        try:
            return Port(chassis, port_names.port_of(self._kinds[chassis], raw, model))
        except BadInput as error:
            self.book.add("port-label", f"{chassis}: port {raw[:40]!r}: {error.message}", line, error=True)
            return None

    def _guid_place(self, chassis: str, port: str) -> Port:
        if not port or self._kinds.get(chassis) is not ChassisKind.HOST:
            return Port(chassis, port)
        return Port(chassis, port_names.host_port(port))

    def _model(self, name: str) -> str:
        model = self._models.get(name, "")
        return model or (self._switch_model if self._kinds.get(name) is ChassisKind.SWITCH else "")

    def _speed(self, speed: str, width: str, line: int) -> tuple[str, int]:
        run, lanes = "", 0
        if speed:
            found = speed_of(speed)
            if found is None:
                self.book.add("bad-value", f"speed {speed[:40]!r} is not understood; it is not checked", line)
            else:
                run, lanes = found
        if width:
            bare = width.lower().strip("x ")
            if bare.isdecimal() and int(bare[:4]) in {1, 2, 4, 8, 12}:
                lanes = int(bare[:4])
            else:
                self.book.add("bad-value", f"width {width[:40]!r} is not understood; it is not checked", line)
        return run, lanes

    def _length(self, length: str, line: int) -> float:
        found = metres(length)
        if found is None:
            self.book.add("bad-value", f"length {length[:40]!r} is not understood; left out", line)
        return found or 0.0

    def _settle_kinds(self) -> None:
        """Kinds of boxes that the file does not say, from models, names of ports, names, and neighbours."""
        raws: dict[str, set[str]] = {name: set() for name in self._order}
        near: dict[str, set[str]] = {name: set() for name in self._order if name not in self._kinds}
        for row in self.rows:
            for name, port, other in ((row.a, row.a_port, row.b), (row.b, row.b_port, row.a)):
                if name in near:
                    raws[name].add(port)
                    near[name].add(other)
        open_ones: list[str] = []
        for name in near:
            kind = self._kind_of(name, raws[name])
            if kind is None:
                open_ones.append(name)
            else:
                self._kinds[name] = kind
        guesses: dict[str, ChassisKind] = {}
        for name in open_ones:
            all_switches = all(self._kinds.get(other) is ChassisKind.SWITCH for other in near[name])
            guesses[name] = ChassisKind.HOST if all_switches and len(raws[name]) <= 8 else ChassisKind.SWITCH
            self.book.add("kind-guessed", f"{name} is taken for a {guesses[name]}: nothing says what it is")
        self._kinds.update(guesses)

    def _kind_of(self, name: str, raws: set[str]) -> ChassisKind | None:
        model = self._models.get(name, "")
        if model and port_names.is_switch(model):
            return ChassisKind.SWITCH
        if any(port_names.looks_like_hca(raw) for raw in raws):
            return ChassisKind.HOST
        if named_as_switch(name):
            return ChassisKind.SWITCH
        if any(port_names.looks_like_switch(raw) for raw in raws):
            return ChassisKind.SWITCH
        return ChassisKind.HOST if _HOST_NAME.search(name) else None

    def _merge_place(self, name: str, known: Place, place: Place, line: int) -> None:
        """Fill in what was not known; contradictions are said once and the first stays."""
        parts = []
        for one, two in zip(_parts(known), _parts(place), strict=True):
            if one and two and one != two:
                self.book.add("place-twice", f"{name} is said to be at {known} and at {place}; the first stays", line)
            parts.append(one or two)
        self._places[name] = Place(*parts)

    def _named(self, name: str, line: int) -> bool:
        if name and name.isprintable() and len(name) <= NAME_MOST and name[0] != "#":
            self._good.add(name)
            return True
        self.book.add("bad-name", f"{name[:40]!r} is no name of a chassis or port; left out", line, error=True)
        return False


_ROLES = {"host": Role.HOST, "Host": Role.HOST, "trunk": Role.TRUNK, "Trunk": Role.TRUNK}


def named_as_switch(name: str) -> bool:
    """Whether a chassis is called what switches are called: leaf, spine, sw, …"""
    return _SWITCH_NAME.search(name) is not None


def _parts(place: Place) -> tuple[str, str, str, str]:
    return place.site, place.row, place.rack, place.unit
