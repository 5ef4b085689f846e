"""The sender against a real receiver that verifies every request: delivery, retries, order, endings."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from ostler.core.clock import ManualClock
from ostler.core.errors import Refused
from ostler.db.engine import Database
from ostler.events import endpoints, service
from ostler.events.model import DeliveryState, WebhookSettings
from ostler.events.policy import SCHEDULE
from ostler.events.sender import Sender
from tests.flow.events.memory import LOOPBACK, MARA, SECRET, MemorySecrets, log_of, publish, states, subscribe
from tests.flow.events.receiver import Receiver, answer, failing_until, receiving

DELIVERED, DUE, DEAD = DeliveryState.DELIVERED, DeliveryState.DUE, DeliveryState.DEAD


@pytest.fixture
def secrets() -> MemorySecrets:
    return MemorySecrets()


@pytest.fixture
def receiver(clock: ManualClock) -> Iterator[Receiver]:
    with receiving(clock.real, SECRET) as made:
        yield made


@pytest.fixture
def sender(db: Database, secrets: MemorySecrets) -> Iterator[Sender]:
    made = Sender(db, secrets, LOOPBACK, "a", rng=random.Random(1))
    yield made
    made.stop()


def test_an_event_arrives_signed_once(db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender) -> None:
    endpoint = subscribe(db, secrets, receiver.url + "/", "node.*")
    (event_id,) = publish(db)
    db.write(lambda tx: service.publish(tx, "ticket.closed", "t", {"ticket_id": "t"}))
    assert sender.run_once() == [DELIVERED]
    assert sender.run_once() == []
    (event,) = receiver.got()
    assert (event.id, event.type, event.subject, event.seq) == (event_id, "node.healthy", "node_1", 1)
    assert event.data == {"node_id": "node_1"}
    assert receiver.refused == []
    (sent,) = receiver.headers
    assert sent["webhook-id"] == event_id
    assert sent["content-type"] == "application/json"
    assert "expect" not in sent
    assert "accept-encoding" not in sent
    ((delivery, (attempt,)),) = log_of(db, endpoint)
    assert (delivery.state, delivery.tries, attempt.status, attempt.error) == (DELIVERED, 1, 200, "")


def test_connections_are_kept(db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender) -> None:
    connections = set()

    def note(handler: BaseHTTPRequestHandler, number: int) -> None:
        connections.add(handler.client_address)
        answer(200)(handler, number)

    receiver.behaviours["/"] = note
    subscribe(db, secrets, receiver.url + "/")
    for _ in range(5):
        publish(db)
        sender.run_once()
    assert len(receiver.got()) == 5
    assert len(connections) == 1


def test_a_receiver_that_fails_and_recovers_gets_everything_in_order(
    db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender, clock: ManualClock
) -> None:
    receiver.behaviours["/"] = failing_until(4)
    endpoint = subscribe(db, secrets, receiver.url + "/")
    publish(db, count=3)
    assert sender.run_once() == [DUE]
    assert states(db, endpoint) == ["due", "queued", "queued"]
    assert sender.run_once() == []
    for seconds in SCHEDULE[:2]:
        clock.advance(seconds)
        assert sender.run_once() == [DUE]
    clock.advance(SCHEDULE[2])
    for _ in range(3):
        assert sender.run_once() == [DELIVERED]
    assert receiver.order() == [("node_1", 1)] * 4 + [("node_1", 2), ("node_1", 3)]
    assert states(db, endpoint) == ["delivered"] * 3
    now = db.read(lambda tx: endpoints.get(tx, endpoint.id))
    assert (now.failures, now.failing_since) == (0, None)


def test_one_stuck_subject_blocks_only_itself(
    db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender
) -> None:
    def refuse_node_1(handler: BaseHTTPRequestHandler, number: int) -> None:
        stuck = handler.headers["webhook-id"] == first
        answer(500 if stuck else 200)(handler, number)

    receiver.behaviours["/"] = refuse_node_1
    endpoint = subscribe(db, secrets, receiver.url + "/")
    (first,) = publish(db, "node_1")
    publish(db, "node_1")
    publish(db, "node_2", 2)
    while sender.run_once():
        pass
    assert states(db, endpoint) == ["due", "queued", "delivered", "delivered"]


def test_the_whole_schedule_ends_in_a_dead_letter_and_lets_the_next_go(
    db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender, clock: ManualClock
) -> None:
    receiver.behaviours["/"] = failing_until(11, status=500)
    endpoint = subscribe(db, secrets, receiver.url + "/")
    publish(db, count=2)
    for seconds in (*SCHEDULE, 0):
        assert states(db, endpoint) == ["due", "queued"]
        assert sender.run_once() == ([DUE] if seconds else [DEAD])
        clock.advance(seconds)
    assert sender.run_once() == [DELIVERED]
    assert states(db, endpoint) == ["dead", "delivered"]
    ((dead, tries), _) = log_of(db, endpoint)
    assert (dead.tries, len(tries), tries[0].error) == (10, 10, "HTTP 500")
    assert db.write(lambda tx: endpoints.replay(tx, endpoint.id, actor=MARA)) == 1
    assert sender.run_once() == [DELIVERED]
    assert receiver.order()[-2:] == [("node_1", 2), ("node_1", 1)]
    assert db.write(lambda tx: endpoints.replay(tx, endpoint.id, actor=MARA)) == 0


def test_410_disables_until_a_person_enables(
    db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender
) -> None:
    receiver.behaviours["/gone"] = answer(410)
    gone = subscribe(db, secrets, receiver.url + "/gone", "node.*")
    watcher = subscribe(db, secrets, receiver.url + "/watch", "webhook.*")
    publish(db, count=2)
    assert sender.run_once() == [DEAD]
    assert sender.run_once() == [DELIVERED]  # the operator event about it
    (told,) = receiver.got("/watch")
    assert (told.type, told.data["webhook_id"]) == ("webhook.disabled", gone.id)
    assert states(db, gone) == ["dead", "due"]
    publish(db)
    assert states(db, gone) == ["dead", "due"]  # nothing is queued for a disabled endpoint
    with pytest.raises(Refused):
        db.write(lambda tx: endpoints.replay(tx, gone.id, actor=MARA))
    with pytest.raises(Refused):
        db.write(lambda tx: endpoints.send_test(tx, gone.id, actor=MARA))
    receiver.behaviours["/gone"] = answer(200)
    db.write(lambda tx: endpoints.set_enabled(tx, gone.id, True, actor=MARA))
    assert sender.run_once() == [DELIVERED]
    assert db.read(lambda tx: endpoints.get(tx, gone.id)).disabled_why is None
    assert states(db, watcher) == ["delivered"]


def test_five_days_of_failure_disable(
    db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender, clock: ManualClock
) -> None:
    receiver.behaviours["/"] = answer(500)
    endpoint = subscribe(db, secrets, receiver.url + "/", "node.*")
    publish(db)
    sender.run_once()
    clock.advance(LOOPBACK.disable_after_s)
    sender.run_once()
    now = db.read(lambda tx: endpoints.get(tx, endpoint.id))
    assert not now.enabled
    assert "5 days" in (now.disabled_why or "")


def test_retry_after_is_honoured(
    db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender, clock: ManualClock
) -> None:
    receiver.behaviours["/"] = answer(429, {"Retry-After": "1800"})
    endpoint = subscribe(db, secrets, receiver.url + "/")
    publish(db)
    sender.run_once()
    ((delivery, _),) = log_of(db, endpoint)
    assert delivery.due_at == clock.real() + 1800


def test_a_hung_endpoint_costs_the_others_nothing(
    db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender
) -> None:
    release = threading.Event()

    def hang(handler: BaseHTTPRequestHandler, number: int) -> None:
        release.wait()
        answer(200)(handler, number)

    receiver.behaviours["/hung"] = hang
    subscribe(db, secrets, receiver.url + "/hung")
    subscribe(db, secrets, receiver.url + "/good")
    sender.start()
    for number in range(60):
        publish(db, f"node_{number}")
    receiver.wait_for(lambda: len(receiver.events.get("/good", [])) == 60)
    receiver.wait_for(lambda: receiver.requests["/hung"] == LOOPBACK.in_flight_per_endpoint)
    assert receiver.requests["/hung"] == LOOPBACK.in_flight_per_endpoint
    release.set()
    receiver.wait_for(lambda: len(receiver.events["/hung"]) == 60)
    assert len(set(receiver.order("/hung"))) == 60


def test_stopping_gives_back_what_was_under_way(
    db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender
) -> None:
    release = threading.Event()

    def hang(handler: BaseHTTPRequestHandler, _number: int) -> None:
        release.wait()
        handler.close_connection = True

    receiver.behaviours["/"] = hang
    endpoint = subscribe(db, secrets, receiver.url + "/")
    sender.start()
    publish(db)
    receiver.wait_for(lambda: receiver.requests["/"] == 1)
    sender.stop()
    release.set()
    receiver.behaviours["/"] = answer(200)
    successor = Sender(db, secrets, LOOPBACK, "b")
    assert successor.run_once() == [DELIVERED]
    successor.stop()
    assert states(db, endpoint) == ["delivered"]


def test_a_result_that_comes_after_the_lease_is_dropped(
    db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender, clock: ManualClock
) -> None:
    successor = Sender(db, secrets, LOOPBACK, "b")

    def overtake(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:  # while the first sender waits, its lease runs out and another delivers
            clock.advance(3600)
            assert successor.run_once() == [DELIVERED]
        answer(200 if number > 1 else 500)(handler, number)

    receiver.behaviours["/"] = overtake
    endpoint = subscribe(db, secrets, receiver.url + "/")
    publish(db)
    assert sender.run_once() == []
    successor.stop()
    ((delivery, tries),) = log_of(db, endpoint)
    assert (delivery.state, len(tries)) == (DELIVERED, 1)


def test_rotation_signs_with_both_for_a_while(
    db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender, clock: ManualClock
) -> None:
    endpoint = subscribe(db, secrets, receiver.url + "/")
    new = "another-secret-entirely"
    endpoints.rotate(db, secrets, LOOPBACK, endpoint.id, secret=new, tenant=None, actor=MARA)
    publish(db)
    sender.run_once()
    receiver.secret = new
    publish(db)
    sender.run_once()
    assert (len(receiver.got()), receiver.refused) == (2, [])
    clock.advance(LOOPBACK.rotation_overlap_s)
    receiver.secret = SECRET
    publish(db)
    sender.run_once()
    assert len(receiver.refused) == 1
    endpoints.rotate(db, secrets, LOOPBACK, endpoint.id, secret=SECRET, tenant=None, actor=MARA)
    assert sorted(secrets.kept.values()) == sorted([new, SECRET])


def test_a_test_event_goes_to_its_endpoint_only(
    db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender
) -> None:
    narrow = subscribe(db, secrets, receiver.url + "/narrow", "job.*")
    subscribe(db, secrets, receiver.url + "/all")
    event_id, delivery_id = db.write(lambda tx: endpoints.send_test(tx, narrow.id, actor=MARA))
    assert sender.run_once() == [DELIVERED]
    (event,) = receiver.got("/narrow")
    assert (event.id, event.type) == (event_id, "webhook.test")
    assert receiver.got("/all") == []
    assert log_of(db, narrow)[0][0].id == delivery_id


def test_a_deleted_endpoint_gets_nothing_and_its_secret_is_gone(
    db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender
) -> None:
    endpoint = subscribe(db, secrets, receiver.url + "/")
    publish(db)
    endpoints.delete(db, secrets, endpoint.id, tenant=None, actor=MARA)
    publish(db)
    assert sender.run_once() == []
    assert secrets.kept == {}
    assert receiver.requests == {}


def test_a_secret_that_cannot_be_read_is_a_failed_try(
    db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender
) -> None:
    endpoint = subscribe(db, secrets, receiver.url + "/")
    secrets.kept.clear()
    publish(db)
    assert sender.run_once() == [DUE]
    assert "signing secret" in log_of(db, endpoint)[0][1][0].error
    assert receiver.requests == {}


def test_tenants_get_their_own(db: Database, secrets: MemorySecrets, receiver: Receiver, sender: Sender) -> None:
    subscribe(db, secrets, receiver.url + "/blue", tenant="blue")
    subscribe(db, secrets, receiver.url + "/fleet")
    publish(db, "node_1", tenant="blue")
    publish(db, "node_2", tenant="red")
    publish(db, "node_3")
    while sender.run_once():
        pass
    assert receiver.order("/blue") == [("node_1", 1)]
    assert sorted(receiver.order("/fleet")) == [("node_1", 1), ("node_2", 1), ("node_3", 1)]


def test_two_senders_share_the_work_without_doubles_and_in_order(
    db: Database, secrets: MemorySecrets, receiver: Receiver
) -> None:
    subscribe(db, secrets, receiver.url + "/")
    senders = [Sender(db, secrets, LOOPBACK, name) for name in ("a", "b")]
    for made in senders:
        made.start()
    writers = [threading.Thread(target=publish, args=(db, f"node_{n % 4}", 15)) for n in range(8)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    receiver.wait_for(lambda: len(receiver.events.get("/", [])) >= 120)
    for made in senders:
        made.stop()
    order = receiver.order()
    assert len(order) == len(set(order)) == 120
    for subject in {pair[0] for pair in order}:
        assert [seq for s, seq in order if s == subject] == list(range(1, 31))
    assert receiver.refused == []


def test_a_failing_endpoint_is_only_probed(
    db: Database, secrets: MemorySecrets, receiver: Receiver, clock: ManualClock
) -> None:
    """After five failures in a row one try at a time, until one succeeds."""
    receiver.behaviours["/"] = failing_until(7)
    settings = dataclasses.replace(LOOPBACK, in_flight_per_endpoint=5)
    endpoint = subscribe(db, secrets, receiver.url + "/")
    sender = Sender(db, secrets, settings, "a", rng=random.Random(1))
    for number in range(20):
        publish(db, f"node_{number}")
    assert sender.run_once() == [DUE] * 5
    assert sender.run_once() == [DUE]
    assert sender.run_once() == [DELIVERED]
    assert sender.run_once() == [DELIVERED] * 5
    clock.advance(10)
    while sender.run_once():
        pass
    assert states(db, endpoint) == ["delivered"] * 20
    sender.stop()


def test_settings_bound_the_whole(db: Database, secrets: MemorySecrets, receiver: Receiver) -> None:
    settings = WebhookSettings(allow_networks=("127.0.0.1/32",), in_flight=3, in_flight_per_endpoint=2)
    for path in ("/a", "/b", "/c"):
        subscribe(db, secrets, receiver.url + path)
    for number in range(4):
        publish(db, f"node_{number}")
    sender = Sender(db, secrets, settings, "a")
    assert len(sender.run_once()) == 3
    sender.stop()
