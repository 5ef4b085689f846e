"""The whole catalogue: every topical table in one order, and the index from an anchor to the entries it can mean.
Read by `detector.py` (one message) and `bulk.py` (whole files).

To find a line fast, a scan looks only for the anchors, literals of which every line worth reading holds one; which
ones it holds tells which entries are worth trying, and those are matched at the start of the message. `COVERS` are
fewer and shorter literals for the engine that has to look for each one by itself.
"""

from __future__ import annotations

from ostler.faults import gpu, memory, network, pcie, sel, storage, system
from ostler.faults.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    *gpu.ENTRIES,
    *pcie.ENTRIES,
    *network.ENTRIES,
    *memory.ENTRIES,
    *storage.ENTRIES,
    *system.ENTRIES,
    *sel.ENTRIES,
)
"""In order of precedence: of several entries that match one line, the first counts."""

DRIVER_BANNER_ANCHOR = b"NVRM: loading NVIDIA UNIX"
"""No fault: the line with which the NVIDIA driver states its version, needed to decode XID 144-150."""

ANCHORS: tuple[bytes, ...] = (
    *dict.fromkeys(anchor for entry in ENTRIES for anchor in entry.anchors),
    DRIVER_BANNER_ANCHOR,
)

_BITS = {anchor: 1 << n for n, anchor in enumerate(ANCHORS)}
_ENTRY_BITS = tuple((sum(_BITS[a] for a in entry.anchors), entry) for entry in ENTRIES)
DRIVER_BANNER_BIT = _BITS[DRIVER_BANNER_ANCHOR]
_BY_MASK: dict[int, tuple[Entry, ...]] = {}


COVERED: dict[bytes, tuple[str, ...]] = {
    b"rror": (
        "aer-bus-error", "probe-failed", "machine-check", "machine-check-logged", "machine-check-uncorrected",
        "machine-check-corrected", "ghes", "ghes-source", "nvme-command", "block-error", "buffer-error", "ext4-error",
        "nvme-frozen",
    ),
    b"NVRM: ": ("xid", "gpu-off-bus", "gsp-rpc", "gpu-init", "gpu-power-cable", "row-remap"),
    b"mlx5_core ": (
        "mlx5-module", "mlx5-link", "mlx5-health", "mlx5-syndrome", "mlx5-hot", "mlx5-command-timeout",
        "mlx5-command-failed", "mlx5-slot-power", "mlx5-tx-timeout", "mlx5-rx-timeout",
    ),
    b"nvme nvme": ("nvme-down", "nvme-gone", "nvme-timeout", "nvme-abort"),
    b"BTRFS": ("btrfs-error",),
    b"XFS (": ("xfs-shutdown", "xfs-error"),
    b"pcieport ": ("aer-received", "aer-recovery-failed", "dpc", "pcie-removed"),
    b"sserted": ("sel",),
    b"detected ": ("fabric-manager", "hard-lockup", "rcu-stall", "peermem"),
}  # fmt: skip
"""By literal, the entries whose patterns demand it: looking for it once replaces looking for each of their anchors."""


def _cover_groups() -> tuple[tuple[bytes, tuple[int, ...]], ...]:
    """(literal to look for, numbers of the anchors to look for in the lines that hold it)."""
    covered = {name: cover for cover, names in COVERED.items() for name in names}
    number = {anchor: n for n, anchor in enumerate(ANCHORS)}
    groups: dict[bytes, set[int]] = {}
    for entry in ENTRIES:
        for anchor in entry.anchors:
            groups.setdefault(covered.get(entry.name, anchor), set()).add(number[anchor])
    groups[b"NVRM: "].add(number[DRIVER_BANNER_ANCHOR])
    return tuple((literal, tuple(sorted(numbers))) for literal, numbers in groups.items())


COVERS = _cover_groups()


_COVER_BITS = tuple(
    (
        cover,
        tuple((ANCHORS[n], 1 << n) for n in numbers if ANCHORS[n] != cover),
        sum(1 << n for n in numbers if ANCHORS[n] == cover),
    )
    for cover, numbers in COVERS
)


def anchors_in(message: bytes) -> int:
    """Which anchors the message holds beside their cover, as a bit mask over `ANCHORS`."""
    mask = 0
    for cover, anchors, bit in _COVER_BITS:
        if cover in message:
            mask |= bit
            for anchor, anchor_bit in anchors:
                if anchor in message:
                    mask |= anchor_bit
    return mask


def entries_for(mask: int) -> tuple[Entry, ...]:
    """The entries that a line with these anchors can match, in order of precedence."""
    known = _BY_MASK.get(mask)
    if known is None:
        if len(_BY_MASK) > 4096:  # a hostile log could hold any combination
            _BY_MASK.clear()
        known = _BY_MASK[mask] = tuple(entry for bits, entry in _ENTRY_BITS if bits & mask)
    return known
