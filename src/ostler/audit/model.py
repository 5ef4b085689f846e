"""What the audit log holds. Built by `store.py`, read by `service.py`, `verification.py`, the API and the console."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ostler.audit.canonical import canonical
from ostler.audit.merkle import leaf_hash


@dataclass(frozen=True)
class Entry:
    """Something that was done. Sealed once it has a position: dense, from 1, the one order of the log."""

    id: str
    at: float
    """Domain time, UTC seconds."""
    actor: str
    action: str
    """`node.cordon`, `token.create`: what was done, as subject kind and verb."""
    subject: str
    reason: str
    request_id: str | None
    detail: Mapping[str, Any]
    position: int | None = None
    leaf: str | None = None
    """Hex of the Merkle leaf hash over `leaf_bytes`."""


def leaf_bytes(entry: Entry, position: int) -> bytes:
    """What the leaf of an entry is the hash of: everything the entry says, and its place. Version 1 of the form."""
    return canonical(
        {
            "v": 1,
            "position": position,
            "id": entry.id,
            "at": entry.at,
            "actor": entry.actor,
            "action": entry.action,
            "subject": entry.subject,
            "reason": entry.reason,
            "request_id": entry.request_id,
            "detail": entry.detail,
        }
    )


def leaf_of(entry: Entry, position: int) -> bytes:
    """The Merkle leaf hash of an entry at a position."""
    return leaf_hash(leaf_bytes(entry, position))


@dataclass(frozen=True)
class Head:
    """The tree after a sealing: so many leaves, this root (hex), at this domain time."""

    size: int
    root: str
    frontier: tuple[str, ...]
    at: float


@dataclass(frozen=True)
class Proof:
    """That the entry at `position` is in the tree of `size` leaves with this root (RFC 9162, 2.1.3). Hashes are hex."""

    position: int
    size: int
    leaf: str
    path: tuple[str, ...]
    root: str


@dataclass(frozen=True)
class Verdict:
    """What a verification found. `bad` is the first position that is not what it was; None if all is well."""

    size: int
    root: str
    bad: int | None = None
    why: str = ""
