"""What follows from a try at an endpoint: pure.

Called by `deliveries.settle` with real time and a random number in [0, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from ostler.events.catalogue import matches
from ostler.events.model import DeliveryState, Endpoint, Event, WebhookSettings

SCHEDULE = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Real seconds before the 2nd, 3rd, … try: the schedule of Standard Webhooks 1.0.0 ("Deliverability and reliability"),
10 tries over at most 75 h 35 min."""

LEAST_DELAY = 1.0
"""Real seconds: full jitter may say 0, and an endpoint that fails deserves a breath."""

PROBE_AFTER = 5
"""After so many failures in a row an endpoint gets one try at a time until one succeeds (a half-open breaker)."""

_THROTTLED = {429, 502, 503, 504}
"""Standard Webhooks: the receiver asks to be spared."""


@dataclass(frozen=True)
class Answer:
    """How a try ended: the HTTP status (0: none), the receiver's Retry-After as it came, and what went wrong."""

    status: int
    milliseconds: int = 0
    error: str = ""
    retry_after: str | None = None


@dataclass(frozen=True)
class Next:
    """What becomes of a delivery. `due_at` is real time, for a state of DUE."""

    state: DeliveryState
    due_at: float | None = None
    disable: str | None = None
    """Why the endpoint is disabled by this."""


def after_try(
    answer: Answer, *, tries: int, endpoint: Endpoint, settings: WebhookSettings, real: float, chance: float
) -> Next:
    """Decide on a delivery that has now been tried `tries` times, this one included."""
    if 200 <= answer.status < 300:
        return Next(DeliveryState.DELIVERED)
    if answer.status == 410:
        return Next(DeliveryState.DEAD, disable="the receiver answered 410 Gone")
    disable = None
    if endpoint.failing_since is not None and real - endpoint.failing_since >= settings.disable_after_s:
        days = settings.disable_after_s / 86400
        disable = f"every try has failed for {days:g} days; the last: {answer.error or f'HTTP {answer.status}'}"
    if tries > len(SCHEDULE):
        return Next(DeliveryState.DEAD, disable=disable)
    delay = max(LEAST_DELAY, SCHEDULE[tries - 1] * chance)
    asked = retry_after_seconds(answer.retry_after, real) if answer.status in _THROTTLED else None
    if asked is not None:
        delay = max(delay, min(asked, settings.retry_after_cap_s))
    return Next(DeliveryState.DUE, due_at=real + delay, disable=disable)


def retry_after_seconds(value: str | None, real: float) -> float | None:
    """A Retry-After header in seconds from now (RFC 9110, 10.2.3: seconds or a date); None for what is neither."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - real)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def lanes(endpoint: Endpoint, settings: WebhookSettings) -> int:
    """How many tries may be under way at an endpoint."""
    return 1 if endpoint.failures >= PROBE_AFTER else settings.in_flight_per_endpoint


def subscribed(endpoint: Endpoint, event: Event) -> bool:
    """Whether the endpoint gets this event: the type matches, and a tenant's endpoint gets only what is that
    tenant's.
    """
    if endpoint.tenant is not None and endpoint.tenant != event.tenant:
        return False
    return covers(endpoint.events, event.type)


def covers(patterns: Sequence[str], event_type: str) -> bool:
    return any(matches(pattern, event_type) for pattern in patterns)
