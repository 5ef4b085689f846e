"""Every XID code that NVIDIA's catalogue (2026, codes 1 to 172) lists, with the bucket of its immediate action and what
it means in a few words of ours. Data only; `xid.py` says what a bucket leads to. tests/real compares it with the
published table.
"""

from __future__ import annotations

from typing import NamedTuple


class XidRow(NamedTuple):
    """One code. `bucket` is NVIDIA's immediate action, empty where the catalogue gives none (162-172)."""

    code: int
    bucket: str
    meaning: str
    unused: bool = False


def _rows(bucket: str, meanings: dict[int, str]) -> tuple[XidRow, ...]:
    return tuple(XidRow(code, bucket, meaning) for code, meaning in meanings.items())


_COPY_ENGINES = {39: 0, 40: 1, 41: 2, 70: 3, 71: 4, 72: 5, 75: 6, 76: 7, 77: 8, 85: 9} | {
    code: code - 116 for code in range(126, 136)
}
_DECODERS = {68: 0, 83: 1, 84: 2, 88: 3, 89: 4, 96: 5, 97: 6, 98: 7}
_JPEG = {82: 0, 99: 1, 100: 2, 101: 3, 102: 4, 103: 5, 104: 6, 105: 7}

_RESTART_APP = (
    {
        8: "a channel made no progress and was stopped",
        11: "invalid command stream from an application",
        13: "exception in the compute engine, as a rule an application's fault",
        25: "illegal command stream from an application",
        31: "an application touched GPU memory it does not own",
        32: "corrupted command stream seen by the DMA controller",
        60: "exception in the security processor's video path",
        69: "an application used an engine class wrongly",
        80: "command stream reached the GPU corrupted",
        86: "optical flow engine exception",
        94: "memory error contained to the application that met it",
        139: "second optical flow engine exception",
    }
    | {code: f"copy engine {n} exception" for code, n in _COPY_ENGINES.items()}
    | {code: f"video decoder {n} exception" for code, n in _DECODERS.items()}
    | {code: f"JPEG decoder {n} exception" for code, n in _JPEG.items()}
)

_IGNORE = {
    37: "context-switch firmware met an unknown method",
    38: "context-switch firmware watchdog expired",
    43: "an application's channel was stopped by a software fault",
    44: "engine fault during a context switch",
    63: "a memory row or page was marked for remapping",
    66: "the driver touched a register it may not",
    67: "the driver violated a firmware check",
    92: "many single-bit memory errors in a short time",
    93: "the GPU's configuration store is being rewritten too often",
    106: "management test message",
    107: "silent management test message",
    121: "corrected error on the chip-to-chip link",
    137: "a peer's NVLink access was refused",
    141: "fault on the fast launch path",
    152: "deep learning accelerator address translation fault",
    153: "deep learning accelerator timeout",
    157: "no spare resources left to retire a faulty one",
    160: "a channel was retired",
    161: "a channel could not be retired",
}

_RESET_GPU = {
    46: "the GPU stopped answering",
    62: "the GPU's power-management controller halted",
    64: "a faulty memory row could not be remapped",
    95: "memory error not contained: other applications may have read bad data",
    109: "a context switch did not complete",
    110: "the GPU's security unit reported a fault",
    119: "the GPU's system processor did not answer the driver",
    120: "the GPU's system processor failed",
    136: "NVLink training failed",
    140: "uncorrectable memory error outside the usual reporting",
    143: "the GPU failed to initialise",
    155: "an NVLink went down for a software-defined reason",
    156: "a faulty resource was retired; a reset activates it",
    158: "the GPU timed out for good",
}

_SINGLE: dict[int, tuple[str, str]] = {
    45: ("WORKFLOW_XID_45", "work removed after an earlier error"),
    48: ("WORKFLOW_XID_48", "uncorrectable (double-bit) memory error"),
    54: ("CHECK_MECHANICALS", "auxiliary power is not connected to the GPU board"),
    74: ("WORKFLOW_NVLINK_ERR", "NVLink error"),
    78: ("UPDATE_SWFW", "a virtual GPU could not start"),
    79: ("RESTART_BM", "the GPU no longer answers on the PCIe bus"),
    142: ("CONTACT_SUPPORT", "video encoder 3 exception"),
    144: ("WORKFLOW_NVLINK5_ERR", "NVLink error in the crossbar interface"),
    145: ("WORKFLOW_NVLINK5_ERR", "NVLink error in the receive and request path"),
    146: ("WORKFLOW_NVLINK5_ERR", "NVLink error in the transaction layer"),
    147: ("WORKFLOW_NVLINK5_ERR", "NVLink error in the traffic exerciser"),
    148: ("WORKFLOW_NVLINK5_ERR", "NVLink error in the wrapper control"),
    149: ("WORKFLOW_NVLINK5_ERR", "NVLink port event or link down"),
    150: ("WORKFLOW_NVLINK5_ERR", "NVLink management engine failed"),
    151: ("RESTART_VM", "key rotation failed"),
    154: ("XID_154", "the driver changed the recovery action it asks for"),
    159: ("CHECK_UVM", "error without data on the coherent CPU link"),
    162: ("", "power smoothing is active again"),
    163: ("", "power smoothing was switched off"),
    164: ("", "power smoothing circuitry is near the end of its life"),
    165: ("", "power smoothing circuitry is worn out"),
    166: ("", "NVLink traffic arrived before its encryption was set up"),
    167: ("", "PCIe transactions timed out for good"),
    168: ("", "usable GPU memory shrank: errors in the protected region"),
    169: ("", "the GPU's security processor halted"),
    170: ("", "NVLink interrupt in confidential mode"),
    171: ("", "which DRAM an uncorrectable error came from"),
    172: ("", "which SRAM an uncorrectable error came from"),
}

_UNUSED_IGNORE = (14, 108)
_UNUSED = (
    *range(1, 8), 9, 10, 12, *range(15, 25), *range(26, 31), *range(33, 37), 42, 47, *range(49, 54),
    *range(55, 60), 61, 65, 73, 81, 87, 90, 91, *range(111, 119), *range(122, 126), 138,
)  # fmt: skip

XIDS: dict[int, XidRow] = {
    row.code: row
    for row in (
        *_rows("RESTART_APP", _RESTART_APP),
        *_rows("IGNORE", _IGNORE),
        *_rows("RESET_GPU", _RESET_GPU),
        *(XidRow(code, bucket, meaning) for code, (bucket, meaning) in _SINGLE.items()),
        *(XidRow(code, "IGNORE", "a code that the catalogue lists as unused", True) for code in _UNUSED_IGNORE),
        *(XidRow(code, "CONTACT_SUPPORT", "a code that the catalogue lists as unused", True) for code in _UNUSED),
    )
}
"""By code."""
