"""What Prometheus reads beside request counts: the fleet by state, what is open, how old each loop is. For `app.py`.

Read from the database at each scrape with a few counting queries; nothing is counted twice in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ostler.core.errors import OstlerError
from ostler.db.engine import Database
from ostler.db.schema import agent_order, delivery, finding, incident, job, node, permit, ticket
from ostler.db.tx import Tx
from ostler.health.bmc_watch import Counts
from ostler.http.operator import Loop
from ostler.nodes.model import State

_OPEN = {
    "ostler_findings_open": ("Findings that nothing has cleared", finding, finding.c.cleared_at.is_(None)),
    "ostler_incidents_open": ("Incidents that are open", incident, incident.c.closed_at.is_(None)),
    "ostler_tickets_open": ("Tickets that are not done", ticket, ticket.c.state != "done"),
    "ostler_permits_live": ("Permits that nobody has given back", permit, permit.c.released_at.is_(None)),
    "ostler_jobs_live": ("Jobs that are not finished", job, job.c.finished_at.is_(None)),
    "ostler_jobs_held": ("Jobs that wait for a person", job, job.c.state == "held"),
    "ostler_orders_open": ("Orders that agents have not answered", agent_order, agent_order.c.finished_at.is_(None)),
    "ostler_deliveries_open": ("Webhook deliveries not settled", delivery, delivery.c.settled_at.is_(None)),
}


class FleetMetrics(Collector):
    """A Prometheus collector; register it on the operator listener's registry. `bmcs`: how the BMC watch is doing."""

    def __init__(self, db: Database, loops: Sequence[Loop], bmcs: Callable[[], Counts] | None = None) -> None:
        self._db = db
        self._loops = loops
        self._bmcs = bmcs

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing ahead of time: registering must not read the database."""
        return ()

    def collect(self) -> Iterable[Metric]:
        ages = GaugeMetricFamily(
            "ostler_loop_age_seconds", "Real seconds since a loop's last success; absent: never", labels=["loop"]
        )
        for loop in self._loops:
            if (age := loop.age()) is not None:
                ages.add_metric([loop.name], age)
        yield ages
        if self._bmcs is not None:
            yield from _watch(self._bmcs())
        try:
            states, counts = self._db.read(_counted)
        except OstlerError:
            yield GaugeMetricFamily("ostler_database_up", "Whether the database answers", value=0)
            return
        yield GaugeMetricFamily("ostler_database_up", "Whether the database answers", value=1)
        fleet = GaugeMetricFamily("ostler_nodes", "Nodes by state of the lifecycle", labels=["state"])
        for state in State:
            fleet.add_metric([state.value], states.get(state.value, 0))
        yield fleet
        for name, (text, _table, _where) in _OPEN.items():
            yield GaugeMetricFamily(name, text, value=counts[name])


def _watch(counts: Counts) -> Iterable[Metric]:
    """Of the BMC watch of this process: all nothing in a replica that does not hold its lease."""
    yield GaugeMetricFamily("ostler_bmcs_watched", "BMCs that this process polls", value=counts.watched)
    yield GaugeMetricFamily("ostler_bmcs_silent", "BMCs among them that do not answer", value=counts.silent)
    yield GaugeMetricFamily("ostler_bmc_polls_running", "Polls of BMCs under way", value=counts.running)
    late = "Domain seconds between being due and being asked, p99 of the last polls"
    yield GaugeMetricFamily("ostler_bmc_poll_late_p99_seconds", late, value=counts.late_p99_s)
    yield CounterMetricFamily("ostler_bmc_polls", "Polls of BMCs since the start", value=counts.polls)
    yield CounterMetricFamily("ostler_bmc_polls_failed", "Polls that were not answered", value=counts.failures)


def _counted(tx: Tx) -> tuple[dict[str, int], dict[str, int]]:
    rows = tx.all(sa.select(node.c.state, sa.func.count().label("nodes")).group_by(node.c.state))
    counts = {
        name: int(tx.scalar(sa.select(sa.func.count()).select_from(table).where(where)) or 0)
        for name, (_text, table, where) in _OPEN.items()
    }
    return {row["state"]: row["nodes"] for row in rows}, counts
