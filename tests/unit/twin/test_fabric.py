"""The twin's cabling: what hands do to it is what its tools say, and its own design reads back as it was cabled."""

from __future__ import annotations

import json

import pytest

from ostler.core.errors import BadInput
from ostler.fabric.designs import own_csv
from ostler.fabric.formats import ibnetdiscover
from ostler.fabric.model import ChassisKind, Port, Role
from ostler.fabric.sweep import End, NodeKind, PortState, Sweep
from ostler.twin.fabric import Plug, TwinFabric, fabric_of
from ostler.twin.spec import fleet
from ostler.wire.agent import OrderResult, Verdict
from ostler.wire.decode import decode, encode


def made(count: int = 10, seed: int = 3) -> TwinFabric:
    return fabric_of(fleet(count, seed), seed)


def swept(fabric: TwinFabric, host: str = "gpu-0001") -> Sweep:
    return ibnetdiscover.read(fabric.dump(host).encode(), "twin")


def cables(sweep: Sweep) -> set[frozenset[tuple[str, int]]]:
    """Every link by the descriptions of its ends."""
    return {
        frozenset(((sweep.nodes[end.guid].description, end.port), (sweep.nodes[peer.guid].description, peer.port)))
        for end, facts in sweep.ports.items()
        if (peer := facts.peer) is not None
    }


def leaves(fabric: TwinFabric, host: str) -> list[str | None]:
    rows = fabric.neighbours(host)["ports"]
    return [row["neighbour"] and f"{row['neighbour']['description'][4:]} {row['neighbour']['port']}" for row in rows]


def test_a_node_sees_its_rails(made_one: TwinFabric) -> None:
    assert leaves(made_one, "gpu-0003") == [f"leaf01-r{rail}:MQM9700/U1 3" for rail in range(8)]
    assert leaves(made_one, "gpu-0009") == [f"leaf02-r{rail}:MQM9700/U1 1" for rail in range(8)]
    result = OrderResult("o", Verdict.PASSED, "", json.loads(json.dumps(made_one.neighbours("gpu-0001"))))
    assert decode(OrderResult, encode(result)) == result


@pytest.fixture
def made_one() -> TwinFabric:
    return made()


def test_the_same_seed_gives_the_same_guids_and_another_others() -> None:
    assert made(seed=3).dump("gpu-0001") == made(seed=3).dump("gpu-0001")
    one, other = swept(made(seed=3)), swept(made(seed=4))
    assert not set(one.nodes) & set(other.nodes)


def test_its_dump_is_read_as_it_is_cabled(made_one: TwinFabric) -> None:
    sweep = swept(made_one)
    kinds = [node.kind for node in sweep.nodes.values()]
    assert (kinds.count(NodeKind.HCA), kinds.count(NodeKind.SWITCH)) == (80, 16 + 8)
    assert not sweep.problems
    assert len(cables(sweep)) == 80 + 16 * 8
    assert frozenset({("gpu-0002 mlx5_5", 1), ("MF0;leaf01-r5:MQM9700/U1", 2)}) in cables(sweep)
    assert {(facts.width, facts.speed) for facts in sweep.ports.values()} == {(4, "NDR")}
    assert {swept(made_one, host).ports == sweep.ports for host in made_one.hosts} == {True}


def test_its_design_is_read_as_it_is_cabled(made_one: TwinFabric) -> None:
    made_one.swap(Plug("gpu-0001", "mlx5_0"), Plug("gpu-0001", "mlx5_1"))
    blueprint, lints = own_csv.read(made_one.blueprint_csv().encode(), "twin.csv")
    assert not [lint for lint in lints if lint.error]
    assert len(blueprint.cables) == 80 + 16 * 8, "and no hand has changed the design"
    cable = blueprint.by_port[Port("gpu-0001", "mlx5_0")]
    assert (cable.b, cable.role, cable.rail) == (Port("leaf01-r0", "1"), Role.HOST, "0")
    assert blueprint.chassis["leaf01-r0"].kind is ChassisKind.SWITCH
    assert str(blueprint.chassis["gpu-0001"].place) == "twin/a/r01/u01"


