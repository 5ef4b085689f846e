"""A confirmed leak: power goes at once, whatever the brake says, and comes back only by a named person's word.

What holds it back pages instead: hands on the node, a pause, a flash, a grant that is missing (ADR 013).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from ostler.adapters.bmc.port import PowerState
from ostler.brake import service as brake
from ostler.brake.model import Rule
from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.core.errors import Conflict, Refused
from ostler.db.engine import Database
from ostler.db.schema import decision, event, permit
from ostler.health import findings
from ostler.health import store as health
from ostler.health.model import Cause
from ostler.nodes import service, store
from ostler.nodes.model import Capability, Condition, Node, State, Timing
from ostler.remediation import by_hand
from ostler.tickets import service as ticket_service
from ostler.tickets import store as tickets
from tests.flow.fleet import MARA, SETTINGS, XID79, Fleet

LEAK = ("bmc", "leak", "leak0", "chassis", "fatal", "power-off", "leak0 is wet, twice")
SUSPECTED = ("bmc", "leak-suspected", "leak0", "chassis", "warning", "watch", "leak0 is wet")


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    return Fleet(db, clock, PauseFile(tmp_path / "pause"))


def power(fleet: Fleet, node: Node) -> PowerState:
    assert node.bmc_address is not None
    return fleet.bmcs.by_address[node.bmc_address].power


def pages(fleet: Fleet) -> list[tuple[str, str]]:
    """(scope, summary) of the open incidents."""
    return [(row["scope"], row["summary"]) for row in fleet.db.read(lambda tx: health.incidents(tx, open_only=True))]


def paged(fleet: Fleet) -> int:
    query = sa.select(sa.func.count()).select_from(event).where(event.c.type == "incident.opened")
    return int(fleet.db.read(lambda tx: tx.scalar(query)))


def live_permits(fleet: Fleet) -> int:
    return len(fleet.db.read(lambda tx: tx.all(sa.select(permit).where(permit.c.released_at.is_(None)))))


def last(fleet: Fleet, node: Node) -> tuple[str, str]:
    query = (
        sa.select(decision).where(decision.c.node_id == node.id).order_by(decision.c.at.desc(), decision.c.id.desc())
    )
    row = fleet.db.read(lambda tx: tx.one(query.limit(1)))
    assert row is not None
    return row["verdict"], row["action"]


def test_power_goes_at_once_and_the_node_is_locked(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.busy(node, True)
    fleet.say(node, LEAK)
    fleet.run()
    assert (power(fleet, node), fleet.resets(node)) == (PowerState.OFF, ["reset off"])
    present = fleet.node(node)
    assert (present.state, present.power_locked) == (State.TRIAGE, True)
    types = {row["type"] for row in fleet.db.read(lambda tx: store.conditions(tx, [node.id]))}
    assert Condition.POWER_LOCKED in types
    (ticket,) = fleet.db.read(lambda tx: tickets.listed(tx, node_id=node.id))
    assert "--clear-lock" in ticket["instruction"]
    assert last(fleet, node) == ("act", "power-off")
    assert live_permits(fleet) == 0, "the permit is recorded, and given back"
    for _ in range(3):
        fleet.run(600)
        fleet.remediation.sweep()
    assert fleet.resets(node) == ["reset off"]


def test_a_suspicion_powers_nothing(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, SUSPECTED)
    fleet.remediation.sweep()
    fleet.run(600)
    assert (fleet.state(node), fleet.resets(node), pages(fleet)) == (State.PRODUCTION, [], [])


def test_no_limit_of_the_brake_holds_a_leak(fleet: Fleet) -> None:
    nodes = fleet.add(5)
    shut = [Rule("fleet", at_once=0, per_window=0), Rule("rack", at_once=0)]
    fleet.db.write(lambda tx: brake.set_rules(tx, shut, actor=MARA, reason="all shut"))
    for node in nodes:  # most of a SKU at once: correlation would call that a configuration
        fleet.say(node, LEAK)
    fleet.remediation.sweep()
    fleet.run()
    assert {power(fleet, node) for node in nodes} == {PowerState.OFF}


def test_an_incident_that_explains_a_leak_holds_nothing_back(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, LEAK)
    (row,) = fleet.db.read(lambda tx: health.active(tx, node.id))
    cause = Cause("shared-domain", "cooling", "loop-1", "1 node of cooling loop-1 leaks", (row["id"],))
    fleet.db.write(lambda tx: findings.open_incident(tx, cause))
    fleet.run()
    assert power(fleet, node) is PowerState.OFF


def test_a_leak_does_not_use_up_the_brake_for_others(fleet: Fleet) -> None:
    wet, other = fleet.add(2)
    assert wet.bmc_address is not None
    fleet.bmcs.by_address[wet.bmc_address].unreachable = True  # its permit is out for as long
    fleet.say(wet, LEAK)
    fleet.say(other, XID79)
    fleet.run(SETTINGS.settle_s)
    assert fleet.resets(other) == ["reset force-restart"]


def test_a_leak_does_not_wait_for_a_reboot_that_is_under_way(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.REBOOT
    fleet.say(node, LEAK)
    fleet.run()
    assert (fleet.state(node), power(fleet, node)) == (State.TRIAGE, PowerState.OFF)
    fleet.run(SETTINGS.boot_timeout_s * 3)
    assert fleet.resets(node) == ["reset force-restart", "reset off"], "nothing switches it on again"
    assert live_permits(fleet) == 0


@pytest.mark.parametrize(
    "state", [State.ONBOARD, State.SEATRIAL, State.TEST, State.TRIAGE, State.DEBUG, State.ZAP_FAIL]
)
def test_it_leaks_in_every_state(fleet: Fleet, state: State) -> None:
    (node,) = fleet.add()
    fleet.db.write(lambda tx: store.update(tx, node.id, {"state": state}))
    fleet.say(node, LEAK)
    fleet.run()
    assert power(fleet, node) is PowerState.OFF
    assert fleet.state(node) is (State.DEBUG if state is State.DEBUG else State.TRIAGE)


def test_where_power_is_not_granted_people_are_paged_once(fleet: Fleet) -> None:
    granted = frozenset(Capability) - {Capability.POWER}
    fleet.db.write(
        lambda tx: service.define_pool(tx, replace(store.get_pool(tx, "default"), capabilities=granted), actor=MARA)
    )
    (node,) = fleet.add()
    fleet.say(node, LEAK)
    for _ in range(4):
        fleet.run(60)
        fleet.remediation.sweep()
    fleet.run()
    assert (fleet.resets(node), last(fleet, node), paged(fleet)) == ([], ("would-act", "power-off"), 1)
    ((scope, summary),) = pages(fleet)
    assert scope == "node" and "do it by hand" in summary


def test_where_cordon_is_not_granted_the_power_goes_all_the_same(fleet: Fleet) -> None:
    granted = frozenset({Capability.OBSERVE, Capability.POWER})
    fleet.db.write(
        lambda tx: service.define_pool(tx, replace(store.get_pool(tx, "default"), capabilities=granted), actor=MARA)
    )
    (node,) = fleet.add()
    fleet.say(node, LEAK)
    fleet.run()
    assert (power(fleet, node), fleet.node(node).power_locked) == (PowerState.OFF, True)


@pytest.mark.parametrize("what", ["hands", "pause", "zap", "flash"])
def test_what_holds_the_power_off_pages_and_it_follows_when_that_is_over(fleet: Fleet, what: str) -> None:
    (node,) = fleet.add()
    ticket = fleet.db.write(
        lambda tx: ticket_service.open_ticket(tx, node=node, cause="fan", instruction="fan 3", evidence={})
    )
    flashing = None
    if what == "hands":
        fleet.db.write(lambda tx: ticket_service.claim(tx, ticket, actor=MARA))
    elif what == "pause":
        fleet.db.write(lambda tx: brake.pause(tx, "fleet", actor=MARA, reason="freeze"))
    elif what == "zap":
        fleet.db.write(lambda tx: store.update(tx, node.id, {"state": State.ZAP}))
    else:
        flashing = fleet.db.write(lambda tx: brake.reserve(tx, node, "firmware", actor=MARA, reason="flash"))
    fleet.say(node, LEAK)
    for _ in range(3):
        fleet.run(10)
    assert (power(fleet, node), fleet.resets(node)) == (PowerState.ON, [])
    assert last(fleet, node) == ("held", "power-off")
    ((scope, summary),) = pages(fleet)
    assert scope == "node" and "it is not switched off because" in summary
    assert paged(fleet) == 1
    if what == "hands":
        fleet.db.write(lambda tx: ticket_service.done(tx, ticket, actor=MARA, evidence="out of the rack"))
    elif what == "pause":
        fleet.db.write(lambda tx: brake.resume(tx, "fleet", actor=MARA, reason="over"))
    elif what == "zap":
        fleet.db.write(lambda tx: store.update(tx, node.id, {"state": State.ZAP_FAIL}))
    else:
        assert flashing is not None
        permit_id = flashing
        fleet.db.write(lambda tx: brake.release(tx, permit_id))
    fleet.run(10)
    assert power(fleet, node) is PowerState.OFF


def test_several_racks_at_once_are_one_more_page_and_hold_nothing_back(fleet: Fleet) -> None:
    (first,) = fleet.add(rack="r1")
    (second,) = fleet.add(rack="r2")
    fleet.say(first, LEAK)
    fleet.run()
    assert pages(fleet) == [], "one rack: the ticket says it all"
    fleet.say(second, LEAK)
    fleet.run()
    ((scope, summary),) = pages(fleet)
    assert scope == "fleet" and "leaks in 2 racks at once (r1, r2): gpu-1, gpu-2" in summary
    assert power(fleet, second) is PowerState.OFF
    (third,) = fleet.add(rack="r3")
    fleet.say(third, LEAK)
    fleet.run()
    ((scope, summary),) = pages(fleet)
    assert "3 racks at once (r1, r2, r3)" in summary and paged(fleet) == 1, "the page grows, and is not said again"
    for node in (first, second, third):
        clear = partial(by_hand.clear_power_lock, node_id=node.id, actor=MARA, reason="mended")
        fleet.db.write(clear)
    fleet.remediation.sweep()
    assert pages(fleet) == []


def test_two_leaks_in_one_rack_or_long_apart_are_no_page(fleet: Fleet) -> None:
    first, second = fleet.add(2, rack="r1")
    (third,) = fleet.add(rack="r2")
    fleet.say(first, LEAK)
    fleet.say(second, LEAK)
    fleet.run()
    fleet.run(SETTINGS.leak_window_s + 60)
    fleet.say(third, LEAK)
    fleet.run()
    fleet.remediation.sweep()
    assert pages(fleet) == []


def test_the_lock_is_a_named_persons_to_clear(fleet: Fleet) -> None:
    (node,) = fleet.add()
    with pytest.raises(Conflict, match="not locked"):
        fleet.db.write(lambda tx: by_hand.clear_power_lock(tx, node.id, actor=MARA, reason="dry"))
    fleet.say(node, LEAK)
    fleet.run()

    def on() -> None:
        fleet.db.write(
            lambda tx: by_hand.order_power(tx, node.id, "on", timing=Timing.IMMEDIATE, actor=MARA, reason="dry")
        )

    with pytest.raises(Refused, match="--clear-lock"):
        on()
    fleet.db.write(lambda tx: by_hand.clear_power_lock(tx, node.id, actor=MARA, reason="hose replaced"))
    assert fleet.node(node).power_locked is False
    assert power(fleet, node) is PowerState.OFF, "clearing switches nothing on"
    on()
    fleet.run()
    assert power(fleet, node) is PowerState.ON
    fleet.say(node, LEAK)  # it still drips
    fleet.run()
    assert (power(fleet, node), fleet.node(node).power_locked) == (PowerState.OFF, True)


def test_a_bmc_that_does_not_answer_is_asked_until_it_does_and_people_are_called(fleet: Fleet) -> None:
    (node,) = fleet.add()
    assert node.bmc_address is not None
    bmc = fleet.bmcs.by_address[node.bmc_address]
    bmc.unreachable = True
    fleet.say(node, LEAK)
    fleet.run()
    assert pages(fleet) == []
    for _ in range(14):
        fleet.run(5)
    assert "it is not off yet" in pages(fleet)[0][1]
    bmc.unreachable = False
    fleet.run(5)
    assert power(fleet, node) is PowerState.OFF


def test_without_a_bmc_people_are_called(fleet: Fleet) -> None:
    (node,) = fleet.add(bmc=False)
    fleet.say(node, LEAK)
    fleet.run()
    assert "pull the plug" in pages(fleet)[0][1]
    assert (fleet.state(node), live_permits(fleet)) == (State.TRIAGE, 0)


def test_a_lost_nudge_is_made_good_by_the_sweep(fleet: Fleet) -> None:
    (node,) = fleet.add()
    from ostler.health import intake
    from tests.flow.fleet import HEALTH

    report = fleet._next(node.id, "boot-1", (LEAK,))
    fleet.db.write(lambda tx: intake.receive(tx, node.id, report, HEALTH))
    fleet.run()
    assert power(fleet, node) is PowerState.ON
    fleet.remediation.sweep()
    fleet.run()
    assert power(fleet, node) is PowerState.OFF
