"""March patterns over GPU memory: stuck, coupled and mis-addressed cells that ECC does not report.

March C- (van de Goor 1991: up w0; up r0,w1; up r1,w0; down r0,w1; down r1,w0; r0), then checkerboards and the address
in every word, each with its inversion. A step is a chunk of the area, not one cell: within a chunk the GPU writes in
parallel, so the order of the march holds between chunks only. What is compared is compared on the GPU.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ostler.checks.gpu.bench import Bench, Device, guard, measure
from ostler.checks.model import Arguments, CheckResult, number
from ostler.checks.tally import Tally

NAME = "hbm-march"
_WORD = 8
ZEROS, ONES, CHECKER = 0, -1, 0x5555555555555555
MARCH: tuple[tuple[bool, int | None, int | None], ...] = (
    (True, None, ZEROS),
    (True, ZEROS, ONES),
    (True, ONES, ZEROS),
    (False, ZEROS, ONES),
    (False, ONES, ZEROS),
    (True, ZEROS, None),
)
"""Ascending; what is read; what is then written. None: neither."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """The first wrong word."""

    offset: int
    expected: int
    found: int
    words: int
    """Wrong words in its chunk."""


class OutOfTime(Exception):
    """The budget is spent."""


def run(arguments: Arguments, budget_s: float, bench: Bench | None = None) -> CheckResult:
    """All patterns over each GPU's free memory less `reserve_mib`; a smaller share than `share` is a gap."""
    share = number(arguments, "share", 0.9, 0.0, 1.0)
    reserve = int(number(arguments, "reserve_mib", 1024, 0, 1 << 20)) << 20
    limit = int(number(arguments, "mib", 0, 1, 1 << 21)) << 20
    chunk = int(number(arguments, "chunk_mib", 0, 1, 4096)) << 20
    end = time.monotonic() + budget_s

    def body(ready: Bench, tally: Tally) -> None:
        step = chunk or ready.small(256, 1) << 20
        covered: dict[int, float] = {}
        for device in ready.devices:
            with guard(tally, device):
                free, total = ready.memory(device) or (limit or 8 << 20,) * 2
                # Beside the area: the addresses, their inversion and the outcome of a comparison.
                room = free - (reserve + 4 * step if ready.kind == "cuda" else 0)
                area = _Area(ready, device, min(room, limit or room), step)
                tally.note("patterns", 10)
                try:
                    wrong = area.test(end)
                except OutOfTime:
                    tally.gap(f"GPU {device.index}: the time was over before all patterns were")
                    continue
                finally:
                    size = area.size
                    area.free()
                covered[device.index] = size / total
                if wrong is not None:
                    where, what = wrong
                    tally.note("wrong_gpu", device.index)
                    tally.note("wrong_offset", what.offset)
                    tally.fail(
                        f"GPU {device.index} ({device.serial or 'no serial'}): pattern {where}: at byte "
                        f"{what.offset:#x} of the area expected {what.expected & (2**64 - 1):#018x}, found "
                        f"{what.found & (2**64 - 1):#018x} ({what.words} wrong words in that chunk)"
                    )
                elif size / total < share:
                    tally.gap(f"GPU {device.index}: {size / total:.0%} of its memory was free to test, not {share:.0%}")
                else:
                    tally.fine()
        tally.spread("share", covered)

    return measure(NAME, arguments, body, bench)


class _Area:
    """The memory under test on one GPU: blocks of whole chunks, addressed as if they were one."""

    def __init__(self, bench: Bench, device: Device, size: int, step: int) -> None:
        self._bench, self._device, self._step = bench, device, step
        torch = bench.torch
        self._address = torch.arange(step // _WORD, dtype=torch.int64, device=device.place)
        self._blocks: list[Any] = []
        left = size // step
        per_block = max(1, (4 << 30) // step)
        while left > 0:  # a smaller block fits where a large one does not
            take = min(left, per_block)
            try:
                self._blocks.append(torch.empty(take * step // _WORD, dtype=torch.int64, device=device.place))
                left -= take
            except torch.OutOfMemoryError:
                if take == 1:
                    break
                per_block = take // 2

    @property
    def size(self) -> int:
        """Bytes under test."""
        return sum(int(block.numel()) * _WORD for block in self._blocks)

    def free(self) -> None:
        """Gives the memory back."""
        self._blocks.clear()
        self._bench.release()

    def test(self, end: float) -> tuple[str, Wrong] | None:
        """(pattern, first wrong word), or None. Raises OutOfTime."""
        if not self._blocks:
            raise RuntimeError("out of memory: nothing was free to test")
        for number_, (ascending, read, write) in enumerate(MARCH):
            for offset, chunk in self._chunks(ascending):
                if read is not None and (wrong := self._compare(chunk, read, offset)) is not None:
                    return f"march step {number_ + 1}", wrong
                if write is not None:
                    self._bench.fill(self._device, chunk, write, offset)
                _in_time(end)
        for name, inverted in (("checkerboard", False), ("address", False), ("checkerboard", True), ("address", True)):
            for writing in (True, False):  # all is written before any of it is read
                for offset, chunk in self._chunks(True):
                    value = self._value(name, inverted, offset)
                    if writing:
                        self._bench.fill(self._device, chunk, value, offset)
                    elif (wrong := self._compare(chunk, value, offset)) is not None:
                        return f"{'inverted ' if inverted else ''}{name}", wrong
                    _in_time(end)
        return None

    def _value(self, name: str, inverted: bool, offset: int) -> Any:
        value = CHECKER if name == "checkerboard" else self._address + offset // _WORD
        return ~value if inverted else value

    def _compare(self, chunk: Any, expected: Any, offset: int) -> Wrong | None:
        differ = chunk != expected
        count = int(differ.sum())
        if count == 0:
            return None
        first = int(differ.to(self._bench.torch.uint8).argmax())
        right = expected if isinstance(expected, int) else int(expected[first])
        return Wrong(offset + first * _WORD, right, int(chunk[first]), count)

    def _chunks(self, ascending: bool) -> Iterator[tuple[int, Any]]:
        words, offset = self._step // _WORD, 0
        places = []
        for block in self._blocks:
            for at in range(0, int(block.numel()), words):
                places.append((offset, block, at))
                offset += self._step
        for offset, block, at in places if ascending else reversed(places):
            yield offset, block[at : at + words]


def _in_time(end: float) -> None:
    if time.monotonic() >= end:
        raise OutOfTime
