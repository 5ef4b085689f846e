"""The shipped dashboards and rules name only metrics that exist: Ostler's own, as its registry exports them, and DCGM's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from ostler.core.actor import Actor
from ostler.db.engine import Database
from ostler.fabric import blueprints
from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.metrics import FabricMetrics
from ostler.fabric.model import Port
from ostler.fabric.service import Fabrics
from ostler.fabric.settings import FabricSettings
from ostler.health.model import HealthSettings
from ostler.health.prometheus_rules import RULES
from ostler.http.edge import RequestMetrics
from ostler.http.metrics import FleetMetrics
from ostler.http.operator import Loop
from tests.conftest import REPOSITORY
from tests.flow.fabric.cabling import Cabling

DASHBOARDS = sorted((REPOSITORY / "deploy" / "grafana").glob("*.json"))
DCGM = {
    # dcgm-exporter's field names (etc/dcp-metrics-included.csv and DCGM's field identifiers)
    f"DCGM_FI_DEV_{name}"
    for name in [
        "CLOCKS_EVENT_REASONS",
        "CLOCK_THROTTLE_REASONS",
        "ECC_DBE_VOL_TOTAL",
        "ECC_SBE_VOL_TOTAL",
        "GPU_TEMP",
        "GPU_UTIL",
        "MEMORY_TEMP",
        "NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL",
        "NVLINK_RECOVERY_ERROR_COUNT_TOTAL",
        "NVLINK_REPLAY_ERROR_COUNT_TOTAL",
        "PCIE_LINK_GEN",
        "PCIE_LINK_WIDTH",
        "PCIE_MAX_LINK_GEN",
        "PCIE_MAX_LINK_WIDTH",
        "PCIE_REPLAY_COUNTER",
        "POWER_MGMT_LIMIT",
        "POWER_MGMT_LIMIT_DEF",
        "POWER_USAGE",
        "RETIRED_DBE",
        "RETIRED_PENDING",
        "RETIRED_SBE",
        "ROW_REMAP_FAILURE",
        "ROW_REMAP_PENDING",
        "SLOWDOWN_TEMP",
        "SM_CLOCK",
        "UNCORRECTABLE_REMAPPED_ROWS",
        "XID_ERRORS",
    ]
}
NAME = re.compile(r"\b(?:ostler|process|DCGM|node|up)_[A-Za-z0-9_]+\b")


def exported(db: Database) -> set[str]:
    registry = CollectorRegistry()
    requests = RequestMetrics.on(registry)
    requests.total.labels("operator", "GET", "/", "200").inc()
    requests.seconds.labels("operator", "/").observe(0.1)
    registry.register(FleetMetrics(db, [Loop("jobs", lambda: 1.0, 30.0)]))
    fabrics = Fabrics(db, {"compute": FabricSettings()}, HealthSettings(), lambda *_: None)
    cabling = Cabling(fat_tree(8, 8))
    db.write(lambda tx: blueprints.take_in(tx, "compute", cabling.blueprint, [], actor=Actor("person:mara")))
    cabling.cut(Port("gpu-0001", "mlx5_0"))
    fabrics.take_in("compute", cabling.collection(), taken_at=db.clock.now())
    registry.register(FabricMetrics(fabrics))
    lines = generate_latest(registry).decode().splitlines()
    return {re.split(r"[{ ]", line, maxsplit=1)[0] for line in lines if line and not line.startswith("#")}


def expressions(found: Any) -> list[str]:
    if isinstance(found, dict):
        mine = [found["expr"]] if isinstance(found.get("expr"), str) else []
        return mine + [one for value in found.values() for one in expressions(value)]
    if isinstance(found, list):
        return [one for value in found for one in expressions(value)]
    return []


def named(expression: str) -> set[str]:
    return set(NAME.findall(re.sub(r'"[^"]*"', '""', expression)))


def test_every_metric_named_exists(db: Database) -> None:
    known = exported(db) | DCGM
    rules = yaml.safe_load((REPOSITORY / "deploy/prometheus/ostler-rules.yml").read_text())
    everything = expressions(rules) + [rule.query("Hostname") for rule in RULES]
    for file in DASHBOARDS:
        everything += expressions(json.loads(file.read_text()))
    assert len(everything) > 40
    wrong = {name for expression in everything for name in named(expression)} - known
    assert wrong == set()


def test_every_gauge_of_ostler_is_on_a_dashboard(db: Database) -> None:
    shown = {name for file in DASHBOARDS for one in expressions(json.loads(file.read_text())) for name in named(one)}
    gauges = {name for name in exported(db) if not name.startswith("ostler_http_")}
    assert gauges - shown == set()


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_is_what_grafana_imports(file: Path) -> None:
    board = json.loads(file.read_text())
    assert board["uid"] == file.stem
    assert board["title"] and board["schemaVersion"] >= 36
    assert {one["name"] for one in board["templating"]["list"]} >= {"datasource"}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids) > 3
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["title"] and panel["type"] in ("timeseries", "stat") and panel["targets"]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert target["expr"] and target["refId"]


def test_there_are_dashboards() -> None:
    assert len(DASHBOARDS) == 3
