"""A blueprint out of a snapshot says what was there and that nobody has proved it."""

from __future__ import annotations

from ostler.fabric import designs
from ostler.fabric.designs import own_csv
from ostler.fabric.designs.bootstrap import bootstrap
from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.model import Blueprint, Chassis, ChassisKind, Port, Role, Snapshot
from ostler.fabric.sweep import End, Module, PortFacts, PortState
from tests.unit.fabric.designs.test_own import same


def seen(blueprint: Blueprint) -> Snapshot:
    """What a perfect look at this fabric would bring."""
    snapshot = Snapshot("ibnetdiscover", states=True)
    guids: dict[str, int] = {}
    for designed in blueprint.chassis.values():
        snapshot.chassis[designed.name] = Chassis(designed.name, designed.kind, designed.model)
    for cable in blueprint.cables:
        snapshot.links[cable.a], snapshot.links[cable.b] = cable.b, cable.a
        for port in cable.ends:
            box = snapshot.chassis[port.chassis]
            node = f"{port}" if box.kind is ChassisKind.HOST else port.chassis
            guid = guids.setdefault(node, 0x1000 + len(guids))
            if guid not in box.guids:
                box.guids.append(guid)
            snapshot.ends[port] = End(guid, 1 if box.kind is ChassisKind.HOST else int(port.name))
            snapshot.facts[port] = PortFacts(state=PortState.ACTIVE, width=4, speed="NDR")
    return snapshot


def test_everything_that_was_seen_and_nothing_proven() -> None:
    tree = fat_tree(8)
    taken = bootstrap(seen(tree), "found")
    assert (taken.name, taken.source, taken.proven) == ("found", "snapshot", False)
    assert {cable[:2] for cable in taken.cables} == {cable[:2] for cable in tree.cables}
    assert all((cable.width, cable.speed) == (4, "NDR") for cable in taken.cables)
    assert {cable.role for cable in taken.cables} == {Role.HOST, Role.TRUNK}
    assert len(taken.guids) == 8 * 8 + 12
    assert Port("gpu-0001", "mlx5_3") in taken.guids.values()
    assert Port("spine-01", "") in taken.guids.values()
    back, _ = designs.read(own_csv.write(taken).encode(), "x.csv")
    same(taken, back)


def test_what_is_doubtful_is_left_out() -> None:
    snapshot = seen(fat_tree(2, 2))
    one, two = Port("gpu-0001", "mlx5_0"), Port("gpu-0001", "mlx5_1")
    leaf_one, leaf_two = snapshot.links[one], snapshot.links[two]
    snapshot.links[Port("nobody", "1")] = Port("gpu-0001", "mlx5_7")
    snapshot.links[Port("gpu-0001", "mlx5_7")] = Port("nobody", "1")
    snapshot.facts[one] = PortFacts(state=PortState.ACTIVE, width=1, speed="NDR")
    snapshot.facts[two] = snapshot.facts[leaf_two] = PortFacts(state=PortState.INIT, width=4, speed="SDR")
    duplicate = snapshot.ends[two].guid
    snapshot.ends[Port("gpu-0002", "mlx5_0")] = End(duplicate, 1)
    snapshot.modules[leaf_one] = Module(serial="MT7", length_m=3.0)
    taken = bootstrap(snapshot, "found")
    by_port = taken.by_port
    assert "nobody" not in {port.chassis for port in by_port}
    assert (by_port[one].width, by_port[one].speed) == (0, "")
    assert (by_port[one].serial, by_port[one].length_m) == ("MT7", 3.0)
    assert (by_port[two].width, by_port[two].speed) == (0, "")
    assert duplicate not in taken.guids


def test_second_ports_of_a_device_share_its_guid() -> None:
    snapshot = Snapshot("x")
    snapshot.chassis = {"gpu-1": Chassis("gpu-1", ChassisKind.HOST), "leaf-1": Chassis("leaf-1", ChassisKind.SWITCH)}
    for name, number in (("mlx5_0", 1), ("mlx5_0/2", 2)):
        snapshot.links[Port("gpu-1", name)] = Port("leaf-1", str(number))
        snapshot.links[Port("leaf-1", str(number))] = Port("gpu-1", name)
        snapshot.ends[Port("gpu-1", name)] = End(7, number)
    taken = bootstrap(snapshot, "x")
    assert taken.guids == {7: Port("gpu-1", "mlx5_0")}
    assert len(taken.cables) == 2
