"""SQL for `adopt.py`: what the books know of many names, serial numbers, MACs and slots, in few statements."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import sqlalchemy as sa

from ostler.db.schema import condition, node, node_mac
from ostler.db.tx import Tx
from ostler.nodes.model import Condition, State

CHUNK = 1000
"""Values per statement; SQLite takes 32,766, PostgreSQL 65,535."""


@dataclass
class Books:
    """Names of the nodes that are known, by what they are known by. `held`: why a person has to look, by name."""

    names: set[str] = field(default_factory=set)
    serials: dict[str, str] = field(default_factory=dict)
    macs: dict[str, str] = field(default_factory=dict)
    slots: dict[str, str] = field(default_factory=dict)
    """Of those that stand there still: no retired ones."""
    held: dict[str, str] = field(default_factory=dict)


def books(
    tx: Tx, *, names: Collection[str], serials: Collection[str], macs: Collection[str], slots: Collection[str]
) -> Books:
    """What is known of these."""
    found = Books()
    for some in _chunks(names):
        rows = tx.all(
            sa.select(node.c.name, condition.c.message).select_from(_with_doubt()).where(node.c.name.in_(some))
        )
        found.names |= {row["name"] for row in rows}
        found.held |= {row["name"]: row["message"] for row in rows if row["message"]}
    for some in _chunks(serials):
        rows = tx.all(sa.select(node.c.serial, node.c.name).where(node.c.serial.in_(some)))
        found.serials |= {row["serial"]: row["name"] for row in rows}
    for some in _chunks(macs):
        owned = sa.select(node_mac.c.mac, node.c.name).join(node, node.c.id == node_mac.c.node_id)
        found.macs |= {row["mac"]: row["name"] for row in tx.all(owned.where(node_mac.c.mac.in_(some)))}
    for some in _chunks(slots):
        standing = sa.select(node.c.slot, node.c.name).where(node.c.slot.in_(some), node.c.state != State.RETIRED.value)
        found.slots |= {row["slot"]: row["name"] for row in tx.all(standing)}
    return found


def _with_doubt() -> sa.FromClause:
    doubted = sa.and_(
        condition.c.node_id == node.c.id,
        condition.c.type == Condition.HELD_FOR_PERSON.value,
        condition.c.reason == "identity",
        condition.c.until.is_(None),
    )
    return node.outerjoin(condition, doubted)


def _chunks(values: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(set(values))
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]
