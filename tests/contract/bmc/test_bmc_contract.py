"""What every BMC behind the port does: the fake, the twin through the real client, recorded trees, a foreign emulator."""

from __future__ import annotations

import re

import pytest

from ostler.adapters.bmc.port import (
    BootTarget,
    Credentials,
    Health,
    PowerState,
    ResetKind,
    SensorKind,
    TaskState,
)
from ostler.core.errors import BadInput, Conflict, NotFound, Refused, Unauthenticated, Unreachable
from ostler.core.ids import PermitId
from tests.contract.bmc.subjects import FLASHED, GPUS, MACS, Subject

PERMIT = PermitId("permit_1")
IMAGE = "http://10.0.0.2/HGX_FW_GPU-97.00.5E.00.02.fwpkg"


# every one: reading


def test_names_the_host_not_the_gpu_board(subject: Subject) -> None:
    with subject.open() as bmc:
        found = bmc.identity()
    assert re.fullmatch(r"[0-9a-f-]{36}", found.uuid)
    if subject.identity is not None:
        assert found == subject.identity


def test_power_state_is_known(subject: Subject) -> None:
    with subject.open() as bmc:
        assert bmc.power_state() in (PowerState.ON, PowerState.OFF)


def test_inventory_counts_the_gpus_with_serials(subject: Subject) -> None:
    with subject.open() as bmc:
        found = bmc.inventory()
    assert len(found.gpus) == subject.gpus
    assert len({gpu.serial for gpu in found.gpus} - {""}) == subject.gpus
    assert found.memory_gib is None or found.memory_gib > 0
    assert all(re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", nic.mac) for nic in found.nics)
    assert found.cpus or found.unread, "no CPU, and nothing says that it could not be read"


def test_sensors_have_a_value_or_are_known_to_have_none(subject: Subject) -> None:
    with subject.open() as bmc:
        found = bmc.sensors()
    assert any(s.kind is SensorKind.TEMPERATURE for s in found)
    assert len({(s.chassis, s.name) for s in found}) == len(found)


def test_event_log_read_twice_gives_nothing_new(subject: Subject) -> None:
    with subject.open() as bmc:
        first = bmc.event_log()
        assert bmc.event_log(first.position).entries == ()


def test_reading_never_needs_a_permit_and_disrupting_always_does(subject: Subject) -> None:
    with subject.open() as bmc:
        for disrupt in (
            lambda: bmc.reset(ResetKind.OFF, permit=PermitId("")),
            lambda: bmc.boot_once(BootTarget.PXE, permit=PermitId("")),
            lambda: bmc.update_firmware(FLASHED, IMAGE, permit=PermitId("")),
        ):
            with pytest.raises(Refused, match="needs a permit"):
                disrupt()


def test_a_task_that_is_not_there(subject: Subject) -> None:
    with subject.open() as bmc, pytest.raises(NotFound):
        bmc.task("/redfish/v1/TaskService/Tasks/4711")


# those that can be written to


def test_power_follows_a_reset(writable: Subject) -> None:
    with writable.open() as bmc:
        bmc.reset(ResetKind.ON, permit=PERMIT)
        writable.wait_for(bmc, PowerState.ON)
        bmc.reset(ResetKind.OFF, permit=PERMIT)
        writable.wait_for(bmc, PowerState.OFF)


def test_boot_once_is_accepted(writable: Subject) -> None:
    with writable.open() as bmc:
        bmc.boot_once(BootTarget.PXE, permit=PERMIT)
        bmc.boot_once(BootTarget.DISK, permit=PERMIT)


# the whole port


def test_inventory_in_full(full: Subject) -> None:
    with full.open() as bmc:
        found = bmc.inventory()
    assert tuple(gpu.serial for gpu in found.gpus) == GPUS
    assert tuple(nic.mac for nic in found.nics) == MACS
    assert (found.memory_gib, len(found.cpus), len(found.psus), len(found.drives)) == (2048.0, 2, 6, 8)
    assert found.unread == ()


def test_each_reset_reaches_the_host(full: Subject) -> None:
    with full.open() as bmc:
        bmc.reset(ResetKind.ON, permit=PERMIT)
        for kind in (ResetKind.GRACEFUL_RESTART, ResetKind.FORCE_RESTART, ResetKind.POWER_CYCLE, ResetKind.OFF):
            bmc.reset(kind, permit=PERMIT)
    assert full.power_events == ["on", "graceful-restart", "force-restart", "power-cycle", "off"]


def test_switching_on_what_is_on_does_nothing(full: Subject) -> None:
    with full.open() as bmc:
        bmc.reset(ResetKind.ON, permit=PERMIT)
        bmc.reset(ResetKind.ON, permit=PERMIT)
        assert full.power_events == ["on"]
        bmc.reset(ResetKind.OFF, permit=PERMIT)
        bmc.reset(ResetKind.OFF, permit=PERMIT)
    assert full.power_events == ["on", "off"]


def test_a_host_that_is_off_cannot_be_restarted(full: Subject) -> None:
    with full.open() as bmc, pytest.raises(Conflict):
        bmc.reset(ResetKind.FORCE_RESTART, permit=PERMIT)
    assert full.power_events == []


def test_boot_once_holds_for_one_boot(full: Subject) -> None:
    with full.open() as bmc:
        bmc.boot_once(BootTarget.PXE, permit=PERMIT)
        assert (full.boot(), full.boot()) == ("pxe", "none")
        bmc.boot_once(BootTarget.DISK, permit=PERMIT)
        assert full.boot() == "disk"
        bmc.boot_once(BootTarget.PXE, permit=PERMIT)
        bmc.boot_once(BootTarget.NONE, permit=PERMIT)
        assert full.boot() == "none"


def test_a_sensor_over_its_limit(full: Subject) -> None:
    with full.open() as bmc:
        bmc.reset(ResetKind.ON, permit=PERMIT)
        full.overheat("HGX_GPU_SXM_1_TEMP_0", 97.0)
        hot = next(s for s in bmc.sensors() if s.name == "HGX_GPU_SXM_1_TEMP_0")
    assert (hot.value, hot.unit, hot.upper_critical, hot.health) == (97.0, "Cel", 92.0, Health.CRITICAL)
    assert hot.chassis == "HGX_GPU_SXM_1"


def test_the_controller_restarts_and_the_host_works_on(full: Subject) -> None:
    with full.open() as bmc:
        bmc.reset(ResetKind.ON, permit=PERMIT)
        full.wait_for(bmc, PowerState.ON)
        bmc.reset_bmc(permit=PERMIT)
        assert bmc.power_state() is PowerState.ON
        with pytest.raises(Refused, match="needs a permit"):
            bmc.reset_bmc(permit=PermitId(""))
    assert full.bmc_resets() == 1


def test_leak_detectors_are_sensors(full: Subject) -> None:
    with full.open() as bmc:
        dry = [s for s in bmc.sensors() if s.kind is SensorKind.LEAK]
    assert dry and all(s.value == 0.0 and s.health is Health.OK for s in dry)


def test_event_log_gives_what_is_new_and_starts_anew_when_cleared(full: Subject) -> None:
    with full.open() as bmc:
        full.add_log("one")
        full.add_log("two")
        first = bmc.event_log()
        assert [entry.message for entry in first.entries] == ["one", "two"]
        assert first.entries[0].created == pytest.approx(1_800_000_000.0)
        full.add_log("three")
        second = bmc.event_log(first.position)
        assert [entry.message for entry in second.entries] == ["three"]
        full.clear_log()
        full.add_log("four")
        assert [entry.message for entry in bmc.event_log(second.position).entries] == ["four"]


def test_a_flash_takes_its_time_and_changes_the_version(full: Subject) -> None:
    with full.open() as bmc:
        before = {item.component: item.version for item in bmc.firmware()}
        task = bmc.update_firmware(FLASHED, IMAGE, permit=PERMIT)
        assert bmc.task(task).state is TaskState.RUNNING
        full.advance(300)
        half = bmc.task(task)
        assert (half.state, half.percent) == (TaskState.RUNNING, 50)
        assert {item.component: item.version for item in bmc.firmware()} == before
        full.advance(300)
        assert bmc.task(task).state is TaskState.DONE
        after = {item.component: item.version for item in bmc.firmware()}
    assert after == {**before, FLASHED: "97.00.5E.00.02"}


def test_a_flash_that_fails_says_why_and_changes_nothing(full: Subject) -> None:
    with full.open() as bmc:
        before = bmc.firmware()
        full.fail_flash("Image verification failed.")
        task = bmc.update_firmware(FLASHED, IMAGE, permit=PERMIT)
        full.advance(600)
        ended = bmc.task(task)
        assert (ended.state, ended.message) == (TaskState.FAILED, "Image verification failed.")
        assert bmc.firmware() == before


def test_an_update_of_nothing_known(full: Subject) -> None:
    with full.open() as bmc:
        with pytest.raises(NotFound, match="no firmware component 'TOASTER'"):
            bmc.update_firmware("TOASTER", IMAGE, permit=PERMIT)
        with pytest.raises(BadInput, match="no http"):
            bmc.update_firmware(FLASHED, "file:///etc/passwd", permit=PERMIT)


def test_a_wrong_password_is_permanent_and_one_line(full: Subject) -> None:
    full.credentials = Credentials("admin", "not-it")
    with full.open() as bmc, pytest.raises(Unauthenticated) as caught:
        bmc.power_state()
    assert str(caught.value) == f"{full.address}: The BMC refuses user 'admin': wrong name or password."


def test_an_unreachable_bmc_is_temporary_and_one_line(full: Subject) -> None:
    with full.open() as bmc:
        bmc.power_state()
        full.unreachable()
        with pytest.raises(Unreachable) as caught:
            bmc.power_state()
    assert str(caught.value).startswith(f"{full.address}: The BMC does not answer: ")
    assert "\n" not in str(caught.value) and caught.value.delay > 0
