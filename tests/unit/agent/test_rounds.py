"""What is said when looks are compared: edges, censuses, the dead. And the scripted monitors that the twin uses."""

from __future__ import annotations

import pytest

from ostler.agent.monitors.port import Look
from ostler.agent.monitors.rounds import Rounds, table
from ostler.agent.monitors.scripted import ScriptedMonitors
from ostler.core.clock import ManualClock
from ostler.faults.metrics import METRICS
from ostler.faults.model import Severity
from ostler.faults.monitored import fault
from ostler.wire.agent import Signal
from ostler.wire.decode import decode, encode

PCI = "0000:1b:00.0"
HOT = fault("gpu-hot", PCI, "91 of 89 °C")


def said(signals: list[Signal]) -> list[str]:
    """`+` began, `-` over, `=` a census."""
    found = []
    for signal in signals:
        decode(Signal, encode(signal))  # it must travel
        assert signal.detail["monitor"]
        assert signal.source == "monitor"
        if signal.code == "census":
            assert signal.severity == "info"
            standing = signal.detail["standing"]
            assert isinstance(standing, list)
            found.append(f"={signal.device}:{' '.join(map(str, standing))}")
        else:
            over = signal.detail.get("over")
            assert (signal.severity == "info") == bool(over)
            found.append(f"{'-' if over else '+'}{signal.kind}-{signal.code}@{signal.device}")
    return found


@pytest.fixture
def rounds() -> Rounds:
    made = Rounds(lambda: 1_800_000_000.0)
    made.expect("gpu", 30.0, 0.0)
    return made


def test_the_first_look_says_what_stands_and_then_the_census(rounds: Rounds) -> None:
    rounds.looked("gpu", Look((HOT,)), 1.0)
    assert said(rounds.step(1.0)) == [f"+gpu-hot@{PCI}", f"=gpu:gpu-hot@{PCI}"]
    rounds.looked("gpu", Look((HOT,)), 31.0)
    assert said(rounds.step(31.0)) == [], "a level, not an edge"
    rounds.looked("gpu", Look(), 61.0)
    assert said(rounds.step(61.0)) == [f"-gpu-hot@{PCI}"]


def test_an_empty_first_look_says_its_census_too(rounds: Rounds) -> None:
    rounds.looked("gpu", Look(), 1.0)
    assert said(rounds.step(1.0)) == ["=gpu:"]


def test_a_fault_that_gets_worse_is_said_again_and_another_figure_is_not(rounds: Rounds) -> None:
    rounds.looked("gpu", Look((HOT,)), 1.0)
    rounds.step(1.0)
    rounds.looked("gpu", Look((fault("gpu-hot", PCI, "92 of 89 °C"),)), 31.0)
    assert said(rounds.step(31.0)) == []
    rounds.looked("gpu", Look((fault("gpu-hot", PCI, severity=Severity.ERROR),)), 61.0)
    assert said(rounds.step(61.0)) == [f"+gpu-hot@{PCI}"]


def test_the_same_fault_of_two_devices_is_two(rounds: Rounds) -> None:
    rounds.looked("gpu", Look((HOT, fault("gpu-hot", "0000:2b:00.0"))), 1.0)
    rounds.step(1.0)
    rounds.looked("gpu", Look((HOT,)), 31.0)
    assert said(rounds.step(31.0)) == ["-gpu-hot@0000:2b:00.0"]


def test_two_periods_without_a_look_are_death(rounds: Rounds) -> None:
    rounds.looked("gpu", Look((HOT,)), 10.0)
    rounds.step(10.0)
    assert rounds.next_due() == 70.0
    assert said(rounds.step(70.0)) == []
    assert said(rounds.step(70.1)) == ["+monitor-dead@gpu"]
    assert said(rounds.step(700.0)) == [], "once"
    assert rounds.worked(700.0) == {"gpu": 690.0}


def test_one_that_never_worked_dies_too(rounds: Rounds) -> None:
    assert rounds.worked(50.0) == {"gpu": -1.0}
    assert said(rounds.step(60.1)) == ["+monitor-dead@gpu"]


