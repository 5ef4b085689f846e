"""Use cases of webhook endpoints: register, change, test, replay, delete. Called by `webhooks_api.py` and the console.

Those that keep a secret touch the secret store before or after their transaction, never in it: `register`, `rotate` and
`delete` therefore take the database. A crash in between leaves a secret that no endpoint names, never the other way.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from ostler.audit import service as audit
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, NotFound, Refused
from ostler.core.ids import new_id
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.events import addresses, store
from ostler.events.catalogue import known
from ostler.events.model import Attempt, Delivery, DeliveryState, Endpoint, Secrets, WebhookSettings
from ostler.events.nudge import nudge
from ostler.events.service import publish_to

SECRET_LEAST, SECRET_MOST = 16, 256
"""Characters. 16 of a random alphabet are about 95 bits; Standard Webhooks asks for 24 bytes."""

URL_MOST = 2048

_PRINTABLE = re.compile(r"[\x21-\x7e]+")


def register(
    db: Database,
    secrets: Secrets,
    settings: WebhookSettings,
    *,
    url: str,
    events: Sequence[str],
    secret: str,
    tenant: str | None,
    actor: Actor,
) -> Endpoint:
    """Subscribe `url` to event types. Raises `BadInput` that says which part is wrong."""
    _check_url(url, settings)
    patterns = _check_events(events)
    _check_secret(secret)
    endpoint_id = new_id("webhook")
    ref = _new_ref(endpoint_id)
    secrets.put(ref, secret)

    def insert(tx: Tx) -> Endpoint:
        made = Endpoint(
            id=endpoint_id,
            url=url,
            events=patterns,
            tenant=tenant,
            secret_ref=ref,
            previous_secret_ref=None,
            previous_until=None,
            enabled=True,
            disabled_why=None,
            failures=0,
            failing_since=None,
            created_at=tx.real,
        )
        store.insert_endpoint(tx, made)
        detail = {"url": url, "events": list(patterns), "tenant": tenant}
        audit.record(tx, actor, "webhook.create", endpoint_id, detail=detail)
        return made

    try:
        return db.write(insert)
    except BaseException:
        secrets.delete(ref)
        raise


def rotate(
    db: Database,
    secrets: Secrets,
    settings: WebhookSettings,
    endpoint_id: str,
    *,
    secret: str,
    tenant: str | None,
    actor: Actor,
) -> Endpoint:
    """Sign with a new secret. The old one goes on signing beside it (`webhook-signature`) for the overlap."""
    _check_secret(secret)
    ref = _new_ref(endpoint_id)
    db.read(lambda tx: get(tx, endpoint_id, tenant=tenant))
    secrets.put(ref, secret)

    def change(tx: Tx) -> tuple[Endpoint, str | None]:
        found = get(tx, endpoint_id, tenant=tenant, lock=True)
        values = {
            "secret_ref": ref,
            "previous_secret_ref": found.secret_ref,
            "previous_until": tx.real + settings.rotation_overlap_s,
        }
        store.update_endpoint(tx, endpoint_id, values)
        audit.record(tx, actor, "webhook.rotate", endpoint_id)
        return get(tx, endpoint_id), found.previous_secret_ref

    try:
        changed, unused = db.write(change)
    except BaseException:
        secrets.delete(ref)
        raise
    if unused is not None:
        secrets.delete(unused)
    return changed


def delete(db: Database, secrets: Secrets, endpoint_id: str, *, tenant: str | None, actor: Actor) -> None:
    """Stop sending to an endpoint for good. Its delivery log stays until retention takes it. Raises `NotFound`."""

    def remove(tx: Tx) -> Endpoint:
        found = get(tx, endpoint_id, tenant=tenant, lock=True)
        store.update_endpoint(tx, endpoint_id, {"enabled": False, "deleted_at": tx.real})
        store.give_up_open(tx, endpoint_id)
        audit.record(tx, actor, "webhook.delete", endpoint_id, detail={"url": found.url})
        return found

    removed = db.write(remove)
    for ref in (removed.secret_ref, removed.previous_secret_ref):
        if ref is not None:
            secrets.delete(ref)


def get(tx: Tx, endpoint_id: str, *, tenant: str | None = None, lock: bool = False) -> Endpoint:
    """Raises `NotFound`, also for another tenant's."""
    found = store.find_endpoint(tx, endpoint_id, lock=lock)
    if found is None or (tenant is not None and found.tenant != tenant):
        raise NotFound(f"No webhook has the id '{endpoint_id[:64]}'; see 'ostler webhooks list'.")
    return found


def endpoints(tx: Tx, *, after: str | None = None, limit: int = 100, tenant: str | None = None) -> list[Endpoint]:
    return store.endpoint_page(tx, after=after, limit=limit, tenant=tenant)


