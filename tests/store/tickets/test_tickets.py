"""Technicians' tickets on both databases: one per cause, a lock while hands are on the node, closed by evidence."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from ostler.core.actor import Actor
from ostler.core.errors import BadInput, Conflict, NotFound, OstlerError
from ostler.db.engine import Database
from ostler.db.schema import event
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, Pool, State
from ostler.tickets import service, store

MARA, JO = Actor("person:mara"), Actor("person:jo")


@pytest.fixture
def node(db: Database) -> Node:
    db.write(lambda tx: nodes_service.define_pool(tx, Pool("default"), actor=MARA))
    return db.write(
        lambda tx: nodes_service.register(
            tx, name="gpu-1", pool="default", actor=MARA, cause="x", state=State.PRODUCTION
        )
    )


def opened(db: Database, node: Node, cause: str = "fan") -> str:
    return db.write(
        lambda tx: service.open_ticket(tx, node=node, cause=cause, instruction=f"replace {cause}", evidence={"rpm": 0})
    )


def claim(db: Database, ticket: str, actor: Actor = MARA) -> None:
    db.write(lambda tx: service.claim(tx, ticket, actor=actor))


def done(db: Database, ticket: str, actor: Actor = MARA, evidence: str = "replaced, spins") -> None:
    db.write(lambda tx: service.done(tx, ticket, actor=actor, evidence=evidence))


def hands(db: Database, node: Node) -> str | None:
    return db.read(lambda tx: nodes.get(tx, node.id)).maintenance_by


def test_one_cause_is_one_ticket_until_it_is_done(db: Database, node: Node) -> None:
    first = opened(db, node)
    assert opened(db, node) == first
    assert opened(db, node, "psu") != first
    claim(db, first)
    assert opened(db, node) == first, "a claimed one is not done"
    done(db, first)
    assert opened(db, node) != first
    types = db.read(lambda tx: tx.all(sa.select(event.c.type).where(event.c.subject == first).order_by(event.c.seq)))
    assert [row["type"] for row in types] == ["ticket.opened", "ticket.claimed", "ticket.closed"]


def test_a_claim_is_a_lock_and_goes_to_one(db: Database, node: Node) -> None:
    ticket = opened(db, node)
    claim(db, ticket)
    assert hands(db, node) == "person:mara"
    with pytest.raises(Conflict, match="is claimed by person:mara"):
        claim(db, ticket, JO)
    done(db, ticket)
    assert hands(db, node) is None
    with pytest.raises(Conflict, match="is done"):
        claim(db, ticket)


def test_of_many_who_claim_at_once_one_gets_it(db: Database, node: Node) -> None:
    ticket = opened(db, node)

    def attempt(number: int) -> str | None:
        try:
            claim(db, ticket, Actor(f"person:{number}"))
        except OstlerError:
            return None
        return f"person:{number}"

    with ThreadPoolExecutor(8) as pool:
        (winner,) = filter(None, pool.map(attempt, range(8)))
    assert hands(db, node) == winner == db.read(lambda tx: store.get(tx, ticket))["assignee"]


def test_the_lock_ends_with_the_last_claimed_ticket_and_names_who_is_left(db: Database, node: Node) -> None:
    fan, psu = opened(db, node), opened(db, node, "psu")
    claim(db, fan, MARA)
    claim(db, psu, JO)
    assert hands(db, node) == "person:jo"
    done(db, psu, JO)
    assert hands(db, node) == "person:mara"
    done(db, fan)
    assert hands(db, node) is None


def test_another_ticket_that_nobody_claimed_keeps_no_lock(db: Database, node: Node) -> None:
    fan, _psu = opened(db, node), opened(db, node, "psu")
    claim(db, fan)
    done(db, fan)
    assert hands(db, node) is None


def test_only_evidence_closes_a_ticket(db: Database, node: Node) -> None:
    ticket = opened(db, node)
    claim(db, ticket)
    with pytest.raises(BadInput, match="closed only by evidence"):
        done(db, ticket, evidence="  \n ")
    assert hands(db, node) == "person:mara"
    done(db, ticket)
    with pytest.raises(Conflict, match="done already"):
        done(db, ticket)
    row = db.read(lambda tx: store.get(tx, ticket))
    assert row["closing"] == {"by": "person:mara", "evidence": "replaced, spins"}


def test_no_such_ticket(db: Database, node: Node) -> None:
    with pytest.raises(NotFound, match="ticket_9"):
        claim(db, "ticket_9")
