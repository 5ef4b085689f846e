"""XID 144-150, NVLink 5: from two registers to an action, by driver version. Called by `xid.py`.

When the driver's version is not known, both layouts are tried, and the unit that the message names in clear decides
between them. What cannot be decoded is not guessed into a remedy: a line that the driver calls non-fatal is watched;
one that it calls fatal asks for the reset that nearly every fatal row of the table asks for, and `detail["decode"]`
says so. Each of these codes is followed by an XID 154 (R565 and later), which outranks all of it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ostler.faults.entry import text
from ostler.faults.model import Action, Severity
from ostler.faults.nvlink5_table import NVLINK5, Nvlink5Row

V2_BRANCH = 575
"""The first driver branch with the second layout of IntrInfo."""

_LINE = re.compile(
    rb", (?P<unit>[A-Z][A-Za-z0-9_/ ]{0,40}?)\s{1,8}(?P<fatal>Fatal|Nonfatal|Non-fatal)\b"
    rb"\s{0,8}(?P<xc>XC\d+)?\s{0,8}(?P<inj>i\d+)?\s{0,8}(?:Link (?P<link>-?\d{1,3}))?\s{0,8}"
    rb"(?:\((?P<info>0x[0-9a-fA-F]{1,8})(?:\s+(?P<status>0x[0-9a-fA-F]{1,8}))?)?"
)
_BRANCH = re.compile(r"\s*[Rr]?(\d{3,4})\b")
_GRAVITY = {"IGNORE": 0, "XID_154_EVAL": 1, "RESET_GPU": 2}


class Decoded(NamedTuple):
    severity: Severity
    action: Action
    detail: dict[str, str]


def branch(driver: str | None) -> int | None:
    """The driver's branch number: 570 of "570.124.06" and of "R570"; None when it is not a version."""
    found = _BRANCH.match(driver) if driver else None
    return int(found[1]) if found else None


def rows(xid: int, info: int, status: int | None, layout: int) -> list[Nvlink5Row]:
    """The table's rows that these registers match under layout 1 or 2. `status` None matches rows without one only.
    A receive-pipe row whose extra bit is set comes back with the bucket that the bit raises it to."""
    low = info & (0x3FF if layout == 1 else 0x7F)
    extra = bool(info & (1 << 10 if layout == 1 else 1 << 7))
    reason = info >> 20 & 0x3F
    found = []
    for row in NVLINK5:
        if row.xid != xid or reason != row.reason or low != (row.v1 if layout == 1 else row.v2):
            continue
        if row.status is not None and (
            status is None or not (status == row.status if row.exact else status & row.status)
        ):
            continue
        found.append(row._replace(bucket="RESET_GPU", fatal=True) if row.raised and extra else row)
    return found


def _agrees(row: Nvlink5Row, unit: str) -> bool:
    """Whether the row's unit is the one that the message names ("NETIR_LINK_EVT" of ".../NETIR_LINK_DOWN")."""
    return unit in row.unit.split("/") or unit == row.unit


def decode(xid: int, unit: str, info: int, status: int | None, driver: str | None) -> tuple[list[Nvlink5Row], str]:
    """(matching rows, how they were found: "v1", "v2", "v1 or v2", with "(guessed)" when the version is not known)."""
    number = branch(driver)
    if number is not None:
        layout = 1 if number < V2_BRANCH else 2
        return rows(xid, info, status, layout), f"v{layout}"
    candidates = {layout: rows(xid, info, status, layout) for layout in (1, 2)}
    named = {n: [r for r in found if _agrees(r, unit)] for n, found in candidates.items()}
    possible = {n: found for n, found in (named if any(named.values()) else candidates).items() if found}
    if not possible:
        return [], ""
    how = " or ".join(f"v{n}" for n in possible)
    return [r for found in possible.values() for r in found], f"{how} (guessed: driver version unknown)"


def decode_line(xid: int, rest: bytes, driver: str | None) -> Decoded:
    """Severity, action and details of a line, from what follows its code."""
    detail: dict[str, str] = {}
    found = _LINE.search(rest)
    if found is None:
        return Decoded(Severity.WARNING, Action.WATCH, {"decode": "undecoded: the message is cut off"})
    unit = text(found["unit"]).strip()
    said_fatal = found["fatal"] == b"Fatal"
    detail["unit"] = unit
    if found["link"] is not None:
        detail["link"] = text(found["link"])
    matched: list[Nvlink5Row] = []
    if found["info"] is not None:
        info = int(found["info"], 16)
        status = None if found["status"] is None else int(found["status"], 16)
        matched, how = decode(xid, unit, info, status, driver)
        if matched:
            detail["decode"] = how
    if not matched:
        detail["decode"] = "undecoded: not in the table" if found["info"] else "undecoded: the message is cut off"
        if said_fatal:
            return Decoded(Severity.FATAL, Action.RESET_GPU, detail)
        return Decoded(Severity.WARNING, Action.WATCH, detail)
    bucket = max((row.bucket for row in matched), key=_GRAVITY.__getitem__)
    detail["bucket"] = bucket
    if bucket == "RESET_GPU":
        return Decoded(Severity.FATAL, Action.RESET_GPU, detail)
    if bucket == "XID_154_EVAL":
        return Decoded(Severity.WARNING, Action.NONE, detail)
    return Decoded(Severity.ERROR if said_fatal else Severity.INFO, Action.NONE, detail)
