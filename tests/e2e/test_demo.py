"""`ostler demo` as a user starts it: the whole system, its story, its page, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("demo")  # one worker, so that the story is told once

DEMO = [sys.executable, "-m", "ostler", "demo"]
NODES = 23
"""One more than the story needs: nothing happens to the last."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo keeps its temporary files."""
    return tmp_path_factory.mktemp("demo")


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OSTLER_")}
    return {**kept, "TMPDIR": str(folder), "OSTLER_DATABASE__URL": "postgresql://nobody@nowhere/x", **more}


@pytest.fixture(scope="module")
def told(folder: Path) -> Iterator[dict[str, Any]]:
    """The JSON document of one headless run."""
    done = subprocess.run(
        [*DEMO, "--headless", "--json", "--nodes", str(NODES), "--seed", "3"],
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout[-3000:]}"
    assert done.stdout.count("\n") == 1, "one JSON document and nothing else"
    yield json.loads(done.stdout)


def after_production(told: dict[str, Any], node: str) -> list[str]:
    went = [one["to"] for one in told["transitions"] if one["node"] == node]
    return went[went.index("production") + 1 :]


def act(told: dict[str, Any], key: str) -> list[str]:
    nodes: list[str] = next(one["nodes"] for one in told["acts"] if one["key"] == key)
    return nodes


def test_every_node_is_where_it_should_be(told: dict[str, Any]) -> None:
    assert told["ok"] is True and told["unexpected"] == []
    assert len(told["nodes"]) == NODES + len(act(told, "adopted"))
    gone = {node for key in ("triage", "repeat", "leak") for node in act(told, key)}
    assert {name for name, state in told["nodes"].items() if state != "production"} == gone
    assert {told["nodes"][name] for name in gone} == {"triage"}


def test_each_went_through_day_0_and_day_1(told: dict[str, Any]) -> None:
    for node in set(told["nodes"]) - set(act(told, "adopted")) - set(act(told, "crossed")):
        went = [one["to"] for one in told["transitions"] if one["node"] == node]
        assert went[:6] == ["discovered", "onboard", "seatrial", "zap", "test", "production"], node


def test_what_was_cured_in_place_came_back_and_the_rest_was_left_alone(told: dict[str, Any]) -> None:
    for key in ("reboot", "pending", "brake", "service"):
        for node in act(told, key):
            assert after_production(told, node) == ["reboot", "production"], (key, node)
    for key in ("recorded", "silence", "storm", "rollout", "slow", "monitor", "blip", "adopted", "crossed", "pulled"):
        for node in act(told, key):
            assert after_production(told, node) == [], (key, node)


def test_many_nodes_with_one_cause_are_one_incident(told: dict[str, Any]) -> None:
    incidents = {one["cause"]: one for one in told["incidents"]}
    assert set(incidents) == {"shared-domain", "configuration"} and len(told["incidents"]) == 2
    assert "8 nodes of fabric" in incidents["shared-domain"]["summary"]
    assert incidents["shared-domain"]["closed_at"] is not None
    assert "6 of 8" in incidents["configuration"]["summary"]
    assert incidents["configuration"]["closed_at"] is None, "people have still to roll it back"


def test_a_fault_that_no_repair_cures_climbs_the_ladder_and_goes_back(told: dict[str, Any]) -> None:
    (failing,) = act(told, "repeat")
    assert after_production(told, failing) == [*("reboot", "production") * 3, "triage"]
    resets = [one for one in told["bmc_writes"][failing] if "ComputerSystem.Reset" in one]
    assert ["ForceRestart" in resets[-2], "PowerCycle" in resets[-1]] == [True, True]
    (case,) = told["cases"]
    assert (case["node"], case["part"], case["state"]) == (failing, "gpu", "open")
    assert case["serial"] and case["evidence"]["entitled"] is True


def test_a_leak_is_switched_off_and_somebody_is_called(told: dict[str, Any]) -> None:
    (leaking,) = act(told, "leak")
    assert after_production(told, leaking) == ["triage"]
    assert "ForceOff" in told["bmc_writes"][leaking][-1]
    assert [one for one in told["pages"] if leaking in one["summary"] and one["urgency"] == "critical"]


