"""Slurm behind the port, through its own commands. Opened by `ground.clusters` for a `[clusters.NAME]` of kind `slurm`.

A Slurm node has one drain and one reason. Ours is a drain whose reason is exactly what Ostler wrote (ADR 012); where
somebody else drained the node, or put it down, theirs stays and `cordon` does nothing: the node is kept off work, and
`cordoned` says `others` until they let go. Nodes carry the same names in Slurm and in Ostler.

Slurm has no compare-and-set. What others hold is looked at right before every change; who drains the node in the few
milliseconds between is overwritten by `cordon`, and undone by `uncordon` only if they drained a node already ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from ostler.adapters.cluster import slurm_idle
from ostler.adapters.cluster.port import (
    ClusterNode,
    CordonView,
    DrainMode,
    DrainView,
    IdleRun,
    IdleView,
    Workload,
)
from ostler.adapters.cluster.slurm_text import (
    JOB_FORMAT,
    SlurmJob,
    SlurmNode,
    cluster_node,
    concerned,
    gpus_of,
    our_reason,
    read_jobs,
    read_nodes,
    usable,
)
from ostler.adapters.cluster.slurm_tools import Failed, Tools
from ostler.core.errors import NotFound, Refused, Unavailable
from ostler.core.ids import PermitId

_NAMED = 64
"""Up to this many nodes are asked for by name; more, by reading all."""


class SlurmCluster:
    """`Cluster` over one slurmctld. `conf`: path of its slurm.conf; `bin`: folder of the commands; empty: the defaults.

    Raises `BadInput` where those are not there.
    """

    def __init__(
        self, name: str, *, conf: str = "", bin: str = "", idle_partition: str = "", idle_qos: str = ""
    ) -> None:
        self._tools = Tools(name, conf, bin)
        self._idle_partition = idle_partition
        self._idle_qos = idle_qos

    @property
    def name(self) -> str:
        return self._tools.name

    def cordoned(self, names: Collection[str]) -> Mapping[str, CordonView]:
        return {node.name: node.view for node in self._nodes(names)}

    def cordon(self, name: str, reason: str) -> None:
        node = self._node(name)
        wanted = our_reason(reason)
        if node.others or (node.ours and node.reason == wanted):
            return
        self._update(name, "state=drain", f"reason={wanted}")

    def uncordon(self, name: str) -> None:
        node = self._one(name)
        if node is None or not node.ours:
            return
        # `resume` takes a node up again that fell down while we held it; `undrain` leaves all other states as they are.
        state = "resume" if node.base == "DOWN" else "undrain"
        try:
            self._update(name, f"state={state}")
        except Unavailable:
            # A node that was never up answers "invalid node state", and is undrained all the same.
            left = self._one(name)
            if left is not None and left.ours:
                raise

    def busy(self, names: Collection[str]) -> Mapping[str, Workload | None]:
        known = {node.name for node in self._nodes(names)}
        there: dict[str, list[SlurmJob]] = {name: [] for name in known}
        for job in self._jobs() if known else ():
            for name in job.nodes & known:
                there[name].append(job)
        return {name: _workload(found) for name, found in there.items()}

    def ready(self, names: Collection[str]) -> Mapping[str, bool]:
        return {node.name: node.ready for node in self._nodes(names)}

    def drain(
        self, name: str, mode: DrainMode, reason: str, *, permit: PermitId, gpus: Collection[int] = ()
    ) -> DrainView:
        if not permit:
            raise Refused("A drain needs a permit.", where=self.name)
        node = self._node(name)
        jobs = [job for job in self._jobs() if node.name in job.nodes]
        chosen, partial = self._choose(node.name, jobs, gpus)
        running = [job for job in chosen if job.state != "COMPLETING"]
        blocked: list[str] = []
        if mode is DrainMode.EVICT:
            blocked = [line for job in running if (line := self._requeue(job))]
        elif mode is DrainMode.FORCE and running:
            self._cancel([job.id for job in running])
        return DrainView(_workload(chosen), tuple(blocked), partial)

    def inventory(self) -> Iterator[ClusterNode]:
        for node in read_nodes(self._ask("scontrol", "-a", "-o", "show", "node")):
            if node.base != "FUTURE":
                yield cluster_node(node)

    def start_idle_run(self, run: IdleRun) -> str:
        self._node(run.node)
        return slurm_idle.start(self._tools, run, partition=self._idle_partition, qos=self._idle_qos)

    def idle_run(self, reference: str) -> IdleView:
        return slurm_idle.look(self._tools, reference)

    def end_idle_run(self, reference: str) -> None:
        slurm_idle.end(self._tools, reference)

    def _choose(self, name: str, jobs: Sequence[SlurmJob], gpus: Collection[int]) -> tuple[list[SlurmJob], bool]:
        """The jobs that have to go, and whether those are only the ones on the GPUs named."""
        if not gpus:
            return list(jobs), False
        chosen, told = [], True
        for job in jobs:
            try:
                indices = gpus_of(self._tools.ask("scontrol", "show", "job", "-d", job.id), name)
            except Failed:
                indices = None  # it has ended meanwhile
            told = told and indices is not None
            if concerned(indices, gpus):
                chosen.append(job)
        return (chosen, True) if told else (list(jobs), False)

    def _requeue(self, job: SlurmJob) -> str | None:
        """Send it back to the queue; why not, where Slurm says no."""
        try:
            self._tools.ask("scontrol", "requeue", job.id)
        except Failed as failed:
            if "already" in failed.said.lower() or "invalid job id" in failed.said.lower():
                return None  # it left by itself
            return f"job {job.id}: it may not be requeued ({failed.said.removesuffix(f' for job {job.id}')})"
        return None

    def _cancel(self, ids: Sequence[str]) -> None:
        """SIGTERM now, SIGKILL after the cluster's KillWait."""
        try:
            self._tools.ask("scancel", "-Q", *ids)
        except Failed as failed:
            raise Unavailable(f"scancel: {failed.said}.", where=self.name) from None

    def _jobs(self) -> list[SlurmJob]:
        """Every job that is on a node, but for our idle runs."""
        ours = slurm_idle.jobs(self._tools)
        found = read_jobs(self._ask("squeue", "-h", "-a", "-o", JOB_FORMAT))
        return [job for job in found if job.id not in ours]

    def _node(self, name: str) -> SlurmNode:
        found = self._one(name)
        if found is None:
            raise NotFound(f"The cluster has no node {name!r}.", where=self.name)
        return found

    def _one(self, name: str) -> SlurmNode | None:
        return next(iter(self._nodes((name,))), None)

    def _nodes(self, names: Collection[str]) -> list[SlurmNode]:
        wanted = {name for name in names if usable(name)}
        if not wanted:
            return []
        some = [",".join(sorted(wanted))] if len(wanted) <= _NAMED else []
        return [
            node for node in read_nodes(self._ask("scontrol", "-a", "-o", "show", "node", *some)) if node.name in wanted
        ]

    def _ask(self, tool: str, *arguments: str) -> str:
        try:
            return self._tools.ask(tool, *arguments)
        except Failed as failed:
            if "not found" in failed.said:
                return failed.said  # `scontrol show node a,b` prints those that it knows, and complains of the others
            raise Unavailable(f"{tool}: {failed.said}.", where=self.name) from None

    def _update(self, name: str, *changes: str) -> None:
        try:
            self._tools.ask("scontrol", "update", f"nodename={name}", *changes)
        except Failed as failed:
            raise Unavailable(f"scontrol: {failed.said}.", where=self.name) from None


def _workload(jobs: Sequence[SlurmJob]) -> Workload | None:
    if not jobs:
        return None
    return Workload(len(jobs), tuple(sorted({job.root for job in jobs})))
