"""Use cases of the ledger.

`publish` is called by every service whose change the world should know, in its transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ostler.audit.canonical import clean, clean_text
from ostler.core.errors import BadInput, Gone, NotFound
from ostler.core.ids import new_id
from ostler.db.tx import Tx
from ostler.events import ledger, store
from ostler.events.catalogue import CATALOGUE, known, matches
from ostler.events.event_type import CatalogueMismatch
from ostler.events.model import Event
from ostler.events.nudge import nudge
from ostler.events.policy import subscribed


def publish(tx: Tx, type: str, subject: str, data: Mapping[str, Any], *, tenant: str | None = None) -> str:
    """Publish a fact about `subject` and return the event's id.

    The event gets the subject's next `seq`, and one delivery is due per enabled endpoint that wants it, all in this
    transaction. Raises `CatalogueMismatch` (a bug of the caller) for an unknown type or a payload that its catalogue
    entry does not allow.
    """
    made = _append(tx, type, subject, data, tenant)
    store.enqueue(tx, [endpoint.id for endpoint in store.enabled_endpoints(tx) if subscribed(endpoint, made)], made)
    return made.id


def publish_to(tx: Tx, type: str, subject: str, data: Mapping[str, Any], *, endpoint_id: str) -> tuple[str, str]:
    """Publish a fact that concerns one endpoint only (`webhook.test`). Returns the event's and the delivery's id."""
    made = _append(tx, type, subject, data, None)
    return made.id, store.enqueue(tx, [endpoint_id], made)[0]


def _append(tx: Tx, type: str, subject: str, data: Mapping[str, Any], tenant: str | None) -> Event:
    kind = CATALOGUE.get(type)
    if kind is None:
        raise CatalogueMismatch(f"'{type}' is not in events/catalogue.py")
    payload = clean(data)
    kind.check(payload)
    subject = clean_text(subject)
    # Whoever publishes about a subject waits for the one before: so `seq` has no gap and grows in the order of commits.
    tx.lock(f"event-subject:{subject}")
    made = Event(
        id=new_id("event"),
        type=type,
        version=kind.version,
        subject=subject,
        seq=ledger.next_seq(tx, subject),
        tenant=tenant,
        data=payload,
        at=tx.now,
    )
    ledger.insert(tx, made)
    tx.after_commit(nudge)
    return made


@dataclass(frozen=True)
class Page:
    """Part of the ledger. `cursor` is where to go on, now or any time later; `more` says that there is more already."""

    events: list[Event]
    cursor: str
    more: bool


def events(
    tx: Tx,
    *,
    after: str | None = None,
    limit: int = 100,
    type: str | None = None,
    subject: str | None = None,
    tenant: str | None = None,
) -> Page:
    """Sealed events in ledger order past the cursor `after` (None: from the earliest that is kept).

    `type` may be a pattern (`node.*`). A reader who goes on from `cursor` misses nothing and sees nothing twice. Raises
    `Gone` when retention has forgotten what lies past the cursor, `BadInput` for a cursor that was never given out.
    """
    head, floor = ledger.last_position(tx), ledger.floor(tx)
    start = floor if not after else _position(after, floor, head)
    types = None
    if type is not None:
        if not known(type):
            raise BadInput(f"No event type is '{type[:60]}'; GET /v1/event-types lists them.", where="type")
        types = [name for name in CATALOGUE if matches(type, name)]
    found = ledger.sealed(tx, after=start, limit=limit + 1, types=types, subject=subject, tenant=tenant)
    more = len(found) > limit
    found = found[:limit]
    # Everything up to `head` was looked at unless the page was full.
    position = found[-1].position if more else max(head, start)
    return Page(found, str(position), more)


def head_cursor(tx: Tx) -> str:
    """The cursor past everything that is sealed: what a reader of only new events starts from."""
    return str(ledger.last_position(tx))


def event(tx: Tx, event_id: str, *, tenant: str | None = None) -> Event:
    """One event, sealed or not. Raises `NotFound`, also for another tenant's."""
    found = ledger.find(tx, event_id)
    if found is None or (tenant is not None and found.tenant != tenant):
        raise NotFound(f"No event has the id '{event_id[:64]}'.")
    return found


def forget(tx: Tx, before: float, *, limit: int = 1000) -> int:
    """Retention: delete up to `limit` sealed events older than the domain time `before`; returns how many.

    A subject's last event stays, so that its `seq` goes on counting, and so does what an endpoint still waits for.
    """
    rows = ledger.forgettable(tx, before, limit)
    if rows:
        ledger.forget(tx, [row[0] for row in rows], max(ledger.floor(tx), *(row[1] for row in rows)))
    return len(rows)


def _position(cursor: str, floor: int, head: int) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise BadInput(f"'{cursor[:40]}' is no cursor; use the 'cursor' of an earlier answer.", where="after")
    position = int(cursor)
    if position > head:
        raise BadInput(
            f"The cursor {position} lies past the ledger's end ({head}). It is from another ledger, or this one was "
            "restored from a backup: read again from the start.",
            where="after",
        )
    if position < floor:
        raise Gone(
            f"The cursor {position} has expired: events up to {floor} were removed by retention. Leave 'after' out to "
            "read from the earliest that is kept.",
            where="after",
        )
    return position
