"""The first loop of Day 2+: signal → finding → permit → cordon and transition → reboot → verification → production.

On both databases, with real jobs, brake and lifecycle; the BMCs and the agents' voices are the test's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from ostler.brake import service as brake
from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.schema import decision, event, permit
from ostler.db.schema import finding as findings
from ostler.db.tx import Tx
from ostler.faults.model import Action
from ostler.health import findings as health_findings
from ostler.health import store as health
from ostler.nodes import service, store
from ostler.nodes.model import OBSERVE_ONLY, Capability, Condition, Node, State, Timing
from ostler.remediation import by_hand
from ostler.tickets import service as tickets_service
from ostler.tickets import store as tickets
from ostler.wire.agent import Verdict
from tests.flow.fleet import HEALTH, LINK, MARA, SETTINGS, XID13, XID45, XID48, XID79, Fleet


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    return Fleet(db, clock, PauseFile(tmp_path / "pause"))


def verdicts(fleet: Fleet, node: Node) -> list[tuple[str, str]]:
    rows = fleet.db.read(
        lambda tx: tx.all(
            sa.select(decision).where(decision.c.node_id == node.id).order_by(decision.c.at, decision.c.id)
        )
    )
    return [(row["verdict"], row["action"]) for row in rows]


def live_permits(fleet: Fleet) -> int:
    return len(fleet.db.read(lambda tx: tx.all(sa.select(permit).where(permit.c.released_at.is_(None)))))


def holders(fleet: Fleet, node: Node) -> set[str]:
    return {row["holder"] for row in fleet.db.read(lambda tx: store.holds(tx, [node.id]))}


def open_findings(fleet: Fleet, node: Node) -> set[str]:
    return {row["fault"] for row in fleet.db.read(lambda tx: health.active(tx, node.id))}


def published(fleet: Fleet, node: Node) -> list[str]:
    rows = fleet.db.read(lambda tx: tx.all(sa.select(event).where(event.c.subject == node.id).order_by(event.c.seq)))
    return [row["type"] for row in rows]


def test_a_fatal_fault_is_rebooted_verified_and_returned(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run()
    assert holders(fleet, node) == {"remediation"}, "a cordon comes at once"
    assert fleet.resets(node) == [], "and nothing disruptive before the settle window"
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.REBOOT
    assert fleet.resets(node) == ["reset force-restart"]
    assert live_permits(fleet) == 1
    fleet.run(60)
    assert fleet.state(node) is State.REBOOT, "waits for the node"
    fleet.boots(node)
    fleet.run(60)
    assert fleet.answers(node) == len(SETTINGS.verification_checks)
    fleet.run()
    assert fleet.state(node) is State.PRODUCTION
    assert holders(fleet, node) == set()
    assert live_permits(fleet) == 0
    assert open_findings(fleet, node) == set()
    assert fleet.resets(node) == ["reset force-restart"], "once"
    assert published(fleet, node)[-1] == "node.uncordoned"
    assert {"node.unhealthy", "node.cordoned", "node.healthy", "node.uncordoned"} <= set(published(fleet, node))
    (left,) = fleet.db.read(lambda tx: store.conditions(tx, [node.id]))
    assert left["type"] == Condition.PROBATION


def test_an_isolated_application_error_only_records(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID13)
    fleet.run(600)
    fleet.remediation.sweep()
    fleet.run(600)
    assert (fleet.state(node), holders(fleet, node), verdicts(fleet, node)) == (State.PRODUCTION, set(), [])
    assert len(fleet.db.read(lambda tx: health.signals(tx, node.id))) == 1, "but it is recorded"


def test_a_busy_node_with_surviving_work_is_pending_until_idle(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.busy(node, True)
    fleet.say(node, XID48)
    fleet.run(SETTINGS.settle_s)
    present = fleet.node(node)
    assert (present.state, present.pending_state) == (State.PRODUCTION, State.REBOOT)
    assert holders(fleet, node) == {"remediation"}
    conditions = fleet.db.read(lambda tx: store.conditions(tx, [node.id]))
    assert {row["type"] for row in conditions} == {Condition.PENDING_REBOOT, Condition.GPU_UNHEALTHY}
    assert live_permits(fleet) == 0, "waiting takes no permit from others"
    fleet.run(3600)
    assert fleet.state(node) is State.PRODUCTION
    fleet.busy(node, False)
    fleet.run(60)
    assert fleet.state(node) is State.REBOOT
    assert fleet.answers(node, boot="boot-1") == 1, "the agent is asked to reset the GPU"
    fleet.run()
    fleet.run(60)
    fleet.answers(node, boot="boot-1")
    fleet.run()
    assert fleet.state(node) is State.PRODUCTION
    assert fleet.resets(node) == [], "no reboot where a reset does"


def test_a_pending_transition_acts_when_its_deadline_passes(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.busy(node, True)
    fleet.say(node, XID48)
    fleet.run(SETTINGS.settle_s)
    fleet.run(SETTINGS.drain_deadline_s + 1)
    assert fleet.state(node) is State.REBOOT


def test_observe_only_says_what_it_would_do_and_does_nothing(fleet: Fleet) -> None:
    fleet.db.write(
        lambda tx: service.define_pool(
            tx, replace(store.get_pool(tx, "default"), capabilities=OBSERVE_ONLY), actor=MARA
        )
    )
    (node,) = fleet.add()
    fleet.say(node, XID79)
    for _ in range(3):
        fleet.run(3600)
        fleet.remediation.sweep()
    fleet.run()
    assert (fleet.state(node), holders(fleet, node), fleet.resets(node)) == (State.PRODUCTION, set(), [])
    assert verdicts(fleet, node) == [("would-act", "reboot")], "said once, not at every look"
    assert published(fleet, node).count("action.would_act") == 1


def test_a_grant_given_later_is_acted_on(fleet: Fleet) -> None:
    observing = replace(fleet.db.read(lambda tx: store.get_pool(tx, "default")), capabilities=OBSERVE_ONLY)
    fleet.db.write(lambda tx: service.define_pool(tx, observing, actor=MARA))
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run(3600)
    everything = replace(observing, capabilities=frozenset(Capability))
    fleet.db.write(lambda tx: service.define_pool(tx, everything, actor=MARA))
    fleet.remediation.sweep()
    fleet.run()
    assert fleet.state(node) is State.REBOOT


def test_the_brake_holds_the_second_node_and_serves_it_later(fleet: Fleet) -> None:
    first, second = fleet.add(2)
    fleet.say(first, XID79)
    fleet.say(second, XID79)
    fleet.run(SETTINGS.settle_s)
    states = {fleet.state(first), fleet.state(second)}
    assert states == {State.REBOOT, State.PRODUCTION}, "one at a time in a rack"
    acted, held = (first, second) if fleet.state(first) is State.REBOOT else (second, first)
    assert verdicts(fleet, held) == [("held", "reboot")]
    fleet.run(300)
    assert verdicts(fleet, held) == [("held", "reboot")], "held is said once"
    fleet.boots(acted)
    fleet.run(60)
    fleet.answers(acted)
    fleet.run()
    assert fleet.state(acted) is State.PRODUCTION
    fleet.run(60)
    assert fleet.state(held) is State.REBOOT


def test_a_held_decision_that_went_stale_is_never_replayed(fleet: Fleet) -> None:
    first, second = fleet.add(2)
    fleet.say(first, XID79)
    fleet.say(second, XID79)
    fleet.run(SETTINGS.settle_s)
    held = second if fleet.state(first) is State.REBOOT else first
    acted = first if held is second else second
    fleet.db.write(lambda tx: health_clear(tx, held))
    fleet.boots(acted)
    fleet.run(60)
    fleet.answers(acted)
    fleet.run()
    fleet.run(600)
    assert fleet.state(held) is State.PRODUCTION
    assert fleet.resets(held) == []
    assert holders(fleet, held) == set(), "our cordon is lifted"


def health_clear(tx: Tx, node: Node) -> None:
    health_findings.clear(tx, health.active(tx, node.id), by="person:mara: false alarm", actor=MARA)


def test_a_fault_that_returns_goes_to_triage_with_a_ticket(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    fleet.run(60)
    fleet.boots(node)
    fleet.say(node, XID79, boot="boot-2")
    fleet.run(60)
    fleet.answers(node)
    fleet.run()
    assert fleet.state(node) is State.TRIAGE
    (ticket,) = fleet.db.read(lambda tx: tickets.listed(tx, node_id=node.id))
    assert ticket["cause"] == "gpu-off-bus"
    assert "again after the reboot" in ticket["instruction"]
    assert live_permits(fleet) == 0
    assert holders(fleet, node) == {"lifecycle", "remediation"}, "both end with the return to production"


@pytest.mark.parametrize("verdict", [Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.REFUSED])
def test_only_a_passed_verification_returns_a_node(fleet: Fleet, verdict: Verdict) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    fleet.boots(node)
    fleet.run(60)
    fleet.answers(node, verdict)
    fleet.run()
    assert fleet.state(node) is State.TRIAGE


def test_a_node_that_does_not_come_back_is_power_cycled_and_then_goes_to_triage(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    fleet.run(SETTINGS.boot_timeout_s + 60)
    assert (fleet.state(node), fleet.resets(node)) == (State.REBOOT, ["reset force-restart", "reset power-cycle"])
    assert live_permits(fleet) == 1, "under the same permit"
    fleet.run(SETTINGS.boot_timeout_s + 60)
    assert fleet.state(node) is State.TRIAGE
    (ticket,) = fleet.db.read(lambda tx: tickets.listed(tx, node_id=node.id))
    assert "reboot, then power-cycle did not help" in ticket["instruction"]
    assert "did not come back within 30 min" in ticket["instruction"]
    assert verdicts(fleet, node) == [("act", "reboot"), ("act", "power-cycle"), ("act", "triage")]


def test_one_that_comes_back_from_the_second_means_is_verified_as_ever(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    fleet.run(SETTINGS.boot_timeout_s + 60)
    fleet.boots(node)
    fleet.run(60)
    fleet.answers(node)
    fleet.run()
    assert fleet.state(node) is State.PRODUCTION


def test_a_gpu_reset_that_fails_becomes_a_reboot(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID48)
    fleet.run(SETTINGS.settle_s)
    fleet.answers(node, Verdict.FAILED, boot="boot-1")
    fleet.run()
    assert (fleet.state(node), fleet.resets(node)) == (State.REBOOT, ["reset force-restart"])


def test_a_reboot_that_is_not_urgent_asks_the_agent_first(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.heard(node)
    fleet.say(node, LINK)
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.REBOOT
    assert [one.verb for one in fleet.orders(node)] == ["reboot"]
    fleet.boots(node)
    fleet.run(31)
    fleet.answers(node)
    fleet.run()
    assert (fleet.state(node), fleet.resets(node)) == (State.PRODUCTION, [])


@pytest.mark.parametrize("how", ["refused", "late"])
def test_an_agent_that_does_not_reboot_is_helped_by_the_bmc(fleet: Fleet, how: str) -> None:
    (node,) = fleet.add()
    fleet.heard(node)
    fleet.say(node, LINK)
    fleet.run(SETTINGS.settle_s)
    if how == "refused":
        fleet.answers(node, Verdict.REFUSED, boot="boot-1")
        fleet.run()
    else:
        fleet.run(SETTINGS.in_band_s - 1)
        assert fleet.resets(node) == []
        fleet.run(31)
    assert fleet.resets(node) == ["reset force-restart"]


def test_an_agent_that_is_not_heard_of_is_not_asked(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.heard(node)
    fleet.say(node, LINK)
    fleet.clock.advance(HEALTH.silent_after_s)
    fleet.run(SETTINGS.settle_s)
    assert (fleet.orders(node), fleet.resets(node)) == ((), ["reset graceful-restart"])


def test_the_third_time_a_person_looks(fleet: Fleet) -> None:
    (node,) = fleet.add()
    for n in range(2):
        fleet.say(node, XID79, boot=f"boot-{n + 1}")
        fleet.run(SETTINGS.settle_s)
        fleet.boots(node, f"boot-{n + 2}")
        fleet.run(60)
        fleet.answers(node, boot=f"boot-{n + 2}")
        fleet.run()
        assert fleet.state(node) is State.PRODUCTION
        fleet.run(4000)
    fleet.say(node, XID79, boot="boot-3")
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.TRIAGE
    assert len(fleet.resets(node)) == 2


def test_an_unreachable_bmc_is_tried_again_and_ends_in_triage(fleet: Fleet) -> None:
    (node,) = fleet.add(bmc=False)
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.TRIAGE, "no BMC: nothing can power it"


def test_a_rack_of_links_down_is_one_incident_and_nothing_is_touched(fleet: Fleet) -> None:
    nodes = fleet.add(8)
    for node in nodes:
        fleet.say(node, LINK)
    fleet.run(SETTINGS.settle_s)
    fleet.run(300)
    assert {fleet.state(node) for node in nodes} == {State.PRODUCTION}
    assert [fleet.resets(node) for node in nodes] == [[]] * 8
    (incident,) = fleet.db.read(health.incidents)
    assert (incident["scope"], incident["subject"]) == ("rack", "r1")
    late = fleet.add()[0]
    fleet.say(late, LINK)
    fleet.run(SETTINGS.settle_s)
    (incident,) = fleet.db.read(health.incidents)
    assert incident["summary"].startswith("9 nodes of rack r1"), "the ninth joins it"
    assert fleet.resets(late) == []
    assert all(holders(fleet, node) == set() for node in nodes)


def test_a_solo_45_restarts_the_fabric_manager_in_place(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID45)
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.REBOOT
    fleet.answers(node, boot="boot-1")
    fleet.run()
    fleet.answers(node, boot="boot-1")
    fleet.run()
    assert fleet.state(node) is State.PRODUCTION
    assert fleet.resets(node) == []


def test_a_45_that_gets_company_in_the_settle_window_is_no_fault(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID45)
    fleet.run(5)
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    assert open_findings(fleet, node) == {"gpu-off-bus"}
    assert fleet.resets(node) == ["reset force-restart"]


def test_a_pause_holds_and_resume_lets_go(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.db.write(lambda tx: brake.pause(tx, "fleet", actor=MARA, reason="change freeze"))
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(node) is State.PRODUCTION
    assert verdicts(fleet, node) == [("held", "reboot")]
    fleet.db.write(lambda tx: brake.resume(tx, "fleet", actor=MARA, reason="over"))
    fleet.run(120)
    assert fleet.state(node) is State.REBOOT


def test_the_pause_file_stops_the_last_step_even_with_a_permit(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.pause_file.path.write_text("fire drill\n")
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    assert fleet.resets(node) == []
    fleet.pause_file.path.unlink()
    fleet.run(120)
    assert fleet.resets(node) == ["reset force-restart"]


def test_hands_on_a_node_hold_everything(fleet: Fleet) -> None:
    (node,) = fleet.add()
    ticket = fleet.db.write(
        lambda tx: tickets_service.open_ticket(tx, node=node, cause="fan", instruction="replace fan 3", evidence={})
    )
    fleet.db.write(lambda tx: tickets_service.claim(tx, ticket, actor=MARA))
    fleet.say(node, XID79)
    fleet.run(SETTINGS.settle_s)
    assert (fleet.state(node), fleet.resets(node)) == (State.PRODUCTION, [])
    fleet.db.write(lambda tx: tickets_service.done(tx, ticket, actor=MARA, evidence="fan 3 replaced"))
    fleet.run(120)
    assert fleet.resets(node) == ["reset force-restart"]


def test_a_person_orders_a_reboot_through_the_same_brake(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.db.write(
        lambda tx: by_hand.order(
            tx, node.id, Action.REBOOT, timing=Timing.IMMEDIATE, actor=MARA, reason="kernel update"
        )
    )
    fleet.run()
    assert fleet.state(node) is State.REBOOT
    fleet.boots(node)
    fleet.run(60)
    fleet.answers(node)
    fleet.run()
    assert fleet.state(node) is State.PRODUCTION
    history = fleet.db.read(lambda tx: store.transitions(tx, node_id=node.id))
    assert [row["actor"] for row in history][1:] == ["person:mara", "person:mara"]


def test_history_follows_the_serial_number(fleet: Fleet) -> None:
    (node,) = fleet.add()
    rows = fleet.db.read(lambda tx: store.transitions(tx, serial="SN1"))
    assert [row["to_state"] for row in rows] == ["production"]
    assert node.serial == "SN1"
    assert fleet.db.read(lambda tx: tx.all(sa.select(findings))) == []


def test_a_node_that_forgot_what_it_was_asked_is_not_asked_again_in_its_next_boot(fleet: Fleet) -> None:
    """One that boots from the network has lost its agent's book of orders; the boot itself is the answer."""
    (node,) = fleet.add()
    fleet.heard(node)
    fleet.say(node, LINK)
    fleet.run()
    fleet.run(SETTINGS.settle_s)
    assert [order.verb for order in fleet.orders(node)] == ["reboot"]
    fleet.boots(node, "boot-2")
    assert "reboot" not in [order.verb for order in fleet.orders(node)]
    fleet.run()
    assert {order.verb for order in fleet.orders(node)} == {"run-check"}
    assert fleet.resets(node) == []


