"""What follows from a try: the whole schedule, Retry-After, 410, the breaker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.events.model import DeliveryState, Endpoint, Event, WebhookSettings
from ostler.events.policy import SCHEDULE, Answer, after_try, lanes, retry_after_seconds, subscribed

SETTINGS = WebhookSettings()
REAL = 1_800_000_000.0


def endpoint(
    *,
    failures: int = 0,
    failing_since: float | None = None,
    tenant: str | None = None,
    events: tuple[str, ...] = ("*",),
) -> Endpoint:
    return Endpoint(
        "webhook_1", "https://x.example/", events, tenant, "ref", None, None, True, None, failures, failing_since, REAL
    )


def event(type: str = "node.healthy", tenant: str | None = None) -> Event:
    return Event("event_1", type, 1, "node_1", 1, tenant, {}, REAL)


def decide(
    answer: Answer, tries: int = 1, chance: float = 0.5, failing_since: float | None = None
) -> tuple[str, float]:
    found = after_try(
        answer,
        tries=tries,
        endpoint=endpoint(failing_since=failing_since),
        settings=SETTINGS,
        real=REAL,
        chance=chance,
    )
    return found.state.value, 0.0 if found.due_at is None else found.due_at - REAL


def test_the_schedule_is_ten_tries_over_75_hours_35_minutes() -> None:
    assert len(SCHEDULE) == 9
    assert sum(SCHEDULE) == 75 * 3600 + 35 * 60 + 5


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_delivers(status: int) -> None:
    assert decide(Answer(status)) == ("delivered", 0.0)


@pytest.mark.parametrize("status", [0, 301, 302, 307, 308, 400, 401, 404, 429, 500, 503])
def test_all_else_is_tried_again(status: int) -> None:
    assert decide(Answer(status)) == ("due", 2.5)


def test_the_whole_schedule_with_full_jitter() -> None:
    for tries, most in enumerate(SCHEDULE, start=1):
        assert decide(Answer(500), tries, chance=1.0)[1] == pytest.approx(most)
        assert decide(Answer(500), tries, chance=0.0)[1] == 1.0
    assert decide(Answer(500), 10) == ("dead", 0.0)


@given(st.integers(1, 9), st.floats(0, 1, exclude_max=True))
def test_a_delay_lies_within_its_slot(tries: int, chance: float) -> None:
    state, delay = decide(Answer(0), tries, chance)
    assert state == "due"
    assert 1.0 <= delay <= max(1.0, SCHEDULE[tries - 1])


def test_retry_after_is_honoured_up_to_the_cap() -> None:
    assert decide(Answer(429, retry_after="120"))[1] == 120.0
    assert decide(Answer(503, retry_after="999999"))[1] == SETTINGS.retry_after_cap_s
    assert decide(Answer(500, retry_after="120"))[1] == 2.5
    assert decide(Answer(429, retry_after="1"), tries=4)[1] == SCHEDULE[3] * 0.5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        (" 7 ", 7.0),
        ("-1", None),
        ("1e3", None),
        ("٣", None),
        ("", None),
        ("9" * 50, None),
        ("soon", None),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 99 Jan 2027 08:01:00 GMT", None),
    ],
)
def test_retry_after_is_read_with_suspicion(text: str, seconds: float | None) -> None:
    assert retry_after_seconds(text, REAL) == seconds


@given(st.text(max_size=60))
def test_no_retry_after_raises(text: str) -> None:
    retry_after_seconds(text, REAL)


def test_410_ends_it_and_disables() -> None:
    found = after_try(Answer(410), tries=1, endpoint=endpoint(), settings=SETTINGS, real=REAL, chance=0.5)
    assert found.state is DeliveryState.DEAD
    assert found.disable is not None


@pytest.mark.parametrize(("days", "disabled"), [(4.9, False), (5.0, True)])
def test_long_failure_disables(days: float, disabled: bool) -> None:
    sick = endpoint(failing_since=REAL - days * 86400)
    found = after_try(Answer(500), tries=2, endpoint=sick, settings=SETTINGS, real=REAL, chance=0.5)
    assert (found.disable is not None) is disabled
    assert found.state is DeliveryState.DUE


def test_a_failing_endpoint_gets_one_try_at_a_time() -> None:
    assert lanes(endpoint(failures=4), SETTINGS) == SETTINGS.in_flight_per_endpoint
    assert lanes(endpoint(failures=5), SETTINGS) == 1


def test_subscriptions() -> None:
    assert subscribed(endpoint(events=("node.*",)), event())
    assert not subscribed(endpoint(events=("job.*", "node.unhealthy")), event())
    assert subscribed(endpoint(tenant="blue"), event(tenant="blue"))
    assert not subscribed(endpoint(tenant="blue"), event(tenant="red"))
    assert not subscribed(endpoint(tenant="blue"), event())
    assert subscribed(endpoint(), event(tenant="red"))
