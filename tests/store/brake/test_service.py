"""The brake on both databases: never more live permits than allowed, whoever asks at once; pauses; limits people set."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from ostler.brake import service, store
from ostler.brake.model import DEFAULT_RULES, Held, Rule
from ostler.brake.pause_file import PauseFile
from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput, Conflict, NotFound
from ostler.core.ids import PermitId
from ostler.db.engine import Database
from ostler.db.schema import event, permit
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, Pool, Slot, State

MARA = Actor("person:mara")


@pytest.fixture
def books(db: Database) -> Database:
    db.write(lambda tx: nodes_service.define_pool(tx, Pool("default"), actor=MARA))
    return db


def add(db: Database, number: int, *, rack: str = "r1", state: State = State.PRODUCTION) -> Node:
    slot = Slot(f"x/a/{rack}/u{number}", "x", "a", rack, f"u{number}", {"rack": rack})
    db.write(lambda tx: nodes.put_slot(tx, slot))
    return db.write(
        lambda tx: nodes_service.register(
            tx, name=f"gpu-{number}", pool="default", actor=MARA, cause="x", state=state, slot=slot.name, sku="h100"
        )
    )


def reserve(db: Database, node: Node, seconds: float = 7200.0, workload: str | None = None) -> PermitId:
    return db.write(
        lambda tx: service.reserve(tx, node, "reboot", actor=MARA, reason="test", seconds=seconds, workload=workload)
    )


def live(db: Database) -> int:
    return int(
        db.read(
            lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(permit).where(permit.c.released_at.is_(None)))
        )
    )


def set_rules(db: Database, *rules: Rule) -> None:
    db.write(lambda tx: service.set_rules(tx, rules, actor=MARA, reason="test"))


def test_never_more_live_permits_than_allowed_whoever_asks_at_once(books: Database) -> None:
    count, limit = 24, 3
    set_rules(books, Rule("fleet", at_once=limit))
    fleet = [add(books, n, rack=f"r{n}") for n in range(count)]
    together = threading.Barrier(8)

    def ask(worker: int) -> int:
        together.wait(timeout=60)
        granted = 0
        for node in fleet[worker::8]:
            try:
                reserve(books, node)
                granted += 1
            except Held:
                pass
        return granted

    with ThreadPoolExecutor(8) as pool:
        granted = list(pool.map(ask, range(8)))
    assert sum(granted) == live(books) == limit


def test_a_node_keeps_the_permit_it_has(books: Database) -> None:
    node, other = add(books, 1), add(books, 2)
    first = reserve(books, node)
    assert reserve(books, node) == first
    assert live(books) == 1
    with pytest.raises(Held, match="at a time"):
        reserve(books, other)
    books.write(lambda tx: service.release(tx, first))
    books.write(lambda tx: service.release(tx, first))
    assert reserve(books, node) != first


def test_a_permit_of_a_holder_that_went_away_expires(books: Database, clock: ManualClock) -> None:
    first, second = add(books, 1), add(books, 2)
    reserve(books, first, seconds=600)
    clock.advance(599)
    with pytest.raises(Held):
        reserve(books, second)
    clock.advance(2)
    reserve(books, second)
    assert live(books) == 1


def test_nodes_that_serve_nobody_count_against_nothing(books: Database) -> None:
    for n in range(5):
        reserve(books, add(books, n, state=State.DISCOVERED))
    reserve(books, add(books, 9))
    assert live(books) == 6


def test_a_permit_of_day_1_is_none_for_production(books: Database) -> None:
    """Work of Day 1 that never gave its permit back must not open the brake for a node that serves by now."""
    node, other = add(books, 1, state=State.DISCOVERED), add(books, 2)
    old = reserve(books, node)
    reserve(books, other)
    books.write(lambda tx: nodes.update(tx, node.id, {"state": State.PRODUCTION}))
    with pytest.raises(Held, match="at a time"):
        reserve(books, node)
    assert old is not None


def test_nodes_of_one_job_are_one(books: Database) -> None:
    set_rules(books, Rule("fleet", at_once=1))
    for n in range(3):
        reserve(books, add(books, n), workload="train/llm")
    with pytest.raises(Held):
        reserve(books, add(books, 9), workload="train/other")


@pytest.mark.parametrize("scope", ["fleet", "rack:r1", "node:gpu-1", "sku:h100"])
def test_a_pause_holds_its_scope_and_no_other(books: Database, scope: str) -> None:
    inside, outside = add(books, 1, rack="r1"), add(books, 2, rack="r2")
    set_rules(books, Rule("fleet", at_once=10))
    books.write(lambda tx: service.pause(tx, scope, actor=MARA, reason="spine work"))
    with pytest.raises(Held, match=r"paused by person:mara \(spine work\)"):
        reserve(books, inside)
    if scope in ("rack:r1", "node:gpu-1"):
        reserve(books, outside)
    books.write(lambda tx: service.resume(tx, scope, actor=MARA, reason="done"))
    reserve(books, inside)
    with pytest.raises(Conflict, match="is not paused"):
        books.write(lambda tx: service.resume(tx, scope, actor=MARA, reason="again"))


def test_a_pause_ends_by_itself(books: Database, clock: ManualClock) -> None:
    node = add(books, 1)
    books.write(lambda tx: service.pause(tx, "fleet", actor=MARA, reason="lunch", until=tx.now + 60))
    with pytest.raises(Held):
        reserve(books, node)
    clock.advance(61)
    reserve(books, node)


@pytest.mark.parametrize(
    ("scope", "error"),
    [("rack:r77", NotFound), ("sku:none", NotFound), ("node:gpu-7", NotFound), ("rack:", BadInput), ("all", BadInput)],
)
def test_a_pause_of_nothing_is_no_pause(books: Database, scope: str, error: type[Exception]) -> None:
    add(books, 1)
    with pytest.raises(error):
        books.write(lambda tx: service.pause(tx, scope, actor=MARA, reason="x"))
    with pytest.raises(BadInput, match="past"):
        books.write(lambda tx: service.pause(tx, "fleet", actor=MARA, reason="x", until=tx.now - 1))


def test_hands_on_a_node_hold_it(books: Database) -> None:
    node = add(books, 1)
    books.write(lambda tx: nodes.update(tx, node.id, {"maintenance_by": "person:jo"}))
    with pytest.raises(Held, match="person:jo has hands on the node"):
        reserve(books, node)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ([Rule("rack", at_once=1)], "'fleet' is missing"),
        ([Rule("fleet")], "'fleet' has no limit"),
        ([Rule("fleet", at_once=1), Rule("rack")], "'rack' has no limit"),
        ([Rule("fleet", at_once=1), Rule("fleet", at_once=9)], "'fleet' has two limits"),
    ],
)
def test_limits_that_make_no_sense_are_refused(books: Database, rules: list[Rule], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        set_rules(books, *rules)
    assert books.read(store.rules) == DEFAULT_RULES


def test_limits_are_replaced_as_a_whole(books: Database) -> None:
    set_rules(books, Rule("fleet", at_once=5), Rule("rack", at_once=2))
    set_rules(books, Rule("fleet", share=0.5))
    assert books.read(store.rules) == (Rule("fleet", share=0.5),)


# The file -------------------------------------------------------------------------------------------------------------


def told(db: Database) -> list[str]:
    query = sa.select(event.c.type).where(event.c.subject == "fleet").order_by(event.c.seq)
    return [row["type"] for row in db.read(lambda tx: tx.all(query))]


def test_the_pause_file_and_the_books_agree(books: Database, tmp_path: Path) -> None:
    node, file = add(books, 1), PauseFile(tmp_path / "pause")
    file.mirror(books)
    assert told(books) == []
    file.path.write_text("fire drill\nmore\n")
    for _ in range(2):
        file.mirror(books)
    with pytest.raises(Held, match="fire drill"):
        reserve(books, node)
    file.path.unlink()
    for _ in range(2):
        file.mirror(books)
    reserve(books, node)
    assert told(books) == ["automation.paused", "automation.resumed"]


def test_the_files_end_lifts_no_persons_pause(books: Database, tmp_path: Path) -> None:
    node, file = add(books, 1), PauseFile(tmp_path / "pause")
    books.write(lambda tx: service.pause(tx, "fleet", actor=MARA, reason="freeze"))
    file.path.touch()
    file.mirror(books)
    file.path.unlink()
    file.mirror(books)
    with pytest.raises(Held, match="freeze"):
        reserve(books, node)


def test_a_file_that_cannot_be_read_pauses(tmp_path: Path) -> None:
    folder = tmp_path / "pause"
    folder.mkdir()
    reason = PauseFile(folder).reason()
    assert reason is not None and "cannot be read" in reason
