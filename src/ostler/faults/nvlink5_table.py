"""The decode of XID 144-150 (NVLink 5) as NVIDIA publishes it: which unit, which status, which action. Data only;
`nvlink5.py` reads it and tests/real compares it with the published table.

IntrInfo has two layouts. Drivers before R575 (V1): bits [9:5] the unit's number, [4:0] the group. From R575 (V2): bits
[6:0] the unit. In both, bits [25:20] hold the reason of a link event. A receive-pipe event carries one more bit, 10 in
V1 and 7 in V2, that makes it fatal.
"""

from __future__ import annotations

from typing import NamedTuple


class Nvlink5Row(NamedTuple):
    """`v1` and `v2` are the values of IntrInfo's low 10 and low 7 bits. `status` is a mask of ErrorStatus, or its exact
    value where `exact`; None where the table leaves it empty. `reason` is IntrInfo [25:20]."""

    xid: int
    unit: str
    v1: int
    v2: int
    status: int | None
    bucket: str
    fatal: bool
    reason: int = 0
    exact: bool = False
    raised: bool = False
    """The extra bit turns IGNORE into RESET_GPU (receive pipe)."""
    guarded: bool = False
    """The row also asks that the extra bit is clear, so it and the raised row part on it."""


I, R, E = "IGNORE", "RESET_GPU", "XID_154_EVAL"  # noqa: E741 (three buckets, 90 rows)


def _unit(
    xid: int, unit: str, v1: int, v2: int, *statuses: tuple[int, str, bool], exact: bool = False
) -> tuple[Nvlink5Row, ...]:
    return tuple(Nvlink5Row(xid, unit, v1, v2, s, b, f, exact=exact) for s, b, f in statuses)


def _tlw(unit: str, v1: int, v2: int) -> tuple[Nvlink5Row, ...]:
    return _unit(146, unit, v1, v2, (1, I, False), (2, I, False), (4, R, True), (1 << 31, I, False))


_LINK_DOWN_REASONS = {
    **dict.fromkeys((0, 1, 2, 4, 10, 15, 16, 17, 18, 21, 22, 32, 33, 34, 35, 36, 37, 42, 43), R),
    **dict.fromkeys((38, 40), I),
}

NVLINK5: tuple[Nvlink5Row, ...] = (
    *_unit(
        144, "SAW_MVB", 0b00001_00001, 1,
        (1, I, False), (2, R, True), (4, I, False), (8, I, False), (0x10, R, True), (0x20, I, False),
    ),
    *_unit(145, "RLW_CTRL", 0b00011_00010, 3, (1 << 31, I, False)),
    *_unit(
        145, "RLW_REMAP", 0b00100_00010, 4,
        (1, E, False), (2, E, False), (4, E, False), (8, E, False), (0x10, E, False), (0x20, E, False),
        (0x40, R, True), (0x80, R, True), (0x100, I, False), (0x200, I, False), (1 << 31, I, False),
    ),
    *_unit(145, "RLW_RSPCOL", 0b00101_00010, 5, (1, I, False), (2, R, True), (1 << 31, I, False)),
    *(
        Nvlink5Row(145, "RLW_RXPIPE", 0b00110_00010, 6, s, I, False, raised=True, guarded=True)
        for s in (1, 2, 4)
    ),
    *_unit(145, "RLW_RXPIPE", 0b00110_00010, 6, (8, I, False), (1 << 31, I, False)),
    *_unit(
        145, "RLW_SRC_TRACK", 0b00111_00010, 7,
        (1, R, True), (2, I, False), (4, E, False), (8, E, False), (0x10, R, True), (0x20, R, True),
        (1 << 31, I, False),
    ),
    *_unit(
        145, "RLW_TAGSTATE", 0b01000_00010, 8,
        (1, I, False), (2, R, True), (1 << 16, I, False), (1 << 17, R, True), (1 << 20, R, True),
        (1 << 31, I, False),
    ),
    *_tlw("TLW_CTRL", 0b01001_00011, 9),
    *_tlw("TLW_RX/TLW_RX_PIPE0", 0b01010_00011, 10),
    *_tlw("TLW_RX/TLW_RX_PIPE1", 0b01010_00011, 11),
    *_tlw("TLW_TX/TLW_TX_PIPE0", 0b01011_00011, 12),
    *_tlw("TLW_TX/TLW_TX_PIPE1", 0b01011_00011, 13),
    *_unit(147, "TREX", 0b01100_00100, 14, (1, I, False), (1 << 31, I, False)),
    *_unit(148, "NVLPW_CTRL/NVLPW", 0b00000_00101, 15, (1 << 31, I, False)),
    Nvlink5Row(149, "NETIR/NETIR_INT", 0b00000_00110, 24, None, R, True),
    *(
        Nvlink5Row(149, "NETIR_LINK_EVT/NETIR_LINK_DOWN", 0b01110_00110, 17, None, bucket, True, reason=reason)
        for reason, bucket in _LINK_DOWN_REASONS.items()
    ),
    *_unit(
        149, "NETIR_BER_EVENT", 0b10001_00110, 19,
        (0, I, False), (1, I, False), (2, I, False), (3, I, False), exact=True,
    ),
    *_unit(
        149, "NETIR_MFDE_EVENT", 0b10010_00110, 20,
        (1, R, True), (3, I, False), (4, R, True), (5, R, True), (7, R, True), exact=True,
    ),
    *_unit(150, "MSE Degraded", 0, 0, (0, R, True), (0xFFFFFFFF, R, True), exact=True),
    *_unit(150, "MSE_WATCHDOG", 0, 0, (0, R, True), exact=True),
)  # fmt: skip
