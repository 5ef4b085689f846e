"""Nothing is lost, nothing is told twice, the order is kept: over absent servers, lost answers, restarts, reboots."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from ostler.agent.agent import Agent
from ostler.agent.buffer import MemoryBuffer
from ostler.agent.sources.scripted import ScriptedSource
from ostler.agent.spool import SpoolBuffer
from ostler.core.clock import ManualClock
from ostler.wire.agent import AgentSettings, Report
from tests.flow.agent.collector import Collector
from tests.flow.agent.conftest import AgentMaker

FATAL = "NVRM: Xid (PCI:0000:{:02x}:00): 79, pid=1234, GPU has fallen off the bus."
MILD = "NVRM: Xid (PCI:0000:{:02x}:00): 31, pid=1234, name=python, Ch 00000008"


def settle(agent: Agent, clock: ManualClock, rounds: int = 200) -> None:
    """Steps the agent through its own time until nothing waits any more."""
    for _ in range(rounds):
        clock.advance(min(agent.poll(), 1.0))


def say(source: ScriptedSource, clock: ManualClock, numbers: range, text: str = FATAL) -> None:
    for number in numbers:
        source.say(clock.now(), text.format(number))


def devices(collector: Collector) -> list[str]:
    return [signal.device for signal in collector.memory.signals()]


def test_a_fatal_signal_goes_at_once_and_a_mild_one_waits_for_its_neighbours(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock
) -> None:
    source = ScriptedSource()
    agent = make_agent(source)
    settle(agent, clock)
    source.say(clock.now(), FATAL.format(1))
    agent.poll()
    assert len(collector.memory.signals()) == 1
    source.say(clock.now(), MILD.format(2))
    agent.poll()
    assert 0 < agent.poll() <= 0.5
    clock.advance(0.3)
    source.say(clock.now(), MILD.format(3))
    agent.poll()
    assert len(collector.memory.signals()) == 1
    clock.advance(0.2)
    agent.poll()
    assert [signal.seq for signal in collector.memory.signals()] == [1, 2, 3]
    assert [len(report.signals) for report in collector.memory.reports if report.signals] == [1, 2]


def test_the_first_report_brings_the_inventory_and_no_signal(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock
) -> None:
    source = ScriptedSource()
    agent = make_agent(source)
    source.say(clock.now(), FATAL.format(1))
    settle(agent, clock)
    first = collector.memory.reports[0]
    assert first.inventory is not None
    assert first.inventory.system.serial == "SN-1"
    assert first.signals == ()
    assert first.heartbeat is not None
    assert first.heartbeat.monitors == {"kernel": 0.0}
    assert all(report.inventory is None for report in collector.memory.reports[1:])


def test_heartbeats_follow_the_servers_settings(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock
) -> None:
    collector.memory.settings = AgentSettings(heartbeat_s=5.0)
    agent = make_agent(ScriptedSource())
    end = clock.now() + 300
    while clock.now() < end:
        clock.advance(max(agent.poll(), 0.01))
    assert 55 <= len(collector.memory.reports) <= 70  # 60 with jitter


def test_the_server_goes_away_and_comes_back(make_agent: AgentMaker, collector: Collector, clock: ManualClock) -> None:
    source = ScriptedSource()
    agent = make_agent(source)
    say(source, clock, range(3))
    settle(agent, clock)
    collector.stop()
    say(source, clock, range(3, 20))
    settle(agent, clock, 20)
    assert len(collector.memory.signals()) == 3
    collector.start()
    say(source, clock, range(20, 25))
    settle(agent, clock)
    boot = collector.memory.boot()
    assert devices(collector) == [f"0000:{number:02x}:00" for number in range(25)]
    assert [signal.seq for signal in boot.signals] == list(range(1, 26))
    assert (boot.gaps, boot.holes, boot.repeated) == ([], [], 0)


def test_a_lost_answer_costs_a_repeat_that_the_server_drops(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock
) -> None:
    source = ScriptedSource()
    agent = make_agent(source)
    settle(agent, clock)
    deaf = itertools.chain([True], itertools.repeat(False))
    collector.memory.deafen = lambda report: bool(report.signals) and next(deaf)
    say(source, clock, range(5))
    settle(agent, clock)
    boot = collector.memory.boot()
    assert [signal.seq for signal in boot.signals] == [1, 2, 3, 4, 5]
    assert boot.repeated == 5
    reports = len(collector.memory.reports)
    settle(agent, clock, 20)
    assert boot.repeated == 5, "acknowledged signals are not sent again"
    assert len(collector.memory.reports) > reports


def test_overflow_is_a_gap_that_names_the_lost_sequences(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock
) -> None:
    source = ScriptedSource()
    agent = make_agent(source, buffer=MemoryBuffer("boot-1", entries=10))
    settle(agent, clock)
    collector.stop()
    say(source, clock, range(50))
    settle(agent, clock, 20)
    collector.start()
    settle(agent, clock)
    boot = collector.memory.boot()
    assert [(gap.from_seq, gap.to_seq, gap.reason) for gap in boot.gaps] == [(1, 41, "overflow")]
    assert [signal.seq for signal in boot.signals] == list(range(42, 51))
    assert boot.holes == []


def test_what_a_source_missed_takes_its_place_in_the_order(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock
) -> None:
    source = ScriptedSource()
    agent = make_agent(source)
    say(source, clock, range(1))
    source.miss("kmsg-overrun", "312 records")
    say(source, clock, range(1, 2))
    settle(agent, clock)
    boot = collector.memory.boot()
    assert [signal.seq for signal in boot.signals] == [1, 3]
    assert [(gap.from_seq, gap.to_seq, gap.detail) for gap in boot.gaps] == [(2, 2, "312 records")]


def test_a_restarted_agent_goes_on_where_it_was(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock, tmp_path: Path
) -> None:
    source = ScriptedSource()
    first = make_agent(source, buffer=SpoolBuffer(tmp_path, "boot-1"))
    say(source, clock, range(3))
    settle(first, clock)
    collector.stop()
    say(source, clock, range(3, 8))
    settle(first, clock, 5)
    collector.start()  # the first agent dies here: it is never polled or closed again
    again = ScriptedSource()
    second = make_agent(again, buffer=SpoolBuffer(tmp_path, "boot-1"))
    say(again, clock, range(8, 10))
    settle(second, clock)
    boot = collector.memory.boot()
    assert devices(collector) == [f"0000:{number:02x}:00" for number in range(10)]
    assert (boot.gaps, boot.holes, boot.repeated) == ([], [], 0)


@pytest.mark.parametrize("said_before_contact", [0, 4])
def test_an_agent_that_lost_its_state_takes_no_sequence_twice(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock, tmp_path: Path, said_before_contact: int
) -> None:
    source = ScriptedSource()
    settle(make_agent(source, buffer=SpoolBuffer(tmp_path / "a", "boot-1")), clock)
    first = make_agent(source, buffer=SpoolBuffer(tmp_path / "b", "boot-1"))
    say(source, clock, range(6))
    settle(first, clock)
    collector.stop()
    fresh = ScriptedSource()
    second = make_agent(fresh, buffer=SpoolBuffer(tmp_path / "c", "boot-1"))
    say(fresh, clock, range(6, 6 + said_before_contact))
    settle(second, clock, 5)
    collector.start()
    settle(second, clock)
    say(fresh, clock, range(6 + said_before_contact, 12))
    settle(second, clock)
    boot = collector.memory.boot()
    assert devices(collector) == [f"0000:{number:02x}:00" for number in range(12)]
    assert (boot.gaps, boot.holes, boot.repeated) == ([], [], 0)


def test_a_reboot_closes_the_former_boot_and_loses_nothing_that_was_seen(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock, tmp_path: Path
) -> None:
    source = ScriptedSource()
    first = make_agent(source, buffer=SpoolBuffer(tmp_path, "boot-1"))
    say(source, clock, range(2))
    settle(first, clock)
    collector.stop()
    say(source, clock, range(2, 5))
    settle(first, clock, 5)
    collector.start()
    second = make_agent(ScriptedSource(), buffer=SpoolBuffer(tmp_path, "boot-2"))
    settle(second, clock)
    old, new = collector.memory.boot("boot-1"), collector.memory.boot("boot-2")
    assert [signal.seq for signal in old.signals] == [1, 2, 3, 4, 5]
    assert old.ended == "reboot"
    assert (new.signals, new.ended) == ([], "")
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["boot-2.jsonl"]
    closing = [report for report in collector.memory.reports if report.ended]
    assert [report.heartbeat for report in closing] == [None]


def test_one_unreadable_signal_is_declared_lost_and_the_rest_arrives(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock
) -> None:
    source = ScriptedSource()
    agent = make_agent(source)
    settle(agent, clock)

    def poisoned(report: Report) -> tuple[int, str] | None:
        bad = any(signal.device == "0000:05:00" for signal in report.signals)
        return (422, "signals[0]: no") if bad else None

    collector.memory.refuse = poisoned
    say(source, clock, range(12))
    settle(agent, clock)
    boot = collector.memory.boot()
    assert [(gap.from_seq, gap.to_seq, gap.reason) for gap in boot.gaps] == [(6, 6, "rejected")]
    assert len(boot.signals) == 11
    assert boot.holes == []


@pytest.mark.parametrize("status", [401, 403, 404, 422, 500, 503])
def test_a_server_that_takes_nothing_costs_nothing(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock, status: int
) -> None:
    source = ScriptedSource()
    agent = make_agent(source)
    settle(agent, clock)
    collector.memory.refuse = lambda report: (status, "not today")
    say(source, clock, range(6))
    for _ in range(50):
        clock.advance(agent.poll())
    collector.memory.refuse = lambda report: None
    clock.advance(700)
    settle(agent, clock)
    boot = collector.memory.boot()
    assert [signal.seq for signal in boot.signals] == [1, 2, 3, 4, 5, 6]
    assert (boot.gaps, boot.holes) == ([], [])


@pytest.mark.parametrize(("status", "least"), [(503, 0), (401, 300), (403, 300)])
def test_waiting_grows_with_failures(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock, status: int, least: float
) -> None:
    collector.memory.refuse = lambda report: (status, "no")
    agent = make_agent()
    begun, tries = clock.now(), 0
    while clock.now() < begun + 3600:
        clock.advance(max(agent.poll(), 0.01))
        tries += 1
        assert least == 0 or clock.now() - begun >= least * tries * 0.99
    assert agent.counters.failures <= (140 if status == 503 else 12)


def test_a_full_disk_keeps_signals_in_memory_and_says_so_once(
    make_agent: AgentMaker,
    collector: Collector,
    clock: ManualClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class FullDisk(SpoolBuffer):
        full = True

        def _append(self, data: bytes) -> None:
            if self.full:
                raise OSError(28, "No space left on device")
            super()._append(data)

    source = ScriptedSource()
    buffer = FullDisk(tmp_path, "boot-1")
    agent = make_agent(source, buffer=buffer)
    settle(agent, clock)
    collector.stop()
    say(source, clock, range(4))
    settle(agent, clock, 20)
    assert sum("spool cannot be written" in message for message in caplog.messages) == 1
    FullDisk.full = False
    agent.poll()
    assert len((tmp_path / "boot-1.jsonl").read_bytes().splitlines()) >= 4, "written when there is room again"
    collector.start()
    settle(agent, clock)
    assert len(collector.memory.signals()) == 4


def test_a_wrong_clock_is_named_once(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    collector.memory.skew = -600.0
    agent = make_agent()
    for _ in range(5):
        clock.advance(agent.poll() + 40)
    said = [message for message in caplog.messages if "600 s behind the server's" in message]
    assert len(said) == 1


def test_a_flood_becomes_few_signals_with_a_count(
    make_agent: AgentMaker, collector: Collector, clock: ManualClock
) -> None:
    source = ScriptedSource()
    agent = make_agent(source)
    settle(agent, clock)
    for number in range(100_000):
        source.say(clock.now(), f"NVRM: Xid (PCI:0000:18:00): 31, pid={number}, name=python")
    settle(agent, clock, 300)
    signals = collector.memory.signals()
    assert len(signals) <= 40
    told = [int(str(signal.detail["repeats"])) for signal in signals if "repeats" in signal.detail]
    assert len(signals) - len(told) + sum(told) == 100_000
