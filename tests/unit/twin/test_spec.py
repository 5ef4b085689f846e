"""The same seed makes the same machines, each unlike every other, and they fit the SKU that the twin declares."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from ostler.acceptance import sku
from ostler.acceptance.policy import compare_inventory, firmware_plan
from ostler.core.errors import BadInput
from ostler.nodes.adopt import parse_slot
from ostler.twin.spec import MOST, OUTDATED, SKU, fleet, running, sku_document
from ostler.wire.agent import Inventory
from ostler.wire.decode import decode, encode


def test_same_seed_same_fleet_other_seed_another() -> None:
    assert fleet(40, 7) == fleet(40, 7)
    assert fleet(40, 7)[:16] == fleet(16, 7), "a larger fleet has the smaller one's machines"
    assert {spec.serial for spec in fleet(40, 7)}.isdisjoint(spec.serial for spec in fleet(40, 8))


def test_no_two_machines_share_an_identity() -> None:
    specs = fleet(2000, 1)
    for what in ("name", "serial", "uuid", "mac", "slot"):
        assert len({getattr(spec, what) for spec in specs}) == len(specs), what
    serials = [serial for spec in specs for serial in spec.gpu_serials]
    assert len(set(serials)) == len(serials)


def test_eight_stand_in_a_rack_and_slots_are_places() -> None:
    specs = fleet(17, 0)
    assert [spec.rack for spec in specs] == ["twin/a/r01"] * 8 + ["twin/a/r02"] * 8 + ["twin/a/r03"]
    for spec in specs:
        assert parse_slot(spec.slot, "slot").domains["rack"] == spec.rack


def test_the_inventory_travels_and_fits_the_sku() -> None:
    declared = sku.parse(SKU, sku_document())
    for spec in fleet(20, 3):
        inventory = spec.inventory(spec.firmware)
        assert decode(Inventory, encode(inventory)) == inventory
        comparison = compare_inventory(declared, asdict(inventory), None)
        assert comparison.mismatches == ()


def test_some_machines_come_with_old_firmware_that_the_bmc_can_be_brought_past() -> None:
    declared = sku.parse(SKU, sku_document())
    plans = [firmware_plan(declared, spec.firmware) for spec in fleet(100, 3)]
    assert not any(plan.missing or plan.impossible for plan in plans)
    updates = {update.target.component for plan in plans for update in plan.updates}
    assert updates == set(OUTDATED)
    assert 10 <= sum(not plan.current for plan in plans) <= 45


@pytest.mark.parametrize("count", [0, -1, MOST + 1])
def test_a_fleet_has_bounds(count: int) -> None:
    with pytest.raises(BadInput, match="--nodes"):
        fleet(count, 0)


def test_machines_that_run_already_stand_in_racks_of_their_own() -> None:
    managed, others = fleet(20, 3), running(6, 3, 20)
    assert [one.name for one in others][:2] == ["run-0001", "run-0002"]
    assert not {one.rack for one in managed} & {one.rack for one in others}
    every = [*managed, *others]
    for value in ("name", "serial", "mac", "slot", "uuid"):
        assert len({getattr(one, value) for one in every}) == len(every), value
    assert running(0, 3, 20) == []


def test_a_rack_shares_a_leaf_switch() -> None:
    by_rack: dict[str, set[str]] = {}
    for one in fleet(24, 0):
        by_rack.setdefault(one.rack, set()).add(one.fabric)
    assert [len(leaves) for leaves in by_rack.values()] == [1, 1, 1]
    assert len(set.union(*by_rack.values())) == 3
