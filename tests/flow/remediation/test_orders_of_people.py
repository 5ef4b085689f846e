"""What a person may order, and what is refused before anything moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostler.brake import service as brake
from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.core.errors import Refused
from ostler.db.engine import Database
from ostler.faults.model import Action
from ostler.nodes.model import Node, State, Timing
from ostler.remediation import service as remediation
from tests.flow.fleet import MARA, Fleet


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    return Fleet(db, clock, PauseFile(tmp_path / "pause"))


def reboot(fleet: Fleet, node: Node) -> None:
    fleet.db.write(
        lambda tx: remediation.order(tx, node.id, Action.REBOOT, timing=Timing.IMMEDIATE, actor=MARA, reason="kernel")
    )


def test_what_nothing_can_power_is_not_taken_out_of_production(fleet: Fleet) -> None:
    (node,) = fleet.add(bmc=False)
    with pytest.raises(Refused, match="has no BMC address"):
        reboot(fleet, node)
    fleet.run(600)
    assert fleet.state(node) is State.PRODUCTION


def test_an_order_during_a_pause_is_refused_and_does_not_come_back(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.db.write(lambda tx: brake.pause(tx, "fleet", actor=MARA, reason="freeze"))
    with pytest.raises(Refused, match="fleet is paused by person:mara"):
        reboot(fleet, node)
    fleet.db.write(lambda tx: brake.resume(tx, "fleet", actor=MARA, reason="over"))
    fleet.run(600)
    assert (fleet.state(node), fleet.resets(node)) == (State.PRODUCTION, [])


def test_the_pause_file_is_lifted_by_removing_it(fleet: Fleet) -> None:
    fleet.pause_file.path.write_text("drill\n")
    fleet.pause_file.mirror(fleet.db)
    with pytest.raises(Refused, match="remove the file"):
        fleet.db.write(lambda tx: brake.resume(tx, "fleet", actor=MARA, reason="back"))
    fleet.pause_file.path.unlink()
    fleet.pause_file.mirror(fleet.db)
    (node,) = fleet.add()
    assert fleet.db.read(lambda tx: brake.stopped(tx, node)) is None
