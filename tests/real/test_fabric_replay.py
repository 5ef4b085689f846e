"""Recorded fabrics, loaded into the simulator and discovered by the real tools: every link is where the file has it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ostler.adapters.fabric.port import Want
from ostler.fabric import formats
from ostler.fabric.collect import evidence
from ostler.fabric.sweep import End, Sweep
from tests import fabric_lab
from tests.fabric_lab import FabricLab

FABRICS = {
    # Ends of links as the file has them: fewer would mean that the reader lost some before the comparison.
    "fdr10-144-hosts.ibnetdiscover": 384,
    "cs7500-dual-rail.ibnetdiscover.gz": 6_886,
    "selene-storage.ibnetdiscover.gz": 6_572,
    "selene-compute.ibnetdiscover.gz": 25_704,
}
"""Measured with ibsim 0.10, opensm 3.3.23 and infiniband-diags 44.0."""


def recorded(folder: Path, name: str) -> str:
    path = folder / "fabric" / name
    if not path.exists():
        pytest.skip(f"no recorded fabric at {path}")
    data = path.read_bytes()
    return (gzip.decompress(data) if name.endswith(".gz") else data).decode()


def links(sweep: Sweep) -> dict[End, End]:
    return {end: facts.peer for end, facts in sweep.ports.items() if facts.peer is not None}


@pytest.mark.parametrize("name", FABRICS)
def test_every_link_is_identical_after_a_real_discovery(name: str, real_data: Path, tmp_path: Path) -> None:
    fabric_lab.needed()
    text = recorded(real_data, name)
    [before] = formats.read(text.encode(), name)
    small = FABRICS[name] < 10_000
    with FabricLab(text, tmp_path, manager=small) as lab:
        # A subnet manager on the small ones, for its own list; a discovery by directed routes needs none.
        found = evidence(lab.collector(lab.hosts()[0], subnet_list=small).collect(Want()))
    assert found.topology.source == "ibnetdiscover-cache"
    assert len(links(found.topology)) == FABRICS[name]
    assert links(found.topology) == links(before)
    assert {guid: node.description for guid, node in found.topology.nodes.items()} == {
        guid: node.description for guid, node in before.nodes.items()
    }
    assert not [problem.message for problem in found.topology.problems if problem.hides]
    if small:
        [(who, listed)] = found.others
        assert who == "sm" and links(listed) == links(before)
