"""What designers write for a cable's speed → lane speed and lanes. Called by `draft.py`."""

from __future__ import annotations

import re

from ostler.fabric.sweep import SPEEDS

_NAMED = re.compile(
    r"(?:(\d{1,2})x[ -]?)?(FDR10|SDR|DDR|QDR|FDR|EDR|HDR|NDR|XDR)(\d{2,4})?(?:[ -]?(\d{1,2})x)?", re.IGNORECASE
)
_RATE = re.compile(r"(\d{2,4})\s*(?:g|gb|gbps|gb/s|gbit/s|gbe)?", re.IGNORECASE)
_LANE_RATE = {"SDR": 2.5, "DDR": 5, "QDR": 10, "FDR10": 10, "FDR": 14, "EDR": 25, "HDR": 50, "NDR": 100, "XDR": 200}
_FOUR_LANES = {
    "10": "SDR", "20": "DDR", "40": "QDR", "56": "FDR", "100": "EDR", "200": "HDR", "400": "NDR", "800": "XDR",
}  # fmt: skip
"""Gb/s of four lanes, as they are sold, to the lane's speed."""


def speed_of(text: str) -> tuple[str, int] | None:
    """`NDR` → (NDR, 0); `4xNDR` → (NDR, 4); `NDR200` → (NDR, 2); `400G` → (NDR, 4); None: not understood.

    A rate alone is read as four lanes, which is what it is sold as.
    """
    text = text[:24].strip()
    if text in SPEEDS:
        return text, 0
    found = _NAMED.fullmatch(text)
    if found:
        speed = found[2].upper()
        lanes = int(found[1] or found[4] or 0)
        if found[3]:
            share = int(found[3]) / _LANE_RATE[speed]
            if share not in {1, 2, 4, 8, 12}:
                return None
            lanes = int(share)
        return speed, lanes
    found = _RATE.fullmatch(text)
    if found and found[1] in _FOUR_LANES:
        return _FOUR_LANES[found[1]], 4
    return None
