"""Words and numbers that the field's tools share, read once: GUIDs, counters, widths, speeds, states, lines of a file.

Called by the readers of ibdiagnet, UFM, mlxlink, perfquery and ibqueryerrors. Nothing here raises on hostile text: what
is no number is None, what is no word is empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from io import BytesIO
from math import isfinite

from ostler.fabric.sweep import SPEEDS, Physical, PortState, ProblemKind, Sweep

LINE = 1 << 20
"""Bytes of a line; a longer one is no tool's output. The longest real ones, of ibdiagnet, have a few kilobytes."""
TEXT = 256
"""Characters kept of a name, a serial number or a description; NodeDescription has 64 bytes."""

COUNTERS: Mapping[str, str] = {
    "symbolerrorcounter": "symbol_error",
    "linkerrorrecoverycounter": "link_error_recovery",
    "linkdownedcounter": "link_downed",
    "portrcverrors": "port_rcv_errors",
    "portrcvremotephysicalerrors": "port_rcv_remote_physical_errors",
    "portrcvswitchrelayerrors": "port_rcv_switch_relay_errors",
    "portxmitdiscards": "port_xmit_discards",
    "portxmitconstrainterrors": "port_xmit_constraint_errors",
    "portrcvconstrainterrors": "port_rcv_constraint_errors",
    "locallinkintegrityerrors": "local_link_integrity_errors",
    "excessivebufferoverrunerrors": "excessive_buffer_overrun_errors",
    "vl15dropped": "vl15_dropped",
    "portxmitwait": "port_xmit_wait",
    "portxmitdata": "port_xmit_data",
    "portrcvdata": "port_rcv_data",
    "portxmitpkts": "port_xmit_packets",
    "portrcvpkts": "port_rcv_packets",
}
"""PortCounters of the InfiniBand specification (16.1.3.5), in lower case → the name that Linux has for it in sysfs."""

ERRORS = tuple(name for name in COUNTERS.values() if "data" not in name and "packets" not in name)
"""Those that a healthy port leaves alone."""

_COUNTER_MAX = 1 << 64
_SMALL = {str(number): number for number in range(1024)}
"""Most numbers in a dump: port numbers, states, counters of healthy ports."""
_HEX = re.compile(r"(?:0x)?([0-9a-fA-F]{1,16})")
_NUMBER = re.compile(r"[-+]?\d{1,18}(?:\.\d{0,18})?(?:[eE][-+]?\d{1,3})?")
WIDTH_BITS: Mapping[int, int] = {1: 1, 2: 4, 4: 8, 8: 12, 16: 2}
"""LinkWidth of PortInfo, one bit each → lanes."""
SPEED_BITS: Mapping[int, str] = {
    1: "SDR", 2: "DDR", 4: "QDR", 1 << 8: "FDR", 1 << 9: "EDR", 1 << 10: "HDR", 1 << 11: "NDR", 1 << 12: "XDR",
    1 << 16: "FDR10",
}  # fmt: skip
"""LinkSpeed and LinkSpeedExt of PortInfo in one number, as ibdiagnet writes them → name."""
_WIDTHS: Mapping[str, int] = {f"{lanes}x": lanes for lanes in WIDTH_BITS.values()}
_LANE_GBPS: Mapping[str, str] = {
    "2.5": "SDR", "5": "DDR", "5.0": "DDR", "10": "QDR", "10.0": "QDR", "14": "FDR", "25": "EDR", "50": "HDR",
    "100": "NDR", "200": "XDR",
}  # fmt: skip
"""Data rate of a lane in Gb/s, as ibdiagnet rounds it → name."""
_STATES: Mapping[str, PortState] = {
    "1": PortState.DOWN, "2": PortState.INIT, "3": PortState.ARMED, "4": PortState.ACTIVE,
    "down": PortState.DOWN, "dow": PortState.DOWN, "dwn": PortState.DOWN, "ini": PortState.INIT, "init": PortState.INIT,
    "initialize": PortState.INIT, "arm": PortState.ARMED, "armed": PortState.ARMED, "act": PortState.ACTIVE,
    "active": PortState.ACTIVE,
}  # fmt: skip
_PHYSICAL: Mapping[str, Physical] = {
    "1": Physical.SLEEP, "2": Physical.POLLING, "3": Physical.DISABLED, "4": Physical.TRAINING, "5": Physical.LINK_UP,
    "6": Physical.RECOVERY, "7": Physical.TEST, "sleep": Physical.SLEEP, "poll": Physical.POLLING,
    "polling": Physical.POLLING, "disable": Physical.DISABLED, "disabled": Physical.DISABLED, "dis": Physical.DISABLED,
    "train": Physical.TRAINING, "training": Physical.TRAINING, "portconfigurationtraining": Physical.TRAINING,
    "linkup": Physical.LINK_UP, "recover": Physical.RECOVERY, "linkerrorrecovery": Physical.RECOVERY,
    "recovery": Physical.RECOVERY, "phytest": Physical.TEST, "test": Physical.TEST,
}  # fmt: skip


