"""A machine with GPUs that are not there: the mock library (mock.c), its state file, and the PCI bus in sysfs' form.

Used by the tests of the GPU monitor, of the agent with all monitors, and by bench/agent.py. What the numbers are comes
from the data sheets of the boards; what a board does not have is left out, which the library calls not supported.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pynvml

H100: Mapping[str, object] = {
    "name": "NVIDIA H100 80GB HBM3",
    "vbios": "96.00.89.00.01",
    "mig.now": 0,
    "mig.pending": 0,
    "temperature": 41,
    "threshold.0": 92,
    "threshold.1": 89,
    "threshold.2": 95,
    "margin": 46,
    "power_mw": 118_000,
    "power_limit_mw": 700_000,
    "power_default_mw": 700_000,
    "energy_mj": 1_000_000,
    "sm_clock": 1980,
    "memory_clock": 2619,
    "utilisation.gpu": 0,
    "utilisation.memory": 0,
    "memory.total": 85_520_809_984,
    "memory.used": 645_922_816,
    "reasons": "0x1",
    "pcie_gen": 5,
    "pcie_gen_max": 5,
    "pcie_width": 16,
    "pcie_width_max": 16,
    "pcie_tx_kb": 900,
    "pcie_rx_kb": 650,
    "pcie_replays": 0,
    "ecc.corrected": 0,
    "ecc.uncorrected": 0,
    "ecc.corrected_ever": 12,
    "ecc.uncorrected_ever": 0,
    "sram_exceeded": 0,
    "remap.pending": 0,
    "remap.failed": 0,
    "gsp.on": 1,
    "gsp.default": 1,
    "gsp.version": "570.124.06",
    "persistence": 1,
    "fabric.state": 3,
    "fabric.status": 0,
    "fabric.health": 0,
    f"field.{pynvml.NVML_FI_DEV_MEMORY_TEMP}": 52,
    f"field.{pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX}": 1_000_000,
    f"field.{pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX}": 1_000_000,
    f"field.{pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY}": 0,
    f"field.{pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY}": 0,
    f"field.{pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_CRC}": 0,
    **{f"link.{number}": 1 for number in range(18)},
}
_NVLINK4 = (
    pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY,
    pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY,
    pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_CRC,
)
A100_MIG: Mapping[str, object] = {
    **{key: value for key, value in H100.items() if not key.startswith(("link.", "fabric.", "utilisation.", "margin"))},
    "name": "NVIDIA A100-SXM4-80GB",
    "vbios": "92.00.45.00.03",
    "mig.now": 1,
    "mig.pending": 1,
    "power_limit_mw": 400_000,
    "power_default_mw": 400_000,
    "pcie_gen": 4,
    "pcie_gen_max": 4,
    **{f"link.{number}": 0 for number in range(12)},
}
"""Every GPU in MIG mode: no utilisation of the whole, and the NVLinks are off."""
B200: Mapping[str, object] = {
    **{key: value for key, value in H100.items() if key not in {f"field.{one}" for one in _NVLINK4}},
    "name": "NVIDIA B200",
    "vbios": "97.00.82.00.0F",
    "power_limit_mw": 1_000_000,
    "power_default_mw": 1_000_000,
    "memory.total": 192_265_846_784,
    "fabric.health": "0x2aa",
    f"field.{pynvml.NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_EVENTS}": 0,
}
"""NVLink 5 counts its recoveries in fields of its own; every health bit pair says `false`."""
PROFILES = {"h100": H100, "a100-mig": A100_MIG, "b200": B200}
VARIABLE = "OSTLER_NVML_STATE"


@functools.cache
def library() -> Path:
    """Folder of the compiled mock, made once in a process."""
    folder = Path(tempfile.mkdtemp(prefix="ostler-nvml-"))
    source = Path(__file__).with_name("mock.c")
    target = folder / "libnvidia-ml.so.1"
    soname = "-Wl,-soname,libnvidia-ml.so.1"
    subprocess.run(("cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", soname, "-o", target, source), check=True)
    return folder


def load() -> None:
    """Makes nvidia-ml-py find the mock in this very process: whoever asks for libnvidia-ml.so.1 now gets this one."""
    ctypes.CDLL(str(library() / "libnvidia-ml.so.1"))


class Machine:
    """Eight GPUs (or as many as asked for) of one profile below `root`, to be changed while somebody looks."""

    def __init__(self, folder: Path, profile: str = "h100", gpus: int = 8) -> None:
        self.root = folder / "root"
        self.state = folder / "nvml.state"
        self.addresses = [f"0000:{0x1B + 8 * number:02x}:00.0" for number in range(gpus)]
        self._values: dict[str, object] = {"gpus": gpus}
        for key, value in PROFILES[profile].items():
            self._values[f"gpu.*.{key}"] = value
        for number, address in enumerate(self.addresses):
            self._values[f"gpu.{number}.pci"] = address
            self._values[f"gpu.{number}.serial"] = f"16523220{number:05}"
            self._values[f"gpu.{number}.uuid"] = f"GPU-{number:08x}-0000-0000-0000-000000000000"
            self.plug(address)
        self._write()

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to load the mock."""
        former = os.environ.get("LD_LIBRARY_PATH")
        return {
            VARIABLE: str(self.state),
            "LD_LIBRARY_PATH": f"{library()}{':' + former if former else ''}",
        }

    def set(self, changes: Mapping[str, object] | None = None, gpu: int | None = None, **values: object) -> None:
        """Changes what is said; None takes it back. With `gpu` the keys are that GPU's."""
        for key, value in {**(changes or {}), **values}.items():
            whole = key if gpu is None else f"gpu.{gpu}.{key}"
            if value is None:
                self._values.pop(whole, None)
            else:
                self._values[whole] = value
        self._write()

    def plug(self, address: str, driver: str = "nvidia") -> None:
        """Puts a GPU on the bus, bound to a driver."""
        device = self.root / "sys/bus/pci/devices" / address
        device.mkdir(parents=True, exist_ok=True)
        (device / "vendor").write_text("0x10de\n")
        (device / "class").write_text("0x030200\n")
        there = self.root / "sys/bus/pci/drivers" / driver
        there.mkdir(parents=True, exist_ok=True)
        (device / "driver").unlink(missing_ok=True)
        if driver:
            (device / "driver").symlink_to(there)

    def unplug(self, address: str) -> None:
        """Takes it off the bus."""
        device = self.root / "sys/bus/pci/devices" / address
        for name in ("vendor", "class", "driver"):
            (device / name).unlink()
        device.rmdir()

    def _write(self) -> None:
        new = self.state.with_suffix(".new")
        new.write_text("".join(f"{key} {value}\n" for key, value in self._values.items()))
        new.replace(self.state)
