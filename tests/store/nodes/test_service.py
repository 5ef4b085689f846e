"""Nodes in the books, on both databases: states, history, conditions, holds, and what each change leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest
import sqlalchemy as sa

from ostler.core.actor import Actor, ostler
from ostler.core.clock import ManualClock
from ostler.core.errors import Conflict, NotFound, Refused
from ostler.db.engine import Database
from ostler.db.schema import audit, event
from ostler.db.tx import Tx
from ostler.nodes import service, store
from ostler.nodes.model import Capability, Condition, Node, Pool, Slot, State
from ostler.nodes.view import view

MARA = Actor("person:mara")
T = TypeVar("T")


@pytest.fixture
def books(db: Database) -> Database:
    db.write(lambda tx: service.define_pool(tx, Pool("default", frozenset(Capability)), actor=MARA))
    return db


def register(
    db: Database,
    name: str = "gpu-1",
    *,
    state: State = State.PRODUCTION,
    serial: str | None = None,
    macs: tuple[str, ...] = (),
) -> Node:
    return db.write(
        lambda tx: service.register(
            tx, name=name, pool="default", actor=MARA, cause="adopt", state=state, serial=serial, macs=macs
        )
    )


def find(db: Database, name: str) -> Node:
    return db.read(lambda tx: store.get(tx, name))


def hold(db: Database, node: Node, holder: str) -> None:
    db.write(lambda tx: service.hold_cordon(tx, node.id, holder, "x", MARA))


def release(db: Database, node: Node, holder: str) -> None:
    db.write(lambda tx: service.release_cordon(tx, node.id, holder, MARA))


def go(db: Database, node: Node, to: State, *passed: str) -> Node:
    def use_case(tx: Tx, n: Node) -> Node:
        facts = replace(service.facts(tx, n, MARA), passed=frozenset(passed))
        return service.transition(tx, n.id, to, actor=MARA, cause="by hand", facts=facts)

    return act(db, node, use_case)


def act(db: Database, node: Node, call: Callable[[Tx, Node], T]) -> T:
    return db.write(lambda tx: call(tx, store.get(tx, node.id)))


def to_triage(db: Database, node: Node, reason: str = "broken") -> Node:
    return act(
        db,
        node,
        lambda tx, n: service.transition(
            tx, n.id, State.TRIAGE, actor=MARA, cause="by hand", facts=service.facts(tx, n, MARA), reason=reason
        ),
    )


def conditions(db: Database, node: Node) -> set[str]:
    return {row["type"] for row in db.read(lambda tx: store.conditions(tx, [node.id]))}


def published(db: Database, node: Node) -> list[str]:
    query = sa.select(event.c.type).where(event.c.subject == node.id).order_by(event.c.seq)
    return [row["type"] for row in db.read(lambda tx: tx.all(query))]


def audited(db: Database, node: Node) -> list[str]:
    query = sa.select(audit.c.action).where(audit.c.subject == node.id).order_by(audit.c.id)
    return [row["action"] for row in db.read(lambda tx: tx.all(query))]


def test_a_node_is_found_by_any_of_its_names(books: Database) -> None:
    node = register(books, serial="SN1", macs=("aa:bb:cc:00:00:01",))
    for name in (node.id, "gpu-1", "SN1", "AA:BB:CC:00:00:01"):
        assert find(books, name).id == node.id
    with pytest.raises(NotFound, match="gpu-9"):
        books.read(lambda tx: store.get(tx, "gpu-9"))


def test_a_name_comes_before_a_serial_number(books: Database) -> None:
    register(books, "other", serial="gpu-1")
    named = register(books, "gpu-1")
    assert books.read(lambda tx: store.get(tx, "gpu-1")).id == named.id


@pytest.mark.parametrize(
    ("name", "serial", "macs", "says"),
    [
        ("gpu-1", None, (), "name gpu-1 belongs"),
        ("gpu-2", "SN1", (), "serial number SN1 belongs to gpu-1"),
        ("gpu-2", None, ("aa:bb:cc:00:00:01",), "MAC of gpu-2 belongs to gpu-1"),
    ],
)
def test_what_belongs_to_another_is_for_a_person_to_settle(
    books: Database, name: str, serial: str | None, macs: tuple[str, ...], says: str
) -> None:
    register(books, serial="SN1", macs=("aa:bb:cc:00:00:01",))
    with pytest.raises(Conflict, match=says):
        register(books, name, serial=serial, macs=macs)
    assert books.read(store.count) == 1


def test_an_unknown_pool_and_a_wrong_birth_are_refused(books: Database) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        books.write(lambda tx: service.register(tx, name="x", pool="nowhere", actor=MARA, cause="x"))
    with pytest.raises(Refused, match="cannot be born as triage"):
        register(books, state=State.TRIAGE)


def test_a_transition_leaves_history_audit_and_event(books: Database, clock: ManualClock) -> None:
    node = register(books, serial="SN1")
    clock.advance(60)
    moved = to_triage(books, node)
    assert (moved.state, moved.state_since, moved.revision) == (State.TRIAGE, clock.now(), 1)
    last = books.read(lambda tx: store.transitions(tx, node_id=node.id))[-1]
    assert (last["from_state"], last["to_state"], last["actor"]) == ("production", "triage", "person:mara")
    assert (last["reason"], last["seconds_in_from"], last["serial"]) == ("broken", 60.0, "SN1")
    assert published(books, node) == ["node.state_changed", "node.state_changed", "node.cordoned"]
    assert audited(books, node) == ["node.transition", "node.transition", "node.cordon"]


def test_of_a_transition_that_breaks_nothing_is_kept(books: Database) -> None:
    node = register(books)
    before = (published(books, node), audited(books, node))

    def broken(tx: Tx) -> None:
        service.transition(
            tx, node.id, State.TRIAGE, actor=MARA, cause="by hand", facts=service.facts(tx, node, MARA), reason="x"
        )
        raise Conflict("something after it failed")

    with pytest.raises(Conflict, match="something after it"):
        books.write(broken)
    assert books.read(lambda tx: store.get(tx, node.id)) == node
    assert len(books.read(lambda tx: store.transitions(tx, node_id=node.id))) == 1
    assert (published(books, node), audited(books, node)) == before
    assert books.read(lambda tx: store.holds(tx, [node.id])) == []


def test_a_refused_transition_writes_nothing(books: Database) -> None:
    node = register(books)
    with pytest.raises(Refused, match="cannot go from production to test"):
        act(
            books,
            node,
            lambda tx, n: service.transition(
                tx, n.id, State.TEST, actor=MARA, cause="x", facts=service.facts(tx, n, MARA)
            ),
        )
    assert books.read(lambda tx: store.get(tx, node.id)) == node


def test_history_by_serial_number_goes_through_every_node_it_was(books: Database, clock: ManualClock) -> None:
    first = register(books, "gpu-1", serial="SN1")
    to_triage(books, first)
    clock.advance(10)
    books.write(lambda tx: store.update(tx, first.id, {"serial": "SN1-new-board"}))
    second = register(books, "gpu-2", serial="SN1")
    rows = books.read(lambda tx: store.transitions(tx, serial="SN1"))
    assert [(row["node_id"], row["to_state"]) for row in rows] == [
        (first.id, "production"),
        (first.id, "triage"),
        (second.id, "production"),
    ]


# Pending --------------------------------------------------------------------------------------------------------------


def pend(db: Database, node: Node, to: State, deadline: float | None = None) -> Node:
    return db.write(lambda tx: service.set_pending(tx, node.id, to, reason="ecc", deadline=deadline, actor=MARA))


def test_a_pending_decision_and_its_withdrawal_need_no_check(books: Database) -> None:
    node = register(books)
    books.write(lambda tx: service.hold_cordon(tx, node.id, "remediation", "ecc", MARA))
    pending = pend(books, node, State.REBOOT, deadline=5.0)
    assert (pending.state, pending.pending_state, pending.pending_deadline) == (State.PRODUCTION, State.REBOOT, 5.0)
    assert conditions(books, node) == {Condition.PENDING_REBOOT}
    back = books.write(lambda tx: service.withdraw_pending(tx, node.id, reason="false alarm", actor=MARA))
    assert (back.state, back.pending_state, back.pending_reason, back.pending_deadline) == (
        State.PRODUCTION,
        None,
        None,
        None,
    )
    assert conditions(books, node) == set()
    assert books.read(lambda tx: store.holds(tx, [node.id])) == [], "our cordon is lifted with it"
    assert len(books.read(lambda tx: store.transitions(tx, node_id=node.id))) == 1, "no transition, so no return"
    with pytest.raises(Conflict, match="Nothing is pending"):
        books.write(lambda tx: service.withdraw_pending(tx, node.id, reason="again", actor=MARA))


def test_a_graver_pending_decision_replaces_the_condition_of_the_first(books: Database) -> None:
    node = register(books)
    pend(books, node, State.REBOOT)
    pend(books, node, State.TRIAGE)
    assert conditions(books, node) == {Condition.PENDING_TRIAGE}


def test_only_production_can_have_something_pending(books: Database) -> None:
    node = register(books)
    with pytest.raises(Refused, match="not to zap"):
        pend(books, node, State.ZAP)
    to_triage(books, node)
    with pytest.raises(Refused, match="is in triage"):
        pend(books, node, State.REBOOT)


def test_a_transition_ends_what_was_pending(books: Database) -> None:
    node = register(books)
    pend(books, node, State.REBOOT, deadline=5.0)
    moved = to_triage(books, node)
    assert (moved.pending_state, moved.pending_deadline) == (None, None)
    assert conditions(books, node) == set()


# Certificates, places, conditions -------------------------------------------------------------------------------------


def test_a_technician_signs_in_onboard(books: Database) -> None:
    node = register(books, state=State.DISCOVERED)
    with pytest.raises(Refused, match="is in discovered"):
        books.write(lambda tx: service.certify(tx, node.id, actor=MARA))
    facts = replace(books.read(lambda tx: service.facts(tx, node, ostler("test"))), joined=True)
    books.write(
        lambda tx: service.transition(tx, node.id, State.ONBOARD, actor=ostler("test"), cause="joined", facts=facts)
    )
    books.write(lambda tx: service.certify(tx, node.id, actor=MARA, reason="cabled"))
    assert conditions(books, node) == {Condition.CERTIFIED}
    assert books.read(lambda tx: service.facts(tx, node, MARA)).certified
    act(
        books,
        node,
        lambda tx, n: service.transition(
            tx, n.id, State.SEATRIAL, actor=MARA, cause="certified", facts=service.facts(tx, n, MARA)
        ),
    )
    assert conditions(books, node) == set(), "the signature was for this installation"


def test_an_adopted_node_loses_uncertified_once(books: Database) -> None:
    node = register(books)
    with pytest.raises(Refused):
        books.write(lambda tx: service.certify(tx, node.id, actor=MARA))
    books.write(lambda tx: service.raise_condition(tx, node.id, Condition.UNCERTIFIED, reason="adopted"))
    books.write(lambda tx: service.certify(tx, node.id, actor=MARA))
    assert conditions(books, node) == set()
    with pytest.raises(Refused):
        books.write(lambda tx: service.certify(tx, node.id, actor=MARA))


def test_an_adopted_node_that_was_tested_is_not_uncertified_any_more(books: Database) -> None:
    node = register(books)
    books.write(lambda tx: service.raise_condition(tx, node.id, Condition.UNCERTIFIED, reason="adopted"))
    to_triage(books, node)
    go(books, node, State.TEST)
    go(books, node, State.PRODUCTION, "test")
    assert conditions(books, node) == set()


def test_a_node_moves_but_not_onto_another(books: Database) -> None:
    first, second = register(books, "gpu-1"), register(books, "gpu-2")
    slot = Slot("fra1/a/r3/u12", "fra1", "a", "r3", "u12", {"rack": "fra1/a/r3"})
    books.write(lambda tx: service.move(tx, first.id, slot, actor=MARA, reason="swap"))
    with pytest.raises(Conflict, match="gpu-1 stands in slot fra1/a/r3/u12"):
        books.write(lambda tx: service.move(tx, second.id, slot, actor=MARA, reason="swap"))
    books.write(lambda tx: store.update(tx, first.id, {"state": State.RETIRED}))
    assert books.write(lambda tx: service.move(tx, second.id, slot, actor=MARA, reason="swap")).slot == slot.name
    (shown,) = books.read(lambda tx: view(tx, [store.get(tx, second.id)]))
    assert shown["rack"] == "fra1/a/r3"


def test_a_condition_is_true_once_and_keeps_its_beginning(books: Database, clock: ManualClock) -> None:
    node = register(books)
    start = clock.now()
    assert books.write(lambda tx: service.raise_condition(tx, node.id, Condition.OVERDUE, reason="a"))
    clock.advance(5)
    assert not books.write(lambda tx: service.raise_condition(tx, node.id, Condition.OVERDUE, reason="b"))
    (row,) = books.read(lambda tx: store.conditions(tx, [node.id]))
    assert (row["reason"], row["since"]) == ("b", start)
    assert books.write(lambda tx: service.clear_condition(tx, node.id, Condition.OVERDUE))
    assert not books.write(lambda tx: service.clear_condition(tx, node.id, Condition.OVERDUE))
    assert len(books.read(lambda tx: store.conditions(tx, [node.id], past=True))) == 1


def test_a_cordon_is_told_with_its_first_hold_and_its_last(books: Database) -> None:
    node = register(books)
    for holder in ("person", "remediation", "person"):
        hold(books, node, holder)
    for holder in ("remediation", "person", "person"):
        release(books, node, holder)
    assert published(books, node) == ["node.state_changed", "node.cordoned", "node.uncordoned"]
    with pytest.raises(Conflict, match="No person cordoned gpu-1"):
        act(books, node, lambda tx, n: service.release_person(tx, n, actor=MARA, reason="x"))


def test_heartbeats_raise_no_revision_and_never_go_back(books: Database, clock: ManualClock) -> None:
    node = register(books)
    now = clock.now()
    for at, busy, seen in ((now, True, now), (now - 5, False, now), (now + 5, None, now + 5)):
        heard(books, node, at, busy)
        present = find(books, "gpu-1")
        assert (present.last_seen, present.busy, present.revision) == (seen, True, 0)


def heard(db: Database, node: Node, at: float, busy: bool | None) -> None:
    db.write(lambda tx: store.touch(tx, [{"node": node.id, "at": at, "is_busy": busy}]))
