"""A scheduler's nodes as rows to adopt: what is taken, what is left out, and what a person is told."""

from __future__ import annotations

import pytest

from ostler.adapters.cluster.fake import FakeCluster
from ostler.adapters.cluster.port import ClusterNode
from ostler.core.errors import BadInput
from ostler.nodes import adopt_cluster
from ostler.nodes.model import Pool


def test_what_the_scheduler_knows_is_taken_and_what_it_does_not_say_is_no_doubt() -> None:
    nodes = [
        ClusterNode("gpu-1", True, serial="SN1", uuid="u-1", sku="h100", slot="fra1/a/r7/u3", gpus=8),
        ClusterNode("gpu-2", True),
    ]
    first, second = adopt_cluster.rows_of(nodes, "train").rows
    assert (first.serial, first.uuid, first.sku, first.pool) == ("SN1", "u-1", "h100", "train")
    assert first.slot is not None and first.slot.domains == {"rack": "fra1/a/r7"}
    assert (second.serial, second.uuid, second.sku, second.slot) == (None, None, None, None)


@pytest.mark.parametrize(
    ("node", "taken", "note"),
    [
        (ClusterNode("gpu 1", True), False, "not taken in: its name is no host name"),
        (ClusterNode("gpu-0", True), False, "not taken in: its name stands twice in the cluster"),
        (ClusterNode("gpu-1", True, slot="rack 7"), True, "its slot 'rack 7' is no SITE/ROW/RACK/U"),
        (ClusterNode("gpu-1", True, cordoned_by_others="a\n\x1b[2Jb"), True, "others keep work off it: a [2Jb"),
        (ClusterNode("gpu-1", False), True, "its scheduler does not hear from it"),
    ],
)
def test_what_a_person_should_know_is_noted(node: ClusterNode, taken: bool, note: str) -> None:
    found = adopt_cluster.rows_of([ClusterNode("gpu-0", True), node], "default")
    assert found.notes == [(node.name, note)]
    assert [row.name for row in found.rows] == ["gpu-0", *([node.name] if taken else [])]


@pytest.mark.parametrize(
    ("pool", "says"),
    [
        (Pool("train", cluster="hpc"), ()),
        (Pool("train"), ('The pool train has no cluster yet: put cluster = "hpc" under [pools.train]',)),
        (Pool("train", cluster="k8s"), ("The pool train belongs to the cluster k8s: choose another --pool",)),
    ],
)
def test_the_pool_of_another_cluster_or_of_none_is_said(pool: Pool, says: tuple[str, ...]) -> None:
    found = adopt_cluster.advice(pool, "hpc")
    assert len(found) == len(says)
    assert all(line.startswith(start) for line, start in zip(found, says, strict=True))


def test_an_unknown_source_names_those_there_are() -> None:
    cluster = FakeCluster("hpc")
    assert adopt_cluster.source({"slurm:hpc": cluster}, "slurm:hpc") is cluster
    with pytest.raises(BadInput, match=r"^kubernetes:hpc: No such source; known are a CSV and the clusters slurm:hpc"):
        adopt_cluster.source({"slurm:hpc": cluster}, "kubernetes:hpc")
    with pytest.raises(BadInput, match=r"has no \[clusters.NAME\]"):
        adopt_cluster.source({}, "slurm:hpc")


def test_more_nodes_than_any_cluster_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopt_cluster, "MOST_NODES", 3)
    with pytest.raises(BadInput, match="more than 3 nodes"):
        adopt_cluster.rows_of((ClusterNode(f"gpu-{n}", True) for n in range(4)), "default")
