"""The cordon controller: makes each cluster agree with the holds in our database. Run by `app.py` as a level loop.

It reads what is wanted and what the cluster says, in bulk, and changes only what differs. It touches nobody else's
cordon: a node that others cordoned stays so, and lifting ours leaves theirs. A nudge only shortens its wait.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from ostler.adapters.cluster.port import Cluster
from ostler.core.errors import OstlerError
from ostler.db.engine import Database
from ostler.db.lease import claim_named
from ostler.db.tx import Tx
from ostler.nodes import store
from ostler.nodes.model import Capability

log = structlog.get_logger(__name__)

BATCH = 500
"""Nodes looked at per round."""

LEASE_SECONDS = 15.0


@dataclass(frozen=True)
class Drift:
    """A node whose cluster state is unknown, old, or not as wanted."""

    id: str
    name: str
    pool: str
    desired: bool
    reason: str
    granted: bool


class CordonController:
    """One replica at a time converges `cordoned` towards the holds."""

    def __init__(
        self,
        db: Database,
        clusters: Mapping[str, Cluster],
        *,
        owner: str,
        poll_seconds: float = 1.0,
        resync_seconds: float = 300.0,
    ) -> None:
        self._db = db
        self._clusters = clusters
        self._owner = owner
        self._poll_seconds = poll_seconds
        self._resync_seconds = resync_seconds
        self._nudge = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.last_success = 0.0

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop, name="ostler-cordon", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._nudge.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def nudge(self) -> None:
        """Look again now."""
        self._nudge.set()

    def run_once(self) -> int:
        """One round; the number of cordons put or lifted. Raises what the clusters raise, after trying all of them."""
        mine = self._db.write(lambda tx: claim_named(tx, "cordon", owner=self._owner, seconds=LEASE_SECONDS))
        if mine is None:
            return 0
        drift = self._db.read(self._drift)
        changed, troubles = 0, []
        for cluster_name, nodes in self._by_cluster(drift).items():
            try:
                changed += self._converge(self._clusters[cluster_name], nodes)
            except OstlerError as error:
                troubles.append(error)
        self.last_success = self._db.clock.real()
        if troubles:
            raise troubles[0]
        return changed

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                busy = self.run_once() > 0
            except OstlerError as error:
                log.warning("cordon.round_failed", error=str(error))
                busy = False
            if not busy:
                self._nudge.wait(self._poll_seconds)
            self._nudge.clear()

    def _drift(self, tx: Tx) -> list[Drift]:
        granted = {pool.name: Capability.CORDON in pool.capabilities for pool in store.pools(tx)}
        by_person = {hold["node_id"] for hold in store.holds(tx) if hold["holder"] == "person"}
        rows = store.cordon_drift(tx, stale_before=tx.now - self._resync_seconds, limit=BATCH)
        return [
            Drift(
                row["id"],
                row["name"],
                row["pool"],
                bool(row["desired"]),
                row["reason"] or "",
                granted[row["pool"]] or row["id"] in by_person,
            )
            for row in rows
        ]

    def _by_cluster(self, drift: Sequence[Drift]) -> dict[str, list[Drift]]:
        pools = {pool.name: pool.cluster for pool in self._db.read(store.pools)}
        grouped: dict[str, list[Drift]] = defaultdict(list)
        for one in drift:
            if pools[one.pool] in self._clusters:
                grouped[pools[one.pool]].append(one)
        return grouped

    def _converge(self, cluster: Cluster, nodes: Sequence[Drift]) -> int:
        views = cluster.cordoned([one.name for one in nodes])
        now_cordoned: list[str] = []
        now_free: list[str] = []
        changed = 0
        for one in nodes:
            view = views.get(one.name)
            if view is None:
                continue  # the cluster does not know the node (yet): nothing to mirror
            if one.desired and not view.ours and one.granted:
                cluster.cordon(one.name, one.reason)
                changed += 1
            elif not one.desired and view.ours:
                cluster.uncordon(one.name)
                changed += 1
            (now_cordoned if one.desired and (one.granted or view.ours) else now_free).append(one.id)
        self._db.write(lambda tx: store.note_cordoned(tx, now_cordoned, True))
        self._db.write(lambda tx: store.note_cordoned(tx, now_free, False))
        return changed
