"""How many BMCs one process watches, and what that costs: `python -m bench.bmc [--quick] [--count N] [--tls]`.

The watch of the server (`health/bmc_watch.py`) with its database (SQLite) polls simulated BMCs over real HTTP: Redfish
documents of an 8-GPU server, sessions, kept connections, an event log of `LOG_LINES`. The BMCs run in processes of
their own on the same cores, are counted apart, and take `ANSWER_S` for each answer; one in a hundred hangs. Each
document is rendered once for all of them: they are there to answer, not to be measured. Two measurements:

flat out   everything is always due, of a share of the BMCs: polls a second, and processor time for each
paced      every BMC at the default interval (`--quick`: one that three quarters of the rate can keep), logs and parts
           at theirs: how late a BMC is asked (p99), and what it costs. In the first minutes after a start, when
           each log that is read for the first time is written down

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

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
from ostler.twin.bmc import Response, TwinBmc, TwinBmcSpec

QUICK = (200, 200, 4.0, 6.0)
FULL = (10_000, 1000, 20.0, 75.0)
"""BMCs, how many of them flat out, real seconds flat out (after each was read once), real seconds paced."""
ANSWER_S = 0.02
"""What a simulated BMC takes for one answer; real ones take 50 to 500 ms."""
HUNG = 100
"""One BMC in so many never answers."""
DEADLINE_S = 3.0
PER_PROCESS = 5000
LOG_LINES = 50
LOGIN = Credentials("admin", "changeme")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, under 50 s")
    parser.add_argument("--count", type=int, help="BMCs")
    parser.add_argument("--every", type=float, help="seconds between two polls of a BMC; the watch's default otherwise")
    parser.add_argument("--workers", type=int, help="conversations at once; the watch's default otherwise")
    parser.add_argument("--tls", action="store_true", help="over TLS, with a self-signed certificate")
    parser.add_argument("--twin", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.twin is not None:
        _twin(given.twin, given.tls)
        return
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    count, flat_count, flat_s, paced_s = QUICK if given.quick else FULL
    count = given.count or count
    defaults = BmcWatchSettings()
    workers = given.workers or defaults.workers
    _descriptors()
    with tempfile.TemporaryDirectory(prefix="ostler-bench-") as folder:
        twins = _Twins(count, given.tls)
        try:
            serial = _serial(twins.addresses[1 : 1 + (20 if given.quick else 60)])
            flat = _watch(Path(folder) / "flat", twins, min(count, flat_count), 1.0, flat_s, workers)
            every_s = given.every or (count / (0.75 * flat["polls_per_s"]) if given.quick else defaults.every_s)
            paced = _watch(Path(folder) / "paced", twins, count, every_s, paced_s, workers)
        finally:
            twins.stop()
    round_s = 10_000 * paced["cpu_ms_per_poll"] / 1000
    tls = " over TLS" if given.tls else ", plain HTTP"
    print(
        document(
            "bmc",
            {
                "bmcs": count,
                "hung": len(twins.addresses[::HUNG]),
                "answer_ms": ANSWER_S * 1000,
                "tls": given.tls,
                "workers": workers,
                "flat_out": flat,
                "paced": {"every_s": round(every_s, 1), **paced},
                "cpu_seconds_for_10000": round(round_s, 1),
            },
            {"serial_polls_per_s": round(serial, 2)},
            {"polls_per_s_to_serial": round(flat["polls_per_s"] / serial, 1)},
            {
                "10,000 BMCs: seconds of one core for a round": target(60.0, round_s, "<="),
                "10,000 BMCs: GiB": target(2.0, paced["growth_kib_per_bmc"] * 10_000 / 2**20, "<="),
                "paced: share of the interval that p99 is late": target(0.1, paced["late_p99_s"] / every_s, "<="),
                "to serial": target(10.0, flat["polls_per_s"] / serial),
            },
            notes=(
                f"simulated: the BMCs ({ANSWER_S * 1000:g} ms an answer{tls}, 1 in {HUNG} hangs), on the same cores, "
                f"their processor time apart (twin_*); real: Redfish client, judgement, books. {count} BMCs were run; "
                "figures for 10,000 are by processor time and memory for each where fewer ran."
            ),
        )
    )


# the simulated BMCs ---------------------------------------------------------------------------------------------------


class _Rendered(TwinBmc):
    """A BMC whose documents are rendered once for all BMCs of the process."""

    documents: ClassVar[dict[str, Response]] = {}

    def handle(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Response:
        if method == "GET" and headers.get("x-auth-token") in self.sessions:
            known = self.documents.get(target)
            if known is None:
                known = self.documents[target] = super().handle(method, target, headers, body)
            return known
        return super().handle(method, target, headers, body)


def _twin(count: int, tls: bool) -> None:
    """Serve BMCs until standard input ends."""
    from ostler.twin.bmc_server import BmcServer

    server = BmcServer(tls=_certificate() if tls else None)
    server.start()
    clock = SystemClock()
    gpus = tuple(f"G{n}" for n in range(8))
    bmcs = [_Rendered(TwinBmcSpec(f"n{n}", f"S{n}", "", gpu_serials=gpus), clock) for n in range(count)]
    for line in range(LOG_LINES):
        bmcs[0].add_log(f"Log line {line}")
    for bmc in bmcs:
        bmc.power = "On"
        bmc.log = bmcs[0].log
        bmc.faults.slow_seconds = ANSWER_S
    for bmc in bmcs[::HUNG]:
        bmc.faults.slow_seconds = 1e6
    print(json.dumps(server.add_all(bmcs)), flush=True)
    sys.stdin.read()
    os._exit(0)


def _certificate() -> Any:
    import ssl

    from ostler.adapters.keys.authority import Authority

    with tempfile.TemporaryDirectory(prefix="ostler-bench-") as folder:
        certificate, key = Authority.open(Path(folder) / "ca", SystemClock()).issue_server(["127.0.0.1"])
        (Path(folder) / "cert").write_bytes(certificate)
        (Path(folder) / "key").write_bytes(key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(Path(folder) / "cert", Path(folder) / "key")
    return context


class _Twins:
    """The processes of the simulated BMCs."""

    def __init__(self, count: int, tls: bool) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self.addresses: list[str] = []
        while count > 0:
            share = min(count, PER_PROCESS)
            command = [sys.executable, "-m", "bench.bmc", "--twin", str(share), *(["--tls"] if tls else [])]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            self._processes.append(process)
            self.addresses += json.loads(process.stdout.readline())
            count -= share

    def cpu(self) -> float:
        """Processor seconds so far."""
        found = 0.0
        for process in self._processes:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            found += (int(fields[11]) + int(fields[12])) / _TICK
        return found

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait()


# the measurements -----------------------------------------------------------------------------------------------------


def _serial(addresses: Sequence[str]) -> float:
    """Polls a second, one after the other, of BMCs that do answer."""
    factory = RedfishBmcs(limits(BmcWatchSettings(deadline_s=DEADLINE_S)))
    began = time.monotonic()
    for address in addresses:
        with factory.open(address, LOGIN) as bmc:
            bmc.power_state()
            bmc.sensors()
    return len(addresses) / (time.monotonic() - began)


def _watch(folder: Path, twins: _Twins, count: int, every_s: float, seconds: float, workers: int) -> dict[str, Any]:
    """Watch `count` of them at this interval; measured after each was read once."""
    folder.mkdir()
    url = f"sqlite:///{folder / 'ostler.db'}"
    migrate(url)
    clock = SystemClock()
    db = Database(url, clock)
    by_id = db.write(lambda tx: _register(tx, twins.addresses[:count]))
    settings = BmcWatchSettings(
        every_s=every_s, workers=workers, deadline_s=DEADLINE_S, silent_every_s=max(60.0, every_s)
    )
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
        while watch.counts().polls < count:
            time.sleep(0.2)
        first_s = time.monotonic() - began
        time.sleep(min(30.0, seconds))  # those that the log-ins made late are through
        watch.forget_lateness()
        cpu, twin_cpu, start, at = os.times(), twins.cpu(), watch.counts(), time.monotonic()
        time.sleep(seconds)
        after, twin_cpu, end, lasted = os.times(), twins.cpu() - twin_cpu, watch.counts(), time.monotonic() - at
        memory = _memory()
    finally:
        watch.stop()
        db.close()
    polls = end.polls - start.polls
    user, system = after.user - cpu.user, after.system - cpu.system
    return {
        "bmcs": count,
        "first_round_s": round(first_s, 1),
        "polls_per_s": round(polls / lasted, 1),
        "cpu_ms_per_poll": round(1000 * (user + system) / max(polls, 1), 2),
        "cpu_ms_per_poll_in_kernel": round(1000 * system / max(polls, 1), 2),
        "cpu_share_of_one_core": round((user + system) / lasted, 2),
        "late_p99_s": round(end.late_p99_s, 2),
        "failed_polls": end.failures - start.failures,
        "silent": end.silent,
        "rss_mib": round(memory / 2**20, 1),
        "growth_kib_per_bmc": round((memory - before) / 1024 / count, 1),
        "load_average": round(os.getloadavg()[0], 1),
        "twin_cpu_ms_per_poll": round(1000 * twin_cpu / max(polls, 1), 2),
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


if __name__ == "__main__":
    main()
