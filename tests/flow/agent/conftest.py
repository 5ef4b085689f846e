"""An authority, a collector, and agents stepped by hand against it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ostler.agent.agent import Agent
from ostler.agent.buffer import Buffer, MemoryBuffer
from ostler.agent.monitors.port import Monitors
from ostler.agent.orders import OrderBook, Orders, Verb
from ostler.agent.sources.port import Source
from ostler.agent.transport import HttpsTransport, Transport, identity_context
from ostler.core.clock import ManualClock
from ostler.faults import Detector
from ostler.wire.agent import AgentSettings, Inventory, System
from tests.flow.agent.collector import Authority, Collector


class PaperNode:
    """A node that is only described."""

    def inventory(self) -> Inventory:
        return Inventory(system=System("Acme", "GX-8", "SN-1", "11111111-1111-1111-1111-111111111111"), cpus=8)

    def driver(self) -> str:
        return "570.124.06"

    def busy(self) -> bool | None:
        return False

    def uptime(self) -> float:
        return 42.0


AgentMaker = Callable[..., Agent]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "ca"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture
def collector(authority: Authority) -> Iterator[Collector]:
    made = Collector(authority)
    yield made
    made.stop()


@pytest.fixture
def make_agent(authority: Authority, collector: Collector, clock: ManualClock) -> Iterator[AgentMaker]:
    """`make_agent(source, buffer=…)`: an agent whose time is the test's clock and whose server is the collector."""
    made: list[Agent] = []
    certificate, key = authority.issue("node")

    def make(
        *sources: Source,
        buffer: Buffer | None = None,
        transport: Transport | None = None,
        verbs: dict[str, Verb] | None = None,
        allow: tuple[str, ...] = (),
        book: OrderBook | None = None,
        settings: AgentSettings = AgentSettings(),
        monitors: Monitors | None = None,
    ) -> Agent:
        buffer = buffer or MemoryBuffer("boot-1")
        agent = Agent(
            sources=sources,
            buffer=buffer,
            transport=transport
            or HttpsTransport(
                collector.url,
                identity_context(authority.pem, certificate.read_text(), key.read_text()),
                real=clock.real,
                timeout=5.0,
            ),
            clock=clock,
            node=PaperNode(),
            detector=Detector("570.124.06"),
            orders=Orders(verbs or {}, allow, book or OrderBook(), clock, buffer.boot_id),
            monitors=monitors,
            settings=settings,
            ticks=clock.real,
            rng=random.Random(1),
        )
        made.append(agent)
        return agent

    yield make
    for agent in made:
        agent.close()
