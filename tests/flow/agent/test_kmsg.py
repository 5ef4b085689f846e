"""The real /dev/kmsg: a line that a program writes there comes back through the agent, believed only on request."""

from __future__ import annotations

import os
import secrets
import select

import pytest

from ostler.agent.sources.kmsg import KmsgSource
from ostler.agent.sources.port import LogLine
from ostler.core.clock import ManualClock
from ostler.faults import Detector
from tests.flow.agent.collector import Collector
from tests.flow.agent.conftest import AgentMaker


def write(line: str) -> None:
    try:
        descriptor = os.open("/dev/kmsg", os.O_WRONLY)
    except OSError as error:
        pytest.skip(f"/dev/kmsg cannot be written here: {error.strerror}")
    try:
        os.write(descriptor, line.encode() + b"\n")  # without it the record stays open for more
    finally:
        os.close(descriptor)


def find(source: KmsgSource, marker: str) -> LogLine:
    """The line with `marker`, as soon as the kernel shows it."""
    for _ in range(1000):
        for item in source.read():
            if isinstance(item, LogLine) and marker.encode() in item.message:
                return item
        descriptor = source.fileno()
        assert descriptor is not None
        if not select.select([descriptor], [], [], 10)[0]:
            break
    pytest.skip("the kernel did not show the line (printk_devkmsg is off or rate-limited)")


def test_a_written_line_comes_back_and_only_a_trusting_source_believes_it(clock: ManualClock) -> None:
    marker = secrets.token_hex(8)
    source = KmsgSource(clock, "b")
    trusting = KmsgSource(clock, "b", trust_user_facility=True)
    try:
        write(f"<3>NVRM: Xid (PCI:0000:18:00): 79, pid={int(marker, 16)}, {marker}: GPU has fallen off the bus.")
        source.start(None)
        line = find(source, marker)
        assert abs(line.at - clock.now()) < 60, "written just now"
        assert Detector().detect(line.message, line.program) is None
        trusting.start(None)
        line = find(trusting, marker)
        fault = Detector().detect(line.message, line.program)
        assert fault is not None
        assert (fault.kind, fault.code, fault.device) == ("xid", "79", "0000:18:00")
        position = line.position
    finally:
        source.close()
        trusting.close()
    again = KmsgSource(clock, "b")
    try:
        again.start(position)
        assert not any(isinstance(item, LogLine) and marker.encode() in item.message for item in again.read())
    finally:
        again.close()


def test_the_agent_follows_the_real_ring(make_agent: AgentMaker, collector: Collector, clock: ManualClock) -> None:
    """Nothing that programs wrote there becomes a signal of this agent."""
    marker = secrets.token_hex(8)
    write(f"<3>NVRM: Xid (PCI:0000:18:00): 79, {marker}: GPU has fallen off the bus.")
    agent = make_agent(KmsgSource(clock, "boot-1"))
    for _ in range(30):
        clock.advance(agent.poll())
    assert collector.memory.reports[-1].heartbeat is not None
    assert collector.memory.reports[-1].heartbeat.monitors["kmsg"] >= 0
    assert agent.counters.lines > 0
    assert not any(marker in signal.message for signal in collector.memory.signals())