def set_enabled(tx: Tx, endpoint_id: str, enabled: bool, *, tenant: str | None = None, actor: Actor) -> Endpoint:
    """Enable (what is still open is sent at once, with the failures forgotten) or disable an endpoint."""
    found = get(tx, endpoint_id, tenant=tenant, lock=True)
    if found.enabled == enabled:
        return found
    why = None if enabled else f"disabled by {actor.name}"
    values = {"enabled": enabled, "disabled_why": why, "failures": 0, "failing_since": None}
    store.update_endpoint(tx, endpoint_id, values)
    audit.record(tx, actor, "webhook.enable" if enabled else "webhook.disable", endpoint_id, detail={"url": found.url})
    tx.after_commit(nudge)
    return get(tx, endpoint_id)


def send_test(tx: Tx, endpoint_id: str, *, tenant: str | None = None, actor: Actor) -> tuple[str, str]:
    """Send a `webhook.test` event to this endpoint now. Returns the event's and the delivery's id.

    Raises `Refused` for a disabled endpoint, since nothing would be sent.
    """
    found = get(tx, endpoint_id, tenant=tenant)
    if not found.enabled:
        raise Refused(f"The webhook is disabled ({found.disabled_why}); enable it first.")
    audit.record(tx, actor, "webhook.test", endpoint_id)
    return publish_to(tx, "webhook.test", endpoint_id, {"webhook_id": endpoint_id}, endpoint_id=endpoint_id)


def replay(
    tx: Tx, endpoint_id: str, *, ids: Sequence[str] | None = None, tenant: str | None = None, actor: Actor
) -> int:
    """Send again: every dead delivery, or the settled ones of these ids. Returns how many (at most 10,000 a call)."""
    found = get(tx, endpoint_id, tenant=tenant)
    if not found.enabled:
        raise Refused(f"The webhook is disabled ({found.disabled_why}); enable it first.")
    settled = store.settled(tx, endpoint_id, ids=ids, limit=10_000)
    for delivery in settled:
        store.reopen(tx, delivery)
    if settled:
        audit.record(tx, actor, "webhook.replay", endpoint_id, detail={"deliveries": len(settled)})
        tx.after_commit(nudge)
    return len(settled)


def deliveries(
    tx: Tx,
    endpoint_id: str,
    *,
    before: str | None = None,
    limit: int = 100,
    state: DeliveryState | None = None,
    tenant: str | None = None,
) -> list[tuple[Delivery, list[Attempt]]]:
    """The delivery log, newest first, each with its tries."""
    get(tx, endpoint_id, tenant=tenant)
    found = store.deliveries(tx, endpoint_id, before=before, limit=limit, state=state)
    tries = store.attempts(tx, [delivery.id for delivery in found])
    return [(delivery, tries[delivery.id]) for delivery in found]


def _new_ref(endpoint_id: str) -> str:
    """A name in the secret store that is never used again, so that what it names never changes."""
    return f"{endpoint_id}.{new_id('secret')}"


def _check_url(url: str, settings: WebhookSettings) -> None:
    def wrong(why: str) -> BadInput:
        return BadInput(why, where="url")

    if len(url) > URL_MOST or not _PRINTABLE.fullmatch(url):
        raise wrong(f"A URL has at most {URL_MOST} visible ASCII characters; write other letters in punycode or %XX.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise wrong(f"This is no URL: {error}.") from None
    if parts.scheme not in ("https", "http") or not host or port == 0:
        raise wrong("A webhook's URL begins with https:// and names a host.")
    if parts.username is not None or parts.password is not None:
        raise wrong("A webhook's URL holds no user name or password; they would end up in logs.")
    if "\\" in url or parts.fragment:
        raise wrong("A webhook's URL holds no backslash and no #fragment.")
    allowed = addresses.networks(settings.allow_networks)
    if parts.scheme == "http" and not allowed:
        raise wrong("Use https; plain http is for networks listed in [webhooks] allow_networks, and none is.")
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return  # a name, or a spelling that only the connection will understand: the guard sits there
    why = addresses.closed(host, allowed)
    if why is not None:
        raise wrong(f"Webhooks may not go there: {why}.")


def _check_events(events: Sequence[str]) -> tuple[str, ...]:
    if not 1 <= len(events) <= 100:
        raise BadInput('Name 1 to 100 event types, or ["*"] for all.', where="events")
    for index, pattern in enumerate(events):
        if not known(pattern):
            raise BadInput(
                f"No event type is '{pattern[:60]}'; GET /v1/event-types lists them, 'node.*' means all of a kind.",
                where=f"events[{index}]",
            )
    return tuple(dict.fromkeys(events))


def _check_secret(secret: str) -> None:
    if not SECRET_LEAST <= len(secret) <= SECRET_MOST or not _PRINTABLE.fullmatch(secret):
        raise BadInput(
            f"A signing secret has {SECRET_LEAST} to {SECRET_MOST} visible ASCII characters and no spaces; "
            "'openssl rand -hex 32' makes a good one.",
            where="secret",
        )
