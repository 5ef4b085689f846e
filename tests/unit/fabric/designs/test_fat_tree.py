"""The generator: sizes known from real fabrics, every port once, trunks even, everything connected."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.core.errors import BadInput
from ostler.fabric.designs.fat_tree import fat_tree, shape_of
from ostler.fabric.designs.lint import lint
from ostler.fabric.model import Blueprint, ChassisKind, Role


def degrees(blueprint: Blueprint) -> Counter[str]:
    return Counter(port.chassis for cable in blueprint.cables for port in cable.ends)


def check_whole(blueprint: Blueprint) -> None:
    """Every port once, a < b, ports within the switch, in one piece."""
    ports = [port for cable in blueprint.cables for port in cable.ends]
    assert len(ports) == len(set(ports))
    assert all(cable.a < cable.b for cable in blueprint.cables)
    near: dict[str, set[str]] = {}
    for cable in blueprint.cables:
        near.setdefault(cable.a.chassis, set()).add(cable.b.chassis)
        near.setdefault(cable.b.chassis, set()).add(cable.a.chassis)
    assert set(near) == set(blueprint.chassis)
    reached = {cable.a.chassis for cable in blueprint.cables[:1]}
    edge = list(reached)
    while edge:
        edge = list({other for name in edge for other in near[name]} - reached)
        reached.update(edge)
    assert reached == set(blueprint.chassis)


@pytest.mark.parametrize(
    ("hosts", "switches", "ports"),
    [(32, 12, 1_024), (128, 48, 4_096), (256, 96, 8_192), (512, 320, 24_576), (2048, 1_280, 98_304)],
)
def test_known_sizes_use_every_port_exactly_once(hosts: int, switches: int, ports: int) -> None:
    blueprint = fat_tree(hosts)
    count = Counter(box.kind for box in blueprint.chassis.values())
    assert count[ChassisKind.SWITCH] == switches
    assert count[ChassisKind.HOST] == hosts
    assert 2 * len(blueprint.cables) == ports == switches * 64 + hosts * 8
    found = degrees(blueprint)
    for name, box in blueprint.chassis.items():
        assert found[name] == (64 if box.kind is ChassisKind.SWITCH else 8)
    numbers = {int(p.name) for c in blueprint.cables for p in c.ends if p.name.isdigit()}
    assert numbers == set(range(1, 65))
    check_whole(blueprint)
    assert lint(blueprint) == []


def test_hca_n_of_every_host_is_on_rail_n_with_the_same_port_number() -> None:
    blueprint = fat_tree(64)
    for host in ("gpu-0001", "gpu-0032", "gpu-0033", "gpu-0064"):
        cables = blueprint.by_chassis[host]
        assert [cable.a.name for cable in cables] == [f"mlx5_{rail}" for rail in range(8)]
        assert [cable.rail for cable in cables] == [str(rail) for rail in range(8)]
        assert len({cable.b.name for cable in cables}) == 1
        unit = "01" if host < "gpu-0033" else "02"
        assert [cable.b.chassis for cable in cables] == [f"leaf-r{rail}-{unit}" for rail in range(8)]


def test_names_places_and_options() -> None:
    blueprint = fat_tree(
        4, 2, name="lab", host_name="n##x", hcas=("mlx5_0", "mlx5_3"), site="ams1", switch_model="MQM8700",
        leaf_ports=40, width=4, speed="HDR",
    )  # fmt: skip
    assert blueprint.name == "lab"
    assert blueprint.source == "fat-tree"
    assert {"n01x", "n04x", "leaf-r1-01", "spine-01"} <= set(blueprint.chassis)
    assert blueprint.chassis["n01x"].place.site == "ams1"
    assert blueprint.chassis["leaf-r0-01"].model == "MQM8700"
    assert {cable.a.name for cable in blueprint.by_chassis["n02x"] + ()} | {
        cable.b.name for cable in blueprint.by_chassis["n02x"]
    } >= {"mlx5_0", "mlx5_3"}
    assert all((cable.speed, cable.width) == ("HDR", 4) for cable in blueprint.cables)
    places = [str(box.place) for box in blueprint.chassis.values()]
    assert len(places) == len(set(places))


@settings(max_examples=40, deadline=None)
@given(hosts=st.integers(1, 700), rails=st.sampled_from([1, 2, 4, 8]), ports=st.sampled_from([8, 16, 40, 64]))
def test_any_size_that_fits_is_whole_and_even(hosts: int, rails: int, ports: int) -> None:
    try:
        shape = shape_of(hosts, rails, ports)
    except BadInput:
        return
    blueprint = fat_tree(hosts, rails, leaf_ports=ports)
    check_whole(blueprint)
    assert sum(box.kind is ChassisKind.SWITCH for box in blueprint.chassis.values()) == shape.switches
    assert all(int(p.name) <= ports for c in blueprint.cables for p in c.ends if p.name.isdigit())
    pairs = Counter(
        (c.a.chassis, c.b.chassis) for c in blueprint.cables if c.role is Role.TRUNK and "core" not in c.a.chassis
    )
    assert set(pairs.values()) == {shape.trunks}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hosts": 0}, "hosts is 1 to"),
        ({"hosts": 10**9}, "hosts is 1 to"),
        ({"hosts": 8, "rails": 0}, "rails 1 to 64"),
        ({"hosts": 8, "tiers": 4}, "tiers is 2 or 3"),
        ({"hosts": 8, "hosts_per_unit": 64}, "leave no port for a spine"),
        ({"hosts": 2048, "tiers": 2}, "do not fit under spines"),
        ({"hosts": 256, "spines": 7, "trunks": 5}, "do not fit under spines"),
        ({"hosts": 60_000}, "do not fit under cores"),
        ({"hosts": 8, "host_name": "gpu"}, "needs a #"),
        ({"hosts": 8, "hcas": ["mlx5_0"]}, "must name 8 different devices"),
        ({"hosts": 8, "speed": "fast"}, "'fast' is not known"),
    ],
)
def test_what_makes_no_tree_is_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        fat_tree(**options)
