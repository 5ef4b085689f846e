"""Alertmanager's v2 API, PagerDuty's Events API v2, and the dead-man ping, over one small HTTP client.

Alertmanager: POST /api/v2/alerts, prometheus/alertmanager api/v2/openapi.yaml. A firing alert lives until its `endsAt`,
so each is sent again well before that: if Ostler dies, its pages end and the dead-man's switch calls instead.
PagerDuty: POST https://events.pagerduty.com/v2/enqueue, one event per page; `dedup_key` makes repeats one alert.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx2

from ostler.adapters.pager.port import Page
from ostler.core.errors import BadInput, Forbidden, Unavailable, Unreachable

PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"
_TIMEOUT = httpx2.Timeout(10.0, connect=5.0)
_LIVES = 4
"""An alert ends so many repeats after it was last sent."""


class _Client:
    """One receiver; its answers' bodies are read no further than their first kilobytes."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._http = httpx2.Client(timeout=_TIMEOUT, follow_redirects=False, trust_env=False)

    def post(self, url: str, body: Any) -> None:
        try:
            with self._http.stream("POST", url, json=body) as answer:
                status, said = answer.status_code, _first(answer)
        except httpx2.InvalidURL:
            raise BadInput("This is no URL.", where=self._where) from None
        except httpx2.TransportError as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise Unreachable(f"It does not answer: {why}.", where=self._where) from None
        if status in (401, 403):
            raise Forbidden(f"It refuses these credentials (HTTP {status}).", where=self._where)
        if status == 429 or status >= 500:
            raise Unavailable(f"It is busy or broken (HTTP {status}): {said}", where=self._where)
        if not 200 <= status < 300:
            raise BadInput(f"It does not take this (HTTP {status}): {said}", where=self._where)

    def close(self) -> None:
        self._http.close()


def _first(answer: httpx2.Response) -> str:
    for chunk in answer.iter_bytes(1024):
        return " ".join(chunk.decode("utf-8", "replace").split())[:200]
    return ""


class Alertmanager:
    """`Pager` over one Alertmanager (or anything that takes its v2 API, Grafana's included)."""

    repeat_s = 60.0
    most_at_once = 500

    def __init__(self, url: str, real: Callable[[], float], *, generator: str = "") -> None:
        self._url = url.rstrip("/") + "/api/v2/alerts"
        self._name = f"alertmanager {url.rstrip('/')}"
        self._real = real
        self._generator = generator
        self._client = _Client(url)

    @property
    def name(self) -> str:
        return self._name

    def send(self, pages: Sequence[Page]) -> None:
        now = self._real()
        self._client.post(self._url, [self._alert(page, now) for page in pages])

    def close(self) -> None:
        self._client.close()

    def _alert(self, page: Page, now: float) -> dict[str, Any]:
        labels = {"alertname": "Ostler", "ostler_key": page.key, "severity": page.urgency.value, **page.labels}
        return {
            "labels": labels,
            "annotations": {"summary": page.summary},
            "startsAt": _rfc3339(min(page.since, now)),
            "endsAt": _rfc3339(now if page.over else now + _LIVES * self.repeat_s),
            **({"generatorURL": self._generator} if self._generator else {}),
        }


class PagerDuty:
    """`Pager` over PagerDuty's Events API v2, with one integration's routing key."""

    repeat_s = 0.0
    most_at_once = 1  # an event each, and some 120 a minute are taken

    def __init__(self, routing_key: str, *, url: str = PAGERDUTY_URL, client_url: str = "") -> None:
        self._key = routing_key
        self._url = url
        self._client_url = client_url
        self._client = _Client("pagerduty")

    @property
    def name(self) -> str:
        return "pagerduty"

    def send(self, pages: Sequence[Page]) -> None:
        for page in pages:
            self._client.post(self._url, self._event(page))

    def close(self) -> None:
        self._client.close()

    def _event(self, page: Page) -> dict[str, Any]:
        event: dict[str, Any] = {
            "routing_key": self._key,
            "event_action": "resolve" if page.over else "trigger",
            "dedup_key": page.key[:255],
        }
        if not page.over:
            event["client"] = "Ostler"
            event["payload"] = {
                "summary": page.summary[:1024],
                "source": page.labels.get("node") or page.labels.get("rack") or "ostler",
                "severity": page.urgency.value,
                "timestamp": _rfc3339(page.since),
                "component": page.labels.get("component", ""),
                "custom_details": dict(page.labels),
            }
            if self._client_url:
                event["client_url"] = self._client_url
        return event


class DeadMan:
    """Tells a service outside that Ostler is alive (healthchecks.io, Dead Man's Snitch, an Alertmanager's watchdog)."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = _Client("the dead-man's switch")

    def ping(self) -> None:
        """Raises as `Pager.send` does."""
        self._client.post(self._url, {"from": "ostler"})

    def close(self) -> None:
        self._client.close()


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(max(at, 0.0), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
