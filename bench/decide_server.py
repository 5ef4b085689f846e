"""The parts of the server that decide, as `app.py` puts them together, with a stamp on what they commit and call.

For `bench/decide.py`. Real: database, agents' desk, diagnosis, correlation, brake, runner, remediation and its
schedules, cordon controller, sequencer. In memory: the cluster (`FakeCluster`) and the BMCs (`FakeBmc`). Left out: HTTP
and TLS, webhooks.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench.decide_fleet import CLUSTER, Sender
from ostler.adapters.bmc.fake import FakeBmc, FakeBmcs
from ostler.adapters.bmc.port import Bmc, Credentials, Identity
from ostler.adapters.cluster.fake import FakeCluster, FakeNode
from ostler.adapters.cluster.port import Workload
from ostler.audit.sequencer import Sequencer
from ostler.brake.guard import GuardedBmc
from ostler.brake.pause_file import PauseFile
from ostler.core.clock import SystemClock
from ostler.db.engine import Database
from ostler.db.schema import cordon_hold, decision, incident
from ostler.db.tx import Tx
from ostler.health.desk import AgentDesk
from ostler.health.model import HealthSettings
from ostler.health.silence import SilenceWatch
from ostler.jobs.runner import Runner
from ostler.jobs.schedule import Schedule
from ostler.nodes.cordon import CordonController
from ostler.nodes.model import Node
from ostler.remediation import service
from ostler.remediation.model import RemediationSettings
from ostler.remediation.tasks import Remediation
from ostler.wire.agent import Report, ReportAnswer
from ostler.wire.decode import decode, encode

HANDLERS = 40
"""Reports under way at once: the thread pool of the HTTP server has as many."""
JOB_NODES = 4
"""Nodes that one job of a user runs on."""


@dataclass
class Stamps:
    """When (perf_counter) what was committed or called, by node."""

    received: dict[str, float] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)
    """The first hold of the node's cordon is committed."""
    decided: dict[str, float] = field(default_factory=dict)
    """The first decision about the node is committed."""
    cordoned: dict[str, float] = field(default_factory=dict)
    """The cluster was asked to cordon it."""
    decisions: int = 0
    incidents: list[float] = field(default_factory=list)


@dataclass
class WatchedTx(Tx):
    """Stamps holds, decisions and incidents once their transaction is durable."""

    stamps: Stamps = field(default_factory=Stamps)
    committed: threading.local = field(default_factory=threading.local)

    def execute(self, statement: sa.Executable, rows: Any = None) -> sa.CursorResult[Any]:
        if isinstance(statement, sa.Insert) and statement.table in (cordon_hold, decision, incident):
            values = statement.compile().params
            self.after_commit(lambda: self._stamp(statement.table, str(values.get("node_id", ""))))
        return super().execute(statement, rows)

    def _stamp(self, table: Any, node_id: str) -> None:
        at, stamps = self.committed.at, self.stamps
        if table is cordon_hold:
            stamps.held.setdefault(node_id, at)
        elif table is decision:
            stamps.decisions += 1
            stamps.decided.setdefault(node_id, at)
        else:
            stamps.incidents.append(at)


class WatchedDatabase(Database):
    """`Database` whose commits are stamped."""

    def __init__(self, url: str, stamps: Stamps) -> None:
        super().__init__(url, SystemClock())
        self.stamps = stamps
        self._committed = threading.local()

    def _tx(self, conn: sa.Connection) -> Tx:
        return WatchedTx(
            conn=conn,
            now=self.clock.now(),
            real=self.clock.real(),
            dialect=self.dialect,
            stamps=self.stamps,
            committed=self._committed,
        )

    def _commit(self, conn: sa.Connection) -> None:
        super()._commit(conn)
        self._committed.at = time.perf_counter()


@dataclass
class StampedCluster(FakeCluster):
    """A cluster in memory that notes when it was asked."""

    stamps: Stamps = field(default_factory=Stamps)

    def cordon(self, name: str, reason: str) -> None:
        self.stamps.cordoned.setdefault(name, time.perf_counter())
        super().cordon(name, reason)


Answered = Callable[[ReportAnswer | None], None]


class House:
    """`with House(…) as house:` everything runs."""

    def __init__(self, db: WatchedDatabase, folder: Path, senders: list[Sender], settle_s: float) -> None:
        self.db = db
        self.stamps = db.stamps
        self.failures: list[str] = []
        self.waits: list[float] = []
        """Seconds from a report's arrival to its answer."""
        self.cluster = StampedCluster(CLUSTER, stamps=self.stamps)
        for n, one in enumerate(senders):
            self.cluster.nodes[one.name] = FakeNode(workload=Workload(1, (f"ml/job-{n // JOB_NODES}",)))
        health, remediation = HealthSettings(), RemediationSettings(settle_s=settle_s)
        pause_file = PauseFile(folder / "pause")
        bmcs = FakeBmcs()

        def open_bmc(node: Node) -> Bmc:
            address = str(node.bmc_address)
            if address not in bmcs.by_address:
                bmcs.add(address, FakeBmc(Identity(node.serial or "", "", "Fleet", "HGX-8")))
            return GuardedBmc(bmcs.open(address, Credentials("admin", "admin")), db, node.id, pause_file)

        acting = Remediation(db, open_bmc, remediation, health, {CLUSTER: self.cluster})
        self.desk = AgentDesk(db, health, service.consider)
        schedules = [
            Schedule("silence", health.silent_after_s / 4, SilenceWatch(db, health).look),
            Schedule("remediation", 10.0, acting.sweep),
            Schedule("pause-file", 1.0, lambda: pause_file.mirror(db)),
        ]
        self._runner = Runner(db, [acting.procedure()], owner="bench", schedules=schedules)
        self._cordon = CordonController(db, {CLUSTER: self.cluster}, owner="bench")
        self._sequencer = Sequencer(db, "bench")
        self._reports: queue.SimpleQueue[tuple[float, str, bytes, Answered] | None] = queue.SimpleQueue()
        self._handlers = [threading.Thread(target=self._handle, name=f"handler-{n}") for n in range(HANDLERS)]

    def __enter__(self) -> House:
        self._sequencer.start()
        self.desk.start()
        self._cordon.start()
        self._runner.start()
        for thread in self._handlers:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for _thread in self._handlers:
            self._reports.put(None)
        for thread in self._handlers:
            thread.join()
        self._cordon.stop()
        self._runner.stop()
        self.desk.stop()
        self._sequencer.stop()

    def report(self, node_id: str, raw: bytes, answered: Answered) -> float:
        """A report has arrived. `answered` hears the answer in the handler's thread. Returns when that was."""
        at = time.perf_counter()
        self._reports.put((at, node_id, raw, answered))
        return at

    def _handle(self) -> None:
        while (item := self._reports.get()) is not None:
            at, node_id, raw, answered = item
            answer: ReportAnswer | None = None
            try:
                answer = self.desk.answer(node_id, decode(Report, raw))
                encode(answer)
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            self.waits.append(time.perf_counter() - at)
            answered(answer)
