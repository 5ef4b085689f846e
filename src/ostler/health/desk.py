"""The agents' desk: answers each report, and keeps the common case (a heartbeat and nothing else) off the ledger.

Called by `health/api.py` for real agents. Heartbeats gather in memory and are flushed in bulk by a schedule; a report
that carries signals, an inventory, results or a new boot is a transaction of its own, answered after its commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import structlog

from ostler.core.errors import OstlerError
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.health import intake, orders, store
from ostler.health.model import Diagnosis, HealthSettings
from ostler.nodes import store as nodes
from ostler.nodes.model import Capability
from ostler.wire.agent import AgentSettings, Readings, Report, ReportAnswer

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 10.0
"""Heartbeats are written in bulk at least this often (real seconds)."""

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
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.last_success: float | None = None
        """Real time of the last flush, for `/readyz`."""

    def start(self) -> None:
        """Flush and look for orders in a thread of its own, until `stop`."""
        self._thread = threading.Thread(target=self._loop, name="ostler-desk", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what was heard last, and end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

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
            ack, first = self._db.write(lambda tx: self._receive(tx, node_id, report)), not known
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
                self._db.write(lambda tx: nodes.touch(tx, rows))
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

    def _receive(self, tx: Tx, node_id: str, report: Report) -> int:
        ack, diagnoses = intake.receive(tx, node_id, report, self._settings)
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
