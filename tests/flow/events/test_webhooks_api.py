"""Webhooks and the ledger over real HTTP, from subscription to a verified delivery, and the stream."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput, Gone, NotFound, OstlerError, Refused
from ostler.db.engine import Database
from ostler.events import service
from tests.flow.access.serving import ADMIN, Served, serving
from tests.flow.events.memory import SECRET, publish
from tests.flow.events.receiver import Receiver, answer, receiving


@pytest.fixture
def served(db: Database, tmp_path: Path) -> Iterator[Served]:
    with serving(db, tmp_path) as made:
        yield made


@pytest.fixture
def receiver(clock: ManualClock) -> Iterator[Receiver]:
    with receiving(clock.real, SECRET) as made:
        yield made


def test_from_subscription_to_a_verified_delivery(served: Served, receiver: Receiver, tmp_path: Path) -> None:
    client = served.client()
    hook = client.post("/v1/webhooks", {"url": receiver.url + "/", "events": ["node.healthy"], "secret": SECRET})
    assert hook["id"].startswith("webhook_")
    assert SECRET not in repr([hook, client.get("/v1/webhooks"), client.get(f"/v1/webhooks/{hook['id']}")])
    publish(served.db)
    test = client.post(f"/v1/webhooks/{hook['id']}/test")
    served.sender.run_once()
    assert sorted(event.type for event in receiver.got()) == ["node.healthy", "webhook.test"]
    assert receiver.refused == []
    log = client.get(f"/v1/webhooks/{hook['id']}/deliveries")["items"]
    assert log[0]["id"] == test["delivery_id"]
    assert {item["state"] for item in log} == {"delivered"}
    assert [item["attempts"][0]["status"] for item in log] == [200, 200]
    client.delete(f"/v1/webhooks/{hook['id']}")
    with pytest.raises(NotFound):
        client.get(f"/v1/webhooks/{hook['id']}")
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET.encode() not in stored


def test_disable_enable_and_replay(served: Served, receiver: Receiver) -> None:
    client = served.client()
    receiver.behaviours["/"] = answer(410)
    hook = client.post("/v1/webhooks", {"url": receiver.url + "/", "events": ["node.*"], "secret": SECRET})
    path = f"/v1/webhooks/{hook['id']}"
    publish(served.db)
    served.sender.run_once()
    assert client.get(path)["disabled_why"] == "the receiver answered 410 Gone"
    with pytest.raises(Refused, match="410"):
        client.post(f"{path}/test")
    receiver.behaviours.clear()
    assert client.patch(path, {"enabled": True})["enabled"] is True
    assert client.post(f"{path}/replay") == {"replayed": 1}
    served.sender.run_once()
    assert [item["state"] for item in client.get(f"{path}/deliveries")["items"]] == ["delivered"]
    again = client.get(f"{path}/deliveries", state="delivered")["items"][0]["id"]
    assert client.post(f"{path}/replay", {"deliveries": [again, "delivery_x"]}) == {"replayed": 1}
    assert client.get(f"{path}/deliveries", state="dead")["items"] == []
    with pytest.raises(BadInput, match="no state"):
        client.get(f"{path}/deliveries", state="lost")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"url": "ftp://x"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": None}, "url"),
        ({"events": []}, "events"),
        ({"events": ["node.unhappy"]}, "events[0]"),
        ({"events": ["*", "gpu.*"]}, "events[1]"),
        ({"events": "*"}, "events"),
        ({"secret": "short"}, "secret"),
        ({"secret": "with a space in it"}, "secret"),
        ({"secret": "x" * 257}, "secret"),
        ({"enabled": True}, "enabled"),
    ],
)
def test_bad_subscriptions_are_told_where(served: Served, change: dict[str, object], where: str) -> None:
    body = {"url": "https://hooks.example/", "events": ["*"], "secret": SECRET, **change}
    with pytest.raises(BadInput) as caught:
        served.client().post("/v1/webhooks", body)
    assert where in str(caught.value)
    assert SECRET not in str(caught.value)
    assert served.client().get("/v1/webhooks")["items"] == []


def test_the_ledger(served: Served, clock: ManualClock) -> None:
    client = served.client()
    for number in range(5):
        publish(served.db, f"node_{number}")
    assert client.get("/v1/events")["items"] == []
    served.seal()
    first = client.get("/v1/events", limit=2)
    assert [item["position"] for item in first["items"]] == [1, 2]
    assert first["next"] == first["cursor"] == "2"
    rest = client.get("/v1/events", after=first["next"])
    assert (rest["next"], rest["cursor"], len(rest["items"])) == (None, "5", 3)
    assert client.get(f"/v1/events/{first['items'][0]['id']}") == first["items"][0]
    with pytest.raises(NotFound):
        client.get("/v1/events/event_x")
    for bad in ("x", "6"):
        with pytest.raises(BadInput):
            client.get("/v1/events", after=bad)
    publish(served.db, "node_0")
    served.seal()
    clock.advance(10)
    served.db.write(lambda tx: service.forget(tx, clock.now()))
    with pytest.raises(Gone):
        client.get("/v1/events", after="0")
    with pytest.raises(OstlerError):
        client.get("/v1/events", limit=1001)


def test_event_types_carry_their_schemas(served: Served) -> None:
    types = {item["type"]: item for item in served.client().get("/v1/event-types")["items"]}
    schema = types["node.unhealthy"]["payload_schema"]
    assert schema["required"] == ["node_id", "reason", "gpu_count"]
    assert schema["additionalProperties"] is False


def test_the_stream_resumes_where_it_was(served: Served) -> None:
    publish(served.db, "node_1", 2)
    served.seal()

    @contextmanager
    def connect(headers: dict[str, str], query: str = "") -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=30)
        try:
            connection.request(
                "GET", f"/v1/events/stream{query}", headers={"Authorization": f"Bearer {ADMIN}", **headers}
            )
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()

    def next_event(stream: http.client.HTTPResponse) -> dict[str, str]:
        found: dict[str, str] = {}
        while True:
            line = stream.readline().decode().rstrip("\n")
            if line:
                name, _, value = line.partition(": ")
                found[name] = value
            elif "data" in found:
                return found
            else:
                found = {}

    with connect({"Last-Event-ID": "1"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        event = next_event(stream)
        assert (event["id"], event["event"]) == ("2", "node.healthy")
        publish(served.db, "node_2")
        served.seal()
        assert next_event(stream)["id"] == "3"
    with connect({}, "?after=0&subject=node_2") as stream:
        assert '"subject": "node_2"' in next_event(stream)["data"]
    for headers in ({"Last-Event-ID": "x"}, {"Last-Event-ID": "99"}):
        with connect(headers) as refused:
            assert refused.status == 422
