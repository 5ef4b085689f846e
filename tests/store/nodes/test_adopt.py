"""`ostler adopt` on both databases: a running fleet enters the books and nothing about it is touched."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from ostler.core.actor import Actor
from ostler.core.errors import Conflict, NotFound
from ostler.db.engine import Database
from ostler.db.schema import agent_order, audit, boot_request, cordon_hold, event, job, permit
from ostler.db.tx import Tx
from ostler.nodes import adopt, service, store
from ostler.nodes.model import Condition, Pool, State

MARA = Actor("person:mara")
FLEET = """\
name,serial,slot,macs,bmc,sku,pool,service
gpu-1,SN1,fra1/a/r3/u1,aa:bb:cc:00:00:01,10.0.0.1,h100,,
gpu-2,SN2,fra1/a/r3/u2,aa:bb:cc:00:00:02,10.0.0.2,h100,,unmanaged
gpu-3,To Be Filled By O.E.M.,,,,,,
gpu-4,,,,,,,
gpu-5,TWICE,,,,,,
gpu-6,TWICE,,,,,,
"""


@pytest.fixture
def books(db: Database) -> Database:
    db.write(lambda tx: service.define_pool(tx, Pool("default"), actor=MARA))
    return db


def take_in(db: Database, text: str) -> adopt.Adoption:
    rows = adopt.read_csv(text, "fleet.csv")
    return db.write(lambda tx: adopt.adopt(tx, rows, actor=MARA, reason="move in"))


def rows(db: Database, table: sa.Table) -> int:
    return int(db.read(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(table))))


def test_a_running_fleet_is_taken_in(books: Database) -> None:
    done = take_in(books, FLEET)
    assert done.adopted == tuple(f"gpu-{n}" for n in range(1, 7))
    found = {node.name: node for node in books.read(lambda tx: store.find(tx, sa.true()))}
    assert {node.state for node in found.values()} == {State.PRODUCTION}
    assert (found["gpu-1"].serial, found["gpu-1"].bmc_address) == ("SN1", "https://10.0.0.1")
    assert found["gpu-2"].service == "unmanaged"
    conditions = books.read(store.conditions)
    assert sum(row["type"] == Condition.UNCERTIFIED for row in conditions) == 6


def test_serials_that_cannot_be_believed_are_held_for_a_person(books: Database) -> None:
    done = take_in(books, FLEET)
    assert dict(done.held)["gpu-4"] == "the source gives no serial number"
    assert [name for name, _why in done.held] == ["gpu-3", "gpu-4", "gpu-5", "gpu-6"]
    assert {node.name for node in books.read(lambda tx: store.find(tx, sa.true())) if node.serial is None} == {
        name for name, _why in done.held
    }
    conditions = books.read(store.conditions)
    held = {row["message"] for row in conditions if row["type"] == Condition.HELD_FOR_PERSON}
    assert held == {why for _name, why in done.held}


def test_a_node_that_goes_by_another_name_in_the_source_is_known(books: Database) -> None:
    take_in(books, FLEET)
    done = take_in(books, "name,serial\ngpu-7,SN1\n")
    assert (done.adopted, done.known, done.held) == ((), ("gpu-7",), ())
    assert done.notes == (("gpu-7", "known as gpu-1, which has its serial number SN1"),)


def test_a_serial_of_a_node_that_stands_in_the_source_by_its_own_name_is_not_believed_twice(books: Database) -> None:
    take_in(books, FLEET)
    rows = adopt.read_csv("name,serial\ngpu-1,SN9\nx-1,A\nx-2,B\ngpu-7,SN1\n", "x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adopt, "BATCH", 1)
        done = adopt.take_in(books, rows, actor=MARA)
    assert (done.adopted, done.known) == (("x-1", "x-2", "gpu-7"), ("gpu-1",))
    assert done.held == (("gpu-7", "the serial number SN1 belongs to gpu-1 already"),)


def test_a_large_fleet_is_entered_in_parts_and_goes_on_where_it_stopped(
    books: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopt, "BATCH", 2)
    rows = adopt.read_csv("name\n" + "".join(f"gpu-{n}\n" for n in range(7)), "x")
    done = adopt.take_in(books, rows, actor=MARA, seconds=0.0)
    assert (done.adopted, done.remaining, books.read(store.count)) == (("gpu-0", "gpu-1"), 5, 2)
    done = adopt.take_in(books, rows, actor=MARA, seconds=60.0)
    assert (len(done.adopted), len(done.known), done.remaining) == (5, 2, 0)
    assert adopt.take_in(books, rows, actor=MARA).known == tuple(f"gpu-{n}" for n in range(7))


def test_a_mistake_in_the_last_batch_takes_in_nothing(books: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopt, "BATCH", 2)
    rows = adopt.read_csv("name,pool\n" + "".join(f"gpu-{n},\n" for n in range(7)) + "gpu-8,nowhere\n", "x")
    with pytest.raises(NotFound, match="line 9: No pool"):
        adopt.take_in(books, rows, actor=MARA)
    assert books.read(store.count) == 0


def test_a_source_without_serial_numbers_holds_nobody(books: Database) -> None:
    assert take_in(books, "name\ngpu-1\n").held == ()


def test_nothing_is_touched(books: Database) -> None:
    take_in(books, FLEET)
    for table in (cordon_hold, permit, job, agent_order, boot_request):
        assert rows(books, table) == 0, table.name
    types = {row["type"] for row in books.read(lambda tx: tx.all(sa.select(event.c.type)))}
    assert types == {"node.state_changed"}


def test_again_is_no_change(books: Database) -> None:
    take_in(books, FLEET)
    before = [rows(books, table) for table in (audit, event)]
    done = take_in(books, FLEET)
    assert (done.adopted, len(done.known)) == ((), 6)
    assert [rows(books, table) for table in (audit, event)] == before


@pytest.mark.parametrize(
    ("last", "error", "says"),
    [
        ("gpu-9,,nowhere", NotFound, r"line 3: No pool is called 'nowhere'"),
        ("gpu-9,aa:bb:cc:00:00:01,", Conflict, r"line 3: A MAC of gpu-9 belongs to gpu-8"),
    ],
)
def test_one_bad_row_takes_in_nothing(books: Database, last: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        take_in(books, f"name,macs,pool\ngpu-8,aa:bb:cc:00:00:01,\n{last}\n")
    assert rows(books, event) == 0
    assert books.read(store.count) == 0


def test_a_known_name_keeps_what_is_known_of_it(books: Database) -> None:
    take_in(books, "name,serial\ngpu-1,SN1\n")
    take_in(books, "name,serial\ngpu-1,SN9\n")

    def serial(tx: Tx) -> str | None:
        return store.get(tx, "gpu-1").serial

    assert books.read(serial) == "SN1"
