"""GPUs that are not there and are broken in a known way: stand-ins on the CPU whose results, memory or speed lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ostler.checks.gpu.bench import Bench, Device
from ostler.checks.gpu.nvml import Sample

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed: make torch")
VERSIONS = {"torch": "2.13.0", "cuda": "13.0", "cublas": "13.0.2", "driver": "580.1"}


def devices(count: int, model: str = "NVIDIA H100 80GB HBM3") -> list[Device]:
    return [Device(index, "cpu", model, f"serial-{index}", f"GPU-{index}") for index in range(count)]


class Lying(Bench):
    """Sound, until a test sets one of its lies."""

    def __init__(self, count: int = 4, *, asked: int | None = None) -> None:
        super().__init__(torch, "cpu", devices(count), asked or count, VERSIONS)
        torch.set_num_threads(1)
        self.flip: dict[int, Callable[[int], bool]] = {}
        """GPU to: whether its nth result has a bit flipped."""
        self.stuck: dict[int, tuple[int, int]] = {}
        """GPU to (byte offset, bits that are always set)."""
        self.dead: dict[int, tuple[int, int]] = {}
        """GPU to (byte offset, bits that are always clear)."""
        self.corrupt_copy: set[int] = set()
        self.pace: dict[int, float] = {}
        """GPU to the seconds that any work takes there."""
        self.raises: dict[int, Exception] = {}
        self.sampled: dict[int, Sample | None] = {}
        self.total: tuple[int, int] | None = None
        self._results: dict[int, int] = {}

    def compute(self, device: Device, kernel: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        if device.index in self.raises:
            raise self.raises[device.index]
        result = super().compute(device, kernel, inputs)
        turn = self._results[device.index] = self._results.get(device.index, 0) + 1
        if device.index in self.flip and self.flip[device.index](turn):
            result = result.contiguous()
            result.view(torch.uint8).view(-1)[5] ^= 0x10
        return result

    def put(self, device: Device, tensor: Any) -> Any:
        copy = super().put(device, tensor)
        if device.index in self.corrupt_copy:
            copy.view(torch.uint8).view(-1)[3] ^= 1
        return copy

    def fill(self, device: Device, area: Any, values: Any, offset: int) -> None:
        super().fill(device, area, values, offset)
        for cells, put in ((self.stuck, "__ior__"), (self.dead, "__iand__")):
            at, bits = cells.get(device.index, (-1, 0))
            if offset <= at < offset + area.numel() * 8:
                getattr(area[(at - offset) // 8], put)(bits if cells is self.stuck else ~bits)

    def seconds(self, device: Device, work: Callable[[], object]) -> float:
        took = super().seconds(device, work)
        return self.pace.get(device.index, took)

    def memory(self, device: Device) -> tuple[int, int] | None:
        return self.total

    def sample(self, device: Device) -> Sample | None:
        return self.sampled.get(device.index)
