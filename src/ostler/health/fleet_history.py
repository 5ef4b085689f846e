"""A GPU against its own past: exponentially weighted means and variances of one column, in place. Used by `fleet_view`.

Weights are by age, not by count: a sample counts half after one half-life, however irregularly samples come (the
definition of pandas' `ewm(halflife, times)`, with West's incremental variance). Everything is float32 and works on
scratch that was allocated once: a tick is bound by memory, and a temporary would double its traffic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

TINY = np.float32(1e-12)
"""Below this nothing is told from 0; the processor is a hundred times slower on denormal numbers."""


@dataclass(frozen=True)
class Scratch:
    """Memory for one block, used again for each."""

    gain: Floats
    delta: Floats
    """The deviation from the mean."""
    fast: Floats
    reach: Floats
    """`z` standard deviations, as they were before the sample."""
    spare: Floats
    said: Floats
    mute: Bools
    hot: Bools

    @classmethod
    def of(cls, length: int) -> Scratch:
        """Room for `length` rows."""
        gain, delta, fast, reach, spare, said = (np.empty(length, np.float32) for _ in range(6))
        return cls(gain, delta, fast, reach, spare, said, np.empty(length, np.bool_), np.empty(length, np.bool_))

    def first(self, length: int) -> Scratch:
        """A view of the first `length` rows."""
        return Scratch(*(getattr(self, name)[:length] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Column:
    """One metric's state for a run of rows; views into the fleet's arrays, all of one length."""

    mean: Floats
    variance: Floats
    weight: Floats
    fast: Floats

    def part(self, start: int, end: int) -> Column:
        """A view of some rows."""
        return Column(
            self.mean[start:end], self.variance[start:end], self.weight[start:end], self.fast[start:end]
        )  # fmt: skip


def fold(x: Floats, column: Column, decay: Floats, pace: Floats, z: float, floor: float, scratch: Scratch) -> Bools:
    """Take the samples `x` (NaN: none, more is worse) into `column`; says which are worse than their history.

    `decay` is what a weight is worth now, 2^(-dt/slow half-life); `pace` what the fast mean takes of a sample,
    1-2^(-dt/fast half-life). A deviation counts from `z` standard deviations and from `floor`. The answer is
    scratch, and so are `delta`, the deviations, `reach`, what they are held against, and `mute`, where `x` is NaN. How
    much history there is to judge by is the caller's question. Division by 0 is expected.
    """
    s = scratch
    np.not_equal(x, x, out=s.mute)
    np.multiply(column.weight, decay, out=column.weight)
    if s.mute.any():
        np.equal(s.mute, False, out=s.said, casting="unsafe")
        np.add(column.weight, s.said, out=column.weight)
        np.maximum(column.weight, TINY, out=column.weight)
        np.divide(s.said, column.weight, out=s.gain)
        np.subtract(x, column.mean, out=s.delta)
        np.copyto(s.delta, 0, where=s.mute)
        np.subtract(x, column.fast, out=s.fast)
        np.copyto(s.fast, 0, where=s.mute)
    else:
        np.add(column.weight, np.float32(1), out=column.weight)
        np.reciprocal(column.weight, out=s.gain)
        np.subtract(x, column.mean, out=s.delta)
        np.subtract(x, column.fast, out=s.fast)
    # The fast mean: at first, and after a long pause, as open to a new sample as the slow one.
    np.maximum(s.gain, pace, out=s.said)
    np.multiply(s.fast, s.said, out=s.fast)
    np.add(column.fast, s.fast, out=column.fast)
    # Worse than its history? No standard deviation is taken as less than floor / z.
    np.maximum(column.variance, np.float32((floor / z) ** 2), out=s.reach)
    np.sqrt(s.reach, out=s.reach)
    np.multiply(s.reach, np.float32(z), out=s.reach)
    np.greater(s.delta, s.reach, out=s.hot)
    # What is worse than that enters the history as just that bad, or the first bad sample would excuse the next; a
    # history of one sample has no reach yet.
    np.subtract(np.float32(1), s.gain, out=s.said)
    np.divide(s.reach, s.said, out=s.spare)
    np.minimum(s.spare, s.delta, out=s.spare)
    # mean += gain * delta; variance = (1 - gain) * (variance + gain * delta²)
    np.multiply(s.spare, s.gain, out=s.said)
    np.add(column.mean, s.said, out=column.mean)
    np.multiply(s.said, s.spare, out=s.said)
    np.add(column.variance, s.said, out=column.variance)
    np.multiply(column.variance, s.gain, out=s.said)
    np.subtract(column.variance, s.said, out=column.variance)
    return s.hot


def flush(column: Column) -> None:
    """Set what has decayed to nothing to 0, before it turns denormal. Once in some dozen ticks is often enough."""
    for values in (column.mean, column.variance, column.weight, column.fast):
        np.copyto(values, 0, where=np.abs(values) < TINY)
