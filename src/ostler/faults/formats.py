"""From a line of a log file to (time, who wrote it, message). Used by `detector.py`; knows nothing of faults.

Understood: /dev/kmsg records, dmesg (bare, seconds, -T, -x, -r, iso, with callers), syslog (RFC 3164, RFC 5424, ISO
stamps), `journalctl -o json` and short forms, `ipmitool sel list`, the fabric manager's log, bare messages. A line says
by itself which it is; a format named by the user, or one that nine lines of ten in a file have, narrows what counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

LINE_LIMIT = 64 * 1024
"""Bytes of a line that are looked at. Kernel records are under 2 KiB; a journal entry with all fields under 10."""

KERNEL = "kernel"
UNKNOWN = ""
"""A bare message: nothing says who wrote it."""
USER = "user"
"""Written to the kernel's log by a program, or by someone who is not the kernel."""


class Format(StrEnum):
    """What `--format` takes. `dmesg` is every form that dmesg prints, and bare messages."""

    AUTO = "auto"
    KMSG = "kmsg"
    DMESG = "dmesg"
    SYSLOG = "syslog"
    JOURNAL_JSON = "journal-json"


class Record(NamedTuple):
    """`time`: ISO, the stamp as written where it lacks a year, seconds since boot, or None. `source`: "kernel", a
    program's name, USER or UNKNOWN. `family` is the form the line has; UNKNOWN sources have DMESG."""

    time: str | None
    source: str
    message: bytes
    family: Format


_MONTHS = {
    m: n for n, m in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)
}  # fmt: skip
_MICROS = re.compile("[0-9]{1,17}")
_KMSG = re.compile(rb"(\d{1,6}),\d{1,20},(\d{1,20}),[^;\n]{0,80};")
_SECONDS = re.compile(rb"\[ *(\d{1,10}\.\d{1,9})(?: <[ \d.+]{1,24}>)?\] ?")
_CALLER = re.compile(rb"\[ *[TC]\d{1,8}\] ?")
_CTIME = re.compile(rb"\[[A-Z][a-z]{2} ([A-Z][a-z]{2}) +(\d{1,2}) (\d\d:\d\d:\d\d) (\d{4})\] ?")
_FABRIC_MANAGER = re.compile(rb"\[([A-Z][a-z]{2}) +(\d{1,2}) (\d{4}) (\d\d:\d\d:\d\d)\] \[[A-Z]+\] \[tid \d{1,9}\] ")
_OTHER_BRACKET = re.compile(rb"\[(?:\.{3}|\d{1,10})\] ")
_DMESG_X = re.compile(rb"([a-z0-9]{2,10}) *:(?:emerg|alert|crit|err|warn|notice|info|debug) *: ?")
_DMESG_ISO = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d),(\d{1,9})([+-]\d\d:?\d\d|Z)? ")
_ISO = re.compile(rb"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?) ")
_RFC3164 = re.compile(rb"([A-Z][a-z]{2} [ \d]\d (?:\d{4} )?\d\d:\d\d:\d\d(?:\.\d{1,9})?) ")
_RFC5424 = re.compile(
    rb"1 (\d{4}-\d\d-\d\dT[\d:.]{8,18}(?:Z|[+-]\d\d:\d\d)|-) \S{1,255} (\S{1,48}) \S{1,128} \S{1,32} "
    rb"(?:-|\[[^\n]{0,2048}?\]) ?(?:\xef\xbb\xbf)?"
)
_PRIORITY = re.compile(rb"<(\d{1,3})>")
_KERNEL_TAG = re.compile(rb"(?:[A-Za-z0-9][^\s:\[\]]{0,254} )?kernel: ?")
_PROGRAM_TAG = re.compile(rb"(?:[A-Za-z0-9][^\s\[\]]{0,254} )?([A-Za-z_(][^\s:\[\]]{0,63})(?:\[\d{1,9}\])?: ")
_OWN_TAG = re.compile(rb"([A-Za-z_(][^\s:\[\]]{0,63})(?:\[\d{1,9}\])?: ")
_SEL = re.compile(rb" *[0-9a-fA-F]{1,4} \| (\d\d)/(\d\d)/(\d{2,4}) \| (\d\d:\d\d:\d\d)(?: [A-Z]{2,5})? \| ")


def _kernel_message(line: bytes, at: int) -> bytes:
    """What follows a kernel stamp or tag: seconds, callers, a second tag are taken off as well."""
    while True:
        if line[at : at + 1] != b"[" and line.find(b"kernel:", at) < 0:
            return line[at:]  # nearly every line; the rest is for the odd ones
        found = _SECONDS.match(line, at) or _CALLER.match(line, at) or _KERNEL_TAG.match(line, at)
        if found is None:
            stamped = _RFC3164.match(line, at)
            found = stamped and _KERNEL_TAG.match(line, stamped.end())
        if found is None or found.end() == at:
            return line[at:]
        at = found.end()


