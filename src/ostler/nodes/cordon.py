"""The cordon controller: makes each cluster agree with the holds in our database. Run by `app.py` as a level loop.

It reads what is wanted and what the cluster says, in bulk, and changes only what differs. It touches nobody else's
cordon: a node that others cordoned stays so, and lifting ours leaves theirs. A nudge only shortens its wait.

A cluster with room for one cordon only (Slurm: one drain, one reason) keeps the others' and takes none of ours beside
it. Such a node is kept off work and noted so, and looked at often: the moment the others let go, ours is put.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from ostler.adapters.cluster.port import Cluster, CordonView
from ostler.core.errors import BadInput, Conflict, NotFound, OstlerError
from ostler.db.engine import Database
from ostler.db.lease import claim_named
from ostler.db.tx import Tx
from ostler.nodes import cordon_nudge, store
from ostler.nodes.model import Capability

log = structlog.get_logger(__name__)

BATCH = 500
"""Nodes looked at per cluster and round."""

LEASE_SECONDS = 15.0

UNKNOWN_SECONDS = 10.0
"""A node that its cluster does not know is asked about again after so long (domain): most of Day 1 is not there yet."""


OTHERS_SECONDS = 10.0
"""A node that is wanted cordoned, and that others hold so that ours finds no room, is looked at again after so long."""


@dataclass(frozen=True)
class Drift:
    """A node whose cluster state is unknown, old, or not as wanted."""

    id: str
    name: str
    held: bool
    """Somebody holds it: our cordon, once there, stays."""
    wanted: bool
    """Held, and granted or by a person: our cordon is put."""
    reason: str


@dataclass
class _Seen:
    """What one round learned about a cluster's nodes, by id."""

    cordoned: list[str] = field(default_factory=list)
    by_others: list[str] = field(default_factory=list)
    """Wanted cordoned, and kept off work by others in a cluster that has no room for ours beside theirs."""
    free: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    changed: int = 0


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
        self._no_room: set[str] = set()
        """Nodes where our cordon found no room beside others': not tried again until those let go."""
        self._mine_until = 0.0
        """Real time until which this replica need not ask for the lease again."""
        self._nudge = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.last_success = 0.0
        """Real time of the last round, or of the last look at another replica's lease; for `/readyz`."""

    def start(self) -> None:
        cordon_nudge.listen(self._nudge)
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
        changed, _full, troubles = self._round()
        if troubles:
            raise troubles[0]
        return changed

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._nudge.clear()
            more = False
            try:
                changed, full, troubles = self._round()
                more = (changed > 0 or full) and not troubles
                for trouble in troubles:
                    log.warning("cordon.round_failed", error=str(trouble))
            except OstlerError as error:
                log.warning("cordon.round_failed", error=str(error))
            except Exception:
                log.exception("cordon.round_broken")
            if not more:
                self._nudge.wait(self._poll_seconds)

    def _round(self) -> tuple[int, bool, list[OstlerError]]:
        """Cordons put or lifted, whether there may be more to do at once, and what went wrong with which cluster."""
        changed, full, troubles = 0, False, []
        if self._is_mine():
            for name, cluster in self._clusters.items():
                # Each cluster has a batch of its own: one that does not answer keeps no other waiting.
                drift = self._db.read(partial(self._drift, name=name))
                full = full or len(drift) == BATCH
                done, trouble = self._converge(cluster, drift)
                changed += done
                if trouble is not None:
                    troubles.append(trouble)
        self.last_success = self._db.clock.real()
        return changed, full, troubles

    def _is_mine(self) -> bool:
        """Whether this replica holds the lease; it is asked for again when a third of it is over, not every round."""
        if self._db.clock.real() >= self._mine_until:
            held = self._db.write(lambda tx: claim_named(tx, "cordon", owner=self._owner, seconds=LEASE_SECONDS))
            self._mine_until = 0.0 if held is None else held.until - LEASE_SECONDS * 2 / 3
            return held is not None
        return True

    def _drift(self, tx: Tx, name: str) -> list[Drift]:
        pools = [pool for pool in store.pools(tx) if pool.cluster == name]
        if not pools:
            return []
        rows = store.cordon_drift(
            tx,
            [pool.name for pool in pools],
            [pool.name for pool in pools if Capability.CORDON in pool.capabilities],
            stale_before=tx.now - self._resync_seconds,
            unknown_before=tx.now - UNKNOWN_SECONDS,
            limit=BATCH,
        )
        return [
            Drift(row["id"], row["name"], bool(row["held"]), bool(row["wanted"]), row["reason"] or "") for row in rows
        ]

    def _converge(self, cluster: Cluster, nodes: Sequence[Drift]) -> tuple[int, OstlerError | None]:
        """Cordons put or lifted, and what went wrong; what was learned is noted in either case."""
        if not nodes:
            return 0, None
        seen = _Seen()
        trouble: OstlerError | None = None
        try:
            views = cluster.cordoned([one.name for one in nodes])
            for one in nodes:
                view = views.get(one.name)
                try:
                    self._one(cluster, one, view, seen)
                except (NotFound, BadInput, Conflict) as error:
                    # This node's own trouble: it must not keep the others waiting, nor come first every time.
                    seen.unknown.append(one.id)
                    trouble = trouble or error
        except OstlerError as error:
            trouble = error
        again = self._resync_seconds - OTHERS_SECONDS
        self._db.write(lambda tx: _note(tx, seen, looked_ago=max(0.0, again)))
        return seen.changed, trouble

    def _one(self, cluster: Cluster, one: Drift, view: CordonView | None, seen: _Seen) -> None:
        if view is None:
            seen.unknown.append(one.id)  # the cluster does not know the node (yet): nothing to mirror
            return
        ours = view.ours
        if not view.others:
            self._no_room.discard(one.id)
        if one.wanted and not ours:
            if one.id not in self._no_room:
                cluster.cordon(one.name, one.reason)
                after = cluster.cordoned([one.name]).get(one.name) if view.others else None
                if after is not None and after.others and not after.ours:
                    self._no_room.add(one.id)
            if one.id in self._no_room:
                seen.by_others.append(one.id)
                return
            seen.changed += 1
            ours = True
        elif not one.held and ours:
            cluster.uncordon(one.name)
            seen.changed += 1
            ours = False
        (seen.cordoned if ours else seen.free).append(one.id)


def _note(tx: Tx, seen: _Seen, looked_ago: float) -> None:
    store.note_cordoned(tx, seen.cordoned, True)
    store.note_cordoned(tx, seen.by_others, True, looked_ago=looked_ago)
    store.note_cordoned(tx, seen.free, False)
    store.note_cordoned(tx, seen.unknown, None)
