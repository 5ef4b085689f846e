"""How many megabytes of kernel log one CPU-second scans: `python -m bench.scan [--quick]`.

The same generated log (one seed, 32 shapes of ordinary lines) is scanned three ways in one process: Python's `re`,
line by line, for the words that tell each of the catalogue's faults (on a slice, because it is slow); the engine that
needs nothing but Python; the Hyperscan engine. "Clean" has a fault in 0.1 % of its lines, "dirty" in 5 %. Figures are
MB (10^6 bytes) of log per second of CPU time of this process, reading the file from the page cache included, best of
the rounds.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.report import document, target
from ostler.faults import Detector, bulk, catalogue, formats

CLEAN, DIRTY = 0.001, 0.05

NOISE = (
    "audit: type=1400 audit({s}:{n}): apparmor=\"STATUS\" operation=\"profile_load\" profile=\"unconfined\" "
    "name=\"docker-{x}\" pid={p}",
    "audit: type=1327 audit({s}:{n}): proctitle=2F7573722F62696E2F{x}",
    "cni0: port {d}(veth{x}) entered blocking state",
    "cni0: port {d}(veth{x}) entered forwarding state",
    "device veth{x} left promiscuous mode",
    "IPv6: ADDRCONF(NETDEV_CHANGE): veth{x}: link becomes ready",
    "eth0: renamed from veth{x}",
    "docker0: port {d}(veth{x}) entered disabled state",
    "IPv4: martian source 10.{d}.{d2}.{d} from 10.{d2}.{d}.{d2}, on dev eth0",
    "TCP: request_sock_TCP: Possible SYN flooding on port {p}. Sending cookies.",
    "nf_conntrack: nf_conntrack: table full, dropping packet",
    "perf: interrupt took too long ({p} > {p}), lowering kernel.perf_event_max_sample_rate to {p}",
    "EXT4-fs (nvme{d}n1p1): mounted filesystem {x} r/w with ordered data mode. Quota mode: none.",
    "XFS (dm-{d}): Mounting V5 Filesystem {x}",
    "XFS (dm-{d}): Ending clean mount",
    "overlayfs: upper fs does not support RENAME_WHITEOUT.",
    "nvidia-uvm: Loaded the UVM driver, major device number {p}.",
    "NVRM: GPU at PCI:0000:{b}:00: GPU-{x}-{x}",
    "nvidia 0000:{b}:00.0: enabling device (0000 -> 0002)",
    "mlx5_core 0000:{b}:00.0: E-Switch: Total vports {d}, per vport: max uc(128) max mc(2048)",
    "mlx5_core 0000:{b}:00.0 eth{d}: Self test out: status flags(0x1)",
    "pcieport 0000:{b}:01.0: PME: Signaling with IRQ {p}",
    "pci 0000:{b}:00.0: BAR 0: assigned [mem 0x{x}000000-0x{x}ffffff 64bit pref]",
    "ACPI: \\_SB_.PC{d}.DEV{d2}: _PR3 methods evaluated",
    "systemd[1]: Started Session {p} of User root.",
    "usb 1-{d}: new high-speed USB device number {d2} using xhci_hcd",
    "hrtimer: interrupt took {p} ns",
    "clocksource: timekeeping watchdog on CPU{d}: Marking clocksource 'tsc' as unstable because the skew is too large:",
    "UDP: bad checksum. From 10.{d}.{d2}.{d}:{p} to 10.{d2}.{d}.{d2}:{p} ulen {p}",
    "nvme nvme{d}: {p}/0/0 default/read/poll queues",
    "bpfilter: Loaded bpfilter_umh pid {p}",
    "traps: python3[{p}] trap int3 ip:7f{x} sp:7f{x} error:0",
)  # fmt: skip
WEIGHTS = (12, 12, 8, 8, 6, 6, 6, 4, 6, 2, 2, 1, 1, 1, 1, 2, 1, 2, 1, 1, 1, 2, 2, 1, 4, 1, 1, 1, 2, 0.2, 1, 1)

FAULTS = (
    "NVRM: Xid (PCI:0000:{b}:00): 13, pid={p}, name=python3, Graphics SM Warp Exception on (GPC {d}, TPC {d2}, "
    "SM 0): Out Of Range Address",
    "NVRM: Xid (PCI:0000:{b}:00): 31, pid={p}, name=python3, Ch 0000000{d}, intr 00000000. MMU Fault: ENGINE "
    "GRAPHICS faulted @ 0x7f{x}_{x}000",
    "NVRM: Xid (PCI:0000:{b}:00): 94, pid={p}, name=python3, Contained: CE User Channel (0x9). RST: No, D-RST: No",
    "NVRM: Xid (PCI:0000:{b}:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
    "NVRM: Xid (PCI:0000:{b}:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 0{d} (0x021425c6 0x00000000 "
    "0x00000000 0x00000000 0x00000000 0x00000000)",
    "nvidia-nvswitch{d}: SXid (PCI:0000:{b}:00.0): 12028, Non-fatal, Link {d2} egress non-posted PRIV error (First)",
    "pcieport 0000:{b}:01.0: AER: Corrected error received: 0000:{b}:00.0",
    "nvidia 0000:{b}:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)",
    "pcieport 0000:{b}:01.0: AER: Corrected error received: 0000:{b}:00.0",
    "EDAC MC{d}: 1 CE memory read error on CPU_SrcID#0_MC#{d}_Chan#1_DIMM#0 (channel:1 slot:0 page:0x{x} offset:0x0)",
    "mce: [Hardware Error]: Machine check events logged",
    "mlx5_core 0000:{b}:00.0 ib{d}: Link down",
    "mlx5_core 0000:{b}:00.0: Port module event: module {d}, Cable unplugged",
    "nvme nvme{d}: I/O {p} QID {d2} timeout, aborting",
    "blk_update_request: I/O error, dev nvme{d}n1, sector {p} op 0x1:(WRITE) flags 0x1000 phys_seg 8 prio class 0",
    "EXT4-fs error (device nvme{d}n1p1): ext4_find_entry:1455: inode #{p}: comm python3: reading directory lblock 0",
    "Memory cgroup out of memory: Killed process {p} (python3) total-vm:{p}kB, anon-rss:{p}kB, file-rss:0kB",
    "watchdog: BUG: soft lockup - CPU#{d} stuck for 22s! [python3:{p}]",
    "CPU{d}: Package temperature above threshold, cpu clock throttled (total events = {p})",
)  # fmt: skip


def generate(path: Path, size: int, share: float, seed: int = 11) -> int:
    """Write about `size` bytes of syslog with faults in `share` of the lines; return the number of faults."""
    rng = random.Random(seed)
    buses = ("0f", "1b", "43", "52", "9d", "9e", "c3", "d1")
    seconds, written, faults = 1000.0, 0, 0
    with path.open("wb") as out:
        while written < size:
            batch = []
            for _ in range(2000):
                hit = rng.random() < share
                shape = rng.choice(FAULTS) if hit else rng.choices(NOISE, WEIGHTS)[0]
                faults += hit
                seconds += rng.random() / 5
                said = shape.format(
                    s=f"{1_763_000_000 + seconds:.3f}", n=rng.randrange(9999), x=f"{rng.getrandbits(32):08x}",
                    p=rng.randrange(1000, 99999), d=rng.randrange(8), d2=rng.randrange(16), b=rng.choice(buses),
                )  # fmt: skip
                day, rest = divmod(int(seconds), 86400)
                stamp = f"Nov {1 + day % 28:2d} {rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
                batch.append(f"{stamp} gpu-node-0042 kernel: [{seconds:12.6f}] {said}\n")
            data = "".join(batch).encode()
            out.write(data)
            written += len(data)
    return faults


def per_line_re(path: Path, limit: int) -> int:
    """The baseline, what a script does: for each line one `re.search` per fault, for that fault's telling words."""
    patterns = [re.compile(b"|".join(map(re.escape, entry.anchors))) for entry in catalogue.ENTRIES]
    hits = 0
    with path.open("rb") as log:
        for line in log.read(limit).splitlines():
            hits += any(pattern.search(line) for pattern in patterns)
    return hits


