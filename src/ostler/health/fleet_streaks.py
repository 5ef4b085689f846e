"""Hysteresis for a whole fleet: how many ticks in a row each figure of each GPU deviated, and what stands. Used by
`fleet_view`, one for each of its rules.

A tick without a new sample of a GPU is no evidence: it neither lengthens a streak nor breaks it, and it ends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ostler.health.fleet_history import Bools
from ostler.health.fleet_peers import Rows

MOST = np.uint8(250)


@dataclass(frozen=True, slots=True)
class Fact:
    """What was seen in the last tick in which it deviated; more is worse."""

    value: float
    sibling_median: float | None
    sku_median: float | None
    z: float
    since: float = 0.0


class Streaks:
    """Counters [metric, row] of one rule. A column in which nothing happens costs nothing."""

    def __init__(self, shape: tuple[int, int], to_stand: int, to_end: int) -> None:
        self._to_stand = to_stand
        self._to_end = to_end
        self._hot = np.zeros(shape, np.uint8)
        self._since = np.zeros(shape)
        self._quiet = [True] * shape[0]
        self._stands: list[dict[int, Fact]] = [{} for _ in range(shape[0])]
        self._calm: list[dict[int, int]] = [{} for _ in range(shape[0])]

    def quiet(self, column: int) -> bool:
        """Nothing has deviated and nothing stands: a tick without deviation need not be judged."""
        return self._quiet[column]

    def clear(self, row: int) -> None:
        """Forget a row."""
        self._hot[:, row] = 0
        for stands, calm in zip(self._stands, self._calm, strict=True):
            stands.pop(row, None)
            calm.pop(row, None)

    def judge(self, column: int, rows: Rows, facts: Sequence[Fact], judged: Bools, now: float) -> None:
        """One tick of one column: `rows` deviate, for which `facts` say how; `judged` are those with a new sample."""
        if not len(rows) and self._quiet[column]:
            return
        count = self._hot[column]
        stands, calm = self._stands[column], self._calm[column]
        new = judged[rows]
        deviating = rows[new]
        before = count[deviating]
        ended = judged.copy()
        ended[deviating] = False
        count[ended] = 0
        self._since[column, deviating[before == 0]] = now
        count[deviating] = np.minimum(before, MOST - 1) + 1
        for index in np.flatnonzero(new).tolist():
            row = int(rows[index])
            if row in stands or count[row] >= self._to_stand:
                since = stands[row].since if row in stands else float(self._since[column, row])
                stands[row] = replace(facts[index], since=since)
                calm[row] = 0
        for row in [row for row in stands if ended[row]]:
            calm[row] += 1
            if calm[row] >= self._to_end:
                del stands[row], calm[row]
        self._quiet[column] = not stands and not count.any()

    def standing(self) -> Iterator[tuple[int, int, Fact]]:
        """Column, row and fact of everything that stands."""
        for column, stands in enumerate(self._stands):
            for row, fact in stands.items():
                yield column, row, fact
