"""What happens to the fleet in `bench/decide.py`: single faults, a dead switch, a flood, heartbeats of all the rest.

Each returns what was measured. Signals arrive in open loop, at their own times; but an agent has one report under way
and sends what gathers meanwhile (at least half a second's) with the next, so a slow server gets fewer and larger ones.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from bench.decide_fleet import SWITCH, Sender, chatter, dead_link, lost_gpu
from bench.decide_server import House
from ostler.agent.agent import GATHER_S
from ostler.brake.policy import allowed_at_once
from ostler.brake.store import group_sizes, rules
from ostler.db.schema import cordon_hold, decision, finding, incident, node, permit, signal
from ostler.db.tx import Tx
from ostler.wire.agent import REPORT_SIGNALS, ReportAnswer

HEARTBEAT_S = 30.0
PATIENCE_S = 300.0


def spread(values: Sequence[float], scale: float = 1000.0) -> dict[str, float]:
    """p50, p99 and the worst, in milliseconds unless `scale` says otherwise."""
    if not values:
        return {}
    known = sorted(values)
    at = {"p50": len(known) // 2, "p99": min(len(known) - 1, len(known) * 99 // 100), "max": len(known) - 1}
    return {name: round(known[n] * scale, 2) for name, n in at.items()} | {"n": len(known)}


def until(what: Callable[[], bool], patience: float = PATIENCE_S) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + patience
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Heartbeats:
    """Everybody else says that he is alive, each once in 30 s; `with` it the fleet is not only what is broken."""

    def __init__(self, house: House, senders: Sequence[Sender]) -> None:
        self._house, self._senders = house, senders
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeats")
        self.sent = 0

    def __enter__(self) -> Heartbeats:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began, clock = time.perf_counter(), self._house.db.clock
        while not self._stop.wait(0.02):
            due = int((time.perf_counter() - began) * len(self._senders) / HEARTBEAT_S)
            for n in range(self.sent, due):
                one = self._senders[n % len(self._senders)]
                self._house.report(one.id, one.report((), clock.real()), lambda answer: None)
            self.sent = max(self.sent, due)


# Single faults --------------------------------------------------------------------------------------------------------


def strike(house: House, senders: Sequence[Sender], rate: float) -> None:
    """A GPU falls off the bus of each of these nodes, `rate` nodes a second."""
    began, clock = time.perf_counter(), house.db.clock
    for n, one in enumerate(senders):
        time.sleep(max(0.0, began + n / rate - time.perf_counter()))
        raw = one.report([lost_gpu(clock.now())], clock.real())
        house.stamps.received[one.id] = house.report(one.id, raw, _acknowledged(one))


def latencies(house: House, senders: Sequence[Sender], settle_s: float) -> dict[str, Any]:
    """What became of the nodes that `strike` struck, once all is done about them that does not need them to boot."""
    stamps, ids = house.stamps, {one.id: one.name for one in senders}
    whole = until(lambda: all(name in stamps.cordoned for name in ids.values()), 60.0)
    whole &= until(lambda: all(node_id in stamps.decided for node_id in ids), settle_s + 120.0)
    held = [node_id for node_id in ids if node_id in stamps.held]
    decided = [node_id for node_id in ids if node_id in stamps.decided]
    to_cordon = [(stamps.held[one], stamps.cordoned[ids[one]]) for one in held if ids[one] in stamps.cordoned]
    return {
        "nodes": len(ids),
        "all_cordoned_and_decided": whole,
        "never_cordoned": sum(name not in stamps.cordoned for name in ids.values()),
        "signal_to_decision_ms": spread([stamps.held[one] - stamps.received[one] for one in held]),
        "decision_to_cordon_ms": spread([call - hold for hold, call in to_cordon]),
        "signal_to_repair_decision_less_settle_ms": spread(
            [stamps.decided[one] - stamps.received[one] - settle_s for one in decided]
        ),
    }


# A storm --------------------------------------------------------------------------------------------------------------


def storm(house: House, senders: Sequence[Sender], seconds: float = 2.0) -> dict[str, Any]:
    """The switch of these nodes dies: each loses its link within `seconds`. One incident, and nobody acts on a node."""
    assert len(senders) == SWITCH
    began, clock, ids = time.perf_counter(), house.db.clock, [one.id for one in senders]
    for n, one in enumerate(senders):
        time.sleep(max(0.0, began + n * seconds / len(senders) - time.perf_counter()))
        house.report(one.id, one.report([dead_link(clock.now())], clock.real()), _acknowledged(one))
    stored = until(lambda: all(one.acked == one.seq for one in senders))
    acknowledged = time.perf_counter()
    folded = until(lambda: house.db.read(lambda tx: _folded(tx, ids)) == len(ids), 120.0)
    ended = time.perf_counter()
    # What was to be decided about each of them is decided: nothing of remediation's is due.
    quiet = until(lambda: all(node_id in house.stamps.decided for node_id in ids), 120.0)
    found = house.db.read(lambda tx: _storm_books(tx, senders))
    opened = [at for at in house.stamps.incidents if at >= began]
    return {
        "nodes": len(ids),
        "acknowledged_s": round(acknowledged - began, 2),
        "incident_opened_s": round(opened[0] - began, 2) if opened else None,
        "all_folded_s": round(ended - began, 2) if folded else None,
        "all_decided": quiet,
        "all_acknowledged": stored,
        **found,
    }


def _folded(tx: Tx, ids: Sequence[str]) -> int:
    mine = sa.and_(finding.c.node_id.in_(ids), finding.c.incident_id.is_not(None), finding.c.fault == "ib-port-down")
    return int(tx.scalar(sa.select(sa.func.count(sa.distinct(finding.c.node_id))).where(mine)) or 0)


def _storm_books(tx: Tx, senders: Sequence[Sender]) -> dict[str, Any]:
    ids, switch = [one.id for one in senders], senders[0].switch

    def count(table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        return int(tx.scalar(sa.select(sa.func.count()).select_from(table).where(*where)) or 0)

    return {
        "signals_stored": count(signal, signal.c.node_id.in_(ids), signal.c.source == "monitor"),
        "incidents": count(incident, incident.c.subject == switch),
        "nodes_with_a_permit": count(permit, permit.c.node_id.in_(ids)),
        "nodes_cordoned": count(cordon_hold, cordon_hold.c.node_id.in_(ids)),
        "nodes_out_of_production": count(node, node.c.id.in_(ids), node.c.state != "production"),
        "decisions_to_act": count(decision, decision.c.node_id.in_(ids), decision.c.verdict == "act"),
    }


# A flood --------------------------------------------------------------------------------------------------------------


@dataclass
class _Flooding:
    sender: Sender
    phase: float
    """So that not all speak in one instant."""
    under_way: bool = False
    not_before: float = 0.0


@dataclass
class Flood:
    """`rate` signals a second from these nodes for `seconds`; then until all of it is acknowledged."""

    house: House
    senders: Sequence[Sender]
    rate: float
    seconds: float
    reports: int = 0
    late: list[float] = field(default_factory=list)
    """Seconds from the making of a report's oldest signal to its acknowledgement."""
    behind: int = 0
    """The most signals that waited in the agents at a time."""

    def run(self) -> dict[str, Any]:
        clock, each = self.house.db.clock, self.rate / len(self.senders)
        words = chatter(clock.now())
        flooding = [_Flooding(one, n / len(self.senders) / each) for n, one in enumerate(self.senders)]
        start = {one.id: one.seq for one in self.senders}
        cpu, began = time.process_time(), time.perf_counter()
        whole = int(self.seconds * each)
        self.house.waits.clear()
        while True:
            now = time.perf_counter() - began
            behind, open_ = 0, 0
            for one in flooding:
                told = one.sender.seq - start[one.sender.id]
                ready = min(whole, max(0, int((now - one.phase) * each))) - told
                behind += ready
                open_ += one.under_way or told < whole
                if ready > 0 and not one.under_way and now >= one.not_before:
                    self._send(one, words, told, min(ready, REPORT_SIGNALS), began, each)
            self.behind = max(self.behind, behind)
            if not open_ or now > self.seconds + PATIENCE_S:
                break
            time.sleep(0.02)
        ended, cpu = time.perf_counter() - began, time.process_time() - cpu
        offered = whole * len(self.senders)
        ids = [one.id for one in self.senders]
        stored = self.house.db.read(lambda tx: _stored(tx, ids))
        wanted = {one.id: one.seq for one in self.senders}
        return {
            "nodes": len(self.senders),
            "offered_per_s": round(offered / self.seconds, 1),
            "seconds": self.seconds,
            "signals": offered,
            "acknowledged": sum(one.acked - start[one.id] for one in self.senders),
            "stored_without_a_hole": stored == wanted,
            "drained_after_s": round(ended - self.seconds, 2),
            "taken_per_s": round(offered / ended, 1),
            "reports": self.reports,
            "signals_per_report": round(offered / max(self.reports, 1), 1),
            "most_waiting_in_agents": self.behind,
            "report_ms": spread(self.house.waits),
            "oldest_signal_to_acknowledgement_ms": spread(self.late),
            "cpu_s_per_1000_signals": round(cpu / offered * 1000, 3),
            "cpu_share_of_one_core": round(cpu / ended, 2),
        }

    def _send(self, one: _Flooding, words: list[bytes], told: int, count: int, began: float, each: float) -> None:
        made = began + one.phase + (told + 1) / each
        one.under_way = True
        sender = one.sender

        def answered(answer: ReportAnswer | None) -> None:
            if answer is not None:
                sender.acked = answer.ack_seq
            self.late.append(time.perf_counter() - made)
            one.not_before = time.perf_counter() - began + GATHER_S
            one.under_way = False

        self.reports += 1
        told_now = [words[(told + n) % len(words)] for n in range(count)]
        self.house.report(sender.id, sender.report(told_now, self.house.db.clock.real()), answered)


