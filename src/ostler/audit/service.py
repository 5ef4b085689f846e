"""Use cases of the audit log. `record` is called by every service that changes something, in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostler.audit import merkle, store
from ostler.audit.canonical import clean, clean_text
from ostler.audit.model import Entry, Head, Proof
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, NotFound, Unavailable
from ostler.core.ids import new_id
from ostler.db.tx import Tx

_NOTHING: Mapping[str, Any] = {}


def record(
    tx: Tx,
    actor: Actor,
    action: str,
    subject: str,
    *,
    reason: str = "",
    detail: Mapping[str, Any] = _NOTHING,
) -> None:
    """Write down that `actor` did `action` to `subject`. The sequencer gives it its place within a second.

    `action` is dotted, `kind.verb`: `node.cordon`. `detail` is plain JSON; it must hold no secret. Texts that no
    database can hold are replaced (`canonical.clean`).
    """
    store.insert(
        tx,
        Entry(
            id=new_id("audit"),
            at=tx.now,
            actor=clean_text(actor.name),
            action=action,
            subject=clean_text(subject),
            reason=clean_text(reason),
            request_id=None if actor.request_id is None else clean_text(actor.request_id),
            detail=clean(detail),
        ),
    )


def head(tx: Tx) -> Head:
    """The newest tree; the empty one before anything was sealed."""
    return store.head(tx) or Head(0, merkle.EMPTY.hex(), (), tx.now)


def entries(
    tx: Tx,
    *,
    after: str | None = None,
    limit: int = 100,
    subject: str | None = None,
    actor: str | None = None,
    action: str | None = None,
) -> list[Entry]:
    """Sealed entries in the log's order, from the first past the cursor `after` (a position; None: from the start)."""
    return store.sealed(tx, after=position_of(after), limit=limit, subject=subject, actor=actor, action=action)


def position_of(cursor: str | None) -> int:
    """The position a cursor names. Raises `BadInput`."""
    if cursor is None or cursor == "":
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise BadInput(f"'{cursor[:40]}' is no cursor; use the 'next' of an earlier answer.", where="after")
    return int(cursor)


def prove(tx: Tx, position: int, *, size: int | None = None) -> Proof:
    """That the entry at `position` is in the log of `size` entries (the newest head's, if None).

    Raises `NotFound` for a position or a size that the log has not reached.
    """
    newest = head(tx)
    size = newest.size if size is None else size
    if not 1 <= position <= size or size > newest.size:
        raise NotFound(f"The audit log has {newest.size} sealed entries; it has no position {position} of {size}.")
    path = merkle.inclusion_proof(position - 1, size, lambda level, number: _node(tx, level, number))
    leaf = _node(tx, 0, position - 1)
    return Proof(position, size, leaf.hex(), tuple(h.hex() for h in path), _root(tx, size, newest))


def prove_consistency(tx: Tx, old: int, new: int) -> tuple[str, ...]:
    """That the log of `new` entries only adds to the log of `old` entries: hashes in hex (RFC 9162, 2.1.4)."""
    newest = head(tx)
    if not 0 <= old <= new <= newest.size:
        raise NotFound(f"The audit log has {newest.size} sealed entries; {old} to {new} is no part of it.")
    path = merkle.consistency_proof(old, new, lambda level, number: _node(tx, level, number))
    return tuple(h.hex() for h in path)


def _root(tx: Tx, size: int, newest: Head) -> str:
    if size == newest.size:
        return newest.root
    hashes: list[bytes] = []
    start = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            hashes.append(_node(tx, level, start >> level))
            start += 1 << level
    frontier = merkle.Frontier(size, hashes)
    return frontier.root().hex()


def _node(tx: Tx, level: int, number: int) -> bytes:
    found = store.node(tx, level, number)
    if found is None:
        raise Unavailable(
            f"The audit log's tree lacks node {level}/{number}; run 'ostler audit verify' to see where it was changed."
        )
    return found
