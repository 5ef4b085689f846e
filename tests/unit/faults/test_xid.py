"""XID lines: code to action, the exceptions, XID 154, NVLink 4 and 5 decodes."""

from __future__ import annotations

import pytest

from ostler.faults import Action, Detector, Fault, Kind, Severity, nvlink4, nvlink5
from ostler.faults.xid import policy
from ostler.faults.xid_table import XIDS


def detect(message: str, driver: str | None = None) -> Fault:
    fault = Detector(driver).detect(message)
    assert fault is not None
    return fault


@pytest.mark.parametrize(
    ("code", "severity", "action", "workflow"),
    [
        (13, Severity.INFO, Action.NONE, "WORKFLOW_XID_13"),
        (31, Severity.INFO, Action.NONE, "WORKFLOW_XID_31"),
        (8, Severity.WARNING, Action.NONE, ""),
        (43, Severity.INFO, Action.NONE, ""),
        (45, Severity.WARNING, Action.WATCH, "WORKFLOW_XID_45"),
        (48, Severity.FATAL, Action.RESET_GPU, "WORKFLOW_XID_48"),
        (54, Severity.ERROR, Action.TRIAGE, ""),
        (63, Severity.WARNING, Action.NONE, ""),
        (64, Severity.ERROR, Action.RESET_GPU, ""),
        (78, Severity.WARNING, Action.WATCH, ""),
        (79, Severity.FATAL, Action.REBOOT, ""),
        (95, Severity.FATAL, Action.RESET_GPU, ""),
        (119, Severity.FATAL, Action.RESET_GPU, ""),
        (142, Severity.ERROR, Action.TRIAGE, ""),
        (151, Severity.FATAL, Action.REBOOT, ""),
        (159, Severity.WARNING, Action.WATCH, "CHECK_UVM"),
        (14, Severity.INFO, Action.NONE, ""),  # unused, harmless bucket
        (21, Severity.WARNING, Action.WATCH, ""),  # unused, yet it shows up
        (167, Severity.FATAL, Action.REBOOT, ""),  # no bucket
        (171, Severity.WARNING, Action.WATCH, "WORKFLOW_XID_48"),
        (999, Severity.WARNING, Action.WATCH, ""),  # unknown
    ],
)
def test_a_code_leads_to_its_action(code: int, severity: Severity, action: Action, workflow: str) -> None:
    fault = detect(f"NVRM: Xid (PCI:0000:3f:00): {code}, pid=7, name=train")
    assert (fault.kind, fault.code, fault.device, fault.component) == (Kind.XID, str(code), "0000:3f:00", "gpu")
    assert (fault.severity, fault.action, fault.workflow) == (severity, action, workflow)
    assert fault.detail == {"pid": "7", "process": "train"}


def test_every_code_has_a_policy_and_no_code_is_forgotten() -> None:
    assert sorted(XIDS) == list(range(1, 173))
    for code in XIDS:
        assert policy(code).severity in Severity


@pytest.mark.parametrize(
    ("text", "recovery", "action"),
    [
        ("from 0x0 (None) to 0x1 (GPU Reset Required)", "gpu-reset", Action.RESET_GPU),
        ("from 0x0 (None) to 0x2 (Node Reboot Required)", "node-reboot", Action.REBOOT),
        ("from 0x0 (None) to 0x3 (Drain P2P)", "drain-p2p", Action.DRAIN),
        ("from 0x0 (None) to 0x4 (Drain and Reset)", "drain-and-reset", Action.RESET_GPU),
        ("from 0x4 (Drain and Reset) to 0x0 (None)", "none", Action.NONE),
        ("from 0x0 (None) to 0x2 (Node Reb", "node-reboot", Action.REBOOT),
        ("from 0x0 (None) to 0x2", "node-reboot", Action.REBOOT),
        ("from 0x0 (None) to 0x9 (Something New)", "unknown", Action.WATCH),
        ("from 0x0 (None) to 0x1 (Something New)", "unknown", Action.WATCH),
        ("from 0x0 (No", "unknown", Action.WATCH),
    ],
)
def test_154_says_what_the_driver_asks_for(text: str, recovery: str, action: Action) -> None:
    fault = detect(f"NVRM: Xid (PCI:0009:01:00): 154, GPU recovery action changed {text}")
    assert (fault.recovery, fault.action) == (recovery, action)


def test_a_process_name_cannot_pass_for_a_recovery() -> None:
    fault = detect(
        "NVRM: Xid (PCI:0009:01:00): 154, pid=1, name=to 0x2 (Node Re, GPU recovery action changed from 0x0 (None) "
        "to 0x0 (None)"
    )
    assert fault.recovery == "none"


