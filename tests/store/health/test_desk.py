"""The agents' desk: heartbeats without a transaction, bulk flushes, orders, and acknowledgements that are true."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from ostler.core.errors import Unavailable
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.health import orders
from ostler.health.desk import AgentDesk
from ostler.health.model import Diagnosis
from ostler.nodes.model import Capability, Node
from ostler.wire.agent import OrderResult, Verdict
from tests.store.health.books import SETTINGS, XID48, Books

T = TypeVar("T")


class Counting(Database):
    """Counts its transactions, and can be out of order."""

    transactions = 0
    broken = False

    def write(self, use_case: Callable[[Tx], T]) -> T:
        self._count()
        return super().write(use_case)

    def read(self, query: Callable[[Tx], T]) -> T:
        self._count()
        return super().read(query)

    def _count(self) -> None:
        self.transactions += 1
        if self.broken:
            raise Unavailable("The disk is full.")


class Site:
    """A desk at such a database."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.db = Counting(books.db.url, books.clock)
        self.diagnosed: list[tuple[str, list[str]]] = []
        self.desk = self.open()

    def open(self) -> AgentDesk:
        return AgentDesk(self.db, SETTINGS, self._on_diagnoses)

    def _on_diagnoses(self, _tx: Tx, node_id: str, diagnoses: list[Diagnosis]) -> None:
        self.diagnosed.append((node_id, [one.fault for one in diagnoses]))


@pytest.fixture
def site(books: Books) -> Iterator[Site]:
    site = Site(books)
    yield site
    site.db.close()


def give(books: Books, node: Node, verb: str = "run-check") -> str:
    return books.db.write(lambda tx: orders.give(tx, node.id, verb, {"check": "x"}, deadline=tx.now + 60))


def test_heartbeats_cost_no_transaction_and_are_flushed_in_bulk(site: Site) -> None:
    books = site.books
    fleet = [books.add() for _ in range(5)]
    for node in fleet:
        site.desk.answer(node.id, books.report())
    before, entries = site.db.transactions, books.entries()
    site.db.transactions = 0
    books.clock.advance(30)
    for _ in range(20):
        for node in fleet:
            assert site.desk.answer(node.id, books.report(busy=True)).ack_seq == 0
    assert site.db.transactions == 0 < before
    assert site.desk.flush() == 5
    assert site.db.transactions == 1
    assert {(books.node(node).last_seen, books.node(node).busy) for node in fleet} == {(books.clock.now(), True)}
    assert books.entries() == entries
    assert site.desk.flush() == 0


def test_signals_are_durable_before_the_answer_and_reach_diagnosis(site: Site) -> None:
    node = site.books.add()
    assert site.desk.answer(node.id, site.books.report(XID48)).ack_seq == 1
    assert site.diagnosed == [(node.id, ["xid-48"])]
    site.db.broken = True
    with pytest.raises(Unavailable):
        site.desk.answer(node.id, site.books.report(XID48, first=2))
    site.db.broken = False
    assert site.desk.answer(node.id, site.books.report(first=2)).ack_seq == 1, "what failed was not acknowledged"


def test_a_desk_that_starts_anew_knows_what_is_held(site: Site) -> None:
    node = site.books.add()
    site.desk.answer(node.id, site.books.report(XID48, XID48, XID48))
    anew = site.open()
    for _ in range(2):
        assert anew.answer(node.id, site.books.report(first=4)).ack_seq == 3


def test_what_another_replica_acknowledged_is_true_here(site: Site) -> None:
    node, here, there = site.books.add(), site.desk, site.open()
    here.answer(node.id, site.books.report())
    there.answer(node.id, site.books.report(XID48, XID48))
    assert here.answer(node.id, site.books.report(first=3)).ack_seq == 2
    assert "signal-gap" not in site.books.active(node)


def test_signals_without_a_heartbeat_do_not_say_idle(site: Site) -> None:
    """The agent may send signals at once and its heartbeat later: a running job must not look over for it."""
    node = site.books.add()
    site.desk.answer(node.id, site.books.report(busy=True))
    site.desk.flush()
    site.desk.answer(node.id, site.books.report(XID48, heart=False))
    site.desk.flush()
    assert site.books.node(node).busy
    site.desk.answer(node.id, site.books.report(first=2, busy=None))
    site.desk.flush()
    assert site.books.node(node).busy, "an agent that cannot say says nothing"
    site.desk.answer(node.id, site.books.report(first=2, busy=True))
    site.desk.answer(node.id, site.books.report(first=2, busy=False))
    site.desk.flush()
    assert not site.books.node(node).busy


def test_what_could_not_be_flushed_is_kept(site: Site) -> None:
    node = site.books.add()
    site.desk.answer(node.id, site.books.report())
    site.desk.flush()
    site.books.clock.advance(30)
    site.desk.answer(node.id, site.books.report(busy=True))
    site.db.broken = True
    with pytest.raises(Unavailable):
        site.desk.flush()
    site.db.broken = False
    assert site.desk.flush() == 1
    assert (site.books.node(node).last_seen, site.books.node(node).busy) == (site.books.clock.now(), True)


def test_orders_go_out_with_every_answer_until_their_result_is_kept(site: Site) -> None:
    node, other = site.books.add(), site.books.add()
    for one in (node, other):
        site.desk.answer(one.id, site.books.report())
    order = give(site.books, node)
    site.desk.look_for_orders()
    for _ in range(2):
        assert [one.id for one in site.desk.answer(node.id, site.books.report()).orders] == [order]
    assert site.desk.answer(other.id, site.books.report()).orders == ()
    answer = site.desk.answer(node.id, site.books.report(results=(OrderResult(order, Verdict.PASSED),)))
    assert answer.orders == ()


def test_what_a_pool_grants_now_is_told_now(site: Site) -> None:
    node = site.books.add()
    assert site.desk.answer(node.id, site.books.report()).settings is not None
    site.books.grant()
    site.desk.look_for_orders()
    said = site.desk.answer(node.id, site.books.report()).settings
    assert said is not None and said.verbs == ("run-check",)
    site.books.grant(Capability.GPU_RESET)
    site.desk.look_for_orders()
    said = site.desk.answer(node.id, site.books.report()).settings
    assert said is not None and set(said.verbs) == {"run-check", "reset-gpu", "restart-service"}


def test_the_skew_is_told_and_a_former_boot_is_not_the_present(site: Site) -> None:
    node = site.books.add()
    assert site.desk.answer(node.id, site.books.report(skew=5.0)).clock_skew_s == pytest.approx(5.0)
    site.desk.answer(node.id, site.books.report(XID48, boot="boot-0", ended="reboot"))
    site.db.transactions = 0
    assert site.desk.answer(node.id, site.books.report()).ack_seq == 0
    assert site.db.transactions == 0, "boot-1 is still the known one"


def test_the_desk_runs_and_stops_with_everything_written(site: Site) -> None:
    node = site.books.add()
    site.desk.start()
    site.desk.answer(node.id, site.books.report(busy=True))
    site.desk.stop()
    assert site.books.node(node).busy
