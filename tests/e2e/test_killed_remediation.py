"""kill -9 of the server in the middle of a remediation: the next one ends it right, and does nothing twice.

Each test kills where it hurts: while a busy node waits for its workload, while a node boots after an order to its agent
or to its BMC, and between the moment in which a BMC carried out a reset and the moment in which the server knew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from lightkube import Client, KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Node

from tests import kubernetes_server
from tests.contract.cluster.conftest import add_pod, end_pods, pods_on, set_budget, taints
from tests.e2e.killed_server import Machine, World, world_of

LONG_PATIENCE = """
[remediation]
boot_timeout_s = 36000.0
in_band_s = 36000.0
verification_deadline_s = 36000.0

[remediation.pools.scheduled]
drain_mode = "evict"
"""
"""A simulated hour is a real minute here, and the next server starts within that."""

HUNG_COMMAND = "mlx5_core 0000:19:00.0: wait_func:1136:(pid 0): CREATE_MKEY(0x200) timeout. Will cause a leak"
"""An error that asks for a reboot, and leaves the node's work alone."""
NO_DRIVER = "NVRM: GPU 0000:18:00.0: RmInitAdapter failed! (0x24:0xffff:1211)"
"""Likewise, with no peer that ever said so."""
FALLEN = "NVRM: Xid (PCI:0000:18:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
"""Fatal: rebooted at once, through the BMC."""


pytestmark = pytest.mark.xdist_group("killed-remediation")  # one worker, one API server


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """A real API server; None where there is none, and then only the drain is not tested."""
    with ExitStack() as stack:
        try:
            yield stack.enter_context(kubernetes_server.running(tmp_path_factory.mktemp("kubernetes")))
        except kubernetes_server.Absent as absent:
            if os.environ.get("CI"):
                pytest.fail(f"Kubernetes is needed here: {absent}")
            yield None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, kubeconfig: Path | None) -> Iterator[World]:
    """Five machines in production: one for each way to die. The last one is a node of Kubernetes."""
    more = LONG_PATIENCE if kubeconfig is None else f'{LONG_PATIENCE}\n[clusters.real]\nkubeconfig = "{kubeconfig}"\n'
    cluster = "none" if kubeconfig is None else "real"
    with world_of(tmp_path_factory.mktemp("killed"), 5, more, cluster=cluster) as made:
        yield made


def restart(world: World) -> None:
    world.server.bury()
    world.server.start()


def story(machine: Machine) -> str:
    return "\n".join([str(machine.resets), str(machine.twin.boots), *(link["text"] for link in machine.chain())])


def came_back(world: World, machine: Machine) -> None:
    """The end of every story here: verified, in production, and nothing of ours is left on the node or the books."""

    def ended() -> bool:
        seen = machine.seen()
        return bool(seen["state"] == "production" and machine.states()[-2:] == ["reboot", "production"])

    world.until(ended, lambda: story(machine))
    world.until(lambda: not machine.seen()["cordoned"], lambda: story(machine))
    seen, chain = machine.seen(), machine.chain()
    assert seen["cordon_holds"] == [] and seen["pending"] is None
    assert world.permits() == []
    assert [link["text"] for link in chain if link["kind"] == "waiting"] == []
    assert sum("→ reboot" in link["text"] for link in chain) == 1, story(machine)
    assert sum("check verification passed" in link["text"] for link in chain) == 1, story(machine)
    world.until(lambda: world.get("/v1/audit/head")["size"] > 0)
    verdict = world.get("/v1/audit/verify")
    assert verdict["ok"], verdict


def test_while_a_busy_node_waits_for_its_workload(world: World) -> None:
    machine = world.machines[0]
    boots = machine.twin.boots
    machine.work(True)
    world.until(lambda: machine.seen()["busy"], lambda: story(machine))
    machine.say(HUNG_COMMAND)
    world.until(lambda: machine.waits_for("waits for the workload to end"), lambda: story(machine))

    world.server.kill()
    restart(world)
    before = machine.seen()
    world.until(lambda: machine.seen()["last_seen"] > before["last_seen"], lambda: story(machine))
    assert (machine.seen()["state"], machine.seen()["pending"]["to"]) == ("production", "reboot")
    assert machine.seen()["cordoned"] and machine.twin.busy() and machine.twin.boots == boots

    machine.work(False)
    came_back(world, machine)
    assert machine.resets == [], "its agent restarted it"
    assert machine.twin.boots == boots + 1


def test_while_it_boots_after_an_order_to_its_agent(world: World) -> None:
    machine = world.machines[1]
    boots = machine.twin.boots
    machine.say(HUNG_COMMAND)
    world.until(lambda: not machine.is_up, lambda: story(machine))
    world.server.kill()
    restart(world)
    came_back(world, machine)
    assert machine.resets == []
    assert machine.twin.boots == boots + 1


def test_while_it_boots_after_a_reset_through_its_bmc(world: World) -> None:
    machine = world.machines[2]
    boots = machine.twin.boots
    machine.say(FALLEN)
    world.until(lambda: machine.waits_for("waiting for the node to boot"), lambda: story(machine))
    world.server.kill()
    restart(world)
    came_back(world, machine)
    assert machine.resets == ["force-restart"]
    assert machine.twin.boots == boots + 1


def test_before_it_knows_that_the_bmc_has_reset_the_node(world: World) -> None:
    machine = world.machines[3]
    boots = machine.twin.boots
    machine.on_reset = world.server.kill
    machine.say(FALLEN)
    world.until(lambda: machine.resets, lambda: story(machine))
    restart(world)
    came_back(world, machine)
    assert machine.resets == ["force-restart"], "the deed was done; it must not be done again"
    assert machine.twin.boots == boots + 1


def test_in_the_middle_of_a_drain(world: World, kubeconfig: Path | None) -> None:
    if kubeconfig is None:
        pytest.skip("no etcd or kube-apiserver on this machine: see tests/kubernetes_server.py")
    machine = world.machines[4]
    boots = machine.twin.boots
    with Client(config=KubeConfig.from_file(kubeconfig).get(), trust_env=False) as client:
        client.create(Node(metadata=ObjectMeta(name=machine.name)))
        add_pod(client, machine.name, owner="trainer")
        set_budget(client, "trainer", 0)
        machine.say(NO_DRIVER)
        world.until(lambda: machine.waits_for("its disruption budget"), lambda: story(machine))
        (permit,) = world.permits()

        world.server.kill()
        world.server.bury()
        set_budget(client, "trainer", 1)
        assert [pod for pod in pods_on(client, machine.name) if pod.metadata and pod.metadata.deletionTimestamp] == []
        world.server.start()
        world.until(
            lambda: any(pod.metadata and pod.metadata.deletionTimestamp for pod in pods_on(client, machine.name)),
            lambda: story(machine),
        )
        assert [one["id"] for one in world.permits()] == [permit["id"]], "the drain goes on under its permit"
        assert (machine.seen()["state"], machine.twin.boots) == ("production", boots), "it waits for what is leaving"
        assert [one["key"] for one in taints(client, machine.name)] == ["ostler.dev/cordoned"]

        end_pods(client, machine.name)
        came_back(world, machine)
        world.until(lambda: taints(client, machine.name) == [], lambda: story(machine))
    assert machine.resets == []
    assert machine.twin.boots == boots + 1
