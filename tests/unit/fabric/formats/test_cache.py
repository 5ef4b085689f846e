"""The cache file of ibnetdiscover: raw PortInfo of every port; counts and keys that lie end in one line."""

from __future__ import annotations

from struct import pack_into

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.core.errors import BadInput
from ostler.fabric.formats.ibnetdiscover_cache import HEADER, KEY, KEYS, NODE, PORT, looks_like, read
from ostler.fabric.sweep import End, NodeKind, Physical, PortState, ProblemKind, Sweep
from tests.unit.fabric.formats.written import (
    HCA,
    HCB,
    LEAF,
    LINKS,
    NAMES,
    SPINE,
    Fabric,
    cache_file,
    cached_port,
    linked,
    port_info,
    sound,
)

DATA = Fabric().cache()


def parse(data: bytes) -> Sweep:
    sweep = read(data, "snap.cache")
    sound(sweep)
    return sweep


def kinds(sweep: Sweep) -> list[ProblemKind]:
    return [problem.kind for problem in sweep.problems]


def header(nodes: int = 4, ports: int = 84, version: int = 1) -> bytes:
    return cache_file(nodes, ports, DATA[HEADER.size :], version)


def test_the_layout_is_the_librarys() -> None:
    """Sizes in libibnetdisc's ibnetdisc_cache.c."""
    assert (HEADER.size, NODE.size, KEY, PORT.size, KEYS.size) == (28, 15 + 3 * 64, 9, 31 + 64, 31 + 64)
    assert looks_like(DATA) and not looks_like(b"")


def test_links_nodes_states_and_origin() -> None:
    sweep = parse(DATA)
    assert linked(sweep) == LINKS and sweep.problems == [] and sweep.states and sweep.origin == HCA
    assert len(sweep.ports) == 82, "down ones too, a switch's port 0 not"
    assert {guid: node.description for guid, node in sweep.nodes.items()} == NAMES
    leaf, hca = sweep.nodes[LEAF], sweep.nodes[HCA]
    assert (leaf.kind, leaf.ports, leaf.system_guid, leaf.vendor, leaf.device) == (
        NodeKind.SWITCH,
        40,
        LEAF,
        0x2C9,
        0xD2F0,
    )
    assert (hca.kind, hca.ports, hca.device) == (NodeKind.HCA, 1, 0x101B)
    up, down = sweep.ports[End(LEAF, 1)], sweep.ports[End(LEAF, 9)]
    assert (up.state, up.physical, up.width, up.speed, up.lid) == (PortState.ACTIVE, Physical.LINK_UP, 4, "HDR", 2)
    assert (up.width_supported, up.speed_supported) == (4, "HDR")
    assert (down.state, down.physical, down.width, down.speed) == (PortState.DOWN, Physical.POLLING, 0, "")
    assert sweep.ports[End(HCA, 1)].lid == 4


@pytest.mark.parametrize(
    ("info", "width", "speed", "fastest"),
    [
        (port_info(width=1, speed=1, extended=0), 1, "SDR", "HDR"),
        (port_info(width=16, speed=2, extended=0), 2, "DDR", "HDR"),
        (port_info(width=8, speed=4, extended=0), 12, "QDR", "HDR"),
        (port_info(extended=1), 4, "FDR", "HDR"),
        (port_info(extended=2), 4, "EDR", "HDR"),
        (port_info(extended=8), 4, "NDR", "HDR"),
        (port_info(extended=8)[:62] + b"\x8f\0", 4, "NDR", "NDR"),
        (port_info(extended=0, speed=4)[:62] + b"\0\0", 4, "QDR", "QDR"),
        (port_info(width=3, speed=3, extended=3), 0, "", "HDR"),
    ],
)
def test_width_and_speed(info: bytes, width: int, speed: str, fastest: str) -> None:
    at = DATA.index(cached_port(HCA, 1, HCA, End(LEAF, 1), port_info(), 4))
    facts = parse(DATA[: at + 13] + info + DATA[at + 77 :]).ports[End(HCA, 1)]
    assert (facts.width, facts.speed, facts.width_supported, facts.speed_supported) == (width, speed, 4, fastest)


@pytest.mark.parametrize(
    ("state", "physical", "expected"),
    [
        (1, 3, (PortState.DOWN, Physical.DISABLED)),
        (1, 1, (PortState.DOWN, Physical.SLEEP)),
        (2, 5, (PortState.INIT, Physical.LINK_UP)),
        (3, 6, (PortState.ARMED, Physical.RECOVERY)),
        (4, 7, (PortState.ACTIVE, Physical.TEST)),
        (1, 4, (PortState.DOWN, Physical.TRAINING)),
        (0, 0, (PortState.UNKNOWN, Physical.UNKNOWN)),
        (15, 15, (PortState.UNKNOWN, Physical.UNKNOWN)),
    ],
)
def test_states(state: int, physical: int, expected: tuple[PortState, Physical]) -> None:
    at = DATA.index(cached_port(LEAF, 9, LEAF, None, port_info(up=False), 0))
    info = port_info(state=state, physical=physical)
    facts = parse(DATA[: at + 13] + info + DATA[at + 77 :]).ports[End(LEAF, 9)]
    assert (facts.state, facts.physical) == expected


