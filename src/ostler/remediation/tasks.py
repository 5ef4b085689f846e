"""The remediation procedure: one per node at a time, from its first finding to its return or to a technician.

    settle ── decide ──┬── (nothing to do, or would act) ── done
                │  ▲   ├── triage ── done
                ▼  │   └── act ── await-boot ── verify ── judge ──┬── production ── done
               drain        └─ escalate ◄──┴─────────────┘        └── give-up: triage ── done

Steps are in `deciding.py`, `draining.py`, `acting.py`, `verifying.py`; those that move power outside of a repair, with
first steps and keys of their own, in `powering.py`. Registered by `app.py`; started by `service.start` and `by_hand`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ostler.adapters.bmc.port import Bmc
from ostler.adapters.cluster.port import Cluster
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.faults.model import Action
from ostler.health.model import HealthSettings
from ostler.jobs.procedure import Procedure
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.model import Condition, Node, State
from ostler.remediation import endings, leaks, policy, service, store
from ostler.remediation.acting import Acting
from ostler.remediation.deciding import Deciding
from ostler.remediation.draining import Draining
from ostler.remediation.model import RemediationSettings
from ostler.remediation.powering import Powering
from ostler.remediation.verifying import Verifying
from ostler.remediation.world import World, no_window


class Remediation:
    """The steps, with the ports they touch."""

    def __init__(
        self,
        db: Database,
        open_bmc: Callable[[Node], Bmc],
        settings: RemediationSettings,
        health_settings: HealthSettings,
        clusters: Mapping[str, Cluster] | None = None,
        hold_until: Callable[[Tx, Node], float | None] = no_window,
    ) -> None:
        self._db = db
        self._world = World(db, open_bmc, settings, health_settings, clusters or {}, hold_until)
        self._deciding = Deciding(self._world)
        self._draining = Draining(self._world, self._deciding)
        self._acting = Acting(self._world)
        self._verifying = Verifying(self._world)
        self._powering = Powering(self._world)

    def procedure(self) -> Procedure:
        return Procedure(
            service.PROCEDURE,
            service.VERSION,
            service.FIRST,
            {
                "settle": self._deciding.settle,
                "decide": self._deciding.decide,
                "drain": self._draining.drain,
                "act": self._acting.act,
                "await-boot": self._acting.await_boot,
                "escalate": self._acting.escalate,
                "verify": self._verifying.verify,
                "judge": self._verifying.judge,
                "give-up": self._verifying.give_up,
                "danger": self._powering.danger,
                "power-off": self._powering.power_off,
                "watch-off": self._powering.watch_off,
                "hand-power": self._powering.hand_power,
                "hand-drain": self._draining.hand_drain,
            },
            resumes=frozenset({1}),
        )

    def sweep(self) -> None:
        """A schedule: nodes that need looking after and have nobody get it, whatever nudge was lost."""
        self._db.write(self._dangers)
        self._db.write(self._deciding.correlate)
        while self._db.write(service.clear_outlived):
            pass
        self._db.write(_end_probations)
        if due := self._db.read(lambda tx: service.undecided(tx, self._world.settings)):
            self._db.write(lambda tx: [service.start(tx, node_id) for node_id in due])

    def _dangers(self, tx: Tx) -> None:
        """Leaks first, and parts that are changed while the node serves."""
        settings = self._world.settings
        for row in store.special(tx, policy.HOT_SWAP):
            if row["action"] == Action.POWER_OFF.value:
                if not leaks.dealt_with(tx, nodes.get(tx, row["node_id"]), settings):
                    service.start_danger(tx, row["node_id"])
            elif row["state"] == State.PRODUCTION and endings.unticketed(tx, row):
                service.start(tx, row["node_id"])
        leaks.look(tx, settings)


def _end_probations(tx: Tx) -> None:
    for row in store.with_condition(tx, Condition.PROBATION):
        if tx.now >= float(row["evidence"].get("until", 0.0)):
            nodes_service.clear_condition(tx, row["node_id"], Condition.PROBATION)
