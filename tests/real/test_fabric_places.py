"""Recorded fabrics by place: nothing is lost between a sweep and its snapshot, every HCA is somewhere or said not to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostler.fabric.formats import read
from ostler.fabric.model import ChassisKind, Port, Snapshot
from ostler.fabric.places.archive import pack, unpack
from ostler.fabric.places.difference import difference
from ostler.fabric.places.locate import locate
from ostler.fabric.sweep import End, NodeKind, Sweep

# file: (links by place, without SHARP; HCAs; lines in unplaced)
RECORDED = {
    "selene-compute.ibnetdiscover.gz": (12186, 3675, 0),
    "selene-storage.ibnetdiscover.gz": (3286, 1247, 1),
    "cs7500-dual-rail.ibnetdiscover.gz": (3269, 1470, 84),
    "fdr10-144-hosts.ibnetdiscover": (192, 144, 0),
    "newest-f-form.ibnetdiscover": (17, 10, 0),
}


def located(real_data: Path, name: str) -> tuple[Sweep, Snapshot]:
    path = real_data / "fabric" / name
    if not path.is_file():
        pytest.skip(f"no recorded fabric at {path}")
    (sweep,) = read(path.read_bytes(), name)
    return sweep, locate(sweep)


def cables(sweep: Sweep) -> set[frozenset[End]]:
    """By GUID, without those to aggregation nodes."""
    inside = {guid for guid, node in sweep.nodes.items() if "Aggregation Node" in node.description}
    return {
        frozenset((end, facts.peer))
        for end, facts in sweep.ports.items()
        if facts.peer is not None and not {end.guid, facts.peer.guid} & inside
    }


@pytest.mark.parametrize("name", RECORDED)
def test_nothing_is_lost(real_data: Path, name: str) -> None:
    sweep, seen = located(real_data, name)
    by_place = {frozenset((seen.ends[port], seen.ends[peer])) for port, peer in seen.links.items()}
    assert by_place == cables(sweep)
    assert all(seen.links[peer] == port for port, peer in seen.links.items())
    hcas = [
        guid
        for guid, node in sweep.nodes.items()
        if node.kind is NodeKind.HCA and "Aggregation Node" not in node.description
    ]
    in_chassis = {guid for one in seen.chassis.values() for guid in one.guids}
    assert in_chassis >= set(hcas)
    made_up = [guid for guid in sweep.nodes if f"0x{guid:016x}" in seen.chassis]
    assert len(made_up) == len(seen.unplaced)
    assert (len(by_place), len(hcas), len(seen.unplaced)) == RECORDED[name]


def test_selene_by_place(real_data: Path) -> None:
    _, seen = located(real_data, "selene-compute.ibnetdiscover.gz")
    assert Port("selene-cache-02", "mlx5_1") in seen.links
    assert seen.links[Port("MLG01-02", "39")] == Port("CSPINE1-80", "39")
    assert seen.chassis["MLG01-02"].model == "MQM8700"
    assert seen.monitor


def test_a_director_by_place(real_data: Path) -> None:
    """Its leaf modules keep their names; spine modules lead to them; bare switches have no name and are said to."""
    _, seen = located(real_data, "cs7500-dual-rail.ibnetdiscover.gz")
    core = seen.chassis["lassen-ibcore1-mgt1"]
    assert (core.kind, core.model, len(core.guids)) == (ChassisKind.SWITCH, "CS7500", 15 * 2 + 18)
    assert seen.links[Port("lassen-ibcore1-mgt1", "L11/U1/4")] == Port("0xec0d9a0300beecc0", "1")
    assert any("'SwitchIB Mellanox Technologies'" in line for line in seen.unplaced)


@pytest.mark.parametrize("name", RECORDED)
def test_archives_of_recorded_fabrics(real_data: Path, name: str) -> None:
    _, seen = located(real_data, name)
    back = unpack(pack(seen))
    assert back == seen and difference(seen, back) == []