def test_the_adopted_fleet_is_told_about_and_not_touched(told: dict[str, Any]) -> None:
    adopted = act(told, "adopted")
    assert len(adopted) == 6
    assert [(one["node"], one["action"]) for one in told["would_act"]] == [
        (adopted[1], "reboot"),
        (adopted[4], "reset-gpu"),
    ]
    assert not set(told["bmc_writes"]) & set(adopted)


def test_the_brake_held_one_of_two_back(told: dict[str, Any]) -> None:
    assert {one["node"] for one in told["held"]} & set(act(told, "brake"))


def tickets_of(told: dict[str, Any], node: str) -> list[dict[str, Any]]:
    return [one for one in told["tickets"] if one["node"] == node]


def test_exchanged_plugs_are_found_in_seatrial_and_mended_by_their_ticket(told: dict[str, Any]) -> None:
    (crossed,) = act(told, "crossed")
    went = [one for one in told["transitions"] if one["node"] == crossed]
    again = ["onboard", "seatrial", "triage", "onboard", "seatrial", "zap", "test", "production"]
    assert [one["to"] for one in went] == ["discovered", *again]
    assert next(one["cause"] for one in went if one["to"] == "triage") == "seatrial-failed"
    (ticket,) = tickets_of(told, crossed)
    assert ticket["instruction"] == f"Exchange the plugs in {crossed} mlx5_0 and {crossed} mlx5_1."
    ends = [(one["at"]["port"], one["to"]["port"], one["stays"]["chassis"]) for one in ticket["steps"]]
    assert sorted(ends) == [("mlx5_0", "mlx5_1", "leaf03-r1"), ("mlx5_1", "mlx5_0", "leaf03-r0")]
    assert ticket["state"] == "done" and "Seatrial" in ticket["closing"]["evidence"]
    assert ticket["closing"]["technician"]["by"] == "token:ada"


def test_a_pulled_cable_is_one_cause_one_ticket_and_a_finding_and_over_when_it_is_seen_back(
    told: dict[str, Any],
) -> None:
    (pulled,) = act(told, "pulled")
    before, after, mended = told["fabric"]["looks"]
    cables = before["cables"]["ok"]
    assert before["coverage"]["cables"] == cables and not before["causes"]
    assert (after["cables"]["ok"], after["cables"]["absent"]) == (cables - 1, 1)
    assert [one["kind"] for one in after["causes"] if one["ticket"]] == ["cable-absent"]
    assert not [one for one in mended["causes"] if one["ticket"]]
    (cause,) = told["fabric"]["causes"]
    assert f"{pulled} mlx5_3" in cause["ports"] and cause["state"] == "cleared"
    (ticket,) = tickets_of(told, pulled)
    assert (ticket["id"], ticket["state"]) == (cause["ticket_id"], "done")
    assert cause["snapshot_id"] in ticket["closing"]["evidence"]
    assert [one["subject"] for one in told["tickets"]].count("cable") == 2
    assert told["fabric"]["hitches"] == []


def test_every_webhook_was_genuine(told: dict[str, Any]) -> None:
    assert told["webhooks"]["delivered"] == told["webhooks"]["verified"]
    assert told["webhooks"]["verified"] >= 6 * NODES


def test_nothing_is_left_behind(told: dict[str, Any], folder: Path) -> None:
    assert told["ok"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_interrupted_it_ends_its_processes_and_removes_its_folder(folder: Path, number: signal.Signals) -> None:
    demo = subprocess.Popen(
        [*DEMO, "--headless"], env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert demo.stderr is not None
    lines = iter(demo.stderr.readline, "")
    found = next(match for line in lines if (match := re.search(r"console: (http://\S+)", line)))
    children = _children(demo.pid)
    assert children
    demo.send_signal(number)
    _, rest = demo.communicate()
    assert demo.returncode == 130, rest
    assert "Traceback" not in rest
    assert list(folder.iterdir()) == []
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()], found.group(1)


def test_bad_options_are_one_line(folder: Path) -> None:
    for options, word in ((["--nodes", "3"], "--nodes"), (["--speed", "0"], "--speed"), (["--nodes", "x"], "--nodes")):
        done = subprocess.run(
            [*DEMO, "--headless", *options], env=environment(folder), capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1 and word in done.stderr, done.stderr


def _children(pid: int) -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal() and _parent(entry) == pid]


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
