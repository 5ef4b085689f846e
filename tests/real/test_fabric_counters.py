"""perfquery as infiniband_exporter recorded it on a real EDR and FDR fabric, one file a node, named by its GUID."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostler.core.errors import BadInput
from ostler.fabric.formats import perfquery, read
from ostler.fabric.formats.bind import bind
from ostler.fabric.links.judge import judge
from ostler.fabric.model import Port, Snapshot
from ostler.fabric.sweep import End


@pytest.fixture
def folder(real_data: Path) -> Path:
    folder = real_data / "fabric/perfquery"
    if not folder.is_dir():
        pytest.skip(f"no recorded perfquery outputs at {folder}")
    return folder


def test_every_recorded_port_is_named_by_its_file(folder: Path) -> None:
    found: dict[End, dict[str, int]] = {}
    for path in sorted(folder.glob("collectors_fixtures_perfquery_0x*.out")):
        if path.stat().st_size:
            (sweep,) = read(path.read_bytes(), path.name)
            assert sweep.source == "perfquery" and not sweep.problems
            found |= sweep.counters
    switch, adapter = 0x7CFE9003009CE5B0, 0x506B4B03005C2740
    assert set(found) == {
        End(switch, 1), End(switch, 2), End(adapter, 1), End(0x7CFE9003003B4B96, 1), End(0x7CFE9003003B4BDE, 1),
    }  # fmt: skip
    assert found[End(adapter, 1)]["port_xmit_data"] == 178791657177235
    assert found[End(adapter, 1)]["port_xmit_discards"] == 20046 and found[End(adapter, 1)]["link_downed"] == 1
    assert all(len(counters) == 17 for counters in found.values())


def test_details_of_receive_errors_are_no_counters(folder: Path) -> None:
    for path in folder.glob("*rcv-error*.out"):
        with pytest.raises(BadInput):
            perfquery.read(path.read_bytes(), path.name)


def test_the_lids_of_the_recorded_topology_find_the_same_ports(folder: Path) -> None:
    """The same exporter's ibnetdiscover fixture has those nodes: their LIDs lead to the GUIDs in the files' names."""
    (topology,) = read((folder.parent / "collectors_fixtures_ibnetdiscover_test.out").read_bytes(), "test.out")
    named = read((folder / "collectors_fixtures_perfquery_0x7cfe9003009ce5b0.out").read_bytes(), "0x7cfe9003009ce5b0")
    unnamed = read((folder / "collectors_fixtures_perfquery_0x7cfe9003009ce5b0.out").read_bytes(), "out")
    assert bind(unnamed[0], topology).counters == named[0].counters


def test_old_counts_convict_nobody(folder: Path) -> None:
    """20,046 discards and a LinkDowned from before we looked."""
    path = folder / "collectors_fixtures_perfquery_0x506b4b03005c2740.out"
    (sweep,) = read(path.read_bytes(), path.name)
    port = Port("node", "mlx5_0")
    counters = {port: next(iter(sweep.counters.values()))}
    before, after = (Snapshot("perfquery", taken_at=at, counters=counters) for at in (0.0, 900.0))
    assert judge(after, before) == ([], []) and judge(after) == ([], [])
