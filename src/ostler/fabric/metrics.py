"""What Prometheus reads of the fabrics: how old the last look is, what it saw, what is wrong. Registered by `app.py`.

A fabric that nobody looks at any more shows as a growing age: silence is a fault.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ostler.core.errors import OstlerError
from ostler.db.tx import Tx
from ostler.fabric import store
from ostler.fabric.service import Fabrics


class FabricMetrics(Collector):
    """A Prometheus collector; register it on the operator listener's registry."""

    def __init__(self, fabrics: Fabrics) -> None:
        self._fabrics = fabrics

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing ahead of time: registering must not read the database."""
        return ()

    def collect(self) -> Iterable[Metric]:
        age = GaugeMetricFamily(
            "ostler_fabric_look_age_seconds", "Domain seconds since the last look", labels=["fabric"]
        )
        share = GaugeMetricFamily(
            "ostler_fabric_known_share", "Of the designed cables, known at the last look", labels=["fabric"]
        )
        cables = GaugeMetricFamily(
            "ostler_fabric_cables", "Designed cables by verdict of the last look", labels=["fabric", "verdict"]
        )
        causes = GaugeMetricFamily("ostler_fabric_causes_open", "Causes that stand", labels=["fabric", "kind"])
        try:
            self._fabrics.db.read(lambda tx: self._read(tx, age, share, cables, causes))
        except OstlerError:
            return  # ostler_database_up says so
        yield from (age, share, cables, causes)

    def _read(
        self,
        tx: Tx,
        age: GaugeMetricFamily,
        share: GaugeMetricFamily,
        cables: GaugeMetricFamily,
        causes: GaugeMetricFamily,
    ) -> None:
        for fabric in self._fabrics.names(tx):
            last = store.latest(tx, fabric)
            if last is not None:
                age.add_metric([fabric], max(0.0, tx.now - last["taken_at"]))
                share.add_metric([fabric], last["coverage"]["share"])
                for verdict, count in last["counts"].items():
                    cables.add_metric([fabric, verdict], count)
            kinds: dict[str, int] = {}
            for row in store.count_causes(tx, fabric):
                if row["confirmed"]:
                    kinds[row["kind"]] = row["count"]
            for kind, count in sorted(kinds.items()):
                causes.add_metric([fabric, kind], count)
