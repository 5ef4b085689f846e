"""Without a design: invented fabrics with one thing odd, and recorded ones, which have few oddities or none."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.diagnosis import diagnose
from ostler.fabric.formats import read
from ostler.fabric.model import Cause, CauseKind, ChassisKind, Port
from ostler.fabric.places.locate import locate
from tests.unit.fabric.diagnosis.worlds import World

REAL = Path(__file__).resolve().parents[5] / "shared" / "real" / "fabric"


def tree(hosts: int = 40, rails: int = 4) -> World:
    return World(fat_tree(hosts, rails, leaf_ports=40, hosts_per_unit=10, spines=5, trunks=2))


def causes(it: World) -> list[Cause]:
    found = diagnose(None, it.snapshot(states=False))
    assert (
        not found.designed
        and found.coverage.share == 1.0
        and found.coverage.chassis == len(it.blueprint.chassis) + len(it.more)
    )
    return list(found.causes)


def gpu(n: int, hca: int) -> Port:
    return Port(f"gpu-{n:04d}", f"mlx5_{hca}")


@pytest.mark.parametrize("rails", [1, 2, 4, 8])
def test_a_clean_tree_gives_no_line(rails: int) -> None:
    assert causes(tree(20, rails)) == []


def test_two_rails_of_one_host_exchanged() -> None:
    it = tree()
    it.swap(gpu(7, 1), gpu(7, 3))
    (cause,) = causes(it)
    assert cause.kind is CauseKind.RAIL and cause.where == ("gpu-0007",)
    assert "where 9 others have their mlx5_3" in cause.message
    assert cause.do == "Exchange the plugs in gpu-0007 mlx5_1 and gpu-0007 mlx5_3, unless their names are wrong."


def test_a_plug_on_the_wrong_rail() -> None:
    it = tree()
    it.plug(it.pull(Port("leaf-r2-01", "3")), Port("leaf-r0-01", "22"))
    (cause,) = causes(it)
    assert cause.kind is CauseKind.RAIL and gpu(3, 2) in cause.ports


def test_two_plugs_of_one_rail_exchanged_are_seen_by_their_numbers() -> None:
    it = tree()
    it.swap(Port("leaf-r2-01", "3"), Port("leaf-r2-01", "8"))
    (cause,) = causes(it)
    assert cause.kind is CauseKind.PORT_NUMBER
    assert cause.do.startswith("Exchange the plugs in leaf-r2-01 3") and "leaf-r2-01 8" in cause.do


def test_with_two_rails_it_is_not_known_which_is_wrong() -> None:
    it = tree(40, 2)
    it.swap(Port("leaf-r1-01", "3"), Port("leaf-r1-01", "8"))
    found = causes(it)
    assert [cause.kind for cause in found] == [CauseKind.PORT_NUMBER] * 2
    assert all("not known which" in cause.do for cause in found)


def test_a_plug_in_a_port_further_on() -> None:
    it = tree()
    it.plug(it.pull(Port("leaf-r2-01", "3")), Port("leaf-r2-01", "22"))
    (cause,) = causes(it)
    assert cause.kind is CauseKind.PORT_NUMBER and "in port 3" in cause.do


def test_a_trunk_out_and_a_trunk_elsewhere() -> None:
    it = tree()
    trunk = next(c for c in it.blueprint.cables if c.a.chassis == "leaf-r1-02" and c.b.chassis.startswith("spine"))
    it.pull(trunk.a)
    (cause,) = causes(it)
    assert cause.kind is CauseKind.TRUNK and cause.where == ("leaf-r1-02",)
    assert cause.message.startswith(f"leaf-r1-02 has 1 of 2 cables to {trunk.b.chassis}")


def test_no_cable_left_to_one_spine() -> None:
    it = tree()
    for cable in it.blueprint.cables:
        if cable.a.chassis == "leaf-r1-02" and cable.b.chassis == "spine-03":
            it.pull(cable.a)
    (cause,) = causes(it)
    assert "0 of 2 cables to spine-03" in cause.message


def test_a_fabric_built_otherwise_gives_no_lines() -> None:
    it = tree()
    for n in range(1, 41, 2):  # every other host has its rails the other way round, and its own numbers
        it.rotate([gpu(n, 0), gpu(n, 1), gpu(n, 2), gpu(n, 3)])
    assert causes(it) == []


def test_a_host_of_another_kind_is_not_measured_by_the_rest() -> None:
    it = tree()
    for hca in range(4):
        it.pull(gpu(7, hca))
    it.plug(gpu(7, 0), Port("leaf-r1-01", "7"))
    it.plug(gpu(7, 1), Port("leaf-r2-01", "7"))
    assert causes(it) == []


def test_trunks_without_a_rule_break_none() -> None:
    it = tree()
    for leaf in sorted({c.a.chassis for c in it.blueprint.cables if c.b.chassis == "spine-01"})[2::2]:
        it.pull(next(c.a for c in it.blueprint.by_chassis[leaf] if c.b.chassis == "spine-01"))
    assert causes(it) == []


def test_so_many_oddities_are_one_line() -> None:
    it = World(fat_tree(1280, 2))
    for n in range(1, 1281, 10):
        it.swap(gpu(n, 0), gpu(n, 1))
    (cause,) = causes(it)
    assert cause.kind is CauseKind.RAIL and "128 times" in cause.message and not cause.ticket


def test_gateways_are_no_hosts() -> None:
    it = tree()
    it.more["router"] = ChassisKind.OTHER
    it.plug(Port("router", "mlx5_3"), Port("leaf-r0-01", "22"))
    assert causes(it) == []


@pytest.mark.skipif(not REAL.is_dir(), reason="the recorded fabrics (../shared/real/fabric) are not here")
@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("selene-compute.ibnetdiscover.gz", {CauseKind.TRUNK: 28}),
        ("selene-storage.ibnetdiscover.gz", {CauseKind.TRUNK: 7}),
        ("cs7500-dual-rail.ibnetdiscover.gz", {CauseKind.TRUNK: 1}),
        ("fdr10-144-hosts.ibnetdiscover", {CauseKind.TRUNK: 1}),
        ("newest-f-form.ibnetdiscover", {}),
    ],
)
def test_recorded_fabrics_have_few_oddities(name: str, most: dict[CauseKind, int]) -> None:
    data = (REAL / name).read_bytes()
    sweep = read(gzip.decompress(data) if name.endswith(".gz") else data, name)[0]
    found = diagnose(None, locate(sweep))
    assert Counter(cause.kind for cause in found.causes) == most


@pytest.mark.skipif(not REAL.is_dir(), reason="the recorded fabrics (../shared/real/fabric) are not here")
def test_a_recorded_rail_swap_would_be_seen() -> None:
    """Selene with two HCAs of one host exchanged by hand."""
    data = gzip.decompress((REAL / "selene-compute.ibnetdiscover.gz").read_bytes())
    snapshot = locate(read(data, "selene")[0])
    host = next(box.name for box in snapshot.chassis.values() if box.kind is ChassisKind.HOST and len(box.guids) == 8)
    one, two = sorted(port for port in snapshot.links if port.chassis == host)[:2]
    here, there = snapshot.links[one], snapshot.links[two]
    snapshot.links.update({one: there, there: one, two: here, here: two})
    found = [cause for cause in diagnose(None, snapshot).causes if cause.kind is CauseKind.RAIL]
    assert [cause.where for cause in found] == [(host,)]


def test_in_a_small_fabric_one_exchange_is_seen_too() -> None:
    for hosts in (5, 8, 9):
        it = World(fat_tree(hosts, 4, leaf_ports=40, hosts_per_unit=10, spines=5, trunks=2))
        it.swap(gpu(1, 1), gpu(1, 3))
        assert [cause.kind for cause in causes(it)] == [CauseKind.RAIL], hosts
    it = World(fat_tree(8, 4, leaf_ports=40, hosts_per_unit=10, spines=5, trunks=2))  # four leaves
    it.pull(next(cable.a for cable in it.blueprint.cables if cable.role == "trunk"))
    assert [cause.kind for cause in causes(it)] == [CauseKind.TRUNK]


def test_a_hosts_plug_in_a_spine_does_not_silence_the_trunks() -> None:
    it = tree()
    it.pull(next(cable.a for cable in it.blueprint.cables if cable.role == "trunk"))
    it.plug(it.pull(gpu(3, 2)), Port("spine-01", "39"))
    assert CauseKind.TRUNK in [cause.kind for cause in causes(it)]
