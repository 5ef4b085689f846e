"""SQL of endpoints, deliveries and attempts. No decisions; called by this feature's services.

A *lane* is one subject at one endpoint. Of a lane's open deliveries one is due and the others are queued behind it in
the order of `seq`; so what is claimed is found by one index and order needs no search. On PostgreSQL a publisher locks
the lane's last open delivery before it decides whether to queue, and the sender settles under the same row lock: so a
lane can be neither entered twice nor left stuck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ostler.core.ids import new_id
from ostler.db import lease
from ostler.db.schema import attempt, delivery, endpoint
from ostler.db.tx import Tx
from ostler.events.model import Attempt, Delivery, DeliveryState, Endpoint, Event

_OPEN = delivery.c.settled_at.is_(None)
_DUE = delivery.c.state == sa.literal_column("'due'")
_QUEUED = delivery.c.state == sa.literal_column("'queued'")


def insert_endpoint(tx: Tx, made: Endpoint) -> None:
    tx.execute(
        endpoint.insert().values(
            id=made.id,
            url=made.url,
            events=list(made.events),
            tenant=made.tenant,
            secret_ref=made.secret_ref,
            enabled=made.enabled,
            failures=made.failures,
            created_at=made.created_at,
        )
    )


def enabled_endpoints(tx: Tx) -> list[Endpoint]:
    rows = tx.all(sa.select(endpoint).where(endpoint.c.enabled, endpoint.c.deleted_at.is_(None)))
    return [_endpoint(row) for row in rows]


def endpoint_page(tx: Tx, *, after: str | None, limit: int, tenant: str | None) -> list[Endpoint]:
    chosen = sa.select(endpoint).where(endpoint.c.deleted_at.is_(None)).order_by(endpoint.c.id).limit(limit)
    if after is not None:
        chosen = chosen.where(endpoint.c.id > after)
    if tenant is not None:
        chosen = chosen.where(endpoint.c.tenant == tenant)
    return [_endpoint(row) for row in tx.all(chosen)]


def find_endpoint(tx: Tx, endpoint_id: str, *, lock: bool = False) -> Endpoint | None:
    chosen = sa.select(endpoint).where(endpoint.c.id == endpoint_id, endpoint.c.deleted_at.is_(None))
    if lock and tx.dialect == "postgresql":
        chosen = chosen.with_for_update()
    row = tx.one(chosen)
    return None if row is None else _endpoint(row)


def update_endpoint(tx: Tx, endpoint_id: str, values: Mapping[str, Any]) -> None:
    tx.execute(endpoint.update().where(endpoint.c.id == endpoint_id).values(**values))


def endpoints_with_work(tx: Tx) -> list[Endpoint]:
    """Enabled endpoints that something is due at and free to be claimed."""
    waiting = sa.exists().where(delivery.c.endpoint_id == endpoint.c.id, _claimable(tx.real))
    chosen = sa.select(endpoint).where(endpoint.c.enabled, endpoint.c.deleted_at.is_(None), waiting)
    return [_endpoint(row) for row in tx.all(chosen)]


def claim(tx: Tx, endpoint_id: str, *, owner: str, seconds: float, limit: int) -> list[lease.Claim]:
    due = sa.and_(delivery.c.endpoint_id == endpoint_id, _OPEN, _DUE, delivery.c.due_at <= tx.real)
    return lease.claim(tx, delivery, due, owner=owner, seconds=seconds, limit=limit, order=delivery.c.due_at)


def _claimable(real: float) -> sa.ColumnElement[bool]:
    free = sa.or_(delivery.c.lease_until.is_(None), delivery.c.lease_until < real)
    return sa.and_(_OPEN, _DUE, delivery.c.due_at <= real, free)


def enqueue(tx: Tx, endpoint_ids: Sequence[str], event: Event) -> list[str]:
    """Make an event due at endpoints, behind what is still open in each lane. Returns the deliveries' ids."""
    if not endpoint_ids:
        return []
    busy = _busy(tx, endpoint_ids, event.subject)
    rows = [
        {
            "id": new_id("delivery"),
            "event_id": event.id,
            "endpoint_id": endpoint_id,
            "subject": event.subject,
            "seq": event.seq,
            "state": _place(endpoint_id in busy),
            "tries": 0,
            "due_at": tx.real,
            "created_at": tx.real,
        }
        for endpoint_id in endpoint_ids
    ]
    tx.execute(delivery.insert(), rows)
    return [str(row["id"]) for row in rows]


