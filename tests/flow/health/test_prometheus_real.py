"""The PromQL path against Debian's real Prometheus: scraped, asked, in the books; and each rule in its own engine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from ostler.core.actor import Actor
from ostler.core.errors import Unreachable
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.health import levels, store
from ostler.health import prometheus_rules as rules
from ostler.health.model import HealthSettings
from ostler.health.prometheus import PrometheusSettings, PrometheusWatch
from ostler.nodes import service as nodes
from ostler.nodes.model import Capability, Pool, State
from tests.conftest import REPOSITORY
from tests.flow.health.prometheus_server import Exporter, Server, needs, until

MARA = Actor("person:mara")
WELL = {
    "GPU_TEMP": 60.0, "MEMORY_TEMP": 70.0, "SLOWDOWN_TEMP": 87.0, "GPU_UTIL": 99.0, "XID_ERRORS": 0.0,
    "ROW_REMAP_PENDING": 0.0, "ROW_REMAP_FAILURE": 0.0, "ECC_DBE_VOL_TOTAL": 0.0, "ECC_SBE_VOL_TOTAL": 0.0,
    "PCIE_LINK_WIDTH": 16.0, "PCIE_MAX_LINK_WIDTH": 16.0, "PCIE_REPLAY_COUNTER": 0.0,
    "POWER_MGMT_LIMIT": 700.0, "POWER_MGMT_LIMIT_DEF": 700.0,
}  # fmt: skip


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    found = Exporter()
    yield found
    found.site.close()


@pytest.fixture
def server(tmp_path: Path, exporter: Exporter) -> Iterator[Server]:
    found = Server(tmp_path, exporter.site.address)
    yield found
    found.stop()


def enter(db: Database, *names: str) -> dict[str, str]:
    def write(tx: Tx) -> dict[str, str]:
        nodes.define_pool(tx, Pool("default", frozenset(Capability)), actor=MARA)
        return {
            name: nodes.register(tx, name=name, pool="default", actor=MARA, cause="x", state=State.PRODUCTION).id
            for name in names
        }

    return db.write(write)


def active(db: Database, node_id: str) -> set[tuple[str, str]]:
    return {(row["fault"], row["device"]) for row in db.read(lambda tx: store.active(tx, node_id))}


def test_what_a_real_prometheus_scraped_stands_in_the_books_as_long_as_it_is_so(
    db: Database, exporter: Exporter, server: Server, request: pytest.FixtureRequest
) -> None:
    ids = enter(db, "gpu-1", "gpu-2", "gpu-3")
    for name in ("gpu-1", "gpu-2.site.example", "a-strangers-host"):
        exporter.figures |= {(name, gpu): dict(WELL) for gpu in range(8)}
    observe = partial(levels.converge, settings=HealthSettings())
    settings = PrometheusSettings(url=server.url, silent_after_s=3, timeout_s=10)
    watch = PrometheusWatch(db, settings, observe)
    request.addfinalizer(watch.close)

    def seen(node: str, *faults: tuple[str, str]) -> None:
        def so() -> bool:
            watch.look()
            return active(db, ids[node]) == set(faults)

        until(
            so, lambda: f"{node}: {faults}, and there are {active(db, ids[node])}, standing {watch.standing(ids[node])}"
        )

    def scraped() -> bool:
        watch.look()
        return watch._known is not None and len(watch._known) == 2

    until(scraped, "both nodes' series")
    seen("gpu-1")

    exporter.figures["gpu-1", 3]["ROW_REMAP_PENDING"] = 1.0
    exporter.figures["gpu-1", 6]["XID_ERRORS"] = 119.0
    exporter.figures["gpu-2.site.example", 0]["ROW_REMAP_FAILURE"] = 1.0
    pending, gsp = ("gpu-row-remap-pending", "0000:13:00"), ("xid-119", "0000:16:00")
    seen("gpu-1", pending, gsp)
    seen("gpu-2", ("gpu-row-remap-failed", "0000:10:00"))
    assert {fault.code for fault in watch.standing(ids["gpu-1"])} == {"row-remap-pending", "119"}

    exporter.figures["gpu-1", 3]["ROW_REMAP_PENDING"] = 0.0
    exporter.figures["gpu-1", 6]["XID_ERRORS"] = 0.0
    seen("gpu-1")

    # A GPU that falls silent keeps what stood against it, and its silence is a finding; so is the node's.
    exporter.figures["gpu-2.site.example", 5]["ROW_REMAP_PENDING"] = 1.0
    failed, waits = ("gpu-row-remap-failed", "0000:10:00"), ("gpu-row-remap-pending", "0000:15:00")
    seen("gpu-2", failed, waits)
    del exporter.figures["gpu-2.site.example", 5]
    lost, dead = ("gpu-lost", "0000:15:00"), ("monitor-dead", "dcgm-exporter")
    seen("gpu-2", failed, lost)  # diagnosis: of a lost GPU nothing else is worth saying
    assert {fault.code for fault in watch.standing(ids["gpu-2"])} == {"row-remap-failed", "row-remap-pending", "lost"}
    for gpu in (0, 1, 2, 3, 4, 6, 7):
        del exporter.figures["gpu-2.site.example", gpu]
    seen("gpu-2", failed, lost, dead)
    seen("gpu-1")
    assert active(db, ids["gpu-3"]) == set(), "never seen in Prometheus: nothing is said about it"

    server.stop()
    with pytest.raises(Unreachable):
        watch.look()
    assert active(db, ids["gpu-2"]) == {failed, lost, dead}


# Each rule, its near-miss, and the labels that must survive, in Prometheus' own engine (promtool) ---------------------

GPU = 'gpu="3",UUID="GPU-3",pci_bus_id="00000000:1B:00.0",Hostname="n1"'
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    # rule: (series that are ill, series that nearly are); minute by minute for 70 minutes
    "xid": ({"XID_ERRORS": "0x49 79x20"}, {"XID_ERRORS": "79x70"}),
    "row-remap-pending": ({"ROW_REMAP_PENDING": "0x60 1x9"}, {"ROW_REMAP_PENDING": "1x60 0x9"}),
    "row-remap-failed": ({"ROW_REMAP_FAILURE": "1x70"}, {"ROW_REMAP_FAILURE": "0x70"}),
    "pages-pending": ({"RETIRED_PENDING": "2x70"}, {"RETIRED_PENDING": "0x70"}),
    "pages-retired": (
        {"RETIRED_DBE": "30x70", "RETIRED_SBE": "31x70"},
        {"RETIRED_DBE": "30x70", "RETIRED_SBE": "30x70"},
    ),
    "ecc-uncorrected": ({"ECC_DBE_VOL_TOTAL": "0x60 1x9"}, {"ECC_DBE_VOL_TOTAL": "0x70"}),
    "ecc-corrected": ({"ECC_SBE_VOL_TOTAL": "0+170x70"}, {"ECC_SBE_VOL_TOTAL": "0+160x70"}),
    "hot": (
        {"GPU_TEMP": "60x60 88x9", "SLOWDOWN_TEMP": "87x70"},
        {"GPU_TEMP": "88x68 86x1", "SLOWDOWN_TEMP": "87x70"},
    ),
    "memory-hot": ({"MEMORY_TEMP": "95x70"}, {"MEMORY_TEMP": "95x68 94x1"}),
    "hw-slowdown": (
        {"CLOCK_THROTTLE_REASONS": "72 72 4 72 72 4 72 8 4 72 " * 7 + "72"},
        {"CLOCK_THROTTLE_REASONS": "72 4 4 72 4 4 72 8 4 72 " * 7 + "4"},
    ),
    "power-capped": (
        {"POWER_MGMT_LIMIT": "600x70", "POWER_MGMT_LIMIT_DEF": "700x70"},
        {"POWER_MGMT_LIMIT": "700x70", "POWER_MGMT_LIMIT_DEF": "700x70"},
    ),
    "pcie-replay": ({"PCIE_REPLAY_COUNTER": "0+9x70"}, {"PCIE_REPLAY_COUNTER": "0+7x70"}),
    "pcie-width": (
        {"PCIE_LINK_WIDTH": "16x50 8x19", "PCIE_MAX_LINK_WIDTH": "16x70"},
        {"PCIE_LINK_WIDTH": "8x60 16x1 8x7", "PCIE_MAX_LINK_WIDTH": "16x70"},
    ),
    "pcie-gen": (
        {"PCIE_LINK_GEN": "3x70", "PCIE_MAX_LINK_GEN": "5x70", "GPU_UTIL": "50x70"},
        {"PCIE_LINK_GEN": "1x70", "PCIE_MAX_LINK_GEN": "5x70", "GPU_UTIL": "5x70"},
    ),
    "nvlink-recovery": (
        {"NVLINK_RECOVERY_ERROR_COUNT_TOTAL": "0x30 3x40", "NVLINK_REPLAY_ERROR_COUNT_TOTAL": "0x40 3x30"},
        {"NVLINK_RECOVERY_ERROR_COUNT_TOTAL": "0x30 2x40", "NVLINK_REPLAY_ERROR_COUNT_TOTAL": "0x40 2x30"},
    ),
    "nvlink-crc": (
        {"NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL": "0+6100x70"},
        {"NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL": "0+5900x70"},
    ),
}  # fmt: skip


def test_every_rule_has_a_case_and_a_near_miss() -> None:
    assert set(CASES) == set(rules.BY_NAME)


@pytest.mark.parametrize("ill", [True, False], ids=["ill", "near"])
def test_each_rule_in_prometheus_own_engine(tmp_path: Path, ill: bool) -> None:
    tests = []
    for name, (bad, near) in CASES.items():
        query = rules.BY_NAME[name].query("Hostname")
        tests.append(
            {
                "interval": "1m",
                "input_series": [
                    {"series": f"DCGM_FI_DEV_{metric}{{{GPU}}}", "values": values}
                    for metric, values in (bad if ill else near).items()
                ],
                "promql_expr_test": [
                    {
                        "expr": f"count by (Hostname, UUID, gpu, pci_bus_id) ({query})",
                        "eval_time": "69m",
                        "exp_samples": [{"labels": f"{{{GPU}}}", "value": 1}] if ill else [],
                    }
                ],
            }
        )
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([needs("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_xid_that_has_been_the_last_for_an_hour_is_over(tmp_path: Path) -> None:
    """79 came at minute 10: it stands for an hour from then."""
    query = rules.BY_NAME["xid"].query("Hostname")
    checks = [
        {
            "expr": f"count by (Hostname) ({query})",
            "eval_time": at,
            "exp_samples": [{"labels": '{Hostname="n1"}', "value": 1}] if stands else [],
        }
        for at, stands in (("5m", False), ("10m", True), ("69m", True), ("75m", False))
    ]
    series = {"series": f"DCGM_FI_DEV_XID_ERRORS{{{GPU}}}", "values": "0x9 79x80"}
    file = tmp_path / "rules.yml"
    file.write_text(
        yaml.safe_dump({"tests": [{"interval": "1m", "input_series": [series], "promql_expr_test": checks}]})
    )
    done = subprocess.run([needs("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_shipped_rules_are_rules() -> None:
    files = sorted((REPOSITORY / "deploy" / "prometheus").glob("*.yml"))
    assert files
    done = subprocess.run(
        [needs("promtool"), "check", "rules", *map(str, files)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_about_ostler_fire_and_stay_quiet(tmp_path: Path) -> None:
    """Each state of Ostler with the alerts that it makes, in Prometheus' own engine."""
    well = {
        "ostler_database_up": "1x400", 'ostler_loop_age_seconds{loop="jobs"}': "2x400", "ostler_jobs_held": "0x400",
        'ostler_nodes{state="production"}': "100x400", "ostler_orders_open": "3x400", "ostler_deliveries_open": "10x400",
        'ostler_http_requests_total{listener="operator",status="200"}': "0+100x400",
        'ostler_fabric_look_age_seconds{fabric="compute"}': "900x400", 'ostler_fabric_known_share{fabric="compute"}': "1x400",
    }  # fmt: skip
    changes: dict[str, dict[str, str]] = {
        "": {},
        "OstlerAbsent": {"ostler_database_up": "1x380 stale"},
        "OstlerDatabaseDown": {"ostler_database_up": "1x380 0x20"},
        "OstlerLoopStands": {'ostler_loop_age_seconds{loop="jobs"}': "2x380 200x20"},
        "OstlerJobsHeld": {"ostler_jobs_held": "0x380 1x20"},
        "OstlerOrdersUnanswered": {"ostler_orders_open": "3x300 40x100"},
        "OstlerDeliveriesPile": {"ostler_deliveries_open": "3x300 4000x100"},
        "OstlerAnswersBadly": {'ostler_http_requests_total{listener="operator",status="500"}': "0+6x400"},
        "OstlerFleetShrinks": {'ostler_nodes{state="production"}': "100x380 89x20"},
        "OstlerFabricUnwatched": {'ostler_fabric_look_age_seconds{fabric="compute"}': "900x380 43300x20"},
        "OstlerFabricHidden": {'ostler_fabric_known_share{fabric="compute"}': "0.94x400"},
    }
    shipped = yaml.safe_load((REPOSITORY / "deploy/prometheus/ostler-rules.yml").read_text())
    names = {rule["alert"] for group in shipped["groups"] for rule in group["rules"]}
    assert names == set(changes) - {""}
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in (well | change).items()],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": "399m",
                    "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1}] if name else [],
                }
            ],
        }
        for name, change in changes.items()
    ]
    file = tmp_path / "tests.yml"
    document = {
        "rule_files": [str(REPOSITORY / "deploy/prometheus/ostler-rules.yml")],
        "evaluation_interval": "1m",
        "tests": tests,
    }
    file.write_text(yaml.safe_dump(document))
    done = subprocess.run([needs("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
