"""What simulated nodes are made of: names, serials, MACs, places, parts, all from one seed. Used by fleet and demo.

The same (count, seed) gives the same machines on every computer and every run, so a scenario can name them. Eight nodes
stand in a rack and share a leaf switch. The parts are those of a common 8-GPU HGX H100 server; the PCI addresses are
its GPUs' in the field.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ostler.core.errors import BadInput
from ostler.twin.bmc import TwinBmcSpec, default_firmware
from ostler.wire.agent import Disk, Gpu, Inventory, Nic, System

PER_RACK = 8
MOST = 200_000
"""Nodes of one fleet: twice the largest that Ostler is made for."""
SKU = "hgx-h100-8"
GPU_MODEL = "NVIDIA H100 80GB HBM3"
DRIVER = "570.124.06"
KERNEL = "6.8.0-60-generic"
GPU_ADDRESSES = tuple(f"0000:{bus}:00.0" for bus in ("18", "2a", "3a", "5d", "9a", "ab", "ba", "db"))
_FABRIC_BUSES = ("19", "2b", "3b", "5e", "9b", "ac", "bb", "dc")
CPUS = 224
MEMORY_GIB = 2048.0
OUTDATED: Mapping[str, tuple[str, str]] = {
    "FW_BMC_0": ("24.05.11", "24.09.17"),
    "UEFI": ("01.04.00", "01.05.03"),
    "HGX_FW_FPGA_0": ("4.15", "4.24"),
}
"""Component → the version that some nodes are delivered with, and the one that the SKU asks for."""


@dataclass(frozen=True)
class NodeSpec:
    """One machine as it was delivered."""

    number: int
    name: str
    serial: str
    uuid: str
    mac: str
    """Of the interface that boots."""
    slot: str
    """SITE/ROW/RACK/U."""
    rack: str
    fabric: str
    """The leaf switch that its ports go to."""
    gpu_serials: tuple[str, ...]
    firmware: Mapping[str, str] = field(default_factory=dict)

    def inventory(self, firmware: Mapping[str, str], driver: str = DRIVER) -> Inventory:
        """What the node's operating system sees."""
        nics = [Nic("eth0", self.mac, "0000:01:00.0", speed="25000")]
        nics += [
            Nic(f"mlx5_{n}", "", f"0000:{bus}:00.0", "28.39.3560", "400 Gb/sec (4X NDR)")
            for n, bus in enumerate(_FABRIC_BUSES)
        ]
        return Inventory(
            system=System("Fleet", "HGX-8", self.serial, self.uuid),
            cpus=CPUS,
            memory_gib=MEMORY_GIB * 0.985,  # firmware and kernel keep some for themselves
            gpus=tuple(
                Gpu(address, GPU_MODEL, serial, "96.00.74.00.01", 80.0)
                for address, serial in zip(GPU_ADDRESSES, self.gpu_serials, strict=True)
            ),
            nics=tuple(nics),
            disks=tuple(Disk(f"nvme{n}n1", "NVMe 3.84 TB", f"D{self.serial}{n}", 3840.8) for n in range(8)),
            firmware={"bios": firmware.get("UEFI", ""), "nic:mlx5_0": "28.39.3560"},
            driver=driver,
            kernel=KERNEL,
        )

    def bmc(self, username: str, password: str, flash_seconds: float) -> TwinBmcSpec:
        """The same machine out-of-band."""
        return TwinBmcSpec(
            name=self.name,
            serial=self.serial,
            uuid=self.uuid,
            macs=(self.mac,),
            gpu_serials=self.gpu_serials,
            gpu_model=GPU_MODEL,
            memory_gib=MEMORY_GIB,
            cpu_model="Intel(R) Xeon(R) Platinum 8480C",
            username=username,
            password=password,
            firmware=self.firmware,
            flash_seconds=flash_seconds,
        )


def fleet(count: int, seed: int, *, outdated_share: float = 0.25) -> list[NodeSpec]:
    """`count` machines, `gpu-0001` on. About `outdated_share` of them need firmware. Raises `BadInput`."""
    if not 1 <= count <= MOST:
        raise BadInput(f"a fleet has 1 to {MOST} nodes", where="--nodes")
    digits = max(4, len(str(count)))
    return [_node(number, digits, seed, outdated_share) for number in range(1, count + 1)]


def running(count: int, seed: int, after: int) -> list[NodeSpec]:
    """`count` further machines, `run-0001` on, in racks behind those of a fleet of `after`: they are running already
    when the simulation begins. Raises `BadInput`.
    """
    if not 0 <= count <= MOST:
        raise BadInput(f"0 to {MOST} nodes can be running", where="--running")
    first = -(-after // PER_RACK) * PER_RACK + 1
    specs = [_node(first + number, 4, seed, 0.0) for number in range(count)]
    return [replace(spec, name=f"run-{number:04d}") for number, spec in enumerate(specs, 1)]


def _node(number: int, digits: int, seed: int, outdated_share: float) -> NodeSpec:
    rng = random.Random(f"{seed}/{number}")  # noqa: S311  a simulation, repeatable by intent
    place = (number - 1) // PER_RACK + 1
    rack = f"twin/a/r{place:02d}"
    serial = f"T{rng.getrandbits(32):08X}{number:05d}"
    firmware = default_firmware(len(GPU_ADDRESSES))
    firmware |= {component: wanted for component, (_, wanted) in OUTDATED.items()}
    if rng.random() < outdated_share:
        component = rng.choice(list(OUTDATED))
        firmware[component] = OUTDATED[component][0]
    return NodeSpec(
        number=number,
        name=f"gpu-{number:0{digits}d}",
        serial=serial,
        uuid=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        mac="02:" + ":".join(f"{byte:02x}" for byte in (rng.getrandbits(8), rng.getrandbits(8), *number.to_bytes(3))),
        slot=f"{rack}/u{((number - 1) % PER_RACK) * 5 + 1:02d}",
        rack=rack,
        fabric=f"twin/a/leaf{place:02d}",
        gpu_serials=tuple(f"16{rng.getrandbits(36):011d}"[:13] for _ in GPU_ADDRESSES),
        firmware=firmware,
    )


def sku_document() -> dict[str, Any]:
    """What every node of the fleet must have, for `PUT /v1/skus/NAME`. The images are names: the twin flashes words."""
    activation = {"UEFI": "power-cycle"}
    return {
        "gpus": len(GPU_ADDRESSES),
        "gpu_model": "H100",
        "cpus": CPUS,
        "memory_gib": MEMORY_GIB,
        "nics": 9,
        "disks": 8,
        "psus": 6,
        "order": list(OUTDATED),
        "firmware": {
            component: {
                "version": wanted,
                "image": f"http://images.invalid/{component}-{wanted}.fwpkg",
                "activation": activation.get(component, "none"),
            }
            for component, (_, wanted) in OUTDATED.items()
        },
    }
