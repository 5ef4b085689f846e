"""A GPU against its siblings and its SKU: robust medians, pure functions over one column. Used by `fleet_view`.

More is worse in everything here. Siblings lie along the first axis of a `[8, groups]` array; NaN is nobody.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ostler.health.fleet_history import Bools, Floats

ROBUST = np.float32(1.4826)
"""The median absolute deviation of a normal distribution times this is its standard deviation."""

Rows = NDArray[np.intp]


class Yardstick(NamedTuple):
    """What a deviation is measured with."""

    z: float
    floor: float
    share: float

    def scale(self, median: Floats, mad: Floats) -> Floats:
        """One deviation, so that `z` of them are the least that counts."""
        least = np.maximum(np.float32(self.floor), np.float32(self.share) * np.abs(median)) / np.float32(self.z)
        return np.asarray(np.maximum(ROBUST * mad, least), np.float32)


class Standing(NamedTuple):
    """Some rows measured against a group; one entry per row."""

    median: Floats
    z: Floats
    others: NDArray[np.intp]
    """How many it was compared with."""


def _middle(ordered: Floats, count: NDArray[np.intp]) -> Floats:
    """The median along axis 0 of columns that are sorted with NaN last and hold `count` values (at least 1)."""
    low = np.take_along_axis(ordered, ((np.maximum(count, 1) - 1) // 2)[None], axis=0)[0]
    high = np.take_along_axis(ordered, (count // 2)[None], axis=0)[0]
    return np.asarray((low + high) * np.float32(0.5), np.float32)


def against_others(own: Floats, others: Floats, yardstick: Yardstick) -> Standing:
    """Measure `own[k]` against the column `others[:, k]`, in which NaN is nobody."""
    count = np.asarray(np.count_nonzero(~np.isnan(others), axis=0), np.intp)
    median = _middle(np.sort(others, axis=0), count)
    mad = _middle(np.sort(np.abs(others - median), axis=0), count)
    return Standing(median, (own - median) / yardstick.scale(median, mad), count)


def against_siblings(values: Floats, slot: Rows, group: Rows, yardstick: Yardstick) -> Standing:
    """Measure each `values[slot, group]` against the rest of its group: `values` is `[8, groups]`."""
    others = values[:, group]
    each = np.arange(len(group))
    own = others[slot, each]
    others[slot, each] = np.nan
    return against_others(own, others, yardstick)


def groups_with_an_outlier(values: Floats, yardstick: Yardstick, least: int) -> Rows:
    """Which groups of `[8, groups]` hold one that deviates from at least `least` siblings?

    Only the worst of each group is measured: its siblings are the most alike, so if it does not deviate none does.
    """
    ordered = np.sort(np.ascontiguousarray(values.T), axis=1).T
    count = np.asarray(np.count_nonzero(~np.isnan(ordered), axis=0), np.intp)
    kept = np.flatnonzero(count > least)
    if not len(kept):
        return kept
    if len(kept) < ordered.shape[1]:
        ordered, count = ordered[:, kept], count[kept]
    median = _middle(ordered, count - 1)
    worst = np.take_along_axis(ordered, (count - 1)[None], axis=0)[0]
    # Most groups end here: their worst is nearer to the median than anything that matters.
    least_deviation = np.maximum(np.float32(yardstick.floor), np.float32(yardstick.share) * np.abs(median))
    suspect = np.flatnonzero(worst - median >= least_deviation)
    if not len(suspect):
        return kept[suspect]
    count = count[suspect]
    rest = ordered[:, suspect]
    rest[count - 1, np.arange(len(suspect))] = np.nan
    found = against_others(worst[suspect], rest, yardstick)
    return kept[suspect[found.z >= yardstick.z]]


class SkuVerdict(NamedTuple):
    """One SKU's column: who deviates from the median of all."""

    median: float
    scale: float
    rows: Rows
    """Those that deviate; empty where there are too few to compare or too many to blame."""
    compared: int
    """How many were compared."""


def against_sku(values: Floats, rows: Rows, yardstick: Yardstick, least_peers: int, crowd: float) -> SkuVerdict:
    """Measure `values[rows]`, all of one SKU, against their median. A share above `crowd` that deviates is a crowd."""
    every = values[rows]
    said = every[~np.isnan(every)]
    count = len(said)
    if count <= least_peers:
        return SkuVerdict(float("nan"), float("nan"), rows[:0], count)
    said.partition(count // 2)
    median = said[count // 2]
    np.subtract(said, median, out=said)
    np.absolute(said, out=said)
    said.partition(count // 2)
    mad = said[count // 2]
    scale = yardstick.scale(np.asarray(median), np.asarray(mad))
    out: Bools = every >= median + scale * np.float32(yardstick.z)
    found = rows[out]
    if len(found) > crowd * count:
        found = rows[:0]
    return SkuVerdict(float(median), float(scale), found, count)
