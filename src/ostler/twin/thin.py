"""Very many nodes without an agent each: the real wire and a certificate of its own per node, and little else.

A thin node boots, joins and reports like any other, but is a few kilobytes: its keys, its place in the sequence, its
TLS session. A few workers (`thin_worker.py`) go round. Used by `ostler twin --thin` and `bench/twin.py`.

What is not there: no kernel log, no orders carried out (a check is answered at once as passed, because Day 1 asks),
no BMC, no power.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

from ostler.core.clock import Clock
from ostler.twin.enrolment import OperatorApi
from ostler.twin.fleet import raise_descriptor_limit
from ostler.twin.spec import NodeSpec
from ostler.twin.thin_worker import Counts, ThinNode, Worker
from ostler.wire.agent import Signal

WORKERS = 4
KEPT = 8_000
"""Connections that stay open, over all workers; the other nodes connect for each report."""


class ThinFleet:
    """`start()`, then ask `counts()`; `stop()` closes everything."""

    def __init__(
        self,
        specs: Sequence[NodeSpec],
        boot_url: str,
        clock: Clock,
        *,
        seed: int = 0,
        workers: int = WORKERS,
        kept: int = KEPT,
        images: bool = False,
        pace: float | None = None,
    ) -> None:
        """`kept`: connections that stay open, over all workers. `pace`: real seconds between two reports of a node,
        whatever the server says (a benchmark's)."""
        raise_descriptor_limit()
        self.nodes = [ThinNode(spec) for spec in specs]
        self._workers = [
            Worker(
                self.nodes[n::workers],
                boot_url,
                clock,
                random.Random(f"{seed}/{n}"),  # noqa: S311
                kept // workers,
                images,
                pace,
            )
            for n in range(min(workers, len(self.nodes)))
        ]

    def start(self) -> None:
        for worker in self._workers:
            worker.thread.start()

    def stop(self) -> None:
        for worker in self._workers:
            worker.stopping.set()
        for worker in self._workers:
            worker.thread.join()

    def counts(self) -> Counts:
        """The sum over all workers."""
        total = Counts()
        for worker in self._workers:
            with worker.lock:
                one = worker.counts
                total.joined += one.joined
                total.reports += one.reports
                total.failures += one.failures
                total.handshakes += one.handshakes
                total.resumed += one.resumed
                total.last_error = one.last_error or total.last_error
                total.seconds += one.seconds
        return total

    def strike(self, node: ThinNode, signal: Signal) -> None:
        """`node` reports this signal with its next report."""
        self._workers[(node.spec.number - 1) % len(self._workers)].say(node, signal)


def run_thin(
    specs: Sequence[NodeSpec],
    boot_url: str,
    clock: Clock,
    operators: OperatorApi | None,
    *,
    pool: str,
    seed: int,
    images: bool,
    stop: threading.Event,
    told: Callable[..., None],
) -> None:
    """A thin fleet until `stop`; `told(event, **facts)` hears every few seconds how it goes."""
    if operators is not None:
        operators.enrol(specs, {}, pool=pool)
    fleet = ThinFleet(specs, boot_url, clock, seed=seed, images=images)
    fleet.start()
    told("started", nodes=len(specs), thin=True)
    last, at = 0, time.monotonic()
    try:
        while not stop.wait(5.0):
            counts, now = fleet.counts(), time.monotonic()
            told(
                "reports",
                joined=counts.joined,
                reports=counts.reports,
                per_second=round((counts.reports - last) / (now - at), 1),
                failures=counts.failures,
                last_error=counts.last_error,
            )
            last, at = counts.reports, now
    finally:
        fleet.stop()
