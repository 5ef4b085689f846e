"""Two nodes never stand in one slot because a list says so."""

from __future__ import annotations

from ostler.db.engine import Database
from ostler.nodes import adopt, service, store
from ostler.nodes.model import Condition, Pool
from tests.flow.fleet import MARA

CSV = "name,serial,slot\ngpu-1,SN1,fra1/a/r1/u1\ngpu-2,SN2,fra1/a/r1/u1\n"


def test_the_second_is_held_without_the_slot_and_keeps_its_serial(db: Database) -> None:
    db.write(lambda tx: service.define_pool(tx, Pool("default"), actor=MARA))
    done = db.write(lambda tx: adopt.adopt(tx, adopt.read_csv(CSV, "x"), actor=MARA))
    assert done.held == (("gpu-2", "gpu-1 stands in slot fra1/a/r1/u1 already"),)
    second = db.read(lambda tx: store.get(tx, "gpu-2"))
    assert (second.slot, second.serial) == (None, "SN2")
    conditions = db.read(lambda tx: store.conditions(tx, [second.id]))
    assert Condition.HELD_FOR_PERSON in {row["type"] for row in conditions}
