"""Findings and incidents on both databases: renewed, worsened, cleared, and the conditions that rest on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from ostler.db.schema import incident as incident_table
from ostler.faults.model import Action, Severity
from ostler.health import findings, store
from ostler.health.causes import latecomers
from ostler.health.model import Cause, Confidence, Diagnosis, OpenCause, Struck
from ostler.nodes.model import Condition, Node
from tests.store.health.books import Books

ECC = Diagnosis("xid-48", "gpu", "0000:18:00", Severity.ERROR, Confidence.HIGH, Action.RESET_GPU, "double bit")
LOST = replace(ECC, fault="gpu-off-bus", severity=Severity.FATAL, action=Action.REBOOT)
WARM = replace(ECC, fault="thermal", severity=Severity.WARNING, action=Action.WATCH)


def note(books: Books, node: Node, diagnosis: Diagnosis) -> str:
    return books.db.write(lambda tx: findings.note(tx, node, diagnosis))


def rows(books: Books, node: Node, *faults: str) -> list[Any]:
    return [row for fault, row in books.active(node).items() if fault in faults]


def clear(books: Books, found: list[Any]) -> None:
    books.db.write(lambda tx: findings.clear(tx, found, by="a test passed"))


def test_the_same_again_renews_it(books: Books) -> None:
    node = books.add()
    first = note(books, node, ECC)
    books.clock.advance(5)
    assert note(books, node, replace(ECC, message="again")) == first
    row = books.active(node)["xid-48"]
    assert (row["count"], row["message"], row["last_at"] - row["first_at"]) == (2, "again", 5.0)
    assert books.events(node.id).count("node.unhealthy") == 1
    assert note(books, node, replace(ECC, device="0000:2a:00")) != first, "another device is another finding"


def test_one_that_worsens_tells_so(books: Books) -> None:
    node = books.add()
    note(books, node, WARM)
    assert books.conditions(node) == set()
    for _ in range(2):
        note(books, node, replace(WARM, severity=Severity.FATAL))
    assert books.conditions(node) == {Condition.GPU_UNHEALTHY}
    assert books.events(node.id).count("node.unhealthy") == 1


def test_a_condition_ends_with_its_last_finding_and_health_is_told_once(books: Books) -> None:
    node = books.add()
    for one in (ECC, LOST, WARM):
        note(books, node, one)
    before = rows(books, node, "xid-48")
    clear(books, before)
    assert books.conditions(node) == {Condition.GPU_UNHEALTHY}
    assert "node.healthy" not in books.events(node.id)
    clear(books, rows(books, node, "gpu-off-bus"))
    assert books.conditions(node) == set()
    assert set(books.active(node)) == {"thermal"}
    clear(books, before)
    clear(books, rows(books, node, "thermal"))
    assert books.events(node.id).count("node.healthy") == 1


def test_an_incident_closes_when_it_is_empty(books: Books) -> None:
    fleet = [books.add() for _ in range(3)]
    ids = tuple(note(books, node, LOST) for node in fleet)
    cause = Cause("shared-domain", "rack", "r1", "3 nodes of rack r1", ids, "gpu-off-bus")
    incident = books.db.write(lambda tx: findings.open_incident(tx, cause))
    assert books.db.write(lambda tx: findings.open_incident(tx, cause)) == incident, "one for one cause"
    for node in fleet[:2]:
        clear(books, rows(books, node, "gpu-off-bus"))
    assert books.db.read(lambda tx: store.get_incident(tx, incident))["closed_at"] is None
    clear(books, rows(books, fleet[2], "gpu-off-bus"))
    closed = books.db.read(lambda tx: store.get_incident(tx, incident))
    assert (closed["outcome"], closed["closed_at"]) == ("a test passed", books.clock.now())
    assert books.events(incident) == ["incident.opened", "incident.closed"]
    assert books.db.write(lambda tx: findings.open_incident(tx, cause)) != incident, "a new storm is a new incident"


def test_findings_taken_out_stand_for_themselves(books: Books) -> None:
    node = books.add()
    finding = note(books, node, LOST)
    cause = Cause("shared-domain", "rack", "r1", "x", (finding,), "gpu-off-bus")
    incident = books.db.write(lambda tx: findings.open_incident(tx, cause))
    found = rows(books, node, "gpu-off-bus")
    books.db.write(lambda tx: findings.take_out(tx, found, why="the others are back"))
    assert books.active(node)["gpu-off-bus"]["incident_id"] is None
    assert books.db.read(lambda tx: store.get_incident(tx, incident))["outcome"] == "the others are back"
    assert books.db.read(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(incident_table))) == 1


def test_latecomers_join_the_cause_that_explains_them() -> None:
    known = [OpenCause("incident_1", "shared-domain", "fabric", "leaf-7", "ib-link-down")]

    def late(**changes: Any) -> dict[str, list[str]]:
        one = Struck("node_9", "finding_9", "ib-link-down", "nic", 9e9, {"fabric": "leaf-7", "rack": "r1"})
        return latecomers([replace(one, **changes)], known)

    assert late() == {"incident_1": ["finding_9"]}
    assert late(domains={"fabric": "leaf-8"}) == {}
    assert late(fault="nvme") == {}
    assert late(component="gpu") == {}, "a GPU's own fault comes from no switch"
