"""What every collector must do, on the same fabric: Debian's tools over ibsim and opensm, and the fake."""

from __future__ import annotations

import pytest

from ostler.adapters.fabric.port import Want
from ostler.core.errors import Unavailable
from ostler.fabric.collect import Evidence, evidence, routes
from ostler.fabric.model import Port
from ostler.fabric.sweep import End, ProblemKind, Sweep
from tests.contract.fabric.conftest import MONITOR, Look
from tests.fabric_lab import FabricLab

Links = set[frozenset[tuple[int, int]]]


def links(sweep: Sweep) -> Links:
    pairs = ((end, facts.peer) for end, facts in sweep.ports.items())
    return {frozenset(((a.guid, a.port), (b.guid, b.port))) for a, b in pairs if b is not None}


def cabled(lab: FabricLab) -> Links:
    return {frozenset(pair) for pair in lab.fabric.peers.items()}


def seen(look: Look, *, counters: bool = False, around: tuple[tuple[int, ...], ...] = ()) -> Evidence:
    return evidence(look().collect(Want(counters=counters, around=around)))


def kinds(found: Evidence) -> set[ProblemKind]:
    return {problem.kind for problem in found.topology.problems}


def test_it_sees_every_node_and_cable_and_where_it_looks_from(lab: FabricLab, look: Look) -> None:
    found = seen(look)
    assert links(found.topology) == cabled(lab)
    assert {guid: node.description for guid, node in found.topology.nodes.items()} == {
        guid: node.description for guid, node in lab.fabric.nodes.items()
    }
    assert found.topology.origin == lab.guids[MONITOR, "mlx5_0"]
    assert {(facts.width, facts.speed) for facts in found.topology.ports.values() if facts.peer} == {(4, "HDR")}
    assert found.topology.problems == [] and found.extra == ()


def test_the_subnet_managers_list_is_a_second_view(lab: FabricLab, look: Look) -> None:
    [(who, view)] = seen(look).others
    assert who == "sm" and links(view) == cabled(lab) and view.taken_at is not None


def test_a_cable_taken_out_is_gone_from_both(lab: FabricLab, look: Look) -> None:
    lab.unlink(Port("gpu-0003", "mlx5_1"))
    lab.settle()
    found = seen(look)
    assert links(found.topology) == cabled(lab)
    assert links(found.others[0][1]) == cabled(lab)
    # An HCA that nothing leads to is not there.
    assert lab.guids["gpu-0003", "mlx5_1"] not in found.topology.nodes


def test_counters_are_read_and_not_reset(lab: FabricLab, look: Look) -> None:
    port = Port("leaf-r2-01", "3")
    lab.counters(port, SymbolErrorCounter=120, LinkDownedCounter=7)
    for _ in range(2):
        [counters] = seen(look, counters=True).extra
        read = counters.counters[End(*lab.end(port))]
        assert (read["symbol_error"], read["link_downed"]) == (120, 7)


def test_a_node_that_does_not_answer_is_named_by_its_cable(lab: FabricLab, look: Look) -> None:
    lab.lose("gpu-0003", 100, 17, device="mlx5_0")
    found = seen(look)
    [problem] = found.topology.problems
    assert problem.kind is ProblemKind.TIMEOUT and problem.hides
    assert "behind port 3 of MF0;leaf-r0-01:MQM8700/U1" in problem.message
    assert lab.guids["gpu-0003", "mlx5_0"] not in found.topology.nodes


def test_a_monitor_without_a_link_says_so(lab: FabricLab, look: Look) -> None:
    lab.unlink(Port(MONITOR, "mlx5_0"))
    found = seen(look)
    assert ProblemKind.MONITOR_DOWN in kinds(found)
    assert any(problem.hides for problem in found.topology.problems)
    assert set(found.topology.nodes) == {lab.guids[MONITOR, "mlx5_0"]}


def test_a_neighbourhood_is_a_leaf_with_its_hosts(lab: FabricLab, look: Look) -> None:
    whole = seen(look).topology
    leaves = [lab.guids["leaf-r1-01", ""], lab.guids["leaf-r3-01", ""]]
    ways = routes(whole, leaves)
    near = seen(look, around=(*ways.values(), (0,))).topology
    own = lab.guids[MONITOR, "mlx5_0"]
    wanted = {pair for pair in cabled(lab) if any(end[0] in (*leaves, own) for end in pair)}
    # iblinkinfo knows HCAs by their port's GUID.
    by_node = {
        frozenset((guid - port if guid - port in lab.fabric.nodes else guid, port) for guid, port in pair)
        for pair in links(near)
    }
    assert by_node == wanted and near.problems == []


def test_what_does_not_answer_in_time_is_no_topology(lab: FabricLab, look: Look) -> None:
    collector = look()
    if hasattr(collector, "hangs"):
        collector.hangs = True
    else:
        lost = {**lab.environment(MONITOR), "IBSIM_SOCKNAME": "ostler-nobody-listens"}
        collector = lab.hanging(MONITOR, lost)
    found = evidence(collector.collect(Want(counters=True)))
    assert not found.topology.nodes and not found.others
    assert any(p.kind is ProblemKind.FAILED and "deadline" in p.message and p.hides for p in found.topology.problems)


def test_a_closed_collector_is_unavailable(look: Look) -> None:
    collector = look()
    collector.close()
    with pytest.raises(Unavailable, match="stopped"):
        collector.collect(Want())
