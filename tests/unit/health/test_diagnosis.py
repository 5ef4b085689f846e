"""Diagnosis as a table: signals of one node in, findings out; each rule with a near-miss that must not fire."""

from __future__ import annotations

from typing import Any

import pytest

from ostler.faults.model import Action, Severity
from ostler.health.diagnosis import diagnose
from ostler.health.model import HealthSettings, Observed

SETTINGS = HealthSettings()
GPU = "0000:18:00"


def xid(code: int, action: Action, severity: Severity, *, at: float = 0.0, device: str = GPU, **more: Any) -> Observed:
    return Observed(int(at) + 1, "xid", str(code), device, "gpu", severity, action, f"Xid {code}", at, **more)


def lost(at: float = 0.0) -> Observed:
    return xid(79, Action.REBOOT, Severity.FATAL, at=at)


def solo45(at: float = 0.0, device: str = GPU) -> Observed:
    return xid(45, Action.NONE, Severity.INFO, at=at, device=device, workflow="WORKFLOW_XID_45")


def app(at: float = 0.0, code: int = 13) -> Observed:
    return xid(code, Action.NONE, Severity.INFO, at=at)


def asks(recovery: str, at: float = 0.0, device: str = GPU) -> Observed:
    return xid(154, Action.WATCH, Severity.WARNING, at=at, device=device, recovery=recovery)


def found(*signals: Observed) -> dict[str, Action]:
    return {one.fault: one.action for one in diagnose(signals, SETTINGS)}


def test_nothing_said_nothing_found() -> None:
    assert diagnose([], SETTINGS) == []


def test_a_lost_gpu_is_one_fault_told_twice() -> None:
    words = Observed(2, "gpu-off-bus", "", "PCI:0000:18:00.0", "gpu", Severity.FATAL, Action.REBOOT, "fallen off", 1.0)
    diagnoses = diagnose([lost(), words], SETTINGS)
    assert [(one.fault, one.device, one.evidence["count"]) for one in diagnoses] == [("gpu-off-bus", GPU, 2)]


@pytest.mark.parametrize("code", [13, 31])
def test_an_isolated_application_error_only_records(code: int) -> None:
    assert found(app(code=code)) == {}


def test_repeats_of_it_are_watched_and_never_reboot() -> None:
    assert found(*[app(at=60.0 * n) for n in range(4)]) == {}
    assert found(*[app(at=60.0 * n) for n in range(5)]) == {"xid-13": Action.WATCH}
    assert found(*[app(at=1000.0 * n) for n in range(5)]) == {}, "five in more than an hour are isolated"


def test_a_solo_45_restarts_the_fabric_manager() -> None:
    assert found(solo45()) == {"xid-45": Action.RESTART_SERVICE}


def test_a_45_in_company_is_an_echo() -> None:
    assert found(lost(), solo45(at=2.0)) == {"gpu-off-bus": Action.REBOOT}
    assert found(solo45(), lost(at=2.0)) == {"gpu-off-bus": Action.REBOOT}, "whichever comes first"


def test_a_45_long_after_is_solo() -> None:
    assert found(lost(), solo45(at=SETTINGS.window_s + 1)) == {"xid-45": Action.RESTART_SERVICE}


def test_a_43_alone_is_the_applications_own() -> None:
    assert found(xid(43, Action.NONE, Severity.INFO)) == {}


@pytest.mark.parametrize(
    ("recovery", "action"),
    [
        ("none", Action.WATCH),
        ("gpu-reset", Action.RESET_GPU),
        ("node-reboot", Action.REBOOT),
        ("drain-and-reset", Action.RESET_GPU),
        ("unknown", Action.REBOOT),
    ],
)
def test_what_154_says_outranks_the_table(recovery: str, action: Action) -> None:
    assert found(lost(), asks(recovery, at=1.0))["gpu-off-bus"] is action


def test_154_speaks_for_its_own_gpu_only() -> None:
    assert found(lost(), asks("none", at=1.0, device="0000:9a:00"))["gpu-off-bus"] is Action.REBOOT


def test_the_newest_154_counts() -> None:
    assert found(lost(), asks("none", at=1.0), asks("node-reboot", at=2.0))["gpu-off-bus"] is Action.REBOOT


def test_a_154_alone_is_followed() -> None:
    assert found(asks("gpu-reset")) == {"xid-154": Action.RESET_GPU}


def test_the_worst_comes_first() -> None:
    warning = Observed(5, "nvme", "timeout", "nvme0", "disk", Severity.WARNING, Action.WATCH, "timeout", 1.0)
    assert [one.fault for one in diagnose([warning, lost()], SETTINGS)] == ["gpu-off-bus", "nvme-timeout"]
