"""Which checks there are. Read by `python -m ostler.checks`, the agent and `ostler checks list`; loads them one by one.

To add one: a module here with `run(arguments, budget_s)`, and a line below (docs/adding-a-check.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

from ostler.checks.model import SHARED_ARGUMENTS, Arguments, CheckResult
from ostler.core.errors import NotFound


@dataclass(frozen=True, slots=True)
class Check:
    """One entry: how it is called, what it tells, what it takes."""

    name: str
    module: str
    """`module`, whose `run` it is, or `module:function`."""
    summary: str
    seconds: float
    """About how long it runs unless told otherwise."""
    arguments: Mapping[str, str]
    """Name to what it means, with the default."""
    needs: str = ""
    """What must be installed beside Ostler itself; without it the check is inconclusive."""

    def run(self, arguments: Arguments, budget_s: float) -> CheckResult:
        """Runs it in this process, within about `budget_s` real seconds. Raises BadInput for a bad argument."""
        module, _, function = self.module.partition(":")
        run: Callable[[Arguments, float], CheckResult] = getattr(import_module(module), function or "run")
        return run(arguments, budget_s)


_GPU = "the extra 'gpu'"
_MOVED = {
    "mib": "how much is moved at a time (1024; in HBM 4096)",
    "repeats": "timed moves (10; in HBM 20)",
    "peer_percent": "how far below the median one may be (not compared)",
}

CHECKS: Mapping[str, Check] = {
    check.name: check
    for check in (
        Check(
            "cpu-arith",
            "ostler.checks.cpu_arith",
            "repeats the same arithmetic on every core and compares the digests: finds silent corruption",
            10.0,
            {"seconds": "how long in all (10)", "peer_percent": "how much slower than the median core one may be"},
        ),
        Check(
            "memory-pattern",
            "ostler.checks.memory_pattern",
            "writes patterns over memory and reads them back",
            10.0,
            {
                "mib": "how much memory at a time (256)",
                "seconds": "how long in all (10)",
                "min_mb_s": "least rate, written and read (none)",
            },
        ),
        Check(
            "disk-write",
            "ostler.checks.disk_write",
            "writes a file through to the disk, reads it back, compares digests, measures both",
            10.0,
            {"path": "folder on the disk to test (the temporary folder)", "mib": "size of the file (64)"},
        ),
        Check(
            "gpu-present",
            "ostler.checks.gpu_present",
            "counts the NVIDIA GPUs on the PCI bus and compares with what is expected",
            0.1,
            {"expected": "how many there must be (required)"},
        ),
        Check(
            "storage",
            "ostler.checks.storage",
            "writes, reads and syncs on each mount: wrong bytes, slow or stalling disks",
            20.0,
            {
                "paths": "folders, separated by commas (the temporary folder)",
                "mib": "size of the file (256)",
                "small_writes": "how many synchronous 4 KiB writes (200)",
                "min_write_mb_s": "least rate of writing (none)",
                "min_read_mb_s": "least rate of reading (none)",
                "max_p99_ms": "most that 99 of 100 synchronous writes may take (none)",
            },
        ),
        Check(
            "sdc",
            "ostler.checks.gpu.sdc",
            "repeats bit-exact GEMM and attention on all GPUs and compares digests: silent data corruption",
            60.0,
            {
                **SHARED_ARGUMENTS,
                "seconds": "how long in all (60)",
                "kernels": "which, separated by commas (GEMM and attention in three types)",
                "size": "rows of a matrix, tokens of attention (4096)",
                "inner": "repeats between two digests (20)",
                "seed": "of the inputs (1)",
                "golden": "store of golden digests: a file, or the JSON itself (none)",
                "require_golden": "1: without a golden digest it is inconclusive (0)",
                "observations": "file to write this run's digests to, for `ostler checks golden` (none)",
            },
            needs=_GPU,
        ),
        Check(
            "gemm",
            "ostler.checks.gpu.gemm",
            "matrix products in FP8, FP16, BF16, TF32: right, and as fast as they should be",
            60.0,
            {
                **SHARED_ARGUMENTS,
                "dtypes": "which types, separated by commas (fp8,fp16,bf16,tf32)",
                "size": "rows of a matrix (8192)",
                "repeats": "timed products (30)",
                **{f"min_{name}_tflops": "least rate (none)" for name in ("fp8", "fp16", "bf16", "tf32")},
                "baseline": "this node's own history, such as bf16:712,fp8:1310 in TFLOP/s (none)",
                "drop_percent": "how far below its history it may be (5)",
                "peer_percent": "how far below its siblings' median a GPU may be (not compared)",
            },
            needs=_GPU,
        ),
        Check(
            "hbm-march",
            "ostler.checks.gpu.hbm_march",
            "march patterns, checkerboards and addresses over GPU memory",
            60.0,
            {
                **SHARED_ARGUMENTS,
                "share": "least share of the memory that must be tested (0.9)",
                "reserve_mib": "memory to leave alone (1024)",
                "mib": "memory to test at most (all that is free)",
                "chunk_mib": "size of a step (256)",
            },
            needs=_GPU,
        ),
        Check(
            "hbm-bandwidth",
            "ostler.checks.gpu.bandwidth:hbm_bandwidth",
            "copy and triad within each GPU's memory",
            20.0,
            {**SHARED_ARGUMENTS, **_MOVED, "min_gb_s": "least rate, read and written (none)"},
            needs=_GPU,
        ),
        Check(
            "pcie-bandwidth",
            "ostler.checks.gpu.bandwidth:pcie_bandwidth",
            "pinned memory to each GPU and back",
            20.0,
            {
                **SHARED_ARGUMENTS,
                **_MOVED,
                "min_h2d_gb_s": "least rate to the GPU (none)",
                "min_d2h_gb_s": "least rate from the GPU (none)",
            },
            needs=_GPU,
        ),
        Check(
            "nvlink-p2p",
            "ostler.checks.gpu.bandwidth:nvlink_p2p",
            "from each GPU to each other; the slowest pair against the median",
            30.0,
            {**SHARED_ARGUMENTS, **_MOVED, "min_gb_s": "least rate of a pair (none)"},
            needs=_GPU,
        ),
        Check(
            "thermal-soak",
            "ostler.checks.gpu.thermal_soak",
            "full load on all GPUs: temperature, clocks held down, a rate that sinks",
            300.0,
            {
                **SHARED_ARGUMENTS,
                "seconds": "how long (300)",
                "size": "rows of a matrix (8192)",
                "max_temp_c": "highest temperature (not judged)",
                "drift_percent": "how far the rate may sink (10)",
                "peer_percent": "how far below its siblings' median a GPU may be (not compared)",
            },
            needs=_GPU,
        ),
        Check(
            "nccl-allreduce",
            "ostler.checks.gpu.nccl_allreduce",
            "all-reduce over the node's GPUs, or over those of two nodes: right sums, bus bandwidth",
            60.0,
            {
                **SHARED_ARGUMENTS,
                "mib": "size of what is reduced (4096)",
                "repeats": "timed reductions (20)",
                "min_busbw_gb_s": "least bus bandwidth (none)",
                "role": "between two nodes: first or second (one node alone)",
                "peer": "between two nodes: the address at which first listens",
                "port": "between two nodes: its port (29400)",
                "token": "between two nodes: the same word for both",
            },
            needs=_GPU,
        ),
        Check(
            "ib-write-bw",
            "ostler.checks.ib_write_bw",
            "RDMA write bandwidth between two nodes",
            30.0,
            {
                "role": "server or client (required)",
                "hca": "the adapter, such as mlx5_0 (required)",
                "peer": "for the client: the server's address",
                "port": "TCP port at which the two meet (18515)",
                "ib_port": "port of the adapter (1)",
                "bytes": "size of a message (1048576)",
                "seconds": "how long (10)",
                "cuda": "number of the GPU whose memory is used (host memory)",
                "min_gbit_s": "least average rate (none)",
            },
            needs="perftest",
        ),
        Check(
            "ib-neighbours",
            "ostler.checks.ib_neighbours",
            "which switch port each InfiniBand port is plugged into, without a subnet manager's help",
            5.0,
            {"hcas": "how many HCAs with an InfiniBand port there must be (not counted)"},
            needs="infiniband-diags",
        ),
        Check(
            "dcgm-diag",
            "ostler.checks.dcgm_diag",
            "NVIDIA's own diagnostics, read for what they say: allocation errors, skips and links included",
            300.0,
            {
                "level": "1 to 4 (2)",
                "gpus": "how many GPUs the report must name (not counted)",
                "nvlink": "0: do not ask for the state of the links (1)",
                "allow_skipped": "tests that may be skipped, separated by commas, - for a space (none)",
            },
            needs="DCGM",
        ),
    )
}


def find(name: str) -> Check:
    """The check of that name. Raises NotFound, which lists the names."""
    check = CHECKS.get(name)
    if check is None:
        raise NotFound(f"no check is called {name[:64]!r}; there are {', '.join(sorted(CHECKS))}")
    return check
