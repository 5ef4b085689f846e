"""From the agents' readings to findings: fills the fleet view, ticks it, and tells who differs. Fed by `desk.py`.

One per server process, for the nodes that report to it: a node's findings are converged only by the process that hears
its readings. Measurements are kept in memory and nowhere else; a restart learns anew.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np

from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.faults.model import Fault
from ostler.faults.monitored import fault
from ostler.health import levels
from ostler.health.fleet_metrics import INDEX, METRICS, FleetSettings, Outlier, Rule
from ostler.health.fleet_view import FleetView
from ostler.health.model import Diagnosis, HealthSettings
from ostler.nodes import store as nodes
from ostler.wire.agent import Readings

SOURCE = "fleet"
LEAST_ROOM = 1024
"""GPUs that the first view has room for; it doubles when it is full, and learns anew then."""
GONE_S = 1800.0
"""A node without readings for so long is forgotten here (domain seconds): another process may hear it now."""

COLUMNS: Mapping[str, tuple[str, float]] = {
    "temperature_c": ("temperature", 1.0),
    "memory_temperature_c": ("memory-temperature", 1.0),
    "temperature_margin_c": ("temperature-margin", 1.0),
    "power_w": ("power", 1.0),
    "sm_clock_mhz": ("sm-clock", 1.0),
    "memory_clock_mhz": ("memory-clock", 1.0),
    "utilisation": ("utilisation", 100.0),
    "memory_utilisation": ("memory-utilisation", 100.0),
    "slowdown_share": ("hardware-slowdown", 100.0),
    "pcie_tx_mb_s": ("pcie-tx", 1.0),
    "pcie_rx_mb_s": ("pcie-rx", 1.0),
    "pcie_replays_per_h": ("pcie-replay", 1 / 60),
    "nvlink_tx_mb_s": ("nvlink-tx", 1.0),
    "nvlink_rx_mb_s": ("nvlink-rx", 1.0),
    "nvlink_errors_per_h": ("nvlink-recovery", 1.0),
    "ecc_corrected_per_h": ("ecc-correctable", 1.0),
}
"""Metric on the wire (faults/metrics.py) → column of the view, and what its value is multiplied by."""

LIMITS = {"memory-temperature": "gpu-memory-hot", "temperature-margin": "gpu-hot"}
"""Column whose limit is passed → fault."""


class FleetWatch:
    """Thread-safe towards `hear`; `step` is called by one thread."""

    def __init__(
        self,
        db: Database,
        settings: FleetSettings,
        health: HealthSettings,
        on_diagnoses: Callable[[Tx, str, list[Diagnosis]], None],
    ) -> None:
        self._db = db
        self._settings = settings
        self._health = health
        self._on_diagnoses = on_diagnoses
        self._lock = threading.Lock()
        self._heard: dict[str, tuple[float, Readings]] = {}
        self._view = FleetView(LEAST_ROOM, settings)
        self._room = LEAST_ROOM
        self._skus: dict[str, str] = {}
        self._last: dict[str, float] = {}  # node → when its readings came
        self._devices: dict[str, tuple[str, ...]] = {}
        self._told: frozenset[str] = frozenset()  # nodes with something standing, as last converged
        self._due = 0.0

    def hear(self, node_id: str, readings: Readings) -> None:
        """A node's newest measurements; kept until the next step."""
        with self._lock:
            self._heard[node_id] = (self._db.clock.now(), readings)

    def step(self) -> None:
        """Tick if it is time: at most once per interval of the readings. Called from the desk's loop."""
        now = self._db.clock.now()
        if now < self._due:
            return
        self._due = now + self._health.readings_s
        self.tick(now)

    def tick(self, now: float) -> list[Outlier]:
        """Take in what was heard, compare, and converge the findings of the nodes concerned."""
        with self._lock:
            heard, self._heard = self._heard, {}
        self._forget(now)
        if not heard and not self._told:
            return []
        self._learn(set(heard) - set(self._skus))
        for node_id, (at, readings) in heard.items():
            self._take(node_id, at, readings)
        standing = self._view.tick(now)
        by_node: dict[str, list[Outlier]] = defaultdict(list)
        for one in standing:
            by_node[one.node_id].append(one)
        for node_id in sorted(self._told | set(by_node)):
            self._converge(node_id, self._faults(node_id, by_node.get(node_id, [])))
        self._told = frozenset(by_node)
        return standing

    def _take(self, node_id: str, at: float, readings: Readings) -> None:
        devices = tuple(sorted(readings.devices))
        self._devices[node_id], self._last[node_id] = devices, at
        columns = [(n, *COLUMNS[name]) for n, name in enumerate(readings.metrics) if name in COLUMNS]
        matrix = np.full((len(readings.devices), len(METRICS)), np.nan, np.float32)
        rows = []
        for line, (device, values) in enumerate(zip(readings.devices, readings.values, strict=False)):
            rows.append(self._row(node_id, devices.index(device)))
            for n, column, factor in columns:
                if n < len(values) and (value := values[n]) is not None:
                    matrix[line, INDEX[column]] = value * factor
        if rows:
            self._view.update(rows, matrix[: len(rows)], at)

    def _row(self, node_id: str, gpu: int) -> int:
        sku = self._skus.get(node_id, "")
        try:
            return self._view.row(node_id, gpu, sku)
        except ValueError:
            self._room *= 2
            self._view = FleetView(self._room, self._settings)
            return self._view.row(node_id, gpu, sku)

    def _learn(self, node_ids: set[str]) -> None:
        """Which SKU nodes are of; without one, the model of their first GPU."""
        if not node_ids:
            return
        self._skus |= self._db.read(lambda tx: nodes.kinds(tx, node_ids))

    def _forget(self, now: float) -> None:
        for node_id in [one for one, at in self._last.items() if at < now - GONE_S]:
            self._view.retire(node_id)
            for kept in (self._skus, self._last, self._devices):
                kept.pop(node_id, None)
            self._told -= {node_id}

    def _faults(self, node_id: str, outliers: list[Outlier]) -> list[Fault]:
        """One fault per GPU and name; what it differs in stands in the message."""
        devices = self._devices.get(node_id, ())
        said: dict[tuple[str, str], list[str]] = defaultdict(list)
        for one in outliers:
            device = devices[one.gpu] if one.gpu < len(devices) else str(one.gpu)
            if one.rule is Rule.PEERS:
                said["gpu-slower-than-peers", device].append(_against_peers(one))
            elif one.rule is Rule.LIMIT and one.metric in LIMITS:
                said[LIMITS[one.metric], device].append(f"{one.metric} at {one.value:.4g}")
        return [fault(name, device, "; ".join(texts)) for (name, device), texts in said.items()]

    def _converge(self, node_id: str, faults: list[Fault]) -> None:
        def use_case(tx: Tx) -> None:
            if found := levels.converge(tx, node_id, SOURCE, faults, self._health):
                self._on_diagnoses(tx, node_id, found)

        self._db.write(use_case)


def _against_peers(one: Outlier) -> str:
    unit = METRICS[INDEX[one.metric]].unit
    peers = [
        f"{who} {median:.4g}"
        for who, median in (("siblings", one.sibling_median), ("SKU", one.sku_median))
        if median is not None
    ]
    return f"{one.metric} {one.value:.4g} {unit} ({', '.join(peers)})"
