"""Reports into the books: what comes twice, late, out of order or never; reboots, gaps, clocks and hostile words."""

from __future__ import annotations

import pytest

from ostler.core.errors import BadInput
from ostler.faults.model import Action, Severity
from ostler.health import backlog, intake, store
from ostler.nodes.model import Condition, State
from ostler.wire.agent import Gap, Gpu, Inventory
from tests.store.health.books import LINK, SETTINGS, XID48, XID79, Books


def stored(books: Books, node_id: str) -> list[int]:
    return sorted(row["seq"] for row in books.db.read(lambda tx: store.signals(tx, node_id)))


def test_what_comes_twice_is_dropped(books: Books) -> None:
    node = books.add()
    report = books.report(XID48, XID48)
    assert books.take(node, report)[0] == 2
    count = books.active(node)["xid-48"]["count"]
    ack, diagnoses = books.take(node, report)
    assert (ack, diagnoses) == (2, [])
    assert stored(books, node.id) == [1, 2]
    assert books.active(node)["xid-48"]["count"] == count, "a repeated report is no second occurrence"


def test_an_overlap_keeps_what_is_new(books: Books) -> None:
    node = books.add()
    books.take(node, books.report(XID48, XID48))
    assert books.take(node, books.report(XID48, XID48, XID48, first=2))[0] == 4
    assert stored(books, node.id) == [1, 2, 3, 4]


def test_signals_and_gaps_may_stand_in_any_order(books: Books) -> None:
    node = books.add()
    report = books.report(XID48, first=4, lost=(Gap(2, 3, "overflow"), Gap(1, 1, "overflow")))
    assert books.take(node, report)[0] == 4


@pytest.mark.parametrize("lost", [(), (Gap(1, 1, "overflow"),), (Gap(1, 2, "overflow"),)])
def test_a_hole_within_a_report_is_refused(books: Books, lost: tuple[Gap, ...]) -> None:
    node = books.add()
    report = books.report(XID48, first=4, lost=(*lost, Gap(6, 6, "overflow")))
    with pytest.raises(BadInput, match="follows in neither signals nor gaps"):
        books.take(node, report)
    assert stored(books, node.id) == [] and books.active(node) == {}


def test_one_number_twice_is_refused(books: Books) -> None:
    node = books.add()
    twice = books.report(XID48)
    report = books.report(XID48)
    report = type(report)(report.boot_id, report.sent_at, 1, (*report.signals, *twice.signals))
    with pytest.raises(BadInput, match="twice"):
        books.take(node, report)


def test_what_another_server_acknowledged_is_a_hole_and_a_finding(books: Books) -> None:
    """A restored backup knows less than the agent was told: the agent must not be stuck for it."""
    node = books.add()
    books.take(node, books.report(XID48))
    assert books.take(node, books.report(LINK, first=8))[0] == 8
    evidence = books.active(node)["signal-gap"]["evidence"]
    assert evidence == {"boot": "boot-1", "from": 2, "to": 7, "reason": "undeclared"}
    assert books.take(node, books.report(first=9))[0] == 8


def test_an_agent_that_lost_its_state_is_told_what_is_held(books: Books) -> None:
    node = books.add()
    books.take(node, books.report(XID48, XID48, XID48))
    assert books.take(node, books.report(first=1))[0] == 3
    assert "signal-gap" not in books.active(node)


def test_a_gap_is_a_finding_and_a_condition(books: Books) -> None:
    node = books.add()
    assert books.take(node, books.report(lost=(Gap(1, 40, "overflow"),)))[0] == 40
    finding = books.active(node)["signal-gap"]
    assert "40 signals are lost (overflow)" in finding["message"]
    assert finding["action"] == Action.WATCH
    assert books.conditions(node) == {Condition.SIGNALS_LOST}
    assert books.take(node, books.report(lost=(Gap(31, 50, "overflow"),)))[0] == 50
    assert "10 signals" in books.active(node)["signal-gap"]["message"], "what is held is not counted again"


def test_a_boot_that_nobody_asked_for_is_a_finding(books: Books) -> None:
    node = books.add()
    books.take(node, books.report(boot="boot-1"))
    assert books.active(node) == {}, "the first boot we meet is no reboot"
    books.take(node, books.report(boot="boot-2"))
    assert books.active(node)["unexpected-reboot"]["evidence"] == {"before": "boot-1", "now": "boot-2"}
    assert books.node(node).boot_id == "boot-2"


@pytest.mark.parametrize("state", [State.REBOOT, State.ZAP, State.TRIAGE, State.TEST])
def test_a_boot_in_a_state_that_reboots_is_none(books: Books, state: State) -> None:
    node = books.add()
    books.take(node, books.report(boot="boot-1"))
    books.put(node, state)
    books.take(node, books.report(boot="boot-2"))
    assert books.active(node) == {}
    assert books.node(node).boot_id == "boot-2"


