"""A certificate's life on a node: renewed in time, kept if renewing fails, given up only for a fresh seed."""

from __future__ import annotations

import hashlib
import http.client
import random
import select
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ostler.agent import keys
from ostler.agent.join import Identity, IdentityStore, join
from ostler.agent.keys import KeyRequest
from ostler.agent.renewal import RenewingTransport
from ostler.agent.validity import validity
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput, NotFound, OstlerError, Unauthenticated, Unavailable, Unreachable
from ostler.wire.agent import Heartbeat, Inventory, Report
from ostler.wire.boot import Seed
from tests.flow.agent.collector import Authority, Collector

REPORT = Report("boot-1", 0.0, 1, heartbeat=Heartbeat(1.0))
HOUR = 3600.0


class Joined:
    """A node that has joined, with a clock and a stop-watch of its own and a place for seeds."""

    def __init__(self, collector: Collector, folder: Path) -> None:
        self.collector = collector
        self.clock = ManualClock(time.time())
        self.store = IdentityStore(folder)
        self.seed: Seed | None = self.fresh_seed("token-1")
        self.started: list[RenewingTransport] = []
        self.transport = self.start(join(self.fresh_seed("token-1"), self.store, Inventory(), real=self.clock.real))

    def fresh_seed(self, token: str) -> Seed:
        authority = self.collector.authority
        return Seed(self.collector.url, token, "nonce", authority.sha256, authority.pem)

    def read_seed(self) -> Seed:
        if self.seed is None:
            raise NotFound("there is no seed")
        return self.seed

    def start(self, identity: Identity, make: KeyRequest | None = None) -> RenewingTransport:
        started = RenewingTransport(
            identity,
            self.store,
            real=self.clock.real,
            read_seed=self.read_seed,
            join=lambda seed: join(seed, self.store, Inventory(), real=self.clock.real),
            make=keys.make if make is None else lambda: make,
            ticks=self.clock.real,
            rng=random.Random(1),
        )
        self.started.append(started)
        return started

    @property
    def kept(self) -> Identity:
        found = self.store.load()
        assert found is not None
        return found

    def shown(self) -> str:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.kept.certificate_pem)).hexdigest()

    def report(self) -> OstlerError | None:
        try:
            self.transport.report(REPORT)
        except OstlerError as error:
            return error
        return None


@pytest.fixture
def node(collector: Collector, tmp_path: Path) -> Iterator[Joined]:
    """Its certificate lives from an hour ago to two hours from now: two thirds are over in an hour."""
    collector.memory.lives = [(-1, 2), (0, 30)]
    folder = tmp_path / "state"
    folder.mkdir()
    made = Joined(collector, folder)
    yield made
    for transport in made.started:
        transport.close()


def test_it_is_renewed_when_two_thirds_of_its_life_are_over(node: Joined) -> None:
    memory, before, first = node.collector.memory, node.kept, node.shown()
    node.clock.advance(HOUR - 60)
    assert node.report() is None
    assert memory.renewals == []
    node.clock.advance(60 + 0.05 * 3 * HOUR)
    assert node.report() is None
    assert memory.renewals == [first], "by the certificate it had"
    assert memory.certificates == [first, first], "the report went first"
    after = node.kept
    assert after.key_pem != before.key_pem
    assert (after.node_id, after.server, after.token_sha256) == (before.node_id, before.server, before.token_sha256)
    assert node.report() is None
    assert memory.certificates[-1] == node.shown() != first
    assert len(memory.renewals) == 1
    node.clock.advance(25 * HOUR)
    node.report()
    assert len(memory.renewals) == 2, "and the next one in its turn"


def test_nodes_that_booted_at_once_do_not_renew_at_once(node: Joined) -> None:
    begins, ends = validity(node.kept.certificate_pem)
    due = set()
    for number in range(50):
        transport = RenewingTransport(node.kept, node.store, real=node.clock.real, rng=random.Random(number))
        due.add(transport._renew_at)
    assert len(due) == 50
    assert all(2 / 3 <= (at - begins) / (ends - begins) <= 2 / 3 + 0.05 for at in due)


def test_a_renewal_that_fails_costs_nothing_but_another_try(node: Joined, caplog: pytest.LogCaptureFixture) -> None:
    memory, first = node.collector.memory, node.shown()
    memory.refuse_renewal = lambda: (503, "the database is busy")
    node.clock.advance(1.5 * HOUR)
    for _ in range(60):  # every 20 s, for 20 minutes
        assert node.report() is None
        node.clock.advance(20)
    assert 3 <= len(memory.renewals) <= 6, "after 1, 2, 4, 8 minutes with jitter"
    assert node.shown() == first
    said = [message for message in caplog.messages if "cannot be renewed" in message]
    assert len(said) == 1
    assert "the database is busy" in said[0] and "the present one is good until" in said[0]
    memory.refuse_renewal = lambda: None
    node.clock.advance(0.4 * HOUR)
    assert node.report() is None
    assert node.shown() != first


def test_a_lost_answer_locks_nobody_out(node: Joined) -> None:
    memory, first = node.collector.memory, node.shown()
    memory.deafen_renewal = lambda: True
    node.clock.advance(1.5 * HOUR)
    assert node.report() is None
    assert node.shown() == first
    assert node.report() is None, "the old one works on"
    memory.deafen_renewal = lambda: False
    node.clock.advance(120)
    assert node.report() is None
    assert set(memory.renewals) == {first}
    assert node.shown() != first


def test_a_certificate_that_does_not_work_never_replaces_one_that_does(node: Joined) -> None:
    crossed = KeyRequest(keys.make().key_pem, keys.make().csr_pem)
    node.transport = node.start(node.kept, make=crossed)
    first = node.shown()
    node.clock.advance(1.5 * HOUR)
    assert node.report() is None
    assert len(node.collector.memory.renewals) == 1
    assert node.shown() == first
    node.transport = node.start(node.kept)
    assert node.report() is None


