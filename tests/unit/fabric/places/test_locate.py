"""Sweeps become snapshots: identity, links, facts, and what is not to be trusted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.model import Blueprint, ChassisKind, Port, Snapshot
from ostler.fabric.places.locate import locate
from ostler.fabric.sweep import Ber, End, Module, Node, NodeKind, PortFacts, PortState, Problem, ProblemKind, Sweep
from tests.unit.fabric.places.swept import connect, guid_of, rename, renumber, swap, sweep_of

KINDS = ProblemKind


@pytest.fixture
def blueprint() -> Blueprint:
    return fat_tree(8, 2, leaf_ports=16)


@pytest.fixture
def sweep(blueprint: Blueprint) -> Sweep:
    return sweep_of(blueprint)


def kinds(snapshot: Snapshot) -> list[ProblemKind]:
    return [problem.kind for problem in snapshot.problems]


def leaf_of(blueprint: Blueprint, port: Port) -> Port:
    cable = blueprint.by_port[port]
    return cable.b if cable.a == port else cable.a


def test_everything_in_its_place(blueprint: Blueprint, sweep: Sweep) -> None:
    sweep.origin = guid_of(sweep, "gpu-0003 mlx5_1")
    for design in (blueprint, None):
        seen = locate(sweep, design, vantage="sm")
        assert seen.links == {a: b for cable in blueprint.cables for a, b in ((cable.a, cable.b), (cable.b, cable.a))}
        assert set(seen.facts) == set(seen.ends) == set(seen.links)
        assert set(seen.chassis) == set(blueprint.chassis)
        assert {name: one.kind for name, one in seen.chassis.items()} == {
            name: one.kind for name, one in blueprint.chassis.items()
        }
        assert (seen.problems, seen.unplaced, seen.replaced) == ([], [], {})
        assert (seen.monitor, seen.vantage, seen.chassis["leaf-r0-01"].model) == ("gpu-0003", "sm", "MQM9700")
        assert len(seen.chassis["gpu-0003"].guids) == 2


def test_case_and_domain_do_not_matter(blueprint: Blueprint, sweep: Sweep) -> None:
    rename(sweep, guid_of(sweep, "gpu-0001 mlx5_0"), "GPU-0001.example.org mlx5_0 ")
    rename(sweep, guid_of(sweep, "MF0;leaf-r0-01:MQM9700/U1"), "LEAF-R0-01")
    assert locate(sweep, blueprint).links == locate(sweep_of(blueprint)).links


def test_domains_without_a_design(sweep: Sweep) -> None:
    rename(sweep, guid_of(sweep, "gpu-0001 mlx5_0"), "gpu-0001.a.example mlx5_0")
    assert "gpu-0001.a.example" not in locate(sweep).chassis
    rename(sweep, guid_of(sweep, "gpu-0001 mlx5_1"), "gpu-0001.b.example mlx5_0")
    assert {"gpu-0001.a.example", "gpu-0001.b.example"} <= set(locate(sweep).chassis)


def test_a_renamed_host(blueprint: Blueprint, sweep: Sweep) -> None:
    for device in ("mlx5_0", "mlx5_1"):
        rename(sweep, guid_of(sweep, f"gpu-0002 {device}"), f"node-b {device}")
    assert locate(sweep, blueprint).chassis["node-b"].kind is ChassisKind.HOST
    renamed = locate(sweep, blueprint, names={"Node-B": "gpu-0002"})
    assert "node-b" not in renamed.chassis and Port("gpu-0002", "mlx5_1") in renamed.links


def test_guids_go_before_names(blueprint: Blueprint, sweep: Sweep) -> None:
    """Of the blueprint before the registry, and both before what a host calls itself."""
    guid = guid_of(sweep, "gpu-0001 mlx5_0")
    place = Port("gpu-0001", "mlx5_0")
    rename(sweep, guid, "gpu-0009x mlx5_7")
    known = {guid: place}
    assert locate(sweep, blueprint, known=known).ends[place] == End(guid, 1)
    assert locate(sweep, replace(blueprint, guids=known), known={guid: Port("x", "y")}).ends[place] == End(guid, 1)
    switch = guid_of(sweep, "MF0;leaf-r0-01:MQM9700/U1")
    rename(sweep, switch, "Quantum Mellanox Technologies")
    seen = locate(sweep, blueprint, known={**known, switch: Port("leaf-r0-01", "")})
    assert seen.links == locate(sweep_of(blueprint)).links and seen.unplaced == [] and seen.problems == []


def test_a_registry_that_contradicts_a_name_is_told(blueprint: Blueprint, sweep: Sweep) -> None:
    guid = guid_of(sweep, "gpu-0001 mlx5_0")
    other = guid_of(sweep, "gpu-0002 mlx5_0")
    del sweep.nodes[other], sweep.ports[End(other, 1)]
    seen = locate(sweep, blueprint, known={guid: Port("gpu-0002", "mlx5_0")})
    assert seen.ends[Port("gpu-0002", "mlx5_0")].guid == guid
    assert kinds(seen) == [KINDS.CONTRADICTION] and not seen.blinded


def test_a_replaced_part_is_no_other_place(blueprint: Blueprint, sweep: Sweep) -> None:
    place, switch = Port("gpu-0001", "mlx5_0"), Port("leaf-r1-01", "")
    old, old_switch = guid_of(sweep, "gpu-0001 mlx5_0"), guid_of(sweep, "MF0;leaf-r1-01:MQM9700/U1")
    renumber(sweep, old, 0x1234)
    renumber(sweep, old_switch, 0x5678)
    seen = locate(sweep, blueprint, known={old: place, old_switch: switch})
    assert seen.replaced == {place: (old, 0x1234), switch: (old_switch, 0x5678)}
    assert seen.links == locate(sweep_of(blueprint)).links and seen.problems == []


def test_a_part_that_is_seen_elsewhere_was_not_replaced(blueprint: Blueprint, sweep: Sweep) -> None:
    """The registry is behind: the blueprint has the part in another place, and there it is."""
    moved, place = guid_of(sweep, "gpu-0002 mlx5_0"), Port("gpu-0001", "mlx5_0")
    design = replace(blueprint, guids={moved: Port("gpu-0002", "mlx5_0")})
    assert locate(sweep, design, known={moved: place}).replaced == {}


def test_the_known_one_keeps_a_place_that_another_claims(blueprint: Blueprint, sweep: Sweep) -> None:
    place = Port("gpu-0001", "mlx5_0")
    guid, other = guid_of(sweep, "gpu-0001 mlx5_0"), guid_of(sweep, "gpu-0002 mlx5_0")
    rename(sweep, other, "gpu-0001 mlx5_0")
    seen = locate(sweep, blueprint, known={guid: place})
    assert seen.ends[place].guid == guid and seen.replaced == {}
    assert kinds(seen) == [KINDS.DUPLICATE_PLACE] and f"0x{other:016x}" in seen.problems[0].message
    assert f"0x{other:016x}" in seen.chassis and len(seen.unplaced) == 1
    twice = locate(sweep, blueprint, known={guid: place, other: place})
    assert kinds(twice) == [KINDS.DUPLICATE_PLACE] and twice.ends[place].guid == guid


def test_a_name_that_two_claim_is_nobodys(blueprint: Blueprint, sweep: Sweep) -> None:
    guid, other = guid_of(sweep, "gpu-0001 mlx5_0"), guid_of(sweep, "gpu-0002 mlx5_0")
    rename(sweep, other, "gpu-0001 mlx5_0")
    for design in (blueprint, None):
        seen = locate(sweep, design)
        assert Port("gpu-0001", "mlx5_0") not in seen.ends
        assert {f"0x{guid:016x}", f"0x{other:016x}"} <= set(seen.chassis) and len(seen.unplaced) == 2
        assert kinds(seen) == [KINDS.DUPLICATE_PLACE] and not seen.blinded
        assert len(seen.links) == len(sweep.ports)


def test_forty_nameless_hosts_are_one_problem_and_forty_lines(blueprint: Blueprint, sweep: Sweep) -> None:
    for node in list(sweep.nodes.values()):
        if node.description.endswith("mlx5_0"):
            rename(sweep, node.guid, "localhost mlx5_0")
    seen = locate(sweep, blueprint)
    assert kinds(seen) == [KINDS.DUPLICATE_PLACE] and len(seen.unplaced) == 8
    assert not any(port.chassis == "localhost" for port in seen.ends)


def test_a_nameless_part_is_not_put_where_its_cable_says(blueprint: Blueprint, sweep: Sweep) -> None:
    """It could not be found miscabled there. The line says what it should be, for a person to approve."""
    guid = guid_of(sweep, "gpu-0001 mlx5_0")
    rename(sweep, guid, "MT4129 ConnectX7   Mellanox Technologies")
    seen = locate(sweep, blueprint)
    own = Port(f"0x{guid:016x}", "1")
    assert seen.links[leaf_of(blueprint, Port("gpu-0001", "mlx5_0"))] == own and own in seen.facts
    assert Port("gpu-0001", "mlx5_0") not in seen.links
    assert seen.unplaced[0].endswith("by its cable it should be gpu-0001 mlx5_0")
    assert seen.problems == []
    assert "by its cable" not in locate(sweep).unplaced[0]


def test_a_nameless_part_in_the_place_of_one_seen_elsewhere_gets_no_hint(blueprint: Blueprint, sweep: Sweep) -> None:
    guid, other = guid_of(sweep, "gpu-0001 mlx5_0"), guid_of(sweep, "gpu-0002 mlx5_0")
    rename(sweep, guid, "localhost mlx5_0")
    swap(sweep, End(guid, 1), End(other, 1))
    assert "by its cable" not in locate(sweep, blueprint).unplaced[0]


def test_hca_names_of_the_design_by_their_order(sweep: Sweep) -> None:
    design = fat_tree(8, 2, leaf_ports=16, hcas=("mlx5_2", "mlx5_10"))
    for guid, node in list(sweep.nodes.items()):
        rename(sweep, guid, node.description.replace("mlx5_0", "HCA-3").replace("mlx5_1", "HCA-4"))
    seen = locate(sweep, design)
    assert all(seen.links[cable.a] == cable.b for cable in design.cables) and seen.problems == []
    missing = guid_of(sweep, "gpu-0001 HCA-3")
    del sweep.nodes[missing], sweep.ports[End(missing, 1)]
    for end, facts in list(sweep.ports.items()):
        if facts.peer == End(missing, 1):
            del sweep.ports[end]
    again = locate(sweep, design)
    assert Port("gpu-0001", "mlx5_10") in again.links and Port("gpu-0001", "mlx5_2") not in again.links


def test_hca_names_that_cannot_be_told_are_left_and_said(sweep: Sweep) -> None:
    design = fat_tree(8, 2, leaf_ports=16, hcas=("mlx5_2", "mlx5_10"))
    for guid, node in list(sweep.nodes.items()):
        rename(sweep, guid, node.description.replace("mlx5_0", "ibp3s0").replace("mlx5_1", "ibs9f1"))
    seen = locate(sweep, design)
    assert Port("gpu-0001", "ibp3s0") in seen.links and kinds(seen) == [KINDS.CONTRADICTION]


def test_names_that_the_design_has_are_never_changed(blueprint: Blueprint, sweep: Sweep) -> None:
    """A host with its HCAs the other way round is a finding."""
    one, two = guid_of(sweep, "gpu-0001 mlx5_0"), guid_of(sweep, "gpu-0001 mlx5_1")
    rename(sweep, one, "gpu-0001 mlx5_1")
    rename(sweep, two, "gpu-0001 mlx5_0")
    seen = locate(sweep, blueprint)
    assert seen.ends[Port("gpu-0001", "mlx5_1")].guid == one and seen.problems == []


def test_two_ports_of_one_hca_and_modules_of_a_director() -> None:
    sweep = Sweep("ibnetdiscover")
    for guid, kind, name in (
        (7, NodeKind.ROUTER, "MF0;leaf:MQM8700/U1/RT"), (1, NodeKind.HCA, "booster2 mlx4_0"), (2, NodeKind.SWITCH, "MF0;core:CS7500/L11/U1"),
        (3, NodeKind.SWITCH, "MF0;core:CS7500/S01/U1"), (4, NodeKind.ROUTER, "gateway"),
        (5, NodeKind.SWITCH, "MF0;leaf:MQM8700/U1"), (6, NodeKind.HCA, "Mellanox Technologies Aggregation Node"),
    ):  # fmt: skip
        sweep.nodes[guid] = Node(guid, kind, name, 81 if guid == 5 else 37)
    for a, b in ((End(1, 1), End(2, 4)), (End(1, 2), End(2, 5)), (End(2, 19), End(3, 1)), (End(4, 1), End(5, 1)),
                 (End(5, 81), End(6, 1))):  # fmt: skip
        connect(sweep, a, b)
    seen = locate(sweep)
    assert seen.links[Port("booster2", "mlx4_0")] == Port("core", "L11/U1/4")
    assert seen.links[Port("booster2", "mlx4_0/2")] == Port("core", "L11/U1/5")
    assert seen.links[Port("core", "L11/U1/19")] == Port("core", "S01/U1/1")
    assert seen.chassis["gateway"].kind is ChassisKind.OTHER
    leaf = seen.chassis["leaf"]
    assert (leaf.kind, leaf.model, leaf.guids) == (ChassisKind.SWITCH, "MQM8700-split", [7, 5])
    assert len(seen.links) == 8, "the aggregation node and its link are no cable"
    assert Port("leaf", "81") not in seen.facts and len(seen.chassis) == 4


def test_two_ports_under_one_name_are_a_problem() -> None:
    """A host that the registry gives the name of a switch, and its device a number."""
    sweep = Sweep("ibnetdiscover")
    for guid, kind, name in ((1, NodeKind.HCA, "x mlx5_0"), (2, NodeKind.SWITCH, "leaf"), (3, NodeKind.SWITCH, "b")):
        sweep.nodes[guid] = Node(guid, kind, name)
    connect(sweep, End(1, 1), End(3, 1))
    connect(sweep, End(2, 2), End(3, 2))
    seen = locate(sweep, known={1: Port("leaf", "2")})
    assert KINDS.DUPLICATE_PLACE in kinds(seen) and seen.blinded
    assert seen.links == {Port("leaf", "2"): Port("b", "2"), Port("b", "2"): Port("leaf", "2")}


def test_who_did_not_answer(blueprint: Blueprint, sweep: Sweep) -> None:
    """A node named by its neighbours only has links and no facts; its host answers by its other HCA."""
    silent = guid_of(sweep, "gpu-0001 mlx5_0")
    sweep.nodes[silent] = replace(sweep.nodes[silent], answered=False)
    unheard = guid_of(sweep, "gpu-0002 mlx5_0")
    del sweep.nodes[unheard], sweep.ports[End(unheard, 1)]
    seen = locate(sweep, blueprint)
    place = Port("gpu-0001", "mlx5_0")
    assert seen.links[place] == leaf_of(blueprint, place) and seen.links[seen.links[place]] == place
    assert place not in seen.facts and seen.answered("gpu-0001") and not seen.port_answered(place)
    assert not seen.chassis[f"0x{unheard:016x}"].answered and len(seen.unplaced) == 1


def test_ends_that_name_different_neighbours(blueprint: Blueprint, sweep: Sweep) -> None:
    a, b = guid_of(sweep, "gpu-0001 mlx5_0"), guid_of(sweep, "gpu-0002 mlx5_0")
    there = sweep.ports[End(b, 1)].peer
    sweep.ports[End(a, 1)] = sweep.ports[End(a, 1)]._replace(peer=there)
    seen = locate(sweep, blueprint)
    assert Port("gpu-0001", "mlx5_0") not in seen.links
    assert seen.links[Port("gpu-0002", "mlx5_0")] == leaf_of(blueprint, Port("gpu-0002", "mlx5_0"))
    assert set(kinds(seen)) == {KINDS.CONTRADICTION} and seen.blinded
    assert all(seen.links[peer] == port for port, peer in seen.links.items())


def test_counters_and_readings_of_other_sources(blueprint: Blueprint, sweep: Sweep) -> None:
    guid = guid_of(sweep, "gpu-0001 mlx5_0")
    place = Port("gpu-0001", "mlx5_0")
    one = Sweep("perfquery", topology=False, counters={End(guid, 1): {"symbol_error": 3}, End(999, 1): {"x": 1}})
    one.problems.append(Problem(KINDS.TRUNCATED, "cut off"))
    two = Sweep("mlxlink", topology=False, modules={End(guid, 1): Module("NVIDIA")}, bers={End(guid, 1): Ber(raw=1e-9)})
    two.counters[End(guid, 1)] = {"link_downed": 1}
    seen = locate(sweep, blueprint, extra=(one, two))
    assert seen.counters == {place: {"symbol_error": 3, "link_downed": 1}}
    assert seen.modules == {place: Module("NVIDIA")} and seen.bers == {place: Ber(raw=1e-9)}
    assert KINDS.TRUNCATED in kinds(seen) and not seen.blinded, "missing counters hide no cable"


def xdr(*, missing: tuple[int, int] | None = None) -> Sweep:
    """Two Quantum-X800 switches with a cable between ports 3, and an HCA with four planes at port 35 of the first."""
    sweep = Sweep("ibdiagnet-db-csv", states=True)
    for box in (1, 2):
        for asic in (1, 2, 3, 4):
            guid = box * 16 + asic
            sweep.nodes[guid] = Node(guid, NodeKind.SWITCH, f"MF0;leaf{box}:Q3400_RA/U{asic}", 148)
    sweep.nodes[99] = Node(99, NodeKind.HCA, "gpu1 mlx5_0", 4)
    lane = PortFacts(None, PortState.ACTIVE, width=1, speed="XDR", width_supported=1, speed_supported="XDR")
    for asic in (1, 2, 3, 4):
        for a, b in ((End(16 + asic, 3), End(32 + asic, 3)), (End(16 + asic, 35), End(99, asic))):
            up = missing != (asic, a.port)
            for near, far in ((a, b), (b, a)):
                sweep.ports[near] = lane._replace(peer=far) if up else lane._replace(width=0, state=PortState.DOWN)
        sweep.ports[End(16 + asic, 149)] = lane
        sweep.counters[End(16 + asic, 3)] = {"symbol_error": asic}
    return sweep


def test_four_planes_are_one_cable() -> None:
    seen = locate(xdr())
    a, b, host = Port("leaf1", "3"), Port("leaf2", "3"), Port("gpu1", "mlx5_0")
    assert seen.links == {a: b, b: a, host: Port("leaf1", "35"), Port("leaf1", "35"): host}
    assert (seen.facts[a].width, seen.facts[a].width_supported, seen.facts[host].width) == (4, 4, 4)
    assert seen.counters[a] == {"symbol_error": 10}
    assert len(seen.chassis["leaf1"].guids) == 4 and seen.problems == [] and seen.unplaced == []
    assert {port.name for port in seen.facts if port.chassis == "leaf1"} == {
        "3", "35", "U1/149", "U2/149", "U3/149", "U4/149"
    }  # fmt: skip


@pytest.mark.parametrize("asic", [1, 2, 4])
def test_a_plane_that_is_down_is_a_narrower_link(asic: int) -> None:
    seen = locate(xdr(missing=(asic, 3)))
    facts = seen.facts[Port("leaf1", "3")]
    assert seen.links[Port("leaf1", "3")] == Port("leaf2", "3")
    assert (facts.width, facts.width_supported, facts.state) == (3, 4, PortState.ACTIVE)


def test_planes_that_lead_to_different_plugs_are_a_problem() -> None:
    sweep = xdr()
    for end, far in ((End(18, 3), End(34, 5)), (End(34, 5), End(18, 3))):
        sweep.ports[end] = sweep.ports[End(17, 3)]._replace(peer=far)
    del sweep.ports[End(34, 3)]
    assert KINDS.CONTRADICTION in kinds(locate(sweep))


NAMES = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["gpu-0001 mlx5_0", "leaf-r0-01", "localhost mlx5_0", "leaf-r0-01 U2", "MF0;leaf-r0-01:X/U2", "a\u202eb c1"]
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(NAMES, min_size=24, max_size=24), st.booleans(), st.data())
def test_no_description_loses_a_link(names: list[str], designed: bool, data: st.DataObject) -> None:
    """Whatever nodes call themselves: as many links by place as by GUID, all both ways, all with facts."""
    blueprint = fat_tree(4, 2, leaf_ports=8)
    sweep = sweep_of(blueprint)
    for guid, name in zip(list(sweep.nodes), names, strict=False):
        if data.draw(st.booleans()):
            rename(sweep, guid, name)
    seen = locate(sweep, blueprint if designed else None)
    assert all(seen.links[peer] == port for port, peer in seen.links.items())
    lost = sum(problem.kind is KINDS.DUPLICATE_PLACE and problem.guid is not None for problem in seen.problems)
    assert len(seen.links) == len(seen.facts) == len(sweep.ports) or lost
    assert all(str(port).isprintable() for port in seen.links)
    assert sum(len(chassis.guids) for chassis in seen.chassis.values()) == len(sweep.nodes)
