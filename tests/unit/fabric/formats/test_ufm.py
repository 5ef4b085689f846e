"""UFM's REST answers: links, ports, systems, together and each alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from ostler.core.errors import BadInput
from ostler.fabric.formats.ufm import looks_like, read
from ostler.fabric.sweep import End, NodeKind, Physical, PortState, ProblemKind
from tests.unit.fabric.formats.hostile import spoiled
from tests.unit.fabric.formats.outputs import HCA, HCB, LEAF, UFM, UFM_LINK, UFM_SYSTEM, bearable, ufm_port
from tests.unit.fabric.formats.written import sound


def test_all_three_together() -> None:
    sweep = read(UFM, "ufm.json")
    one = sweep.ports[End(LEAF, 1)]
    assert (one.peer, one.state, one.physical) == (End(HCA, 1), PortState.ACTIVE, Physical.LINK_UP)
    assert sweep.ports[End(LEAF, 2)].peer == End(HCB, 1) and sweep.ports[End(HCB, 1)].width == 4
    assert sweep.nodes[LEAF].kind is NodeKind.SWITCH and sweep.nodes[LEAF].description == "leaf01"
    assert sweep.nodes[HCA].description == "gpu-0001 mlx5_0" and sweep.nodes[HCB].kind is NodeKind.HCA
    assert not sweep.problems
    sound(sweep)


def test_enabled_is_believed_and_supported_is_not() -> None:
    one = read(UFM, "ufm.json").ports[End(LEAF, 1)]
    assert (one.width, one.width_supported, one.speed, one.speed_supported) == (4, 4, "NDR", "NDR")


def test_links_alone_in_the_newer_and_the_older_form() -> None:
    old = {"source_guid": "0002c903007b78b0", "source_port": "20", "destination_guid": "b8599f03000a77d0",
           "destination_port": "2", "source_port_dname": "20", "destination_port_dname": "HCA-1/2", "width": "IB_4x",
           "severity": "Info", "name": "0002c903007b78b0_20:ec0d9a03007d7d0b_2"}  # fmt: skip
    sweep = read(json.dumps([UFM_LINK, old]).encode(), "links.json")
    assert sweep.ports[End(0x0002C903007B78B0, 20)].peer == End(0xB8599F03000A77D0, 2)
    assert sweep.nodes[0x0002C903007B78B0].kind is NodeKind.SWITCH
    assert sweep.nodes[0xB8599F03000A77D0].kind is NodeKind.HCA
    assert sweep.modules[End(LEAF, 2)].serial == sweep.modules[End(HCB, 1)].serial == "MT1"
    assert sweep.modules[End(LEAF, 2)].length_m == 1.0
    sound(sweep)


def test_ports_alone_and_one_that_is_down() -> None:
    down = ufm_port(LEAF, 9, HCB, 1, physical_state="Polling", logical_state="Down") | {
        "peer": "N/A",
        "peer_guid": "N/A",
    }
    sweep = read(json.dumps([ufm_port(LEAF, 1, HCA, 1), down]).encode(), "ports.json")
    assert sweep.states and sweep.ports[End(LEAF, 9)].physical is Physical.POLLING
    assert sweep.ports[End(HCA, 1)].peer == End(LEAF, 1)
    assert not sweep.nodes[HCA].answered and sweep.nodes[HCA].description == "gpu-0001 mlx5_0"
    sound(sweep)


def test_a_second_port_is_found_under_the_guid_of_its_node() -> None:
    """A dual-port adapter's second port has a GUID of its own, and only its neighbour's record is at hand."""
    port = ufm_port(LEAF, 1, HCA + 1, 2, peer_node_guid=f"{HCA:016x}")
    sweep = read(json.dumps([port]).encode(), "ports.json")
    assert sweep.ports[End(LEAF, 1)].peer == End(HCA, 2) and set(sweep.nodes) == {LEAF, HCA}


def test_systems_alone_tell_which_switches_there_are() -> None:
    sweep = read(json.dumps([UFM_SYSTEM, {**UFM_SYSTEM, "guid": "1", "type": "host"}]).encode(), "systems.json")
    assert set(sweep.nodes) == {LEAF}


def test_records_that_contradict_or_say_nothing() -> None:
    moved = {**UFM_LINK, "destination_guid": f"{HCA:016x}"}
    sweep = read(json.dumps([UFM_LINK, moved, {"source_guid": "x", "name": "bad"}]).encode(), "links.json")
    assert {problem.kind for problem in sweep.problems} == {ProblemKind.CONTRADICTION, ProblemKind.UNREADABLE}
    sound(sweep)


@pytest.mark.parametrize("data", [b"{", b"[[[[", b"[" * 100_000, b"1" * 10_000, b'{"a": 1}', b"[]", b"null"])
def test_what_is_no_answer_of_ufm_is_refused_with_its_place(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"^x:1: "):
        read(data, "x")


def test_looks_like() -> None:
    assert looks_like(UFM) and looks_like(json.dumps([UFM_LINK]).encode()) and not looks_like(b'{"guid": 1}')


@given(spoiled(UFM))
def test_hostile_files(data: bytes) -> None:
    sweep = bearable(read, data)
    if sweep is not None:
        sound(sweep)
