"""A recorded incident: JSON Lines, strictly read. The first line is the fleet, the others are events and expectations.

docs/replay.md describes every key. Whatever is wrong is one line: FILE:LINE: KEY: what and what instead. Called by
`replay.py` and, for the incidents that ship, by `cli/replay.py` and the tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

from ostler.core.errors import BadInput, NotFound

LIMIT_BYTES = 16 << 20
NODES_LIMIT = 20_000
_RANGE = re.compile(r"^([^\[\]]*)\[(\d{1,6})-(\d{1,6})\]([^\[\]]*)$")

FLEET_KEYS = {
    "incident": str, "about": str, "fleet": list, "pools": dict, "settings": dict, "brake": list, "boot_s": float,
    "order_s": float, "server_up_s": float, "end_s": float,
}  # fmt: skip
GROUP_KEYS = {
    "nodes": str, "sku": str, "driver": str, "rack": str, "domains": dict, "per": dict, "gpus": dict, "nics": dict,
    "disks": dict, "busy": bool, "job": str, "pool": str, "bmc": bool, "service": str,
}  # fmt: skip
EVENTS: Mapping[str, type | tuple[type, ...]] = {
    "kernel": (str, list),
    "signal": dict,
    "standing": list,
    "dead": bool,
    "boots": bool,
    "busy": bool,
    "silent": bool,
    "driver": str,
    "gpus": dict,
    "answers": str,
    "cures": list,
    "comes_back": bool,
    "bmc": str,
    "to": str,
    "slot": str,
    "clear": str,
    "pause": str,
    "resume": str,
    "grant": list,
    "expect": dict,
}
"""What one line may say, and of which type it is."""
BESIDE: Mapping[str, frozenset[str]] = {
    "standing": frozenset({"monitor", "source"}),
    "dead": frozenset({"monitor"}),
    "pause": frozenset({"reason"}),
    "clear": frozenset({"reason"}),
    "answers": frozenset({"verb"}),
}
"""Keys that belong to a kind of line, beside `at`, `node` and `note`."""
NODELESS = frozenset({"pause", "resume", "grant", "expect"})
SIGNAL_KEYS = frozenset({"kind", "code", "device", "component", "severity", "action", "message", "detail", "source"})
EXPECT_KEYS = frozenset(
    {"node", "state", "cordoned", "pending", "decision", "never", "incident", "finding", "no_finding", "power", "event",
     "ticket", "acted", "condition"}
)  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Equal nodes of the fleet."""

    names: tuple[str, ...]
    given: Mapping[str, Any]


@dataclass(frozen=True)
class Event:
    """One line: what happened `at` so many seconds, to which nodes. `kind` is a key of `EVENTS`."""

    line: int
    at: float
    kind: str
    nodes: tuple[str, ...]
    value: Any
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recording:
    """A whole file."""

    name: str
    title: str
    about: str
    groups: tuple[Group, ...]
    events: tuple[Event, ...]
    """In the order of their time; equal times in the order of the file."""
    expected: tuple[Event, ...]
    head: Mapping[str, Any]
    path: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for group in self.groups for name in group.names)


def shipped() -> list[str]:
    """Names of the incidents that come with Ostler."""
    folder = resources.files("ostler.proof") / "incidents"
    names = [one.name.removesuffix(".jsonl") for one in folder.iterdir() if one.name.endswith(".jsonl")]
    return sorted(names)


def find(name: str) -> Recording:
    """A recording by path, or by the name of one that ships. Raises `NotFound`, `BadInput`."""
    path = Path(name)
    if path.is_file() or "/" in name or name.endswith(".jsonl"):
        try:
            if path.stat().st_size > LIMIT_BYTES:
                raise BadInput(f"A recording has at most {LIMIT_BYTES >> 20} MiB.", where=name)
            return read(path.read_bytes(), str(path), path.name.removesuffix(".jsonl"))
        except OSError as error:
            raise NotFound(f"The recording cannot be read: {error.strerror}.", where=name) from None
    if name not in shipped():
        raise NotFound(f"No file and no shipped incident is called '{name[:80]}'; 'ostler replay --list' names them.")
    one = resources.files("ostler.proof") / "incidents" / f"{name}.jsonl"
    return read(one.read_bytes(), f"{name}.jsonl", name)


def read(raw: bytes, where: str, name: str) -> Recording:
    """Parse and check a recording. Raises `BadInput` with file, line and key."""
    lines = list(_lines(raw, where))
    if not lines:
        raise BadInput("The recording is empty; its first line is the fleet.", where=where)
    number, head = lines[0]
    reader = _Reader(where)
    groups = reader.head(number, head)
    events: list[Event] = []
    known = {one for group in groups for one in group.names}
    for number, line in lines[1:]:
        events.append(reader.event(number, line, known))
    expected = tuple(one for one in events if one.kind == "expect")
    happened = sorted((one for one in events if one.kind != "expect"), key=lambda one: one.at)
    title = str(head.get("incident", name))
    return Recording(name, title, str(head.get("about", "")), groups, tuple(happened), expected, head, where)


