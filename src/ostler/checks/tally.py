"""Collects what the parts of one check found, and makes the one verdict of it. Used by every check with several parts.

A part either was seen to be wrong (`fail`), could not be told (`gap`), or is fine. Wrong outweighs unknown, and unknown
outweighs fine: a check is passed only when something was judged and no part of it is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from ostler.checks.model import MEASURED_LIMIT, MESSAGE_LIMIT, CheckResult, CheckVerdict

_ROOM = 16
"""Keys kept free for what every check adds at its end."""


class Tally:
    """One run of one check, as it goes on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.measured: dict[str, str | int | float | bool] = {}
        self.failures: list[str] = []
        self.gaps: list[str] = []
        self.remarks: list[str] = []
        self.judged = 0

    def fail(self, what: str) -> None:
        """The hardware was seen to be wrong."""
        self.judged += 1
        if what not in self.failures:
            self.failures.append(what)

    def gap(self, what: str) -> None:
        """Something that was asked for is not known."""
        if what not in self.gaps:
            self.gaps.append(what)

    def fine(self) -> None:
        """One part was judged, and is as it must be."""
        self.judged += 1

    def remark(self, what: str) -> None:
        """Worth saying; changes no verdict."""
        if what not in self.remarks:
            self.remarks.append(what)

    def note(self, name: str, value: str | int | float | bool) -> None:
        """One measured value, rounded to what is worth reading; dropped when the result is full."""
        if name in self.measured or len(self.measured) < MEASURED_LIMIT:
            self.measured[name] = rounded(value) if isinstance(value, float) else value

    def spread(self, name: str, values: Mapping[int, float]) -> None:
        """A value per GPU: `name_min`, `name_median`, and `gpuN_name` of each as long as all of them have room."""
        if not values:
            return
        self.note(f"{name}_min", min(values.values()))
        self.note(f"{name}_median", float(median(values.values())))
        if len(self.measured) + len(values) + _ROOM <= MEASURED_LIMIT:
            for index, value in sorted(values.items()):
                self.note(f"gpu{index}_{name}", value)

    def at_least(self, what: str, values: Mapping[int, float], least: float | None, unit: str) -> bool:
        """Fails every GPU whose value is below `least`; answers whether there was anything to judge by."""
        if least is None or not values:
            return False
        slow = {index: value for index, value in values.items() if value < least}
        for index, value in sorted(slow.items()):
            self.fail(f"GPU {index}: {what} {value:.4g} {unit}, at least {least:.4g} are wanted")
        if not slow:
            self.fine()
        return True

    def near_peers(self, what: str, values: Mapping[int, float], percent: float | None) -> bool:
        """Fails every GPU that is slower than the median of its siblings by more; whether there was enough to judge.

        The median is over the others only: one of two slow GPUs must not hide behind the other's share in it.
        """
        if percent is None or len(values) < 3:
            return False
        slow = False
        for index, value in sorted(values.items()):
            peers = float(median(other for key, other in values.items() if key != index))
            if value < peers * (1 - percent / 100):
                slow = True
                self.fail(f"GPU {index}: {what} {value:.4g} is {100 * (1 - value / peers):.1f} % below its siblings")
        if not slow:
            self.fine()
        return True

    def result(self) -> CheckResult:
        """The verdict so far."""
        if self.failures:
            verdict, said = CheckVerdict.FAILED, [*self.failures, *self.gaps]
        elif self.gaps or not self.judged:
            verdict, said = CheckVerdict.INCONCLUSIVE, [*self.gaps] or ["nothing of it could be judged"]
        else:
            verdict, said = CheckVerdict.PASSED, []
        return CheckResult(self.name, verdict, dict(self.measured), _joined([*said, *self.remarks]))


def rounded(value: float) -> float:
    """Five figures: more is noise on a ticket."""
    return float(f"{value:.5g}")


def _joined(parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"