def reopen(tx: Tx, found: Delivery) -> None:
    """Make a settled delivery due once more, from its first try, behind what is open in its lane."""
    busy = _busy(tx, [found.endpoint_id], found.subject)
    tx.execute(
        delivery.update()
        .where(delivery.c.id == found.id)
        .values(state=_place(found.endpoint_id in busy), tries=0, due_at=tx.real, settled_at=None)
    )


def _place(busy: bool) -> str:
    return DeliveryState.QUEUED.value if busy else DeliveryState.DUE.value


def _busy(tx: Tx, endpoint_ids: Sequence[str], subject: str) -> set[str]:
    """Which of the endpoints have something open about the subject. Each lane's last stays locked on PostgreSQL."""
    place = sa.func.row_number().over(partition_by=delivery.c.endpoint_id, order_by=delivery.c.seq.desc())
    lanes = sa.select(delivery.c.id, place.label("place")).where(
        delivery.c.endpoint_id.in_(endpoint_ids), delivery.c.subject == subject, _OPEN
    )
    ranked = lanes.subquery()
    last = sa.select(delivery.c.endpoint_id).where(
        delivery.c.id.in_(sa.select(ranked.c.id).where(ranked.c.place == 1)), _OPEN
    )
    if tx.dialect == "postgresql":
        # A row that is settled while we wait for its lock no longer fits _OPEN and is left out.
        last = last.order_by(delivery.c.id).with_for_update()
    return {row[0] for row in tx.execute(last)}


def still_held(tx: Tx, claims: Sequence[lease.Claim]) -> set[str]:
    """Keys of those claims that no other sender has taken over; their rows stay locked until the transaction ends."""
    chosen = sa.select(delivery.c.id, delivery.c.lease_owner, delivery.c.fence).where(
        delivery.c.id.in_([held.key for held in claims])
    )
    if tx.dialect == "postgresql":
        chosen = chosen.order_by(delivery.c.id).with_for_update()
    now = {row["id"]: (row["lease_owner"], row["fence"]) for row in tx.all(chosen)}
    return {held.key for held in claims if now.get(held.key) == (held.owner, held.fence)}


