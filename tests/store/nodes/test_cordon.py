"""The cordon controller against clusters in memory, on both databases: it converges, and fights nobody's cordon."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import pytest

from ostler.adapters.cluster.fake import FakeCluster
from ostler.adapters.cluster.port import CordonView
from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput, Unreachable
from ostler.db.engine import Database
from ostler.nodes import cordon, service, store
from ostler.nodes.cordon import LEASE_SECONDS, OTHERS_SECONDS, UNKNOWN_SECONDS, CordonController
from ostler.nodes.model import OBSERVE_ONLY, Capability, Node, Pool, State

MARA = Actor("person:mara")
GRANTED = frozenset({Capability.OBSERVE, Capability.CORDON})
RESYNC = 300.0


@dataclass
class Picky(FakeCluster):
    """Refuses names that no such cluster can have, as Kubernetes does; counts how often it was asked."""

    asked: int = 0
    one_only: bool = False
    """There is room for one cordon: others' keeps ours out."""
    on_cordon: Callable[[], None] = lambda: None

    def cordoned(self, names: Collection[str]) -> Mapping[str, CordonView]:
        self.asked += 1
        return super().cordoned(names)

    def cordon(self, name: str, reason: str) -> None:
        if name.startswith("bad"):
            raise BadInput(f"{name} is no name here.", where=self.name)
        if self.one_only and self.nodes[name].others:
            self.calls.append(("refused", name))
            return
        super().cordon(name, reason)
        self.on_cordon()


class World:
    def __init__(self, db: Database) -> None:
        self.db = db
        self.a, self.b = Picky("a"), Picky("b")
        for name, cluster, granted in (("a", "a", GRANTED), ("b", "b", GRANTED), ("watched", "a", OBSERVE_ONLY)):
            self.pool(Pool(name, granted, cluster=cluster))
        self.pool(Pool("lost", GRANTED, cluster="never-configured"))
        self.controller = self.replica("one")

    def replica(self, owner: str) -> CordonController:
        return CordonController(self.db, {"a": self.a, "b": self.b}, owner=owner, resync_seconds=RESYNC)

    def pool(self, pool: Pool) -> None:
        self.db.write(lambda tx: service.define_pool(tx, pool, actor=MARA))

    def add(self, name: str, pool: str = "a", *, known: bool = True) -> Node:
        if known:
            (self.b if pool == "b" else self.a).add(name)
        return self.db.write(
            lambda tx: service.register(tx, name=name, pool=pool, actor=MARA, cause="x", state=State.PRODUCTION)
        )

    def hold(self, node: Node, holder: str = "remediation") -> None:
        self.db.write(lambda tx: service.hold_cordon(tx, node.id, holder, "broken", MARA))

    def release(self, node: Node, holder: str = "remediation") -> None:
        self.db.write(lambda tx: service.release_cordon(tx, node.id, holder, MARA))

    def noted(self, node: Node) -> bool | None:
        return self.db.read(lambda tx: store.get(tx, node.id)).cordoned

    def ours(self) -> set[str]:
        clusters = {**self.a.nodes, **self.b.nodes}
        return {name for name, one in clusters.items() if one.reason is not None}

    def rest(self) -> int:
        """Rounds until nothing changes; how many cordons were put or lifted."""
        total = 0
        while changed := self.controller.run_once():
            total += changed
        return total


@pytest.fixture
def world(db: Database) -> World:
    return World(db)


@pytest.fixture
def small_batch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cordon, "BATCH", 3)
    yield


def test_it_converges_both_ways(world: World) -> None:
    nodes = [world.add(f"gpu-{n}") for n in range(4)]
    assert world.rest() == 0
    assert [world.noted(node) for node in nodes] == [False] * 4
    for node in nodes[:2]:
        world.hold(node)
    assert world.rest() == 2
    assert world.ours() == {"gpu-0", "gpu-1"}
    assert world.a.nodes["gpu-0"].reason == "broken"
    assert world.noted(nodes[0]) is True
    world.release(nodes[0])
    assert world.rest() == 1
    assert (world.ours(), world.noted(nodes[0])) == ({"gpu-1"}, False)
    assert world.a.calls == [("cordon", "gpu-0"), ("cordon", "gpu-1"), ("uncordon", "gpu-0")]


