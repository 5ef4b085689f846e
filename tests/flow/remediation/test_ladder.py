"""A part that fails again: one rung further on probation, a person after two repairs, the vendor after the technician.

Counted by serial number, so that a GPU takes its past along when it is moved.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.schema import decision, finding
from ostler.db.tx import Tx
from ostler.faults.model import Fault
from ostler.faults.monitored import fault
from ostler.health import levels
from ostler.nodes import store
from ostler.nodes.model import Condition, Node, State
from ostler.remediation import service as remediation
from ostler.tickets import service as ticket_service
from ostler.tickets import store as tickets
from ostler.wire.agent import Verdict
from tests.flow.fleet import HEALTH, MARA, SETTINGS, XID48, XID79, Fleet

GPU = {"pci": "0000:18:00.0", "serial": "GPU-77", "model": "H100"}


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    return Fleet(db, clock, PauseFile(tmp_path / "pause"))


def carry(fleet: Fleet, node: Node, *gpus: dict[str, str]) -> None:
    fleet.db.write(lambda tx: store.update(tx, node.id, {"inventory": {"gpus": list(gpus)}}))


def repaired(fleet: Fleet, node: Node) -> str:
    """A GPU error of the node is repaired in place; which action it took."""
    boot = fleet.node(node).boot_id or "boot-1"
    before = len(fleet.resets(node))
    fleet.say(node, XID48, boot=boot)
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.REBOOT
    for _ in range(5):
        if len(fleet.resets(node)) > before and fleet.node(node).boot_id == boot:
            fleet.boots(node, f"{boot}-again")
        fleet.run(31)
        fleet.answers(node, boot=fleet.node(node).boot_id or "")
    fleet.run()
    assert fleet.state(node) is State.PRODUCTION
    return actions(fleet, node)[-1]


def actions(fleet: Fleet, node: Node) -> list[str]:
    query = sa.select(decision.c.action).where(decision.c.node_id == node.id, decision.c.verdict == "act")
    return list(fleet.db.read(lambda tx: [row["action"] for row in tx.all(query.order_by(decision.c.at))]))


def probation(fleet: Fleet, node: Node) -> str | None:
    row = fleet.db.read(lambda tx: store.active_condition(tx, node.id, Condition.PROBATION))
    return None if row is None else str(row["message"])


def test_the_same_part_goes_one_rung_further_on_probation_wherever_it_is(fleet: Fleet) -> None:
    first, second = fleet.add(2)
    carry(fleet, first, GPU)
    assert repaired(fleet, first) == "reset-gpu"
    assert "gpu" not in (probation(fleet, second) or "")
    assert "xid-48 of GPU-77 again means more than reset-gpu" in (probation(fleet, first) or "")
    carry(fleet, first)  # it is moved to another node
    carry(fleet, second, GPU)
    fleet.run(4000)  # and out of the brake's window
    assert repaired(fleet, second) == "reboot"
    fleet.run(4000)
    fleet.say(second, XID48, boot=fleet.node(second).boot_id or "")
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(second) is State.TRIAGE, "the third time a person looks"
    (ticket,) = fleet.db.read(lambda tx: tickets.listed(tx, node_id=second.id))
    (part,) = ticket["evidence"]["parts"]
    assert (part["part"], part["serial"], part["slot"]) == ("gpu", "GPU-77", second.slot), "the replacement request"


def test_another_part_in_the_same_place_has_no_past(fleet: Fleet) -> None:
    (node,) = fleet.add()
    carry(fleet, node, GPU)
    assert repaired(fleet, node) == "reset-gpu"
    carry(fleet, node, {**GPU, "serial": "GPU-78"})
    fleet.run(4000)
    assert repaired(fleet, node) == "reset-gpu"
    rows = fleet.db.read(
        lambda tx: tx.all(
            sa.select(finding.c.serial, decision.c.serial.label("decided"), decision.c.fault)
            .join(decision, decision.c.finding_id == finding.c.id)
            .order_by(decision.c.at)
        )
    )
    assert [(row["serial"], row["decided"], row["fault"]) for row in rows] == [
        ("GPU-77", "GPU-77", "xid-48"),
        ("GPU-78", "GPU-78", "xid-48"),
    ]


def test_a_part_without_a_serial_number_is_known_by_its_place(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.db.write(lambda tx: store.update(tx, node.id, {"serial": None}))
    assert repaired(fleet, node) == "reset-gpu"
    fleet.run(4000)
    assert repaired(fleet, node) == "reboot"


def test_probation_ends_by_time_and_then_the_same_means_is_tried_again(fleet: Fleet) -> None:
    (node,) = fleet.add()
    carry(fleet, node, GPU)
    assert repaired(fleet, node) == "reset-gpu"
    fleet.run(SETTINGS.probation_s - 200)
    fleet.remediation.sweep()
    assert probation(fleet, node) is not None
    fleet.run(400)
    fleet.remediation.sweep()
    assert probation(fleet, node) is None
    assert repaired(fleet, node) == "reset-gpu"


def test_a_part_that_a_technician_had_is_proposed_for_return(fleet: Fleet) -> None:
    (node,) = fleet.add()
    carry(fleet, node, GPU)
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    fleet.boots(node)
    fleet.run(31)
    fleet.answers(node, Verdict.FAILED)
    fleet.run()
    assert fleet.state(node) is State.TRIAGE
    (first,) = fleet.db.read(lambda tx: tickets.listed(tx, node_id=node.id))
    fleet.db.write(lambda tx: ticket_service.claim(tx, first["id"], actor=MARA))
    fleet.db.write(lambda tx: ticket_service.done(tx, first["id"], actor=MARA, evidence="reseated; tests pass"))
    now = fleet.clock.now() + 3600
    fleet.clock.advance(3600)
    fleet.db.write(lambda tx: store.update(tx, node.id, {"state": State.PRODUCTION, "state_since": now}))
    fleet.remediation.sweep()
    fleet.say(node, XID79, boot="boot-2")
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.TRIAGE, "to rma it goes by a person's hand"
    assert actions(fleet, node)[-1] == "rma"
    (ticket,) = fleet.db.read(lambda tx: tickets.listed(tx, node_id=node.id, state="open"))
    assert "open an RMA case" in ticket["instruction"]
    assert ticket["evidence"]["parts"][0]["serial"] == "GPU-77"


def watched(fleet: Fleet, node: Node, *faults: Fault) -> None:
    """A watcher of the server says what stands now."""

    def use_case(tx: Tx) -> None:
        found = levels.converge(tx, node.id, "prometheus", faults, HEALTH)
        remediation.consider(tx, node.id, found)

    fleet.db.write(use_case)


def test_what_a_monitor_finds_climbs_too_although_it_is_over_before_the_node_is_verified(fleet: Fleet) -> None:
    (node,) = fleet.add()
    carry(fleet, node, GPU)
    errors = fault("gpu-ecc-uncorrected", "0000:18:00.0")
    for _ in range(2):
        watched(fleet, node, errors)
        fleet.run(SETTINGS.settle_s)
        assert fleet.state(node) is State.REBOOT
        watched(fleet, node)
        for _look in range(4):
            if fleet.resets(node) and fleet.node(node).boot_id == "boot-1":
                fleet.boots(node, "boot-2")
            fleet.run(31)
            fleet.answers(node, boot=fleet.node(node).boot_id or "")
        fleet.run()
        assert fleet.state(node) is State.PRODUCTION
        fleet.run(4000)
    assert actions(fleet, node) == ["reset-gpu", "reboot"]
