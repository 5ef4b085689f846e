"""The agents' desk: answers each report, and keeps the common case (a heartbeat and nothing else) off the ledger.

Called by `health/api.py` for real agents. Heartbeats gather in memory and are flushed in bulk by a schedule; a report
that carries signals, an inventory, results or a new boot is a transaction of its own, answered after its commit.

While many reports come at once, signals that nothing is done about at once are only stored, and diagnosed node by node
by a thread of the desk's own: so a flood of them holds up no fault that a node is cordoned for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from ostler.core.errors import OstlerError
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.health import backlog, intake, orders, store
from ostler.health.model import Diagnosis, HealthSettings
from ostler.nodes import store as nodes
from ostler.nodes.model import Capability
from ostler.wire.agent import AgentSettings, Readings, Report, ReportAnswer

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 10.0
"""Heartbeats are written in bulk at least this often (real seconds)."""

FLUSH_ROWS = 500
"""Heartbeats written in one transaction, which bounds how long others wait for it."""

CROWD = 8
"""With more reports than this under way, what is not urgent is diagnosed later."""

ORDERS_SECONDS = 0.5
"""How often we look who has orders (real seconds)."""

GRANTED_VERBS = {
    Capability.GPU_RESET: ("reset-gpu", "restart-service"),
    Capability.REBOOT: ("reboot",),
}
"""What a pool's capabilities let the server ask of an agent, beside checks; the agent has an allow-list of its own."""