@pytest.mark.parametrize("driver", ["570.124.06", "R570"])
def test_nvlink5_before_r575_reads_the_first_layout(driver: str) -> None:
    line = "NVRM: Xid (PCI:0018:01:00): 145, RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x0409a0c2 0x00000008 0x1 0x0 0x1 0x4)"
    fault = detect(line, driver)
    assert (fault.action, fault.detail["decode"], fault.detail["link"]) == (Action.NONE, "v1", "13")
    assert detect(line, "580.1").detail["decode"].startswith("undecoded")


def test_nvlink5_extra_bit_of_the_receive_pipe_is_fatal() -> None:
    calm = "NVRM: Xid (PCI:0018:01:00): 145, RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x000000c2 0x00000001)"
    raised = "NVRM: Xid (PCI:0018:01:00): 145, RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x000004c2 0x00000001)"
    assert detect(calm, "570.1").action is Action.NONE
    assert detect(raised, "570.1").action is Action.RESET_GPU
    assert detect(raised.replace("4c2", "086"), "575.1").action is Action.RESET_GPU
    assert detect(calm.replace("0c2", "006"), "575.1").action is Action.NONE


def test_nvlink5_without_a_version_is_decoded_by_the_unit_that_the_line_names() -> None:
    fault = detect("NVRM: Xid (PCI:0000:04:00): 145, RLW_REMAP Fatal XC0 i0 Link 00 (0x00000004 0x00000040 0x0 0x0)")
    assert fault.action is Action.RESET_GPU
    assert fault.detail["decode"] == "v2 (guessed: driver version unknown)"


def test_nvlink5_that_cannot_be_decoded_is_watched_unless_the_driver_calls_it_fatal() -> None:
    watched = detect("NVRM: Xid (PCI:0000:04:00): 146, TLW_CTRL Nonfatal XC0 i0 Link 00 (0x00000055 0x00000001)")
    assert (watched.action, watched.severity) == (Action.WATCH, Severity.WARNING)
    fatal = detect("NVRM: Xid (PCI:0000:04:00): 146, TLW_CTRL Fatal XC0 i0 Link 00 (0x00000055 0x00000001)")
    assert fatal.action is Action.RESET_GPU
    assert fatal.detail["decode"] == "undecoded: not in the table"
    assert detect("NVRM: Xid (PCI:0000:04:00): 146").action is Action.WATCH


def test_nvlink5_status_is_a_mask_where_the_table_lists_bits_and_a_value_where_it_lists_values() -> None:
    assert {r.bucket for r in nvlink5.rows(145, 4, 0x41, 2)} == {"RESET_GPU", "XID_154_EVAL"}
    assert [r.unit for r in nvlink5.rows(149, 19, 2, 2)] == ["NETIR_BER_EVENT"]
    assert nvlink5.rows(149, 19, 8, 2) == []


def test_the_driver_banner_teaches_the_version() -> None:
    detector = Detector()
    line = "NVRM: Xid (PCI:0000:04:00): 145, RLW_REMAP Fatal XC0 i0 Link 00 (0x00000004 0x00000040)"
    before = detector.detect(line)
    assert detector.detect("NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release") is None
    after = detector.detect(line)
    assert before is not None and after is not None
    assert "guessed" in before.detail["decode"]
    assert (detector.driver, after.detail["decode"]) == ("580.65.06", "v2")


def test_a_given_driver_version_is_not_overruled_by_a_banner() -> None:
    detector = Detector("570.1")
    detector.detect("NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.65.06  Release")
    assert detector.driver == "570.1"


@pytest.mark.parametrize(
    ("registers", "expected"),
    [
        ((0x1,), "ignorable"),
        ((0x2,), "sympathetic"),
        ((0x10 | 0x1,), "ecc"),
        ((0x100,), "mechanical"),
        ((0x200000,), "signal"),
        ((0, 0, 0x10000), "repeated"),
        ((0, 0, 0, 0, 0x100000), "threshold"),
        ((0x80000000,), "other"),
        ((0x80000001,), "other"),
        ((0, 0, 0), ""),
    ],
)
def test_xid_74_registers(registers: tuple[int, ...], expected: str) -> None:
    assert nvlink4.classify(registers) == expected


def test_xid_74_fatal_link_needs_a_reset_and_the_rest_is_watched() -> None:
    line = "NVRM: Xid (PCI:0003:00:00): 74, pid='<unknown>', name=<unknown>, NVLink: {} error detected on link 14({})"
    fatal = detect(line.format("fatal", "0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0"))
    assert (fatal.action, fatal.detail) == (Action.RESET_GPU, {"link": "14", "class": "repeated"})
    assert detect(line.format("non-fatal", "0x10, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0")).action is Action.WATCH
    assert detect(line.format("minor", "0x1, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0")).action is Action.NONE
