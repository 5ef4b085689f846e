"""The decisions of Day 1 as tables: differences, firmware plans, test plans, which SKU a node is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ostler.acceptance import policy
from ostler.acceptance.model import AcceptanceSettings, Activation, Eye, FirmwareTarget, Profile, Sku
from ostler.adapters.bmc.port import (
    BmcInventory,
    Gpu,
    Health,
    Identity,
    Psu,
    Sensor,
    SensorKind,
)
from ostler.health.model import split_check
from ostler.nodes.model import Service, State

SKU = Sku("hgx", gpus=2, gpu_model="h100", cpus=64, memory_gib=512, nics=2, disks=1, psus=2)
HOST: dict[str, Any] = {
    "system": {"serial": "SN1"},
    "cpus": 64,
    "memory_gib": 503.5,
    "gpus": [{"model": "NVIDIA H100 80GB", "serial": "G1"}, {"model": "NVIDIA H100 80GB", "serial": "G2"}],
    "nics": [{"name": "eth0"}, {"name": "eth1"}, {"name": "usb0"}],
    "disks": [{"name": "nvme0n1"}],
}
BMC = BmcInventory(
    Identity("SN1", "", "", ""),
    512.0,
    (),
    (Gpu("1", "H100", "G1", ""), Gpu("2", "H100", "G2", "")),
    (),
    (Psu("PSU1", "", "", None, Health.OK), Psu("PSU2", "", "", None, Health.OK)),
    (),
)
SENSOR = Sensor("T1", "Chassis", SensorKind.TEMPERATURE, 40.0, "Cel", 90.0, Health.OK)


def test_a_sound_node_has_no_difference_and_no_blind_spot() -> None:
    look = policy.compare_inventory(SKU, HOST, BMC, [SENSOR])
    assert look.mismatches == ()
    assert look.blind == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gpus": HOST["gpus"][:1]}, "gpu (host): expected 2, found 1"),
        ({"gpus": [*HOST["gpus"], HOST["gpus"][0]]}, "gpu (host): expected 2, found 3"),
        ({"gpus": [{"model": "A100"}] * 2}, "gpu (host): expected model h100, found 2 × A100"),
        ({"gpus": [{}, {}]}, "gpu (host): expected model h100, found 2 × no model told"),
        ({"cpus": 63}, "cpu (host): expected 64 logical processors, found 63"),
        ({"cpus": "64"}, "cpu (host): expected 64 logical processors, found 0"),
        ({"memory_gib": 480.0}, "memory (host): expected 512 GiB ± 5 %, found 480 GiB"),
        ({"memory_gib": 1024.0}, "memory (host): expected 512 GiB ± 5 %, found 1024 GiB"),
        ({"nics": [{}]}, "nic (host): expected at least 2, found 1"),
        ({"disks": []}, "disk (host): expected at least 1, found 0"),
        ({"disks": "hostile"}, "disk (host): expected at least 1, found 0"),
        ({"system": {"serial": "SN9"}}, "serial (host and bmc): expected SN9 (host), found SN1 (bmc)"),
        ({"gpus": HOST["gpus"][:1]}, "gpu (host and bmc): expected 2 (bmc), found 1 (host)"),
        (
            {"gpus": [HOST["gpus"][0], {"model": "H100", "serial": "G7"}]},
            "gpu (host and bmc): expected serials G2 (bmc), found G7 (host)",
        ),
    ],
)
def test_what_the_host_sees_wrong(change: dict[str, Any], message: str) -> None:
    look = policy.compare_inventory(SKU, {**HOST, **change}, BMC, [SENSOR])
    assert message in [mismatch.message for mismatch in look.mismatches]


@pytest.mark.parametrize(
    ("bmc", "message"),
    [
        (replace(BMC, gpus=BMC.gpus[:1]), "gpu (bmc): expected 2, found 1"),
        (
            replace(BMC, gpus=(Gpu("1", "A100", "G1", ""), BMC.gpus[1])),
            "gpu (bmc): expected model h100, found 1 × A100",
        ),
        (replace(BMC, memory_gib=256.0), "memory (bmc): expected 512 GiB ± 5 %, found 256 GiB"),
        (replace(BMC, psus=BMC.psus[:1]), "psu (bmc): expected at least 2, found 1"),
        (
            replace(BMC, psus=(replace(BMC.psus[0], health=Health.WARNING), BMC.psus[1])),
            "psu (bmc): expected PSU1 ok, found warning",
        ),
    ],
)
def test_what_the_bmc_sees_wrong(bmc: BmcInventory, message: str) -> None:
    look = policy.compare_inventory(SKU, HOST, bmc)
    assert message in [mismatch.message for mismatch in look.mismatches]
    assert all(mismatch.eye is not Eye.HOST for mismatch in look.mismatches)


@pytest.mark.parametrize(
    ("sensor", "message"),
    [
        (replace(SENSOR, value=90.0), "sensor (bmc): expected Chassis/T1 below 90, found 90 Cel"),
        (replace(SENSOR, health=Health.CRITICAL), "sensor (bmc): expected Chassis/T1 ok, found critical (40 Cel)"),
        (replace(SENSOR, kind=SensorKind.LEAK, value=1.0), "sensor (bmc): expected Chassis/T1 dry, found leak"),
    ],
)
def test_sensors(sensor: Sensor, message: str) -> None:
    assert [mismatch.message for mismatch in policy.compare_inventory(SKU, HOST, BMC, [sensor]).mismatches] == [message]


@pytest.mark.parametrize("sensor", [replace(SENSOR, value=None), replace(SENSOR, kind=SensorKind.LEAK, value=0.0)])
def test_sensors_that_say_nothing_wrong(sensor: Sensor) -> None:
    assert policy.compare_inventory(SKU, HOST, BMC, [sensor]).mismatches == ()


@pytest.mark.parametrize(
    ("look", "blind"),
    [
        (lambda: policy.compare_inventory(None, HOST, BMC), "no SKU is declared"),
        (lambda: policy.compare_inventory(SKU, {}, BMC), "agent has not reported"),
        (lambda: policy.compare_inventory(SKU, HOST, None), "BMC was not asked"),
        (lambda: policy.compare_inventory(SKU, HOST, replace(BMC, gpus=())), "lists no GPUs"),
        (lambda: policy.compare_inventory(SKU, HOST, replace(BMC, psus=())), "lists no power supplies"),
        (lambda: policy.compare_inventory(SKU, HOST, replace(BMC, memory_gib=None)), "how much memory"),
    ],
)
def test_what_was_not_seen_is_told_and_not_taken_for_good(look: Callable[[], Any], blind: str) -> None:
    comparison = look()
    assert comparison.mismatches == ()
    assert any(blind in what for what in comparison.blind)


@pytest.mark.parametrize(
    ("history", "last", "counts"),
    [
        ({}, [], ()),
        ({"a": 1}, [], ()),
        ({"a": 2}, [], ("a",)),
        ({"a": 1}, ["a"], ("a",)),
        ({"a": 5, "b": 2, "c": 1}, ["a"], ("a", "b")),
    ],
)
def test_what_lasts(history: dict[str, int], last: list[str], counts: tuple[str, ...]) -> None:
    assert policy.lasting(history, last) == counts


def test_a_sku_is_matched_only_when_exactly_one_fits() -> None:
    bare = Sku("bare")
    assert policy.match_sku([SKU, bare, replace(SKU, name="other", gpus=8)], HOST) == SKU
    assert policy.match_sku([SKU, replace(SKU, name="twin")], HOST) is None
    assert policy.match_sku([bare], HOST) is None
    assert policy.match_sku([SKU], {}) is None
    assert policy.match_sku([SKU], {**HOST, "gpus": HOST["gpus"][:1]}) is None


# Firmware -------------------------------------------------------------------------------------------------------------

BMC_FW = FirmwareTarget("BMC", "2.0", "http://f/bmc")
BIOS_FW = FirmwareTarget("BIOS", "7.1", "http://f/bios", Activation.POWER_CYCLE)
HCA_FW = FirmwareTarget("HCA_0", "28.43", "http://f/hca", fabric_adapter=True)
FW_SKU = Sku("hgx", firmware=(BMC_FW, BIOS_FW, HCA_FW))
CURRENT = {"BMC": "2.0", "BIOS": "7.1", "HCA_0": "28.43", "CPLD": "9"}


@pytest.mark.parametrize(
    ("present", "updates", "missing"),
    [
        (CURRENT, [], ()),
        ({**CURRENT, "BIOS": " 7.1 "}, [], ()),
        ({**CURRENT, "BIOS": "7.0", "BMC": "1.9"}, ["BMC", "BIOS"], ()),
        ({**CURRENT, "BMC": "3.0"}, ["BMC"], ()),
        ({"BMC": "2.0", "HCA_0": "1"}, ["HCA_0"], ("BIOS",)),
    ],
    ids=["current", "padded", "declared-order", "newer-is-different-too", "missing"],
)
def test_firmware_plan(present: dict[str, str], updates: list[str], missing: tuple[str, ...]) -> None:
    plan = policy.firmware_plan(FW_SKU, present)
    assert [update.target.component for update in plan.updates] == updates
    assert plan.missing == missing
    assert plan.current == (not updates and not missing)


def test_the_fabric_adapters_of_an_unmanaged_node_are_left_alone() -> None:
    plan = policy.firmware_plan(FW_SKU, {**CURRENT, "HCA_0": "1"}, Service.UNMANAGED)
    assert plan.current
    assert plan.left_alone == ("HCA_0",)
    assert not policy.firmware_plan(FW_SKU, {**CURRENT, "HCA_0": "1"}, Service.MANAGED).current


def test_without_an_image_it_is_impossible_and_not_current() -> None:
    plan = policy.firmware_plan(Sku("x", firmware=(FirmwareTarget("BMC", "2.0"),)), {"BMC": "1.0"})
    assert [update.present for update in plan.impossible] == ["1.0"]
    assert not plan.current


def test_no_sku_declares_nothing() -> None:
    assert policy.firmware_plan(None, CURRENT).current


# Test -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("came_from", "evidence", "profile"),
    [
        (State.ZAP, {}, Profile.FULL),
        (State.TRIAGE, {}, Profile.REPAIR),
        (State.DEBUG, {}, Profile.REPAIR),
        (State.TRIAGE, {"profile": "full"}, Profile.FULL),
        (State.ZAP, {"profile": "repair"}, Profile.REPAIR),
        (None, {"profile": 7}, Profile.FULL),
    ],
)
def test_profile(came_from: State | None, evidence: dict[str, Any], profile: Profile) -> None:
    assert policy.profile_of(came_from, evidence) is profile


def test_rounds_are_spread_over_the_whole_time() -> None:
    settings = AcceptanceSettings(test_checks=("a", "b x=1"), test_rounds=4, burn_in_s=400.0)
    plan = policy.plan_burn_in(Profile.FULL, settings)
    assert [(run.round, run.check, run.due) for run in plan.runs] == [
        (number, check, (number - 1) * 100.0) for number in (1, 2, 3, 4) for check in ("a", "b")
    ]
    assert plan.seconds == 400.0
    assert plan.runs[1].arguments == {"x": "1"}
    repair = policy.plan_burn_in(Profile.REPAIR, settings)
    assert [run.check for run in repair.runs] == ["a", "b"]
    assert repair.seconds == settings.repair_test_s


@pytest.mark.parametrize("text", ["", " ", "x=1", "a b", "a =1"])
def test_what_is_no_check(text: str) -> None:
    with pytest.raises(ValueError, match="is no check"):
        split_check(text)
    with pytest.raises(ValueError, match="is no check"):
        AcceptanceSettings(test_checks=(text,))


def test_a_test_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        AcceptanceSettings(test_checks=())
    with pytest.raises(ValueError, match="at least one"):
        AcceptanceSettings(test_rounds=0)


def test_a_part_that_the_bmc_did_not_serve_may_well_be_there() -> None:
    partial = replace(
        BMC, gpus=BMC.gpus[:1], psus=BMC.psus[:1], unread=("/redfish/v1/Systems/System_0/Processors/GPU_2",)
    )
    look = policy.compare_inventory(SKU, HOST, partial, [SENSOR])
    assert look.mismatches == ()
    assert any("did not serve" in what for what in look.blind)
    surplus = replace(partial, gpus=BMC.gpus * 2)
    assert policy.compare_inventory(SKU, HOST, surplus, [SENSOR]).mismatches, "what it does show counts"
