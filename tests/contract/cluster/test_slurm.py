"""Slurm over a real slurmctld and real slurmds: one drain with one reason, jobs, drains, idle runs, and how it fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ostler.adapters.cluster.port import CordonView, DrainMode, DrainView, IdlePhase, IdleRun, IdleView, Workload
from ostler.adapters.cluster.slurm import SlurmCluster
from ostler.core.errors import BadInput, NotFound, Refused, Unreachable
from ostler.core.ids import PermitId
from tests import slurm_server
from tests.slurm_server import Slurm

FREE = CordonView(ours=False, others=False)
OURS = CordonView(ours=True, others=False)
THEIRS = CordonView(ours=False, others=True)
PERMIT = PermitId("permit_1")
NODES = 60


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A running cluster, one for all tests of this process."""
    with ExitStack() as stack:
        try:
            yield stack.enter_context(slurm_server.running(tmp_path_factory.mktemp("slurm"), NODES))
        except slurm_server.Absent as absent:
            if os.environ.get("CI"):
                pytest.fail(f"Slurm is needed here: {absent}")
            pytest.skip(str(absent))


@pytest.fixture(scope="module")
def unused(slurm: Slurm) -> Iterator[str]:
    return iter(slurm.names)


@pytest.fixture(scope="module")
def cluster(slurm: Slurm) -> SlurmCluster:
    return SlurmCluster("hpc", conf=str(slurm.conf), idle_partition="idle")


@pytest.fixture
def dark(unused: Iterator[str]) -> str:
    """A node of its own without a slurmd."""
    return next(unused)


@pytest.fixture
def node(unused: Iterator[str], slurm: Slurm) -> str:
    """A node of its own that is up."""
    name = next(unused)
    slurm.boot(name)
    return name


def drain_by_others(slurm: Slurm, name: str, reason: str = "mara: bad DIMM") -> None:
    slurm.run("scontrol", "update", f"nodename={name}", "state=drain", f"reason={reason}")


def running(slurm: Slurm, node: str, *options: str, script: str = "exec sleep 600") -> str:
    job = slurm.submit(node, *options, script=script)
    slurm.until(lambda: slurm.job_state(job) == "RUNNING", f"job {job} runs")
    return job


def gone(slurm: Slurm, job: str) -> None:
    slurm.until(lambda: slurm.job_state(job) not in ("RUNNING", "COMPLETING"), f"job {job} has left")


def shell(node: str, text: str, seconds: int = 600, gpus: int = 4) -> IdleRun:
    return IdleRun(node, ("sh", "-c", text), gpus, seconds)


def phase(slurm: Slurm, cluster: SlurmCluster, run: str, wanted: IdlePhase) -> None:
    slurm.until(lambda: cluster.idle_run(run).phase is wanted, f"the idle run is {wanted}")


# Cordon ---------------------------------------------------------------------------------------------------------------


def test_a_cordon_is_a_drain_with_a_reason_that_is_ours_until_lifted(
    slurm: Slurm, cluster: SlurmCluster, node: str
) -> None:
    assert cluster.cordoned([node]) == {node: FREE}
    for reason in ("one", "one", 'XID 79: "GPU" has [fallen] off the bus\n'):
        cluster.cordon(node, reason)
        assert cluster.cordoned([node]) == {node: OURS}
    assert "Reason=ostler: XID 79: GPU has fallen off the bus (" in slurm.run("scontrol", "-o", "show", "node", node)
    assert slurm.node_state(node) == "IDLE+DRAIN"
    for _ in range(2):
        cluster.uncordon(node)
        assert cluster.cordoned([node]) == {node: FREE}
    assert slurm.node_state(node).removesuffix("+NOT_RESPONDING") == "IDLE", "until it is asked again"


def test_a_node_that_never_was_up_is_cordoned_all_the_same(cluster: SlurmCluster, dark: str) -> None:
    cluster.cordon(dark, "not yet")
    assert cluster.cordoned([dark]) == {dark: OURS}
    cluster.uncordon(dark)
    assert cluster.cordoned([dark]) == {dark: FREE}


def test_somebody_elses_drain_is_seen_and_never_touched(slurm: Slurm, cluster: SlurmCluster, node: str) -> None:
    drain_by_others(slurm, node)
    before = slurm.run("scontrol", "-o", "show", "node", node).partition(" State=")[2]
    cluster.cordon(node, "ours too")
    assert cluster.cordoned([node]) == {node: THEIRS}
    cluster.uncordon(node)
    assert slurm.run("scontrol", "-o", "show", "node", node).partition(" State=")[2] == before
    slurm.run("scontrol", "update", f"nodename={node}", "state=resume")
    assert cluster.cordoned([node]) == {node: FREE}