def test_a_cordon_stays_while_anyone_holds_it(world: World) -> None:
    node = world.add("gpu-1")
    world.hold(node, "remediation")
    world.hold(node, "person")
    world.rest()
    world.release(node, "remediation")
    assert (world.rest(), world.ours()) == (0, {"gpu-1"})
    world.release(node, "person")
    assert (world.rest(), world.ours()) == (1, set())


def test_it_fights_nobody_elses_cordon(world: World) -> None:
    node = world.add("gpu-1")
    world.a.nodes["gpu-1"].others = True
    assert world.rest() == 0
    world.hold(node)
    world.rest()
    world.release(node)
    world.rest()
    assert world.a.nodes["gpu-1"].others
    assert world.noted(node) is False, "what is noted is our cordon"


def test_where_there_is_room_for_one_cordon_only_the_others_stays_and_ours_waits(
    world: World, clock: ManualClock, small_batch: None
) -> None:
    """As Slurm has it: more such nodes than one batch, and none of them makes the controller run hot."""
    world.a.one_only = True
    nodes = [world.add(f"gpu-{n}") for n in range(7)]
    for node in nodes:
        world.a.nodes[node.name].others = True
        world.hold(node)
    assert [world.controller.run_once() for _ in range(4)] == [0] * 4, "nothing was put"
    assert world.ours() == set()
    assert [world.noted(node) for node in nodes] == [True] * 7, "they are kept off work"
    asked, tried = world.a.asked, len(world.a.calls)
    world.controller.run_once()
    assert world.a.asked == asked, "and not asked about at every round"
    clock.advance(OTHERS_SECONDS + 1)
    for _ in range(3):
        world.controller.run_once()
    assert len(world.a.calls) == tried, "nor tried again while the others hold them"
    world.a.nodes["gpu-3"].others = False
    clock.advance(OTHERS_SECONDS + 1)
    assert (sum(world.controller.run_once() for _ in range(3)), world.ours()) == (1, {"gpu-3"})
    world.release(nodes[0])
    for _ in range(3):
        world.controller.run_once()
    assert (world.noted(nodes[0]), world.a.nodes["gpu-0"].others) == (False, True)


def test_a_pool_that_does_not_grant_is_cordoned_for_a_person_only(world: World) -> None:
    node = world.add("gpu-1", "watched")
    world.hold(node, "lifecycle")
    assert (world.rest(), world.ours()) == (0, set())
    world.hold(node, "person")
    assert (world.rest(), world.ours()) == (1, {"gpu-1"})
    world.release(node, "person")
    world.rest()
    assert world.ours() == {"gpu-1"}, "it is held still: nothing is put to use that is held"
    world.release(node, "lifecycle")
    world.rest()
    assert world.ours() == set()


def test_a_grant_given_later_is_used_and_one_taken_back_frees_no_broken_node(world: World, clock: ManualClock) -> None:
    node = world.add("gpu-1", "watched")
    world.hold(node)
    world.rest()
    world.pool(Pool("watched", GRANTED, cluster="a"))
    assert (world.rest(), world.ours()) == (1, {"gpu-1"})
    world.pool(Pool("watched", OBSERVE_ONLY, cluster="a"))
    clock.advance(RESYNC + 1)
    assert (world.rest(), world.ours()) == (0, {"gpu-1"})


def test_what_is_not_granted_is_no_drift_and_asked_about_no_more_often(world: World, clock: ManualClock) -> None:
    world.hold(world.add("gpu-1", "watched"))
    world.controller.run_once()
    asked = world.a.asked
    clock.advance(10)
    world.controller.run_once()
    assert world.a.asked == asked


def test_a_cluster_that_fails_stops_no_other(world: World) -> None:
    world.hold(world.add("gpu-1", "a"))
    world.hold(world.add("gpu-2", "b"))
    world.a.unreachable = True
    with pytest.raises(Unreachable):
        world.controller.run_once()
    assert world.ours() == {"gpu-2"}
    world.a.unreachable = False
    world.controller.run_once()
    assert world.ours() == {"gpu-1", "gpu-2"}


def test_many_nodes_of_a_dead_cluster_keep_nobody_waiting(world: World, small_batch: None) -> None:
    world.a.unreachable = True
    for n in range(7):
        world.hold(world.add(f"a-{n}", "a"))
    world.hold(world.add("b-1", "b"))
    with pytest.raises(Unreachable):
        world.controller.run_once()
    assert world.ours() == {"b-1"}