def test_the_end_of_a_former_boot_told_late_changes_no_present(books: Books) -> None:
    node = books.add()
    books.take(node, books.report(boot="boot-1"))
    books.put(node, State.REBOOT)
    books.take(node, books.report(boot="boot-2", driver="570"))
    late = books.report(XID79, boot="boot-1", ended="reboot", driver="550", heart=True)
    assert books.take(node, late) == (1, [])
    present = books.node(node)
    assert (present.boot_id, present.driver) == ("boot-2", "570")
    assert books.active(node) == {}, "what it said before our reboot is what the reboot was for"
    books.take(node, books.report(XID48, boot="boot-2"))
    assert set(books.active(node)) == {"xid-48"}, "nor does it come back beside the next line"


def test_the_last_words_before_a_reboot_nobody_asked_for_are_heard(books: Books) -> None:
    node = books.add()
    books.take(node, books.report(boot="boot-1"))
    books.take(node, books.report(XID79, boot="boot-1", ended="reboot"))
    assert set(books.active(node)) == {"gpu-off-bus"}


def test_an_unknown_former_boot_is_no_reboot(books: Books) -> None:
    node = books.add()
    books.take(node, books.report(boot="boot-2"))
    books.take(node, books.report(boot="boot-0", ended="reboot"))
    assert books.node(node).boot_id == "boot-2"
    assert books.active(node) == {}


def test_inventory_and_driver_are_kept_when_they_change(books: Books) -> None:
    node = books.add()
    inventory = Inventory(gpus=(Gpu("0000:18:00"), Gpu("0000:2a:00")), firmware={"bios": "1.2"})
    books.take(node, books.report(inventory=inventory, driver="570"))
    present = books.node(node)
    assert (present.gpu_count, present.driver) == (2, "570")
    books.take(node, books.report(inventory=inventory, driver="570"))
    assert books.node(node).revision == present.revision, "the same again is no change"
    books.take(node, books.report(inventory=Inventory(), driver="575"))
    assert (books.node(node).gpu_count, books.node(node).driver) == (0, "575")


@pytest.mark.parametrize(("skew", "words"), [(600.0, "600 s ahead"), (-600.0, "600 s behind")])
def test_a_wrong_clock_is_a_finding_until_it_is_right(books: Books, skew: float, words: str) -> None:
    node = books.add()
    books.take(node, books.report(skew=59.0))
    assert books.active(node) == {}
    for _ in range(2):
        books.take(node, books.report(skew=skew))
    finding = books.active(node)["clock-skew"]
    assert words in finding["message"] and finding["count"] == 1
    books.take(node, books.report())
    assert books.active(node) == {}


def test_hostile_words_are_watched_and_never_acted_on(books: Books) -> None:
    node = books.add()
    evil = ("xid", "999", "'; drop table node;--", "gpu", "apocalyptic", "format-all-disks")
    _ack, diagnoses = books.take(node, books.report(evil))
    assert [(one.severity, one.action) for one in diagnoses] == [(Severity.WARNING, Action.WATCH)]
    (row,) = books.db.read(lambda tx: store.signals(tx, node.id))
    assert (row["severity"], row["action"]) == ("warning", "watch")


def test_what_was_said_before_the_present_state_is_not_diagnosed_again(books: Books) -> None:
    node = books.add()
    books.take(node, books.report(XID79))
    books.clock.advance(60)
    books.db.write(lambda tx: [store.end(tx, row["id"], "repaired") for row in store.active(tx, node.id)])
    books.put(node, State.PRODUCTION)
    books.clock.advance(60)
    _ack, diagnoses = books.take(node, books.report(LINK, first=2))
    assert [one.fault for one in diagnoses] == ["ib-link-down"]
    assert set(books.active(node)) == {"ib-link-down"}


def test_a_healthy_report_writes_no_ledger(books: Books) -> None:
    node = books.add()
    books.take(node, books.report(driver="570"))
    before = books.entries()
    for _ in range(3):
        books.take(node, books.report(driver="570"))
    assert books.entries() == before


def test_a_report_that_comes_again_does_not_pass_over_what_was_left_for_later(books: Books) -> None:
    """In a crowd answers are late, and an agent says again what was stored and is not diagnosed yet."""
    node = books.add()
    report = books.report(("host", "full", "/var", "node", "warning", "watch"))
    for _ in range(2):
        books.db.write(lambda tx: intake.receive(tx, node.id, report, SETTINGS, later=True))
    assert books.db.read(backlog.unjudged) == [node.id]
    books.db.write(lambda tx: intake.catch_up(tx, node.id, SETTINGS))
    assert set(books.active(node)) == {"host-full"}
