"""What the server's own watchers see: only what changed is written, and what stands on counts against a repair."""

from __future__ import annotations

import pytest

from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.faults.model import Fault
from ostler.faults.monitored import fault
from ostler.health import intake, levels, store
from ostler.health.model import FaultRule, HealthSettings
from ostler.nodes import store as nodes
from ostler.nodes.model import Node
from ostler.wire.agent import Heartbeat, Report, Signal
from ostler.wire.decode import JsonValue
from tests.store.health.books import Books

SETTINGS = HealthSettings()
FAN = fault("bmc-fan", "Fan_3", "Fan_3 stands still")
HOT = fault("bmc-hot", "Inlet", "Inlet at 61 °C, critical from 55 °C")


@pytest.fixture
def node(books: Books) -> Node:
    return books.add()


def look(db: Database, node: Node, *faults: Fault, source: str = "bmc") -> bool:
    return bool(db.write(lambda tx: levels.converge(tx, node.id, source, faults, SETTINGS)))


def active(db: Database, node: Node) -> set[str]:
    return {row["fault"] for row in db.read(lambda tx: store.active(tx, node.id))}


def signals(db: Database, node: Node) -> int:
    return len(db.read(lambda tx: store.signals(tx, node.id)))


def test_what_stands_is_a_finding_until_it_does_not(db: Database, node: Node) -> None:
    assert not look(db, node)
    assert signals(db, node) == 0
    assert look(db, node, FAN, HOT)
    assert active(db, node) == {"bmc-fan", "bmc-hot"}
    look(db, node, HOT)
    assert active(db, node) == {"bmc-hot"}
    look(db, node)
    assert active(db, node) == set()


def test_a_steadily_ill_node_writes_nothing(db: Database, node: Node, clock: ManualClock) -> None:
    look(db, node, FAN)
    for _ in range(10):
        clock.advance(60)
        assert not look(db, node, FAN)
    assert signals(db, node) == 1


def test_it_is_said_again_after_an_hour_after_a_boot_and_in_another_state(
    db: Database, node: Node, clock: ManualClock
) -> None:
    look(db, node, FAN)
    clock.advance(levels.AGAIN_S + 1)
    assert look(db, node, FAN)
    clock.advance(60)
    report = Report("boot-2", 0.0, 1, heartbeat=Heartbeat(1.0))
    db.write(lambda tx: intake.receive(tx, node.id, report, SETTINGS))
    clock.advance(60)
    assert look(db, node, FAN)
    clock.advance(60)
    db.write(lambda tx: nodes.update(tx, node.id, {"state_since": tx.now - 1}))
    assert look(db, node, FAN)
    assert not look(db, node, FAN)


def test_another_reading_is_told_after_five_minutes(db: Database, node: Node, clock: ManualClock) -> None:
    look(db, node, HOT)
    hotter = fault("bmc-hot", "Inlet", "Inlet at 63 °C, critical from 55 °C")
    clock.advance(60)
    assert not look(db, node, hotter)
    clock.advance(levels.READS_S)
    assert look(db, node, hotter)


def test_one_watcher_does_not_end_what_another_found(db: Database, node: Node) -> None:
    pending = fault("gpu-row-remap-pending", "0000:1b:00.0")
    look(db, node, pending, source="prometheus")
    look(db, node, source="bmc")
    assert active(db, node) == {"gpu-row-remap-pending"}
    look(db, node, source="prometheus")
    assert active(db, node) == set()


def test_the_agent_and_a_watcher_who_agree_write_it_once(db: Database, node: Node, clock: ManualClock) -> None:
    say(db, node, 1, _said("row-remap-pending"))
    clock.advance(30)
    assert not look(db, node, fault("gpu-row-remap-pending", "0000:1b:00.0"), source="prometheus")


# The agent's monitors -------------------------------------------------------------------------------------------------


def _said(code: str, *, over: bool = False, device: str = "0000:1b:00.0") -> Signal:
    severity, action = ("info", "none") if over else ("warning", "watch")
    detail: dict[str, JsonValue] = {"monitor": "gpu", **({"over": True} if over else {})}
    return Signal(1, 0.0, "monitor", "gpu", code, device, "gpu", severity, action, f"{code} it is", detail)


def _census(*standing: str) -> Signal:
    detail: dict[str, JsonValue] = {"monitor": "gpu", "standing": list(standing)}
    return Signal(
        1, 0.0, "monitor", "monitor", "census", "gpu", "agent", "info", "none", "the gpu monitor works", detail
    )


def say(db: Database, node: Node, first: int, *signals: Signal, boot: str = "boot-1") -> None:
    def use_case(tx: Tx) -> None:
        numbered = tuple(
            Signal(first + n, *(getattr(one, name) for name in Signal.__dataclass_fields__ if name != "seq"))
            for n, one in enumerate(signals)
        )
        intake.receive(tx, node.id, Report(boot, tx.real, first, numbered), SETTINGS)

    db.write(use_case)


def test_a_monitor_ends_what_it_said(db: Database, node: Node, clock: ManualClock) -> None:
    say(db, node, 1, _said("hot"), _said("pcie-replay"))
    clock.advance(600)
    say(db, node, 3, _said("hot", over=True))
    assert active(db, node) == {"gpu-pcie-replay"}
    say(db, node, 4, _said("hot"), _said("hot", over=True), _said("hot"))
    assert active(db, node) == {"gpu-pcie-replay", "gpu-hot"}


def test_a_census_ends_what_it_does_not_name_and_nothing_of_others(
    db: Database, node: Node, clock: ManualClock
) -> None:
    say(db, node, 1, _said("hot"), _said("pcie-replay"))
    look(db, node, FAN)
    clock.advance(3600 * 24)
    say(db, node, 1, _said("hot"), _census("gpu-hot@0000:1b:00.0"), boot="boot-2")
    assert active(db, node) == {"gpu-hot", "bmc-fan", "unexpected-reboot"}


def test_what_is_said_after_a_census_stands(db: Database, node: Node) -> None:
    say(db, node, 1, _census(), _said("hot"))
    assert active(db, node) == {"gpu-hot"}


def test_what_an_operators_rule_makes_nothing_of_is_not_said_at_every_look(
    db: Database, node: Node, clock: ManualClock
) -> None:
    silenced = HealthSettings(rules={"bmc-hot": FaultRule(action="none")})
    for _ in range(5):
        db.write(lambda tx: levels.converge(tx, node.id, "bmc", [HOT], silenced))
        clock.advance(60)
    assert (signals(db, node), active(db, node)) == (1, set())
    clock.advance(levels.AGAIN_S)
    db.write(lambda tx: levels.converge(tx, node.id, "bmc", [HOT], silenced))
    assert signals(db, node) == 2