def _ctime(month: bytes, day: bytes, year: bytes, clock: bytes) -> str | None:
    number = _MONTHS.get(month)
    return None if number is None else f"{year.decode()}-{number:02}-{int(day):02}T{clock.decode()}"


def _kmsg(line: bytes) -> Record | None:
    found = _KMSG.match(line)
    if found is None:
        return None
    micros = found[2]
    time = f"{int(micros) // 1_000_000}.{int(micros) % 1_000_000:06}"
    message = line[found.end() :]
    return _by_facility(int(found[1]), time, message, Format.KMSG)


def _by_facility(priority: int, time: str | None, message: bytes, family: Format) -> Record:
    """Facility 0 is the kernel. Programs that write to /dev/kmsg (systemd does) put their name first."""
    if priority >> 3 == 0:
        return Record(time, KERNEL, _kernel_message(message, 0), family)
    tag = _OWN_TAG.match(message)
    if tag is not None and tag[1] != b"kernel":
        return Record(time, tag[1].decode("ascii", "replace"), message[tag.end() :], family)
    return Record(time, USER, message, family)


def _bracket(line: bytes, at: int, source: str) -> Record | None:
    """dmesg with a stamp in brackets, and the fabric manager's log."""
    found = _SECONDS.match(line, at)
    if found is not None:
        # journalctl -o short-monotonic puts host and program behind the seconds; the kernel's own line has neither.
        end = found.end()
        if line[end : end + 1] == b"[":
            caller = _CALLER.match(line, end)
            end = caller.end() if caller else end
        tag = _KERNEL_TAG.match(line, end)
        message = _kernel_message(line, tag.end()) if tag else line[end:]
        return Record(found[1].decode(), source, message, Format.DMESG)
    found = _CTIME.match(line, at)
    if found is not None:
        return Record(_ctime(found[1], found[2], found[4], found[3]), source, line[found.end() :], Format.DMESG)
    found = _FABRIC_MANAGER.match(line, at)
    if found is not None:
        stamp = _ctime(found[1], found[2], found[3], found[4])
        return Record(stamp, "nvidia-fabricmanager", line[found.end() :], Format.SYSLOG)
    found = _OTHER_BRACKET.match(line, at)
    if found is not None:
        return Record(None, source, line[found.end() :], Format.DMESG)
    return None


def _tagged(line: bytes, at: int, time: str, facility: int | None) -> Record:
    """What follows a syslog stamp: host and tag. Only `kernel:` speaks for the kernel, and only with its facility."""
    tag = _KERNEL_TAG.match(line, at)
    if tag is not None:
        if facility:
            return Record(time, USER, line[tag.end() :], Format.SYSLOG)
        return Record(time, KERNEL, _kernel_message(line, tag.end()), Format.SYSLOG)
    tag = _PROGRAM_TAG.match(line, at)
    if tag is not None:
        return Record(time, tag[1].decode("ascii", "replace"), line[tag.end() :], Format.SYSLOG)
    return Record(time, USER, line[at:], Format.SYSLOG)


def _syslog(line: bytes, at: int, facility: int | None) -> Record | None:
    found = _RFC3164.match(line, at) or _ISO.match(line, at)
    if found is not None:
        return _tagged(line, found.end(), found[1].decode(), facility)
    return None


def _priority(line: bytes) -> Record | None:
    """`<6>[ 2.9] …` (dmesg -r), `<6>Nov 28 …` and `<6>1 2025-…` (syslog on the wire)."""
    found = _PRIORITY.match(line)
    if found is None:
        return None
    facility, at = int(found[1]) >> 3, found.end()
    full = _RFC5424.match(line, at)
    if full is not None:
        time = None if full[1] == b"-" else full[1].decode()
        program = full[2].decode("ascii", "replace")
        if program == KERNEL:
            source = USER if facility else KERNEL
            message = line[full.end() :] if facility else _kernel_message(line, full.end())
            return Record(time, source, message, Format.SYSLOG)
        return Record(time, program, line[full.end() :], Format.SYSLOG)
    stamped = _syslog(line, at, facility)
    if stamped is not None:
        return stamped
    if facility:
        inner = _bracket(line, at, USER)
        if inner is None:
            return _by_facility(facility << 3, None, line[at:], Format.DMESG)
        return _by_facility(facility << 3, inner.time, inner.message, Format.DMESG)
    return _bracket(line, at, KERNEL) or Record(None, KERNEL, line[at:], Format.DMESG)


