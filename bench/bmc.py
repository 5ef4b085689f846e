"""How many BMCs one process watches, and what that costs: `python -m bench.bmc [--quick] [--count N]`.

The watch of the server (`health/bmc_watch.py`) with its database (SQLite) polls simulated BMCs over real HTTP: Redfish
documents of an 8-GPU server, sessions, kept connections. The BMCs run in processes of their own on the same cores and
take `ANSWER_S` for each answer; one in a hundred hangs. Two measurements:

flat out   everything is always due: polls a second, and processor time for each
paced      an interval that three quarters of that rate can keep: how late a BMC is asked (p99)

The baseline asks one BMC after the other in the same process: log in, power, sensors, log out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from bench.report import document, target
from ostler.adapters.bmc.port import Credentials
from ostler.adapters.bmc.redfish import RedfishBmcs
from ostler.core.actor import ostler
from ostler.core.clock import SystemClock
from ostler.core.ids import new_id
from ostler.db.engine import Database
from ostler.db.migrate import migrate
from ostler.db.schema import node
from ostler.db.tx import Tx
from ostler.health.bmc_policy import BmcWatchSettings
from ostler.health.bmc_watch import BmcWatch, limits
from ostler.health.model import HealthSettings
from ostler.nodes import service
from ostler.nodes.model import Pool, Service, State

QUICK = (200, 4.0, 6.0)
FULL = (10_000, 60.0, 180.0)
"""BMCs, real seconds flat out (after each was read once), real seconds paced."""
ANSWER_S = 0.02
"""What a simulated BMC takes for one answer; real ones take 50 to 500 ms."""
HUNG = 100
"""One BMC in so many never answers."""
DEADLINE_S = 3.0
PER_PROCESS = 5000
LOGIN = Credentials("admin", "changeme")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, under 50 s")
    parser.add_argument("--count", type=int, help="BMCs")
    parser.add_argument("--twin", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.twin is not None:
        _twin(given.twin)
        return
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    count, flat_s, paced_s = QUICK if given.quick else FULL
    count = given.count or count
    _descriptors()
    with tempfile.TemporaryDirectory(prefix="ostler-bench-") as folder:
        twins = _start(count)
        try:
            addresses = [one for _, share in twins for one in share]
            serial = _serial(addresses[1 : 1 + (20 if given.quick else 60)])
            flat = _watch(Path(folder) / "flat", addresses, 1.0, flat_s)
            every_s = count / (0.75 * flat["polls_per_s"])
            paced = _watch(Path(folder) / "paced", addresses, every_s, paced_s)
        finally:
            for process, _ in twins:
                process.terminate()
                process.wait()
    round_s = 10_000 * flat["cpu_ms_per_poll"] / 1000
    print(
        document(
            "bmc",
            {
                "bmcs": count,
                "hung": len(addresses[::HUNG]),
                "answer_ms": ANSWER_S * 1000,
                "flat_out": flat,
                "paced": {"every_s": round(every_s, 1), **paced},
                "cpu_seconds_for_10000": round(round_s, 1),
            },
            {"serial_polls_per_s": round(serial, 2)},
            {"polls_per_s_to_serial": round(flat["polls_per_s"] / serial, 1)},
            {
                "10,000 BMCs: seconds of one core for a round": target(180.0, round_s, "<="),
                "10,000 BMCs: GiB": target(2.0, flat["growth_kib_per_bmc"] * 10_000 / 2**20, "<="),
                "paced: share of the interval that p99 is late": target(0.1, paced["late_p99_s"] / every_s, "<="),
                "to serial": target(10.0, flat["polls_per_s"] / serial),
            },
            notes=(
                f"simulated: the BMCs (plain HTTP, {ANSWER_S * 1000:g} ms an answer, 1 in {HUNG} hangs), on the same "
                f"cores; real: Redfish client, judgement, books. {count} BMCs were run; figures for 10,000 are by "
                "processor time and memory for each where fewer ran. TLS is not in the numbers."
            ),
        )
    )


def _twin(count: int) -> None:
    """Serve BMCs until standard input ends."""
    from ostler.twin.bmc import TwinBmc, TwinBmcSpec
    from ostler.twin.bmc_server import BmcServer

    server = BmcServer()
    server.start()
    clock = SystemClock()
    gpus = tuple(f"G{n}" for n in range(8))
    bmcs = [TwinBmc(TwinBmcSpec(f"n{n}", f"S{n}", "", gpu_serials=gpus), clock) for n in range(count)]
    for bmc in bmcs:
        bmc.power = "On"
        bmc.faults.slow_seconds = ANSWER_S
    for bmc in bmcs[::HUNG]:
        bmc.faults.slow_seconds = 1e6
    print(json.dumps(server.add_all(bmcs)), flush=True)
    sys.stdin.read()
    os._exit(0)


def _start(count: int) -> list[tuple[subprocess.Popen[str], list[str]]]:
    found = []
    while count > 0:
        share = min(count, PER_PROCESS)
        command = [sys.executable, "-m", "bench.bmc", "--twin", str(share)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        found.append((process, json.loads(process.stdout.readline())))
        count -= share
    return found


def _serial(addresses: Sequence[str]) -> float:
    """Polls a second, one after the other, of BMCs that do answer."""
    factory = RedfishBmcs(limits(BmcWatchSettings(deadline_s=DEADLINE_S)))
    began = time.monotonic()
    for address in addresses:
        with factory.open(address, LOGIN) as bmc:
            bmc.power_state()
            bmc.sensors()
    return len(addresses) / (time.monotonic() - began)


def _watch(folder: Path, addresses: Sequence[str], every_s: float, seconds: float) -> dict[str, Any]:
    """Watch them all at this interval; measured after each was read once."""
    folder.mkdir()
    url = f"sqlite:///{folder / 'ostler.db'}"
    migrate(url)
    clock = SystemClock()
    db = Database(url, clock)
    by_id = db.write(lambda tx: _register(tx, addresses))
    settings = BmcWatchSettings(every_s=every_s, deadline_s=DEADLINE_S, silent_every_s=max(60.0, every_s))
    factory = RedfishBmcs(limits(settings))
    watch = BmcWatch(
        db,
        lambda one: factory.open(by_id[one.id], LOGIN),
        settings,
        HealthSettings(grace_s=0.0),
        lambda _tx, _node, _diagnoses: None,
        owner="bench",
        least_real_s=0.1,
    )
    before = _memory()
    began = time.monotonic()
    watch.start()
    try:
        while watch.counts().polls < len(addresses):
            time.sleep(0.2)
        first_s = time.monotonic() - began
        watch.forget_lateness()
        cpu, start, at = _cpu(), watch.counts(), time.monotonic()
        time.sleep(seconds)
        cpu, end, lasted = _cpu() - cpu, watch.counts(), time.monotonic() - at
        memory = _memory()
    finally:
        watch.stop()
        db.close()
    polls = end.polls - start.polls
    return {
        "first_round_s": round(first_s, 1),
        "polls_per_s": round(polls / lasted, 1),
        "cpu_ms_per_poll": round(1000 * cpu / max(polls, 1), 2),
        "cpu_share_of_one_core": round(cpu / lasted, 2),
        "late_p99_s": round(end.late_p99_s, 2),
        "failed_polls": end.failures - start.failures,
        "silent": end.silent,
        "rss_mib": round(memory / 2**20, 1),
        "growth_kib_per_bmc": round((memory - before) / 1024 / len(addresses), 1),
    }


def _register(tx: Tx, addresses: Sequence[str]) -> dict[str, str]:
    service.define_pool(tx, Pool("default"), actor=ostler("bench"))
    by_id = {new_id("node"): address for address in addresses}
    common = {"pool": "default", "service": Service.MANAGED, "state": State.PRODUCTION, "state_since": tx.now}
    common |= {"revision": 0, "power_locked": False, "busy": False, "inventory": {}, "created_at": tx.now}
    rows = [{"id": one, "name": one, "bmc_address": address, **common} for one, address in by_id.items()]
    tx.execute(node.insert(), rows)
    return by_id


def _descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _memory() -> float:
    """Bytes resident."""
    return float(int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE)


def _cpu() -> float:
    times = os.times()
    return times.user + times.system


if __name__ == "__main__":
    main()
