"""One contract for every pager: a real Alertmanager, PagerDuty's Events API v2 as it is documented, and the fake."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ostler.adapters.pager.fake import FakePager
from ostler.adapters.pager.http import Alertmanager, DeadMan, PagerDuty
from ostler.adapters.pager.port import Page, Pager, Urgency
from ostler.core.errors import BadInput, Forbidden, Unavailable, Unreachable
from tests import alertmanager_server

PAGE = Page(
    "finding:fnd_1", Urgency.ERROR, "gpu-1: it fell off the bus", {"node": "gpu-1", "fault": "gpu-off-bus"}, 5.0
)


@dataclass
class Receiver:
    """A server that keeps what was posted, and answers as the test says."""

    url: str = ""
    status: int = 202
    answer: bytes = b'{"status":"success"}'
    bodies: list[Any] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(kept.status)
            self.send_header("Content-Length", str(len(kept.answer)))
            self.end_headers()
            self.wfile.write(kept.answer)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield kept
        server.shutdown()


@dataclass
class Subject:
    pager: Pager
    ringing: Callable[[], dict[str, tuple[str, str]]]
    """What rings there now: key → (urgency, summary)."""


@pytest.fixture(scope="session")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        with alertmanager_server.running(tmp_path_factory.mktemp("alertmanager")) as url:
            yield url
    except alertmanager_server.Absent as absent:
        if os.environ.get("CI"):
            pytest.fail(f"Alertmanager is needed here: {absent}")
        pytest.skip(str(absent))


@pytest.fixture(params=["fake", "alertmanager", "pagerduty"])
def subject(request: pytest.FixtureRequest, receiver: Receiver) -> Iterator[Subject]:
    if request.param == "fake":
        fake = FakePager()
        yield Subject(fake, lambda: {key: (page.urgency.value, page.summary) for key, page in fake.standing.items()})
    elif request.param == "alertmanager":
        url = request.getfixturevalue("alertmanager")
        real = Alertmanager(url, time.time)
        yield Subject(real, lambda: _alerts(url))
        real.close()
    else:
        duty = PagerDuty("R0UTING", url=f"{receiver.url}/v2/enqueue")
        yield Subject(duty, lambda: _duty(receiver.bodies))
        duty.close()


def _alerts(url: str) -> dict[str, tuple[str, str]]:
    with urllib.request.urlopen(f"{url}/api/v2/alerts?active=true", timeout=5) as answer:
        found = json.load(answer)
    return {
        one["labels"]["ostler_key"]: (one["labels"]["severity"], one["annotations"]["summary"])
        for one in found
        if one["status"]["state"] != "resolved"
    }


def _duty(bodies: list[Any]) -> dict[str, tuple[str, str]]:
    """What PagerDuty makes of it: a trigger opens or renews the alert of its dedup_key, a resolve ends it."""
    ringing: dict[str, tuple[str, str]] = {}
    for body in bodies:
        assert body["routing_key"] == "R0UTING"
        if body["event_action"] == "trigger":
            ringing[body["dedup_key"]] = (body["payload"]["severity"], body["payload"]["summary"])
        else:
            ringing.pop(body["dedup_key"], None)
    return ringing


def test_a_page_rings_until_it_is_over(subject: Subject, request: pytest.FixtureRequest) -> None:
    mine = replace(PAGE, key=f"finding:{request.node.name}")
    subject.pager.send([mine])
    subject.pager.send([mine])
    assert subject.ringing()[mine.key] == ("error", PAGE.summary)
    subject.pager.send([replace(mine, over=True)])
    assert mine.key not in subject.ringing()


def test_a_page_may_ring_again(subject: Subject, request: pytest.FixtureRequest) -> None:
    mine = replace(PAGE, key=f"finding:{request.node.name}")
    subject.pager.send([mine])
    subject.pager.send([replace(mine, over=True)])
    subject.pager.send([replace(mine, summary="again")])
    assert subject.ringing()[mine.key] == ("error", "again")


def test_many_pages_at_once(subject: Subject, request: pytest.FixtureRequest) -> None:
    mine = [replace(PAGE, key=f"{request.node.name}:{n}", labels={"node": f"gpu-{n}"}) for n in range(7)]
    subject.pager.send(mine)
    assert {page.key for page in mine} <= set(subject.ringing())


def test_pagerduty_gets_what_its_documentation_asks_for(receiver: Receiver) -> None:
    PagerDuty("R0UTING", url=receiver.url, client_url="https://ostler.example").send(
        [replace(PAGE, summary="x" * 2000)]
    )
    (event,) = receiver.bodies
    assert event["payload"] == {
        "summary": "x" * 1024,
        "source": "gpu-1",
        "severity": "error",
        "timestamp": "1970-01-01T00:00:05.000Z",
        "component": "",
        "custom_details": {"node": "gpu-1", "fault": "gpu-off-bus"},
    }
    assert (event["client"], event["client_url"]) == ("Ostler", "https://ostler.example")


@pytest.mark.parametrize(
    ("status", "error"), [(401, Forbidden), (429, Unavailable), (503, Unavailable), (400, BadInput), (302, BadInput)]
)
def test_a_refusal_is_told_apart(receiver: Receiver, status: int, error: type[Exception]) -> None:
    receiver.status, receiver.answer = status, b"bad\x1b[31m thing" + b"y" * 5000
    pagers: list[Pager] = [PagerDuty("R", url=receiver.url), Alertmanager(receiver.url, time.time)]
    for pager in pagers:
        with pytest.raises(error) as caught:
            pager.send([PAGE])
        assert len(str(caught.value)) < 400
    with pytest.raises(error):
        DeadMan(receiver.url).ping()


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        PagerDuty("R", url="http://127.0.0.1:1/").send([PAGE])
    with pytest.raises(Unreachable):
        DeadMan("http://127.0.0.1:1/").ping()
