"""Whatever is changed behind the log's back is found, at the position where it was changed; proofs hold."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostler.audit import merkle, service, verification
from ostler.audit.model import Proof, leaf_of
from ostler.audit.sequencer import Sequencer
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, NotFound
from ostler.db.engine import Database
from ostler.db.schema import audit, audit_head, audit_node
from ostler.db.tx import Tx

MARA = Actor("person:mara", "request_1")


def record(db: Database, n: int) -> None:
    detail = {"n": n, "share": 0.1, "whole": 2.0, "big": 1e20, "text": "é\0"}
    db.write(lambda tx: service.record(tx, MARA, "node.cordon", f"node_{n}", reason="x", detail=detail))


def proof_of(db: Database, position: int, size: int | None) -> Proof:
    return db.read(lambda tx: service.prove(tx, position, size=size))


@pytest.fixture
def log(db: Database) -> Database:
    """Thirteen entries, sealed in batches of 5, 1 and 7."""
    for count in (5, 1, 7):
        for n in range(count):
            record(db, n)
        Sequencer(db, "a").run_once()
    return db


def test_an_untouched_log_is_whole(log: Database) -> None:
    verdict = log.read(verification.verify)
    assert (verdict.bad, verdict.size) == (None, 13)
    assert verdict.root == log.read(service.head).root


def test_an_empty_log_is_whole(db: Database) -> None:
    assert db.read(verification.verify).bad is None
    assert db.read(service.head).root == merkle.EMPTY.hex()


def at(position: int) -> sa.ColumnElement[bool]:
    return audit.c.position == position


def change_with_leaf(tx: Tx) -> None:
    """A careful forger: the leaf is made to fit."""
    (entry,) = service.entries(tx, after="7", limit=1)
    forged = leaf_of(type(entry)(**{**entry.__dict__, "reason": "forged"}), 8).hex()
    tx.execute(audit.update().where(at(8)).values(reason="forged", leaf=forged))


def change_with_tree(tx: Tx) -> None:
    """A more careful one: the inner nodes too, but not the heads."""
    change_with_leaf(tx)
    tx.execute(audit_node.delete())
    frontier = merkle.Frontier()
    rows = []
    for row in tx.all(sa.select(audit).order_by(audit.c.position)):
        rows += frontier.append(bytes.fromhex(row["leaf"]))
    tx.execute(audit_node.insert(), [{"level": a, "number": b, "hash": c.hex()} for a, b, c in rows])


TAMPERING: list[tuple[str, Callable[[Tx], object], int]] = [
    ("reason", lambda tx: tx.execute(audit.update().where(at(4)).values(reason="forged")), 4),
    ("actor", lambda tx: tx.execute(audit.update().where(at(1)).values(actor="person:eve")), 1),
    ("time", lambda tx: tx.execute(audit.update().where(at(13)).values(at=1.0)), 13),
    ("detail", lambda tx: tx.execute(audit.update().where(at(6)).values(detail={"n": 0})), 6),
    ("leaf", lambda tx: tx.execute(audit.update().where(at(9)).values(leaf="00" * 32)), 9),
    ("removed", lambda tx: tx.execute(audit.delete().where(at(5))), 5),
    ("cut off", lambda tx: tx.execute(audit.delete().where(audit.c.position > 10)), 11),
    ("head cut off", lambda tx: tx.execute(audit_head.delete().where(audit_head.c.size == 13)), 7),
    (
        "head changed",
        lambda tx: tx.execute(audit_head.update().where(audit_head.c.size == 6).values(root="00" * 32)),
        6,
    ),
    ("inner node", lambda tx: tx.execute(audit_node.update().where(audit_node.c.level == 2).values(hash="00" * 32)), 4),
    ("forged with its leaf", change_with_leaf, 8),
    ("forged with its tree", change_with_tree, 7),
]


@pytest.mark.parametrize(("name", "tamper", "position"), TAMPERING, ids=[row[0] for row in TAMPERING])
def test_tampering_is_found_where_it_was_done(
    log: Database, name: str, tamper: Callable[[Tx], object], position: int
) -> None:
    log.write(lambda tx: tamper(tx) and None)
    verdict = log.read(verification.verify)
    assert verdict.bad == position, verdict.why
    assert verdict.why
    assert ("missing" in verdict.why) is (name == "removed")


def test_every_entry_proves_itself_against_every_later_head(log: Database) -> None:
    entries = log.read(service.entries)
    for size in range(1, 14):
        root = merkle.root_of([bytes.fromhex(entry.leaf or "") for entry in entries[:size]])
        for position in range(1, size + 1):
            proof = proof_of(log, position, size)
            leaf = leaf_of(entries[position - 1], position)
            assert proof.leaf == leaf.hex()
            assert bytes.fromhex(proof.root) == root
            path = [bytes.fromhex(h) for h in proof.path]
            assert merkle.verify_inclusion(leaf, position - 1, size, path, root)


def test_consistency_with_an_older_head(log: Database) -> None:
    leaves = [bytes.fromhex(entry.leaf or "") for entry in log.read(service.entries)]
    path = [bytes.fromhex(h) for h in log.read(lambda tx: service.prove_consistency(tx, 6, 13))]
    assert merkle.verify_consistency(6, 13, merkle.root_of(leaves[:6]), merkle.root_of(leaves), path)
    with pytest.raises(NotFound):
        log.read(lambda tx: service.prove_consistency(tx, 6, 14))


@pytest.mark.parametrize(("position", "size"), [(14, None), (0, None), (5, 4), (1, 14)])
def test_no_proof_past_the_end(log: Database, position: int, size: int | None) -> None:
    with pytest.raises(NotFound):
        proof_of(log, position, size)


def test_an_export_verifies_by_itself_and_names_the_changed_line(log: Database) -> None:
    lines = [verification.export_line(entry).encode() for entry in log.read(service.entries)]
    verdict = verification.verify_lines(lines, name="audit.jsonl")
    assert (verdict.bad, verdict.root) == (None, log.read(service.head).root)
    lines[6] = lines[6].replace(b"person:mara", b"person:eve")
    assert verification.verify_lines(lines, name="audit.jsonl").bad == 7
    with pytest.raises(BadInput, match=r"audit\.jsonl:3"):
        verification.verify_lines([*lines[:2], b"{", *lines[3:]], name="audit.jsonl")
    with pytest.raises(BadInput, match="'id' is missing"):
        verification.verify_lines([b"{}"], name="x")


@pytest.mark.parametrize("cursor", ["x", "-1", "1.0", "٣", "9" * 30])
def test_a_bad_cursor_is_told(db: Database, cursor: str) -> None:
    with pytest.raises(BadInput, match="no cursor"):
        db.read(lambda tx: service.entries(tx, after=cursor))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda i: st.lists(i) | st.dictionaries(st.text(), i),
        max_leaves=8,
    )
)
def test_whatever_is_recorded_stays_verifiable(db: Database, value: object) -> None:
    """Odd numbers and texts: what the database gives back hashes as it did when it was sealed, and as exported."""
    db.write(lambda tx: service.record(tx, Actor(str(value)), "test.odd", str(value), detail={"value": value}))
    Sequencer(db, "a").run_once()
    assert db.read(verification.verify).bad is None
    newest = db.read(service.head).size
    (entry,) = db.read(lambda tx: service.entries(tx, after=str(newest - 1)))
    again = verification.entry_from(json.loads(verification.export_line(entry)), "x")
    assert leaf_of(again, newest).hex() == entry.leaf