def _decoded_dmesg(line: bytes) -> Record | None:
    """`kern  :warn  : stamp message` (dmesg -x)."""
    found = _DMESG_X.match(line)
    if found is None:
        return None
    at, time = found.end(), None
    iso = _DMESG_ISO.match(line, at)
    if iso is not None:
        at, time = iso.end(), f"{iso[1].decode()}.{iso[2].decode()}{(iso[3] or b'').decode()}"
        inner = Record(time, KERNEL, line[at:], Format.DMESG)
    else:
        inner = _bracket(line, at, KERNEL) or Record(None, KERNEL, line[at:], Format.DMESG)
    if found[1] == b"kern":
        return inner
    return _by_facility(8, inner.time, inner.message, Format.DMESG)


def _journal(line: bytes) -> Record | None:
    """One entry of `journalctl -o json`. The fields with a leading underscore are journald's own and cannot be "
    "forged."""
    if not line.startswith(b"{"):
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    raw = entry.get("MESSAGE")
    if isinstance(raw, list):  # bytes that are not UTF-8, or hold control characters
        try:
            message = bytes(raw)
        except (ValueError, TypeError):
            return None
    elif isinstance(raw, str):
        message = raw.encode("utf-8", "replace")
    else:
        return None
    time = None
    micros = entry.get("__REALTIME_TIMESTAMP") or entry.get("_SOURCE_REALTIME_TIMESTAMP")
    if isinstance(micros, str | int) and _MICROS.fullmatch(str(micros)):
        time = datetime.fromtimestamp(int(micros) / 1e6, UTC).isoformat(timespec="microseconds")
    if entry.get("_TRANSPORT") == "kernel":
        facility = entry.get("SYSLOG_FACILITY", "0")
        if str(facility) == "0":
            return Record(time, KERNEL, _kernel_message(message, 0), Format.JOURNAL_JSON)
        return Record(time, USER, message, Format.JOURNAL_JSON)
    unit = entry.get("_SYSTEMD_UNIT")
    name = unit.removesuffix(".service") if isinstance(unit, str) else entry.get("SYSLOG_IDENTIFIER")
    if not isinstance(name, str) or name in ("", KERNEL):
        name = USER
    return Record(time, name, message, Format.JOURNAL_JSON)


def _sel(line: bytes) -> Record | None:
    found = _SEL.match(line)
    if found is None:
        return None
    month, day, year, clock = (part.decode() for part in found.groups())
    year = f"20{year}" if len(year) == 2 else year
    return Record(f"{year}-{month}-{day}T{clock}", "sel", line[found.end() :], Format.DMESG)


def parse(line: bytes) -> Record | None:
    """Take one line apart. None for what is no record: blank lines, a kmsg record's continuation, broken JSON."""
    first = line[:1]
    if first == b"[":
        return _bracket(line, 0, KERNEL) or Record(None, UNKNOWN, line, Format.DMESG)
    if first == b"{":
        found = _journal(line)
        if found is not None or line[1:2] == b'"':
            return found
        return Record(None, UNKNOWN, line, Format.DMESG)  # "{1}[Hardware Error]: ..."
    if first == b"<":
        return _priority(line) or Record(None, UNKNOWN, line, Format.DMESG)
    if first.isdigit():
        iso = _DMESG_ISO.match(line)
        if iso is not None:
            time = f"{iso[1].decode()}.{iso[2].decode()}{(iso[3] or b'').decode()}"
            return Record(time, KERNEL, _kernel_message(line, iso.end()), Format.DMESG)
        return _kmsg(line) or _syslog(line, 0, None) or _sel(line) or Record(None, UNKNOWN, line, Format.DMESG)
    if first == b" ":
        return _sel(line)
    if not line:
        return None
    stamped = _syslog(line, 0, None) or _decoded_dmesg(line)
    if stamped is not None:
        return stamped
    tag = _KERNEL_TAG.match(line)
    if tag is not None:
        return Record(None, KERNEL, _kernel_message(line, tag.end()), Format.DMESG)
    return _sel(line) or Record(None, UNKNOWN, line, Format.DMESG)


SAMPLE_LINES = 64


def sniff(lines: Iterable[bytes]) -> Format:
    """The stamped form that nine of ten of these lines have, else AUTO."""
    counts: dict[Format, int] = {}
    total = 0
    for line in lines:
        if total == SAMPLE_LINES:
            break
        record = parse(line[:LINE_LIMIT])
        if record is None:
            continue
        total += 1
        counts[record.family] = counts.get(record.family, 0) + 1
    for family in (Format.KMSG, Format.SYSLOG, Format.JOURNAL_JSON):
        if total >= 2 and counts.get(family, 0) * 10 >= total * 9:
            return family
    return Format.AUTO


def believed(record: Record, chosen: Format, seen: Format) -> bool:
    """Whether a record counts in this file. `chosen` is what the user named: only that family (and AUTO: any). `seen`
    is what `sniff` found: in a stamped file a bare line belongs to what some program wrote there. Other stamped forms
    count, because logs get joined."""
    if chosen is not Format.AUTO:
        return record.family is chosen
    return record.source != UNKNOWN or seen is Format.AUTO
