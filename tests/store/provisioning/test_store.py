"""The tables of Day 0 on both databases: a token burns once, old rows go, held nodes are seen as held."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.schema import boot_request, join_token
from ostler.nodes import service as nodes
from ostler.nodes.model import Condition, Pool
from ostler.provisioning import store

ACTOR = Actor("person:mara")
MAC = "02:00:00:00:00:01"


@pytest.fixture
def node_id(db: Database) -> str:
    db.write(lambda tx: nodes.define_pool(tx, Pool("default"), actor=ACTOR))
    made = db.write(
        lambda tx: nodes.register(
            tx, name="gpu-1", pool="default", actor=ACTOR, cause="test", serial="SN1", macs=(MAC,)
        )
    )
    return made.id


def put_token(db: Database, node_id: str, number: int, expires_at: float) -> str:
    key = f"join_{number}"
    db.write(
        lambda tx: store.insert_token(
            tx,
            {
                "id": key,
                "node_id": node_id,
                "digest": f"d{number}",
                "mac": MAC,
                "serial": "SN1",
                "nonce": f"n{number}",
                "created_at": tx.real,
                "expires_at": expires_at,
            },
        )
    )
    return key


def test_a_token_burns_once(db: Database, node_id: str) -> None:
    token = put_token(db, node_id, 1, 2e9)
    assert db.write(lambda tx: store.use_token(tx, token))
    assert not db.write(lambda tx: store.use_token(tx, token))
    row = db.read(lambda tx: store.token_by_digest(tx, "d1"))
    assert row is not None
    assert (row["node_name"], row["node_serial"], row["used_at"] is None) == ("gpu-1", "SN1", False)
    assert db.read(lambda tx: store.token_by_digest(tx, "d2")) is None


def test_tokens_that_ended_long_ago_go(db: Database, node_id: str, clock: ManualClock) -> None:
    put_token(db, node_id, 1, clock.real() + 60)
    clock.advance(86_400)
    put_token(db, node_id, 2, clock.real() + 60)
    clock.advance(120)
    put_token(db, node_id, 3, clock.real() + 60)
    kept = db.read(lambda tx: tx.all(sa.select(join_token.c.id).order_by(join_token.c.id)))
    assert [row["id"] for row in kept] == ["join_2", "join_3"]


def test_the_latest_boot_requests_are_kept(db: Database, node_id: str, clock: ManualClock) -> None:
    for number in range(store.KEPT_REQUESTS + 5):
        clock.advance(1)
        row: dict[str, Any] = {"id": f"boot_{number:03d}", "node_id": node_id, "mac": MAC, "nonce": f"n{number}"}
        row |= {"at": clock.now(), "expires_at": clock.real() + 60}
        db.write(partial(store.insert_request, values=row))
    assert db.read(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(boot_request))) == store.KEPT_REQUESTS
    latest = db.read(lambda tx: store.requests(tx, node_id, limit=1))
    assert latest[0]["id"] == f"boot_{store.KEPT_REQUESTS + 4:03d}"
    assert db.read(lambda tx: store.request_by_nonce(tx, "n0")) is None


def test_candidates(db: Database, node_id: str) -> None:
    by_mac = db.read(lambda tx: store.candidate_by_mac(tx, MAC))
    assert by_mac is not None
    assert (by_mac.id, by_mac.macs, by_mac.held) == (node_id, (MAC,), False)
    db.write(lambda tx: nodes.raise_condition(tx, node_id, Condition.HELD_FOR_PERSON, reason="identity"))
    by_serial = db.read(lambda tx: store.candidate_by_serial(tx, "SN1"))
    assert by_serial is not None
    assert by_serial.held
    assert db.read(lambda tx: store.candidate_by_serial(tx, "")) is None
    assert db.read(lambda tx: store.candidate_by_mac(tx, "02:00:00:00:00:02")) is None
