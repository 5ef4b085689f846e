"""Orders to agents on both databases: given once, answered once, by the node they were given to, or inconclusive."""

from __future__ import annotations

import sqlalchemy as sa

from ostler.db.schema import job
from ostler.health import orders
from ostler.jobs import store as jobs
from ostler.nodes.model import Node
from ostler.wire.agent import OrderResult, Verdict
from tests.store.health.books import Books


def give(books: Books, node: Node, wake_key: str | None = None) -> str:
    return books.db.write(
        lambda tx: orders.give(tx, node.id, "run-check", {"check": "x"}, deadline=tx.now + 60, wake_key=wake_key)
    )


def settle(books: Books, node: Node, order: str, verdict: Verdict = Verdict.PASSED) -> None:
    result = OrderResult(order, verdict, f"it {verdict}", {"gib": 4})
    books.db.write(lambda tx: orders.settle(tx, node.id, [result]))


def outcome(books: Books, order: str) -> orders.OrderOutcome | None:
    return books.db.read(lambda tx: orders.result(tx, order))


def test_an_order_is_out_until_it_is_answered(books: Books) -> None:
    node = books.add()
    order = give(books, node)
    assert outcome(books, order) is None
    assert books.db.read(orders.outstanding) == {node.id}
    (out,) = books.db.read(lambda tx: orders.of_node(tx, node.id))
    assert (out.id, out.verb, out.deadline_s) == (order, "run-check", 60)
    settle(books, node, order)
    assert books.db.read(orders.outstanding) == frozenset()
    found = outcome(books, order)
    assert found is not None
    assert (found.verdict, found.measured, found.message) == (Verdict.PASSED, {"gib": 4}, "it passed")


def test_past_its_deadline_it_is_inconclusive_and_not_sent_again(books: Books) -> None:
    node = books.add()
    order = give(books, node)
    books.clock.advance(60)
    assert outcome(books, order) is None
    books.clock.advance(0.1)
    found = outcome(books, order)
    assert found is not None and found.verdict is Verdict.INCONCLUSIVE
    assert "no answer before the deadline" in found.message
    assert books.db.read(orders.outstanding) == frozenset()
    assert books.db.read(lambda tx: orders.of_node(tx, node.id)) == ()


def test_the_first_result_stands(books: Books) -> None:
    node = books.add()
    order = give(books, node)
    settle(books, node, order, Verdict.FAILED)
    settle(books, node, order, Verdict.PASSED)
    found = outcome(books, order)
    assert found is not None and found.verdict is Verdict.FAILED


def test_another_node_cannot_answer(books: Books) -> None:
    node, other = books.add(), books.add()
    order = give(books, node)
    settle(books, other, order)
    settle(books, other, "order_of_nobody")
    assert outcome(books, order) is None
    assert outcome(books, "order_of_nobody") is None


def test_a_result_wakes_who_waits(books: Books) -> None:
    node = books.add()
    job_id = books.db.write(
        lambda tx: jobs.enqueue(tx, "p", node.id, step="s", version=1, key="waits", due_at=tx.now + 900)
    )
    order = give(books, node, wake_key="waits")
    settle(books, node, order)
    due_at = books.db.read(lambda tx: tx.scalar(sa.select(job.c.due_at).where(job.c.id == job_id)))
    assert due_at == books.clock.now()
