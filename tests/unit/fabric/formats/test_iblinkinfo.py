"""iblinkinfo in one-line and block form: links, states, rates and what both ends could do."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.core.errors import BadInput
from ostler.fabric.formats.iblinkinfo import looks_like, read
from ostler.fabric.sweep import End, NodeKind, Physical, PortState, ProblemKind, Sweep
from tests.unit.fabric.formats.written import HCA, HCB, LEAF, LINKS, NAMES, SPINE, Fabric, linked, sound

FORMS = {"one line": Fabric().link_info(True), "blocks": Fabric().link_info(False)}
LINE, BLOCKS = FORMS.values()


def parse(text: str | bytes) -> Sweep:
    sweep = read(text.encode() if isinstance(text, str) else text, "links.txt")
    sound(sweep)
    return sweep


def kinds(sweep: Sweep) -> list[ProblemKind]:
    return [problem.kind for problem in sweep.problems]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\n\n"])
def test_both_forms_give_the_same(form: str, ends: str) -> None:
    text = FORMS[form].replace("\n", ends)
    sweep = parse(text)
    assert linked(sweep) == LINKS and sweep.problems == [] and sweep.states
    assert {guid: node.description for guid, node in sweep.nodes.items()} == NAMES
    assert {guid: node.kind for guid, node in sweep.nodes.items()} == {
        LEAF: NodeKind.SWITCH, SPINE: NodeKind.SWITCH, HCA: NodeKind.HCA, HCB: NodeKind.HCA
    }  # fmt: skip
    assert sweep.nodes[LEAF].ports == 40 and len(sweep.ports) == 82
    up, down = sweep.ports[End(LEAF, 1)], sweep.ports[End(LEAF, 9)]
    assert (up.state, up.physical, up.width, up.speed, up.lid) == (PortState.ACTIVE, Physical.LINK_UP, 4, "HDR", 2)
    assert (up.width_supported, up.speed_supported) == (4, "HDR"), "no hint: it can do no more"
    assert (down.state, down.physical, down.peer, down.width) == (PortState.DOWN, Physical.POLLING, None, 0)
    assert looks_like(text.encode())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("hint", "width", "speed"),
    [
        ("Could be 12X ", 12, "HDR"),
        (" Could be 106.25 Gbps", 4, "NDR"),
        ("Could be 12X Could be 106.25 Gbps", 12, "NDR"),
        (" Could be FDR10", 4, "FDR10"),
        (" Could be 3.3.3 Gbps", 4, ""),
        ("  ", 4, "HDR"),
    ],
)
def test_hints_are_what_both_ends_can(form: str, hint: str, width: int, speed: str) -> None:
    facts = parse(FORMS[form].replace("( )", "(!)").replace('" (!)', f'" ({hint})')).ports[End(LEAF, 1)]
    assert (facts.width_supported, facts.speed_supported) == (width, speed)


@pytest.mark.parametrize(
    ("shown", "width", "speed", "state", "physical"),
    [
        ("( 1X        53.125 Gbps Active/  LinkUp)", 1, "HDR", PortState.ACTIVE, Physical.LINK_UP),
        ("( 4X           2.5 Gbps Initialize/  LinkUp)", 4, "SDR", PortState.INIT, Physical.LINK_UP),
        ("( 4X 10.0 Gbps (FDR10) Armed/  LinkUp)", 4, "FDR10", PortState.ARMED, Physical.LINK_UP),
        ("( 4X          10.0 Gbps Active/LinkErrorRecovery)", 4, "QDR", PortState.ACTIVE, Physical.RECOVERY),
        ("(12X      14.0625 Gbps Active/  LinkUp)", 12, "FDR", PortState.ACTIVE, Physical.LINK_UP),
        ("( 2X      25.78125 Gbps Active/  LinkUp)", 2, "EDR", PortState.ACTIVE, Physical.LINK_UP),
        ("( 4X        106.25 Gbps Active/  LinkUp) (HOQ:0 VL_Stall:7)", 4, "NDR", PortState.ACTIVE, Physical.LINK_UP),
        ("(undefined (32) undefined (16) Active/  LinkUp)", 0, "", PortState.ACTIVE, Physical.LINK_UP),
        ("( 4X No Extended Speed Active/  LinkUp)", 4, "", PortState.ACTIVE, Physical.LINK_UP),
        ("(something quite else)", 0, "", PortState.UNKNOWN, Physical.UNKNOWN),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_rates_and_states(form: str, shown: str, width: int, speed: str, state: PortState, physical: Physical) -> None:
    facts = parse(
        FORMS[form]
        .replace("( 4X        53.125 Gbps Active/  LinkUp)", shown)
        .replace("( 4X         53.125 Gbps Active/  LinkUp)", shown)
    ).ports[End(LEAF, 1)]
    assert facts.peer == End(HCA, 1)
    assert (facts.width, facts.speed, facts.state, facts.physical) == (width, speed, state, physical)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("shown", "physical"),
    [
        ("Down/Disabled", Physical.DISABLED),
        ("Down/PortConfigurationTraining", Physical.TRAINING),
        ("Down/   Sleep", Physical.SLEEP),
    ],
)
def test_why_a_port_is_down(form: str, shown: str, physical: Physical) -> None:
    facts = parse(FORMS[form].replace("Down/ Polling", shown)).ports[End(LEAF, 9)]
    assert (facts.state, facts.physical) == (PortState.DOWN, physical)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ['a "quoted" one', '" (Could be 12X )', "ends with:", "東京", "[1] ==( )==> "])
def test_descriptions(form: str, name: str) -> None:
    sweep = parse(Fabric(names=NAMES | {HCA: name}).link_info(form == "one line"))
    assert sweep.nodes[HCA].description == name.rstrip() or sweep.nodes[HCA].description == name
    assert linked(sweep) == LINKS and sweep.ports[End(LEAF, 1)].width_supported == 4


@pytest.mark.parametrize("form", FORMS)
def test_external_ports(form: str) -> None:
    assert linked(parse(FORMS[form].replace("[  ]", "[18]", 200))) == LINKS


def test_the_ports_of_a_neighbour_that_did_not_answer() -> None:
    text = "".join(line for line in LINE.splitlines(keepends=True) if not line.startswith(f"0x{HCB:016x}"))
    sweep = parse(text)
    assert linked(sweep) == LINKS and not sweep.nodes[HCB].answered and sweep.nodes[HCB].kind is NodeKind.HCA
    line = next(line for line in LINE.splitlines() if line.startswith(f"0x{LEAF:016x}") and "    2[" in line)
    sweep = parse(text.replace(line, line.partition("==>")[0] + '==>      "Port not available"'))
    assert kinds(sweep) == [ProblemKind.TIMEOUT] and sweep.ports[End(LEAF, 2)].state is PortState.ACTIVE
    assert HCB not in sweep.nodes


def test_neighbours_known_by_lid_only() -> None:
    switches = BLOCKS[: BLOCKS.index("CA:")]
    sweep = parse(switches)
    assert linked(sweep) == {end: peer for end, peer in LINKS.items() if {end.guid, peer.guid} == {LEAF, SPINE}}
    assert kinds(sweep) == [ProblemKind.UNREADABLE] and "2 neighbours" in sweep.problems[0].message
    assert sweep.ports[End(LEAF, 1)].state is PortState.ACTIVE
    twice = parse(BLOCKS.replace(f"0x{HCB:016x}      5 ", f"0x{HCB:016x}      4 "))
    assert linked(twice) == LINKS and twice.problems == [], (
        "two have the LID; they themselves say who their neighbour is"
    )
    gone = BLOCKS.replace(f"0x{HCB:016x}      5 ", f"0x{HCB:016x}      4 ").replace(
        "==>       2    2[", "==>       9    2["
    )
    assert [problem.kind for problem in parse(gone).problems] == [ProblemKind.UNREADABLE]


def test_a_lid_that_two_have_names_neither() -> None:
    both = BLOCKS.replace(f"0x{HCB:016x}      5 ", f"0x{HCB:016x}      4 ").replace(
        "==>       5    1[", "==>       4    1["
    )
    sweep = parse(both)
    assert linked(sweep) == LINKS and sweep.problems == [], "the hosts' own word, not a guess by LID"


def test_a_neighbour_without_guid() -> None:
    sweep = parse(LINE.replace(f"==>  0x{HCB:016x}", "==>  0x" + "0" * 16))
    assert kinds(sweep) == [ProblemKind.UNREADABLE] and linked(sweep) == LINKS and 0 not in sweep.nodes


def test_only_ports_that_are_down() -> None:
    text = "".join(line for line in LINE.splitlines(keepends=True) if "Down/" in line)
    assert kinds(parse(text)) == [ProblemKind.UNREADABLE]


def test_a_port_that_is_there_twice() -> None:
    lines = LINE.splitlines(keepends=True)
    assert parse(LINE + lines[0]).problems == []
    sweep = parse(LINE + lines[0].replace('    1[  ] "gpu', '    2[  ] "gpu'))
    assert kinds(sweep) == [ProblemKind.DUPLICATE_GUID] and linked(sweep) == LINKS


@pytest.mark.parametrize("form", FORMS)
def test_cut_off_and_strange_lines(form: str) -> None:
    assert ProblemKind.TRUNCATED in kinds(parse(FORMS[form][:-3]))
    sweep = parse("ibwarn: [1] timed out\n" + FORMS[form] + "nonsense\n")
    assert kinds(sweep) == [ProblemKind.TIMEOUT, ProblemKind.UNREADABLE] and linked(sweep) == LINKS


def test_a_block_without_header() -> None:
    sweep = parse(BLOCKS[BLOCKS.index("\n") + 1 :])
    assert ProblemKind.TRUNCATED in kinds(sweep) and LEAF not in sweep.nodes


@pytest.mark.parametrize("port", ["   0", " 255", "9999", "9" * 400])
@pytest.mark.parametrize("form", FORMS)
def test_ports_that_cannot_be(form: str, port: str) -> None:
    sweep = parse(FORMS[form].replace("  34[", f"{port}["))
    assert ProblemKind.UNREADABLE in kinds(sweep)
    assert set(linked(sweep)) <= set(LINKS)


@pytest.mark.parametrize("text", ["", "x\n", "\0" * 99, "Switch: 0xe41d2d0300000040 leaf:\n"])
def test_what_is_none_at_all(text: str) -> None:
    with pytest.raises(BadInput, match=r"^links.txt: No port"):
        parse(text)


@pytest.mark.parametrize("piece", [b"x", b"\0", b" ", b'0x1 "', b'" 1 1[  ] ==(', b"1 1[  ] ==(  )==>  ", b"Could be "])
@pytest.mark.parametrize("length", [64 << 20, 300_000])
def test_endless_lines_cost_no_more_than_themselves(piece: bytes, length: int) -> None:
    data = LINE.encode() + (b'0x1 "' + piece * (length // len(piece)) + b"\n") * ((64 << 20) // length)
    tracemalloc.start()
    sweep = read(data, "x")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
    assert linked(sweep) == LINKS and sweep.problems


@pytest.mark.parametrize("form", FORMS)
def test_cut_at_every_place(form: str) -> None:
    data = FORMS[form].encode()
    for end in range(0, len(data), 9):
        try:
            sound(read(data[:end], "x"))
        except BadInput:
            assert end < 200


PARTS = [*LINE.splitlines(keepends=True)[::9], *BLOCKS.splitlines(keepends=True)[:50:3], *LINE[:300].split(" ")]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PARTS).map(str.encode), st.binary(max_size=12)), max_size=60))
def test_whatever_comes_is_a_sweep_or_bad_input(parts: list[bytes]) -> None:
    try:
        sound(read(b" ".join(parts), "x"))
    except BadInput as error:
        assert "\n" not in str(error)
