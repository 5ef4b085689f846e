"""What one agent costs its node and how fast it is: CPU, memory, line to server. Run: python -m bench.agent [--quick].

The agent is the real command in a process of its own, following a file (one clean kernel line in every millisecond or
so, one fault in a hundred lines) and, where /dev/kmsg can be read, the kernel's ring as well; the server is the tests'
collector over real TLS on the same machine, so the network is not in the numbers. All passive monitors are on: eight
GPUs by a mock of NVIDIA's library that the real bindings load (so the driver's own time is not in the numbers), the
rest from this machine's /sys and /proc. CPU and memory come from /proc of the agent and of its monitors' process
together; PSS counts what both share once. The baseline is the naive follower: `re.search` of each line against each
pattern of a short list, in the same process run, per line.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.report import document, target
from ostler.faults import Detector
from tests.flow.agent.collector import Authority, Collector, Memory
from tests.nvml.machine import Machine

CODE = (
    "import typer, pathlib, os, ostler.agent.run as run; run.ROOT = pathlib.Path(os.environ['BENCH_ROOT']);"
    "from ostler.cli.agent import agent_command; typer.run(agent_command)"
)
COMMAND = (sys.executable, "-c", CODE)
CLEAN = "{stamp} gpu-1 kernel: nvme nvme0: {n}/0/0 default/read/poll queues of an ordinary line that means nothing"
FAULT = "{stamp} gpu-1 kernel: NVRM: Xid (PCI:0000:{bus:02x}:00): 79, pid={n}, GPU has fallen off the bus."
MONITORS = 8


def tree(pid: int) -> tuple[int, ...]:
    """The agent and its monitors' process."""
    return (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def cpu_seconds(pid: int) -> float:
    """User and system time of both processes so far, to the nanosecond of the scheduler."""
    spent = 0
    for one in tree(pid):
        for task in Path(f"/proc/{one}/task").iterdir():
            spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e9


def memory_mb(pid: int, key: str) -> float:
    """VmRSS or VmHWM (status), Pss (smaps_rollup) of one process in MB of 10^6 bytes."""
    name = "smaps_rollup" if key == "Pss" else "status"
    for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(key)


def whole(pid: int, key: str) -> float:
    """The sum over both processes."""
    return sum(memory_mb(one, key) for one in tree(pid))


def furnish(machine: Machine) -> None:
    """This machine's own trees below the mock's root, but for its PCI bus."""
    for name in ("proc", "etc", "run", "dev", "usr"):
        (machine.root / name).symlink_to(f"/{name}")
    for entry in Path("/sys").iterdir():
        if entry.name != "bus":
            (machine.root / "sys" / entry.name).symlink_to(entry)


def stamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e6):06}+00:00"


def feed(log: Path, rate: float, seconds: float, faults: float) -> dict[int, float]:
    """Writes `rate` lines a second; a share of `faults` are faults, whose time of writing is answered by their pid."""
    written: dict[int, float] = {}
    begin, number, faulty = time.time(), 0, 0.0
    with log.open("a", buffering=1) as file:
        while (now := time.time()) < begin + seconds:
            while number < (now - begin) * rate:
                number += 1
                faulty += faults
                if faulty >= 1:
                    faulty -= 1
                    written[number] = time.time()
                    # 200 buses and devices apart, so that the throttle (one signal per fault and device) lets each by
                    file.write(FAULT.format(stamp=stamp(now), bus=len(written) % 250, n=number) + "\n")
                else:
                    file.write(CLEAN.format(stamp=stamp(now), n=number) + "\n")
            time.sleep(0.005)
    return written


def measure(pid: int, log: Path, rate: float, seconds: float, faults: float) -> tuple[float, dict[int, float]]:
    """CPU percent of one core over the time of feeding."""
    cpu, wall = cpu_seconds(pid), time.perf_counter()
    written = feed(log, rate, seconds, faults) if rate else {}
    if not rate:
        time.sleep(seconds)
    return 100 * (cpu_seconds(pid) - cpu) / (time.perf_counter() - wall), written


def naive(lines: list[bytes]) -> float:
    """Microseconds per line of the plain way."""
    words = (rb"NVRM: Xid", rb"SXid", rb"AER:", rb"EDAC", rb"mce:", rb"nvme\d+: .*timeout", rb"mlx5_core.*health",
             rb"Out of memory", rb"soft lockup", rb"EXT4-fs error", rb"I/O error", rb"NETDEV WATCHDOG")  # fmt: skip
    patterns = [re.compile(word) for word in words]
    begin = time.perf_counter()
    for line in lines:
        for pattern in patterns:
            pattern.search(line)
    return (time.perf_counter() - begin) / len(lines) * 1e6


