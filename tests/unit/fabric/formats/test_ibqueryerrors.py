"""ibqueryerrors: counters that were printed, those that were not, and whose they are."""

from __future__ import annotations

import pytest
from hypothesis import given

from ostler.core.errors import BadInput
from ostler.fabric.formats.bind import bind
from ostler.fabric.formats.ibqueryerrors import looks_like, read
from ostler.fabric.sweep import End, Node, NodeKind, PortFacts, ProblemKind, Sweep
from tests.unit.fabric.formats.hostile import spoiled
from tests.unit.fabric.formats.outputs import DATA_COUNTERS, HCA, HCB, IBQUERYERRORS, LEAF, bearable


def topology(name: str = "gpu-0001 mlx5_0") -> Sweep:
    links = {End(LEAF, 1): End(HCA, 1), End(LEAF, 2): End(HCB, 1)}
    links |= {peer: end for end, peer in links.items()}
    return Sweep(
        "ibnetdiscover",
        "fabric",
        nodes={
            LEAF: Node(LEAF, NodeKind.SWITCH, "MF0;leaf01:MQM8700/U1"),
            HCA: Node(HCA, NodeKind.HCA, name),
            HCB: Node(HCB, NodeKind.HCA, "gpu-0002 mlx5_0"),
        },
        ports={end: PortFacts(peer) for end, peer in links.items()} | {End(LEAF, 3): PortFacts()},
    )


def test_what_is_printed_and_what_is_zero_because_it_is_not() -> None:
    sweep = read(IBQUERYERRORS, "q.out")
    one, two = sweep.counters[End(LEAF, 1)], sweep.counters[End(LEAF, 2)]
    assert (one["symbol_error"], one["link_downed"], one["port_xmit_data"]) == (120, 7, 1584)
    assert (two["symbol_error"], two["link_downed"]) == (0, 255) and "port_xmit_data" not in two
    assert len(sweep.counters) == 3 and not sweep.problems, "port ALL is a sum"


def test_the_guid_of_an_adapters_port_finds_its_node_by_the_description() -> None:
    bound = bind(read(IBQUERYERRORS, "q.out"), topology())
    assert bound.counters[End(HCA, 1)]["port_rcv_errors"] == 12


def test_without_the_description_by_the_old_rule_of_port_guids() -> None:
    bound = bind(read(IBQUERYERRORS, "q.out"), topology("renamed"))
    assert bound.counters[End(HCA, 1)]["port_rcv_errors"] == 12


def test_a_description_that_two_nodes_have_names_neither() -> None:
    twice = topology()
    twice.nodes[HCB] = Node(HCB, NodeKind.HCA, "gpu-0001 mlx5_0")
    far = IBQUERYERRORS.replace(b"0xe41d2d0300001001", b"0xe41d2d030000f001")
    bound = bind(read(far, "q.out"), twice)
    assert not any(counters.get("port_rcv_errors") for counters in bound.counters.values())
    assert "not in the topology" in bound.problems[0].message


def test_a_linked_port_that_is_not_printed_has_no_errors() -> None:
    bound = bind(read(IBQUERYERRORS, "q.out"), topology())
    assert bound.counters[End(HCB, 1)]["symbol_error"] == 0
    assert End(LEAF, 3) not in bound.counters, "not linked, so nobody asked"


@pytest.mark.parametrize("line", [b"## Suppressed: SymbolErrorCounter", b"## Thresholds: SymbolErrorCounter = 10"])
def test_with_thresholds_nothing_is_taken_for_zero(line: bytes) -> None:
    sweep = read(IBQUERYERRORS.replace(b"## Suppressed:", line), "q.out")
    assert "symbol_error" not in sweep.counters[End(LEAF, 2)]
    assert [problem.kind for problem in sweep.problems] == [ProblemKind.REFUSED]
    assert End(HCB, 1) not in bind(sweep, topology()).counters


def test_a_run_that_was_stopped_proves_nothing_of_the_rest() -> None:
    sweep = read(IBQUERYERRORS.partition(b"## Summary")[0], "q.out")
    assert [problem.kind for problem in sweep.problems] == [ProblemKind.TRUNCATED]
    assert End(HCB, 1) not in bind(sweep, topology()).counters


def test_traffic_only() -> None:
    sweep = read(DATA_COUNTERS, "q.out")
    assert sweep.counters[End(HCA, 1)] == {"port_xmit_data": 5832, "port_rcv_data": 5904, "port_xmit_packets": 81}
    assert End(LEAF, 0) not in sweep.counters
    assert End(HCB, 1) not in bind(sweep, topology()).counters


def test_a_clean_fabric_is_a_result() -> None:
    clean = b"\n## Summary: 4 nodes checked, 0 bad nodes found\n##          12 ports checked, 0 ports have errors\n"
    bound = bind(read(clean, "q.out"), topology())
    assert {end: sum(counters.values()) for end, counters in bound.counters.items()} == {
        End(LEAF, 1): 0, End(LEAF, 2): 0, End(HCA, 1): 0, End(HCB, 1): 0,
    }  # fmt: skip


def test_something_else_is_refused_with_its_place() -> None:
    with pytest.raises(BadInput, match=r"^q.out:1: Neither"):
        read(b"hello\n", "q.out")
    assert looks_like(IBQUERYERRORS) and looks_like(DATA_COUNTERS) and not looks_like(b"Errors for nobody\n")


@given(spoiled(IBQUERYERRORS + DATA_COUNTERS))
def test_hostile_files(data: bytes) -> None:
    sweep = bearable(read, data)
    if sweep is not None:
        bind(sweep, topology())