@pytest.mark.parametrize("pool", ["a", "watched", "lost"])
def test_what_cannot_be_cordoned_keeps_nobody_waiting(
    world: World, clock: ManualClock, small_batch: None, pool: str
) -> None:
    """More nodes than one batch that never come to rest: unknown to the cluster, not granted, of no cluster."""
    for n in range(7):
        world.hold(world.add(f"never-{n}", pool, known=pool == "watched"))
    for _ in range(4):
        world.controller.run_once()
        clock.advance(1)
    node = world.add("gpu-1")
    world.hold(node)
    for _ in range(4):
        world.controller.run_once()
        clock.advance(UNKNOWN_SECONDS)
    assert "gpu-1" in world.ours()


def test_one_nodes_own_trouble_keeps_nobody_waiting(world: World, clock: ManualClock, small_batch: None) -> None:
    for n in range(4):
        world.hold(world.add(f"bad-{n}"))
    world.hold(world.add("gpu-1"))
    for _ in range(4):
        with pytest.raises(BadInput, match="is no name here"):
            world.controller.run_once()
        clock.advance(UNKNOWN_SECONDS + 1)
    assert world.ours() == {"gpu-1"}


def test_a_node_unknown_to_the_cluster_is_cordoned_when_it_appears(world: World, clock: ManualClock) -> None:
    node = world.add("gpu-1", known=False)
    world.hold(node)
    assert world.rest() == 0
    assert world.noted(node) is None, "not known"
    asked = world.a.asked
    clock.advance(UNKNOWN_SECONDS - 1)
    world.controller.run_once()
    assert world.a.asked == asked, "and not asked about at every round"
    world.a.add("gpu-1")
    clock.advance(UNKNOWN_SECONDS + 1)
    assert (world.rest(), world.ours(), world.noted(node)) == (1, {"gpu-1"}, True)


def test_resync_finds_what_somebody_did_to_our_cordon(world: World, clock: ManualClock) -> None:
    held, free = world.add("gpu-1"), world.add("gpu-2")
    world.hold(held)
    world.rest()
    world.a.nodes["gpu-1"].reason = None
    world.a.nodes["gpu-2"].reason = "left over"
    assert world.controller.run_once() == 0, "the books agree, so nobody looks yet"
    clock.advance(RESYNC + 1)
    assert world.rest() == 2
    assert world.ours() == {"gpu-1"}
    assert world.noted(free) is False


def test_a_node_that_retires_in_the_same_breath_is_cordoned_still(world: World) -> None:
    node = world.add("gpu-1")
    world.rest()
    world.db.write(
        lambda tx: service.transition(
            tx,
            node.id,
            State.RETIRED,
            actor=MARA,
            cause="by hand",
            facts=replace(service.facts(tx, node, MARA), idle=True),
        )
    )
    world.rest()
    assert world.ours() == {"gpu-1"}


def test_a_second_replica_is_idle_and_well_until_the_first_is_gone(world: World, clock: ManualClock) -> None:
    world.controller.run_once()
    second = world.replica("two")
    world.hold(world.add("gpu-1"))
    assert second.run_once() == 0
    assert world.ours() == set()
    assert second.last_success == clock.real(), "waiting for its turn is no failure"
    clock.advance(LEASE_SECONDS + 1)
    assert second.run_once() == 1
    assert world.controller.run_once() == 0


def test_a_replica_that_goes_on_keeps_its_turn(world: World, clock: ManualClock) -> None:
    second = world.replica("two")
    world.controller.run_once()
    world.hold(world.add("gpu-1"))
    for _ in range(4):
        clock.advance(LEASE_SECONDS / 2)
        world.controller.run_once()
        world.hold(world.add(f"gpu-{clock.now():.0f}"))
        assert second.run_once() == 0


def test_a_hold_nudges_a_controller_that_runs(sqlite_db: Database) -> None:
    world = World(sqlite_db)
    node = world.add("gpu-1")
    patient = CordonController(sqlite_db, {"a": world.a, "b": world.b}, owner="one", poll_seconds=120.0)
    world.a.on_cordon = patient._stop.set
    patient.start()
    assert patient._thread is not None
    world.hold(node)
    patient._thread.join(timeout=60)
    patient.stop()
    assert world.a.calls == [("cordon", "gpu-1")]
