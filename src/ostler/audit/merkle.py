"""The Merkle tree of RFC 6962 section 2.1 (RFC 9162 section 2.1), grown leaf by leaf. Pure; used by `audit/` and the
CLI.

A leaf is hashed as SHA-256(0x00 ‖ data), an inner node as SHA-256(0x01 ‖ left ‖ right). The tree over n leaves splits
at the largest power of two below n. What is kept of a growing tree is its *frontier*: the hashes of its perfect
subtrees, largest first, one per one-bit of n. Proofs ask a callback for the hash of finished perfect subtrees, so they
read O(log² n) of them from wherever they are stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

EMPTY = hashlib.sha256(b"").digest()
"""The root of the tree without leaves."""

Node: TypeAlias = Callable[[int, int], bytes]
"""`node(level, number)`: the hash over leaves number·2^level up to (number+1)·2^level, all of which exist."""


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass
class Frontier:
    """A tree that only grows: its size and the roots of its perfect subtrees, largest first."""

    size: int = 0
    hashes: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ValueError(f"a tree of {self.size} leaves has {self.size.bit_count()} perfect subtrees")

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf hash. Returns the inner nodes this finished, as (level from 1, number from 0, hash)."""
        finished: list[tuple[int, int, bytes]] = []
        level, number, current = 0, self.size, leaf
        while number & 1:
            current = node_hash(self.hashes.pop(), current)
            level, number = level + 1, number >> 1
            finished.append((level, number, current))
        self.hashes.append(current)
        self.size += 1
        return finished

    def root(self) -> bytes:
        """The Merkle tree hash over all leaves so far."""
        if not self.hashes:
            return EMPTY
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over these leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """The audit path of leaf `index` (from 0) in the tree of `size` leaves (RFC 9162, 2.1.3.1)."""
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            path.append(_range_hash(split, end, node))
            end = split
        else:
            path.append(_range_hash(start, split, node))
            start = split
    path.reverse()
    return path


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """That the tree of `old` leaves is a prefix of the tree of `new` leaves (RFC 9162, 2.1.4.1)."""
    if not 0 <= old <= new:
        raise ValueError(f"{old} is no earlier size than {new}")
    if old in (0, new):
        return []
    path: list[bytes] = []
    start, end, whole = 0, new, True  # `whole`: the old tree, as far as it lies in start…end, is one the verifier knows
    while old != end:
        split = start + _split(end - start)
        if old <= split:
            path.append(_range_hash(split, end, node))
            end = split
        else:
            path.append(_range_hash(start, split, node))
            start, whole = split, False
    if not whole:
        path.append(_range_hash(start, end, node))
    path.reverse()
    return path


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether `path` proves that `leaf` is number `index` in the tree with this root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    number, last, current = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if number & 1 or number == last:
            current = node_hash(sibling, current)
            while number and not number & 1:
                number, last = number >> 1, last >> 1
        else:
            current = node_hash(current, sibling)
        number, last = number >> 1, last >> 1
    return last == 0 and current == root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether `path` proves that the new tree only adds leaves to the old one (RFC 9162, 2.1.4.2)."""
    if not 0 <= old <= new:
        return False
    if old == new:
        return not path and old_root == new_root
    if old == 0:
        return not path and old_root == EMPTY
    proof = list(path)
    if old & (old - 1) == 0:
        proof.insert(0, old_root)
    if not proof:
        return False
    number, last = old - 1, new - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    first = second = proof[0]
    for sibling in proof[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while number and not number & 1:
                number, last = number >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        number, last = number >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _split(count: int) -> int:
    """The largest power of two below `count`, which is at least 2."""
    return 1 << ((count - 1).bit_length() - 1)


def _range_hash(start: int, end: int, node: Node) -> bytes:
    """The tree hash over leaves start…end, a range that the splits of a whole tree can produce (start is aligned)."""
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, start >> level)
    split = start + _split(count)
    return node_hash(_range_hash(start, split, node), _range_hash(split, end, node))
