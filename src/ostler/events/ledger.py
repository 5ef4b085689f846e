"""SQL of the event ledger. No decisions; called by `service.py` and `deliveries.py`."""

from __future__ import annotations

import sqlalchemy as sa

from ostler.db.schema import attempt, delivery, endpoint, event, event_floor
from ostler.db.tx import Tx
from ostler.events.model import Event


def next_seq(tx: Tx, subject: str) -> int:
    """The next number of a subject. The caller holds the subject's lock."""
    last = tx.scalar(sa.select(sa.func.max(event.c.seq)).where(event.c.subject == subject))
    return 1 if last is None else int(last) + 1


def insert(tx: Tx, made: Event) -> None:
    tx.execute(
        event.insert().values(
            id=made.id,
            type=made.type,
            version=made.version,
            subject=made.subject,
            seq=made.seq,
            tenant=made.tenant,
            data=dict(made.data),
            at=made.at,
        )
    )


def find(tx: Tx, event_id: str) -> Event | None:
    row = tx.one(sa.select(event).where(event.c.id == event_id))
    return None if row is None else _event(row)


def by_id(tx: Tx, event_ids: set[str]) -> dict[str, Event]:
    if not event_ids:
        return {}
    rows = tx.all(sa.select(event).where(event.c.id.in_(sorted(event_ids))))
    return {row["id"]: _event(row) for row in rows}


def sealed(
    tx: Tx, *, after: int, limit: int, types: list[str] | None, subject: str | None, tenant: str | None
) -> list[Event]:
    """Events with a position past `after`, in that order."""
    chosen = sa.select(event).where(event.c.position > after)
    if types is not None:
        chosen = chosen.where(event.c.type.in_(types))
    if subject is not None:
        chosen = chosen.where(event.c.subject == subject)
    if tenant is not None:
        chosen = chosen.where(event.c.tenant == tenant)
    return [_event(row) for row in tx.all(chosen.order_by(event.c.position).limit(limit))]


def last_position(tx: Tx) -> int:
    return int(tx.scalar(sa.select(sa.func.coalesce(sa.func.max(event.c.position), 0))))


def floor(tx: Tx) -> int:
    """The last position that retention has forgotten; 0 if none."""
    return int(tx.scalar(sa.select(sa.func.coalesce(sa.func.max(event_floor.c.position), 0))))


def forgettable(tx: Tx, before: float, limit: int) -> list[tuple[str, int]]:
    """(id, position) of old events that are not their subject's last and that no open delivery needs, lowest first."""
    later = event.alias("later")
    is_last = ~sa.exists().where(later.c.subject == event.c.subject, later.c.seq > event.c.seq)
    is_needed = sa.exists().where(
        delivery.c.event_id == event.c.id,
        delivery.c.settled_at.is_(None),
        delivery.c.endpoint_id == endpoint.c.id,
        endpoint.c.deleted_at.is_(None),
    )
    chosen = (
        sa.select(event.c.id, event.c.position)
        .where(event.c.position.is_not(None), event.c.at < before, ~is_last, ~is_needed)
        .order_by(event.c.position)
        .limit(limit)
    )
    return [(row["id"], row["position"]) for row in tx.all(chosen)]


def forget(tx: Tx, event_ids: list[str], floor_position: int) -> None:
    """Delete events with their settled deliveries and attempts, and raise the floor."""
    theirs = sa.select(delivery.c.id).where(delivery.c.event_id.in_(event_ids))
    tx.execute(attempt.delete().where(attempt.c.delivery_id.in_(theirs)))
    tx.execute(delivery.delete().where(delivery.c.event_id.in_(event_ids)))
    tx.execute(event.delete().where(event.c.id.in_(event_ids)))
    tx.execute(event_floor.delete())
    tx.execute(event_floor.insert().values(position=floor_position, at=tx.now))


def _event(row: sa.RowMapping) -> Event:
    return Event(
        id=row["id"],
        type=row["type"],
        version=row["version"],
        subject=row["subject"],
        seq=row["seq"],
        tenant=row["tenant"],
        data=row["data"],
        at=row["at"],
        position=row["position"],
    )