def test_what_a_server_was_away_for_is_not_held_against_the_node(fleet: Fleet) -> None:
    """The node was asked to reboot, the server was away for an hour: its silence counts from the server's return."""
    (node,) = fleet.add()
    fleet.heard(node)
    fleet.say(node, LINK)
    fleet.run()
    fleet.run(SETTINGS.settle_s)
    fleet.clock.advance(3600)
    fleet.restart()
    fleet.run()
    assert (fleet.resets(node), fleet.state(node)) == ([], State.REBOOT)
    fleet.run(SETTINGS.in_band_s + 60)
    assert len(fleet.resets(node)) == 1


def test_answers_that_nobody_was_there_to_take_are_asked_for_once_more(fleet: Fleet) -> None:
    (node,) = fleet.add()
    fleet.say(node, XID79)
    fleet.run()
    fleet.run(SETTINGS.settle_s)
    fleet.boots(node, "boot-2")
    fleet.run()
    first = {order.id for order in fleet.orders(node)}
    fleet.clock.advance(SETTINGS.verification_deadline_s + 600)
    fleet.restart()
    fleet.run()
    again = {order.id for order in fleet.orders(node)}
    assert again and not again & first
    fleet.run(SETTINGS.verification_deadline_s + 60)
    assert fleet.state(node) is State.TRIAGE, "a node that does not answer a server that is there is not verified"


def test_a_step_that_comes_late_cordons_all_the_same(fleet: Fleet) -> None:
    """The settle window was over before anybody looked, and the brake holds the repair: no work goes there meanwhile."""
    first, second = fleet.add(2)
    fleet.say(first, XID79)
    fleet.run()
    fleet.run(SETTINGS.settle_s)
    assert fleet.state(first) is State.REBOOT
    fleet.say(second, XID79)
    fleet.run(SETTINGS.settle_s + 60)
    assert fleet.state(second) is State.PRODUCTION, "one node of the rack at a time"
    assert [row["holder"] for row in fleet.db.read(lambda tx: store.holds(tx, [second.id]))] == ["remediation"]
