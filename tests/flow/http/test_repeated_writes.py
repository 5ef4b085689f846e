"""`Idempotency-Key`: a repeated write is done once; failures, secrets and strangers leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ostler.access.model import Role
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.schema import idempotency
from ostler.http.idempotency import CLAIM_SECONDS, KEPT_SECONDS
from tests.flow.http.operator_site import ADMIN, Site, new_site, problem_of


@pytest.fixture
def site(sqlite_db: Database) -> Iterator[Site]:
    yield new_site(sqlite_db)


def test_a_repeated_write_is_done_once(site: Site, clock: ManualClock) -> None:
    headers = site.bearer(Role.OPERATOR) | {"Idempotency-Key": "deploy-42"}
    first = site.client.post("/v1/things", json={"name": "a"}, headers=headers)
    again = site.client.post("/v1/things", json={"name": "a"}, headers=headers)
    assert first.json() == again.json() == {"made": "a", "by": "token:t-operator", "count": 1}
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert again.headers["content-type"] == "application/json"
    other = site.client.post("/v1/things", json={"name": "b"}, headers=headers)
    assert problem_of(other)["detail"] == "This key was used for another request; make a new one."
    admin = {"Authorization": f"Bearer {ADMIN}", "Idempotency-Key": "deploy-42"}
    assert site.client.post("/v1/things", json={"name": "a"}, headers=admin).json()["count"] == 2  # somebody else's key
    clock.advance(KEPT_SECONDS + 1)
    assert site.client.post("/v1/things", json={"name": "a"}, headers=headers).json()["count"] == 3


def test_what_failed_may_be_tried_again(site: Site) -> None:
    headers = site.bearer(Role.OPERATOR) | {"Idempotency-Key": "k"}
    for _ in range(2):
        answer = site.client.post("/v1/things", json={"name": "refused"}, headers=headers)
        assert (answer.status_code, answer.headers.get("idempotent-replayed")) == (409, None)
    assert site.client.post("/v1/things", json={"name": "a"}, headers=headers).json()["count"] == 3


def test_two_at_once_do_not_both_run(site: Site, clock: ManualClock) -> None:
    headers = site.bearer(Role.OPERATOR) | {"Idempotency-Key": "k"}
    site.client.post("/v1/things", json={"name": "a"}, headers=headers)
    site.db.write(lambda tx: tx.execute(idempotency.update().values(status=0)))  # as while the first one runs
    answer = site.client.post("/v1/things", json={"name": "a"}, headers=headers)
    assert problem_of(answer)["detail"] == "The request with this key is still being worked on."
    clock.advance(CLAIM_SECONDS + 1)  # whoever ran it died
    assert site.client.post("/v1/things", json={"name": "a"}, headers=headers).json()["count"] == 2


def test_secrets_are_not_kept(site: Site) -> None:
    headers = site.bearer(Role.OPERATOR) | {"Idempotency-Key": "k"}
    assert "ost_never_stored" in site.client.post("/v1/tokens", headers=headers).text
    answer = site.client.post("/v1/tokens", headers=headers)
    assert problem_of(answer)["status"] == 409
    assert "ost_never_stored" not in str(site.db.read(lambda tx: tx.all(idempotency.select())))


def test_strangers_keep_nothing(site: Site) -> None:
    for headers in ({}, {"Authorization": "Bearer ost_wrong"}):
        answer = site.client.post("/v1/things", json={"name": "a"}, headers=headers | {"Idempotency-Key": "k"})
        assert problem_of(answer)["status"] == 401
    bad = site.bearer(Role.OPERATOR) | {"Idempotency-Key": "a b"}
    assert problem_of(site.client.post("/v1/things", json={"name": "a"}, headers=bad))["where"] == "Idempotency-Key"
    assert site.db.read(lambda tx: tx.all(idempotency.select())) == []
