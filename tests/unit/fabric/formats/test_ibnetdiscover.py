"""ibnetdiscover's text and ports report: every dialect gives the same links; what is missing or contradicts is said."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.core.errors import BadInput
from ostler.fabric.formats.ibnetdiscover import looks_like, read
from ostler.fabric.sweep import PROBLEMS_KEPT, End, NodeKind, PortState, ProblemKind, Sweep
from tests.unit.fabric.formats.written import HCA, HCB, LEAF, LINKS, NAMES, SPINE, Fabric, both_ways, linked, sound

TEXT = Fabric().topology()


def parse(text: str | bytes) -> Sweep:
    sweep = read(text.encode() if isinstance(text, str) else text, "fabric.txt")
    sound(sweep)
    return sweep


def kinds(sweep: Sweep) -> list[ProblemKind]:
    return [problem.kind for problem in sweep.problems]


def grouped(text: str) -> str:
    """As `-g` writes it."""
    text = re.sub(r'^(\[\d+\])(.*?)"\[(\d+)\]', r'\1[ext 7]\2"[\3][ext 19]', text, flags=re.M)
    head = "\n\nChassis 1 (guid 0xe41d2d0300000040)\nHostname: x\n\n# Spine Nodes\nvendid"
    return text.replace("\n\nvendid", head, 1).replace("\nvendid", "\nNon-Chassis Nodes\n\nvendid")


DIALECTS: dict[str, Callable[[str], str]] = {
    "as written": str,
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "tabs as spaces": lambda text: text.replace("\t", "        "),
    "tabs lost": lambda text: text.replace("\t", ""),
    "indented": lambda text: text.replace("\n[", "\n   ["),
    "base port 0": lambda text: text.replace("enhanced port 0", "base port 0"),
    "grouped": grouped,
    "chassis comments": lambda text: re.sub(r"^(sysimgguid.*)$", r"\1\t\t# Chassis 1 (x) slot 3", text, flags=re.M),
    "external ports": lambda text: re.sub(r"^\[(\d+)\](?=\t)", r"[\1](\1)", text, flags=re.M),
    "both external ports": lambda text: re.sub(r'"\[(\d+)\](?=\t)', r'"[\1](\1)', text, flags=re.M),
    "no LIDs": lambda text: re.sub(r"lid \d+", "lid ", text),
    "full": lambda text: text.replace("4xHDR", "4xHDR s=4 w=2 v=4"),
    "newest full": lambda text: text.replace("4xHDR", "4xHDR s=4 w=2 v=4 e=4"),
    "speed not known to the tool": lambda text: text.replace("4xHDR", "4x??? s=4 w=2 v=4 e=4"),
    "width not known to the tool": lambda text: text.replace("4xHDR", "??HDR s=4 w=2 v=4 e=4").replace(
        "??HDR", "4xHDR"
    ),
    "hops": lambda text: text.replace(
        "# Initiated", "# Reported max hops discovered: 4\n# Total MADs used: 9\n# Initiated"
    ),
    "upper case": lambda text: re.sub(r"(?<=-)[0-9a-f]{16}(?=\")", lambda m: m[0].upper(), text),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_links(dialect: str) -> None:
    text = DIALECTS[dialect](TEXT)
    sweep = parse(text)
    assert linked(sweep) == LINKS
    assert {(facts.width, facts.speed) for facts in sweep.ports.values()} == {(4, "HDR")}
    assert {guid: node.description for guid, node in sweep.nodes.items()} == NAMES
    assert sweep.problems == []
    assert looks_like(text.encode()[:65536])


def test_what_a_node_says_of_itself() -> None:
    sweep = parse(TEXT)
    leaf, hca = sweep.nodes[LEAF], sweep.nodes[HCA]
    assert (leaf.kind, leaf.ports, leaf.system_guid, leaf.vendor, leaf.device) == (
        NodeKind.SWITCH,
        40,
        LEAF,
        0x2C9,
        0xD2F0,
    )
    assert (hca.kind, hca.ports, hca.device, hca.answered) == (NodeKind.HCA, 1, 0x101B, True)
    assert sweep.origin == HCA and sweep.taken_at is None and not sweep.states and sweep.topology
    assert sweep.ports[End(LEAF, 1)].lid == 2 and sweep.ports[End(HCA, 1)].lid == 4
    assert sweep.ports[End(HCA, 1)].state is PortState.UNKNOWN


@pytest.mark.parametrize(
    ("shown", "width", "speed"),
    [
        ("1xSDR", 1, "SDR"),
        ("2xHDR", 2, "HDR"),
        ("4xFDR10", 4, "FDR10"),
        ("4xNDR", 4, "NDR"),
        ("12xQDR", 12, "QDR"),
        ("4xXDR", 4, "XDR"),
        ("4x???", 4, ""),
        ("??EDR", 0, "EDR"),
        ("3xHDR", 0, "HDR"),
        ("4x??? s=4 w=2 v=4 e=16", 4, "XDR"),
        ("?? s=4 w=16 v=4 e=8", 2, "NDR"),
        ("4x??? s=2 w=2 v=4 e=0", 4, "DDR"),
        ("4x??? s=4 w=2 v=4", 4, ""),
    ],
)
def test_width_and_speed(shown: str, width: int, speed: str) -> None:
    facts = parse(TEXT.replace("4xHDR", shown)).ports[End(LEAF, 1)]
    assert (facts.width, facts.speed) == (width, speed)


@pytest.mark.parametrize(
    "name",
    [
        'a "quoted" one',
        "with # hash",
        '" lid 9 1xSDR',
        "[5]",
        "",
        "Ünïcode 東京",
        "Mellanox Technologies Aggregation Node",
    ],
)
def test_descriptions_are_kept_as_they_stand(name: str) -> None:
    sweep = parse(Fabric(names=NAMES | {HCA: name}).topology())
    assert sweep.nodes[HCA].description == name
    assert linked(sweep) == LINKS and sweep.problems == []
    assert sweep.ports[End(LEAF, 1)].speed == "HDR"


def test_bytes_that_are_no_text_are_shown_harmlessly() -> None:
    sweep = parse(TEXT.encode().replace(b"gpu-0001", b"\xff\x1b[31m\x80"))
    assert sweep.nodes[HCA].description == "\ufffd [31m\ufffd mlx5_0"
    assert linked(sweep) == LINKS


def test_routers() -> None:
    text = TEXT.replace("Ca\t", "Rt\t").replace("caguid", "rtguid").replace('"H-', '"R-')
    sweep = parse(text)
    assert sweep.nodes[HCA].kind is NodeKind.ROUTER and linked(sweep) == LINKS


def test_a_node_that_only_its_neighbours_name() -> None:
    sweep = parse(TEXT.replace(Fabric().block(HCB), ""))
    assert not sweep.nodes[HCB].answered and sweep.nodes[HCB].description == "gpu-0002 mlx5_0"
    assert sweep.nodes[HCB].kind is NodeKind.HCA and sweep.nodes[HCB].ports == 0
    assert linked(sweep) == LINKS, "the neighbour's word is enough"
    assert (sweep.ports[End(HCB, 1)].width, sweep.ports[End(HCB, 1)].speed) == (4, "HDR")
    assert kinds(sweep) == [ProblemKind.TRUNCATED], "ibnetdiscover prints a block for every node"


def test_a_line_that_is_missing_is_filled_in_and_told() -> None:
    lines = TEXT.splitlines(keepends=True)
    sweep = parse("".join(line for line in lines if not line.startswith("[33]")))
    assert linked(sweep) == LINKS
    assert kinds(sweep) == [ProblemKind.TRUNCATED] and "1 links" in sweep.problems[0].message


def test_ends_that_contradict_each_other_are_not_believed() -> None:
    links = dict(LINKS)
    links[End(SPINE, 1)] = End(LEAF, 34)
    sweep = parse(Fabric(links).topology())
    assert linked(sweep) == both_ways(((LEAF, 1), (HCA, 1)), ((LEAF, 2), (HCB, 1)), ((LEAF, 34), (SPINE, 2)))
    assert kinds(sweep) and set(kinds(sweep)) == {ProblemKind.CONTRADICTION}
    assert all(problem.hides for problem in sweep.problems)


def test_the_word_of_a_port_that_is_contradicted_counts_no_more_than_its_neighbours() -> None:
    """The leaf names the spine, the spine names a host that does not answer: either may be right."""
    links = {end: peer for end, peer in LINKS.items() if HCB not in (end.guid, peer.guid)}
    links[End(SPINE, 1)] = End(HCB, 1)
    text = Fabric(links).topology()
    sweep = parse(text.replace(Fabric(links).block(HCB), ""))
    assert linked(sweep) == both_ways(((LEAF, 1), (HCA, 1)), ((LEAF, 34), (SPINE, 2)))
    assert ProblemKind.CONTRADICTION in kinds(sweep)


def test_two_ports_that_name_the_same_silent_one_are_not_believed() -> None:
    links = {end: peer for end, peer in LINKS.items() if end != End(HCA, 1) and end != End(HCB, 1)}
    links[End(LEAF, 2)] = End(HCA, 1)
    sweep = parse(Fabric(links).topology())
    assert linked(sweep) == both_ways(((LEAF, 33), (SPINE, 1)), ((LEAF, 34), (SPINE, 2)))
    assert ProblemKind.CONTRADICTION in kinds(sweep)


def test_a_loopback_plug_is_no_link_and_hides_nothing() -> None:
    sweep = parse(Fabric(dict(LINKS) | {End(SPINE, 9): End(SPINE, 9)}).topology())
    assert linked(sweep) == LINKS
    assert [(problem.kind, problem.hides) for problem in sweep.problems] == [(ProblemKind.CONTRADICTION, False)]


def test_a_port_that_is_there_twice_with_two_neighbours() -> None:
    line = next(line for line in TEXT.splitlines() if line.startswith("[33]"))
    sweep = parse(TEXT.replace(line, line + "\n" + line.replace("[1]", "[7]")))
    assert End(SPINE, 7) not in linked(sweep)
    assert ProblemKind.CONTRADICTION in kinds(sweep)


def test_a_guid_of_two_nodes() -> None:
    second = Fabric(both_ways(((HCA, 1), (LEAF, 9)))).block(HCA)
    sweep = parse(TEXT + second)
    assert linked(sweep) == LINKS, "the first block is kept"
    assert [(p.kind, p.guid, p.hides) for p in sweep.problems] == [(ProblemKind.DUPLICATE_GUID, HCA, True)]
    assert sweep.problems[0].line == len(TEXT.splitlines()) + 6


def test_a_block_that_is_there_twice_alike_hides_nothing() -> None:
    sweep = parse(TEXT + Fabric().block(HCA))
    assert linked(sweep) == LINKS
    assert [(p.kind, p.hides) for p in sweep.problems] == [(ProblemKind.DUPLICATE_GUID, False)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (TEXT[:-5], "within a line"),
        (TEXT + "\nvendid=0x2c9\ndevid=0xd2f0\n", "last block"),
        (TEXT[: TEXT.rindex("[1](")], "last block"),
        (TEXT[: TEXT.rindex("\nvendid")], "1 nodes have no block"),
        (TEXT[TEXT.index("[1]") :], "lines before it are missing"),
    ],
)
def test_a_file_that_was_cut_off_says_so(text: str, why: str) -> None:
    sweep = parse(text)
    assert ProblemKind.TRUNCATED in kinds(sweep)
    assert any(why in problem.message and problem.hides for problem in sweep.problems)


def test_a_speed_that_the_end_of_the_file_cut_is_not_believed() -> None:
    text = TEXT.replace("4xHDR", "4xFDR10")[:-3]
    assert text.endswith("4xFDR")
    assert parse(text).ports[End(HCB, 1)].speed == ""
    assert parse(text).ports[End(HCA, 1)].speed == "FDR10"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (
            "src/query_smp.c:196; umad (DR path slid 0; dlid 0; 0,1,13 Attr 0x11:0) bad status 110; Connection timed out",
            ProblemKind.TIMEOUT,
        ),
        ("src/ibnetdisc.c:441; Duplicate Port discovered", ProblemKind.DUPLICATE_GUID),
        ("ibwarn: [812] mad_rpc: _do_madrpc failed", ProblemKind.FAILED),
        ("something else", ProblemKind.UNREADABLE),
        ("[nonsense", ProblemKind.UNREADABLE),
        ('[1] "S-zz"[2]', ProblemKind.UNREADABLE),
    ],
)
def test_lines_that_are_not_the_topologys(line: str, kind: ProblemKind) -> None:
    sweep = parse(TEXT.replace("\n\n", f"\n{line}\n\n", 2))
    assert linked(sweep) == LINKS
    assert kinds(sweep) == [kind, kind] and sweep.problems[0].hides
    assert TEXT.replace("\n\n", f"\n{line}\n\n", 2).splitlines()[(sweep.problems[0].line or 0) - 1] == line


@pytest.mark.parametrize("port", ["0", "41", "255", "9999", "9" * 400, "-1", "1_0", "٣"])
def test_ports_that_cannot_be(port: str) -> None:
    sweep = parse(TEXT.replace("\n[34]", f"\n[{port}]"))
    assert set(linked(sweep)) == set(LINKS), "the spine's word stands"
    assert ProblemKind.UNREADABLE in kinds(sweep)
    other = parse(TEXT.replace("[34]\t\t#", f"[{port}]\t\t#"))
    if port != "41":  # the neighbour's count of ports is not looked up
        assert ProblemKind.UNREADABLE in kinds(other)


def test_a_node_without_guid_is_left_out() -> None:
    sweep = parse(TEXT.replace(f"{SPINE:016x}", "0" * 16))
    assert 0 not in sweep.nodes and End(LEAF, 33) not in linked(sweep)
    assert ProblemKind.UNREADABLE in kinds(sweep)


def test_a_collector_without_link_saw_nothing() -> None:
    sweep = parse(Fabric({}, {HCA: NAMES[HCA]}).topology())
    assert kinds(sweep) == [ProblemKind.MONITOR_DOWN] and sweep.problems[0].hides


@pytest.mark.parametrize("text", ["", "hello\n", "\0" * 5000, "[1]\n" * 5000])
def test_what_is_none_at_all(text: str) -> None:
    with pytest.raises(BadInput, match=r"^fabric.txt: No node"):
        parse(text)


def test_a_list_of_nodes_says_what_to_do() -> None:
    text = b'Ca\t : 0x98039b0300000070 ports 2 devid 0x101b vendid 0x2c9 "gpu-0007 mlx5_0"\n'
    assert looks_like(text)
    with pytest.raises(BadInput, match="without -l"):
        parse(text)


def test_the_line_of_a_problem_far_behind() -> None:
    sweep = parse(TEXT + "# comment\n" * 300_000 + "junk\n" + "y" * 5000 + "\n")
    lines = len(TEXT.splitlines())
    assert [(problem.line, problem.message[:10]) for problem in sweep.problems] == [
        (lines + 300_001, "not unders"),
        (lines + 300_002, "a line far"),
    ]


def test_problems_are_bounded() -> None:
    sweep = parse(TEXT + "junk\n" * 10_000)
    assert len(sweep.problems) == PROBLEMS_KEPT and "further problems" in sweep.problems[-1].message


# ── the ports report ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_ports_report_gives_the_same_links() -> None:
    sweep = parse(Fabric().report())
    assert linked(sweep) == LINKS and sweep.states and sweep.problems == []
    assert {guid: (node.description, node.ports) for guid, node in sweep.nodes.items()} == {
        guid: (NAMES[guid], 40 if guid in (LEAF, SPINE) else 1) for guid in NAMES
    }
    assert sweep.ports[End(LEAF, 5)].state is PortState.DOWN
    assert sweep.ports[End(LEAF, 1)].speed == "HDR" and sweep.ports[End(LEAF, 1)].lid == 2


def test_a_port_without_neighbour_but_with_speed_is_left_open() -> None:
    report = Fabric().report().replace("4x SDR", "4x HDR")
    assert parse(report).ports[End(LEAF, 5)].state is PortState.UNKNOWN


def test_names_with_quotes_in_the_ports_report() -> None:
    sweep = parse(Fabric(names=NAMES | {HCA: "it's - 'odd' "}).report())
    assert sweep.nodes[HCA].description == "it's - 'odd' " and linked(sweep) == LINKS


def test_the_ports_report_cut_off_and_with_junk() -> None:
    sweep = parse(Fabric().report()[:-9])
    assert ProblemKind.TRUNCATED in kinds(sweep)
    lines = Fabric().report().splitlines(keepends=True)
    sweep = parse("".join(lines[:-1]))
    assert kinds(sweep) == [ProblemKind.TRUNCATED] and not sweep.nodes[HCB].answered
    sweep = parse("".join(lines) + lines[0].replace(" 40 ", " 400 ") + "junk\n")
    assert kinds(sweep) == [ProblemKind.UNREADABLE, ProblemKind.UNREADABLE]


def test_a_port_twice_in_the_ports_report() -> None:
    line = next(line for line in Fabric().report().splitlines() if line.startswith("SW     2 33 "))
    sweep = parse(Fabric().report() + line.replace("  1 0x", "  8 0x") + "\n")
    assert ProblemKind.DUPLICATE_GUID in kinds(sweep)


# ── hostile files ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("piece", [b"x", b"\0", b"[1]\t", b'"', b" ", b"lid ", b'[1]\t"S-1"[1]\t# "' + b'" lid ' * 9])
@pytest.mark.parametrize("end", [b"", b"\n", b"\nlines\n"])
def test_one_endless_line_costs_no_more_than_itself(piece: bytes, end: bytes) -> None:
    if end == b"\nlines\n":
        data = TEXT.encode() + (piece * (300_000 // len(piece)) + b"\n") * 100
    else:
        data = TEXT.encode() + piece * ((64 << 20) // len(piece)) + end
    tracemalloc.start()
    sweep = read(data, "fabric.txt")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
    assert linked(sweep) == LINKS
    assert sweep.problems or (piece == b" " and end)


def test_cut_at_every_place() -> None:
    for data in (TEXT.encode(), Fabric().report().encode()):
        for end in range(0, len(data), 7):
            try:
                sound(read(data[:end], "x"))
            except BadInput:
                assert end < 600


FRAGMENTS = [
    *TEXT.splitlines(keepends=True),
    *Fabric().report().splitlines(keepends=True)[:60:20],
    "[",
    "\0",
    "lid ",
    '"',
    "\r",
]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(FRAGMENTS).map(str.encode), st.binary(max_size=12), st.sampled_from(TEXT).map(str.encode)
        ),
        max_size=60,
    )
)
def test_whatever_comes_is_a_sweep_or_bad_input(parts: list[bytes]) -> None:
    try:
        sound(read(b"".join(parts), "x"))
    except BadInput as error:
        assert "\n" not in str(error)
