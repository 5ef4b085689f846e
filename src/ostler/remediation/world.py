"""What every step of remediation needs to know and to touch: database, ports, settings. Built by `tasks.Remediation`.

The looks at the outside world are here, so that each step shows only what it makes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ostler.adapters.bmc.port import Bmc
from ostler.adapters.cluster.port import Cluster, Workload
from ostler.brake import store as brake
from ostler.core.actor import Actor
from ostler.core.errors import NotFound, OstlerError
from ostler.core.ids import PermitId
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.health.model import HealthSettings
from ostler.jobs.procedure import JobView
from ostler.nodes import store as nodes
from ostler.nodes.model import Node
from ostler.remediation import service
from ostler.remediation.model import RemediationSettings

LOOK_AGAIN_S = 30.0
"""How often a waiting step looks by itself (domain seconds); most wake-ups come sooner."""

NO_CLUSTER = "none"
"""The cluster of a pool without a scheduler: there the agent alone says whether a node is busy."""


@dataclass(frozen=True)
class Running:
    """What runs on a node, as far as somebody could be asked."""

    busy: bool
    workload: Workload | None = None
    unknown: str = ""
    """Why nobody could be asked; `busy` says nothing then."""
    scheduled: bool = False
    """A scheduler knows the node, so it can be asked to drain it."""
    cordoned: bool = False
    """Its scheduler places nothing new there, whoever asked for that; true where there is no scheduler."""

    @property
    def told(self) -> str:
        if self.workload is None:
            return "a workload"
        jobs = ", ".join(self.workload.jobs[:3]) + (" …" if len(self.workload.jobs) > 3 else "")
        return f"{self.workload.pods} pod{'s' * (self.workload.pods != 1)}{f' of {jobs}' if jobs else ''}"


def no_window(tx: Tx, node: Node) -> float | None:
    """Without planned maintenance nothing waits for a window."""
    del tx, node
    return None


@dataclass
class World:
    """One per server process."""

    db: Database
    open_bmc: Callable[[Node], Bmc]
    settings: RemediationSettings
    health: HealthSettings
    clusters: Mapping[str, Cluster]
    hold_until: Callable[[Tx, Node], float | None] = no_window
    """When the maintenance window begins that a node's pending actions wait for; None: they need none."""
    began: float = field(init=False)
    """Domain time of this process's start: what a node did not tell before nobody was there to hear."""
    correlated_at: float = field(default=float("-inf"))
    """Domain time of the last correlation of this process; only ever saves work."""

    def __post_init__(self) -> None:
        self.began = self.db.clock.now()

    def heard_since(self, moment: float) -> float:
        """From when on a node's silence about what was ordered at `moment` counts."""
        return max(moment, self.began)

    def node(self, job: JobView) -> Node:
        return self.db.read(lambda tx: nodes.get(tx, job.subject))

    def cluster_of(self, node: Node) -> Cluster | None:
        """The scheduler of the node's pool; None where there is none. Raises `NotFound` for one not configured."""
        name = self.db.read(lambda tx: nodes.get_pool(tx, node.pool).cluster)
        if name == NO_CLUSTER:
            return None
        if name not in self.clusters:
            raise NotFound(f"The cluster '{name}' of pool {node.pool} is not configured.", where="clusters")
        return self.clusters[name]

    def running(self, node: Node) -> Running:
        """Who works there: the cluster says, else the agent. A node that the cluster does not know is the agent's."""
        try:
            cluster = self.cluster_of(node)
            if cluster is None:
                return Running(node.busy, cordoned=True)
            # In this order: what was placed before the cordon is seen by the second look.
            view = cluster.cordoned([node.name]).get(node.name)
            found = cluster.busy([node.name])
        except OstlerError as error:
            return Running(True, unknown=str(error))
        if node.name not in found:
            return Running(node.busy, cordoned=True)
        workload = found[node.name]
        cordoned = view is not None and (view.ours or view.others)
        return Running(workload is not None, workload, scheduled=True, cordoned=cordoned)


def permit_of(job: JobView) -> PermitId:
    return PermitId(str(job.data.get("permit") or ""))


def actor_of(job: JobView) -> Actor:
    """Who answers for what this job does: the person that ordered it, or remediation itself."""
    return Actor(job.data["ordered"]["actor"]) if "ordered" in job.data else service.ACTOR


def unit(tx: Tx, workload: Workload | None) -> str | None:
    """What the brake counts a node's permit by: a job that another permit is out for already, else its first.

    Nodes of one job count as one; a node may work for several.
    """
    if workload is None or not workload.jobs:
        return None
    out = brake.live_workloads(tx)
    return next((job for job in workload.jobs if job in out), workload.jobs[0])
