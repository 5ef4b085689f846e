"""An agent with monitors against a server: what travels, in which order, and what a server may refuse."""

from __future__ import annotations

from ostler.agent.agent import Agent
from ostler.agent.monitors.scripted import ScriptedMonitors
from ostler.core.clock import ManualClock
from ostler.faults.monitored import fault
from ostler.wire.agent import AgentSettings, Report
from tests.flow.agent.collector import Collector
from tests.flow.agent.conftest import AgentMaker

PCI = "0000:1b:00.0"
HOT = fault("gpu-hot", PCI, "91 of 89 °C")


def settle(agent: Agent, clock: ManualClock, seconds: float = 5.0) -> None:
    """Steps the agent through so much of its own time."""
    until = clock.now() + seconds
    while clock.now() < until:
        clock.advance(max(0.01, min(agent.poll(), until - clock.now(), 1.0)))
    agent.poll()


def said(collector: Collector) -> list[str]:
    found = []
    for signal in collector.memory.signals():
        mark = "-" if signal.detail.get("over") else "=" if signal.code == "census" else "+"
        found.append(f"{mark}{signal.kind}-{signal.code}@{signal.device}")
    return found


def test_what_begins_and_ends_within_seconds_is_told_in_its_order(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock
) -> None:
    """The throttle would fold the second beginning, and the server would believe the first ending."""
    monitors = ScriptedMonitors(clock, ("gpu",))
    agent = make_agent(monitors=monitors)
    settle(agent, clock)
    for _ in range(3):
        monitors.stand("gpu", HOT)
        settle(agent, clock, 1.0)
        monitors.end("gpu")
        settle(agent, clock, 1.0)
    begins, ends = f"+gpu-hot@{PCI}", f"-gpu-hot@{PCI}"
    assert said(collector) == ["=monitor-census@gpu", *[begins, ends] * 3]
    settle(agent, clock, 60.0)
    assert len(said(collector)) == 7
    assert collector.memory.boot().holes == []


def test_a_restarted_agent_says_all_that_stands_and_a_census(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock
) -> None:
    monitors = ScriptedMonitors(clock, ("gpu",))
    monitors.stand("gpu", HOT)
    agent = make_agent(monitors=monitors)
    settle(agent, clock)
    agent.close()
    fresh = ScriptedMonitors(clock, ("gpu",))
    fresh.stand("gpu", fault("gpu-lost", PCI))
    settle(make_agent(monitors=fresh), clock)
    assert said(collector) == [
        f"+gpu-hot@{PCI}", "=monitor-census@gpu", f"+gpu-lost@{PCI}", "=monitor-census@gpu",
    ]  # fmt: skip
    assert collector.memory.signals()[-1].detail["standing"] == [f"gpu-lost@{PCI}"]


def test_the_heartbeat_says_when_each_monitor_worked(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock
) -> None:
    monitors = ScriptedMonitors(clock, ("gpu", "disks"))
    agent = make_agent(monitors=monitors)
    settle(agent, clock)
    monitors.kill("disks")
    settle(agent, clock, 100.0)
    beat = collector.memory.reports[-1].heartbeat
    assert beat is not None
    assert set(beat.monitors) == {"gpu", "disks"}
    assert beat.monitors["disks"] > 60 > beat.monitors["gpu"]
    assert "+monitor-dead@disks" in said(collector)


def test_readings_travel_once_per_interval(make_agent: AgentMaker, collector: Collector, clock: ManualClock) -> None:
    monitors = ScriptedMonitors(clock, ("gpu",))
    monitors.measure({PCI: {"power_w": 650.0, "temperature_c": 61.0}})
    agent = make_agent(monitors=monitors, settings=AgentSettings(heartbeat_s=30.0, readings_s=120.0))
    settle(agent, clock, 600.0)
    sent = [report for report in collector.memory.reports if report.readings is not None]
    assert 4 <= len(sent) <= 6
    assert all(report.heartbeat is not None for report in sent)
    first = sent[0].readings
    assert first is not None
    assert (first.metrics, first.devices, first.values) == (("temperature_c", "power_w"), (PCI,), ((61.0, 650.0),))


def test_no_monitors_and_nothing_of_theirs(make_agent: AgentMaker, collector: Collector, clock: ManualClock) -> None:
    agent = make_agent()
    settle(agent, clock, 200.0)
    assert said(collector) == []
    assert all(report.readings is None for report in collector.memory.reports)
    assert agent.descriptors() == []


def test_readings_that_the_server_cannot_read_cost_no_signal(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock
) -> None:
    def refuse(report: Report) -> tuple[int, str] | None:
        return (422, "readings: no such thing") if report.readings is not None else None

    collector.memory.refuse = refuse
    monitors = ScriptedMonitors(clock, ("gpu",))
    monitors.measure({PCI: {"power_w": 650.0}})
    agent = make_agent(monitors=monitors)
    settle(agent, clock, 30.0)
    monitors.stand("gpu", HOT)
    settle(agent, clock, 30.0)
    assert f"+gpu-hot@{PCI}" in said(collector)
    assert collector.memory.boot().gaps == []
