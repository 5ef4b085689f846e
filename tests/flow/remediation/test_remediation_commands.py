"""The verbs of `ostler nodes` that move work or power, against a real server with the fleet behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import ostler.nodes.api
import ostler.remediation.api
import ostler.tickets.api
from ostler.adapters.cluster.fake import FakeCluster
from ostler.adapters.cluster.port import Workload
from ostler.brake.pause_file import PauseFile
from ostler.cli import main
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.http.auth import Doorkeeper
from ostler.http.listeners import Listener, Listeners
from ostler.http.operator import operator_app
from ostler.nodes import service, store
from ostler.nodes.model import Pool, State
from tests.flow.fleet import MARA, Fleet
from tests.flow.remediation.test_leaks import LEAK

ADMIN = "an-admin-secret-of-the-environment"
Out = pytest.CaptureFixture[str]


@pytest.fixture
def fleet(sqlite_db: Database, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    fleet = Fleet(sqlite_db, clock, PauseFile(tmp_path / "pause"), cluster=FakeCluster())
    fleet.add(2)
    door = Doorkeeper(sqlite_db, ADMIN)
    routers = [
        feature.router(sqlite_db, door.authorize)
        for feature in (ostler.nodes.api, ostler.remediation.api, ostler.tickets.api)
    ]
    app = operator_app(routers, registry=CollectorRegistry())
    running = Listeners([Listener("operator", "[server] listen", "127.0.0.1", 0, app)])
    running.start()
    monkeypatch.setenv("OSTLER_URL", running.bound["operator"].url)
    monkeypatch.setenv("OSTLER_TOKEN", ADMIN)
    yield fleet
    running.stop()


def test_drain_asks_for_the_count_and_empties(fleet: Fleet, capsys: Out) -> None:
    assert fleet.cluster is not None
    there = fleet.cluster.nodes["gpu-1"]
    there.workload = Workload(1, ("ml/trainer",))
    drain = ["nodes", "drain", "-l", "rack=r1", "--deadline", "2h", "--reason", "new cables"]
    assert main([*drain, "--dry-run"]) == 0
    assert capsys.readouterr().out == "would drain gpu-1\nwould drain gpu-2\n2 nodes; nothing was done.\n"
    assert main(drain) == 2
    assert "This would drain 2 nodes; add --yes" in capsys.readouterr().err
    assert main([*drain, "--yes"]) == 0
    for _ in range(3):
        fleet.run(31)
    assert not fleet.cluster.busy(["gpu-1"])["gpu-1"]
    assert main(["nodes", "uncordon", "gpu-1", "gpu-2", "--yes"]) == 0
    fleet.run()
    assert fleet.cluster.nodes["gpu-1"].reason is None


@pytest.mark.parametrize(
    ("more", "where"),
    [(["--mode", "force"], "--mode"), (["--deadline", "soon"], "--deadline"), (["--deadline", "0m"], "--deadline")],
)
def test_a_drain_that_cannot_be_meant_is_one_line(fleet: Fleet, capsys: Out, more: list[str], where: str) -> None:
    assert main(["nodes", "drain", "gpu-1", *more, "--reason", "x", "--yes"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and where in err


def test_power_by_hand(fleet: Fleet, capsys: Out) -> None:
    node = fleet.db.read(lambda tx: store.get(tx, "gpu-1"))
    off = ["nodes", "power", "gpu-1", "off", "--reason", "bench", "--yes"]
    assert main(off) == 1
    assert "take it out first" in capsys.readouterr().err
    assert main(["nodes", "triage", "gpu-1", "--reason", "bench", "--yes"]) == 0
    assert main(off) == 0
    assert "gpu-1: switch off, job job_" in capsys.readouterr().out
    assert main(["nodes", "power", "gpu-1", "on", "--reason", "again", "--yes"]) == 1
    assert "not carried out yet" in capsys.readouterr().err
    fleet.run()
    assert fleet.resets(node) == ["reset off"]
    assert main(["nodes", "power", "gpu-1", "reset-bmc", "--reason", "hangs", "--dry-run"]) == 0
    assert "would restart the BMC of gpu-1" in capsys.readouterr().out
    assert main(["nodes", "reprovision", "gpu-1", "--reason", "new image", "--yes"]) == 0
    fleet.run()
    assert fleet.state(node) is State.ONBOARD
    assert fleet.resets(node) == ["reset off", "boot_once pxe", "reset on"]


def test_a_power_lock_is_shown_and_cleared_with_a_reason(fleet: Fleet, capsys: Out) -> None:
    node = fleet.db.read(lambda tx: store.get(tx, "gpu-1"))
    fleet.say(node, LEAK)
    fleet.run()
    assert main(["nodes", "why", "gpu-1"]) == 0
    told = capsys.readouterr().out
    assert "Its power-on is locked after a leak" in told and "PowerLocked (leak)" in told
    assert main(["tickets", "list", "--json"]) == 0
    assert "--clear-lock" in capsys.readouterr().out
    on = ["nodes", "power", "gpu-1", "on", "--reason", "dry", "--yes"]
    assert main(on) == 1
    assert "clear it with" in capsys.readouterr().err
    assert main(["nodes", "power", "gpu-1", "--clear-lock", "--yes"]) == 2, "not without a reason"
    capsys.readouterr()
    assert main(["nodes", "power", "gpu-1", "--clear-lock", "--reason", "hose replaced", "--yes"]) == 0
    assert "gpu-1: clear the power lock, now triage" in capsys.readouterr().out
    assert main(on) == 0
    fleet.run()
    assert fleet.resets(node) == ["reset off", "reset on"]


def test_show_says_cordoned_only_where_there_is_a_scheduler(fleet: Fleet, capsys: Out) -> None:
    fleet.run()
    assert main(["nodes", "show", "gpu-1"]) == 0
    assert "n/a" not in capsys.readouterr().out
    bare = Pool("default", fleet.granted)
    fleet.db.write(lambda tx: service.define_pool(tx, bare, actor=MARA))
    assert main(["nodes", "show", "gpu-1"]) == 0
    assert "n/a (the pool has no scheduler)" in capsys.readouterr().out
