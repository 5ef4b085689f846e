"""A fleet in one process: machines on a heap of due times, and a few threads that step them. For `ostler twin`.

A machine blocks only while it talks to the server; so a handful of threads carry a thousand of them. Each machine is
stepped by one thread at a time. Starts are jittered, as power comes back rack by rack and not in one instant.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import os
import random
import resource
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from ostler.core.clock import Clock
from ostler.faults import Detector
from ostler.twin.bmc import TwinBmc
from ostler.twin.bmc_server import BmcServer
from ostler.twin.fabric import fabric_of
from ostler.twin.node import NodeSettings, TwinNode
from ostler.twin.spec import DRIVER, NodeSpec
from ostler.wire.boot import Seed

THREADS = 8
"""Steps under way at once: they wait for the server most of the time."""

_log = logging.getLogger("ostler.twin")


@dataclass(frozen=True)
class FleetSettings:
    """What a fleet is started with, beside its machines."""

    boot_url: str
    boot_s: float = 300.0
    start_s: float = 60.0
    """Domain seconds over which the first power-ons are spread."""
    flash_s: float = 600.0
    """Domain seconds that a firmware update takes."""
    images: bool = True
    bmc_username: str = "admin"
    bmc_password: str = field(default="changeme", repr=False)
    threads: int = THREADS


class Fleet:
    """`with Fleet(…) as fleet: fleet.power_on()`; leaving it ends every machine."""

    def __init__(
        self,
        specs: Sequence[NodeSpec],
        settings: FleetSettings,
        clock: Clock,
        *,
        seed: int = 0,
        on_bmc_write: Callable[[str, str], None] = lambda name, request: None,
    ) -> None:
        """`on_bmc_write` hears of everything that somebody tells a BMC to do: the node's name, the request."""
        raise_descriptor_limit()
        self.clock = clock
        self.settings = settings
        self._folder = _scratch()
        self._rng = random.Random(seed)  # noqa: S311  jitter of a simulation
        self._bmc_server = BmcServer()
        detector = Detector(DRIVER)
        common = NodeSettings(settings.boot_url.rstrip("/"), settings.boot_s, settings.images)
        self.fabric = fabric_of(specs, seed)
        """How the machines are cabled; whoever tests or tells a story moves plugs in it."""
        self.nodes: dict[str, TwinNode] = {}
        for spec in specs:
            self.fabric.node_off(spec.name)  # until it is switched on
            bmc = TwinBmc(spec.bmc(settings.bmc_username, settings.bmc_password, settings.flash_s), clock)
            rng = random.Random(f"{seed}/{spec.number}/run")  # noqa: S311
            node = TwinNode(spec, bmc, common, clock, detector, self._folder / spec.name, rng, self.fabric)
            bmc.on_power = self._on_power(node)
            bmc.on_write = partial(on_bmc_write, spec.name)
            self.nodes[spec.name] = node
        self.bmc_addresses: dict[str, str] = {}
        self._loop = _Loop(settings.threads)

    def __enter__(self) -> Self:
        self._bmc_server.start()
        addresses = self._bmc_server.add_all(node.bmc for node in self.nodes.values())
        self.bmc_addresses = dict(zip(self.nodes, addresses, strict=True))
        self._loop.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.stop()
        self._bmc_server.close()
        for node in self.nodes.values():
            with contextlib.suppress(Exception):
                node.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def power_on(self, *, but: Collection[str] = ()) -> None:
        """Every machine is switched on, one after the other over `start_s`, except those that run already."""
        spread = self.clock.real_seconds(self.settings.start_s)
        for node in self.nodes.values():
            if node.spec.name not in but:
                node.power("on")
                self._loop.add(node, self._rng.random() * spread)

    def hand_over(self, name: str, seed: Seed) -> None:
        """Somebody starts the agent on a machine that runs already, with a seed by hand."""
        node = self.nodes[name]
        node.start_agent(seed)
        self._loop.add(node, 0.0)

    def wake(self, node: TwinNode) -> None:
        """Something happened to a machine: step it now."""
        self._loop.add(node, 0.0)

    @property
    def racks(self) -> Mapping[str, list[str]]:
        """Rack → names of its nodes."""
        found: dict[str, list[str]] = {}
        for node in self.nodes.values():
            found.setdefault(node.spec.rack, []).append(node.spec.name)
        return found

    def phases(self) -> Counter[str]:
        """How many machines are where."""
        return Counter(node.phase.value for node in self.nodes.values())

    def _on_power(self, node: TwinNode) -> Callable[[str], None]:
        def changed(event: str) -> None:
            node.power(event)
            self.wake(node)

        return changed


class _Loop:
    """Threads over one heap of (due, machine)."""

    def __init__(self, threads: int) -> None:
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int, TwinNode]] = []
        self._due: dict[TwinNode, float] = {}
        self._running: set[TwinNode] = set()
        self._count = 0
        self._stopping = False
        self._threads = [threading.Thread(target=self._work, name=f"twin-{n}", daemon=True) for n in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join()

    def add(self, node: TwinNode, seconds: float) -> None:
        """Step `node` in so many real seconds, or earlier if that was planned already."""
        due = time.monotonic() + seconds
        with self._condition:
            if due < self._due.get(node, float("inf")):
                self._push(node, due)

    def _push(self, node: TwinNode, due: float) -> None:
        self._due[node] = due
        if node not in self._running:  # else its thread looks when it is done
            self._count += 1
            heapq.heappush(self._heap, (due, self._count, node))
            self._condition.notify()

    def _work(self) -> None:
        while (node := self._take()) is not None:
            try:
                wait = node.step()
            except Exception:
                _log.exception("%s: its simulation broke; trying again", node.spec.name)
                wait = 5.0
            due = time.monotonic() + wait
            with self._condition:
                self._running.discard(node)
                self._push(node, min(due, self._due.pop(node, float("inf"))))

    def _take(self) -> TwinNode | None:
        with self._condition:
            while not self._stopping:
                now = time.monotonic()
                while self._heap:
                    due, _, node = self._heap[0]
                    if node in self._running or self._due.get(node) != due:
                        heapq.heappop(self._heap)  # planned anew since
                        continue
                    break
                if self._heap and self._heap[0][0] <= now:
                    node = heapq.heappop(self._heap)[2]
                    del self._due[node]
                    self._running.add(node)
                    return node
                self._condition.wait(self._heap[0][0] - now if self._heap else None)
        return None


def raise_descriptor_limit() -> None:
    """A connection and a BMC's listener per machine: as many descriptors as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _scratch() -> Path:
    """A folder for identities, in memory where there is such a place: they do not outlive the machines."""
    memory = Path("/dev/shm")  # noqa: S108  made private by mkdtemp
    return Path(tempfile.mkdtemp(prefix="ostler-twin-", dir=memory if os.access(memory, os.W_OK) else None))
