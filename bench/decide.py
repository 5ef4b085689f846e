"""How fast and how large deciding is at fleet scale: `python -m bench.decide [--quick] [--nodes N] [--database URL]`.

One process: N nodes in the database, and the parts of the server that take signals in and decide (`decide_server.py`).
Reports enter at the agents' desk as bytes, decoded as the HTTP handler does, 40 at a time; the whole fleet's heartbeats
run beside. Four parts, one after the other:

single  GPUs fall off the bus, 10 nodes a second: from the report's arrival to the commit of the decision to cordon (a
        fatal fault is cordoned for at once), from that to the call of the cluster, and to the decision about the
        repair, from which the settle window (policy, not speed: `--settle`) is taken off
storm   a leaf switch dies and its 512 nodes lose their link within 2 s
flood   4,000 signals a second of 500 nodes, while GPUs go on falling off the bus elsewhere; every sequence must be
        stored, and the permits given must never have been more than the brake's rules allow
base    the plain way, a transaction and a commit per signal, against grouped reports: as many as it takes of each
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from bench.decide_fleet import SWITCH, Sender, load
from bench.decide_load import Flood, Heartbeats, brake_broken, closed_loop, latencies, storm, strike
from bench.decide_server import HANDLERS, House, Stamps, WatchedDatabase
from bench.report import document, target
from ostler.db import writer
from ostler.db.migrate import migrate
from tests import postgres_server

PUBLISHED = {
    "cordon_p99_ms": 165,
    "cordons_per_s": 2.5,
    "server_gb_at_100000_simulated_nodes": 235,
    "note": "the field's best published figures; measured elsewhere, on real clusters' API servers",
}
FLOOD_NODES = 500
STRUCK_PER_S = 10.0


@dataclass(frozen=True)
class Scale:
    """How much of each part."""

    nodes: int
    struck: int
    flood_s: float
    settle_s: float
    base_s: float
    flood_rate: float = 4000.0


QUICK = Scale(10_000, 100, 10.0, 3.0, 2.0)
FULL = Scale(10_000, 300, 300.0, 30.0, 10.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 nodes, a flood of 10 s, a settle window of 3 s")
    parser.add_argument("--nodes", type=int, help="nodes in the database; at least 2,000")
    parser.add_argument("--flood", type=float, help="seconds of the flood")
    parser.add_argument("--settle", type=float, help="the settle window in seconds")
    parser.add_argument("--database", help="URL of an empty PostgreSQL database; `postgresql`: one of its own")
    given = parser.parse_args()
    base = QUICK if given.quick else FULL
    scale = Scale(
        given.nodes or base.nodes,
        base.struck,
        given.flood or base.flood_s,
        given.settle or base.settle_s,
        base.base_s,
    )
    if scale.nodes < 2000:
        parser.error("--nodes is at least 2000: a switch of 512, 500 that flood, and those that are struck")
    with tempfile.TemporaryDirectory(prefix="ostler-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with _database(given.database, folder) as url:
            print(run(scale, url, folder))


def run(scale: Scale, url: str, folder: Path) -> str:
    """All parts; the document."""
    migrate(url)
    db = WatchedDatabase(url, Stamps())
    began = time.perf_counter()
    senders = load(db, scale.nodes)
    loaded_s, empty = time.perf_counter() - began, _memory_mb()
    _tell("loaded", f"{scale.nodes} nodes in {loaded_s:.1f} s, {empty:.0f} MB")
    slowed = [_slowed()]
    # Those that are struck stand on switches of their own, far from one another: they are no storm.
    dark, rest = senders[:SWITCH], senders[SWITCH:]
    flooding = rest[:FLOOD_NODES]
    others = rest[FLOOD_NODES:]
    flood_struck = max(20, int(scale.flood_s))
    struck = _apart(others, scale.struck + flood_struck)
    single, during = struck[: scale.struck], struck[scale.struck :]
    quiet = _without(others, struck)
    with House(db, folder, senders, scale.settle_s) as house, Heartbeats(house, quiet[:-200]) as beats:
        cpu, at = time.process_time(), time.perf_counter()
        strike(house, single, STRUCK_PER_S)
        alone = latencies(house, single, scale.settle_s)
        alone["cpu_share_of_one_core"] = round((time.process_time() - cpu) / (time.perf_counter() - at), 3)
        _tell("single", alone)
        stormy = storm(house, dark)
        _tell("storm", stormy)
        decisions, at = house.stamps.decisions, time.perf_counter()
        striking = threading.Thread(target=strike, args=(house, during, len(during) / scale.flood_s))
        striking.start()
        flood = Flood(house, flooding, scale.flood_rate, scale.flood_s).run()
        striking.join()
        flood["struck_meanwhile"] = latencies(house, during, scale.settle_s)
        flood["decisions_per_s"] = round((house.stamps.decisions - decisions) / (time.perf_counter() - at), 2)
        _tell("flood", flood)
        permits, broken = db.read(brake_broken)
        grouped = closed_loop(house, quiet[-200:-100], 8, scale.base_s)
        limit, writer.GROUP_LIMIT = writer.GROUP_LIMIT, 1
        plain = closed_loop(house, quiet[-100:], 1, scale.base_s)
        writer.GROUP_LIMIT = limit
        heartbeats, failures = beats.sent, house.failures
    slowed.append(_slowed())
    memory, size = _memory_mb(), _size_mb(db, url)
    db.close()
    _tell("base", (grouped, plain))
    decided = [alone["signal_to_decision_ms"]["p99"], flood["struck_meanwhile"]["signal_to_decision_ms"]["p99"]]
    cordoned = [alone["decision_to_cordon_ms"]["p99"], flood["struck_meanwhile"]["decision_to_cordon_ms"]["p99"]]
    lost = flood["signals"] - flood["acknowledged"] + (not flood["stored_without_a_hole"])
    storm_right = stormy["incidents"] == 1 and stormy["nodes_with_a_permit"] + stormy["decisions_to_act"] == 0
    storm_right &= stormy["nodes_cordoned"] + stormy["nodes_out_of_production"] == 0
    return document(
        "decide",
        {
            "nodes": scale.nodes,
            "slowed_by_others_before_and_after": slowed,
            "database": db.dialect,
            "settle_s": scale.settle_s,
            "load_s": round(loaded_s, 1),
            "single": alone,
            "storm": stormy,
            "flood": flood,
            "brake": {"permits": permits, "broken": broken[:10]},
            "closed_loop_8_per_report": grouped,
            "heartbeats": heartbeats,
            "failures": failures[:5],
            "failures_count": len(failures),
            "process_mb": round(memory, 1),
            "process_peak_mb": round(_memory_mb("VmHWM"), 1),
            "process_mb_before_serving": round(empty, 1),
            "database_mb": round(size, 1),
        },
        {"one_transaction_per_signal": plain, "published": PUBLISHED},
        {
            "signals_per_s": round(grouped["signals_per_s"] / max(plain["signals_per_s"], 0.1), 1),
            "published_memory": round(235_000 / _memory_mb("VmHWM"), 1),
            "published_cordon_p99": round(165 / max(cordoned[0], 0.01), 1),
        },
        {
            "signal to decision, p99 ms": target(1000.0, decided[0], "<="),
            "decision to cordon, p99 ms": target(100.0, cordoned[0], "<="),
            "signal to decision in the flood, p99 ms": target(1000.0, decided[1], "<="),
            "decision to cordon in the flood, p99 ms": target(100.0, cordoned[1], "<="),
            "server, GB": target(20.0, _memory_mb("VmHWM") / 1000, "<="),
            "struck nodes never cordoned": target(
                0.0, float(alone["never_cordoned"] + flood["struck_meanwhile"]["never_cordoned"]), "<="
            ),
            "signals lost": target(0.0, float(lost), "<="),
            "brake broken": target(0.0, float(len(broken)), "<="),
            "storm: one incident, no node touched": target(1.0, float(storm_right), ">="),
        },
        notes=(
            f"Simulated: nodes (loaded into the tables in bulk), agents ({HANDLERS} reports under way at most), "
            "cluster and BMCs (in memory: a cordon call costs nothing). Left out: HTTP, TLS and webhooks; one process, "
            "so its CPU and memory include the load generator's. Decision: the hold of the cordon, committed as soon "
            "as a fatal fault is known; the decision about the repair waits for the settle window, which is taken off. "
            + (
                ""
                if db.dialect == "sqlite"
                else "PostgreSQL runs beside, on the same cores; its memory is not in the figures. "
            )
        ),
    )


def _apart(senders: list[Sender], count: int) -> list[Sender]:
    step = max(1, len(senders) // count)
    return senders[::step][:count]


def _without(senders: list[Sender], struck: list[Sender]) -> list[Sender]:
    gone = {one.id for one in struck}
    return [one for one in senders if one.id not in gone]


@contextmanager
def _database(given: str | None, folder: Path) -> Iterator[str]:
    if given is None:
        yield f"sqlite:///{folder / 'ostler.db'}"
    elif given != "postgresql":
        yield given
    else:
        home = Path(tempfile.mkdtemp(prefix="ostler-bench-pg-"))
        home.chmod(0o711)
        try:
            server = postgres_server.start_once(home)
            with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
                admin.execute("create database bench")
            yield f"{server}/bench"
        finally:
            postgres_server.stop(home)
            shutil.rmtree(home, ignore_errors=True)


def _size_mb(db: WatchedDatabase, url: str) -> float:
    if db.dialect == "sqlite":
        path = url.removeprefix("sqlite:///")
        return sum(file.stat().st_size for file in Path(path).parent.glob(f"{Path(path).name}*")) / 1e6
    return float(db.read(lambda tx: tx.scalar(sa.text("select pg_database_size(current_database())")))) / 1e6


def _slowed() -> float:
    """How much longer than its CPU time a busy loop takes: above 1.1 others use the machine, and times mean less."""
    cpu, wall = time.process_time(), time.perf_counter()
    while time.process_time() - cpu < 0.3:
        pass
    return round((time.perf_counter() - wall) / (time.process_time() - cpu), 2)


def _memory_mb(key: str = "VmRSS") -> float:
    """MB of 10^6 bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(key)


def _tell(part: str, found: Any) -> None:
    print(f"{part}: {found if isinstance(found, str) else json.dumps(found)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