def _lines(raw: bytes, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(raw.split(b"\n"), 1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"This is no JSON: {error}.", where=f"{where}:{number}") from None
        if not isinstance(value, dict):
            raise BadInput("A JSON object is expected.", where=f"{where}:{number}")
        yield number, value


def expand(text: str) -> list[str]:
    """`gpu-[01-32]` as 32 names; a name without brackets as itself. Raises `ValueError`."""
    found = _RANGE.match(text)
    if found is None:
        if not text or "[" in text or "]" in text:
            raise ValueError("a name, or a range like gpu-[01-32]")
        return [text]
    first, last, width = int(found[2]), int(found[3]), len(found[2])
    if last < first or last - first >= NODES_LIMIT:
        raise ValueError(f"a range from low to high, of at most {NODES_LIMIT} nodes")
    return [f"{found[1]}{n:0{width}d}{found[4]}" for n in range(first, last + 1)]


class _Reader:
    def __init__(self, where: str) -> None:
        self._where = where

    def head(self, line: int, head: Mapping[str, Any]) -> tuple[Group, ...]:
        self._typed(line, head, FLEET_KEYS, "the first line")
        if not head.get("fleet"):
            self._refuse(line, "fleet", "the nodes are missing: a list of groups")
        groups, seen = [], set[str]()
        for given in head["fleet"]:
            if not isinstance(given, dict):
                self._refuse(line, "fleet", "a list of objects is expected")
            self._typed(line, given, GROUP_KEYS, "a group of nodes", "fleet.")
            names = self._names(line, given.get("nodes", ""), "fleet.nodes")
            if twice := seen & set(names):
                self._refuse(line, "fleet.nodes", f"'{min(twice)}' is there twice")
            seen |= set(names)
            groups.append(Group(tuple(names), given))
        if len(seen) > NODES_LIMIT:
            self._refuse(line, "fleet", f"at most {NODES_LIMIT} nodes")
        return tuple(groups)

    def event(self, line: int, given: Mapping[str, Any], known: set[str]) -> Event:
        kinds = [key for key in given if key in EVENTS]
        if len(kinds) > 1 and "expect" not in kinds:
            self._refuse(line, kinds[1], f"one thing per line, and this says '{kinds[0]}' already")
        if not kinds:
            self._refuse(line, next(iter(given), "line"), f"nothing known happens here; known are {', '.join(EVENTS)}")
        kind = kinds[0]
        value: Any = given[kind]
        right = isinstance(value, EVENTS[kind])
        if not right:
            self._refuse(line, kind, f"{_word(EVENTS[kind])} is expected, not {_word(type(value))}")
        allowed = {"at", "node", "note", kind} | BESIDE.get(kind, frozenset())
        for key in given:
            if key not in allowed:
                self._refuse(line, key, f"unknown key beside '{kind}'; known are {', '.join(sorted(allowed))}")
        at = given.get("at", float("inf") if kind == "expect" else 0.0)
        if isinstance(at, bool) or not isinstance(at, int | float) or not at >= 0:
            self._refuse(line, "at", "seconds from the beginning are expected, 0 or more")
        nodes: list[str] = []
        if kind == "expect":
            self._expectation(line, value, known)
        elif kind not in NODELESS or "node" in given:
            nodes = self._known(line, given.get("node", ""), known)
        if kind == "signal":
            self._signal(line, value)
        if kind == "standing":
            self._standing(line, given)
        return Event(line, float(at), kind, tuple(nodes), value, {key: given[key] for key in given if key != kind})

    def _expectation(self, line: int, value: Mapping[str, Any], known: set[str]) -> None:
        for key in value:
            if key not in EXPECT_KEYS:
                self._refuse(line, f"expect.{key}", f"unknown; known are {', '.join(sorted(EXPECT_KEYS))}")
        if "node" in value and value["node"] != "*":
            self._known(line, value["node"], known)
        if not set(value) - {"node"}:
            self._refuse(line, "expect", "nothing is expected here")

    def _signal(self, line: int, value: Mapping[str, Any]) -> None:
        for key in value:
            if key not in SIGNAL_KEYS:
                self._refuse(line, f"signal.{key}", f"unknown; known are {', '.join(sorted(SIGNAL_KEYS))}")
        for key in ("kind", "severity", "action"):
            if not isinstance(value.get(key), str):
                self._refuse(line, f"signal.{key}", "text is expected")

    def _standing(self, line: int, given: Mapping[str, Any]) -> None:
        from ostler.faults.monitored import MONITORED

        if ("monitor" in given) == ("source" in given):
            self._refuse(line, "standing", "name a monitor of the node, or a source of the server's, and not both")
        for one in given["standing"]:
            name = one.partition("@")[0] if isinstance(one, str) else one.get("fault") if isinstance(one, dict) else ""
            if name not in MONITORED:
                self._refuse(line, "standing", f"'{str(name)[:60]}' is no fault of monitors (faults/monitored.py)")

    def _typed(self, line: int, given: Mapping[str, Any], known: Mapping[str, type], what: str, path: str = "") -> None:
        for key, value in given.items():
            if key not in known:
                self._refuse(line, f"{path}{key}", f"unknown in {what}; known are {', '.join(known)}")
            number = known[key] is float and isinstance(value, int) and not isinstance(value, bool)
            if not number and not isinstance(value, known[key]):
                self._refuse(line, f"{path}{key}", f"{_word(known[key])} is expected, not {_word(type(value))}")

    def _names(self, line: int, text: Any, key: str) -> list[str]:
        try:
            return expand(text if isinstance(text, str) else "")
        except ValueError as error:
            self._refuse(line, key, f"{error} is expected")

    def _known(self, line: int, given: Any, known: set[str]) -> list[str]:
        texts: Sequence[Any] = given if isinstance(given, list) else [given]
        names = [name for text in texts for name in self._names(line, text, "node")]
        for name in names:
            if name not in known:
                self._refuse(line, "node", f"'{name[:60]}' is no node of the fleet in the first line")
        return names

    def _refuse(self, line: int, key: str, why: str) -> NoReturn:
        raise BadInput(f"{why}.", where=f"{self._where}:{line}: {key}")


def _word(kind: Any) -> str:
    words = {str: "text", list: "a list", dict: "an object", float: "a number", int: "a number", bool: "true or false"}
    if isinstance(kind, tuple):
        return " or ".join(_word(one) for one in kind)
    return words.get(kind, "nothing" if kind is type(None) else kind.__name__)
