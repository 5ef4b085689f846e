"""The kernel itself and the machine around it: panics, lockups, hung tasks, heat. Joined by `catalogue.py`.
Message forms: Linux kernel/{panic,watchdog,hung_task}.c, kernel/rcu, arch/x86/kernel/cpu/mce/therm_throt.c,
drivers/thermal.
"""

from __future__ import annotations

import re

from ostler.faults.entry import Entry
from ostler.faults.model import Action, Kind, Severity


def _panic(name: str, anchors: tuple[bytes, ...], pattern: bytes, meaning: str) -> Entry:
    return Entry(name, anchors, re.compile(pattern), Kind.OTHER, "kernel", Severity.FATAL, Action.REBOOT, meaning, name)


ENTRIES: tuple[Entry, ...] = (
    _panic("panic", (b"Kernel panic - not syncing",), rb"Kernel panic - not syncing", "the kernel stopped"),
    _panic(
        "oops",
        (b"nable to handle ", b"kernel BUG at ", b"general protection fault", b"Oops: "),
        rb"BUG: unable to handle |Unable to handle kernel |(?:Internal error: )?Oops: |kernel BUG at "
        rb"|general protection fault[,:]",
        "the kernel met a bug or bad memory and is no longer to be trusted",
    ),
    _panic(
        "crash-requested", (b"Trigger a crash",), rb"sysrq: (?:SysRq : )?Trigger a crash",
        "someone crashed the kernel on purpose",
    ),
    Entry(
        "soft-lockup", (b"soft lockup - CPU#",),
        re.compile(rb"(?:watchdog: |NMI watchdog: )?BUG: soft lockup - (?P<device>CPU#\d{1,5}) stuck for "
                   rb"(?P<seconds>\d{1,9})s"),
        Kind.LOCKUP, "cpu", Severity.ERROR, Action.WATCH, "a processor made no progress", "soft-lockup",
    ),
    Entry(
        "hard-lockup", (b"hard LOCKUP on cpu",),
        re.compile(rb"(?:NMI watchdog: |watchdog: )?Watchdog detected hard LOCKUP on (?P<device>cpu \d{1,5})"),
        Kind.LOCKUP, "cpu", Severity.FATAL, Action.REBOOT, "a processor is stuck with interrupts off", "hard-lockup",
    ),
    Entry(
        "hung-task", (b" blocked for more than ",),
        re.compile(rb"INFO: task (?P<process>[^\n]{1,64}?):(?P<pid>\d{1,9}) blocked for more than "
                   rb"(?P<seconds>\d{1,9}) seconds"),
        Kind.LOCKUP, "kernel", Severity.WARNING, Action.WATCH, "a process waits for the kernel without end",
        "hung-task",
    ),
    Entry(
        "rcu-stall", (b"detected stall", b"detected expedited stall"),
        re.compile(rb"(?:rcu: )?INFO: (?:rcu_\w{1,20} )(?:self-)?detected (?:expedited )?stalls? on CPU"),
        Kind.LOCKUP, "cpu", Severity.ERROR, Action.WATCH, "a processor held up the kernel's housekeeping", "rcu-stall",
    ),
    Entry(
        "segfault", (b": segfault at ",),
        re.compile(
            rb"(?P<process>[^\n\[]{1,64})\[(?P<pid>\d{1,9})\]: segfault at [0-9a-fA-F]{1,16} ip [^\n]{0,120}?"
            rb"(?: in (?P<library>[^\s\[]{1,80})|$)"
        ),
        Kind.OTHER, "kernel", Severity.INFO, Action.NONE, "a program crashed", "segfault",
    ),
    Entry(
        "file-max", (b"VFS: file-max limit",),
        re.compile(rb"VFS: file-max limit (?P<limit>\d{1,20}) reached"),
        Kind.OTHER, "kernel", Severity.WARNING, Action.NONE, "no more open files are allowed on the node", "file-max",
    ),
    Entry(
        "cpu-throttled", (b"temperature above threshold",),
        re.compile(
            rb"(?:mce: )?(?P<device>CPU ?\d{1,5}): (?P<scope>Core|Package) temperature(?:/speed)? above "
            rb"threshold, cpu clock throttled"
        ),
        Kind.THERMAL, "cpu", Severity.WARNING, Action.WATCH, "the processor slowed down because it is hot", "throttled",
    ),
    Entry(
        "critical-temperature", (b"ritical temperature reached",),
        re.compile(
            rb"(?:thermal )?(?P<device>thermal[\w_ -]{0,40}?)(?: \(\d{1,4}\))?: [Cc]ritical temperature reached"
        ),
        Kind.THERMAL, "thermal", Severity.FATAL, Action.TRIAGE, "the machine is hot enough to switch itself off",
        "critical-temperature",
    ),
)  # fmt: skip
