"""API tokens: made once, recognised, expired, revoked; never readable from the database."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from ostler.access import service
from ostler.access.model import NewToken, Role
from ostler.audit.sequencer import Sequencer
from ostler.audit.service import entries
from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput, Conflict, NotFound, Unauthenticated
from ostler.db.engine import Database
from ostler.db.schema import token

MARA = Actor("person:mara", "request_7")


def make(
    db: Database,
    name: str = "ci",
    role: Role = Role.OPERATOR,
    tenant: str | None = None,
    expires_in: float | None = None,
) -> NewToken:
    return db.write(
        lambda tx: service.create_token(tx, name=name, role=role, tenant=tenant, expires_in=expires_in, actor=MARA)
    )


def recognise(db: Database, secret: str) -> None:
    db.read(lambda tx: service.authenticate(tx, secret, tx.real))


def test_the_secret_opens_and_is_not_stored(db: Database) -> None:
    made = make(db)
    head, name, random_part = made.secret.split("_", 2)
    assert (head, len(name), len(random_part)) == ("ost", 26, 43)
    assert made.token.id == f"token_{name}"
    principal = service.authenticate_header(db, f"Bearer {made.secret}", None)
    assert (principal.name, principal.role, principal.tenant) == ("token:ci", Role.OPERATOR, None)
    stored = db.read(lambda tx: tx.all(sa.select(token)))
    assert random_part not in repr(stored)
    assert len(stored[0]["digest"]) == 64


def test_a_tenants_token(db: Database) -> None:
    made = make(db, role=Role.TENANT, tenant="blue")
    assert service.authenticate_header(db, f"bearer   {made.secret}", None).tenant == "blue"


def test_expiry_is_real_time(db: Database, clock: ManualClock) -> None:
    made = make(db, expires_in=60.0)
    clock.advance(59.9)
    service.authenticate_header(db, f"Bearer {made.secret}", None)
    clock.advance(0.1)
    with pytest.raises(Unauthenticated):
        service.authenticate_header(db, f"Bearer {made.secret}", None)


def test_revoked_is_revoked(db: Database) -> None:
    made = make(db)
    revoked = db.write(lambda tx: service.revoke(tx, made.token.id, actor=MARA, reason="left"))
    assert revoked.revoked_at is not None
    with pytest.raises(Unauthenticated):
        service.authenticate_header(db, f"Bearer {made.secret}", None)
    assert db.write(lambda tx: service.revoke(tx, made.token.id, actor=MARA)) == revoked
    with pytest.raises(NotFound):
        db.write(lambda tx: service.revoke(tx, "token_x", actor=MARA))


def test_a_name_is_taken_while_its_token_lives(db: Database, clock: ManualClock) -> None:
    first = make(db, expires_in=60.0)
    with pytest.raises(Conflict):
        make(db)
    clock.advance(61)
    second = make(db)
    assert first.token.id != second.token.id
    assert [t.name for t in db.read(service.tokens)] == ["ci", "ci"]


def test_every_wrong_token_gets_the_same_words(db: Database) -> None:
    good = make(db).secret
    last = "A" if good[-1] != "A" else "B"
    wrong = [
        "",
        "x",
        "ost__",
        good[:-1],
        good[:-1] + last,
        good + "x",
        good.upper(),
        good.replace("ost_", "ost-"),
        f"ost_{'0' * 26}_{good[-43:]}",
        "ost_" + "0" * 26 + "_" + "é" * 43,
    ]
    messages = set()
    for secret in wrong:
        with pytest.raises(Unauthenticated) as caught:
            recognise(db, secret)
        messages.add(str(caught.value))
    assert len(messages) == 1


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer a b", "ost_x", "Bearer " + "x" * 600]
)
def test_every_wrong_header_is_unauthenticated(db: Database, header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        service.authenticate_header(db, header, "an-admin-secret")


def test_the_admin_token_needs_no_database(db: Database) -> None:
    principal = service.authenticate_header(db, "Bearer an-admin-secret", "an-admin-secret")
    assert principal.role is Role.ADMIN


def test_bad_requests_are_told(db: Database) -> None:
    with pytest.raises(BadInput, match="token's name"):
        make(db, name="two words")
    with pytest.raises(BadInput, match="tenant"):
        make(db, role=Role.ADMIN, tenant="blue")


def test_the_audit_log_names_person_reason_and_request(db: Database) -> None:
    made = db.write(
        lambda tx: service.create_token(tx, name="ci", role=Role.VIEWER, actor=MARA, reason="for the build")
    )
    Sequencer(db, "a").run_once()
    (entry,) = db.read(entries)
    assert (entry.actor, entry.action, entry.subject) == ("person:mara", "token.create", made.token.id)
    assert (entry.reason, entry.request_id) == ("for the build", "request_7")
    assert made.secret not in repr(entry)