class AgentDesk:
    """One per server process; thread-safe."""

    def __init__(
        self,
        db: Database,
        settings: HealthSettings,
        on_diagnoses: Callable[[Tx, str, list[Diagnosis]], None],
        on_readings: Callable[[str, Readings], None] = lambda node_id, readings: None,
        each_round: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_readings` hears of a node's newest measurements, in the thread that answers: it must only keep them.
        `each_round` is called about twice a second by this desk's own thread.
        """
        self._db = db
        self._settings = settings
        self._on_diagnoses = on_diagnoses
        self._on_readings = on_readings
        self._each_round = each_round
        self._lock = threading.Lock()
        self._boots: dict[str, str] = {}  # node → the boot that we know of
        self._seen: dict[str, tuple[float, bool | None]] = {}  # node → last heard of, busy (None: not said); to flush
        self._acks: dict[str, int] = {}
        self._with_orders: frozenset[str] = frozenset()
        self._pools: dict[str, str] = {}  # node → pool
        self._gpus: dict[str, int] = {}  # node → how many GPUs it should have
        self._grants: Mapping[str, frozenset[Capability]] = {}  # pool → what it grants, looked up with the orders
        self._under_way = 0  # reports that wait for their commit
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.last_success: float | None = None
        """Real time of the last flush, for `/readyz`."""

    def start(self) -> None:
        """Learn what the books know, then work in threads of its own until `stop`: flush, look for orders, diagnose
        what was left for later. Call it before agents are let in.
        """
        self.remember()
        for name, run in (("ostler-desk", self._loop), ("ostler-desk-later", self._catch_up)):
            self._threads.append(threading.Thread(target=run, name=name, daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """Write what was heard last, and end."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def settings_for(self, tx: Tx, node_id: str) -> AgentSettings:
        """How the agent of a node should behave: what its pool grants, and how often it reports."""
        pool = nodes.get_pool(tx, nodes.get(tx, node_id).pool)
        return self._agent_settings(pool.capabilities, nodes.expected_gpus(tx, node_id))

    def _agent_settings(self, granted: frozenset[Capability], gpus: int) -> AgentSettings:
        return AgentSettings(
            heartbeat_s=self._settings.heartbeat_s,
            verbs=_verbs_of(granted),
            readings_s=self._settings.readings_s,
            expected_gpus=gpus,
        )

    def answer(self, node_id: str, report: Report) -> ReportAnswer:
        """Take a report and answer it once it is durable. Raises `BadInput` for one that cannot be taken."""
        now = self._db.clock.now()
        busy = report.heartbeat.busy if report.heartbeat is not None else None
        with self._lock:
            known = self._boots.get(node_id) == report.boot_id
            ack = self._acks.get(node_id, 0)
        # An agent that was acknowledged more than we know of spoke with another replica: the database knows.
        if not known or report.first_seq > ack + 1 or not _is_heartbeat(report):
            ack, first = self._write(node_id, report), not known
            with self._lock:
                if not report.ended:
                    self._boots[node_id] = report.boot_id
                    self._acks[node_id] = ack
            if first:
                self._db.read(lambda tx: self._learn(tx, node_id))
        with self._lock:
            if not report.ended:
                self._seen[node_id] = (now, self._seen.get(node_id, (now, None))[1] if busy is None else busy)
            granted = self._grants.get(self._pools.get(node_id, ""), frozenset())
            gpus = self._gpus.get(node_id, -1)
            ordered = node_id in self._with_orders
        if report.readings is not None and not report.ended:
            self._on_readings(node_id, report.readings)
        return ReportAnswer(
            ack_seq=ack,
            settings=self._agent_settings(granted, gpus),
            orders=self._db.read(lambda tx: orders.of_node(tx, node_id)) if ordered else (),
            clock_skew_s=report.sent_at - self._db.clock.real(),
        )

    def flush(self) -> int:
        """Write the gathered heartbeats, and look which nodes have orders. Returns how many nodes were heard of."""
        with self._lock:
            seen, self._seen = self._seen, {}
        if seen:
            rows = [{"node": node_id, "at": at, "is_busy": busy} for node_id, (at, busy) in seen.items()]
            try:
                for start in range(0, len(rows), FLUSH_ROWS):
                    self._db.write(partial(nodes.touch, seen=rows[start : start + FLUSH_ROWS]))
            except BaseException:
                with self._lock:
                    self._seen = {**seen, **self._seen}  # nothing that was heard is forgotten
                raise
        return len(seen)

    def look_for_orders(self) -> None:
        """Refresh who has orders and what the pools grant; twice a second."""
        found, grants = self._db.read(lambda tx: (orders.outstanding(tx), _grants(tx)))
        with self._lock:
            self._with_orders, self._grants = found, grants

    def _loop(self) -> None:
        flush_every = min(FLUSH_SECONDS, self._db.clock.real_seconds(self._settings.heartbeat_s) / 2)
        flushed = 0.0
        while not self._stop.wait(ORDERS_SECONDS):
            try:
                self.look_for_orders()
                self._each_round()
                if self._db.clock.real() - flushed >= flush_every:
                    self.flush()
                    flushed = self._db.clock.real()
                self.last_success = self._db.clock.real()
            except OstlerError as error:
                log.warning("desk.flush_failed", error=str(error))
            except Exception:
                log.exception("desk.round_broken")
        try:
            self.flush()
        except OstlerError as error:
            log.warning("desk.flush_failed", error=str(error))

    def remember(self) -> None:
        """Learn of every node's present boot at once: after a restart a fleet's heartbeats need no look each."""
        rows, gpus, grants = self._db.read(
            lambda tx: (backlog.present_boots(tx), nodes.gpus_of_skus(tx), _grants(tx)),
        )
        with self._lock:
            self._grants = grants
            for row in rows:
                if row["id"] not in self._boots:
                    self._boots[row["id"]], self._acks[row["id"]] = row["boot_id"], row["last_seq"]
                    self._pools[row["id"]], self._gpus[row["id"]] = row["pool"], gpus.get(row["sku"], -1)

    def _catch_up(self) -> None:
        while not self._stop.wait(ORDERS_SECONDS):
            try:
                while self.judge_later() and not self._stop.is_set():
                    pass
            except OstlerError as error:
                log.warning("desk.later_failed", error=str(error))
            except Exception:
                log.exception("desk.later_broken")

    def judge_later(self) -> int:
        """Diagnose what was stored and left for later, of some nodes; how many it was."""
        due = self._db.read(backlog.unjudged)
        for node_id in due:
            if self._stop.is_set():
                break
            self._db.write(partial(self._judge, node_id=node_id))
        return len(due)

    def _judge(self, tx: Tx, node_id: str) -> None:
        if diagnoses := intake.catch_up(tx, node_id, self._settings):
            self._on_diagnoses(tx, node_id, diagnoses)

    def _write(self, node_id: str, report: Report) -> int:
        with self._lock:
            self._under_way += 1
            later = self._under_way > CROWD
        try:
            return self._db.write(lambda tx: self._receive(tx, node_id, report, later))
        finally:
            with self._lock:
                self._under_way -= 1

    def _receive(self, tx: Tx, node_id: str, report: Report, later: bool) -> int:
        ack, diagnoses = intake.receive(tx, node_id, report, self._settings, later=later)
        if diagnoses:
            self._on_diagnoses(tx, node_id, diagnoses)
        return ack

    def _learn(self, tx: Tx, node_id: str) -> None:
        pool, grants, gpus = nodes.get(tx, node_id).pool, _grants(tx), nodes.expected_gpus(tx, node_id)
        current = store.session(tx, node_id, self._boots.get(node_id, ""))
        with self._lock:
            self._pools[node_id], self._grants, self._gpus[node_id] = pool, grants, gpus
            if current is not None:
                self._acks[node_id] = current["last_seq"]


def _grants(tx: Tx) -> dict[str, frozenset[Capability]]:
    return {pool.name: pool.capabilities for pool in nodes.pools(tx)}


def _verbs_of(granted: frozenset[Capability]) -> tuple[str, ...]:
    return ("run-check", *(verb for name, verbs in GRANTED_VERBS.items() if name in granted for verb in verbs))


def _is_heartbeat(report: Report) -> bool:
    return not (report.signals or report.lost or report.ended or report.inventory or report.results)