@pytest.mark.parametrize("change", ["{} - leave it, mara", "ostler: one (00000000)", "mara took over"])
def test_a_reason_that_somebody_edited_is_ours_no_longer(
    slurm: Slurm, cluster: SlurmCluster, dark: str, change: str
) -> None:
    cluster.cordon(dark, "one")
    written = slurm.run("scontrol", "-o", "show", "node", dark).partition(" Reason=")[2].partition(" [")[0]
    drain_by_others(slurm, dark, change.format(written))
    assert cluster.cordoned([dark]) == {dark: THEIRS}
    cluster.uncordon(dark)
    assert "DRAIN" in slurm.node_state(dark)


def test_a_node_put_down_by_somebody_is_held_by_others(slurm: Slurm, cluster: SlurmCluster, node: str) -> None:
    cluster.cordon(node, "ours")
    slurm.run("scontrol", "update", f"nodename={node}", "state=down", "reason=mara: smoke")
    cluster.uncordon(node)
    assert cluster.cordoned([node]) == {node: THEIRS}
    assert slurm.node_state(node).startswith("DOWN")


def test_a_drain_of_ours_is_held_across_a_reboot_and_lifted_by_us_alone(
    slurm: Slurm, cluster: SlurmCluster, node: str
) -> None:
    cluster.cordon(node, "reboot")
    slurm.power_off(node)
    slurm.until(lambda: "DOWN" in slurm.node_state(node), "the node is given up")
    assert cluster.cordoned([node]) == {node: OURS}
    assert cluster.ready([node]) == {node: False}
    slurm.boot(node, fresh=True)
    assert "DRAIN" in slurm.node_state(node)
    assert cluster.cordoned([node]) == {node: OURS}
    cluster.uncordon(node)
    assert slurm.node_state(node).removesuffix("+NOT_RESPONDING") == "IDLE", "until it is asked again"


def test_a_node_that_fell_silent_is_nobodys_cordon_and_can_be_ours(
    slurm: Slurm, cluster: SlurmCluster, node: str
) -> None:
    slurm.power_off(node)
    slurm.until(lambda: "DOWN" in slurm.node_state(node), "the node is given up")
    assert cluster.cordoned([node]) == {node: FREE}
    cluster.cordon(node, "silent")
    slurm.boot(node)
    assert cluster.cordoned([node]) == {node: OURS}


@pytest.mark.parametrize(
    "name", ["no-such-node", "ALL", "all", "gpu-[01-60]", "gpu-59,gpu-60", "-V", "", "a b", "x" * 300]
)
def test_only_the_name_of_one_node_is_a_name(slurm: Slurm, cluster: SlurmCluster, name: str) -> None:
    assert (cluster.cordoned([name]), cluster.busy([name]), cluster.ready([name])) == ({}, {}, {})
    with pytest.raises(NotFound, match="has no node"):
        cluster.cordon(name, "x")
    with pytest.raises(NotFound, match="has no node"):
        cluster.drain(name, DrainMode.FORCE, "x", permit=PERMIT)
    with pytest.raises(NotFound, match="has no node"):
        cluster.start_idle_run(shell(name, "true"))
    cluster.uncordon(name)
    assert "DRAIN" not in slurm.node_state("gpu-60")


def test_many_are_read_at_once_and_unknown_ones_left_out(slurm: Slurm, cluster: SlurmCluster) -> None:
    assert set(cluster.cordoned([*slurm.names, "no-such-node"])) == set(slurm.names)
    many = [*slurm.names, *(f"none-{number}" for number in range(10))]
    assert set(cluster.ready(many)) == set(slurm.names)
    assert (cluster.cordoned([]), cluster.busy([]), cluster.ready([])) == ({}, {}, {})


def test_readiness_follows_the_node(slurm: Slurm, cluster: SlurmCluster, dark: str) -> None:
    assert cluster.ready([dark]) == {dark: False}
    slurm.boot(dark)
    assert cluster.ready([dark]) == {dark: True}
    cluster.cordon(dark, "a drained node is heard all the same")
    assert cluster.ready([dark]) == {dark: True}
    slurm.power_off(dark)
    assert cluster.ready([dark]) == {dark: False}


# Work -----------------------------------------------------------------------------------------------------------------


def test_busy_names_the_jobs_and_an_arrays_tasks_are_one(slurm: Slurm, cluster: SlurmCluster, node: str) -> None:
    assert cluster.busy([node]) == {node: None}
    single = running(slurm, node)
    array = slurm.submit(node, "--array=1-2")
    slurm.until(lambda: slurm.job_state(array) == "RUNNING\nRUNNING", "the array runs")
    assert cluster.busy([node]) == {node: Workload(3, tuple(sorted([single, array])))}


