"""`ostler fabric …` against a real server: what it prints, what it exits with, what it leaves in the books."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

import ostler.fabric.api
import ostler.tickets.api
from ostler.brake.pause_file import PauseFile
from ostler.cli import main
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput
from ostler.db.engine import Database
from ostler.fabric import store, tasks
from ostler.fabric.designs import own_csv
from ostler.fabric.metrics import FabricMetrics
from ostler.fabric.model import Port
from ostler.fabric.settings import FabricSettings
from ostler.fabric.tasks import LOOK_S, Looks
from ostler.http.auth import Doorkeeper
from ostler.http.listeners import Listener, Listeners
from ostler.http.operator import operator_app
from ostler.jobs.runner import Runner
from ostler.jobs.schedule import Schedule
from tests.flow.fabric.site import NET, Site, new_site
from tests.flow.fleet import Fleet

ADMIN = "an-admin-secret-of-the-environment"
A, B = Port("gpu-0003", "mlx5_1"), Port("gpu-0003", "mlx5_2")
Out = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What the server logs in this process is none of the command's output."""
    with capture_logs():
        yield


@pytest.fixture
def site(sqlite_db: Database, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server without a design yet, that can look by itself, and the environment that finds it."""
    fleet = Fleet(sqlite_db, clock, PauseFile(tmp_path / "pause"))
    site = new_site(sqlite_db, clock, fleet, FabricSettings(collector="tools"), designed=False)
    door = Doorkeeper(sqlite_db, ADMIN)
    routers = [
        ostler.fabric.api.router(site.fabrics, door.authorize),
        ostler.tickets.api.router(sqlite_db, door.authorize),
    ]
    running = Listeners(
        [Listener("operator", "[server] listen", "127.0.0.1", 0, operator_app(routers, registry=CollectorRegistry()))]
    )
    running.start()
    monkeypatch.setenv("OSTLER_URL", running.bound["operator"].url)
    monkeypatch.setenv("OSTLER_TOKEN", ADMIN)
    yield site
    running.stop()


@pytest.fixture
def design(site: Site, tmp_path: Path) -> Path:
    path = tmp_path / "design.csv"
    path.write_text(own_csv.write(site.blueprint))
    return path


@pytest.fixture
def turn(site: Site) -> Callable[[float], None]:
    """Let the server do what is due after so many seconds."""
    looks = Looks(site.db, site.fabrics, {NET: site})
    runner = Runner(
        site.db,
        [looks.procedure()],
        owner="test",
        schedules=[Schedule("fabric", LOOK_S, looks.sweep), Schedule("forget", 3600.0, looks.forget)],
    )

    def run(seconds: float) -> None:
        site.clock.advance(seconds)
        runner.run_due()

    return run


def ran(capsys: Out, *words: str, status: int = 0) -> str:
    assert main(["fabric", *words]) == status, capsys.readouterr().err
    return capsys.readouterr().out


def test_from_a_design_to_a_fixed_cable(site: Site, design: Path, turn: Callable[[float], None], capsys: Out) -> None:
    assert "blueprint bp" in ran(capsys, "import", NET, str(design)).replace("blueprint_", "bp_")
    assert own_csv.write(site.blueprint) == ran(capsys, "export", NET)
    site.cabling.swap(A, B)
    turn(LOOK_S)  # nobody has looked yet: a look is due
    turn(0)
    shown = ran(capsys, "show", NET)
    assert "miscabled" in shown
    assert f"out of {A}, into {B}" in shown
    (cause,) = [json.loads(line) for line in ran(capsys, "causes", NET, "--json").splitlines()]
    assert cause["ticket_id"] and {str(A), str(B)} < set(cause["ports"])
    assert main(["tickets", "claim", cause["ticket_id"], "--force", "drained by hand"]) == 0
    turn(5)
    assert main(["tickets", "done", cause["ticket_id"], "--evidence", "exchanged"]) == 0
    capsys.readouterr()
    site.cabling.swap(A, B)
    turn(5)  # a look was taken a moment ago
    assert "open" in ran(capsys, "causes", NET)
    turn(40)
    turn(LOOK_S)
    turn(0)
    assert ran(capsys, "causes", NET, "--state", "open") == "Nothing is wrong.\n"
    assert main(["tickets", "show", cause["ticket_id"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "done"
    row = ran(capsys, "list").splitlines()[-1].split()
    assert row[0] == NET and row[-1] == "0"


def test_dumps_of_another_host_are_sent_and_judged(site: Site, design: Path, tmp_path: Path, capsys: Out) -> None:
    dump = tmp_path / "fabric.txt"
    ran(capsys, "import", NET, str(design))
    dump.write_text(site.cabling.text())
    assert f"{len(site.blueprint.cables)} ok" in ran(capsys, "collect", NET, "--file", str(dump))
    site.cabling.cut(A)
    dump.write_text(site.cabling.text())
    report = json.loads(ran(capsys, "collect", NET, "--file", str(dump), "--json", status=1))
    assert [cause["kind"] for cause in report["causes"]] == ["cable-absent"]


def test_a_design_taken_from_a_look_is_unproven_until_somebody_vouches(
    site: Site, turn: Callable[[float], None], capsys: Out
) -> None:
    turn(LOOK_S)
    turn(0)
    assert main(["fabric", "bootstrap", NET]) == 2  # why?
    assert "Missing option '--reason'" in capsys.readouterr().err
    ran(capsys, "bootstrap", NET, "--reason", "taken over")
    assert "unproven" in ran(capsys, "list")
    ran(capsys, "prove", NET, "--reason", "checked by hand")
    assert "unproven" not in ran(capsys, "list")
    turn(7 * 86_400)
    turn(0)
    assert f"{len(site.blueprint.cables)} ok" in ran(capsys, "show", NET)


def test_a_replaced_part_waits_for_a_word(site: Site, design: Path, turn: Callable[[float], None], capsys: Out) -> None:
    ran(capsys, "import", NET, str(design))
    turn(LOOK_S)
    turn(0)
    site.cabling.guids["gpu-0002", "mlx5_4"] = 0x0002C903DEADBE00
    turn(1000)
    turn(0)
    assert "part-replaced" in ran(capsys, "causes", NET)
    assert "0x0002c903deadbe00" in ran(capsys, "parts", NET, "--state", "replaced")
    assert main(["fabric", "approve", NET, "0x0002c903deadbe0", "--reason", "x"]) == 2
    assert "is no GUID" in capsys.readouterr().err
    ran(capsys, "approve", NET, "0x0002c903deadbe00", "--reason", "RMA 4711")
    assert main(["fabric", "approve", NET, "0x0002c903deadbe00", "--reason", "twice"]) == 1
    capsys.readouterr()
    turn(1000)
    turn(0)
    assert "part-replaced" not in ran(capsys, "causes", NET, "--state", "open")
    assert "gone" in ran(capsys, "parts", NET, "--chassis", "gpu-0002")


def test_a_round_is_opened_filled_and_signed(
    site: Site, design: Path, turn: Callable[[float], None], capsys: Out
) -> None:
    ran(capsys, "import", NET, str(design))
    assert main(["fabric", "round", NET]) == 1  # of what? nobody has looked
    assert "none has been taken yet" in capsys.readouterr().err
    site.cabling.mute = {"gpu-0001"}
    turn(LOOK_S)
    turn(0)
    turn(LOOK_S)
    (one,) = [json.loads(line) for line in ran(capsys, "rounds", NET, "--json").splitlines()]
    assert one["state"] == "open" and one["left"] == len(one["items"]) == 8
    assert "not verified by any look" in ran(capsys, "round", NET, one["id"])
    for item in one["items"][1:]:
        ran(capsys, "round", NET, one["id"], "--item", str(item["n"]), "--found", "ok")
    assert main(["fabric", "round", NET, one["id"], "--item", "99", "--found", "ok"]) == 2
    assert main(["fabric", "sign", NET, one["id"]]) == 1
    assert "1 items have no result" in capsys.readouterr().err
    ran(capsys, "round", NET, one["id"], "--item", "1", "--found", "bad", "--note", "fibre is kinked")
    assert "is signed by" in ran(capsys, "sign", NET, one["id"])
    assert main(["fabric", "round", NET, one["id"], "--item", "1", "--found", "ok"]) == 1
    assert "nothing of it changes" in capsys.readouterr().err
    assert site.events("fabric.round_signed") == ["fabric.round_signed"]
    turn(6 * 86_400)
    turn(0)
    assert len(ran(capsys, "rounds", NET, "--json").splitlines()) == 1
    turn(86_400)
    turn(0)
    assert len(ran(capsys, "rounds", NET, "--json").splitlines()) == 2


def test_a_look_that_fails_says_why_and_is_tried_again(site: Site, turn: Callable[[float], None], capsys: Out) -> None:
    site.fails = BadInput("No ibnetdiscover here: apt-get install infiniband-diags.", where="sm01")
    turn(LOOK_S)
    turn(0)
    assert "infiniband-diags" in json.dumps(_state(site))
    failed = _state(site)["job_id"]
    turn(LOOK_S)
    turn(0)
    assert _state(site)["job_id"] == failed  # not at once
    site.fails = None
    turn(40)
    turn(0)
    assert "ok" not in ran(capsys, "list").splitlines()[0]
    assert site.db.read(site.fabrics.names) == [NET]
    assert len(ran(capsys, "parts", NET, "--json").splitlines()) == len(site.cabling.guids)


def test_what_prometheus_reads(site: Site, design: Path, turn: Callable[[float], None], capsys: Out) -> None:
    ran(capsys, "import", NET, str(design))
    registry = CollectorRegistry()
    registry.register(FabricMetrics(site.fabrics))
    assert b"ostler_fabric_look_age_seconds{" not in generate_latest(registry)
    site.cabling.cut(A)
    turn(LOOK_S)
    turn(0)
    site.clock.advance(60)
    text = generate_latest(registry).decode()
    assert 'ostler_fabric_look_age_seconds{fabric="compute"} 60.0' in text
    assert 'ostler_fabric_causes_open{fabric="compute",kind="cable-absent"} 1.0' in text
    assert f'ostler_fabric_cables{{fabric="compute",verdict="ok"}} {len(site.blueprint.cables) - 1}.0' in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "nowhere"], "There is no fabric 'nowhere'"),
        (["show", "a b"], "is no name for a fabric"),
        (["import", NET, "/nonexistent.csv"], "/nonexistent.csv: It cannot be read"),
        (["collect", NET, "--file", "/etc/hostname"], "hostname"),
        (["prove", NET, "--reason", " "], "Say why"),
    ],
)
def test_mistakes_are_one_line(site: Site, words: list[str], said: str, capsys: Out) -> None:
    assert main(["fabric", *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_a_look_that_others_take_is_waited_for(site: Site, design: Path, tmp_path: Path, capsys: Out) -> None:
    runner = Runner(site.db, [Looks(site.db, site.fabrics, {}).procedure()], owner="test")
    ran(capsys, "import", NET, str(design))
    dump = tmp_path / "fabric.txt"
    dump.write_text(site.cabling.text())
    ran(capsys, "collect", NET, "--file", str(dump))
    site.clock.advance(60)
    ran(capsys, "look", NET, "--wait", "0")
    runner.run_due()
    assert _wanted(site) == "token:OSTLER_ADMIN_TOKEN asked for it"  # what was sent before does not count
    site.clock.advance(5)
    ran(capsys, "collect", NET, "--file", str(dump))
    site.clock.advance(5)
    runner.run_due()
    assert _wanted(site) is None
    assert _state(site)["state"] == "done"
    ran(capsys, "look", NET, "--wait", "0")
    site.clock.advance(901)
    runner.run_due()
    assert "is 'ostler fabric collect' running" in _state(site)["waits"]


def _wanted(site: Site) -> str | None:
    return site.db.read(lambda tx: tasks.wanted(tx, NET, site.fabrics.settings(NET)))


def _state(site: Site) -> dict[str, Any]:
    row = site.db.read(lambda tx: store.last_look(tx, f"fabric:{NET}", tasks.PROCEDURE))
    assert row is not None
    return tasks.job_view(row)
