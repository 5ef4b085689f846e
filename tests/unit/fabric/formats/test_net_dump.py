"""ibdiagnet2.net_dump and net_dump_ext."""

from __future__ import annotations

import pytest
from hypothesis import given

from ostler.core.errors import BadInput
from ostler.fabric.formats.net_dump import looks_like, read
from ostler.fabric.sweep import End, NodeKind, Physical, PortState, ProblemKind
from tests.unit.fabric.formats.hostile import spoiled
from tests.unit.fabric.formats.outputs import HCA, HCB, LEAF, NET_DUMP, NET_DUMP_EXT, bearable
from tests.unit.fabric.formats.written import sound

SPINE = 0xE41D2D0300000080


def test_switches_their_ports_and_who_is_there() -> None:
    sweep = read(NET_DUMP, "x")
    assert not sweep.problems and sweep.states and sweep.topology
    one, two, three = (sweep.ports[End(LEAF, number)] for number in (1, 2, 3))
    assert (one.peer, one.width, one.speed, one.state) == (End(HCA, 1), 4, "NDR", PortState.ACTIVE)
    assert (two.peer, two.width, two.speed) == (End(HCB, 1), 2, "HDR")
    assert (three.peer, three.state, three.physical) == (None, PortState.DOWN, Physical.POLLING)
    assert sweep.ports[End(LEAF, 4)].peer == End(SPINE, 9) and sweep.nodes[SPINE].answered
    sound(sweep)


def test_an_adapter_is_known_by_its_neighbour_only() -> None:
    sweep = read(NET_DUMP, "x")
    node = sweep.nodes[HCB]
    assert (node.kind, node.description, node.answered) == (NodeKind.HCA, "gpu: 0002 mlx5_0", False)
    assert sweep.ports[End(HCB, 1)].peer == End(LEAF, 2) and sweep.ports[End(HCB, 1)].lid == 3


def test_the_extended_table_brings_rates_and_no_topology() -> None:
    sweep = read(NET_DUMP_EXT, "x")
    rates = sweep.bers[End(LEAF, 1)]
    assert (rates.raw, rates.effective, rates.symbol) == (3e-6, 2e-13, 0.0)
    assert (rates.symbol_errors, rates.effective_errors) == (4, 5)
    assert not sweep.topology and sweep.ports[End(HCA, 1)].lid == 20 and End(HCA, 1) not in sweep.bers
    assert sweep.nodes[HCA].kind is NodeKind.HCA and sweep.nodes[HCA].description == "gpu-0001 mlx5_0"


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (b"ACT : LINK UP : 5   : 4x  : 100 : MLNX", b"ACT\n#", ProblemKind.TRUNCATED),
        (b"sw2p1   : 3 ", b"sw2p1   : 1 ", ProblemKind.CONTRADICTION),
        (b"0xe41d2d0300002000 : 1", b"0xe41d2d0300002000 : 1/1", ProblemKind.UNREADABLE),
        (b"0xe41d2d0300000080, LID 8", b"0xe41d2d0300000000, LID 8", ProblemKind.DUPLICATE_GUID),
    ],
)
def test_what_is_wrong_is_said_with_its_line(old: bytes, new: bytes, kind: ProblemKind) -> None:
    assert old in NET_DUMP
    assert any(problem.kind is kind and problem.line for problem in read(NET_DUMP.replace(old, new), "x").problems)


def test_something_else_is_refused_with_its_place() -> None:
    with pytest.raises(BadInput, match=r"^x:1: Not one row"):
        read(b'"leaf", Mellanox, 0x1, LID 1\n', "x")
    assert looks_like(NET_DUMP) and looks_like(NET_DUMP_EXT) and not looks_like(b"# : IB# : Sta\n")


@given(spoiled(NET_DUMP))
def test_hostile_files(data: bytes) -> None:
    sweep = bearable(read, data)
    if sweep is not None:
        sound(sweep)


@given(spoiled(NET_DUMP_EXT))
def test_hostile_extended_files(data: bytes) -> None:
    bearable(read, data)
