"""Lanes under every order of publications, tries, replays and takeovers: Hypothesis plays sender, receiver and clock."""

from __future__ import annotations

import random
from collections import defaultdict

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.schema import attempt, delivery, endpoint, event
from ostler.events import deliveries, endpoints, service, store
from ostler.events.deliveries import Parcel, Result
from ostler.events.model import Endpoint, WebhookSettings
from ostler.events.policy import Answer

MARA = Actor("person:mara")
SETTINGS = WebhookSettings(in_flight=6, in_flight_per_endpoint=4)
SUBJECTS = ("node_1", "node_2")


class Lanes(RuleBasedStateMachine):
    """What must hold whatever happens: one due per lane, nothing stuck, nothing overtaken, nothing lost."""

    db: Database
    clock: ManualClock

    @initialize()
    def begin(self) -> None:
        for table in (attempt, delivery, event, endpoint):
            self._empty(table)
        self.rng = random.Random(1)
        self.endpoints = [self._endpoint(name) for name in ("a", "b")]
        self.parcels: dict[str, list[Parcel]] = {"s1": [], "s2": []}
        self.published: dict[str, int] = defaultdict(int)
        self.sent: dict[tuple[str, str], list[int]] = defaultdict(list)
        self.replayed = False

    def _empty(self, table: sa.Table) -> None:
        self.db.write(lambda tx: tx.execute(table.delete()) and None)

    def _enable(self, name: str) -> None:
        self.db.write(lambda tx: endpoints.set_enabled(tx, name, True, actor=MARA))

    def _settle(self, results: list[Result]) -> None:
        self.db.write(lambda tx: deliveries.settle(tx, results, settings=SETTINGS, rng=self.rng))

    def _endpoint(self, name: str) -> str:
        made = Endpoint(name, f"https://{name}.example/", ("*",), None, "r", None, None, True, None, 0, None, 0.0)
        self.db.write(lambda tx: store.insert_endpoint(tx, made))
        return name

    @rule(subject=st.sampled_from(SUBJECTS), count=st.integers(1, 4))
    def publish(self, subject: str, count: int) -> None:
        for _ in range(count):
            self.db.write(lambda tx: service.publish(tx, "node.healthy", subject, {"node_id": subject}))
            self.published[subject] += 1

    @rule(sender=st.sampled_from(["s1", "s2"]))
    def claim(self, sender: str) -> None:
        under_way: dict[str, int] = defaultdict(int)
        for parcel in self.parcels[sender]:
            under_way[parcel.endpoint.id] += 1
        new = self.db.write(
            lambda tx: deliveries.claim(tx, owner=sender, settings=SETTINGS, under_way=under_way, rng=self.rng)
        )
        self.parcels[sender] += new
        assert len(self.parcels[sender]) <= SETTINGS.in_flight
        for parcel in new:
            self.sent[parcel.endpoint.id, parcel.event.subject].append(parcel.event.seq)

    @rule(
        sender=st.sampled_from(["s1", "s2"]),
        statuses=st.lists(st.sampled_from([200, 200, 200, 500, 0, 429]), min_size=1, max_size=6),
    )
    def settle(self, sender: str, statuses: list[int]) -> None:
        taken, self.parcels[sender] = self.parcels[sender][: len(statuses)], self.parcels[sender][len(statuses) :]
        results = [Result(p, self.clock.real(), Answer(s)) for p, s in zip(taken, statuses, strict=False)]
        self._settle(results)

    @rule(sender=st.sampled_from(["s1", "s2"]), rounds=st.integers(1, 4), good=st.booleans())
    def work(self, sender: str, rounds: int, good: bool) -> None:
        """A sender at its usual business: claim, send, settle, and again."""
        for _ in range(rounds):
            self.claim(sender)
            self.settle(sender, [200 if good else 500] * SETTINGS.in_flight)

    @rule(sender=st.sampled_from(["s1", "s2"]))
    def give_back(self, sender: str) -> None:
        taken, self.parcels[sender] = self.parcels[sender], []
        self.db.write(lambda tx: deliveries.give_back(tx, [parcel.claim for parcel in taken]))

    @rule(sender=st.sampled_from(["s1", "s2"]))
    def crash(self, sender: str) -> None:
        """kill -9: what was under way is forgotten here, and its lease runs out some day."""
        self.parcels[sender] = []

    @rule(seconds=st.sampled_from([1.0, 60.0, 4000.0, 90000.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(name=st.sampled_from(["a", "b"]), enabled=st.sampled_from([True, True, False]))
    def switch(self, name: str, enabled: bool) -> None:
        """Disabled, an endpoint gets nothing new; enabled again, what was open goes on."""
        self.db.write(lambda tx: endpoints.set_enabled(tx, name, enabled, actor=MARA))

    @rule(name=st.sampled_from(["a", "b"]))
    def replay(self, name: str) -> None:
        self._enable(name)
        if self.db.write(lambda tx: endpoints.replay(tx, name, actor=MARA)):
            self.replayed = True

    @invariant()
    def every_open_lane_has_exactly_one_due(self) -> None:
        rows = self.db.read(lambda tx: tx.all(sa.select(delivery).where(delivery.c.settled_at.is_(None))))
        lanes: dict[tuple[str, str], list[str]] = defaultdict(list)
        for row in rows:
            lanes[row["endpoint_id"], row["subject"]].append(row["state"])
        for lane, states in lanes.items():
            assert states.count("due") == 1, (lane, states)
            assert set(states) <= {"due", "queued"}

    @invariant()
    def nothing_is_overtaken(self) -> None:
        if not self.replayed:  # a replay sends old ones again, on purpose
            for lane, seqs in self.sent.items():
                assert seqs == sorted(seqs), lane

    def teardown(self) -> None:
        """Let everything that is open succeed: nothing may be left, and every event was sent at least once or died."""
        if not hasattr(self, "published"):
            return
        self.parcels = {"s1": [], "s2": []}
        for name in ("a", "b"):
            self._enable(name)
        for _ in range(1000):
            self.clock.advance(100_000)
            parcels = self.db.write(
                lambda tx: deliveries.claim(tx, owner="last", settings=SETTINGS, under_way={}, rng=self.rng)
            )
            if not parcels:
                break
            results = [Result(parcel, self.clock.real(), Answer(200)) for parcel in parcels]
            self._settle(results)
        left = sa.select(sa.func.count()).select_from(delivery).where(delivery.c.settled_at.is_(None))
        assert self.db.read(lambda tx: tx.scalar(left)) == 0


def test_lanes(db: Database, clock: ManualClock) -> None:
    class Machine(Lanes):
        pass

    Machine.db, Machine.clock = db, clock
    count = 60 if db.dialect == "sqlite" else 30
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=count, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
