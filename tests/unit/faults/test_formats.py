"""Lines of every form: what time, who wrote it, what it says."""

from __future__ import annotations

import json

import pytest

from ostler.faults import Detector
from ostler.faults.formats import Format, parse, sniff

XID = "NVRM: Xid (PCI:0000:3f:00): 79, pid=7, name=train"


@pytest.mark.parametrize(
    ("line", "time", "source"),
    [
        (XID, None, ""),
        (f"[  123.456789] {XID}", "123.456789", "kernel"),
        (f"[  123.456789 <    0.000012>] {XID}", "123.456789", "kernel"),
        (f"[  123.456789][  T123] {XID}", "123.456789", "kernel"),
        (f"[Sun Feb 23 16:24:18 2025] {XID}", "2025-02-23T16:24:18", "kernel"),
        (f"[Sun Feb  3 16:24:18 2025] {XID}", "2025-02-03T16:24:18", "kernel"),
        (f"[...] {XID}", None, "kernel"),
        (f"<4>[    2.962781] {XID}", "2.962781", "kernel"),
        (f"2025-01-21T04:41:44,283302+00:00 {XID}", "2025-01-21T04:41:44.283302+00:00", "kernel"),
        (f"kern  :warn  : 2025-01-21T04:41:44,283302+00:00 {XID}", "2025-01-21T04:41:44.283302+00:00", "kernel"),
        (f"kern  :err   : [  123.456789] {XID}", "123.456789", "kernel"),
        (f"4,1227,437812449932,-;{XID}", "437812.449932", "kernel"),
        (f"4,1227,437812449932,-,caller=T1;{XID}", "437812.449932", "kernel"),
        (f"Nov 28 13:45:12 gpu7 kernel: [67890.123456] {XID}", "Nov 28 13:45:12", "kernel"),
        (f"Nov  8 13:45:12 gpu7 kernel: {XID}", "Nov  8 13:45:12", "kernel"),
        (f"Nov 28 13:45:12 kernel: {XID}", "Nov 28 13:45:12", "kernel"),
        (f"<4>Nov 28 13:45:12 gpu7 kernel: {XID}", "Nov 28 13:45:12", "kernel"),
        (
            f"2025-11-28T13:45:12.123456+01:00 gpu7 kernel: [67890.123456] {XID}",
            "2025-11-28T13:45:12.123456+01:00",
            "kernel",
        ),
        (f"2025-11-28T13:45:12+0100 gpu7 kernel: {XID}", "2025-11-28T13:45:12+0100", "kernel"),
        (f"<4>1 2025-11-28T13:45:12.123Z gpu7 kernel - - - {XID}", "2025-11-28T13:45:12.123Z", "kernel"),
        (f"[67890.123456] gpu7 kernel: {XID}", "67890.123456", "kernel"),
        (f"gpu7 kernel: {XID}", None, "kernel"),
        (f"kernel: [67890.123456] {XID}", None, "kernel"),
        (f"kernel: Jan 21 11:18:36 kernel: {XID}", None, "kernel"),
    ],
)
def test_a_stamped_line_of_the_kernel(line: str, time: str | None, source: str) -> None:
    record = parse(line.encode())
    assert record is not None
    assert (record.time, record.source, record.message.decode()) == (time, source, XID)
    found = Detector().examine(line.encode())
    assert found is not None and found[1] is not None
    assert found[1].code == "79"


