"""The desk when much is said at once: what is urgent is judged at once, the rest is stored, and judged later for sure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import sqlalchemy as sa

from ostler.db.engine import Database
from ostler.db.schema import node as node_table
from ostler.db.tx import Tx
from ostler.health import backlog, desk, intake, recent
from ostler.health.desk import AgentDesk
from ostler.health.model import Diagnosis, FaultRule, HealthSettings
from ostler.nodes.model import Node
from tests.store.health.books import LINK, SETTINGS, XID79, Books

WATCHED = ("xid", "45", "0000:18:00", "gpu", "warning", "watch")
OVER = ("host", "full", "/var", "node", "info", "none")


@pytest.fixture
def judged() -> list[tuple[str, list[str]]]:
    return []


@pytest.fixture
def crowded(books: Books, judged: list[tuple[str, list[str]]], monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentDesk]:
    """A desk for which one report is a crowd."""
    monkeypatch.setattr(desk, "CROWD", 0)

    def on_diagnoses(_tx: Tx, node_id: str, diagnoses: list[Diagnosis]) -> None:
        judged.append((node_id, [one.fault for one in diagnoses]))

    db = Database(books.db.url, books.clock)
    yield AgentDesk(db, SETTINGS, on_diagnoses)
    db.close()


def waiting(books: Books) -> list[str]:
    return books.db.read(backlog.unjudged)


def test_in_a_crowd_what_is_watched_is_stored_first_and_judged_later(
    books: Books, crowded: AgentDesk, judged: list[tuple[str, list[str]]]
) -> None:
    node = books.add()
    answer = crowded.answer(node.id, books.report(WATCHED))
    assert (answer.ack_seq, books.active(node), waiting(books)) == (1, {}, [node.id])
    assert crowded.judge_later() == 1
    assert (set(books.active(node)), waiting(books)) == ({"xid-45"}, [])
    assert judged == [(node.id, ["xid-45"])]
    assert crowded.judge_later() == 0


@pytest.mark.parametrize("urgent", [XID79, LINK])
def test_what_may_ask_for_more_is_judged_at_once_with_all_that_waited(
    books: Books, crowded: AgentDesk, judged: list[tuple[str, list[str]]], urgent: tuple[str, ...]
) -> None:
    node = books.add()
    crowded.answer(node.id, books.report(OVER))
    assert waiting(books) == [node.id]
    crowded.answer(node.id, books.report(urgent, first=2))
    assert judged and len(books.active(node)) == 1
    assert waiting(books) == []


def test_without_a_crowd_nothing_waits(books: Books) -> None:
    node = books.add()
    books.take(node, books.report(WATCHED))
    assert (set(books.active(node)), waiting(books)) == ({"xid-45"}, [])


def test_what_waited_when_the_server_died_is_judged_by_the_next_one(
    books: Books, crowded: AgentDesk, judged: list[tuple[str, list[str]]]
) -> None:
    node = books.add()
    crowded.answer(node.id, books.report(WATCHED))
    following = AgentDesk(books.db, SETTINGS, lambda _tx, node_id, found: judged.append((node_id, [found[0].fault])))
    assert following.judge_later() == 1
    assert judged == [(node.id, ["xid-45"])]


def test_two_desks_judge_it_once(books: Books, crowded: AgentDesk) -> None:
    node = books.add()
    crowded.answer(node.id, books.report(WATCHED))
    both = [books.db.write(lambda tx: intake.catch_up(tx, node.id, SETTINGS)) for _ in range(2)]
    assert [len(found) for found in both] == [1, 0]
    assert books.active(node)["xid-45"]["count"] == 1


def test_of_very_many_signals_all_that_are_new_and_the_latest_before_are_looked_at(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "LATELY", 3)
    node = books.add()
    books.take(node, books.report(*[OVER] * 20))
    seen = books.db.read(lambda tx: recent.observed(tx, node.id, "boot-1", 0.0, 4))
    assert [one.seq for one in seen] == [17, 18, 19, 20]
    # A report of more than that is looked at whole: its first signal makes a finding too.
    books.take(node, books.report(WATCHED, *[OVER] * 10, first=21))
    assert set(books.active(node)) == {"xid-45"}


def test_a_rule_that_counts_far_back_still_counts(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "LATELY", 3)
    settings = HealthSettings(rules={"xid-13": FaultRule(count=8, action="watch")})
    node = books.add()
    said = ("xid", "13", "0000:18:00", "gpu", "info", "none")
    for first in range(1, 9):
        one = partial(intake.receive, node_id=node.id, report=books.report(said, first=first), settings=settings)
        books.db.write(one)
    assert set(books.active(node)) == {"xid-13"}


def test_after_a_restart_the_fleets_heartbeats_need_no_look_each(books: Books, crowded: AgentDesk) -> None:
    nodes = [books.add() for _ in range(3)]
    for one in nodes:
        crowded.answer(one.id, books.report(WATCHED))
    again = Counting(books.db.url, books.clock)
    following = AgentDesk(again, SETTINGS, lambda _tx, _node, _found: None)
    following.remember()
    known = again.transactions
    answers = [following.answer(one.id, books.report(first=2)) for one in nodes]
    assert ([one.ack_seq for one in answers], again.transactions) == ([1, 1, 1], known)
    assert following.answer(nodes[0].id, books.report(boot="boot-2")).ack_seq == 0  # another boot is looked at
    assert again.transactions > known
    again.close()


def test_heartbeats_are_flushed_in_parts(books: Books, crowded: AgentDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "FLUSH_ROWS", 2)
    nodes = [books.add() for _ in range(5)]
    for one in nodes:
        crowded.answer(one.id, books.report())
    books.clock.advance(30.0)
    for one in nodes:
        crowded.answer(one.id, books.report())
    assert crowded.flush() == 5
    assert {_seen(books, one) for one in nodes} == {books.clock.now()}


def _seen(books: Books, one: Node) -> float:
    row = books.db.read(lambda tx: tx.one(node_table.select().where(node_table.c.id == one.id)))
    return 0.0 if row is None else float(row["last_seen"])


class Counting(Database):
    """Counts its transactions."""

    transactions = 0

    def _tx(self, conn: sa.Connection) -> Tx:
        self.transactions += 1
        return super()._tx(conn)
