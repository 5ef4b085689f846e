"""perfquery: blocks, what names their node, and what is no block of a port."""

from __future__ import annotations

import pytest
from hypothesis import given

from ostler.core.errors import BadInput
from ostler.fabric.formats.bind import bind
from ostler.fabric.formats.perfquery import looks_like, read
from ostler.fabric.sweep import End, Node, NodeKind, PortFacts, Sweep
from tests.unit.fabric.formats.hostile import spoiled
from tests.unit.fabric.formats.outputs import EXTENDED, HCA, LEAF, PERFQUERY, SUM, bearable

TOPOLOGY = Sweep(
    "ibnetdiscover",
    "fabric",
    nodes={LEAF: Node(LEAF, NodeKind.SWITCH, "leaf01"), HCA: Node(HCA, NodeKind.HCA, "gpu-0001 mlx5_0")},
    ports={End(LEAF, 1): PortFacts(End(HCA, 1), lid=1), End(HCA, 1): PortFacts(End(LEAF, 1), lid=2)},
)


def test_counters_under_their_names_in_linux() -> None:
    counters = read(PERFQUERY, f"{LEAF:#x}.out").counters[End(LEAF, 1)]
    assert counters["symbol_error"] == 120 and counters["link_downed"] == 7
    assert len(counters) == 17 and "qp1_dropped" not in counters


def test_the_extended_block_of_a_port_adds_to_the_classic_one() -> None:
    sweep = read(PERFQUERY + EXTENDED, f"{LEAF:#x}.out")
    assert sweep.counters[End(LEAF, 1)]["port_xmit_data"] == 178791657177235
    assert sweep.counters[End(LEAF, 1)]["symbol_error"] == 120
    assert not sweep.topology and not sweep.problems


def test_a_line_before_the_block_names_its_node_until_another_lid_comes() -> None:
    other = PERFQUERY.replace(b"Lid 1", b"Lid 2")
    sweep = read(b'# 0xe41d2d0300000000 "leaf01"\n' + PERFQUERY + other, "all.out")
    assert End(LEAF, 1) in sweep.counters and len(sweep.counters) == 2
    assert sweep.nodes[LEAF].description == "leaf01"
    (unnamed,) = sweep.counters.keys() - {End(LEAF, 1)}
    assert unnamed.guid < 0


def test_a_lid_is_resolved_against_a_topology() -> None:
    sweep = bind(read(PERFQUERY + PERFQUERY.replace(b"Lid 1", b"Lid 2"), "all.out"), TOPOLOGY)
    assert set(sweep.counters) == {End(LEAF, 1), End(HCA, 1)} and not sweep.problems


def test_a_lid_that_nobody_has_is_said() -> None:
    sweep = bind(read(PERFQUERY.replace(b"Lid 1", b"Lid 77"), "all.out"), TOPOLOGY)
    assert not sweep.counters and "1 ports" in sweep.problems[0].message and not sweep.problems[0].hides


def test_the_sum_over_all_ports_and_port_zero_are_no_port() -> None:
    sweep = read(SUM + PERFQUERY.replace(b"port 1 ", b"port 0 "), "all.out")
    assert not sweep.counters and not any(problem.hides for problem in sweep.problems)


def test_details_with_the_same_names_do_not_overwrite() -> None:
    details = b"# PortRcvErrorDetails counters: Lid 1 port 1\nPortRcvErrors:.......99\n"
    assert read(PERFQUERY + details, f"{LEAF:#x}.out").counters[End(LEAF, 1)]["port_rcv_errors"] == 0


def test_an_error_of_the_tool_hides_a_port() -> None:
    sweep = read(PERFQUERY + b"perfquery: iberror: failed: perfquery\n", "all.out")
    assert sweep.problems[0].hides and sweep.problems[0].line == 23


def test_a_block_that_is_cut_off_is_said() -> None:
    whole = PERFQUERY[: PERFQUERY.index(b"120") + 2]
    sweep = read(whole, f"{LEAF:#x}.out")
    assert sweep.counters == {End(LEAF, 1): {}}, "12 of 120 is not 12"
    assert [problem.line for problem in sweep.problems] == [4]
    assert read(whole[:-8], "x").problems[0].line == 4


def test_something_else_is_refused_with_its_place() -> None:
    with pytest.raises(BadInput, match=r"^x.out:1: Not one block"):
        read(b"hello\n", "x.out")
    assert looks_like(PERFQUERY) and looks_like(EXTENDED) and not looks_like(b"# PortRcvErrorDetails counters: Lid 1")


@given(spoiled(PERFQUERY + EXTENDED + b"0xe41d2d0300000000\n" + SUM))
def test_hostile_files(data: bytes) -> None:
    sweep = bearable(read, data)
    if sweep is not None:
        bind(sweep, TOPOLOGY)