def test_exchanged_plugs_are_exchanged_for_every_tool_and_can_be_put_back(made_one: TwinFabric) -> None:
    before = cables(swept(made_one))
    one, other = Plug("gpu-0002", "mlx5_2"), Plug("gpu-0002", "mlx5_3")
    made_one.swap(one, other)
    assert leaves(made_one, "gpu-0002")[2:4] == ["leaf01-r3:MQM9700/U1 2", "leaf01-r2:MQM9700/U1 2"]
    after = cables(swept(made_one))
    assert len(before - after) == len(after - before) == 2
    assert not made_one.as_designed()
    assert made_one.link_downed(one) == made_one.link_downed(Plug("leaf01-r2", "2")) == 1
    made_one.swap(one, other)
    assert cables(swept(made_one)) == before
    assert made_one.as_designed()


def test_a_plug_moves_to_a_free_port_only(made_one: TwinFabric) -> None:
    now, then = Plug("leaf01-r0", "1"), Plug("leaf01-r0", "20")
    with pytest.raises(BadInput, match="leaf01-r0 2 is taken by the cable to gpu-0002 mlx5_0"):
        made_one.move(now, Plug("leaf01-r0", "2"))
    with pytest.raises(BadInput, match="has no port '65'; it has 1 to 64"):
        made_one.move(now, Plug("leaf01-r0", "65"))
    made_one.move(now, then)
    assert made_one.peer(then) == Plug("gpu-0001", "mlx5_0")
    assert made_one.peer(now) is None
    with pytest.raises(BadInput, match="no cable is plugged into leaf01-r0 1"):
        made_one.cut(now)
    made_one.move(then, now)
    assert made_one.as_designed()


def test_what_is_cut_off_or_without_power_has_no_link(made_one: TwinFabric) -> None:
    made_one.cut(Plug("gpu-0001", "mlx5_0"))
    made_one.switch_off("leaf01-r7")
    made_one.node_off("gpu-0002")
    rows = made_one.neighbours("gpu-0001")["ports"]
    assert [row["state"] for row in rows] == ["down", *["active"] * 6, "down"]
    assert rows[0]["why"] == "no link (Polling)"
    sweep = swept(made_one)
    said = {node.description for node in sweep.nodes.values()}
    assert "MF0;leaf01-r7:MQM9700/U1" not in said
    assert not any(one.startswith("gpu-0002 ") for one in said)
    assert "gpu-0001 mlx5_0" not in said, "nobody can reach it"
    assert sweep.nodes[sweep.origin or 0].description == "gpu-0001 mlx5_1"
    made_one.node_on("gpu-0002")
    made_one.switch_on("leaf01-r7")
    made_one.connect(Plug("gpu-0001", "mlx5_0"), Plug("leaf01-r0", "1"))
    assert made_one.as_designed()
    assert made_one.link_downed(Plug("leaf01-r0", "2")) == 1, "the neighbour has counted the outage"


def test_a_node_that_sees_nothing_dumps_itself(made_one: TwinFabric) -> None:
    for rail in range(8):
        made_one.cut(Plug("gpu-0001", f"mlx5_{rail}"))
    sweep = swept(made_one)
    assert [node.description for node in sweep.nodes.values()] == ["gpu-0001 mlx5_0"]


def test_flaps_are_counted_at_both_ends_to_the_counters_limit(made_one: TwinFabric) -> None:
    port = Plug("gpu-0001", "mlx5_0")
    made_one.flap(port)
    assert (made_one.link_downed(port), made_one.link_downed(Plug("leaf01-r0", "1"))) == (1, 1)
    made_one.flap(port, 999)
    assert made_one.link_downed(port) == 255


def test_lost_lanes_are_told_by_both_ends(made_one: TwinFabric) -> None:
    made_one.narrow(Plug("gpu-0001", "mlx5_0"), 1)
    assert made_one.neighbours("gpu-0001")["ports"][0]["width"] == 1
    narrow = [end for end, facts in swept(made_one).ports.items() if facts.width == 1]
    assert len(narrow) == 2
    assert all(isinstance(end, End) for end in narrow)
    assert swept(made_one).ports[narrow[0]].state in (PortState.UNKNOWN, PortState.ACTIVE)


def test_sixty_five_nodes_are_two_fabrics() -> None:
    fabric = made(65)
    assert len(fabric.hosts) == 65
    far = {node.description for node in swept(fabric, "gpu-0065").nodes.values()}
    assert not any("gpu-0001 " in one for one in far)
    assert len(swept(fabric).nodes) == 64 * 8 + 64 + 8