def test_a_job_over_several_nodes_is_one_job(
    slurm: Slurm, cluster: SlurmCluster, node: str, unused: Iterator[str]
) -> None:
    other = next(unused)
    slurm.boot(other)
    job = running(slurm, f"{node},{other}", "--nodes=2")
    assert cluster.busy([node, other]) == {node: Workload(1, (job,)), other: Workload(1, (job,))}


def test_a_drain_that_allows_completion_touches_nothing(slurm: Slurm, cluster: SlurmCluster, node: str) -> None:
    job = running(slurm, node)
    found = cluster.drain(node, DrainMode.ALLOW_COMPLETION, "x", permit=PERMIT)
    assert found == DrainView(Workload(1, (job,)))
    assert slurm.job_state(job) == "RUNNING"
    slurm.run("scancel", job)
    gone(slurm, job)
    assert cluster.drain(node, DrainMode.ALLOW_COMPLETION, "x", permit=PERMIT) == DrainView()


def test_an_eviction_requeues_what_may_be_requeued_and_names_what_may_not(
    slurm: Slurm, cluster: SlurmCluster, node: str
) -> None:
    willing, unwilling = running(slurm, node, "--requeue"), running(slurm, node, "--no-requeue")
    cluster.cordon(node, "drain")
    found = cluster.drain(node, DrainMode.EVICT, "x", permit=PERMIT)
    assert found.blocked == (f"job {unwilling}: it may not be requeued (Requested operation is presently disabled)",)
    slurm.until(lambda: slurm.job_state(willing) == "PENDING", "the willing job waits for another node")
    assert cluster.drain(node, DrainMode.EVICT, "x", permit=PERMIT).left == Workload(1, (unwilling,))
    assert slurm.job_state(unwilling) == "RUNNING"


def test_force_ends_what_is_left(slurm: Slurm, cluster: SlurmCluster, node: str) -> None:
    jobs = [running(slurm, node, "--no-requeue"), running(slurm, node)]
    cluster.drain(node, DrainMode.FORCE, "x", permit=PERMIT)
    slurm.until(lambda: cluster.drain(node, DrainMode.FORCE, "x", permit=PERMIT) == DrainView(), "the node is drained")
    assert [slurm.job_state(job) for job in jobs] == ["CANCELLED"] * 2


def test_only_the_work_on_the_named_gpus_has_to_go(slurm: Slurm, cluster: SlurmCluster, node: str) -> None:
    first, second = running(slurm, node, "--gres=gpu:2"), running(slurm, node, "--gres=gpu:1")
    running(slurm, node)
    found = cluster.drain(node, DrainMode.FORCE, "GPU 2", permit=PERMIT, gpus=[2])
    assert found == DrainView(Workload(1, (second,)), partial=True)
    gone(slurm, second)
    assert slurm.job_state(first) == "RUNNING"


def test_no_drain_without_a_permit(slurm: Slurm, cluster: SlurmCluster, node: str) -> None:
    job = running(slurm, node)
    with pytest.raises(Refused, match="needs a permit"):
        cluster.drain(node, DrainMode.FORCE, "x", permit=PermitId(""))
    assert slurm.job_state(job) == "RUNNING"


# Idle runs ------------------------------------------------------------------------------------------------------------


def test_an_idle_run_holds_all_gpus_is_no_work_and_gives_its_last_line(
    slurm: Slurm, cluster: SlurmCluster, node: str, tmp_path: Path
) -> None:
    wait, result = tmp_path / "wait", '{"words": "a\'b \\"c\\" $HOME ümlaut", "n": 1}'
    go_on = f"while [ ! -e {wait} ]; do sleep 0.05; done"
    run = cluster.start_idle_run(
        IdleRun(node, ("sh", "-c", f'{go_on}; echo noise; echo "$1"; exit 3', "x", result), 4, 600)
    )
    phase(slurm, cluster, run, IdlePhase.RUNNING)
    assert cluster.busy([node]) == {node: None}
    assert "GRES=gpu:h100:4(IDX:0-3)" in slurm.run("scontrol", "show", "job", "-d", run)
    assert cluster.drain(node, DrainMode.FORCE, "x", permit=PERMIT) == DrainView()
    wait.touch()
    phase(slurm, cluster, run, IdlePhase.ENDED)
    ended = cluster.idle_run(run)
    assert (ended.output, ended.exit_status) == (result, 3)


def test_long_output_is_cut_to_its_last_4_kib(slurm: Slurm, cluster: SlurmCluster, node: str) -> None:
    run = cluster.start_idle_run(shell(node, "head -c 300000 /dev/zero | tr '\\0' 'a'; printf %05000d 7; echo"))
    phase(slurm, cluster, run, IdlePhase.ENDED)
    assert cluster.idle_run(run).output == "7".zfill(4096)


