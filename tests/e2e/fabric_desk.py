"""A desk for the tests of `ostler fabric` from files: a folder, the command, and hands on a fabric that is broken there.

`Desk` runs the command itself; `shaped` holds its JSON to the promise; `hands` does what a plan says. The files are what
the tools print of a fabric that `fabric_wiring.py` builds.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ostler.adapters.fabric.fake import FakeFabric
from ostler.cli import main
from ostler.fabric.designs import own_csv
from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.model import CauseKind, Port
from tests.fabric_wiring import end_of, fabric_of, guids_of

DESIGN = fat_tree(8, 4, leaf_ports=16, width=4, speed="HDR")
"""8 hosts of 4 rails; leaf-r0-01 to leaf-r3-01 with hosts on ports 1 to 8, and 8 uplinks each to two spines."""
BARE = fat_tree(8, 4, leaf_ports=16)
"""The same without widths and speeds."""
GUIDS = guids_of(DESIGN)
MONITOR = GUIDS["gpu-0002", "mlx5_0"]


# ── running it ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Said(NamedTuple):
    """What a command answered."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def kinds(self) -> list[str]:
        return sorted(cause["kind"] for cause in self.document["causes"])


class Desk:
    """A folder with files, and the command over them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.folder, self._capsys, self._patch = folder, capsys, patch
        patch.chdir(folder)
        self.write("design.csv", own_csv.write(DESIGN))

    def write(self, name: str, data: str | bytes) -> str:
        (self.folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
        return name

    def run(self, *arguments: str, stdin: bytes = b"") -> Said:
        self._capsys.readouterr()
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status = main(["fabric", *arguments])
        said = self._capsys.readouterr()
        return Said(status, said.out, said.err)

    def check(self, *observed: str, json: bool = True, blueprint: str = "design.csv") -> Said:
        looks = [part for name in observed for part in ("-o", name)]
        return self.run("check", *(["-b", blueprint] if blueprint else []), *looks, *(["--json"] if json else []))

    def look(self, fabric: FakeFabric, name: str = "fabric.txt") -> str:
        return self.write(name, seen(fabric))


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, capsys, monkeypatch)


# ── a fabric, and hands on it ───────────────────────────────────────────────────────────────────────────────────────


def built() -> FakeFabric:
    return fabric_of(DESIGN)


def seen(fabric: FakeFabric, origin: int = MONITOR) -> str:
    """ibnetdiscover's text, from one host."""
    return fabric.text(fabric.seen_from(origin)[0], origin=origin)


def errors(fabric: FakeFabric, **counters: dict[str, int]) -> str:
    """ibqueryerrors' text; ports as `leaf_r0_01__3`."""
    fabric.counters = {at(name.replace("__", " ").replace("_", "-")): values for name, values in counters.items()}
    return fabric.errors_text(fabric.seen_from(MONITOR)[0])


def place(text: str) -> Port:
    chassis, _, name = text.partition(" ")
    return Port(chassis, name)


def at(text: str) -> tuple[int, int]:
    return end_of(DESIGN, GUIDS, place(text))


def cut(fabric: FakeFabric, *ports: str) -> None:
    for port in ports:
        assert fabric.unplug(at(port)) is not None, port


def rotate(fabric: FakeFabric, *ports: str) -> None:
    """Each port gets the plug of the next."""
    others = [fabric.unplug(at(port)) for port in ports]
    for port, other in zip(ports, [*others[1:], others[0]], strict=True):
        assert other is not None
        fabric.plug(at(port), other)


def move(fabric: FakeFabric, now: str, then: str) -> None:
    other = fabric.unplug(at(now))
    assert other is not None
    fabric.plug(at(then), other)


def off(fabric: FakeFabric, chassis: str) -> None:
    for (name, _), guid in GUIDS.items():
        if name == chassis:
            for port, _ in list(fabric.ends(guid)):
                fabric.unplug((guid, port))


def exchange(fabric: FakeFabric, one: str, two: str, ports: Sequence[str]) -> None:
    for port in ports:
        rotate(fabric, f"{one} {port}", f"{two} {port}")


def slow(fabric: FakeFabric) -> None:
    fabric.rates[at("leaf-r2-01 5")] = "1xHDR"


HCAS = ("mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3")


def hands(fabric: FakeFabric, document: dict[str, Any]) -> int:
    """Do what the causes say: pull, plug, put in what is missing. Answers how many plugs were moved."""
    moves = [one for cause in document["causes"] for one in cause["moves"]]
    for cause in document["causes"]:
        for a, b in cause["removes"]:
            assert fabric.unplug(at(a)) == at(b)
    for one in moves:
        assert fabric.unplug(at(one["from"])) == at(one["plug"]), one
    for one in moves:
        fabric.plug(at(one["plug"]), at(one["to"]))
    for cause in document["causes"]:
        for cable in cause["cables"] if cause["kind"] in ("cable-absent", "miscabled", "bundle-shifted") else ():
            if at(cable["a"]) not in fabric.peers and at(cable["b"]) not in fabric.peers:
                fabric.plug(at(cable["a"]), at(cable["b"]))
    return len(moves)


# ── its JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────────

VERDICTS = ["ok", "wrong", "absent", "degraded", "unknown"]
TOP = {"schema", "design", "coverage", "cables", "listed", "causes", "health", "clean", "observed"}
COVERAGE = {
    "source": str, "vantages": list, "complete": bool, "share": float, "chassis": int, "answered": int, "cables": int,
    "known": int, "silent": list, "problems": list,
}  # fmt: skip
CAUSE = {
    "kind": str, "key": str, "message": str, "do": str, "where": list, "moves": list, "removes": list, "ports": list,
    "cables": list, "confirmed": bool, "ticket": bool,
}  # fmt: skip
TROUBLE = {"kind", "port", "label", "peer", "severe", "message", "measured", "source"}


def shaped(found: dict[str, Any]) -> None:
    """`{coverage, cables: {ok, wrong, absent, degraded, unknown}, causes: [{kind, where, moves: [{plug, from, to}],
    ticket …}], health: […]}`: every field there, of its type, whatever was found."""
    assert set(found) - {"blueprint"} == TOP and found["schema"] == 1
    assert list(found["cables"]) == VERDICTS and all(type(count) is int for count in found["cables"].values())
    typed(found["coverage"], COVERAGE)
    for problem in found["coverage"]["problems"]:
        assert set(problem) == {"kind", "message", "line", "hides"}
    for cause in found["causes"]:
        typed(cause, CAUSE)
        assert cause["kind"] in set(CauseKind) and cause["key"] and cause["message"]
        for where in cause["where"]:
            assert set(where) == {"chassis", "place"}
        for one in cause["moves"]:
            assert set(one) == {"plug", "from", "to", "labels"} and set(one["labels"]) == {"plug", "from", "to"}
        for cable in cause["cables"]:
            assert set(cable) == {"a", "b", "serial"}
    assert len({cause["key"] for cause in found["causes"]}) == len(found["causes"]), "a key is one cause's"
    for trouble in found["health"]:
        assert set(trouble) == TROUBLE
    assert found["clean"] is (not found["causes"] and found["coverage"]["complete"])
    if found["design"] is not None:
        assert set(found["design"]) == {"name", "source", "proven"}
    assert set(found["observed"]) == {"source", "vantage", "taken_at", "chassis", "links", "unplaced"}


def typed(found: dict[str, Any], fields: dict[str, type]) -> None:
    assert {name: type(value) for name, value in found.items()} == fields
