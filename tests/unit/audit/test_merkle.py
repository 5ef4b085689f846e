"""The Merkle tree against published vectors and against the definition, written down naively."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.audit import merkle

LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
"""The test data of the reference implementation of RFC 6962 (google/certificate-transparency, merkle_tree_test)."""

ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
SECOND_OF_EIGHT = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
]
"""The audit path of the second leaf among eight."""


class Tree:
    """Leaves, and the nodes that a frontier finished over them: what the database keeps."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves
        self.frontier = merkle.Frontier()
        self.nodes: dict[tuple[int, int], bytes] = {}
        for number, leaf in enumerate(leaves):
            self.nodes[0, number] = leaf
            for level, index, value in self.frontier.append(leaf):
                self.nodes[level, index] = value

    def node(self, level: int, number: int) -> bytes:
        return self.nodes[level, number]


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def numbered(count: int) -> list[bytes]:
    return [merkle.leaf_hash(str(i).encode()) for i in range(count)]


def test_published_roots() -> None:
    assert [merkle.root_of(map(merkle.leaf_hash, LEAVES[: n + 1])).hex() for n in range(8)] == ROOTS
    assert merkle.root_of([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_published_path() -> None:
    tree = Tree([merkle.leaf_hash(leaf) for leaf in LEAVES])
    path = merkle.inclusion_proof(1, 8, tree.node)
    assert [h.hex() for h in path] == SECOND_OF_EIGHT
    assert merkle.verify_inclusion(tree.leaves[1], 1, 8, path, bytes.fromhex(ROOTS[7]))


@given(st.integers(0, 70))
def test_the_frontier_is_the_definition(count: int) -> None:
    leaves = numbered(count)
    assert Tree(leaves).frontier.root() == naive_root(leaves)


@given(st.integers(1, 70), st.data())
def test_every_inclusion_proof_holds_and_no_other(count: int, data: st.DataObject) -> None:
    tree = Tree(numbered(count))
    size = data.draw(st.integers(1, count))
    index = data.draw(st.integers(0, size - 1))
    root = naive_root(tree.leaves[:size])
    path = merkle.inclusion_proof(index, size, tree.node)
    assert merkle.verify_inclusion(tree.leaves[index], index, size, path, root)
    assert not merkle.verify_inclusion(b"\0" * 32, index, size, path, root)
    assert not merkle.verify_inclusion(tree.leaves[index], index, size, [*path, root], root)
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        assert not merkle.verify_inclusion(tree.leaves[index], other, size, path, root)
    if path:
        assert not merkle.verify_inclusion(tree.leaves[index], index, size, path[:-1], root)
        bent = [*path[:-1], bytes(b ^ 1 for b in path[-1])]
        assert not merkle.verify_inclusion(tree.leaves[index], index, size, bent, root)


@given(st.integers(0, 70), st.data())
def test_every_consistency_proof_holds_and_no_other(count: int, data: st.DataObject) -> None:
    tree = Tree(numbered(count))
    new = data.draw(st.integers(0, count))
    old = data.draw(st.integers(0, new))
    old_root, new_root = naive_root(tree.leaves[:old]), naive_root(tree.leaves[:new])
    path = merkle.consistency_proof(old, new, tree.node)
    assert merkle.verify_consistency(old, new, old_root, new_root, path)
    if 0 < old < new:
        rewritten = naive_root([merkle.leaf_hash(b"other"), *tree.leaves[1:new]])
        assert not merkle.verify_consistency(old, new, old_root, rewritten, path)
        assert not merkle.verify_consistency(old, new, b"\0" * 32, new_root, path)
        assert not merkle.verify_consistency(old, new, old_root, new_root, path[:-1])


def test_proofs_read_few_nodes() -> None:
    tree = Tree(numbered(1000))
    reads: list[tuple[int, int]] = []

    def node(level: int, number: int) -> bytes:
        reads.append((level, number))
        return tree.node(level, number)

    merkle.inclusion_proof(123, 1000, node)
    assert len(reads) < 20


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_no_proof_of_what_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        merkle.inclusion_proof(index, size, Tree(numbered(3)).node)


def test_a_frontier_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="perfect subtrees"):
        merkle.Frontier(3, [b"\0" * 32])
