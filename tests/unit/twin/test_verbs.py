"""What a simulated node does when it is ordered, through the real agent's order path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ostler.agent.orders import OrderBook, Orders
from ostler.core.clock import ManualClock
from ostler.twin.verbs import RESET_S, twin_verbs
from ostler.wire.agent import AgentSettings, Order, OrderResult, Verdict


class Machine:
    def __init__(self) -> None:
        self.failing: frozenset[str] = frozenset()
        self.works = False
        self.done: list[str] = []
        self.cabling: dict[str, Any] = {}

    def busy(self) -> bool:
        return self.works

    def gpu_reset(self, device: str) -> None:
        self.done.append(f"reset {device}")

    def restarted(self, service: str) -> None:
        self.done.append(f"restart {service}")

    def checked(self) -> None:
        self.done.append("checked")

    def neighbours(self) -> Mapping[str, Any]:
        return self.cabling

    def reboot(self) -> None:
        self.done.append("reboot")


class Bench:
    """One machine, its orders, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.machine = Machine()
        verbs = twin_verbs(self.machine, self.clock)
        self.settings = AgentSettings(verbs=tuple(verbs))
        self.orders = Orders(verbs, verbs, OrderBook(), self.clock, "boot-1")

    def give(self, verb: str, **arguments: str) -> None:
        self.orders.take([Order("o1", verb, arguments)], self.settings)
        self.orders.step()

    def result(self, after: float) -> OrderResult | None:
        self.clock.advance(after)
        self.orders.step()
        return next(iter(self.orders.results()), None)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_check_takes_its_time_and_passes(bench: Bench) -> None:
    bench.give("run-check", check="cpu-arith")
    assert bench.result(9.0) is None
    result = bench.result(2.0)
    assert result is not None and result.verdict is Verdict.PASSED
    assert result.measured["simulated"] is True


def test_a_check_that_the_script_fails_fails(bench: Bench) -> None:
    bench.machine.failing = frozenset({"memory-pattern"})
    bench.give("run-check", check="memory-pattern")
    result = bench.result(20.0)
    assert result is not None and result.verdict is Verdict.FAILED


def test_a_gpu_is_reset_when_nothing_holds_it(bench: Bench) -> None:
    bench.give("reset-gpu", device="0000:18:00")
    result = bench.result(RESET_S)
    assert result is not None and result.verdict is Verdict.PASSED
    assert bench.machine.done == ["reset 0000:18:00"]


def test_a_gpu_in_use_is_not_reset(bench: Bench) -> None:
    bench.machine.works = True
    bench.give("reset-gpu", device="0000:18:00")
    result = bench.result(RESET_S)
    assert result is not None and result.verdict is Verdict.FAILED
    assert bench.machine.done == []


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("run-check", {"check": "nonsense"}),
        ("run-check", {}),
        ("reset-gpu", {}),
        ("restart-service", {"service": "sshd"}),
        ("restart-service", {}),
    ],
)
def test_an_order_that_makes_no_sense_fails_with_a_reason(bench: Bench, verb: str, arguments: dict[str, str]) -> None:
    bench.give(verb, **arguments)
    result = bench.result(0.0)
    assert result is not None and result.verdict is Verdict.FAILED and result.message
    assert bench.machine.done == []


def test_a_service_is_restarted(bench: Bench) -> None:
    bench.give("restart-service", service="nvidia-fabricmanager")
    assert (result := bench.result(60.0)) is not None and result.verdict is Verdict.PASSED
    assert bench.machine.done == ["restart nvidia-fabricmanager"]


def test_a_reboot_is_answered_by_the_next_boot_only(bench: Bench) -> None:
    bench.give("reboot")
    assert bench.machine.done == ["reboot"]
    assert bench.result(100.0) is None


def test_the_check_of_its_cabling_says_what_is_plugged_in(bench: Bench) -> None:
    bench.machine.cabling = {"hcas": 1, "ports": [{"hca": "mlx5_0"}]}
    bench.give("run-check", check="ib-neighbours")
    result = bench.result(after=10)
    assert result is not None
    assert result.verdict is Verdict.PASSED
    assert result.measured["ports"] == [{"hca": "mlx5_0"}]


def test_a_machine_without_cabling_cannot_say(bench: Bench) -> None:
    bench.give("run-check", check="ib-neighbours")
    result = bench.result(after=10)
    assert result is not None
    assert result.verdict is Verdict.INCONCLUSIVE
