"""Disks and filesystems: NVMe, block layer, md, ext4, XFS, btrfs, NFS. Joined by `catalogue.py`.
Message forms: Linux drivers/nvme/host/pci.c, block/blk-core.c, fs/{ext4,jbd2,xfs,btrfs,nfs}.
"""

from __future__ import annotations

import re

from ostler.faults.entry import Entry, text
from ostler.faults.model import EMPTY, Action, Fault, Kind, Severity

_CTRL = rb"nvme (?P<device>nvme\d{1,4}(?:[cn]\d{1,4}){0,2}): "


def _block(match: re.Match[bytes], message: str, _driver: str | None) -> Fault:
    device = text(match["device"])
    medium = match["kind"] is not None and match["kind"] != b"I/O"
    groups = match.groupdict()
    return Fault(
        Kind.NVME if device.startswith("nvme") else Kind.OTHER,
        "medium-error" if medium else "io-error",
        device,
        "disk",
        Severity.ERROR,
        Action.TRIAGE if medium else Action.WATCH,
        message,
        "the disk cannot read or write a place" if medium else "a disk request failed",
        detail={"sector": text(groups["sector"])} if groups.get("sector") else EMPTY,
    )


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "nvme-down", (b"controller is down; will reset",),
        re.compile(_CTRL + rb"controller is down; will reset: CSTS=(?P<csts>0x[0-9a-fA-F]{1,8})"),
        Kind.NVME, "disk", Severity.ERROR, Action.WATCH, "the NVMe controller stopped and is being reset", "down",
    ),
    Entry(
        "nvme-gone",
        (b"after probe failure", b"after reset failure", b"not ready; aborting", b"Removing controller after",
         b"failed to mark controller "),
        re.compile(
            _CTRL + rb"(?:Removing after probe failure|Disabling device after reset failure|Device not ready; aborting"
            rb"|Removing controller after|failed to mark controller (?:live|state))"
        ),
        Kind.NVME, "disk", Severity.FATAL, Action.TRIAGE, "the NVMe device did not come back and was taken out",
        "removed",
    ),
    Entry(
        "nvme-timeout", (b" QID ",),
        re.compile(
            _CTRL + rb"I/O (?:tag )?\d{1,6} (?:\([0-9a-fA-F]{1,8}\) )?(?:opcode 0x[0-9a-fA-F]{1,2} \([^)\n]{0,32}\) )?"
            rb"(?:\([^)\n]{0,32}\) )?QID (?P<queue>\d{1,5}) timeout"
        ),
        Kind.NVME, "disk", Severity.WARNING, Action.WATCH, "an NVMe request took too long", "timeout",
    ),
    Entry(
        "nvme-abort", (b": Abort status: 0x",),
        re.compile(_CTRL + rb"Abort status: (?P<status>0x[0-9a-fA-F]{1,4})"),
        Kind.NVME, "disk", Severity.WARNING, Action.WATCH, "an NVMe request was aborted", "abort",
    ),
    Entry(
        "nvme-frozen", (b"frozen state error",),
        re.compile(_CTRL + rb"frozen state error detected, reset controller"),
        Kind.NVME, "disk", Severity.ERROR, Action.WATCH, "a PCIe error froze the NVMe device", "frozen",
    ),
    Entry(
        "nvme-command", (b"rror (sct 0x",),
        re.compile(
            rb"(?:nvme )?(?P<device>nvme\d{1,4}(?:[cn]\d{1,4}){0,2}): (?:I/O |Admin "
            rb")?Cmd\(0x[0-9a-fA-F]{1,2}\)[^\n]{0,80}?"
            rb"(?:I/O Error|Error) \(sct (?P<sct>0x[0-9a-fA-F]{1,2}) / sc (?P<sc>0x[0-9a-fA-F]{1,2})\)"
        ),
        Kind.NVME, "disk", Severity.ERROR, Action.WATCH, "an NVMe command failed", "command",
    ),
    Entry(
        "block-error", (b" error, dev ",),
        re.compile(
            rb"(?:blk_update_request: |print_req_error: )?(?:critical )?(?P<kind>I/O|medium|target|nexus|space "
            rb"allocation|protection)"
            rb" error, dev (?P<device>[\w.!-]{1,32}), sector (?P<sector>\d{1,20})"
        ),
        Kind.OTHER, "disk", Severity.ERROR, Action.WATCH, "a disk request failed", build=_block,
    ),
    Entry(
        "buffer-error", (b"Buffer I/O error on ",),
        re.compile(rb"(?P<kind>)?Buffer I/O error on dev(?:ice)? (?P<device>[\w.!-]{1,32}), logical block "
                   rb"(?P<sector>\d{1,20})"),
        Kind.OTHER, "disk", Severity.ERROR, Action.WATCH, "a disk request failed",
        build=lambda m, message, driver: _buffer(m, message),
    ),
    Entry(
        "md-failure", (b"Disk failure on ",),
        re.compile(rb"md/raid[\w:]{1,16}?:(?P<array>[\w.-]{1,32}): Disk failure on (?P<device>[\w.!-]{1,32}), "
                   rb"disabling device"),
        Kind.OTHER, "disk", Severity.ERROR, Action.TRIAGE, "an array lost a disk", "raid-disk",
    ),
    Entry(
        "ext4-error", (b"EXT4-fs error",),
        re.compile(rb"EXT4-fs error \(device (?P<device>[\w.!-]{1,32})\)"),
        Kind.FS, "filesystem", Severity.ERROR, Action.WATCH, "ext4 found itself damaged or unreadable", "ext4",
    ),
    Entry(
        "ext4-readonly", (b"Remounting filesystem read-only",),
        re.compile(rb"EXT4-fs (?:error )?\((?:device )?(?P<device>[\w.!-]{1,32})\): Remounting filesystem read-only"),
        Kind.FS, "filesystem", Severity.FATAL, Action.REBOOT, "ext4 went read-only", "read-only",
    ),
    Entry(
        "journal-aborted", (b"Aborting journal on device ",),
        re.compile(rb"(?:JBD2: )?Aborting journal on device (?P<device>[\w!-]{1,32})"),
        Kind.FS, "filesystem", Severity.FATAL, Action.REBOOT, "the filesystem gave up its journal", "journal-aborted",
    ),
    Entry(
        "journal-was-aborted", (b"Detected aborted journal",),
        re.compile(rb"EXT4-fs \((?P<device>[\w.!-]{1,32})\): [^\n]{0,60}?Detected aborted journal"),
        Kind.FS, "filesystem", Severity.FATAL, Action.REBOOT, "the filesystem gave up its journal", "journal-aborted",
    ),
    Entry(
        "xfs-shutdown", (b"xfs_do_force_shutdown", b"been shut down", b"hutting down "),
        re.compile(
            rb"XFS \((?P<device>[\w.!-]{1,32})\): (?:xfs_do_force_shutdown|Filesystem has been shut down|[^\n]{0,80}?"
            rb"[Ss]hutting down (?:the )?filesystem)"
        ),
        Kind.FS, "filesystem", Severity.FATAL, Action.REBOOT, "XFS shut the filesystem down", "shutdown",
    ),
    Entry(
        "xfs-error",
        (b"I/O error", b"CRC error", b"Metadata corruption", b"Internal error", b": Corruption ", b"writeback error",
         b"run xfs_repair"),
        re.compile(
            rb"XFS \((?P<device>[\w.!-]{1,32})\): (?:log I/O error|metadata I/O error|Metadata (?:CRC error|corruption)"
            rb"|Internal error|Corruption |writeback error|Unmount and run xfs_repair)"
        ),
        Kind.FS, "filesystem", Severity.ERROR, Action.WATCH, "XFS met an error", "xfs",
    ),
    Entry(
        "btrfs-error", (b"BTRFS error (", b"BTRFS critical (", b"BTRFS: error ("),
        re.compile(rb"BTRFS:? (?P<code>error|critical) \(device (?P<device>[\w.!-]{1,32})"),
        Kind.FS, "filesystem", Severity.ERROR, Action.WATCH, "btrfs met an error", "btrfs",
    ),
    Entry(
        "nfs-server", (b" not responding, ",),
        re.compile(rb"nfs: server (?P<device>[\w.:%-]{1,128}) not responding, (?:still trying|timed out)"),
        Kind.FS, "filesystem", Severity.WARNING, Action.WATCH, "an NFS server does not answer", "nfs",
    ),
)  # fmt: skip


def _buffer(match: re.Match[bytes], message: str) -> Fault:
    device = text(match["device"])
    return Fault(
        Kind.NVME if device.startswith("nvme") else Kind.OTHER,
        "io-error",
        device,
        "disk",
        Severity.ERROR,
        Action.WATCH,
        message,
        "a disk request failed",
        detail={"sector": text(match["sector"])},
    )
