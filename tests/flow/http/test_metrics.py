"""What Prometheus reads of the fleet, on both databases."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from ostler.brake.pause_file import PauseFile
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.health.bmc_watch import Counts
from ostler.http.metrics import FleetMetrics
from ostler.http.operator import Loop
from tests.flow.fleet import SETTINGS, XID79, Fleet


def test_the_fleet_and_the_loops_are_shown(db: Database, clock: ManualClock, tmp_path: Path) -> None:
    fleet = Fleet(db, clock, PauseFile(tmp_path / "pause"))
    first, _second = fleet.add(2)
    fleet.say(first, XID79)
    fleet.run(SETTINGS.settle_s)
    registry = CollectorRegistry()
    registry.register(FleetMetrics(db, [Loop("jobs", lambda: 2.5, 30.0), Loop("never", lambda: None, 30.0)]))
    read = registry.get_sample_value
    assert read("ostler_nodes", {"state": "production"}) == 1
    assert read("ostler_nodes", {"state": "reboot"}) == 1
    assert read("ostler_nodes", {"state": "rma"}) == 0
    assert (read("ostler_findings_open"), read("ostler_permits_live"), read("ostler_jobs_live")) == (1, 1, 1)
    assert read("ostler_loop_age_seconds", {"loop": "jobs"}) == 2.5
    assert read("ostler_loop_age_seconds", {"loop": "never"}) is None, "never is not zero"
    assert read("ostler_database_up") == 1


def test_how_the_bmc_watch_is_doing(db: Database) -> None:
    registry = CollectorRegistry()
    counts = Counts(watched=10, silent=1, polls=120, failures=3, running=2, late_p99_s=4.5)
    registry.register(FleetMetrics(db, [], lambda: counts))
    read = registry.get_sample_value
    assert (read("ostler_bmcs_watched"), read("ostler_bmcs_silent"), read("ostler_bmc_polls_running")) == (10, 1, 2)
    assert (read("ostler_bmc_polls_total"), read("ostler_bmc_polls_failed_total")) == (120, 3)
    assert read("ostler_bmc_poll_late_p99_seconds") == 4.5
