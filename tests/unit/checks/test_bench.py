"""What the GPU checks stand on: who may be tested at all, what an error means, and how parts become one verdict."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from ostler.checks.gpu import bench as bench_module
from ostler.checks.gpu import cublas, faults, nvml
from ostler.checks.gpu.bench import Unready, measure, open_bench
from ostler.checks.model import MEASURED_LIMIT, MESSAGE_LIMIT, CheckVerdict, words
from ostler.checks.registry import CHECKS, find
from ostler.checks.tally import Tally
from ostler.core.errors import BadInput

PASSED, FAILED, INCONCLUSIVE = CheckVerdict.PASSED, CheckVerdict.FAILED, CheckVerdict.INCONCLUSIVE
GPU_CHECKS = [name for name, check in CHECKS.items() if check.module.startswith("ostler.checks.gpu.")]


def test_neither_the_registry_nor_the_agent_imports_torch() -> None:
    code = (
        "import sys, pkgutil, importlib, ostler.agent, ostler.checks\n"
        "for package in (ostler.agent, ostler.checks):\n"
        "    for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
        "print([name for name in ('torch', 'numpy', 'sqlalchemy', 'fastapi') if name in sys.modules])"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_check_names_what_it_is_given() -> None:
    assert len(GPU_CHECKS) == 8
    for name in GPU_CHECKS:
        assert {"device", "gpus"} <= set(CHECKS[name].arguments)
        assert CHECKS[name].needs


@pytest.mark.parametrize("name", GPU_CHECKS)
def test_without_pytorch_every_gpu_check_is_inconclusive(name: str, monkeypatch: pytest.MonkeyPatch) -> None:

    def absent(module: str) -> Any:
        if module == "torch":
            raise ImportError(module)
        return import_module(module)

    monkeypatch.setattr(bench_module, "import_module", absent)
    result = find(name).run({}, 60.0)
    assert (result.verdict, "PyTorch is not installed" in result.message) == (INCONCLUSIVE, True)


@pytest.mark.parametrize("name", GPU_CHECKS)
def test_without_a_gpu_every_gpu_check_is_inconclusive(name: str) -> None:
    torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed: make torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    result = find(name).run({"gpus": "8"}, 60.0)
    assert (result.verdict, result.message) == (INCONCLUSIVE, "PyTorch finds no CUDA device here")


class Cuda:
    """What `torch.cuda` says about GPUs of these names."""

    def __init__(self, *names: str, broken: str = "") -> None:
        self.names, self.broken = names, broken

    def is_available(self) -> bool:
        return bool(self.names)

    def device_count(self) -> int:
        return len(self.names)

    def get_device_properties(self, index: int) -> Any:
        return SimpleNamespace(name=self.names[index], uuid=f"uuid-{index}")

    def init(self) -> None:
        if self.broken:
            raise RuntimeError(self.broken)


def opened(
    monkeypatch: pytest.MonkeyPatch,
    cuda: Cuda,
    *,
    hip: str | None = None,
    mig: bool = False,
    on_bus: int = 0,
    **given: str,
) -> bench_module.Bench:
    torch = SimpleNamespace(__version__="2.13.0", version=SimpleNamespace(hip=hip, cuda="13.0"), cuda=cuda)
    known = SimpleNamespace(identity=lambda uuid: nvml.Identity(f"S-{uuid}", mig, "580.1"))
    monkeypatch.setattr(bench_module, "import_module", lambda name: torch)
    monkeypatch.setattr(bench_module, "open_nvml", lambda: known)
    monkeypatch.setattr(bench_module, "nvidia_gpus", lambda: ["x"] * on_bus)
    monkeypatch.setattr(cublas, "version", lambda torch: "13.0.2")
    return open_bench(given)


def test_gpus_are_known_by_serial_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = opened(monkeypatch, Cuda("NVIDIA H100", "NVIDIA H100"))
    assert [device.serial for device in ready.devices] == ["S-uuid-0", "S-uuid-1"]
    assert ready.versions == {"torch": "2.13.0", "cuda": "13.0", "cublas": "13.0.2", "driver": "580.1"}
    assert ready.asked == 2


def test_gpus_that_pytorch_does_not_see_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = opened(monkeypatch, Cuda("NVIDIA H100"), on_bus=8)
    assert (len(ready.devices), ready.asked) == (1, 8)
    result = measure("x", {}, lambda bench, tally: tally.fine(), ready)
    assert (result.verdict, result.message) == (INCONCLUSIVE, "ran on 1 of 8 GPUs")
    assert opened(monkeypatch, Cuda("a", "b"), on_bus=2, gpus="1").asked == 1


@pytest.mark.parametrize(
    ("cuda", "more", "why"),
    [
        (Cuda(), {}, "finds no CUDA device"),
        (Cuda("AMD Instinct MI300X"), {"hip": "6.4"}, "unsupported: AMD"),
        (Cuda("NVIDIA H100", "NVIDIA H100"), {"mig": True}, "unsupported: MIG is on at GPU 0"),
        (Cuda("NVIDIA H100", "NVIDIA H100 MIG 1g.10gb"), {}, "unsupported: MIG is on at GPU 1"),
        (Cuda("NVIDIA H100", broken="CUDA error: system not yet initialized"), {}, "system not yet initialized"),
    ],
)
def test_what_cannot_be_tested_is_inconclusive(
    cuda: Cuda, more: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unready, match=why):
        opened(monkeypatch, cuda, **more)
    assert measure("x", {}, lambda bench, tally: tally.fine()).verdict is INCONCLUSIVE


def test_a_gpu_that_is_broken_from_the_start_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError):
        opened(monkeypatch, Cuda("NVIDIA H100", broken="CUDA error: uncorrectable ECC error encountered"))
    result = measure("x", {}, lambda bench, tally: tally.fine())
    assert (result.verdict, "uncorrectable ECC" in result.message) == (FAILED, True)


@pytest.mark.parametrize(("name", "value"), [("device", "tpu"), ("gpus", "0"), ("gpus", "x")])
def test_bad_devices_are_refused(name: str, value: str) -> None:
    with pytest.raises(BadInput, match=name):
        open_bench({name: value})


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("CUDA error: uncorrectable ECC error encountered", FAILED),
        ("CUDA error: an illegal memory access was encountered", FAILED),
        ("CUDA error: misaligned address", FAILED),
        ("CUDA error: unspecified launch failure", FAILED),
        ("CUDA error: uncorrectable NVLink error detected during the execution", FAILED),
        ("CUDA out of memory. Tried to allocate 20.00 MiB", INCONCLUSIVE),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", INCONCLUSIVE),
        ("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory", INCONCLUSIVE),
        ("CUDA error: all CUDA-capable devices are busy or unavailable", INCONCLUSIVE),
        ("Torch not compiled with CUDA enabled", INCONCLUSIVE),
        ("", INCONCLUSIVE),
    ],
)
def test_an_error_becomes_a_verdict_with_its_reason(text: str, verdict: CheckVerdict) -> None:
    found, why = faults.meaning(RuntimeError(f"{text}\nCUDA kernel errors might be asynchronously reported\x1b[2J"))
    assert (found, "\n" not in why, text[:20] in why) == (verdict, True, True)

    def body(bench: bench_module.Bench, tally: Tally) -> None:
        tally.fine()
        raise RuntimeError(text)

    fake = bench_module.Bench(None, "cpu", [bench_module.Device(0, "cpu")], 1)
    assert measure("x", {}, body, fake).verdict is verdict


def test_memory_errors_of_python_are_no_fault_of_the_gpu() -> None:
    assert faults.meaning(MemoryError()) == (INCONCLUSIVE, "out of memory: MemoryError")


@pytest.mark.parametrize(
    ("done", "verdict"),
    [
        ([], INCONCLUSIVE),
        (["fine"], PASSED),
        (["fine", "gap"], INCONCLUSIVE),
        (["fine", "gap", "fail"], FAILED),
        (["gap"], INCONCLUSIVE),
        (["remark"], INCONCLUSIVE),
        (["fine", "remark"], PASSED),
    ],
)
def test_wrong_outweighs_unknown_and_unknown_outweighs_fine(done: list[str], verdict: CheckVerdict) -> None:
    tally = Tally("x")
    for what in done:
        if what == "fine":
            tally.fine()
        else:
            call: Callable[[str], None] = getattr(tally, what)
            call(what)
    assert tally.result().verdict is verdict


def test_a_result_stays_within_the_wire() -> None:
    tally = Tally("x")
    for kind in range(8):
        tally.spread(f"kind{kind}", {gpu: float(gpu) for gpu in range(16)})
        tally.fail("y" * 500 + str(kind))
    result = tally.result()
    assert len(result.measured) <= MEASURED_LIMIT
    assert len(result.message) <= MESSAGE_LIMIT
    assert result.measured["kind7_min"] == 0.0


def test_a_slow_gpu_does_not_hide_in_its_own_median() -> None:
    tally = Tally("x")
    assert not tally.near_peers("rate", {0: 1.0, 1: 9.0}, 5.0), "two cannot say which of them is slow"
    assert tally.near_peers("rate", {0: 1.0, 1: 9.0, 2: 10.0}, 5.0)
    assert [text[:5] for text in tally.failures] == ["GPU 0"]
    pair = Tally("x")
    pair.near_peers("rate", {0: 9.3, 1: 9.3, 2: 10.0, 3: 10.0}, 5.0)
    assert [text[:5] for text in pair.failures] == ["GPU 0", "GPU 1"], "nor do two slow ones hide behind each other"


def test_lists_of_words_are_checked() -> None:
    assert words({"k": "a,,b"}, "k", "", "ab") == ("a", "b")
    for bad in ("", "c", "a,c"):
        with pytest.raises(BadInput, match="k:"):
            words({"k": bad}, "k", "", "ab")


def test_nvml_that_is_not_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise builtins.ImportError(name)

    monkeypatch.setattr(nvml, "import_module", absent)
    assert nvml.open_nvml() is None


def test_nvml_says_why_clocks_are_held_down() -> None:
    class Trouble(Exception):
        pass

    def broken(*arguments: object) -> Any:
        raise Trouble

    library = SimpleNamespace(
        NVMLError=Trouble,
        NVML_TEMPERATURE_GPU=0,
        NVML_CLOCK_SM=1,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTemperature=lambda handle, kind: 71,
        nvmlDeviceGetClockInfo=lambda handle, kind: 1410,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 0x4 | 0x40 | 0x8,
        nvmlDeviceGetPowerUsage=broken,
        nvmlDeviceGetSerial=broken,
        nvmlDeviceGetMigMode=lambda handle: [1, 1],
        nvmlSystemGetDriverVersion=lambda: b"580.1",
    )
    known = nvml.Nvml(library)
    assert known.sample("u") == nvml.Sample(71.0, 1410.0, 0.0, ("hw-slowdown", "hw-thermal"))
    assert known.identity("u") == nvml.Identity("u", True, "580.1")
    library.nvmlDeviceGetHandleByUUID = broken
    assert (known.sample("u"), known.identity("u")) == (None, None)