def _stored(tx: Tx, ids: Sequence[str]) -> dict[str, int]:
    """Node → its last sequence, if every one up to there is stored; else how many are."""
    rows = tx.all(
        sa.select(signal.c.node_id, sa.func.count().label("held"), sa.func.max(signal.c.seq).label("last"))
        .where(signal.c.node_id.in_(ids))
        .group_by(signal.c.node_id)
    )
    return {row["node_id"]: row["last"] if row["held"] == row["last"] else -row["held"] for row in rows}


def closed_loop(house: House, senders: Sequence[Sender], batch: int, seconds: float) -> dict[str, float]:
    """As many signals as the server takes, `batch` in a report, each of these nodes with one report under way."""
    words, clock = chatter(house.db.clock.now()), house.db.clock
    ended, taken = threading.Event(), Counter[str]()
    lock = threading.Lock()

    def next_one(sender: Sender) -> None:
        def answered(answer: ReportAnswer | None) -> None:
            with lock:
                taken["signals"] += batch if answer is not None else 0
                taken["under way"] -= 1
            if not ended.is_set():
                next_one(sender)

        with lock:
            taken["under way"] += 1
        house.report(sender.id, sender.report([words[n % len(words)] for n in range(batch)], clock.real()), answered)

    cpu, began = time.process_time(), time.perf_counter()
    for one in senders:
        next_one(one)
    time.sleep(seconds)
    ended.set()
    until(lambda: taken["under way"] == 0)
    lasted, cpu = time.perf_counter() - began, time.process_time() - cpu
    signals = max(taken["signals"], 1)
    return {
        "signals_per_s": round(taken["signals"] / lasted, 1),
        "cpu_s_per_1000_signals": round(cpu / signals * 1000, 3),
    }


