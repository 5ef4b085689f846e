"""The GPUs of this machine, or CPU stand-ins for them, and every way in which a check touches them.

Used by all checks in this package. `measure` runs a check's body on a bench: it turns a missing PyTorch, a missing or
partitioned GPU, an exhausted memory or an error of the driver into a verdict with its reason.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from statistics import median
from typing import Any

from ostler.checks.gpu import faults
from ostler.checks.gpu.nvml import Nvml, Sample, open_nvml
from ostler.checks.gpu_present import nvidia_gpus
from ostler.checks.model import Arguments, CheckResult, CheckVerdict, number
from ostler.checks.tally import Tally
from ostler.core.errors import BadInput

REHEARSAL = "rehearsed on the CPU: this says nothing about a GPU"
_STAND_INS = 2
"""CPU stand-ins when nobody says how many."""


class Unready(Exception):
    """The GPUs cannot be tested: inconclusive, for the reason it carries."""


class Over(Exception):
    """Going on makes no sense; what was found so far stands."""


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU. `place` is what PyTorch calls it."""

    index: int
    place: str
    model: str = "cpu"
    serial: str = ""
    uuid: str = ""


@dataclass
class Bench:
    """The devices under test. A test makes a subclass of it that lies."""

    torch: Any
    kind: str
    """`cuda` or `cpu`."""
    devices: Sequence[Device]
    asked: int
    versions: Mapping[str, str] = field(default_factory=dict)
    """torch, cuda, cublas, driver: what decides the bits of a result beside the hardware."""
    nvml: Nvml | None = None

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def small(self, cuda: int, cpu: int) -> int:
        """A size: one for GPUs, one for the rehearsal."""
        return cuda if self.kind == "cuda" else cpu

    def put(self, device: Device, tensor: Any) -> Any:
        """A copy of a CPU tensor on the device."""
        return tensor.to(device.place, copy=True)

    def fetch(self, device: Device, tensor: Any) -> Any:
        """A copy of a device's tensor in ordinary memory."""
        return tensor.to("cpu", copy=True).contiguous()

    def compute(self, device: Device, kernel: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        """The kernel's result on the device, left there."""
        return kernel(self.torch, *inputs)

    def fill(self, device: Device, area: Any, values: Any, offset: int) -> None:
        """Writes `values` (a tensor or a number) over `area`, which lies `offset` bytes into what is tested."""
        if isinstance(values, int):
            area.fill_(values)
        else:
            area.copy_(values)

    def finish(self, *devices: Device) -> None:
        """Waits until all that was started on these devices is done."""
        if self.kind == "cuda":
            for device in devices or self.devices:
                self.torch.cuda.synchronize(device.place)

    def stamp(self, device: Device) -> Any:
        """A moment in the device's queue; `between` tells how far two are apart, once both have passed."""
        if self.kind != "cuda":
            return time.perf_counter()
        with self.torch.cuda.device(device.place):
            event = self.torch.cuda.Event(enable_timing=True)
            event.record()
            return event

    def between(self, first: Any, last: Any) -> float:
        """Seconds of the device's time between two of its stamps. Waits for the second."""
        if self.kind != "cuda":
            return max(float(last - first), 1e-9)
        last.synchronize()
        return max(float(first.elapsed_time(last)) / 1000, 1e-9)

    def seconds(self, device: Device, work: Callable[[], object]) -> float:
        """How long `work`, started on the device, takes there; CUDA events on a GPU."""
        first = self.stamp(device)
        work()
        return self.between(first, self.stamp(device))

    def typical(self, device: Device, work: Callable[[], object], repeats: int, warm_up: int = 2) -> float:
        """The median of `seconds` over `repeats`, after some that do not count."""
        for _ in range(warm_up):
            work()
        self.finish(device)
        return float(median(self.seconds(device, work) for _ in range(repeats)))

    def memory(self, device: Device) -> tuple[int, int] | None:
        """(free, total) bytes of the GPU; None for a stand-in."""
        if self.kind != "cuda":
            return None
        self.torch.cuda.empty_cache()
        free, total = self.torch.cuda.mem_get_info(device.place)
        return int(free), int(total)

    def sample(self, device: Device) -> Sample | None:
        """Temperature and clocks now; None when nobody can tell."""
        return None if self.nvml is None else self.nvml.sample(device.uuid)

    def peers(self, one: Device, other: Device) -> bool:
        """Whether one GPU reaches the other's memory directly."""
        return self.kind != "cuda" or bool(self.torch.cuda.can_device_access_peer(one.place, other.place))

    def release(self) -> None:
        """Gives freed memory back to the driver."""
        if self.kind == "cuda":
            self.torch.cuda.empty_cache()


def open_bench(arguments: Arguments) -> Bench:
    """What `device` and `gpus` ask for. Raises Unready with the reason, BadInput for a bad argument."""
    kind = arguments.get("device", "cuda")
    if kind not in ("cuda", "cpu"):
        raise BadInput(f"{kind[:40]!r} is neither cuda nor cpu", where="device")
    wanted = int(number(arguments, "gpus", 0, 1, 64))
    # cuBLAS promises equal bits for equal calls only with a fixed workspace, and reads this when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        torch = import_module("torch")
    except ImportError:
        raise Unready("PyTorch is not installed: install ostler with its extra 'gpu'") from None
    if kind == "cpu":
        count = wanted or _STAND_INS
        torch.set_num_threads(1)  # stand-ins that wait for each other's threads would only measure that
        versions = {"torch": str(torch.__version__), "cuda": "none", "cublas": "none", "driver": "none"}
        stand_ins = [Device(index, "cpu", "cpu", f"cpu-{index}") for index in range(count)]
        return Bench(torch, "cpu", stand_ins, count, versions)
    return _open_cuda(torch, wanted or len(nvidia_gpus()))


def _open_cuda(torch: Any, wanted: int) -> Bench:
    if getattr(torch.version, "hip", None):
        raise Unready("unsupported: AMD GPUs")
    try:
        count = int(torch.cuda.device_count()) if torch.cuda.is_available() else 0
        if count == 0:
            raise Unready("PyTorch finds no CUDA device here")
        nvml = open_nvml()
        devices, driver = [], ""
        for index in range(count):
            known = torch.cuda.get_device_properties(index)
            uuid = str(getattr(known, "uuid", ""))
            named = None if nvml is None else nvml.identity(uuid)
            if "MIG" in known.name.split() or (named is not None and named.mig):
                raise Unready(f"unsupported: MIG is on at GPU {index}; a slice of a GPU proves nothing about it")
            driver = driver if named is None else named.driver
            devices.append(Device(index, f"cuda:{index}", known.name, uuid if named is None else named.serial, uuid))
        torch.cuda.init()
        versions = _versions(torch, driver)
    except RuntimeError as error:
        verdict, why = faults.meaning(error)
        if verdict is CheckVerdict.FAILED:
            raise
        raise Unready(why) from None
    if wanted and count > wanted:
        devices = devices[:wanted]
    return Bench(torch, "cuda", devices, wanted or count, versions, nvml)


def _versions(torch: Any, driver: str) -> dict[str, str]:
    from ostler.checks.gpu.cublas import version

    return {
        "torch": str(torch.__version__),
        "cuda": str(torch.version.cuda or ""),
        "cublas": version(torch),
        "driver": driver,
    }


def measure(
    name: str, arguments: Arguments, body: Callable[[Bench, Tally], None], bench: Bench | None = None
) -> CheckResult:
    """Runs `body` on the machine's GPUs (or on the given bench). Raises only BadInput."""
    tally = Tally(name)
    try:
        ready = bench or open_bench(arguments)
    except Unready as unready:
        tally.gap(str(unready))
        return tally.result()
    except RuntimeError as error:  # a GPU that is broken before anything was asked of it
        tally.fail(faults.meaning(error)[1])
        return tally.result()
    tally.note("device", ready.kind)
    tally.note("gpus", len(ready.devices))
    if ready.kind == "cuda":
        tally.note("gpu_model", ready.devices[0].model)
    else:
        tally.remark(REHEARSAL)
    if len(ready.devices) < ready.asked:
        tally.gap(f"ran on {len(ready.devices)} of {ready.asked} GPUs")
    with contextlib.suppress(Over):
        try:
            body(ready, tally)
        except (RuntimeError, MemoryError) as error:
            verdict, why = faults.meaning(error)
            (tally.fail if verdict is CheckVerdict.FAILED else tally.gap)(why)
    return tally.result()


@contextlib.contextmanager
def guard(tally: Tally, device: Device, part: str = "") -> Iterator[None]:
    """An error inside becomes this GPU's verdict. A CUDA context is lost with such an error: then raises Over."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        verdict, why = faults.meaning(error)
        text = f"GPU {device.index}{f' {part}' if part else ''}: {why}"
        if verdict is CheckVerdict.FAILED:
            tally.fail(text)
            raise Over from None
        tally.gap(text)
