"""Events, webhook endpoints, deliveries, attempts, and what the feature needs from outside.

Used throughout `events/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


@dataclass(frozen=True)
class Event:
    """A fact that Ostler publishes; append-only."""

    id: str
    type: str
    version: int
    """Of the type's payload schema; see `catalogue.py`."""
    subject: str
    seq: int
    """1, 2, 3, … per subject: a consumer sees gaps and order by it."""
    tenant: str | None
    data: Mapping[str, Any]
    at: float
    """Domain time, UTC seconds."""
    position: int | None = None
    """Its place in the ledger; None until sealed (within a second)."""


@dataclass(frozen=True)
class Endpoint:
    """A webhook subscription. Its secret is in the secret store, under `secret_ref`."""

    id: str
    url: str
    events: tuple[str, ...]
    """Types, `node.*` for all of a kind, `*` for all."""
    tenant: str | None
    secret_ref: str
    previous_secret_ref: str | None
    previous_until: float | None
    enabled: bool
    disabled_why: str | None
    failures: int
    """Failed tries in a row."""
    failing_since: float | None
    """Real time of the first of them."""
    created_at: float

    def secret_refs(self, real: float) -> tuple[str, ...]:
        """The secrets that sign at this real time, the current one first."""
        if self.previous_secret_ref is not None and self.previous_until is not None and real < self.previous_until:
            return self.secret_ref, self.previous_secret_ref
        return (self.secret_ref,)


class DeliveryState(StrEnum):
    QUEUED = "queued"
    """An earlier delivery to the same endpoint about the same subject is still open."""
    DUE = "due"
    DELIVERED = "delivered"
    DEAD = "dead"
    """Given up; can be replayed."""


@dataclass(frozen=True)
class Delivery:
    """An event due at an endpoint."""

    id: str
    event_id: str
    endpoint_id: str
    subject: str
    seq: int
    state: DeliveryState
    tries: int
    due_at: float
    """Real time of the next try."""
    created_at: float
    settled_at: float | None


@dataclass(frozen=True)
class Attempt:
    """One try. `status` is the HTTP status, 0 for no answer; `error` says what went wrong, for people."""

    delivery_id: str
    at: float
    status: int
    milliseconds: int
    error: str


class Secrets(Protocol):
    """Where signing secrets are kept, by name. The real one encrypts them with a key outside the database."""

    def put(self, name: str, value: str) -> None: ...

    def get(self, name: str) -> str: ...

    def delete(self, name: str) -> None: ...


@dataclass(frozen=True)
class WebhookSettings:
    """`[webhooks]` in ostler.toml. Seconds are real."""

    allow_networks: tuple[str, ...] = ()
    """Networks in CIDR form which webhooks may reach although they are private, e.g. `10.20.0.0/16`; plain http too."""
    timeout_s: float = 15.0
    """For one try as a whole, from name look-up to the last byte (Standard Webhooks: 15 to 30)."""
    connect_timeout_s: float = 5.0
    in_flight: int = 256
    """Tries under way at once, over all endpoints."""
    in_flight_per_endpoint: int = 16
    """Tries under way at once at one endpoint, so that a hung one costs the others nothing."""
    retry_after_cap_s: float = 3600.0
    """The longest wait that an endpoint's Retry-After can ask for."""
    disable_after_s: float = 5 * 86400.0
    """An endpoint that has only failed for so long is disabled."""
    rotation_overlap_s: float = 86400.0
    """How long the previous secret signs as well after a rotation."""
    ca_file: str | None = None
    """PEM file of certificate authorities to trust instead of the system's."""
    poll_s: float = 0.25
    """How often to look for what other replicas have published."""
