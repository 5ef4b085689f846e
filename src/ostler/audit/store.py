"""SQL of the audit log, and of sealing rows of any append-only table in one dense order. No decisions.

Called by `service.py`, `sequencer.py` and `verification.py` only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.audit.merkle import Frontier
from ostler.audit.model import Entry, Head
from ostler.db.schema import audit, audit_head, audit_node
from ostler.db.tx import Tx


def insert(tx: Tx, entry: Entry) -> None:
    tx.execute(
        audit.insert().values(
            id=entry.id,
            at=entry.at,
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            reason=entry.reason,
            request_id=entry.request_id,
            detail=dict(entry.detail),
        )
    )


def any_unsealed(tx: Tx, table: sa.Table) -> bool:
    return bool(tx.scalar(sa.select(sa.exists().where(table.c.position.is_(None)))))


def last_position(tx: Tx, table: sa.Table) -> int:
    return int(tx.scalar(sa.select(sa.func.coalesce(sa.func.max(table.c.position), 0))))


def unsealed_entries(tx: Tx, limit: int) -> list[Entry]:
    """Rows that wait for a position, oldest first."""
    chosen = sa.select(audit).where(audit.c.position.is_(None)).order_by(audit.c.at, audit.c.id).limit(limit)
    return [_entry(row) for row in tx.all(chosen)]


def unsealed_in_subject_order(tx: Tx, table: sa.Table, limit: int) -> list[str]:
    """Ids of rows that wait for a position, oldest first, but never a row before an earlier one (`seq`) of its subject.

    Two transactions may give seq 1 and 2 and yet have begun the other way round; so each row counts as no older than
    its predecessors, which also keeps a limit from cutting between them.
    """
    no_older = sa.func.max(table.c.at).over(partition_by=table.c.subject, order_by=table.c.seq)
    waiting = sa.select(table.c.id, table.c.subject, table.c.seq, no_older.label("no_older")).where(
        table.c.position.is_(None)
    )
    rows = waiting.subquery()
    chosen = sa.select(rows.c.id).order_by(rows.c.no_older, rows.c.subject, rows.c.seq).limit(limit)
    return [row[0] for row in tx.execute(chosen)]


def seal(tx: Tx, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Write positions (and leaves, where the table has them): each row is {"row": id, "position": …, "leaf": …}."""
    values: dict[str, Any] = {"position": sa.bindparam("position_")}
    if "leaf" in table.c:
        values["leaf"] = sa.bindparam("leaf_")
    statement = table.update().where(table.c.id == sa.bindparam("row_")).values(**values)
    tx.execute(statement, [{f"{name}_": value for name, value in row.items()} for row in rows])


def insert_nodes(tx: Tx, nodes: Sequence[tuple[int, int, bytes]]) -> None:
    if nodes:
        tx.execute(
            audit_node.insert(),
            [{"level": level, "number": number, "hash": value.hex()} for level, number, value in nodes],
        )


def insert_head(tx: Tx, frontier: Frontier) -> None:
    tx.execute(
        audit_head.insert().values(
            size=frontier.size, root=frontier.root().hex(), frontier=[h.hex() for h in frontier.hashes], at=tx.now
        )
    )


def head(tx: Tx) -> Head | None:
    row = tx.one(sa.select(audit_head).order_by(audit_head.c.size.desc()).limit(1))
    return None if row is None else _head(row)


def heads(tx: Tx) -> Iterator[Head]:
    """Every head, smallest first."""
    for row in tx.execute(sa.select(audit_head).order_by(audit_head.c.size)).mappings():
        yield _head(row)


def head_at(tx: Tx, size: int) -> Head | None:
    row = tx.one(sa.select(audit_head).where(audit_head.c.size == size))
    return None if row is None else _head(row)


def node(tx: Tx, level: int, number: int) -> bytes | None:
    """The stored hash of a finished perfect subtree; level 0 is a leaf."""
    if level == 0:
        value = tx.scalar(sa.select(audit.c.leaf).where(audit.c.position == number + 1))
    else:
        value = tx.scalar(
            sa.select(audit_node.c.hash).where(audit_node.c.level == level, audit_node.c.number == number)
        )
    return None if value is None else bytes.fromhex(value)


def nodes(tx: Tx) -> Iterator[tuple[int, int, bytes]]:
    """Every stored inner node, in the order in which a growing tree finishes them."""
    finished_at = (audit_node.c.number + 1).op("<<")(audit_node.c.level)
    for row in tx.execute(sa.select(audit_node).order_by(finished_at, audit_node.c.level)).mappings():
        yield row["level"], row["number"], bytes.fromhex(row["hash"])


def entry_at(tx: Tx, position: int) -> Entry | None:
    row = tx.one(sa.select(audit).where(audit.c.position == position))
    return None if row is None else _entry(row)


def sealed(
    tx: Tx,
    *,
    after: int,
    limit: int,
    subject: str | None = None,
    actor: str | None = None,
    action: str | None = None,
) -> list[Entry]:
    """Sealed entries in order, from the first past `after`."""
    chosen = sa.select(audit).where(audit.c.position > after)
    for column, wanted in ((audit.c.subject, subject), (audit.c.actor, actor), (audit.c.action, action)):
        if wanted is not None:
            chosen = chosen.where(column == wanted)
    return [_entry(row) for row in tx.all(chosen.order_by(audit.c.position).limit(limit))]


def _entry(row: sa.RowMapping) -> Entry:
    return Entry(
        id=row["id"],
        at=row["at"],
        actor=row["actor"],
        action=row["action"],
        subject=row["subject"],
        reason=row["reason"],
        request_id=row["request_id"],
        detail=row["detail"],
        position=row["position"],
        leaf=row["leaf"],
    )


def _head(row: sa.RowMapping) -> Head:
    return Head(row["size"], row["root"], tuple(row["frontier"]), row["at"])
