"""ibdiagnet2.db_csv: sections by name, columns by name, what is missing and what is there twice."""

from __future__ import annotations

import pytest
from hypothesis import given

from ostler.core.errors import BadInput
from ostler.fabric.formats.db_csv import looks_like, read
from ostler.fabric.sweep import End, NodeKind, Physical, PortState, ProblemKind, Sweep
from tests.unit.fabric.formats.hostile import spoiled
from tests.unit.fabric.formats.outputs import DB_CSV, HCA, HCB, LEAF, bearable
from tests.unit.fabric.formats.written import sound


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return read(DB_CSV, "ibdiagnet2.db_csv")


def test_nodes_with_a_comma_in_their_name(sweep: Sweep) -> None:
    assert sweep.nodes[LEAF].kind is NodeKind.SWITCH and sweep.nodes[LEAF].ports == 65
    assert sweep.nodes[HCA].description == "gpu-0001 mlx5_0, spare" and sweep.nodes[HCA].device == 4129


def test_ports_by_the_bits_of_port_info(sweep: Sweep) -> None:
    one, two, three = (sweep.ports[End(LEAF, number)] for number in (1, 2, 3))
    assert (one.width, one.speed, one.width_supported, one.speed_supported, one.lid) == (4, "NDR", 4, "NDR", 1)
    assert (two.width, two.speed) == (2, "HDR")
    assert (three.state, three.physical, three.peer) == (PortState.DOWN, Physical.POLLING, None)
    assert End(LEAF, 0) not in sweep.ports and sweep.states and sweep.topology


def test_links_both_ways(sweep: Sweep) -> None:
    assert sweep.ports[End(LEAF, 2)].peer == End(HCB, 1) and sweep.ports[End(HCB, 1)].peer == End(LEAF, 2)


def test_wide_counters_before_narrow_ones(sweep: Sweep) -> None:
    assert sweep.counters[End(LEAF, 1)] == {
        "symbol_error": 70123, "link_downed": 300, "port_xmit_data": 99999999999, "port_xmit_wait": 10,
    }  # fmt: skip
    assert sweep.counters[End(HCA, 1)]["port_xmit_data"] == 7, "N/A in the wide column: the narrow one"


def test_modules_with_their_own_limits(sweep: Sweep) -> None:
    module = sweep.modules[End(LEAF, 1)]
    assert (module.vendor, module.part, module.serial, module.length_m) == ("NVIDIA", "MMA4Z00-NS", "MT2345", 50.0)
    assert (module.temperature_c, module.temperature_limits_c) == (71.0, (-5.0, 75.0))
    assert (module.rx_power_dbm, module.rx_limits_dbm) == ((-1.5, -3.01), (-10.41, 5.0))


def test_bit_error_rates_as_coefficient_and_exponent(sweep: Sweep) -> None:
    rates = sweep.bers[End(LEAF, 1)]
    assert rates.raw == pytest.approx(3e-7) and rates.effective == 0.0 and rates.symbol == 0.0


def test_named_columns_of_bit_error_rates() -> None:
    text = b"START_PM_BER\nNodeGUID,PortNumber,Raw BER,Effective BER,Symbol BER\n0x1,3,1e-5,2e-12,N/A\nEND_PM_BER\n"
    rates = read(text, "x").bers[End(1, 3)]
    assert (rates.raw, rates.effective, rates.symbol) == (1e-5, 2e-12, None)


def test_when_it_was_taken_and_that_nothing_is_wrong(sweep: Sweep) -> None:
    assert sweep.taken_at == 1772338792.0 and not sweep.problems
    sound(sweep)


@pytest.mark.parametrize(
    ("old", "new", "kind", "words"),
    [
        (b"END_PM_INFO", b"", ProblemKind.TRUNCATED, "PM_INFO has no end"),
        (b"PortNumber,", b"Number,", ProblemKind.UNREADABLE, "no column portnumber"),
        (b"0,7,N/A,N/A", b"0,7", ProblemKind.TRUNCATED, "row of PM_INFO is cut off"),
        (b"00001000,1,0,2,2", b"00001000,x,0,2,2", ProblemKind.UNREADABLE, "'x' is no port number"),
        (b"END_NODES", b"n,1,1,1,1,1,0xe41d2d0300001000,1,1,1,1,1,1\nEND_NODES", ProblemKind.DUPLICATE_GUID, "two nodes"),
        (b"END_LINKS", b"0xe41d2d0300000000,1,0xe41d2d0300002000,1\nEND_LINKS", ProblemKind.CONTRADICTION, "two links"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(old: bytes, new: bytes, kind: ProblemKind, words: str) -> None:
    assert old in DB_CSV
    found = read(DB_CSV.replace(old, new), "x").problems
    assert any(problem.kind is kind and words in problem.message and problem.line for problem in found), found


def test_half_a_number_at_the_end_is_none() -> None:
    at = DB_CSV.index(b"99999999999,10") + 13
    found = read(DB_CSV[:at], "x")
    assert End(LEAF, 1) not in found.counters and found.problems[-1].kind is ProblemKind.TRUNCATED
    whole = DB_CSV.rstrip()
    assert whole.endswith(b"END_PHY_DB16") and not read(whole, "x").problems


def test_counters_alone_are_no_topology() -> None:
    part = DB_CSV[DB_CSV.index(b"START_PM_INFO") : DB_CSV.index(b"START_CABLE_INFO")]
    found = read(part, "x")
    assert not found.topology and not found.ports and len(found.counters) == 2


def test_an_endless_cell_is_one_row_that_is_lost() -> None:
    found = read(DB_CSV.replace(b"END_NODES", b'"' + b"a" * 200_000 + b'",1\nEND_NODES'), "x")
    assert [problem.kind for problem in found.problems] == [ProblemKind.TRUNCATED] and len(found.nodes) == 3


def test_an_endless_line_is_left_out() -> None:
    found = read(b"#" * 3_000_000 + b"\n" + DB_CSV, "x")
    assert "3000001 bytes" in found.problems[0].message and len(found.nodes) == 3


def test_only_unknown_sections_are_refused() -> None:
    with pytest.raises(BadInput, match=r"^x:1: No section"):
        read(b"START_AR_INFO\na,b\n1,2\nEND_AR_INFO\n", "x")
    assert looks_like(DB_CSV) and not looks_like(b"RESTART_NODES\n")


@given(spoiled(DB_CSV))
def test_hostile_files(data: bytes) -> None:
    found = bearable(read, data)
    if found is not None:
        sound(found)