def test_a_disk_that_is_full_keeps_the_old_pair_whole(node: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    before = node.kept
    node.clock.advance(1.5 * HOUR)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ostler.agent.join.os.fsync", full)
        assert node.report() is None
    assert len(node.collector.memory.renewals) == 1
    assert node.kept == before
    assert node.report() is None
    assert node.collector.memory.certificates[-1] == node.shown()


def test_no_key_can_be_made(node: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keys.make_apart().csr_pem.startswith("-----BEGIN CERTIFICATE REQUEST-----")
    for program in ("/nonexistent/python", "/bin/false", "/bin/echo"):
        monkeypatch.setattr("sys.executable", program)
        with pytest.raises(Unavailable, match="a key cannot be made"):
            keys.make_apart()


def test_a_clock_far_ahead_renews_once_an_hour_and_no_more(node: Joined) -> None:
    node.collector.memory.lives = []
    node.clock.advance(1.9 * HOUR)
    for _ in range(60):
        node.report()
    assert len(node.collector.memory.renewals) == 1


# When it is over ------------------------------------------------------------------------------------------------------


def expire(node: Joined, *, noticed: bool = True) -> None:
    """The certificate on the node has ended; `noticed` by its own clock."""
    node.collector.memory.lives = [(-3, -1)]
    ended = join(node.fresh_seed("token-1"), node.store, Inventory(), real=node.clock.real)
    if not noticed:
        node.clock.advance(-2 * HOUR)
    node.transport = node.start(ended)


@pytest.mark.parametrize(
    ("away", "noticed", "says"),
    [
        (True, True, "certificate ended at 20"),
        (False, True, "has expired by the server's clock"),
        (False, False, "has expired by the server's clock"),
    ],
)
def test_an_identity_that_ended_says_what_to_do(node: Joined, away: bool, noticed: bool, says: str) -> None:
    expire(node, noticed=noticed)
    before = len(node.collector.memory.joined)
    if away:
        node.collector.stop()
    for seed in (node.fresh_seed("token-1"), None):
        node.seed = seed
        error = node.report()
        assert isinstance(error, Unauthenticated)
        assert says in str(error)
        assert "boot this node again, or give it a fresh seed (ostler provision seed gpu-1) with --seed" in str(error)
        assert "\n" not in str(error)
    assert len(node.collector.memory.joined) == before, "a spent token is not sent again"


def test_a_server_that_hangs_up_first_is_heard_out(node: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    expire(node, noticed=False)
    send = http.client.HTTPSConnection.request

    def late(connection: http.client.HTTPSConnection, *arguments: Any, **named: Any) -> None:
        gone = select.poll()
        gone.register(connection.sock, select.POLLRDHUP)
        gone.poll()
        send(connection, *arguments, **named)

    monkeypatch.setattr(http.client.HTTPSConnection, "request", late)
    assert "has expired by the server's clock" in str(node.report())


@pytest.mark.parametrize("noticed", [True, False])
def test_a_fresh_seed_joins_again(node: Joined, noticed: bool) -> None:
    expire(node, noticed=noticed)
    ended = node.shown()
    assert isinstance(node.report(), Unauthenticated)
    node.collector.memory.token = "token-2"
    node.seed = node.fresh_seed("token-2")
    assert node.report() is None
    assert node.shown() != ended
    assert node.collector.memory.certificates[-1] == node.shown()
    assert node.report() is None


def test_a_revoked_identity_joins_again_with_a_fresh_seed(node: Joined) -> None:
    memory = node.collector.memory
    assert node.report() is None
    memory.refuse = lambda report: (401, "The client certificate was revoked; join again.")
    assert "was revoked" in str(node.report())
    memory.token = "token-2"
    node.seed = node.fresh_seed("token-2")
    node.report()
    assert memory.joined[-1].token == "token-2"
    memory.refuse = lambda report: None
    assert node.report() is None


def test_a_certificate_of_another_authority_is_named(node: Joined, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    certificate, key = Authority(folder, "other ca").issue("node")
    stranger = replace(node.kept, certificate_pem=certificate.read_text(), key_pem=key.read_text())
    node.transport = node.start(stranger)
    error = node.report()
    assert isinstance(error, Unauthenticated)
    assert "from another authority than the server's; boot this node again" in str(error)


def test_a_seed_that_is_refused_is_sent_once(node: Joined, caplog: pytest.LogCaptureFixture) -> None:
    expire(node)
    node.seed = node.fresh_seed("forged")
    tries: list[str] = []
    inner = node.transport._join
    assert inner is not None

    def counted(seed: Seed) -> Identity:
        tries.append(seed.token)
        return inner(seed)

    node.transport._join = counted
    for _ in range(3):
        assert isinstance(node.report(), Unauthenticated)
    assert tries == ["forged"]
    assert sum("the seed does not help" in message for message in caplog.messages) == 1


def test_a_fresh_seed_is_kept_while_the_server_is_away(node: Joined) -> None:
    expire(node)
    node.collector.memory.token = "token-2"
    node.seed = node.fresh_seed("token-2")
    node.collector.stop()
    assert isinstance(node.report(), Unreachable)
    node.collector.start()
    assert node.report() is None


def test_a_damaged_identity_is_one_line(node: Joined) -> None:
    for change in ({"key_pem": keys.make().key_pem}, {"certificate_pem": "nonsense"}, {"ca_pem": "nonsense"}):
        with pytest.raises(BadInput):
            node.start(replace(node.kept, **change))
    assert "PRIVATE KEY" not in repr(node.kept)