def with_engine(path: Path, engine: bulk.Engine) -> int:
    with path.open("rb") as log:
        return sum(1 for _ in bulk.scan(Detector(), log, formats.Format.AUTO, engine=engine))


def rate(work: Callable[[], int], size: int, rounds: int) -> tuple[float, int]:
    """(best MB per CPU-second, what `work` returned)."""
    best, result = 0.0, 0
    for _ in range(rounds):
        start = time.process_time()
        result = work()
        best = max(best, size / 1e6 / (time.process_time() - start))
    return best, result


def engines() -> Iterator[bulk.Engine]:
    yield bulk.LiteralEngine()
    try:
        yield bulk.HyperscanEngine()
    except ImportError:
        print("hyperscan is not installed: its targets are not measured", file=sys.stderr)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--quick", action="store_true", help="smaller logs, under 50 s on two cores")
    quick = arguments.parse_args().quick
    size, rounds = (64 << 20, 5) if quick else (512 << 20, 5)
    slice_bytes = 2 << 20 if quick else 8 << 20
    metrics: dict[str, float] = {}
    baseline: dict[str, float] = {}
    ratio: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="ostler-bench-") as folder:
        for name, share in (("clean", CLEAN), ("dirty", DIRTY)):
            log = Path(folder) / f"{name}.log"
            faults = generate(log, size, share)
            real = log.stat().st_size
            baseline[f"re_per_line_{name}_mb_per_cpu_s"], _ = rate(
                partial(per_line_re, log, slice_bytes), slice_bytes, 1
            )
            print(
                f"{name}: {real / 1e6:.0f} MB, {faults} faults; re per line "
                f"{baseline[f're_per_line_{name}_mb_per_cpu_s']:.1f} MB/CPU-s"
            )
            for engine in engines():
                speed, hits = rate(partial(with_engine, log, engine), real, rounds)
                if hits != faults:
                    raise SystemExit(f"{engine.name} found {hits} of {faults} faults in the {name} log")
                metrics[f"{engine.name}_{name}_mb_per_cpu_s"] = round(speed, 1)
                ratio[f"{engine.name}_{name}"] = round(speed / baseline[f"re_per_line_{name}_mb_per_cpu_s"], 1)
                print(f"{name}: {engine.name} {speed:.0f} MB/CPU-s")
    metrics["peak_rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    targets = {"no_extra_clean": target(60, metrics["literals_clean_mb_per_cpu_s"])}
    if "hyperscan_clean_mb_per_cpu_s" in metrics:
        targets["hyperscan_clean"] = target(400, metrics["hyperscan_clean_mb_per_cpu_s"])
        targets["hyperscan_dirty"] = target(200, metrics["hyperscan_dirty_mb_per_cpu_s"])
    notes = (
        f"generated syslog, {len(NOISE)} shapes of ordinary lines and {len(FAULTS)} of faults; very long lines, "
        "compression and printing are not part of it"
    )
    rounded = {name: round(value, 2) for name, value in baseline.items()}
    print(document("scan", metrics, rounded, ratio, targets, notes=notes))


if __name__ == "__main__":
    main()
