"""`ostler fabric check` from files, with no server: what it says of every fault, with a design and without, and its JSON.

Three promises stand over all of it: 0 clean, 1 discrepancies, 2 bad input; nothing is said about what was not seen; and
what a plan says to do makes the fabric clean. Forms and counters: test_fabric_offline_files.py, bad input:
test_fabric_offline_input.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from ostler.adapters.fabric.fake import FakeFabric
from ostler.fabric.designs.fat_tree import fat_tree
from tests.e2e.fabric_desk import (
    DESIGN,
    GUIDS,
    HCAS,
    MONITOR,
    Desk,
    built,
    cut,
    exchange,
    hands,
    move,
    off,
    place,
    rotate,
    seen,
    shaped,
    slow,
)  # fmt: skip
from tests.fabric_wiring import end_of, fabric_of, guids_of

REAL = Path(__file__).parents[2].parent / "shared/real/fabric"
PEERS = fat_tree(16, 8, leaf_ports=32)
"""Enough alike that without a design an odd one stands out: 16 hosts of 8 rails."""


# ── with a design ───────────────────────────────────────────────────────────────────────────────────────────────────


class Fault(NamedTuple):
    """What is done to the fabric, and what has to come of it."""

    does: Callable[[FakeFabric], object]
    kinds: list[str]
    """Of the causes: one for each thing that is wrong."""
    moves: int
    words: tuple[str, ...]
    """What a technician must be told: which plug, and what stands on its front panel."""
    counts: dict[str, int]
    tickets: int = 1
    mended: bool = True
    """Whether plugs are all it takes."""


def shift(fabric: FakeFabric) -> None:
    """Five plugs of a leaf one port beside; the cable that was there is out."""
    cut(fabric, "leaf-r0-01 8")
    for number in range(7, 2, -1):
        move(fabric, f"leaf-r0-01 {number}", f"leaf-r0-01 {number + 1}")


def taken(fabric: FakeFabric) -> None:
    """One cable is out, and another's plug sits in its port."""
    cut(fabric, "leaf-r0-01 9")
    move(fabric, "leaf-r0-01 3", "leaf-r0-01 9")


def twice(fabric: FakeFabric) -> None:
    cut(fabric, "gpu-0001 mlx5_0")
    rotate(fabric, "gpu-0005 mlx5_1", "gpu-0005 mlx5_2")


def reordered(fabric: FakeFabric) -> None:
    """On every host the first three in another order."""
    for number in range(1, 9):
        rotate(fabric, *(f"gpu-{number:04} {name}" for name in HCAS[:3]))