def test_what_a_dead_one_found_goes_on_standing_until_it_works_again(rounds: Rounds) -> None:
    narrow = fault("gpu-pcie-width", PCI)
    rounds.looked("gpu", Look((HOT, narrow)), 1.0)
    rounds.step(1.0)
    rounds.failed("gpu", "the driver does not answer")
    rounds.failed("gpu", "the driver does not answer")
    assert said(rounds.step(2.0)) == ["+monitor-dead@gpu"]
    rounds.looked("gpu", Look((narrow,)), 31.0)
    assert said(rounds.step(31.0)) == ["-monitor-dead@gpu", f"-gpu-hot@{PCI}", f"=gpu:gpu-pcie-width@{PCI}"]


def test_a_restarted_child_gets_two_periods_and_then_says_its_census(rounds: Rounds) -> None:
    rounds.looked("gpu", Look(), 1.0)
    rounds.step(1.0)
    rounds.all_failed("their process has ended")
    assert said(rounds.step(2.0)) == ["+monitor-dead@gpu"]
    rounds.expect("gpu", 30.0, 3.0)
    rounds.looked("gpu", Look(), 4.0)
    assert said(rounds.step(4.0)) == ["-monitor-dead@gpu", "=gpu:"]


def test_one_that_is_held_is_not_dead_and_says_anew_what_a_repair_did_not_cure(rounds: Rounds) -> None:
    pending = fault("gpu-row-remap-pending", PCI)
    rounds.looked("gpu", Look((HOT, pending)), 1.0)
    rounds.step(1.0)
    rounds.hold("gpu")
    rounds.failed("gpu", "killed")
    assert said(rounds.step(1000.0)) == []
    rounds.resume("gpu", 1000.0)
    rounds.looked("gpu", Look((pending,)), 1001.0)
    assert said(rounds.step(1001.0)) == [f"+gpu-row-remap-pending@{PCI}", f"=gpu:gpu-row-remap-pending@{PCI}"]


def test_readings_are_a_table_of_what_is_said(rounds: Rounds) -> None:
    rounds.looked("gpu", Look((), {"b": {"power_w": 2.0}, "a": {"temperature_c": 40.0, "power_w": 1.0}}), 1.0)
    found = table(rounds.readings(), METRICS)
    assert found is not None
    assert found.metrics == ("temperature_c", "power_w")
    assert found.devices == ("a", "b")
    assert found.values == ((40.0, 1.0), (None, 2.0))
    rounds.failed("gpu", "hangs")
    assert table(rounds.readings(), METRICS) is None, "old ones are worth nothing"


def test_scripted_monitors_behave_like_real_ones() -> None:
    clock = ManualClock()
    monitors = ScriptedMonitors(clock, ("gpu", "infiniband"))
    assert said(list(monitors.step(0.0))) == ["=gpu:", "=infiniband:"]
    monitors.stand("gpu", HOT, fault("gpu-lost", PCI))
    monitors.measure({PCI: {"power_w": 700.0}})
    assert said(list(monitors.step(1.0))) == [f"+gpu-hot@{PCI}", f"+gpu-lost@{PCI}"]
    found = monitors.readings()
    assert found is not None and found.values == ((700.0,),)
    monitors.end("gpu", "gpu-hot")
    assert said(list(monitors.step(2.0))) == [f"-gpu-hot@{PCI}"]
    monitors.kill("gpu")
    assert said(list(monitors.step(62.0))) == []
    assert said(list(monitors.step(62.1))) == ["+monitor-dead@gpu"]
    monitors.end("gpu")
    monitors.revive("gpu")
    assert said(list(monitors.step(63.0))) == ["-monitor-dead@gpu", f"-gpu-lost@{PCI}", "=gpu:"]
    monitors.kill("infiniband", "sysfs hangs")
    assert said(list(monitors.step(64.0))) == ["+monitor-dead@infiniband"]
    with pytest.raises(KeyError):
        monitors.stand("weather", HOT)
