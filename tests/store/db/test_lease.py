"""Leases: one replica per row, and a late one is refused. On both databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from ostler.core.clock import ManualClock
from ostler.db import lease
from ostler.db.engine import Database
from ostler.db.schema import delivery, endpoint, event
from ostler.db.schema import lease as named
from ostler.db.tx import Tx
from tests.store.db.rows import add


def claim(owner: str, *, limit: int = 1, seconds: float = 30.0) -> Callable[[Tx], list[lease.Claim]]:
    return lambda tx: lease.claim(tx, named, sa.true(), owner=owner, seconds=seconds, limit=limit, order=named.c.name)


def test_a_row_is_claimed_once_until_its_lease_runs_out(db: Database, clock: ManualClock) -> None:
    db.write(add("a"))
    (first,) = db.write(claim("one"))
    assert (first.key, first.owner, first.fence, first.until) == ("a", "one", 1, clock.real() + 30)
    assert db.write(claim("two")) == []
    clock.advance(30)
    assert db.write(claim("two")) == [], "to the last moment"
    clock.advance(0.001)
    (second,) = db.write(claim("two"))
    assert (second.owner, second.fence) == ("two", 2)


def test_claims_come_in_order_and_up_to_the_limit(db: Database) -> None:
    for name in ("c", "a", "b"):
        db.write(add(name))
    assert [held.key for held in db.write(claim("one", limit=2))] == ["a", "b"]
    assert [held.key for held in db.write(claim("two", limit=2))] == ["c"]


def test_many_who_claim_at_once_share_the_rows(db: Database) -> None:
    db.write(lambda tx: tx.execute(named.insert(), [{"name": f"n{number:03}"} for number in range(60)]))
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(db.write, claim(f"o{number % 6}", limit=3)) for number in range(40)]
        taken = Counter(held.key for future in futures for held in future.result())
    assert len(taken) == 60
    assert set(taken.values()) == {1}


def test_a_stale_writer_is_refused(db: Database, clock: ManualClock) -> None:
    db.write(add("a"))
    (first,) = db.write(claim("one"))
    clock.advance(31)
    db.write(claim("two"))
    late: list[Callable[[Tx], object]] = [
        lambda tx: lease.settle(tx, named, first, {}),
        lambda tx: lease.renew(tx, named, first, seconds=30),
        lambda tx: lease.check(tx, named, first),
    ]
    for write in late:
        with pytest.raises(lease.LostLease, match="lease a"):
            db.write(write)


def test_the_same_owner_does_not_pass_for_its_earlier_self(db: Database, clock: ManualClock) -> None:
    db.write(add("a"))
    (first,) = db.write(claim("one"))
    clock.advance(31)
    db.write(claim("one"))
    with pytest.raises(lease.LostLease):
        db.write(lambda tx: lease.check(tx, named, first))


def test_a_lease_that_ran_out_but_was_not_taken_still_counts(db: Database, clock: ManualClock) -> None:
    db.write(add("a"))
    (held,) = db.write(claim("one"))
    clock.advance(300)
    db.write(lambda tx: lease.check(tx, named, held))
    renewed = db.write(lambda tx: lease.renew(tx, named, held, seconds=30))
    assert renewed.until == clock.real() + 30
    assert db.write(claim("two")) == []


def test_settle_lets_go(db: Database) -> None:
    db.write(add("a"))
    (held,) = db.write(claim("one"))
    db.write(lambda tx: lease.settle(tx, named, held, {}))
    (again,) = db.write(claim("two"))
    assert again.fence == 2
    with pytest.raises(lease.LostLease):
        db.write(lambda tx: lease.settle(tx, named, held, {}))


def test_a_named_lease_is_kept_by_its_owner_and_taken_when_it_runs_out(db: Database, clock: ManualClock) -> None:
    def take(owner: str) -> lease.Claim | None:
        return db.write(lambda tx: lease.claim_named(tx, "sequencer", owner=owner, seconds=10))

    mine = take("one")
    assert mine is not None
    assert mine.fence == 1
    assert take("two") is None
    clock.advance(9)
    kept = take("one")
    assert kept is not None
    assert (kept.fence, kept.until) == (1, clock.real() + 10)
    clock.advance(9)
    assert take("two") is None
    clock.advance(2)
    taken = take("two")
    assert taken is not None
    assert taken.fence == 2
    with pytest.raises(lease.LostLease):
        db.write(lambda tx: lease.check(tx, named, kept))


def test_many_who_take_a_new_named_lease_at_once(db: Database) -> None:
    def take(owner: str) -> lease.Claim | None:
        return db.write(lambda tx: lease.claim_named(tx, "new", owner=owner, seconds=10))

    with ThreadPoolExecutor(6) as pool:
        held = [claim for claim in pool.map(take, [f"o{number}" for number in range(6)]) if claim is not None]
    assert len(held) == 1


def test_other_tables_are_claimed_by_their_own_condition(db: Database) -> None:
    """The webhook sender's table: the condition and the order are the caller's."""

    def fill(tx: Tx) -> None:
        tx.execute(endpoint.insert().values(id="e", url="https://x", events=["*"], secret_ref="env:X", created_at=0.0))
        tx.execute(event.insert().values(id="v", type="t", subject="s", seq=1, data={}, at=0.0))
        common = {"event_id": "v", "endpoint_id": "e", "subject": "s", "seq": 1, "created_at": 0.0}
        rows = [("late", "due", 5.0), ("early", "due", 1.0), ("never", "dead", 0.0)]
        tx.execute(delivery.insert(), [{"id": i, "state": s, "due_at": d, **common} for i, s, d in rows])

    db.write(fill)
    due = delivery.c.state == "due"
    held = db.write(
        lambda tx: lease.claim(tx, delivery, due, owner="one", seconds=30, limit=9, order=delivery.c.due_at)
    )
    assert [one.key for one in held] == ["early", "late"]
    assert held[0].row["lease_owner"] == "one"
