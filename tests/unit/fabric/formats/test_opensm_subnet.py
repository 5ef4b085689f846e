"""opensm's list of cables: hexadecimal ports, both ends in a line, the manager as the vantage point."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.core.errors import BadInput
from ostler.fabric.formats.opensm_subnet import looks_like, read
from ostler.fabric.sweep import End, NodeKind, PortState, ProblemKind, Sweep
from tests.unit.fabric.formats.written import HCA, HCB, LEAF, LINKS, NAMES, SPINE, Fabric, both_ways, linked, sound

TEXT = Fabric().subnet()


def parse(text: str) -> Sweep:
    sweep = read(text.encode(), "subnet.lst")
    sound(sweep)
    return sweep


def kinds(sweep: Sweep) -> list[ProblemKind]:
    return [problem.kind for problem in sweep.problems]


@pytest.mark.parametrize("text", [TEXT, TEXT.replace("\n", "\r\n"), TEXT.replace("\n", "\n\n")])
def test_links_nodes_and_vantage_point(text: str) -> None:
    sweep = parse(text)
    assert linked(sweep) == LINKS, "port 0x21 is port 33"
    assert sweep.problems == [] and sweep.origin == HCA and not sweep.states
    assert {guid: node.description for guid, node in sweep.nodes.items()} == NAMES
    leaf = sweep.nodes[LEAF]
    assert (leaf.kind, leaf.ports, leaf.vendor, leaf.device, leaf.system_guid) == (
        NodeKind.SWITCH,
        40,
        0x2C9,
        0xD2F0,
        LEAF,
    )
    facts = sweep.ports[End(LEAF, 33)]
    assert (facts.state, facts.width, facts.speed, facts.lid) == (PortState.ACTIVE, 4, "HDR", 2)
    assert looks_like(text.encode())


@pytest.mark.parametrize(
    ("shown", "width", "state", "speed"),
    [
        ("PHY=1x LOG=INI SPD=2.5", 1, PortState.INIT, "SDR"),
        ("PHY=12x LOG=ARM SPD=5", 12, PortState.ARMED, "DDR"),
        ("PHY=2x LOG=ACT SPD=100", 2, PortState.ACTIVE, "NDR"),
        ("PHY=4x LOG=ACT SPD=FDR10", 4, PortState.ACTIVE, "FDR10"),
        ("PHY=4x LOG=ACT SPD=14", 4, PortState.ACTIVE, "FDR"),
        ("PHY=4x LOG=ACT SPD=10", 4, PortState.ACTIVE, "QDR"),
        ("PHY=?? LOG=ACT SPD=??", 0, PortState.ACTIVE, ""),
    ],
)
def test_rates_and_states(shown: str, width: int, state: PortState, speed: str) -> None:
    facts = parse(TEXT.replace("PHY=4x LOG=ACT SPD=50", shown)).ports[End(LEAF, 1)]
    assert (facts.width, facts.state, facts.speed) == (width, state, speed)


@pytest.mark.parametrize("name", ["", "a } LID:0001 PN:01 } {", "{", "東京"])
def test_descriptions(name: str) -> None:
    sweep = parse(Fabric(names=NAMES | {HCA: name}).subnet())
    assert sweep.nodes[HCA].description == name and linked(sweep) == LINKS


def test_a_node_that_only_its_neighbour_names() -> None:
    lines = TEXT.splitlines(keepends=True)
    sweep = parse("".join(line for line in lines if not line.startswith("{ CA Ports")))
    node = sweep.nodes[HCB]
    assert not node.answered and (node.kind, node.ports, node.device) == (NodeKind.HCA, 1, 0x101B)
    assert linked(sweep) == LINKS and kinds(sweep) == [ProblemKind.TRUNCATED]


def test_contradictions_and_cut_files() -> None:
    links = dict(LINKS) | {End(SPINE, 1): End(LEAF, 34)}
    sweep = parse(Fabric(links).subnet())
    assert linked(sweep) == both_ways(((LEAF, 1), (HCA, 1)), ((LEAF, 2), (HCB, 1)), ((LEAF, 34), (SPINE, 2)))
    assert ProblemKind.CONTRADICTION in kinds(sweep)
    assert ProblemKind.TRUNCATED in kinds(parse(TEXT[:-4]))
    first = TEXT.splitlines()[0]
    twice = parse(TEXT + first.replace("PN:01 } PHY", "PN:02 } PHY") + "\n")
    assert ProblemKind.CONTRADICTION in kinds(twice)


def test_several_nodes_marked_as_manager_are_no_vantage_point() -> None:
    assert parse(TEXT.replace("{ CA ", "{ CA-SM ")).origin is None


@pytest.mark.parametrize("port", ["00", "FF", "FFFF", "9" * 400, "G1"])
def test_ports_that_cannot_be(port: str) -> None:
    sweep = parse(TEXT.replace("PN:22", f"PN:{port}"))
    assert set(linked(sweep)) == {end for end in LINKS if end not in (End(LEAF, 34), End(SPINE, 2))}
    assert set(kinds(sweep)) == {ProblemKind.UNREADABLE}


def test_a_node_without_guid_is_left_out() -> None:
    sweep = parse(TEXT.replace(f"NodeGUID:{SPINE:016x}", "NodeGUID:" + "0" * 16))
    assert set(sweep.nodes) == {LEAF, HCA, HCB} and ProblemKind.UNREADABLE in kinds(sweep)


@pytest.mark.parametrize("text", ["", "x\n", "\0" * 99, "{ SW Ports:28 SystemGUID:"])
def test_what_is_none_at_all(text: str) -> None:
    with pytest.raises(BadInput, match=r"^subnet.lst: No cable"):
        parse(text)


@pytest.mark.parametrize("piece", [b"x", b"\0", b"{ ", TEXT.splitlines()[0].partition(" PHY")[0].encode() + b" "])
@pytest.mark.parametrize("length", [64 << 20, 300_000])
def test_endless_lines_cost_no_more_than_themselves(piece: bytes, length: int) -> None:
    data = TEXT.encode() + (piece * (length // len(piece)) + b"\n") * ((64 << 20) // length)
    tracemalloc.start()
    sweep = read(data, "x")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
    assert linked(sweep) == LINKS and sweep.problems


def test_cut_at_every_place() -> None:
    data = TEXT.encode()
    for end in range(0, len(data), 5):
        try:
            sound(read(data[:end], "x"))
        except BadInput:
            assert end <= data.index(b"\n")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(TEXT.splitlines(keepends=True) + TEXT.split(" ")).map(str.encode), st.binary(max_size=12)
        ),
        max_size=60,
    )
)
def test_whatever_comes_is_a_sweep_or_bad_input(parts: list[bytes]) -> None:
    try:
        sound(read(b" ".join(parts), "x"))
    except BadInput as error:
        assert "\n" not in str(error)