def ours(lines: list[bytes]) -> float:
    """Microseconds per line of the agent's detector."""
    detector = Detector()
    begin = time.perf_counter()
    for line in lines:
        detector.detect(line)
    return (time.perf_counter() - begin) / len(lines) * 1e6


def alive(memory: Memory) -> set[str]:
    """Monitors that have looked, well or not."""
    return {signal.device for signal in memory.signals() if signal.code in ("census", "dead")}


def main(quick: bool) -> None:
    seconds = 8.0 if quick else 60.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        collector = Collector(Authority(folder))
        memory = collector.memory
        log, seed = folder / "kern.log", folder / "seed.json"
        log.touch()
        ca = {"ca_sha256": collector.authority.sha256, "ca_pem": collector.authority.pem}
        seed.write_text(json.dumps({"server": collector.url, "token": "token-1", "nonce": "n", **ca}))
        machine = Machine(folder)
        furnish(machine)
        environment = {**os.environ, **machine.environment, "BENCH_ROOT": str(machine.root)}
        kmsg = ("--source", "kmsg") if os.access("/dev/kmsg", os.R_OK) else ()
        state = ("--state-dir", str(folder / "state"))
        joins = (*COMMAND, "--seed", str(seed), *state, "--file", str(log), "--no-monitors")
        first = subprocess.Popen(joins, env=environment)
        memory.wait_until(lambda: bool(memory.reports), "a report")
        first.send_signal(signal.SIGTERM)  # the join loads what a joined agent never does: measure the second life
        first.wait()
        known = len(memory.reports)
        child = subprocess.Popen((*COMMAND, *state, "--file", str(log), *kmsg), env=environment)
        try:
            memory.wait_until(lambda: len(memory.reports) > known, "a report of the second life")
            memory.wait_until(lambda: len(alive(memory)) == MONITORS, "a census of every monitor")
            idle, _ = measure(child.pid, log, 0, seconds, 0)
            busy, written = measure(child.pid, log, 100, seconds, 0.1)
            memory.wait_until(lambda: len(memory.signals()) >= len(written), "all signals")
            processes = [memory_mb(one, "VmRSS") for one in tree(child.pid)]
            rss, pss = sum(processes), whole(child.pid, "Pss")
            before = len(memory.signals())
            flood, _ = measure(child.pid, log, 20_000, seconds / 2, 0.5)
            peak = whole(child.pid, "VmHWM")
            flooded = len(memory.signals()) - before
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait()
            collector.stop()
        boot = memory.boot()
        latencies = sorted(
            boot.received[item.seq] - written[int(str(item.detail["pid"]))]
            for item in boot.signals
            if str(item.detail.get("pid")).isdecimal() and int(str(item.detail["pid"])) in written
        )[: len(written)]
    lines = [CLEAN.format(stamp="", n=n).split("kernel: ")[1].encode() for n in range(50_000)]
    slow, fast = naive(lines), ours(lines)
    p99 = latencies[int(len(latencies) * 0.99) - 1]
    metrics = {
        "cpu_percent_idle": round(idle, 3),
        "cpu_percent_100_lines_s": round(busy, 3),
        "cpu_percent_20000_lines_s": round(flood, 1),
        "signals_of_the_flood": flooded,
        "rss_mb": round(rss, 1),
        "rss_mb_agent": round(processes[0], 1),
        "rss_mb_monitors": round(sum(processes[1:]), 1),
        "pss_mb": round(pss, 1),
        "monitors": MONITORS,
        "gpus": len(machine.addresses),
        "rss_peak_mb": round(peak, 1),
        "latency_ms_p50": round(statistics.median(latencies) * 1000, 1),
        "latency_ms_p99": round(p99 * 1000, 1),
        "latency_samples": len(latencies),
        "detect_us_per_line": round(fast, 3),
        "kmsg_followed": bool(kmsg),
    }
    print(
        document(
            "agent",
            metrics,
            {"naive_us_per_line": round(slow, 3)},
            {"naive_to_detect": round(slow / fast, 1)},
            {
                "cpu_percent": target(1.0, idle, "<="),
                "rss_mb": target(60.0, rss, "<="),
                "signal_leaves_s": target(1.0, p99, "<="),
            },
            notes="server on the same machine; a file is looked at every 0.2 s, /dev/kmsg wakes the agent at once; "
            "the CPU target is for a quiet node; 100 and 20,000 lines/s are floods; rss_mb adds "
            "what the two processes share twice, pss_mb once; the GPUs are a mock library's",
        )
    )


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