def settle(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what became of deliveries and let go of them: {"id", "state", "tries", "due_at", "settled_at"} each."""
    names = ("state", "tries", "due_at", "settled_at")
    statement = (
        delivery.update()
        .where(delivery.c.id == sa.bindparam("id_"))
        .values({name: sa.bindparam(f"{name}_") for name in names} | {"lease_owner": None, "lease_until": None})
    )
    tx.execute(statement, [{f"{name}_": row[name] for name in ("id", *names)} for row in rows])


def release(tx: Tx, keys: set[str]) -> None:
    tx.execute(delivery.update().where(delivery.c.id.in_(sorted(keys))).values(lease_owner=None, lease_until=None))


def promote(tx: Tx, lanes: set[tuple[str, str]]) -> None:
    """In each lane (endpoint, subject) that has nothing due, make the first queued delivery due."""
    other = delivery.alias("other")
    lane = sa.and_(
        delivery.c.endpoint_id == sa.bindparam("endpoint_"), delivery.c.subject == sa.bindparam("subject_"), _OPEN
    )
    first = sa.select(delivery.c.id).where(lane, _QUEUED).order_by(delivery.c.seq).limit(1).scalar_subquery()
    busy = sa.exists().where(
        other.c.endpoint_id == sa.bindparam("endpoint_"),
        other.c.subject == sa.bindparam("subject_"),
        other.c.settled_at.is_(None),
        other.c.state == sa.literal_column("'due'"),
    )
    statement = delivery.update().where(delivery.c.id == first, ~busy).values(state=DeliveryState.DUE.value)
    tx.execute(statement, [{"endpoint_": pair[0], "subject_": pair[1]} for pair in sorted(lanes)])


def insert_attempts(tx: Tx, rows: Sequence[Attempt]) -> None:
    tx.execute(
        attempt.insert(),
        [
            {
                "id": new_id("attempt"),
                "delivery_id": row.delivery_id,
                "at": row.at,
                "status": row.status,
                "milliseconds": row.milliseconds,
                "error": row.error,
            }
            for row in rows
        ],
    )


def give_up_open(tx: Tx, endpoint_id: str) -> None:
    """Everything open at an endpoint becomes dead, claimed or not: a claim's result will find its fence broken."""
    tx.execute(
        delivery.update()
        .where(delivery.c.endpoint_id == endpoint_id, _OPEN)
        .values(state=DeliveryState.DEAD.value, settled_at=tx.real, lease_owner=None, lease_until=None)
    )


def deliveries(
    tx: Tx, endpoint_id: str, *, before: str | None, limit: int, state: DeliveryState | None
) -> list[Delivery]:
    """An endpoint's deliveries, newest first, from the first older than the id `before`."""
    chosen = sa.select(delivery).where(delivery.c.endpoint_id == endpoint_id)
    if before is not None:
        chosen = chosen.where(delivery.c.id < before)
    if state is not None:
        chosen = chosen.where(delivery.c.state == state.value)
    return [delivery_of(row) for row in tx.all(chosen.order_by(delivery.c.id.desc()).limit(limit))]


def settled(tx: Tx, endpoint_id: str, *, ids: Sequence[str] | None, limit: int) -> list[Delivery]:
    """Deliveries that may be replayed, in the order of their lanes: the dead ones, or those of these ids."""
    chosen = sa.select(delivery).where(delivery.c.endpoint_id == endpoint_id, delivery.c.settled_at.is_not(None))
    if ids is None:
        chosen = chosen.where(delivery.c.state == DeliveryState.DEAD.value)
    else:
        chosen = chosen.where(delivery.c.id.in_(ids))
    rows = tx.all(chosen.order_by(delivery.c.subject, delivery.c.seq, delivery.c.id).limit(limit))
    return [delivery_of(row) for row in rows]


def attempts(tx: Tx, delivery_ids: Sequence[str]) -> dict[str, list[Attempt]]:
    found: dict[str, list[Attempt]] = {key: [] for key in delivery_ids}
    chosen = sa.select(attempt).where(attempt.c.delivery_id.in_(delivery_ids)).order_by(attempt.c.at, attempt.c.id)
    for row in tx.all(chosen):
        found[row["delivery_id"]].append(
            Attempt(row["delivery_id"], row["at"], row["status"], row["milliseconds"], row["error"])
        )
    return found


def _endpoint(row: sa.RowMapping) -> Endpoint:
    return Endpoint(
        id=row["id"],
        url=row["url"],
        events=tuple(row["events"]),
        tenant=row["tenant"],
        secret_ref=row["secret_ref"],
        previous_secret_ref=row["previous_secret_ref"],
        previous_until=row["previous_until"],
        enabled=row["enabled"],
        disabled_why=row["disabled_why"],
        failures=row["failures"],
        failing_since=row["failing_since"],
        created_at=row["created_at"],
    )


def delivery_of(row: sa.RowMapping) -> Delivery:
    return Delivery(
        id=row["id"],
        event_id=row["event_id"],
        endpoint_id=row["endpoint_id"],
        subject=row["subject"],
        seq=row["seq"],
        state=DeliveryState(row["state"]),
        tries=row["tries"],
        due_at=row["due_at"],
        created_at=row["created_at"],
        settled_at=row["settled_at"],
    )


def forget_attempts(tx: Tx, before: float, limit: int) -> int:
    """Retention: delete up to `limit` tries made before a moment (real time); returns how many."""
    old = [row[0] for row in tx.execute(sa.select(attempt.c.id).where(attempt.c.at < before).limit(limit))]
    if old:
        tx.execute(attempt.delete().where(attempt.c.id.in_(old)))
    return len(old)
