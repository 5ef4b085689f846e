"""Pages out and alerts in, over the real books."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ostler.adapters.pager.fake import FakePager
from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput, Unavailable, Unreachable
from ostler.db.engine import Database
from ostler.health import store as health
from ostler.nodes.model import OBSERVE_ONLY, Node
from ostler.oncall import inbound
from ostler.oncall.model import OncallSettings
from ostler.oncall.watch import DeadManSwitch, OncallWatch
from ostler.remediation import service as remediation
from tests.flow.fleet import HEALTH, XID79, Fleet

SETTINGS = OncallSettings(alerts={"GpuRowRemap": "gpu-row-remap-pending"})


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    return Fleet(db, clock, PauseFile(tmp_path / "pause"), granted=OBSERVE_ONLY)


@pytest.fixture
def pager() -> FakePager:
    return FakePager()


def watch(fleet: Fleet, *pagers: FakePager) -> OncallWatch:
    return OncallWatch(fleet.db, pagers, SETTINGS)


def test_what_nobody_mends_pages_once_and_ends(fleet: Fleet, pager: FakePager) -> None:
    """An observe-only fleet: the finding pages, is not repeated, and its end is told."""
    (node,) = fleet.add()
    oncall = watch(fleet, pager)
    oncall.look()
    assert pager.sent == []
    fleet.say(node, XID79)
    fleet.run(60)
    oncall.look()
    oncall.look()
    (page,) = pager.sent
    assert page.labels["node"] == node.name
    assert "observe" in page.summary or "grant" in page.summary
    fleet.db.write(lambda tx: health.end(tx, page.key.removeprefix("finding:"), "a person"))
    oncall.look()
    oncall.look()
    assert [one.over for one in pager.sent] == [False, True]
    assert pager.standing == {}


def test_a_pager_that_is_away_is_told_later_and_keeps_no_other_waiting(fleet: Fleet, pager: FakePager) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run(60)
    away = FakePager("away", unreachable=True)
    oncall = watch(fleet, away, pager)
    with pytest.raises(Unreachable):
        oncall.look()
    assert len(pager.sent) == 1
    away.unreachable = False
    oncall.look()
    assert (len(away.sent), len(pager.sent)) == (1, 1)


def test_a_pager_that_forgets_is_told_again(fleet: Fleet, pager: FakePager) -> None:
    """Alertmanager's alerts end by themselves: each is sent again while it stands."""
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run(60)
    pager.repeat_s = 60.0
    oncall = watch(fleet, pager)
    oncall.look()
    fleet.clock.advance(59)
    oncall.look()
    assert len(pager.sent) == 1
    fleet.clock.advance(2)
    oncall.look()
    assert len(pager.sent) == 2


def test_the_dead_mans_switch_is_fed_only_while_all_loops_work() -> None:
    pings, stale = list[int](), list[str]()
    switch = DeadManSwitch(lambda: pings.append(1), lambda: stale)
    switch.ping()
    assert pings == [1]
    stale.append("sequencer")
    with pytest.raises(Unavailable, match="sequencer"):
        switch.ping()
    assert pings == [1]


# Inbound --------------------------------------------------------------------------------------------------------------


def alert(node: str, name: str = "GpuRowRemap", status: str | None = "firing", **more: Any) -> dict[str, Any]:
    labels = {"alertname": name, "instance": f"{node}:9400", "pci_bus_id": "00000000:1B:00.0", "severity": "critical"}
    return {
        "labels": labels,
        "annotations": {"summary": f"{name} on {node}"},
        **({"status": status} if status else {}),
        **more,
    }


def arrive(fleet: Fleet, *alerts: dict[str, Any]) -> inbound.Taken:
    read = [inbound.alert_of(one, SETTINGS, fleet.clock.real()) for one in inbound.read({"alerts": list(alerts)})]
    known = [one for one in read if isinstance(one, inbound.Alert)]

    def use_case(tx: Any) -> inbound.Taken:
        taken = inbound.take(tx, known, HEALTH)
        for node_id, diagnoses in taken.diagnoses.items():
            remediation.consider(tx, node_id, diagnoses)
        return taken

    return fleet.db.write(use_case)


def active(fleet: Fleet, node: Node) -> list[tuple[str, str]]:
    return [(row["fault"], row["action"]) for row in fleet.db.read(lambda tx: health.active(tx, node.id))]


def test_a_mapped_alert_is_the_fault_that_it_stands_for(fleet: Fleet) -> None:
    (node,) = fleet.add()
    assert arrive(fleet, alert(node.name)).taken == 1
    assert active(fleet, node) == [("gpu-row-remap-pending", "reset-gpu")]
    arrive(fleet, alert(node.name, status="resolved"))
    assert active(fleet, node) == []


def test_an_unknown_alert_is_shown_and_never_acted_on(fleet: Fleet) -> None:
    (node,) = fleet.add()
    arrive(fleet, alert(node.name, "DiskOnFire"))
    assert active(fleet, node) == [("other-alert-DiskOnFire", "watch")]


def test_an_alert_that_fires_again_writes_nothing(fleet: Fleet) -> None:
    (node,) = fleet.add()
    for _ in range(3):
        arrive(fleet, alert(node.name))
    assert len(fleet.db.read(lambda tx: health.signals(tx, node.id))) == 1


@pytest.mark.parametrize(
    ("ends", "standing"),
    [("2100-01-01T00:00:00Z", 1), ("2000-01-01T00:00:00Z", 0), ("0001-01-01T00:00:00Z", 1), ("soon", 1)],
)
def test_a_v2_alert_stands_until_its_end(fleet: Fleet, ends: str, standing: int) -> None:
    (node,) = fleet.add()
    arrive(fleet, alert(node.name, status=None, endsAt=ends))
    assert len(active(fleet, node)) == standing


def test_what_cannot_be_taken_is_said(fleet: Fleet) -> None:
    assert arrive(fleet, alert("nobody")).passed_over == ("no node is called 'nobody:9400'",)
    assert inbound.alert_of({}, SETTINGS, 0.0) == "an alert without labels"
    assert inbound.alert_of({"labels": {"a": "b"}}, SETTINGS, 0.0) == "an alert without a name"
    assert "none of the labels" in str(inbound.alert_of({"labels": {"alertname": "X"}}, SETTINGS, 0.0))
    with pytest.raises(BadInput, match="webhook document"):
        inbound.read({"alerts": [3]})
    with pytest.raises(BadInput, match="is no fault"):
        inbound.check(OncallSettings(alerts={"X": "no-such-fault"}))


def test_one_page_that_is_not_taken_keeps_no_other_from_ringing(fleet: Fleet) -> None:
    for node in fleet.add(3):
        fleet.say(node, XID79)
    fleet.run(60)
    learns = FakePager("learns")
    watch(fleet, learns).look()
    first = min(learns.standing)
    pager = FakePager(most_at_once=1, refuses=frozenset({first}))
    oncall = watch(fleet, pager)
    with pytest.raises(BadInput):
        oncall.look()
    assert set(pager.standing) == set(learns.standing) - {first}
    sent = len(pager.sent)
    with pytest.raises(BadInput):
        oncall.look()
    assert len(pager.sent) == sent, "what it has taken it is not told again"
