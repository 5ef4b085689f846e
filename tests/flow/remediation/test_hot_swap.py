"""Parts that are changed while the node serves: a ticket with what is wanted, and the node goes nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.nodes import store
from ostler.nodes.model import Node, State
from ostler.remediation import store as decisions
from ostler.tickets import service as ticket_service
from ostler.tickets import store as tickets
from tests.flow.fleet import MARA, SETTINGS, Fleet

FAN = ("bmc", "fan", "FAN_3", "chassis", "error", "triage", "FAN_3 turns at 0 RPM")
PSU = ("bmc", "psu", "PSU_1", "power", "warning", "watch", "PSU_1 has lost its input")


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    return Fleet(db, clock, PauseFile(tmp_path / "pause"))


def found(fleet: Fleet, node: Node) -> list[sa.RowMapping]:
    return list(fleet.db.read(lambda tx: tickets.listed(tx, node_id=node.id)))


def settle(fleet: Fleet) -> None:
    fleet.remediation.sweep()
    fleet.run(SETTINGS.settle_s)


@pytest.mark.parametrize("said", [FAN, PSU], ids=["fan", "psu"])
def test_a_ticket_and_nothing_else(fleet: Fleet, said: tuple[str, ...]) -> None:
    (node,) = fleet.add()
    fleet.say(node, said)
    for _ in range(3):
        settle(fleet)
    assert fleet.state(node) is State.PRODUCTION
    assert fleet.db.read(lambda tx: store.holds(tx, [node.id])) == []
    assert fleet.db.read(lambda tx: decisions.of_node(tx, node.id)) == [], "nothing was to be decided"
    (ticket,) = found(fleet, node)
    assert ticket["cause"] == f"bmc-{said[1]} {said[2].lower()}"
    assert "while the node serves" in ticket["instruction"]
    (part,) = ticket["evidence"]["parts"]
    assert (part["place"], part["slot"]) == (said[2].lower(), node.slot)


def test_two_parts_are_two_tickets_and_a_closed_one_comes_back_only_when_it_is_said_again(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, FAN, PSU)
    settle(fleet)
    assert len(found(fleet, node)) == 2
    ours = next(row for row in found(fleet, node) if "fan" in row["cause"])
    fleet.clock.advance(60)
    fleet.db.write(lambda tx: ticket_service.claim(tx, ours["id"], actor=MARA))
    fleet.db.write(lambda tx: ticket_service.done(tx, ours["id"], actor=MARA, evidence="new fan"))
    settle(fleet)
    assert len(found(fleet, node)) == 2
    fleet.clock.advance(60)
    fleet.say(node, FAN)
    settle(fleet)
    assert [row["state"] for row in found(fleet, node)].count("open") == 2
