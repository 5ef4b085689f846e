"""`ostler agent` as a node runs it, with all monitors in a process of its own, and GPUs that are not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ostler.agent.run import MONITORS
from ostler.wire.agent import AgentSettings
from tests.flow.agent.collector import Collector
from tests.flow.agent.test_process import COMMAND
from tests.nvml.machine import Machine

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, collector: Collector) -> Iterator[Start]:
    made: list[subprocess.Popen[str]] = []
    seed, log = tmp_path / "seed.json", tmp_path / "kern.log"
    ca = {"ca_sha256": collector.authority.sha256, "ca_pem": collector.authority.pem}
    seed.write_text(json.dumps({"server": collector.url, "token": "token-1", "nonce": "n", **ca}))
    log.touch()

    def begin(*arguments: str) -> subprocess.Popen[str]:
        words = ("--seed", str(seed), "--state-dir", str(tmp_path / "state"), "--file", str(log))
        child = subprocess.Popen(
            (*COMMAND, *words, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **Machine(tmp_path).environment},
        )
        made.append(child)
        return child

    yield begin
    for child in made:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def censuses(collector: Collector) -> set[str]:
    return {signal.device for signal in collector.memory.signals() if signal.code == "census"}


def named(collector: Collector) -> set[str]:
    beats = [report.heartbeat for report in collector.memory.reports if report.heartbeat is not None]
    return {name for beat in beats for name in beat.monitors}


def test_all_monitors_report_and_their_process_ends_with_the_agent(start: Start, collector: Collector) -> None:
    collector.memory.settings = AgentSettings(heartbeat_s=0.5)
    child = start()
    collector.memory.wait_until(lambda: set(MONITORS) <= named(collector), "a heartbeat that names them all")
    collector.memory.wait_until(lambda: {"gpu", "ethernet", "disks"} <= censuses(collector), "censuses")
    pid = children(child.pid)[0]
    os.kill(pid, signal.SIGKILL)
    dead = {"gpu", "disks"}
    collector.memory.wait_until(
        lambda: dead <= {one.device for one in collector.memory.signals() if one.code == "dead"}, "they are dead"
    )
    collector.memory.wait_until(
        lambda: dead <= {s.device for s in collector.memory.signals() if s.code == "dead" and s.detail.get("over")},
        "they work again",
    )
    child.send_signal(signal.SIGTERM)
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 0, output
    assert "Traceback" not in output
    assert not Path(f"/proc/{child.pid}").exists()


def test_an_agent_without_monitors_starts_no_process(start: Start, collector: Collector) -> None:
    collector.memory.settings = AgentSettings(heartbeat_s=0.2)
    child = start("--no-monitors")
    collector.memory.wait_until(lambda: len(collector.memory.reports) > 3, "reports")
    assert children(child.pid) == []
    assert censuses(collector) == set()


def test_some_monitors_may_be_chosen(start: Start, collector: Collector) -> None:
    collector.memory.settings = AgentSettings(heartbeat_s=0.2)
    start("--monitors", "ethernet, disks")
    collector.memory.wait_until(lambda: censuses(collector) == {"ethernet", "disks"}, "two censuses")
    assert not set(MONITORS) - {"ethernet", "disks"} & named(collector)


def test_a_monitor_that_does_not_exist_is_one_clear_line(start: Start) -> None:
    child = start("--monitors", "gpu,weather")
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 2
    assert output.count("\n") == 1
    assert "there is no monitor 'weather'; there are gpu, infiniband" in output


def test_the_monitors_process_loads_nothing_heavy() -> None:
    code = (
        "import sys; import ostler.agent.monitors.worker, ostler.agent.monitors.host;"
        "heavy = {'ssl', 'http.client', 'argparse', 'asyncio', 'ostler.faults.detector', 'cryptography', 'email'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run((sys.executable, "-S", "-c", code), capture_output=True, text=True, check=True, env=path)
    assert done.stdout.strip() == "[]"
