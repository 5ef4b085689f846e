"""The whole fleet's GPUs side by side, in memory: who drifts from its own past, who differs from its peers, who is
beyond a limit. A schedule calls `tick`; whoever receives measurements calls `update`.

Nothing here is stored: raw metrics stay in the user's Prometheus, and after a restart the view learns anew. An outlier
is no finding yet: it says which GPU to look at and by how much, and diagnosis decides.

The arrays are [metric, row] and a row is slot * groups + group, so that one slot of all groups, one figure of all GPUs,
and the eight siblings of all groups ([8, groups]) each lie in memory as they are read. A group is one baseboard of up
to eight GPUs; more is worse in every column (`Metric.sign`).

Not thread-safe: one owner calls everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ostler.health import fleet_history, fleet_peers
from ostler.health.fleet_history import Bools, Column, Floats, Scratch
from ostler.health.fleet_metrics import INDEX, METRICS, Against, FleetSettings, Metric, Outlier, Rule
from ostler.health.fleet_peers import Rows, Yardstick
from ostler.health.fleet_streaks import Fact, Streaks

SLOTS = 8
"""GPUs on one baseboard. A node with more has several groups, and siblings are those of one group."""
NEVER = -1e18
BLOCK = 40_960
"""Rows handled at once: smaller blocks pay for more calls, and larger ones leave the second-level cache."""


class Worse(NamedTuple):
    """Rows of one block that are worse than their history: by how much, and by how many standard deviations."""

    rows: Rows
    delta: Floats
    z: Floats


class FleetView:
    """Room for `capacity` GPUs; about 35 MB for 80,000, once all have spoken."""

    def __init__(self, capacity: int, settings: FleetSettings = FleetSettings()) -> None:
        if capacity < 1:
            raise ValueError("a fleet view has room for at least one GPU")
        self.settings = settings
        self._groups = -(-capacity // SLOTS)
        rows = self._groups * SLOTS
        shape = (len(METRICS), rows)
        self._stage: Floats = np.full(shape, np.nan, np.float32)
        self._mean, self._variance, self._weight, self._fast = (np.zeros(shape, np.float32) for _ in range(4))
        self._said: Bools = np.zeros(shape, np.bool_)
        """Whether a row's latest sample said this figure."""
        self._at = np.full(rows, NEVER)
        self._folded_at = np.full(rows, NEVER)
        self._sku = np.full(rows, -1, np.int32)
        self._streaks = {rule: Streaks(shape, settings.ticks_to_stand, settings.ticks_to_end) for rule in Rule}
        self._scratch = Scratch.of(min(BLOCK, rows))
        self._values: Floats = np.empty(rows, np.float32)
        self._new: Bools = np.zeros(rows, np.bool_)
        self._all_new = False
        self._skus: list[str] = []
        self._rows_of_sku: list[Rows] | None = None
        self._group_of: dict[tuple[str, int], int] = {}
        self._owner: list[tuple[str, int] | None] = [None] * self._groups
        self._free = list(range(self._groups - 1, -1, -1))
        self._ticks = 0
        sign = np.array([metric.sign for metric in METRICS], np.float32)
        self._sign = sign[:, None]
        ends = np.array([[metric.least, metric.most] for metric in METRICS], np.float32) * self._sign
        self._least, self._most = ends.min(axis=1)[:, None], ends.max(axis=1)[:, None]

    # Who is where ---------------------------------------------------------------------------------------------------

    def row(self, node_id: str, gpu: int, sku: str) -> int:
        """The row of a GPU; a new one, or one whose SKU is another now, starts without history.

        Raises `ValueError` if the view is full or the index is below 0.
        """
        if gpu < 0:
            raise ValueError(f"GPU {gpu} of {node_id}: an index is 0 or more")
        board, slot = divmod(gpu, SLOTS)
        group = self._group_of.get((node_id, board))
        if group is None:
            if not self._free:
                raise ValueError(f"the fleet view is full: {self._groups} groups of {SLOTS} GPUs")
            group = self._group_of[node_id, board] = self._free.pop()
            self._owner[group] = (node_id, board)
        row = slot * self._groups + group
        if sku not in self._skus:
            self._skus.append(sku)
        number = self._skus.index(sku)
        if self._sku[row] != number:
            self._clear(row)
            self._sku[row] = number
            self._rows_of_sku = None
        return row

    def retire(self, node_id: str) -> None:
        """Forget a node and everything that stands against it. One that is not here is no error."""
        for node, board in [key for key in self._group_of if key[0] == node_id]:
            group = self._group_of.pop((node, board))
            for slot in range(SLOTS):
                self._clear(slot * self._groups + group)
                self._sku[slot * self._groups + group] = -1
            self._owner[group] = None
            self._free.append(group)
        self._rows_of_sku = None

    def _clear(self, row: int) -> None:
        self._stage[:, row] = np.nan
        for array in (self._mean, self._variance, self._weight, self._fast, self._said):
            array[:, row] = 0
        self._at[row] = self._folded_at[row] = NEVER
        for streaks in self._streaks.values():
            streaks.clear(row)

    # What they say --------------------------------------------------------------------------------------------------

    def update(self, rows: Sequence[int] | NDArray[Any], matrix: ArrayLike, at: float | NDArray[np.float64]) -> int:
        """Samples `matrix[n, metric]` of `rows[n]`, taken `at` (domain time, one for all or one each).

        NaN is "not said", and so is what cannot be a reading. Until the next tick the newest said figure counts. A
        sample not newer than the row's last is dropped. Answers how many were taken. Raises `ValueError` on a wrong
        shape, and on a row that is nobody's.
        """
        where = np.asarray(rows, np.intp)
        values = np.asarray(matrix, np.float32)
        if values.shape != (len(where), len(METRICS)):
            raise ValueError(f"a matrix of {len(where)} × {len(METRICS)} is wanted, not {values.shape}")
        if len(where) and (where.min() < 0 or where.max() >= len(self._sku) or self._sku[where].min() < 0):
            raise ValueError("a sample for a row that is nobody's: rows come from FleetView.row")
        times = np.broadcast_to(np.asarray(at, np.float64), where.shape)
        newer = times > self._at[where]
        if not newer.all():
            where, values, times = where[newer], values[newer], times[newer]
        with np.errstate(invalid="ignore"):
            worse = values.T * self._sign
            worse[~((worse >= self._least) & (worse <= self._most))] = np.nan
        if (self._at[where] > self._folded_at[where]).any():
            worse = np.where(np.isnan(worse), self._stage[:, where], worse)
        self._stage[:, where] = worse
        self._at[where] = times
        return len(where)

    # What it amounts to ---------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Outlier]:
        """Take in what was said since the last tick and judge it. Answers everything that stands now, in order of node,
        GPU and metric."""
        self.fold(now)
        self.compare(now)
        return self.standing()

    def standing(self) -> list[Outlier]:
        """Every outlier that stands, as of the last tick."""
        found = []
        for rule, streaks in self._streaks.items():
            for column, row, fact in streaks.standing():
                slot, group = divmod(row, self._groups)
                owner = self._owner[group]
                if owner is not None:
                    found.append(_outlier(owner[0], owner[1] * SLOTS + slot, METRICS[column], rule, fact))
        return sorted(found, key=lambda one: (one.node_id, one.gpu, one.metric, one.rule))

    def fold(self, now: float) -> None:
        """The first half of a tick: every row against its own history, and against the limits."""
        s = self.settings
        at = np.minimum(self._at, now)
        self._new = self._at > self._folded_at
        self._all_new = bool(self._new.all())
        with np.errstate(under="ignore"):
            elapsed = np.asarray(at - self._folded_at, np.float32)
            np.maximum(elapsed, 0, out=elapsed)
            decay = np.exp2(elapsed * np.float32(-1 / s.slow_half_life_s))
            pace = 1 - np.exp2(elapsed * np.float32(-1 / s.fast_half_life_s))
        self._at = at
        self._folded_at = at.copy()
        utilisation = self._stage[INDEX["utilisation"]] * np.float32(METRICS[INDEX["utilisation"]].sign)
        idle = ~(utilisation >= s.load)
        with np.errstate(under="ignore", over="ignore", divide="ignore"):
            for column, metric in enumerate(METRICS):
                if metric.at_load:
                    np.copyto(self._stage[column], np.nan, where=idle)
                self._fold_column(column, metric, decay, pace, now)
        fleet_history.flush(self._column(self._ticks % len(METRICS)))
        self._ticks += 1

    def _column(self, column: int) -> Column:
        return Column(self._mean[column], self._variance[column], self._weight[column], self._fast[column])

    def _fold_column(self, column: int, metric: Metric, decay: Floats, pace: Floats, now: float) -> None:
        state = self._column(column)
        worse: list[Worse] = []
        beyond: list[Rows] = []
        limit = None if metric.limit is None else np.float32(metric.limit * metric.sign)
        for start in range(0, len(decay), BLOCK):
            end = min(start + BLOCK, len(decay))
            x = self._stage[column, start:end]
            scratch = self._scratch.first(end - start)
            part = state.part(start, end)
            hot = fleet_history.fold(
                x, part, decay[start:end], pace[start:end], self.settings.z_history, metric.floor, scratch
            )
            if metric.judged and hot.any():
                at = np.flatnonzero(hot)
                z = scratch.delta[at] / scratch.reach[at] * np.float32(self.settings.z_history)
                worse.append(Worse(at + start, scratch.delta[at], z))
            if limit is not None and np.greater_equal(x, limit, out=hot).any():
                beyond.append(np.flatnonzero(hot) + start)
            if self._all_new:
                np.logical_not(scratch.mute, out=self._said[column, start:end])
            else:
                np.logical_not(scratch.mute, out=scratch.mute)
                np.copyto(self._said[column, start:end], scratch.mute, where=self._new[start:end])
        if metric.judged:
            self._judge_history(column, metric, worse, now)
        if limit is not None:
            rows = _joined(beyond)
            seen = self._stage[column, rows]
            facts = [Fact(float(x), None, None, float(x - limit)) for x in seen]
            self._streaks[Rule.LIMIT].judge(column, rows, facts, self._judged(column), now)
        self._stage[column].fill(np.nan)

    def _judged(self, column: int) -> Bools:
        return np.asarray(self._said[column] & self._new, np.bool_)

    def _judge_history(self, column: int, metric: Metric, worse: list[Worse], now: float) -> None:
        """Of the rows that are worse than their history, those that have one, do not go with the crowd, and matter."""
        streaks = self._streaks[Rule.HISTORY]
        if not worse and streaks.quiet(column):
            return
        judged = self._judged(column)
        rows = _joined([part.rows for part in worse])
        facts: list[Fact] = []
        if len(rows):
            delta, z = (np.concatenate([part[field] for part in worse]) for field in (1, 2))
            seen = self._stage[column, rows]
            counts = self._weight[column, rows] >= self.settings.learn_samples
            counts &= delta >= np.float32(metric.share) * np.abs(seen - delta)
            counts[counts] = ~self._with_the_crowd(rows[counts], judged)
            rows = rows[counts]
            facts = [Fact(float(x), None, None, float(by)) for x, by in zip(seen[counts], z[counts], strict=True)]
        streaks.judge(column, rows, facts, judged, now)

    def _with_the_crowd(self, rows: Rows, judged: Bools) -> Bools:
        """Which of `rows` deviate together with most of their siblings, or too many of their SKU?"""
        if not len(rows):
            return np.zeros(0, np.bool_)
        group = rows % self._groups
        together = np.bincount(group, minlength=self._groups)
        siblings = np.count_nonzero(judged.reshape(SLOTS, self._groups), axis=0)
        crowd = (2 * together[group] > siblings[group]) & (siblings[group] > self.settings.least_siblings)
        skus = len(self._skus)
        of_sku = np.bincount(self._sku[rows], minlength=skus)
        all_of_sku = np.bincount(self._sku[judged & (self._sku >= 0)], minlength=skus)
        too_many = (of_sku > self.settings.crowd * all_of_sku) & (all_of_sku > self.settings.least_peers)
        return np.asarray(crowd | too_many[self._sku[rows]], np.bool_)

    def compare(self, now: float) -> None:
        """The second half of a tick: every row against its siblings and its SKU's peers, all figures, exactly."""
        fresh = self._at >= now - self.settings.stale_after_s
        if self._rows_of_sku is None:
            self._rows_of_sku = [np.flatnonzero(self._sku == number) for number in range(len(self._skus))]
        for column, metric in enumerate(METRICS):
            if metric.judged:
                self._compare_column(column, metric, fresh, now)

    def _compare_column(self, column: int, metric: Metric, fresh: Bools, now: float) -> None:
        s = self.settings
        yardstick = Yardstick(s.z_peers, metric.floor, metric.share)
        values = self._values
        values.fill(np.nan)
        np.copyto(values, self._fast[column], where=self._said[column] & fresh)
        board = values.reshape(SLOTS, self._groups)
        verdicts = [
            fleet_peers.against_sku(values, rows, yardstick, s.least_peers, s.crowd)
            for rows in self._rows_of_sku or ()
        ]  # fmt: skip
        suspects = _joined([verdict.rows for verdict in verdicts])
        if s.against is Against.SIBLINGS:
            groups = fleet_peers.groups_with_an_outlier(board, yardstick, s.least_siblings)
            near = (np.arange(SLOTS)[:, None] * self._groups + groups).ravel()
            suspects = np.union1d(suspects, near[~np.isnan(values[near])])
        streaks = self._streaks[Rule.PEERS]
        if not len(suspects) and streaks.quiet(column):
            return
        siblings = fleet_peers.against_siblings(board, suspects // self._groups, suspects % self._groups, yardstick)
        alone = siblings.others < s.least_siblings
        out = alone | (siblings.z >= s.z_peers)
        facts = []
        for row, few, median, z in zip(
            suspects[out], alone[out], siblings.median[out], siblings.z[out], strict=True
        ):  # fmt: skip
            sku = verdicts[self._sku[row]]
            known = sku.median == sku.median
            far = [] if few else [float(z)]
            if known and (few or s.against is Against.BOTH):
                far.append((float(values[row]) - sku.median) / sku.scale)
            facts.append(
                Fact(float(values[row]), None if few else float(median), sku.median if known else None, min(far))
            )
        judged = self._judged(column) & ~np.isnan(values)
        streaks.judge(column, suspects[out], facts, judged, now)


def _joined(parts: list[Rows]) -> Rows:
    return np.concatenate(parts) if parts else np.zeros(0, np.intp)


def _outlier(node_id: str, gpu: int, metric: Metric, rule: Rule, fact: Fact) -> Outlier:
    """A fact with its signs set back."""
    medians = (fact.sibling_median, fact.sku_median)
    sibling, sku = (None if median is None else median * metric.sign for median in medians)
    return Outlier(node_id, gpu, metric.name, rule, fact.value * metric.sign, sibling, sku, fact.z, fact.since)
