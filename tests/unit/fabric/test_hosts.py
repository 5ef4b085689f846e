"""Which node is which host of a design: the slot decides, the name where no slot does."""

from __future__ import annotations

from ostler.fabric.hosts import Host, match
from ostler.fabric.model import Blueprint, ChassisKind, DesignedChassis, Place
from ostler.nodes.model import Service, State


def host(name: str, slot: str = "") -> Host:
    return Host(f"node_{name}", name, slot, State.PRODUCTION, Service.MANAGED, busy=False, cordoned=False)


def design(**places: Place) -> Blueprint:
    chassis = {name: DesignedChassis(name, ChassisKind.HOST, place=place) for name, place in places.items()}
    return Blueprint("f", "test", {**chassis, "leaf": DesignedChassis("leaf", ChassisKind.SWITCH)}, ())


def test_the_slot_wins_over_the_name() -> None:
    blueprint = design(a=Place("h", "1", "r1", "U01"), b=Place("h", "1", "r1", "U05"))
    found = match(blueprint, [host("a", "h/1/r1/5"), host("b", "H/1/R1/u1")])
    assert {chassis: one.name for chassis, one in found.by_chassis.items()} == {"a": "b", "b": "a"}
    assert found.names == {"a": "b", "b": "a"}


def test_without_a_slot_the_name_decides_whatever_its_case() -> None:
    found = match(design(**{"GPU-1": Place()}), [host("gpu-1"), host("gpu-2"), host("leaf")])
    assert {chassis: one.name for chassis, one in found.by_chassis.items()} == {"GPU-1": "gpu-1"}
    assert found.names == {"gpu-1": "GPU-1"}


def test_a_node_of_another_slot_does_not_take_a_name() -> None:
    blueprint = design(a=Place("h", "1", "r1", "1"), b=Place())
    found = match(blueprint, [host("b", "h/1/r1/1"), host("a", "h/1/r9/1")])
    assert {chassis: one.name for chassis, one in found.by_chassis.items()} == {"a": "b"}


def test_a_node_that_was_moved_leaves_its_name_behind() -> None:
    blueprint = design(a=Place("h", "1", "r1", "1"), b=Place("h", "1", "r1", "5"))
    found = match(blueprint, [host("a", "h/1/r9/1"), host("b", "h/1/r1/5")])
    assert {chassis: one.name for chassis, one in found.by_chassis.items()} == {"b": "b"}


def test_where_places_are_called_otherwise_the_names_decide() -> None:
    found = match(design(a=Place("Hall 1", "1", "r1", "1")), [host("a", "fra1/x/17/1")])
    assert {chassis: one.name for chassis, one in found.by_chassis.items()} == {"a": "a"}