def lines(data: bytes, sweep: Sweep) -> Iterator[tuple[int, str]]:
    """Line number, from 1, and text without its end. A line that no tool can have written is noted and left out."""
    for number, raw in enumerate(BytesIO(data), 1):
        if len(raw) > LINE:
            sweep.trouble(
                ProblemKind.UNREADABLE, f"a line of {len(raw)} bytes, which no tool writes, was left out", line=number
            )
        elif b"\0" in raw:
            sweep.trouble(ProblemKind.UNREADABLE, "a line with NUL bytes was left out", line=number)
        else:
            yield number, raw.decode("utf-8", "replace").rstrip("\r\n")


def guid(text: object) -> int | None:
    """`0x98039b0300a1b2c3`, with or without 0x; None for anything else, and for 0."""
    return _guid(text.strip()) if isinstance(text, str) and len(text) < 80 else None


@lru_cache(maxsize=1 << 16)
def _guid(text: str) -> int | None:
    """Kept: every port of a node says it again."""
    found = _HEX.fullmatch(text)
    return (int(found[1], 16) or None) if found else None


def whole(text: object, most: int = _COUNTER_MAX) -> int | None:
    """A number without sign, decimal or with 0x, below `most`; None for anything else."""
    if not isinstance(text, str):
        return text if isinstance(text, int) and not isinstance(text, bool) and 0 <= text < most else None
    small = _SMALL.get(text)
    if small is not None:
        return small if small < most else None
    text = text.strip()
    if text.isdecimal() and text.isascii() and len(text) <= 20:
        value = int(text)
    elif text[:2] in ("0x", "0X") and (found := _HEX.fullmatch(text)):
        value = int(found[1], 16)
    else:
        return None
    return value if value < most else None


def number(text: object) -> float | None:
    """The number that a text begins with: `45 [-10..75]` → 45.0, `42C` → 42.0; None for anything else."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text) if abs(text) < 1e18 and isfinite(text) else None
    if not isinstance(text, str):
        return None
    found = _NUMBER.match(text.strip()[:64])
    return float(found[0]) if found else None


def ber(text: object) -> float | None:
    """A bit error rate; 0.0 for what the tools show where there was no error: 15E-255, 1.5E-254, 0."""
    value = number(text)
    if value is None or not 0 <= value <= 1:
        return None
    return 0.0 if value < 1e-100 else value


def words(text: object) -> str:
    """A name as it is shown: no quotes around it, no control characters, not endless; empty where there is none."""
    if not isinstance(text, str):
        return ""
    text = text[: 4 * TEXT].strip().strip('"').strip()
    if not text.isprintable():
        text = "".join(sign for sign in text if sign.isprintable())
    text = text[:TEXT]
    return "" if text in ("N/A", "NA", "None") else text


def width(text: object) -> int:
    """Lanes, of `4x`, `4X`, `IB_4x`; 0 where it is not said."""
    return _WIDTHS.get(text.strip().lower().removeprefix("ib_"), 0) if isinstance(text, str) else 0


def speed(text: object) -> str:
    """A key of `SPEEDS`, of its name, of mlxlink's `IB-NDR`, of ibdiagnet's rate of a lane; empty: not said."""
    if not isinstance(text, str):
        return ""
    name = text.strip().upper().removeprefix("IB-")
    return name if name in SPEEDS else _LANE_GBPS.get(name, "")


@lru_cache(maxsize=1024)
def widest(bits: int | None) -> int:
    """The most lanes of a LinkWidth mask of PortInfo; 0: none."""
    return max((lanes for bit, lanes in WIDTH_BITS.items() if bits and bits & bit), default=0)


@lru_cache(maxsize=1024)
def fastest(bits: int | None) -> str:
    """The fastest speed of a LinkSpeed mask; empty: none."""
    names = [name for bit, name in SPEED_BITS.items() if bits and bits & bit]
    return max(names, key=SPEEDS.__getitem__, default="")


@lru_cache(maxsize=1024)
def state(text: str) -> PortState:
    return _STATES.get(text.strip().lower(), PortState.UNKNOWN)


@lru_cache(maxsize=1024)
def physical(text: str) -> Physical:
    return _PHYSICAL.get(text.strip().lower().replace(" ", "").replace("_", "").replace("-", ""), Physical.UNKNOWN)