# The brake ------------------------------------------------------------------------------------------------------------


def brake_broken(tx: Tx) -> tuple[int, list[str]]:
    """How many permits were given, and where ever more were out than the rules allow: nowhere, if it is right."""
    rows = tx.all(sa.select(permit).order_by(permit.c.granted_at, permit.c.id))
    broken = []
    for row in rows:
        at, sizes = row["granted_at"], group_sizes(tx, row["groups"])
        for rule in rules(tx):
            name = row["groups"].get(rule.group)
            mine = [one for one in rows if name is not None and one["groups"].get(rule.group) == name]
            mine = [one for one in mine if one["granted_at"] <= at]
            out = {_unit(one) for one in mine if (one["released_at"] or one["expires_at"]) > at}
            limit = allowed_at_once(rule, sizes.get(rule.group, 1))
            if limit is not None and len(out) > limit:
                broken.append(f"{len(out)} of {limit} in {rule.group} {name}")
            lately = {_unit(one) for one in mine if one["granted_at"] > at - rule.window_s}
            if rule.per_window is not None and len(lately) > rule.per_window:
                broken.append(f"{len(lately)} of {rule.per_window} per window in {rule.group} {name}")
    return len(rows), broken


def _unit(row: sa.RowMapping) -> str:
    return str(row["workload"] or row["node_id"])


def _acknowledged(sender: Sender) -> Callable[[ReportAnswer | None], None]:
    def answered(answer: ReportAnswer | None) -> None:
        if answer is not None:
            sender.acked = answer.ack_seq

    return answered
