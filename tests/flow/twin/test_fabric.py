"""A simulated node's cabling over the real wire: the check's answer arrives whole, and a struck plug shows in it."""

from __future__ import annotations

import json

import pytest

from ostler.health import orders
from ostler.health.orders import OrderOutcome
from ostler.twin.fabric import Plug
from ostler.twin.script import parse
from ostler.twin.strikes import Strikes
from ostler.wire.agent import Verdict
from tests.flow.twin.world import World, until

pytestmark = pytest.mark.xdist_group("twin-fabric")


def look(world: World, name: str) -> OrderOutcome:
    """What the node's agent answers when it is asked for its neighbours."""
    db = world.server.db
    node = world.node(name)
    deadline = db.clock.now() + 36_000.0
    order = db.write(lambda tx: orders.give(tx, node.id, "run-check", {"check": "ib-neighbours"}, deadline=deadline))
    until(lambda: db.read(lambda tx: orders.result(tx, order)) is not None)
    outcome = db.read(lambda tx: orders.result(tx, order))
    assert outcome is not None
    return outcome


def test_a_struck_plug_shows_in_the_next_answer(world: World) -> None:
    name = world.specs[0].name
    before = look(world, name)
    assert before.verdict is Verdict.PASSED
    assert {key: before.measured[key] for key in ("hcas", "ports")} == dict(world.fleet.fabric.neighbours(name))
    assert [port["state"] for port in before.measured["ports"]] == ["active"] * 8
    script = json.dumps({"at": 0, "node": name, "swap_plugs": ["mlx5_3", "mlx5_4"]})
    strikes = Strikes(world.fleet, parse(script, "test", json_lines=True))
    strikes.start()
    until(strikes.done.is_set)
    strikes.stop()
    after = look(world, name)
    leaves = [port["neighbour"]["guid"] for port in before.measured["ports"]]
    struck = [port["neighbour"]["guid"] for port in after.measured["ports"]]
    assert (struck[3], struck[4]) == (leaves[4], leaves[3])
    assert struck[:3] + struck[5:] == leaves[:3] + leaves[5:]
    world.fleet.fabric.swap(Plug(name, "mlx5_3"), Plug(name, "mlx5_4"))
    assert world.fleet.fabric.as_designed()


def test_a_machine_that_is_switched_off_has_no_link_and_a_reset_is_counted(world: World) -> None:
    name = world.specs[1].name
    leaf = world.fleet.fabric.peer(Plug(name, "mlx5_0"))
    assert leaf is not None
    counted = world.fleet.fabric.link_downed(leaf)
    boots = world.fleet.nodes[name].boots
    world.fleet.nodes[name].bmc.set_power("ForceRestart")
    until(lambda: world.fleet.nodes[name].boots == boots + 1)
    assert world.fleet.fabric.link_downed(leaf) == counted + 1
    assert [row["state"] for row in world.fleet.fabric.neighbours(name)["ports"]] == ["active"] * 8
