"""The whole of Day 1 on both databases: what passes reaches production, what does not ends where people find it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ostler.acceptance import driver, service
from ostler.adapters.bmc.port import Health, PowerState, Psu
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.schema import condition, transition
from ostler.jobs import store as jobs
from ostler.nodes import service as nodes
from ostler.nodes import store as node_store
from ostler.nodes.model import Capability, Condition, State
from ostler.wire.agent import Verdict
from tests.flow.acceptance.world import HOST, PERSON, SETTINGS, SKU, World, bmc_inventory


@pytest.fixture
def world(db: Database, clock: ManualClock) -> World:
    return World(db, clock)


def certify(world: World) -> None:
    world.db.write(lambda tx: nodes.certify(tx, world.node_id, actor=PERSON))


def conditions(world: World) -> dict[str, str]:
    return {row["type"]: row["message"] for row in world.rows(condition) if row["until"] is None}


def test_a_sound_node_walks_from_onboard_to_production(world: World) -> None:
    world.run(1)
    assert world.state() is State.ONBOARD, "nobody has certified it"
    certify(world)
    world.run(40, until=State.PRODUCTION)
    assert world.state() is State.PRODUCTION
    assert world.bmc.firmware == {"BMC": "2.0", "BIOS": "7.1"}
    assert [call.what for call in world.bmc.calls] == [
        "update_firmware BMC",
        "update_firmware BIOS",
        "reset power-cycle",
    ], "in the declared order, and only the BIOS needs the power cycle"
    firsts = [name for name, verdict in world.outcomes if verdict == "passed"]
    assert firsts[:4] == ["seatrial", "firmware:BMC", "firmware:BIOS", "zap"]
    assert firsts[4:] == ["cpu-arith", "memory-pattern", "disk-write"] * 2 + ["test"]
    assert world.orders[1] == {"check": "memory-pattern", "mib": "64"}
    states = [row["to_state"] for row in sorted(world.rows(transition), key=lambda row: (row["at"], row["id"]))]
    assert states == ["discovered", "onboard", "seatrial", "zap", "test", "production"]
    assert world.live_permits == 0
    assert world.tickets == []
    assert world.live() is None


def test_the_burn_in_lasts_its_whole_time(world: World) -> None:
    world.put_in(State.SEATRIAL, State.ZAP, State.TEST)
    world.run(23.5)
    assert world.state() is State.TEST
    world.run(1)
    assert world.state() is State.PRODUCTION


def test_a_pool_may_do_without_the_certificate(world: World) -> None:
    pool = replace(world.db.read(lambda tx: node_store.get_pool(tx, "gpu")), auto_certify=True)
    world.db.write(lambda tx: nodes.define_pool(tx, pool, actor=PERSON))
    world.run(0.1, until=State.SEATRIAL)
    assert world.state() is State.SEATRIAL


def test_a_missing_gpu_ends_in_triage_with_one_ticket(world: World) -> None:
    lost = {**HOST, "gpus": HOST["gpus"][:1]}
    world.db.write(lambda tx: node_store.update(tx, world.node_id, {"inventory": lost}))
    world.put_in(State.SEATRIAL)
    world.run(0.4)
    assert world.state() is State.SEATRIAL, "it is observed for the whole window"
    world.run(0.3)
    assert world.state() is State.TRIAGE
    assert ("seatrial", "failed") in world.outcomes
    (ticket,) = world.tickets
    assert ticket["cause"] == "seatrial-failed"
    assert "gpu (host): expected 2, found 1" in ticket["instruction"]
    assert "gpu (host and bmc): expected 2 (bmc), found 1 (host)" in ticket["instruction"]
    assert "gpu-0001" in ticket["instruction"]
    assert world.bmc.calls == []


def test_what_was_wrong_more_than_once_counts_although_it_is_right_at_the_end(world: World) -> None:
    world.put_in(State.SEATRIAL)
    world.bmc.inventory = replace(
        bmc_inventory(), psus=(Psu("PSU1", "", "", 3000.0, Health.CRITICAL), Psu("PSU2", "", "", 3000.0, Health.OK))
    )
    world.run(0.2)
    world.bmc.inventory = bmc_inventory()
    world.run(0.5)
    assert world.state() is State.TRIAGE
    assert "psu (bmc): expected PSU1 ok, found critical" in world.tickets[0]["instruction"]


def test_a_bmc_that_is_away_for_a_while_does_no_harm(world: World) -> None:
    world.put_in(State.SEATRIAL)
    world.bmc.unreachable = True
    world.run(0.6)
    assert world.state() is State.SEATRIAL
    world.bmc.unreachable = False
    world.run(0.3, until=State.ZAP)
    assert world.state() is State.ZAP


def test_a_bmc_that_stays_away_is_inconclusive_and_has_a_ticket(world: World) -> None:
    world.put_in(State.SEATRIAL)
    world.bmc.unreachable = True
    world.run(1.2)
    assert world.state() is State.TRIAGE
    assert ("seatrial", "inconclusive") in world.outcomes
    assert "connection refused" in world.tickets[0]["instruction"]


def test_without_a_sku_the_node_waits_for_a_person(db: Database, clock: ManualClock) -> None:
    world = World(db, clock, sku=None)
    world.put_in(State.SEATRIAL)
    world.run(1)
    assert world.state() is State.SEATRIAL
    assert "no SKU is set and none fits" in conditions(world)[Condition.HELD_FOR_PERSON]
    assert len(world.audited("node.held")) == 1, "repeats write nothing"
    db.write(lambda tx: service.put_sku(tx, "hgx", SKU, actor=PERSON))
    world.run(1, until=State.ZAP)
    assert world.node.sku == "hgx", "the one SKU that fits exactly is taken over"
    assert world.state() is State.ZAP
    assert Condition.HELD_FOR_PERSON not in conditions(world)


def test_a_pool_that_does_not_grant_firmware_only_says_what_it_would_do(db: Database, clock: ManualClock) -> None:
    world = World(db, clock, capabilities=frozenset({Capability.OBSERVE}))
    world.put_in(State.SEATRIAL, State.ZAP)
    world.run(1)
    assert world.state() is State.ZAP
    assert world.bmc.calls == []
    held = conditions(world)[Condition.HELD_FOR_PERSON]
    assert "would update BMC 1.0 → 2.0; BIOS 7.0 → 7.1" in held
    assert "does not grant firmware and power" in held


def test_a_failed_flash_ends_in_zap_fail_with_the_tasks_words(world: World) -> None:
    world.bmc.flash_failure = "Image signature not accepted."
    world.put_in(State.SEATRIAL, State.ZAP)
    world.run(2, until=State.ZAP_FAIL)
    assert world.state() is State.ZAP_FAIL
    assert ("firmware:BMC", "failed") in world.outcomes
    assert ("zap", "failed") in world.outcomes
    (ticket,) = world.tickets
    assert "Image signature not accepted." in ticket["instruction"]
    assert ticket["evidence"]["step"] == "watch"
    assert world.live_permits == 0
    assert [call.what for call in world.bmc.calls] == ["update_firmware BMC"], "no power, no second try"
    assert world.bmc.power is PowerState.ON


def test_a_task_that_says_ok_is_not_believed(world: World) -> None:
    world.put_in(State.SEATRIAL, State.ZAP)

    def forgets(what: str) -> None:
        if what == "update":  # the flash ends, and the version is what it was
            for flash in world.bmc._flashes.values():
                flash.version = world.bmc.firmware[flash.component]

    world.after = forgets
    world.run(2, until=State.ZAP_FAIL)
    assert world.state() is State.ZAP_FAIL
    assert "still at 1.0 after the flash" in world.tickets[0]["instruction"]


def test_a_component_that_the_bmc_does_not_list_fails_before_anything_is_touched(world: World) -> None:
    del world.bmc.firmware["BIOS"]
    world.put_in(State.SEATRIAL, State.ZAP)
    world.run(1, until=State.ZAP_FAIL)
    assert "lists no firmware component BIOS" in world.tickets[0]["instruction"]
    assert world.bmc.calls == []


def test_a_held_brake_holds_the_flash_and_says_why(world: World) -> None:
    world.db.write(lambda tx: node_store.update(tx, world.node_id, {"maintenance_by": "person:jo"}))
    world.put_in(State.SEATRIAL, State.ZAP)
    world.run(1)
    assert world.state() is State.ZAP
    assert world.bmc.calls == []
    live = world.live()
    assert live is not None
    assert "person:jo has hands on the node" in live["why"]
    world.db.write(lambda tx: node_store.update(tx, world.node_id, {"maintenance_by": None}))
    world.run(4, until=State.TEST)
    assert world.state() is State.TEST


def test_a_death_between_the_call_and_its_journal_flashes_once(world: World) -> None:
    """The process dies after the BMC took the order and before that was journaled; another replica goes on."""
    world.put_in(State.SEATRIAL, State.ZAP)

    class Killed(BaseException):
        pass

    def die(what: str) -> None:
        world.after = lambda what: None
        raise Killed

    world.after = die
    with pytest.raises(Killed):
        world.run(1)
    world.clock.advance(31)  # the lease runs out
    world.runner = world.new_runner("two")
    world.run(0.2)
    assert [call.what for call in world.bmc.calls] == ["update_firmware BMC"]
    live = world.live()
    assert live is not None
    assert "may be under way" in live["why"]
    world.run(4, until=State.TEST)
    assert world.state() is State.TEST
    assert [call.what for call in world.bmc.calls].count("update_firmware BMC") == 1


def test_a_stuck_flash_is_given_up_without_touching_the_power(world: World) -> None:
    world.bmc.flash_seconds = 1e9
    world.put_in(State.SEATRIAL, State.ZAP)
    world.run(2, until=State.ZAP_FAIL)
    assert world.state() is State.ZAP_FAIL
    assert "stuck" in world.tickets[0]["instruction"]
    assert [call.what for call in world.bmc.calls] == ["update_firmware BMC"]


def test_an_overdue_zap_becomes_zap_fail_while_the_flash_is_only_watched(db: Database, clock: ManualClock) -> None:
    world = World(db, clock, settings=replace(SETTINGS, flash_limit_s=30_000.0, task_poll_s=600.0))
    world.bmc.flash_seconds = 7 * 3600.0
    world.put_in(State.SEATRIAL, State.ZAP)
    world.run(6.5, until=State.ZAP_FAIL)
    assert world.state() is State.ZAP_FAIL
    (ticket,) = world.tickets
    assert ticket["cause"] == "zap-overdue"
    assert ticket["evidence"]["step"] == "watch"
    assert world.live() is not None, "the flash is watched to its end"
    world.run(2)
    assert world.live() is None
    assert [call.what for call in world.bmc.calls] == ["update_firmware BMC"]
    assert world.live_permits == 0
    assert ("firmware:BMC", "passed") in world.outcomes
    assert world.state() is State.ZAP_FAIL


def test_a_failed_check_ends_in_triage_with_its_message(world: World) -> None:
    world.answers["memory-pattern"] = [Verdict.FAILED]
    world.put_in(State.SEATRIAL, State.ZAP, State.TEST)
    world.run(1, until=State.TRIAGE)
    assert world.state() is State.TRIAGE
    assert ("memory-pattern", "failed") in world.outcomes
    assert ("test", "failed") in world.outcomes
    assert "'memory-pattern' did not pass: said failed" in world.tickets[0]["instruction"]


def test_an_inconclusive_check_is_tried_again(world: World) -> None:
    world.answers["cpu-arith"] = [Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE]
    world.put_in(State.SEATRIAL, State.ZAP, State.TEST)
    world.run(25, until=State.PRODUCTION)
    assert world.state() is State.PRODUCTION
    assert world.outcomes.count(("cpu-arith", "inconclusive")) == 2


@pytest.mark.parametrize("verdict", [Verdict.INCONCLUSIVE, Verdict.REFUSED])
def test_a_check_that_never_runs_never_passes(world: World, verdict: Verdict) -> None:
    world.answers["cpu-arith"] = [verdict] * 9
    world.put_in(State.SEATRIAL, State.ZAP, State.TEST)
    world.run(2, until=State.TRIAGE)
    assert world.state() is State.TRIAGE
    assert ("test", "inconclusive") in world.outcomes
    tries = world.outcomes.count(("cpu-arith", "inconclusive"))
    assert tries == (1 if verdict is Verdict.REFUSED else 1 + SETTINGS.test_retries)


def test_an_agent_that_does_not_answer_is_inconclusive_in_the_end(world: World) -> None:
    world.deaf = True
    world.put_in(State.SEATRIAL, State.ZAP, State.TEST)
    world.run(6, until=State.TRIAGE)
    assert world.state() is State.TRIAGE
    assert "no answer before the deadline" in world.tickets[0]["instruction"]


def test_a_repaired_node_has_the_short_test(world: World) -> None:
    world.put_in(State.SEATRIAL, State.TRIAGE, State.TEST)
    world.run(0.9)
    assert world.state() is State.TEST
    world.run(0.3)
    assert world.state() is State.PRODUCTION
    assert world.outcomes.count(("cpu-arith", "passed")) == 1


def test_an_overdue_onboard_only_raises_a_condition(world: World) -> None:
    world.clock.advance(8 * 24 * 3600)
    world.turn()
    assert world.state() is State.ONBOARD
    assert "at most 168 h" in conditions(world)[Condition.OVERDUE]
    known = [row for row in world.rows(condition) if row["type"] == Condition.OVERDUE]
    world.run(2)
    assert [row for row in world.rows(condition) if row["type"] == Condition.OVERDUE] == known, "said once"


def test_the_driver_keeps_one_live_job(world: World) -> None:
    world.put_in(State.SEATRIAL)
    for _ in range(3):
        driver.sweep(world.db, world.procedures)
    (job,) = world.db.read(lambda tx: jobs.live(tx, world.node_id))
    assert job["procedure"] == "seatrial"


def test_a_lost_task_is_settled_by_the_version(world: World) -> None:
    """A BMC that restarts after its own update has forgotten the task."""
    world.put_in(State.SEATRIAL, State.ZAP)
    world.run(0.1)
    flashed = world.bmc._flashes
    world.clock.advance(1000)
    world.open_bmc(world.node).firmware()  # the flash has ended
    flashed.clear()
    world.run(3, until=State.TEST)
    assert world.state() is State.TEST
