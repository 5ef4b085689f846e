"""What stays in the books between reports, on both databases: roots, witnesses, followers, serials, a person's word."""

from __future__ import annotations

from functools import partial

import pytest

from ostler.core.errors import BadInput, Conflict, NotFound
from ostler.faults.model import Action, Severity
from ostler.faults.monitored import fault
from ostler.health import correlation, findings, levels, store
from ostler.health.model import Confidence, Diagnosis
from ostler.nodes import service as nodes_service
from ostler.nodes.model import Node, Slot
from ostler.wire.agent import Gpu, Inventory
from tests.store.health.books import MARA, SETTINGS, XID79, Books

SOLO = ("xid", "45", "0000:18:00", "gpu", "warning", "watch")
ERROR = Severity.ERROR
GPUS = Inventory(gpus=(Gpu("0000:18:00.0", serial="G1"),))


def place(books: Books, node: Node, number: int) -> None:
    slot = Slot(f"s{number}", "lab", "a", "r1", str(number), {"rack": "r1", "nvlink": "d1"})
    books.db.write(lambda tx: nodes_service.move(tx, node.id, slot, actor=MARA, reason="x"))


def test_a_finding_carries_the_serial_of_its_part(books: Books) -> None:
    node = books.add()
    books.take(node, books.report(inventory=GPUS))
    books.take(node, books.report(XID79, first=1))
    assert books.active(node)["gpu-off-bus"]["serial"] == "G1"


def test_a_gpu_that_changes_in_production_is_a_finding(books: Books) -> None:
    node = books.add()
    books.take(node, books.report(inventory=GPUS))
    books.take(node, books.report(inventory=Inventory(gpus=(Gpu("0000:18:00.0", serial="G2"),))))
    assert books.active(node)["gpu-identity"]["evidence"]["now"] == "G2"


def test_what_is_explained_is_withdrawn_and_not_said_again(books: Books) -> None:
    node = books.add()
    lost = [fault("gpu-missing", "0000:18:00")]

    def look() -> None:
        books.db.write(lambda tx: levels.converge(tx, node.id, "prometheus", lost, SETTINGS))

    look()
    assert set(books.active(node)) == {"gpu-missing"}
    books.take(node, books.report(XID79))
    row = books.active(node)["gpu-off-bus"]
    assert set(books.active(node)) == {"gpu-off-bus"}
    assert (row["confidence"], row["evidence"]["explains"]) == ("high", ["gpu-missing@0000:18:00"])
    for _ in range(3):
        books.clock.advance(60)
        look()
    assert len(books.db.read(lambda tx: store.signals(tx, node.id))) == 2
    assert set(books.active(node)) == {"gpu-off-bus"}


def test_what_followed_ends_with_its_root(books: Books) -> None:
    fleet = [books.add() for _ in range(3)]
    for number, node in enumerate(fleet):
        place(books, node, number)
    books.take(fleet[0], books.report(XID79))
    for node in fleet[1:]:
        books.take(node, books.report(SOLO))
    books.db.write(lambda tx: correlation.correlate(tx, SETTINGS))
    followed = books.active(fleet[1])["xid-45"]
    assert followed["incident_id"] is not None
    assert books.active(fleet[0])["gpu-off-bus"]["incident_id"] is None
    assert books.db.write(lambda tx: correlation.correlate(tx, SETTINGS)) == [], "once"
    root = books.active(fleet[0])["gpu-off-bus"]
    books.db.write(lambda tx: findings.clear(tx, [root], by="a check passed"))
    assert books.active(fleet[1]) == {}
    assert books.db.read(lambda tx: store.get_incident(tx, followed["incident_id"]))["closed_at"] is not None


def test_a_person_clears_a_verdict_with_a_reason(books: Books) -> None:
    node = books.add()
    books.take(node, books.report(XID79))
    finding = books.active(node)["gpu-off-bus"]["id"]

    def clear(reason: str, which: str = finding) -> str:
        by = books.db.write(lambda tx: findings.clear_by_person(tx, which, reason=reason, actor=MARA))["cleared_by"]
        return str(by)

    with pytest.raises(BadInput):
        clear(" ")
    with pytest.raises(NotFound):
        clear("x", "finding_none")
    assert clear("reseated") == "person:mara: reseated"
    assert books.active(node) == {}
    assert books.conditions(node) == set()
    with pytest.raises(Conflict):
        clear("again")


def test_a_first_look_ripens_when_it_outlasts_the_boot(books: Books) -> None:
    node = books.add()
    until = books.clock.now() + 60
    one = Diagnosis(
        "gpu-missing", "gpu", "", ERROR, Confidence.LOW, Action.REBOOT, "one is missing", {"low_until": until}
    )
    books.db.write(lambda tx: findings.note(tx, node, one))
    assert books.db.write(findings.ripen) == 0
    books.clock.advance(61)
    assert books.db.write(findings.ripen) == 1
    row = books.active(node)["gpu-missing"]
    assert (row["confidence"], "low_until" in row["evidence"]) == ("medium", False)


def test_what_is_low_for_ever_keeps_no_first_look_from_ripening(books: Books) -> None:
    """A silent node's finding is low too, and older."""
    silent, node = books.add(), books.add()
    for number in range(3):
        low = Diagnosis("silent", "node", str(number), ERROR, Confidence.LOW, Action.WATCH, "not heard of")
        books.db.write(partial(findings.note, node=silent, diagnosis=low))
    books.clock.advance(1)
    evidence = {"low_until": books.clock.now()}
    one = Diagnosis("gpu-missing", "gpu", "", ERROR, Confidence.LOW, Action.REBOOT, "one is missing", evidence)
    books.db.write(lambda tx: findings.note(tx, node, one))
    ripe = books.db.read(lambda tx: store.ripe(tx, limit=1))
    assert [row["fault"] for row in ripe] == ["gpu-missing"]