def test_an_old_hcas_port_guid_is_another_than_its_nodes() -> None:
    old = HCA + 1
    data = DATA.replace(
        cached_port(HCA, 1, HCA, End(LEAF, 1), port_info(), 4), cached_port(old, 1, HCA, End(LEAF, 1), port_info(), 4)
    )
    data = data.replace(
        cached_port(LEAF, 1, LEAF, End(HCA, 1), port_info(), 0), cached_port(LEAF, 1, LEAF, End(old, 1), port_info(), 0)
    )
    assert linked(parse(data)) == LINKS


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (header(ports=10_000_000), ProblemKind.TRUNCATED),
        (header(nodes=0xFFFFFFFF, ports=0xFFFFFFFF), ProblemKind.TRUNCATED),
        (header(ports=80), ProblemKind.UNREADABLE),
        (header(nodes=3), ProblemKind.UNREADABLE),
        (DATA + b"\0", ProblemKind.UNREADABLE),
        (DATA[:-1], ProblemKind.TRUNCATED),
        (DATA[: len(DATA) // 2], ProblemKind.TRUNCATED),
    ],
)
def test_counts_that_lie(data: bytes, kind: ProblemKind) -> None:
    assert kind in kinds(parse(data))


def test_a_node_that_says_it_has_more_keys_than_there_are() -> None:
    lying = bytearray(DATA)
    lying[HEADER.size + NODE.size - 1] = 255
    assert parse(bytes(lying)).problems


def test_a_neighbour_that_is_not_in_the_file() -> None:
    data = DATA.replace(
        cached_port(LEAF, 2, LEAF, End(HCB, 1), port_info(), 0),
        cached_port(LEAF, 2, LEAF, End(0x77, 1), port_info(), 0),
    )
    assert ProblemKind.TRUNCATED in kinds(parse(data))


def test_ports_that_cannot_be() -> None:
    data = DATA.replace(
        cached_port(LEAF, 9, LEAF, None, port_info(up=False), 0),
        cached_port(LEAF, 255, LEAF, None, port_info(up=False), 0),
    )
    sweep = parse(data)
    assert kinds(sweep) == [ProblemKind.UNREADABLE] and End(LEAF, 255) not in sweep.ports


def test_a_guid_of_two_nodes() -> None:
    lying = bytearray(DATA)
    second = HEADER.size + NODE.size + 41 * KEY
    pack_into("<Q", lying, second + 68, LEAF)
    sweep = parse(bytes(lying))
    assert ProblemKind.DUPLICATE_GUID in kinds(sweep) and SPINE not in sweep.nodes


def test_two_nodes_with_one_port_guid() -> None:
    data = DATA.replace(
        cached_port(HCB, 1, HCB, End(LEAF, 2), port_info(), 5), cached_port(HCA, 1, HCB, End(LEAF, 2), port_info(), 5)
    )
    sweep = parse(data)
    assert ProblemKind.DUPLICATE_GUID in kinds(sweep)
    assert linked(sweep)[End(HCA, 1)] == End(LEAF, 1), "the first is kept"


def test_ends_that_contradict_each_other() -> None:
    data = DATA.replace(
        cached_port(SPINE, 1, SPINE, End(LEAF, 33), port_info(), 0),
        cached_port(SPINE, 1, SPINE, None, port_info(up=False), 0),
    )
    sweep = parse(data)
    assert kinds(sweep) == [ProblemKind.CONTRADICTION]
    assert set(linked(sweep)) == set(LINKS) - {End(LEAF, 33), End(SPINE, 1)}


def test_a_collector_without_link_or_that_is_not_there() -> None:
    assert kinds(parse(Fabric({}, {HCA: NAMES[HCA]}).cache())) == [ProblemKind.MONITOR_DOWN]
    missing = parse(Fabric({}, {LEAF: NAMES[LEAF]}).cache())
    assert ProblemKind.CONTRADICTION in kinds(missing)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no cache file"),
        (b"hello", "no cache file"),
        (DATA[:20], "within its header"),
        (header(version=2), "version 2"),
        (DATA[:28], "no node"),
        (header(nodes=0), "no node"),
        (cache_file(1, 1, b"\0" * 1000), "no node"),
    ],
)
def test_what_is_none_at_all(data: bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        parse(data)


def test_cut_at_every_place() -> None:
    for end in range(len(DATA)):
        try:
            sound(read(DATA[:end], "x"))
        except BadInput:
            assert end < HEADER.size + NODE.size


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.integers(0, 255)), max_size=40), st.integers(0, len(DATA)))
def test_whatever_comes_is_a_sweep_or_bad_input(changes: list[tuple[int, int]], end: int) -> None:
    data = bytearray(DATA)
    for at, value in changes:
        data[at] = value
    try:
        sound(read(bytes(data[:end] if len(changes) % 2 else data), "x"))
    except BadInput as error:
        assert "\n" not in str(error)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), st.binary(max_size=3000))
def test_noise_behind_a_header(nodes: int, ports: int, rest: bytes) -> None:
    try:
        sound(read(cache_file(nodes, ports, rest), "x"))
    except BadInput as error:
        assert "\n" not in str(error)
