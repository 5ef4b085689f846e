"""The sender's book-keeping: what to send next, and what became of what was sent. Called by `sender.py`.

One transaction does both: results in, new claims out, so that a busy sender pays for one commit per batch.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ostler.audit import service as audit
from ostler.core.actor import ostler
from ostler.db import lease
from ostler.db.tx import Tx
from ostler.events import ledger, policy, store
from ostler.events.model import Attempt, DeliveryState, Endpoint, Event, WebhookSettings
from ostler.events.policy import Answer
from ostler.events.service import publish

LEASE_MARGIN = 30.0
"""Real seconds that a claim outlives the longest try: for waiting in line and for the book-keeping."""

_ERROR_LIMIT = 300


@dataclass(frozen=True)
class Parcel:
    """A claimed delivery with all that is needed to send it."""

    claim: lease.Claim
    tries: int
    """Before this one."""
    event: Event
    endpoint: Endpoint


@dataclass(frozen=True)
class Result:
    parcel: Parcel
    at: float
    """Real time at which the try began."""
    answer: Answer


def anything_due(tx: Tx) -> bool:
    return bool(store.endpoints_with_work(tx))


def claim(
    tx: Tx, *, owner: str, settings: WebhookSettings, under_way: Mapping[str, int], rng: random.Random
) -> list[Parcel]:
    """Claim what is due, as far as the limits per endpoint and in all allow.

    `under_way` says how many tries this sender has at each endpoint. Endpoints take turns by chance, and none gets more
    than its own lanes: so one with a long backlog, or one that hangs, leaves the others theirs.
    """
    room = settings.in_flight - sum(under_way.values())
    if room <= 0:
        return []
    endpoints = store.endpoints_with_work(tx)
    rng.shuffle(endpoints)
    taken: list[tuple[lease.Claim, Endpoint]] = []
    for endpoint in endpoints:
        share = min(policy.lanes(endpoint, settings) - under_way.get(endpoint.id, 0), room)
        if share <= 0:
            continue
        claims = store.claim(tx, endpoint.id, owner=owner, seconds=settings.timeout_s + LEASE_MARGIN, limit=share)
        taken += [(held, endpoint) for held in claims]
        room -= len(claims)
        if room <= 0:
            break
    events = ledger.by_id(tx, {held.row["event_id"] for held, _ in taken})
    return [Parcel(held, held.row["tries"], events[held.row["event_id"]], endpoint) for held, endpoint in taken]


def settle(tx: Tx, results: Sequence[Result], *, settings: WebhookSettings, rng: random.Random) -> list[DeliveryState]:
    """Write down what the tries came to, each under its fence; what another sender has taken over is dropped.

    Returns the new states of those that counted.
    """
    if not results:
        return []
    held = store.still_held(tx, [result.parcel.claim for result in results])
    counted = [result for result in results if result.parcel.claim.key in held]
    if not counted:
        return []
    health = _count_failures(tx, counted)
    decided = [
        policy.after_try(
            result.answer,
            tries=result.parcel.tries + 1,
            endpoint=health[result.parcel.endpoint.id],
            settings=settings,
            real=tx.real,
            chance=rng.random(),
        )
        for result in counted
    ]
    rows = []
    finished: set[tuple[str, str]] = set()
    for result, after in zip(counted, decided, strict=True):
        row = result.parcel.claim.row
        settled = after.state is not DeliveryState.DUE
        rows.append(
            {
                "id": row["id"],
                "state": after.state.value,
                "tries": result.parcel.tries + 1,
                "due_at": row["due_at"] if after.due_at is None else after.due_at,
                "settled_at": tx.real if settled else None,
            }
        )
        if settled:
            finished.add((row["endpoint_id"], row["subject"]))
    store.settle(tx, rows)
    if finished:
        store.promote(tx, finished)
    store.insert_attempts(tx, [_attempt(result) for result in counted])
    for result, after in zip(counted, decided, strict=True):
        if after.disable is not None:
            _disable(tx, result.parcel.endpoint.id, after.disable)
    return [after.state for after in decided]


def give_back(tx: Tx, claims: Sequence[lease.Claim]) -> None:
    """Let go of claims without a result: the deliveries are due again at once."""
    if claims:
        store.release(tx, store.still_held(tx, claims))


def _count_failures(tx: Tx, results: Sequence[Result]) -> dict[str, Endpoint]:
    """Bring each endpoint's failures in a row up to date; returns the endpoints as they then are."""
    now: dict[str, Endpoint] = {}
    for endpoint_id in sorted({result.parcel.endpoint.id for result in results}):
        theirs = [result for result in results if result.parcel.endpoint.id == endpoint_id]
        failed = 0
        for result in theirs:
            failed = 0 if 200 <= result.answer.status < 300 else failed + 1
        succeeded = failed < len(theirs)
        known = theirs[0].parcel.endpoint
        if failed or known.failures or known.failing_since is not None:
            known = store.find_endpoint(tx, endpoint_id, lock=True) or known
            failures = failed if succeeded else known.failures + failed
            since = None if failures == 0 else (known.failing_since if not succeeded else None) or tx.real
            if (failures, since) != (known.failures, known.failing_since):
                store.update_endpoint(tx, endpoint_id, {"failures": failures, "failing_since": since})
            known = store.find_endpoint(tx, endpoint_id) or known
        now[endpoint_id] = known
    return now


def _disable(tx: Tx, endpoint_id: str, why: str) -> None:
    endpoint = store.find_endpoint(tx, endpoint_id, lock=True)
    if endpoint is None or not endpoint.enabled:
        return
    store.update_endpoint(tx, endpoint_id, {"enabled": False, "disabled_why": why})
    audit.record(tx, ostler("webhooks"), "webhook.disable", endpoint_id, reason=why)
    data = {"webhook_id": endpoint_id, "url": endpoint.url, "reason": why}
    publish(tx, "webhook.disabled", endpoint_id, data, tenant=endpoint.tenant)


def _attempt(result: Result) -> Attempt:
    return Attempt(
        delivery_id=result.parcel.claim.key,
        at=result.at,
        status=result.answer.status,
        milliseconds=result.answer.milliseconds,
        error=result.answer.error[:_ERROR_LIMIT],
    )