def test_any_other_job_takes_the_node_from_an_idle_run_that_does_not_listen(
    slurm: Slurm, cluster: SlurmCluster, node: str
) -> None:
    run = cluster.start_idle_run(
        IdleRun(node, ("sh", "-c", "trap '' TERM; while :; do sleep 1; done"), 4, 600, grace_s=1)
    )
    phase(slurm, cluster, run, IdlePhase.RUNNING)
    job = running(slurm, node, "--gres=gpu:4", "--exclusive")
    assert cluster.idle_run(run) == IdleView(IdlePhase.STOPPED, "preempted")
    assert cluster.busy([node]) == {node: Workload(1, (job,))}


def test_an_idle_run_over_its_time_is_stopped(slurm: Slurm, cluster: SlurmCluster, node: str) -> None:
    deaf = ("sh", "-c", "trap '' TERM; echo '{}'; while :; do sleep 1; done")
    run = cluster.start_idle_run(IdleRun(node, deaf, 4, seconds=1, grace_s=1))
    phase(slurm, cluster, run, IdlePhase.STOPPED)
    assert cluster.idle_run(run).output == "its time was up"


def test_an_idle_run_waits_for_work_and_can_be_ended(slurm: Slurm, cluster: SlurmCluster, node: str) -> None:
    job = running(slurm, node)
    run = cluster.start_idle_run(shell(node, "echo hello"))
    slurm.until(
        lambda: slurm.run("squeue", "-h", "-j", run, "-o", "%r").strip() == "Resources", "the run finds no room"
    )
    assert cluster.idle_run(run).phase is IdlePhase.WAITING
    for _ in range(2):
        cluster.end_idle_run(run)
    phase(slurm, cluster, run, IdlePhase.STOPPED)
    assert slurm.job_state(job) == "RUNNING"


@pytest.mark.parametrize("reference", ["999999", "", "1; rm", "-x", "_"])
def test_a_forgotten_run_is_stopped(cluster: SlurmCluster, reference: str) -> None:
    assert cluster.idle_run(reference).phase is IdlePhase.STOPPED
    cluster.end_idle_run(reference)


def test_somebody_elses_job_is_no_idle_run_of_ours(slurm: Slurm, cluster: SlurmCluster, node: str) -> None:
    job = running(slurm, node)
    assert cluster.idle_run(job).phase is IdlePhase.STOPPED
    cluster.end_idle_run(job)
    assert slurm.job_state(job) == "RUNNING"
    with pytest.raises(NotFound):
        cluster.start_idle_run(shell("no-such-node", "true"))


def test_the_servers_environment_does_not_reach_the_job(
    slurm: Slurm, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSTLER_ADMIN_TOKEN", "secret-token")
    cluster = SlurmCluster("hpc", conf=str(slurm.conf), idle_partition="idle")
    run = cluster.start_idle_run(shell(node, 'echo "[${OSTLER_ADMIN_TOKEN}]"'))
    phase(slurm, cluster, run, IdlePhase.ENDED)
    assert cluster.idle_run(run).output == "[]"


# Inventory and trouble ------------------------------------------------------------------------------------------------


def test_the_inventory_says_what_slurm_knows(slurm: Slurm, cluster: SlurmCluster, node: str) -> None:
    drain_by_others(slurm, node, "mara: bad DIMM")
    slurm.run("scontrol", "update", f"nodename={node}", "comment=serial=SN-7 slot=fra1/a/r7/u3")
    found = {one.name: one for one in cluster.inventory()}
    assert set(found) == set(slurm.names)
    one = found[node]
    assert (one.gpus, one.sku, one.serial, one.slot) == (4, "h100", "SN-7", "fra1/a/r7/u3")
    assert (one.ready, one.cordoned_by_others, one.addresses) == (True, "mara: bad DIMM", ("127.0.0.1",))
    assert one.attributes["features"] == "h100,r7"
    assert found["gpu-60"].ready is False


def test_a_controller_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    try:
        with slurm_server.running(tmp_path, 1) as slurm:
            cluster = SlurmCluster("hpc", conf=str(slurm.conf))
            slurm.stop_controller()
            with pytest.raises(Unreachable, match=r"^hpc: scontrol: "):
                cluster.cordoned(["gpu-01"])
    except slurm_server.Absent as absent:
        pytest.skip(str(absent))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"conf": "/no/such/slurm.conf"}, r"\[clusters.hpc\] slurm_conf: slurm.conf cannot be read"),
        ({"bin": "/no/such/folder"}, r"\[clusters.hpc\] bin: No scontrol in /no/such/folder"),
    ],
)
def test_what_is_not_there_is_said_at_the_start(settings: dict[str, str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        SlurmCluster("hpc", **settings)
