"""The agents' desk: answers each report, and keeps the common case (a heartbeat and nothing else) off the ledger.

Called by `health/api.py` for real agents. Heartbeats gather in memory and are flushed in bulk by a schedule; a report
that carries signals, an inventory, results or a new boot is a transaction of its own, answered after its commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from ostler.core.errors import OstlerError
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.health import intake, orders, store
from ostler.health.model import Diagnosis, HealthSettings
from ostler.nodes import store as nodes
from ostler.nodes.model import Capability
from ostler.wire.agent import AgentSettings, Report, ReportAnswer

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
    ) -> None:
        self._db = db
        self._settings = settings
        self._on_diagnoses = on_diagnoses
        self._lock = threading.Lock()
        self._boots: dict[str, str] = {}  # node → the boot that we know of
        self._seen: dict[str, tuple[float, bool]] = {}  # node → last heard of, busy; not flushed yet
        self._acks: dict[str, int] = {}
        self._with_orders: frozenset[str] = frozenset()
        self._verbs: dict[str, tuple[str, ...]] = {}
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
        return AgentSettings(heartbeat_s=self._settings.heartbeat_s, verbs=_granted_verbs(tx, node_id))

    def answer(self, node_id: str, report: Report) -> ReportAnswer:
        """Take a report and answer it once it is durable. Raises `BadInput` for one that cannot be taken."""
        now = self._db.clock.now()
        busy = bool(report.heartbeat.busy) if report.heartbeat is not None else False
        with self._lock:
            known = self._boots.get(node_id) == report.boot_id
        if known and _is_heartbeat(report):
            ack = self._acks.get(node_id, 0)
        else:
            ack, first = self._db.write(lambda tx: self._receive(tx, node_id, report)), not known
            with self._lock:
                if not report.ended:
                    self._boots[node_id] = report.boot_id
                    self._acks[node_id] = ack
            if first:
                self._db.read(lambda tx: self._learn(tx, node_id))
        with self._lock:
            if not report.ended:
                self._seen[node_id] = (now, busy)
            ordered = node_id in self._with_orders
        return ReportAnswer(
            ack_seq=ack,
            settings=AgentSettings(
                heartbeat_s=self._settings.heartbeat_s, verbs=self._verbs.get(node_id, ("run-check",))
            ),
            orders=self._db.read(lambda tx: orders.of_node(tx, node_id)) if ordered else (),
            clock_skew_s=report.sent_at - self._db.clock.real(),
        )

    def flush(self) -> int:
        """Write the gathered heartbeats, and look which nodes have orders. Returns how many nodes were heard of."""
        with self._lock:
            seen, self._seen = self._seen, {}
        if seen:
            rows = [{"node": node_id, "at": at, "is_busy": busy} for node_id, (at, busy) in seen.items()]
            self._db.write(lambda tx: nodes.touch(tx, rows))
        return len(seen)

    def look_for_orders(self) -> None:
        """Refresh who has orders; once a second."""
        found = self._db.read(orders.outstanding)
        with self._lock:
            self._with_orders = found

    def _loop(self) -> None:
        flush_every = min(FLUSH_SECONDS, self._db.clock.real_seconds(self._settings.heartbeat_s) / 2)
        flushed = 0.0
        while not self._stop.wait(ORDERS_SECONDS):
            try:
                self.look_for_orders()
                if self._db.clock.real() - flushed >= flush_every:
                    self.flush()
                    flushed = self._db.clock.real()
                self.last_success = self._db.clock.real()
            except OstlerError as error:
                log.warning("desk.flush_failed", error=str(error))
        self.flush()

    def _receive(self, tx: Tx, node_id: str, report: Report) -> int:
        ack, diagnoses = intake.receive(tx, node_id, report, self._settings)
        if diagnoses:
            self._on_diagnoses(tx, node_id, diagnoses)
        return ack

    def _learn(self, tx: Tx, node_id: str) -> None:
        verbs = _granted_verbs(tx, node_id)
        current = store.session(tx, node_id, self._boots.get(node_id, ""))
        with self._lock:
            self._verbs[node_id] = verbs
            if current is not None:
                self._acks[node_id] = current["last_seq"]


def _granted_verbs(tx: Tx, node_id: str) -> tuple[str, ...]:
    pool = nodes.get_pool(tx, nodes.get(tx, node_id).pool)
    granted = [verb for name, verbs in GRANTED_VERBS.items() if name in pool.capabilities for verb in verbs]
    return ("run-check", *granted)


def _is_heartbeat(report: Report) -> bool:
    return not (report.signals or report.lost or report.ended or report.inventory or report.results)