@pytest.mark.parametrize(
    "line",
    [
        f"Nov 28 13:45:12 gpu7 sshd[1]: {XID}",
        f"Nov 28 13:45:12 gpu7 bash[12]: kernel: {XID}",
        f"Nov 28 13:45:12 gpu7 app: {XID}",
        f"<14>Nov 28 13:45:12 gpu7 kernel: {XID}",  # user facility: someone's logger(1)
        f"<14>1 2025-11-28T13:45:12Z gpu7 kernel - - - {XID}",
        f"<14>1 2025-11-28T13:45:12Z gpu7 app 12 - - {XID}",
        f"2025-11-28T13:45:12.1+01:00 gpu7 python3[9]: {XID}",
        f"12,1227,437812449932,-;{XID}",
        f"12,1227,437812449932,-;app[3]: {XID}",
        f"12,1227,437812449932,-;kernel: {XID}",
        f"user  :warn  : [  123.456789] {XID}",
        f"daemon:info  : [  123.456789] systemd[1]: {XID}",
        f"<12>[    2.962781] {XID}",
        f"[67890.123456] gpu7 bash[3]: {XID}",
        f'[67890.123456] audit: type=1309 audit(1.2:3): a1="{XID}"',
        f" {XID}",
        f" SUBSYSTEM={XID}",
        json.dumps({"MESSAGE": XID, "_TRANSPORT": "syslog", "SYSLOG_IDENTIFIER": "kernel"}),
        json.dumps({"MESSAGE": XID, "_TRANSPORT": "stdout", "_COMM": "python3"}),
        json.dumps({"MESSAGE": XID, "_TRANSPORT": "kernel", "SYSLOG_FACILITY": "1"}),
        json.dumps({"MESSAGE": XID}),
        json.dumps({"MESSAGE": {"a": 1}, "_TRANSPORT": "kernel"}),
        json.dumps([XID]),
        '{"MESSAGE": "' + XID,
        '{"MESSAGE": ' + "[" * 5000,
    ],
)
def test_someone_else_said_it(line: str) -> None:
    found = Detector().examine(line.encode())
    assert found is None or found[1] is None


@pytest.mark.parametrize("message", [XID, list(XID.encode())])
def test_journal_entries(message: object) -> None:
    entry = {
        "MESSAGE": message,
        "_TRANSPORT": "kernel",
        "__REALTIME_TIMESTAMP": "1763000000123456",
        "SYSLOG_FACILITY": "0",
    }
    record = parse(json.dumps(entry).encode())
    assert record is not None
    assert (record.time, record.source, record.message.decode()) == ("2025-11-13T02:13:20.123456+00:00", "kernel", XID)


@pytest.mark.parametrize("stamp", ["x", "99999999999999999999", -1, None, [], 1.5, "²"])
def test_a_journal_entry_with_a_broken_stamp_has_no_time(stamp: object) -> None:
    record = parse(json.dumps({"MESSAGE": XID, "_TRANSPORT": "kernel", "__REALTIME_TIMESTAMP": stamp}).encode())
    assert record is not None
    assert record.time is None


def test_daemons_that_may_speak_are_told_by_the_unit_that_journald_vouches_for() -> None:
    carrier = {"MESSAGE": "ib1: Lost carrier", "_TRANSPORT": "journal", "SYSLOG_IDENTIFIER": "systemd-networkd"}
    for unit, believed in (("systemd-networkd.service", True), ("session-3.scope", False)):
        found = Detector().examine(json.dumps(carrier | {"_SYSTEMD_UNIT": unit}).encode())
        assert found is not None
        assert (found[1] is not None) is believed


def test_fabric_manager_and_bmc_logs() -> None:
    manager = parse(b"[Feb 27 2025 15:10:02] [ERROR] [tid 12727] detected NVSwitch non-fatal error 12028 on fid 0")
    assert manager is not None
    assert (manager.time, manager.source) == ("2025-02-27T15:10:02", "nvidia-fabricmanager")
    bmc = parse(b"   a | 03/20/2021 | 12:42:44 | Power Supply PS2 Status | Failure detected () | Asserted")
    assert bmc is not None
    assert (bmc.time, bmc.source) == ("2021-03-20T12:42:44", "sel")
    over = Detector().examine(b"c | 05/25/2021 | 13:38:10 | Power Supply PS2 Status | Failure detected () | Deasserted")
    assert over is not None and over[1] is not None
    assert (over[1].severity.value, over[1].action.value) == ("info", "none")


def test_a_file_is_what_nine_of_ten_lines_are() -> None:
    syslog = [f"Nov 28 13:45:{n:02} gpu7 kernel: x".encode() for n in range(10)]
    assert sniff(syslog) is Format.SYSLOG
    assert sniff([*syslog[:5], *[b"plain"] * 5]) is Format.AUTO
    assert sniff([b"4,1,2,-;x", b" SUBSYSTEM=pci", b"4,2,3,-;y"]) is Format.KMSG
    assert sniff([]) is Format.AUTO
