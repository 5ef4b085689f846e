"""Every doubt, made in a good fat tree, is said once and nothing else is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from ostler.fabric import designs
from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.designs.lint import lint
from ostler.fabric.designs.lint_book import KEPT
from ostler.fabric.model import Blueprint, ChassisKind, DesignedCable, DesignedChassis, Place, Port

TREE = fat_tree(64)
CABLES = tuple(cable._replace(line=index) for index, cable in enumerate(TREE.cables, 2))
GOOD = replace(TREE, cables=CABLES)


def changed(
    change: Callable[[DesignedCable], DesignedCable | None], blueprint: Blueprint = GOOD
) -> list[tuple[str, str]]:
    cables = tuple(made for cable in blueprint.cables if (made := change(cable)) is not None)
    return [(item.kind, item.message) for item in lint(replace(blueprint, cables=cables))]


def trunk_of(cable: DesignedCable) -> tuple[str, str]:
    return cable.a.chassis, cable.b.chassis


def of(host: str, *hcas: str) -> list[DesignedCable]:
    return [cable for cable in CABLES if cable.a.chassis == host and (not hcas or cable.a.name in hcas)]


def swapped(one: DesignedCable, two: DesignedCable) -> Callable[[DesignedCable], DesignedCable]:
    def change(cable: DesignedCable) -> DesignedCable:
        if cable is one:
            return cable._replace(b=two.b)
        return cable._replace(b=one.b) if cable is two else cable

    return change


@pytest.mark.parametrize("hosts", [1, 3, 40, 64, 300])
@pytest.mark.parametrize("rails", [1, 2, 8])
def test_a_good_tree_has_nothing_doubtful(hosts: int, rails: int) -> None:
    assert lint(fat_tree(hosts, rails, speed="NDR")) == []


def test_rails_exchanged_on_one_host() -> None:
    one, two = of("gpu-0007", "mlx5_2", "mlx5_5")
    found = changed(swapped(one, two))
    assert [kind for kind, _ in found] == ["rail-crossing"]
    message = found[0][1]
    assert message.startswith(
        "gpu-0007: mlx5_2 goes to leaf-r5-01, where 31 hosts have mlx5_5; mlx5_5 goes to leaf-r2-01"
    )
    assert f"(rows {one.line}, {two.line})" in message


def test_a_plug_in_another_unit() -> None:
    one, two = of("gpu-0007", "mlx5_2")[0], of("gpu-0040", "mlx5_2")[0]
    found = changed(swapped(one, two))
    assert [kind for kind, _ in found] == ["rail-crossing", "rail-crossing"]
    assert "gpu-0007: mlx5_2 goes to leaf-r2-02, a leaf of another unit" in found[0][1]


def test_leaves_that_take_all_rails_of_a_host_are_no_crossing() -> None:
    """A classic fat tree: eight hosts with all their HCAs on one leaf."""
    cables = [
        DesignedCable(Port(f"gpu-{host}", f"mlx5_{hca}"), Port(f"leaf-{host // 4}", f"{host % 4 * 8 + hca + 1}"))
        for host in range(8)
        for hca in range(8)
    ]
    chassis = {
        name: DesignedChassis(name, kind, "", Place(rack="A"))
        for kind, names in ((ChassisKind.HOST, range(8)), (ChassisKind.SWITCH, range(2)))
        for name in (f"{'gpu' if kind is ChassisKind.HOST else 'leaf'}-{n}" for n in names)
    }
    assert lint(Blueprint("x", "ostler-csv", chassis, tuple(cables))) == []


def test_two_planes_on_one_leaf_are_no_crossing() -> None:
    """mlx5_0 and mlx5_4 of every host on leaf 0, and so on: four leaves for eight HCAs."""
    cables = [
        DesignedCable(Port(f"gpu-{host}", f"mlx5_{hca}"), Port(f"leaf-{hca % 4}", f"{host * 2 + hca // 4 + 1}"))
        for host in range(8)
        for hca in range(8)
    ]
    chassis = {f"gpu-{n}": DesignedChassis(f"gpu-{n}", ChassisKind.HOST, "", Place(rack="A")) for n in range(8)}
    chassis |= {f"leaf-{n}": DesignedChassis(f"leaf-{n}", ChassisKind.SWITCH, "", Place(rack="A")) for n in range(4)}
    assert lint(Blueprint("x", "ostler-csv", chassis, tuple(cables))) == []


def test_storage_hosts_with_two_hcas_are_a_kind_of_their_own() -> None:
    def change(cable: DesignedCable) -> DesignedCable | None:
        storage = cable.a.chassis in {"gpu-0030", "gpu-0031", "gpu-0032"}
        return None if storage and cable.a.name not in {"mlx5_0", "mlx5_1"} else cable

    assert changed(change) == []


def test_a_missing_rail() -> None:
    gone = of("gpu-0009", "mlx5_3")[0]
    assert changed(lambda cable: None if cable is gone else cable) == [
        ("missing-rail", "gpu-0009 has 7 of 8 rails: no cable for mlx5_3")
    ]


def test_trunks_that_are_fewer_than_their_peers() -> None:
    trunk = next(cable for cable in CABLES if cable.a.chassis == "leaf-r3-01" and cable.b.chassis == "spine-05")
    found = changed(lambda cable: None if cable is trunk else cable)
    assert found == [("uneven-trunk", "leaf-r3-01 and spine-05 have 3 cables between them, 127 like pairs 4")]
    found = changed(lambda cable: None if (cable.a.chassis, cable.b.chassis) == ("leaf-r3-01", "spine-05") else cable)
    assert found == [("uneven-trunk", "leaf-r3-01 has no cable to spine-05; its peers have")]


def test_the_upper_trunks_of_three_tiers() -> None:
    tree = fat_tree(512)
    trunk = next(cable for cable in tree.cables if cable.a.chassis.startswith("core"))
    found = changed(lambda cable: None if cable is trunk else cable, tree)
    assert [kind for kind, _ in found] == ["uneven-trunk"]
    assert "have 15 cables between them" in found[0][1] and "core-01" in found[0][1]
    found = changed(lambda cable: None if (cable.a.chassis, cable.b.chassis) == trunk_of(trunk) else cable, tree)
    assert found == [("uneven-trunk", f"{trunk.b.chassis} has no cable to {trunk.a.chassis}; its peers have")]


def test_ports_beyond_the_model() -> None:
    def to(port: str) -> Callable[[DesignedCable], DesignedCable]:
        first = CABLES[0]
        return lambda cable: cable._replace(b=Port(cable.b.chassis, port)) if cable is first else cable

    def errors(port: str) -> list[tuple[str, bool]]:
        cables = tuple(to(port)(cable) for cable in CABLES)
        return [(item.kind, item.error) for item in lint(replace(GOOD, cables=cables))]

    assert errors("200") == [("port-beyond-model", True)]
    assert errors("100") == [("port-beyond-model", False)]


def test_port_twice_and_self_cable_in_a_blueprint_made_by_hand() -> None:
    first, second = CABLES[0], CABLES[1]
    found = changed(lambda cable: cable._replace(b=first.b) if cable is second else cable)
    assert ("port-twice", f"{first.b} is in two cables: lines 2 and 3") in found
    found = changed(lambda cable: cable._replace(b=cable.a) if cable is first else cable)
    assert found[0] == ("self-cable", "gpu-0001 mlx5_0 is cabled to itself")


def test_chassis_unknown_lonely_and_without_place() -> None:
    chassis = dict(GOOD.chassis)
    del chassis["gpu-0001"]
    chassis["gpu-0099"] = DesignedChassis("gpu-0099", ChassisKind.HOST)
    found = {item.kind: item.message for item in lint(replace(GOOD, chassis=chassis))}
    assert found == {
        "unknown-chassis": "gpu-0001 is in a cable and not among the chassis",
        "lonely-chassis": "gpu-0099 has no cable",
        "no-place": "1 of 88 chassis have no rack: tickets cannot say where they stand (gpu-0099)",
    }


def test_mixed_speeds() -> None:
    tree = fat_tree(32, speed="NDR", width=4)
    odd = next(cable for cable in tree.cables if cable.role == "trunk")
    found = changed(lambda cable: cable._replace(speed="HDR", line=77) if cable is odd else cable, tree)
    assert found == [("mixed-speed", "1 trunk cables are to run at 4x HDR, 255 at 4x NDR")]


def read_errors(rows: Sequence[str]) -> list[str]:
    text = "a,a_port,b,b_port\n" + "\n".join(rows)
    _, lints = designs.read(text.encode(), "x.csv")
    return [f"{item.kind} {item.line}: {item.message}" for item in lints if item.error]


def test_port_twice_of_a_file_names_both_lines_and_keeps_the_first() -> None:
    rows = ["gpu-1,mlx5_0,leaf-1,17", "gpu-2,mlx5_0,leaf-1,17", "gpu-1,mlx5_0/1,leaf-1,18"]
    assert read_errors(rows) == [
        "port-twice 3: leaf-1 17 is cabled to gpu-1 mlx5_0 by line 2 and to gpu-2 mlx5_0 by line 3; the first stays",
        "port-twice 4: gpu-1 mlx5_0 is cabled to leaf-1 17 by line 2 and to leaf-1 18 by line 4; the first stays",
    ]
    text = "a,a_port,b,b_port\n" + "\n".join(rows)
    blueprint, lints = designs.read(text.encode(), "x.csv")
    assert [cable.line for cable in blueprint.cables] == [2]
    assert len(blueprint.by_port) == 2
    assert [item.error for item in lints] == sorted((item.error for item in lints), reverse=True)


def test_self_cable_and_the_same_cable_again() -> None:
    assert read_errors(["leaf-1,17,leaf-1,P17", "gpu-1,mlx5_0,leaf-1,1"]) == [
        "self-cable 2: leaf-1 17 is cabled to itself; left out"
    ]
    text = b"a,a_port,b,b_port\ngpu-1,mlx5_0,leaf-1,1\nleaf-1,1,gpu-1,mlx5_0\n"
    _, lints = designs.read(text, "x.csv")
    assert [(item.kind, item.line, item.error) for item in lints if item.kind == "cable-twice"] == [
        ("cable-twice", 3, False)
    ]


def test_a_chassis_that_the_table_does_not_list() -> None:
    text = b"chassis,kind,rack\ngpu-1,host,A\nleaf-1,switch,A\n\na,a_port,b,b_port\ngpu-1,mlx5_0,leaf-1,1\ngpu-l,mlx5_0,leaf-1,2\n"
    _, lints = designs.read(text, "x.csv")
    assert ("unknown-chassis", 7) in [(item.kind, item.line) for item in lints]


def test_many_of_a_kind_are_counted() -> None:
    rows = [f"gpu-{n},mlx5_0,leaf-1,17" for n in range(500)]
    text = "a,a_port,b,b_port\n" + "\n".join(rows)
    _, lints = designs.read(text.encode(), "x.csv")
    twice = [item for item in lints if item.kind == "port-twice"]
    assert len(twice) == KEPT + 1
    assert twice[-1].message == f"and {499 - KEPT} more of this kind"
    assert twice[-1].error