FAULTS = {
    "cut": Fault(
        lambda f: cut(f, "gpu-0005 mlx5_3"), ["cable-absent"], 0,
        ("gpu-0005 mlx5_3", "leaf-r3-01 5 (3/1)"), {"absent": 1},
    ),
    "trunk cut": Fault(
        lambda f: cut(f, "leaf-r1-01 9"), ["cable-absent"], 0, ("leaf-r1-01 9 (5/1)", "spine-01"), {"absent": 1},
    ),
    "two plugs of a rail": Fault(
        lambda f: rotate(f, "gpu-0005 mlx5_3", "gpu-0007 mlx5_3"), ["miscabled"], 2,
        ("Exchange the plugs in leaf-r3-01 5 (3/1) and leaf-r3-01 7 (4/1).",), {"wrong": 2},
    ),
    "two rails of a host": Fault(
        lambda f: rotate(f, "gpu-0005 mlx5_1", "gpu-0005 mlx5_2"), ["miscabled"], 2,
        ("Exchange the plugs in gpu-0005 mlx5_1 and gpu-0005 mlx5_2.",), {"wrong": 2},
    ),
    "three rotated": Fault(
        lambda f: rotate(f, "gpu-0005 mlx5_3", "gpu-0006 mlx5_2", "gpu-0007 mlx5_1"), ["miscabled"], 3,
        ("3 cables are in the wrong place",), {"wrong": 3},
    ),
    "four rotated, trunks among them": Fault(
        lambda f: rotate(f, "leaf-r0-01 9", "leaf-r0-01 13", "leaf-r1-01 14", "gpu-0006 mlx5_2"), ["miscabled"], 4,
        ("4 cables are in the wrong place",), {"wrong": 4},
    ),
    "a plug in another's port": Fault(
        taken, ["miscabled"], 1,
        ("Move the plug in leaf-r0-01 9 (5/1) to leaf-r0-01 3 (2/1)", "missing between leaf-r0-01 9 (5/1)"),
        {"wrong": 2},
    ),
    "a bundle one port beside": Fault(
        shift, ["bundle-shifted"], 5, ("5 plugs in a row on leaf-r0-01", "one port down"), {"wrong": 6},
    ),
    "two hosts exchanged": Fault(
        lambda f: exchange(f, "gpu-0003", "gpu-0006", HCAS), ["chassis-exchanged"], 8,
        ("Exchange gpu-0003 (", " and gpu-0006 (", "or their names", "Or, if both shall stay where they are, move these plugs:"), {"wrong": 8},
    ),
    "two things at once": Fault(
        twice,
        ["cable-absent", "miscabled"], 2, ("gpu-0001 mlx5_0",), {"wrong": 2, "absent": 1}, tickets=2,
    ),
    "HCAs in another order on all hosts": Fault(
        reordered, ["hca-order"], 0,
        ("8 hosts", "The map of HCA names is wrong, not the cables.", "move no plug"), {"wrong": 24}, tickets=0,
        mended=False,
    ),
    "a host off": Fault(
        lambda f: off(f, "gpu-0007"), ["node-down"], 0, ("No HCA of gpu-0007 answers",), {"absent": 4}, tickets=0,
        mended=False,
    ),
    "a spine off": Fault(
        lambda f: off(f, "spine-02"), ["switch-down"], 0, ("spine-02 does not answer", "Not confirmed."),
        {"absent": 16}, tickets=0, mended=False,
    ),
    "a lane lost": Fault(
        slow, ["degraded"], 0, ("gpu-0005 mlx5_2 to leaf-r2-01 5 (3/1) runs at 1x HDR, not at 4x HDR",),
        {"degraded": 1}, mended=False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_cause_and_doing_what_is_said_mends_it(desk: Desk, name: str) -> None:
    fault, fabric = FAULTS[name], built()
    fault.does(fabric)
    desk.look(fabric)
    found = desk.check("fabric.txt")
    assert (found.status, found.kinds) == (1, fault.kinds), found.out
    document = found.document
    shaped(document)
    counts = {verdict: count for verdict, count in document["cables"].items() if verdict != "ok" and count}
    assert counts == fault.counts and sum(document["cables"].values()) == len(DESIGN.cables)
    assert sum(cause["ticket"] for cause in document["causes"]) == fault.tickets
    told = desk.check("fabric.txt", json=False)
    assert told.status == 1 and not told.err
    for words in fault.words:
        assert words in told.out
    assert hands(fabric, document) == fault.moves, "no more plugs than there are wrong cables"
    if fault.mended:
        after = desk.check(desk.look(fabric, "after.txt"))
        assert (after.status, after.kinds) == (0, []), after.out


def test_a_clean_fabric_is_one_line(desk: Desk) -> None:
    told = desk.check(desk.look(built()), json=False)
    assert told == (
        0,
        f"{len(DESIGN.cables)} designed cables: {len(DESIGN.cables)} ok, 0 wrong, 0 absent, 0 degraded, 0 unknown. "
        "14 of 14 chassis answered, 100.0% of the cables are known.\n",
        "",
    )


def test_every_move_is_told_with_what_stands_on_the_panel(desk: Desk) -> None:
    fabric = built()
    rotate(fabric, "gpu-0005 mlx5_3", "gpu-0007 mlx5_3")
    (cause,) = desk.check(desk.look(fabric)).document["causes"]
    assert {(one["plug"], one["from"], one["to"]) for one in cause["moves"]} == {
        ("gpu-0005 mlx5_3", "leaf-r3-01 7", "leaf-r3-01 5"),
        ("gpu-0007 mlx5_3", "leaf-r3-01 5", "leaf-r3-01 7"),
    }
    assert {(one["labels"]["from"], one["labels"]["to"]) for one in cause["moves"]} == {("4/1", "3/1"), ("3/1", "4/1")}
    (where,) = cause["where"]
    assert where["chassis"] == "leaf-r3-01" and where["place"]


def test_a_second_look_confirms_that_a_switch_is_down(desk: Desk) -> None:
    fabric = built()
    off(fabric, "spine-02")
    desk.look(fabric)
    desk.write("other.txt", seen(fabric, GUIDS["gpu-0005", "mlx5_1"]))
    alone, both = desk.check("fabric.txt"), desk.check("fabric.txt", "other.txt")
    assert [found.document["causes"][0]["confirmed"] for found in (alone, both)] == [False, True]
    assert [found.document["causes"][0]["ticket"] for found in (alone, both)] == [False, True]
    assert alone.document["causes"][0]["key"] == both.document["causes"][0]["key"]
    listed = desk.write("opensm-subnet.lst", fabric.subnet_list(fabric.seen_from(MONITOR)[0]))
    assert desk.check("fabric.txt", listed).document["causes"][0]["confirmed"] is True


def test_what_was_not_seen_is_unknown_and_nobodys_fault(desk: Desk) -> None:
    """A file that ends in the middle, a monitor that is cut off: no cause, and not clean."""
    whole = seen(built())
    cut_off = desk.check(desk.write("cut.txt", whole[: whole.index("\nvendid", len(whole) // 8) + 1]))
    assert (cut_off.status, cut_off.kinds) == (1, [])
    coverage = cut_off.document["coverage"]
    assert not coverage["complete"] and cut_off.document["cables"]["unknown"] > 0 and 0 < coverage["share"] < 1
    assert coverage["problems"][0]["kind"] == "truncated" and coverage["problems"][0]["hides"]
    blind = built()
    cut(blind, "gpu-0002 mlx5_0")
    alone = desk.check(desk.look(blind))
    assert (alone.status, alone.kinds) == (1, [])
    assert alone.document["cables"]["unknown"] == len(DESIGN.cables)
    assert "monitor-down" in desk.check("fabric.txt", json=False).out


def test_a_guid_that_is_there_twice_condemns_no_cable(desk: Desk) -> None:
    one, other = GUIDS["gpu-0003", "mlx5_2"], GUIDS["gpu-0004", "mlx5_2"]
    text = seen(built()).replace(f"{one:016x}", f"{other:016x}").replace(f"{one + 1:x}", f"{other + 1:x}")
    found = desk.check(desk.write("twice.txt", text.replace(f"{one:x}", f"{other:x}")))
    assert found.status == 1
    assert not [cause for cause in found.document["causes"] if cause["ticket"]], found.out
    assert found.document["cables"]["wrong"] == found.document["cables"]["absent"] == 0


def test_a_replaced_hca_is_no_cabling_fault(desk: Desk) -> None:
    text = seen(built())
    before = desk.write("before.txt", text)
    guid = GUIDS["gpu-0007", "mlx5_0"]
    new = text.replace(f"{guid:016x}", "0c42a1030000beef").replace(f"{guid:x}", "c42a1030000beef")
    after = desk.write("after.txt", new.replace(f"{guid + 1:x}", "c42a1030000bef0"))
    assert desk.check(after).status == 0
    changed = desk.run("diff", before, after, "--json")
    assert (changed.status, [row["kind"] for row in changed.rows]) == (1, ["part-replaced"])


def test_a_node_without_a_name_is_said_and_not_guessed(desk: Desk) -> None:
    text = seen(built()).replace('"gpu-0007 mlx5_0"', '"MT4129 ConnectX7   Mellanox Technologies"')
    desk.write("fabric.txt", text)
    found = desk.check("fabric.txt")
    assert found.status == 1 and found.document["cables"]["unknown"] == 1
    assert not [cause for cause in found.document["causes"] if cause["ticket"]]
    told = desk.check("fabric.txt", json=False).out
    assert "? not known where it stands: hca" in told and "by its cable it should be gpu-0007 mlx5_0" in told


# ── without a design ────────────────────────────────────────────────────────────────────────────────────────────────

ALONE: dict[str, tuple[tuple[str, ...], list[str], str]] = {
    "clean": ((), [], ""),
    "two plugs of a rail": (
        ("gpu-0005 mlx5_3", "gpu-0007 mlx5_3"),
        ["port-differs"],
        "Exchange the plugs in leaf-r3-01 5 (3/1) and leaf-r3-01 7 (4/1).",
    ),
    "two rails of a host": (
        ("gpu-0005 mlx5_1", "gpu-0005 mlx5_2"),
        ["rail-crossed"],
        "Exchange the plugs in gpu-0005 mlx5_1 and gpu-0005 mlx5_2",
    ),
    "a trunk cut": (("leaf-r1-01 17",), ["trunk-uneven"], "leaf-r1-01 has 3 of 4 cables to spine-01"),
}


@pytest.mark.parametrize("name", ALONE)
def test_without_a_design_the_fabric_is_checked_against_itself(desk: Desk, name: str) -> None:
    ports, kinds, words = ALONE[name]
    fabric, guids = fabric_of(PEERS), guids_of(PEERS)
    ends = [end_of(PEERS, guids, place(port)) for port in ports]
    others = [fabric.unplug(end) for end in ends]
    for end, other in zip(ends, reversed(others), strict=True) if len(ends) > 1 else ():
        assert other is not None
        fabric.plug(end, other)
    desk.write("fabric.txt", seen(fabric, guids["gpu-0002", "mlx5_0"]))
    found = desk.check("fabric.txt", blueprint="")
    assert (found.status, found.kinds) == (int(bool(kinds)), kinds)
    shaped(found.document)
    assert found.document["design"] is None and set(found.document["cables"].values()) == {0}
    told = desk.check("fabric.txt", blueprint="", json=False)
    assert told.out.endswith("No design was given: only what the fabric says against itself was checked.\n")
    assert words in told.out


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("fdr10-144-hosts.ibnetdiscover", 1),
        ("newest-f-form.ibnetdiscover", 1),
        ("cs7500-dual-rail.ibnetdiscover.gz", 1),
        ("selene-storage.ibnetdiscover.gz", 1),
        ("selene-compute.ibnetdiscover.gz", 1),
    ],
)
def test_recorded_fabrics(desk: Desk, name: str, status: int) -> None:
    """Real dumps: read, nothing thrown, never more oddities than can be looked at, and the same as a diff says."""
    if not (REAL / name).exists():
        pytest.skip(f"the recorded fabric {name} is not beside this repository")
    found = desk.check(str(REAL / name), blueprint="")
    assert found.status == status and not found.err
    shaped(found.document)
    assert len(found.document["causes"]) <= 30
    assert all(cause["kind"] == "trunk-uneven" for cause in found.document["causes"])
    same = desk.run("diff", str(REAL / name), str(REAL / name))
    assert "changed" in same.out and len(same.out.splitlines()) <= 4


# ── the document ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_document_is_the_same_each_time(desk: Desk) -> None:
    """Also under another hash seed, and however the file orders its nodes: programs compare it."""
    fabric = built()
    cut(fabric, "gpu-0005 mlx5_3", "leaf-r1-01 9")
    rotate(fabric, "gpu-0003 mlx5_0", "gpu-0004 mlx5_1", "gpu-0006 mlx5_2")
    text = seen(fabric)
    head, *blocks = text.rstrip("\n").split("\n\n")
    desk.write("one.txt", text)
    desk.write("two.txt", "\n\n".join([head, *reversed(blocks)]) + "\n")
    one, two = desk.check("one.txt").document, desk.check("two.txt").document
    assert one["causes"] == two["causes"] and one["cables"] == two["cables"]
    outputs = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "ostler.cli", "fabric", "check", "-b", "design.csv", "-o", "one.txt", "--json"]
        done = subprocess.run(
            run_as_module(command), cwd=desk.folder, env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        outputs.add(done.stdout)
    assert len(outputs) == 1


def run_as_module(command: list[str]) -> list[str]:
    """The command in a process of its own, by the interpreter of the tests."""
    return [command[0], "-c", "import sys; from ostler.cli import main; sys.exit(main(sys.argv[1:]))", *command[3:]]


# ── light ───────────────────────────────────────────────────────────────────────────────────────────────────────────

LIGHT = """
import sys
import ostler.cli.fabric
from ostler.cli import main
status = main(sys.argv[1:])
heavy = {"sqlalchemy", "fastapi", "starlette", "numpy", "uvicorn", "httpx", "structlog", "ssl"} & set(sys.modules)
sys.exit(f"loads {sorted(heavy)}" if heavy else status)
"""


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_check_loads_neither_database_nor_web_server(desk: Desk, more: tuple[str, ...]) -> None:
    desk.look(built())
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, "fabric", "check", "-b", "design.csv", "-o", "fabric.txt", *more],
        cwd=desk.folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
