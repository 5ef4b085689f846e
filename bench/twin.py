"""How many simulated machines one process carries, and what they cost: `python -m bench.twin [--quick]`.

A real `ostler serve` runs beside the fleet on the same cores, so the rates are those of both together; the twin's own
cost is given in CPU milliseconds per report and memory per machine. Two parts, each in a process of its own:

full   machines with the real agent: boot, join, heartbeats every 2 s, measured when all are up
thin   nodes without an agent: real TLS and certificates, as many reports as the server takes; first with a connection
       per report (sessions resumed), then with connections that are kept

The baseline is one `ostler agent` process per node, by the memory of such a process. `--count` and `--thin` set the
numbers of machines by hand, for a larger machine.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench.report import document, target

QUICK = (60, 100, 4.0)
FULL = (1000, 4000, 20.0)
"""Machines, thin nodes, real seconds of each measurement."""
HEARTBEAT_S = 2.0
"""Real seconds between two heartbeats of a machine here; 30 in the field. What a report costs is what is measured."""
FIELD_S = 30.0
KEPT = 8_000
WARM_UP = 8
"""Thin nodes that run first, so that libraries and buffers are not counted as theirs."""
PATIENCE_S = 1200.0
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")

CONFIG = """
[server]
data_dir = "{folder}/data"
listen = "127.0.0.1:0"
boot_listen = "127.0.0.1:0"
agent_listen = "127.0.0.1:0"
[bmc]
password = "env:OSTLER_BMC_PASSWORD"
[pools.default]
capabilities = ["observe", "provision"]
[health]
heartbeat_s = {heartbeat}
silent_after_s = 3600.0
[provisioning]
image_folder = "{folder}/images"
unjoined_limit = 200000
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, under 50 s")
    parser.add_argument("--count", type=int, help="machines with an agent")
    parser.add_argument("--thin", type=int, help="thin nodes")
    parser.add_argument("--child", choices=["full", "thin"], help=argparse.SUPPRESS)
    parser.add_argument("--boot", help=argparse.SUPPRESS)
    parser.add_argument("--api", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=10.0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        where = (given.boot, given.api, given.seconds)
        found = _full(given.count, *where) if given.child == "full" else _thin(given.count, given.thin, *where)
        print(json.dumps(found))
        return
    count, thin, seconds = QUICK if given.quick else FULL
    count, thin = given.count or count, given.thin or thin
    whole, light = _run(count, thin, seconds)
    agent = _agent_memory()
    per_node = whole["memory_mib"] / count
    print(f"full: {whole}\nthin: {light}\none agent process: {agent:.1f} MiB", file=sys.stderr)
    cores = 1000 / FIELD_S * whole["cpu_ms_per_report"] / 1000
    gib = (100_000 * light["resumed"]["kib_per_node"] + KEPT * light["kept"]["kib_per_connection"]) / 2**20
    print(
        document(
            "twin",
            {
                "machines": count,
                "full": whole,
                "thin_nodes": thin,
                "thin": light,
                "mib_per_machine": round(per_node, 3),
                "cores_for_1000_machines": round(cores, 3),
                "gib_for_100000_thin": round(gib, 2),
                "seconds_per_round_of_100000_thin": round(100_000 / max(light["resumed"]["reports_per_s"], 0.001)),
                "hours_to_join_100000": round(100_000 / light["joins_per_s"] / 3600, 2),
            },
            {"agent_process_mib": round(agent, 1)},
            {"memory_per_machine": round(agent / per_node, 1)},
            {
                "1,000 machines: share of 2 cores": target(0.5, cores / 2, "<="),
                "1,000 machines: GiB": target(2.0, per_node * 1000 / 1024, "<="),
                "100,000 thin nodes: GiB": target(8.0, gib, "<="),
            },
            notes=(
                "simulated: power, boot time, parts, kernel log; real: HTTP, cloud-init, TLS, certificates, reports. "
                f"{count} machines and {thin} thin nodes were run; figures for 1,000 and 100,000 are extrapolated from "
                "them where fewer ran. A server shares the cores, so rates are those of both together, and joining is "
                "as fast as it serves seeds and signs certificates."
            ),
        )
    )


def _run(count: int, thin: int, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both parts, one after the other, against one server."""
    with tempfile.TemporaryDirectory(prefix="ostler-bench-") as folder:
        (Path(folder) / "images").mkdir()
        for image in ("vmlinuz", "initrd"):
            (Path(folder) / "images" / image).write_bytes(b"x")
        config = Path(folder) / "ostler.toml"
        config.write_text(CONFIG.format(folder=folder, heartbeat=HEARTBEAT_S))
        token = secrets.token_urlsafe(24)
        environment = os.environ | {"OSTLER_ADMIN_TOKEN": token, "OSTLER_TOKEN": token, "OSTLER_BMC_PASSWORD": "x"}
        server = subprocess.Popen(
            [sys.executable, "-m", "ostler", "serve", "--config", str(config)],
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        try:
            assert server.stdout is not None
            ready = json.loads(server.stdout.readline())
            found = []
            for name in ("full", "thin"):
                child = [sys.executable, "-m", "bench.twin", "--child", name, "--count", str(count)]
                child += ["--thin", str(thin), "--boot", ready["boot"], "--api", ready["operator"]]
                child += ["--seconds", str(seconds)]
                before = _cpu(server.pid)
                done = subprocess.run(child, stdout=subprocess.PIPE, env=environment, text=True, check=True)
                part: dict[str, Any] = json.loads(done.stdout)
                part["server_cpu_s"] = round(_cpu(server.pid) - before, 2)
                part["server_memory_mib"] = round(_memory(server.pid), 1)
                found.append(part)
            return found[0], found[1]
        finally:
            server.terminate()
            server.wait()


def _full(count: int, boot: str, api: str, seconds: float) -> dict[str, Any]:
    from ostler.core.clock import SystemClock
    from ostler.twin.enrolment import OperatorApi
    from ostler.twin.fleet import Fleet, FleetSettings
    from ostler.twin.spec import fleet

    start_memory = _memory(os.getpid())
    settings = FleetSettings(boot, boot_s=0.0, start_s=0.0)
    specs = fleet(count, 1)
    with Fleet(specs, settings, SystemClock(), seed=1) as machines:
        OperatorApi(api, os.environ["OSTLER_TOKEN"]).enrol(specs, machines.bmc_addresses)
        began = time.monotonic()
        machines.power_on()
        _until(lambda: machines.phases()["up"] == count)
        up_s = time.monotonic() - began
        _until(lambda: _reports(machines) >= 3 * count)  # the first reports carry the inventory
        cpu, reports, threads = _cpu(os.getpid()), _reports(machines), threading.active_count()
        time.sleep(seconds)
        cpu, reports = _cpu(os.getpid()) - cpu, _reports(machines) - reports
        memory = _memory(os.getpid())
    return {
        "memory_mib": round(memory, 1),
        "memory_growth_mib": round(memory - start_memory, 1),
        "threads": threads,
        "all_up_s": round(up_s, 1),
        "joins_per_s": round(count / up_s, 1),
        "reports_per_s": round(reports / seconds, 1),
        "cpu_share_of_one_core": round(cpu / seconds, 3),
        "cpu_ms_per_report": round(1000 * cpu / max(reports, 1), 3),
    }


def _thin(count: int, thin: int, boot: str, api: str, seconds: float) -> dict[str, Any]:
    from ostler.core.clock import SystemClock
    from ostler.twin.enrolment import OperatorApi
    from ostler.twin.spec import fleet
    from ostler.twin.thin import ThinFleet

    operators = OperatorApi(api, os.environ["OSTLER_TOKEN"])
    found: dict[str, Any] = {}
    rounds = (("warm-up", 0, WARM_UP), ("resumed", 0, thin // 2), ("kept", KEPT, thin // 2))
    start = count
    for name, kept, share in rounds:
        specs = fleet(start + share, 1)[start:]
        operators.enrol(specs, {})
        start += share
        start_memory = _memory(os.getpid())
        nodes = ThinFleet(specs, boot, SystemClock(), seed=2, images=True, kept=kept, pace=0.0)
        began = time.monotonic()
        nodes.start()
        try:
            _until(lambda nodes=nodes, share=share: nodes.counts().joined >= share)
            joined_s = time.monotonic() - began
            _until(lambda nodes=nodes, share=share: nodes.counts().reports >= 2 * share)
            cpu, before = _cpu(os.getpid()), nodes.counts()
            time.sleep(0.0 if name == "warm-up" else seconds)
            cpu, after = _cpu(os.getpid()) - cpu, nodes.counts()
            memory = _memory(os.getpid())
        finally:
            nodes.stop()
        reports = after.reports - before.reports
        latest = sorted(after.seconds[-reports:]) if reports else [0.0]
        found["joins_per_s"] = round(share / joined_s, 1)
        found[name] = {
            "nodes": share,
            "kib_per_connection" if kept else "kib_per_node": round((memory - start_memory) * 1024 / share, 1),
            "reports_per_s": round(reports / seconds, 1),
            "report_p50_ms": round(1000 * latest[len(latest) // 2], 2),
            "report_p99_ms": round(1000 * latest[len(latest) * 99 // 100], 2),
            "cpu_ms_per_report": round(1000 * cpu / max(reports, 1), 3),
            "handshakes": after.handshakes,
            "resumed": after.resumed,
            "failures": after.failures,
        }
    del found["warm-up"]
    return found


def _reports(machines: Any) -> int:
    return sum(node.agent.counters.reports for node in machines.nodes.values() if node.agent is not None)


def _until(what: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench.twin: not there after {PATIENCE_S:.0f} s")
        time.sleep(0.1)


def _agent_memory() -> float:
    """MiB of a process that has loaded all that `ostler agent` loads."""
    code = "import ostler.cli.agent, ostler.agent.run, ostler.agent.verbs; print(open('/proc/self/statm').read())"
    said = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
    return int(said.split()[1]) * _PAGE / 2**20


def _memory(pid: int) -> float:
    """MiB resident."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 2**20


def _cpu(pid: int) -> float:
    """CPU seconds so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


if __name__ == "__main__":
    main()
