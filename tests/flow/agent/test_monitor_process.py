"""The monitors' real process: what hangs, dies, talks nonsense, and comes back. Waits on its pipe, never on a clock."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from ostler.agent.monitors import child as child_module
from ostler.agent.monitors.child import ChildMonitors, command
from ostler.agent.monitors.scripted import NAMES
from ostler.agent.run import MONITORS
from ostler.wire.agent import Signal
from tests.nvml.machine import Machine

WORKER = Path(__file__).with_name("hanging_worker.py")


class Watched:
    """The agent's side, stepped whenever the pipe speaks."""

    def __init__(self, argv: Callable[[int], Sequence[str]], environment: dict[str, str] | None = None) -> None:
        self.monitors = ChildMonitors(argv, at=lambda: 1_800_000_000.0, environment=environment)
        self.signals: list[Signal] = []

    def until(self, true: Callable[[], bool], what: str) -> None:
        give_up = time.monotonic() + 120
        while not true():
            assert time.monotonic() < give_up, f"never happened: {what}; said: {self.said()}"
            poll = select.poll()
            descriptor = self.monitors.fileno()
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
            poll.poll(50)
            self.signals += self.monitors.step(time.monotonic())

    def said(self) -> list[str]:
        marks = [("-" if one.detail.get("over") else "=" if one.code == "census" else "+") for one in self.signals]
        return [f"{mark}{one.kind}-{one.code}@{one.device}" for mark, one in zip(marks, self.signals, strict=True)]

    def until_said(self, *wanted: str) -> None:
        """In this order, whatever else is said between."""

        def all_said() -> bool:
            said = iter(self.said())
            return all(one in said for one in wanted)

        self.until(all_said, f"{wanted}")

    def counts(self, line: str, count: int) -> bool:
        return self.said().count(line) == count

    def pid(self) -> int:
        return next(iter(self.monitors.pids()))


@pytest.fixture
def moods(tmp_path: Path) -> Path:
    folder = tmp_path / "moods"
    folder.mkdir()
    (folder / "disks").write_text("well")
    (folder / "services").write_text("well")
    return folder


@pytest.fixture
def watched(moods: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(child_module, "BACKOFF_S", (0.05, 0.2))
    made = Watched(lambda gpus: (sys.executable, str(WORKER), str(moods)))
    yield made
    made.monitors.close()


def change(moods: Path, mood: str, name: str = "disks") -> None:
    new = moods.parent / "mood.new"
    new.write_text(mood)
    new.replace(moods / name)


BOTH = ("=monitor-census@disks", "=monitor-census@services")


def test_faults_begin_and_end(watched: Watched, moods: Path) -> None:
    watched.until(lambda: set(BOTH) <= set(watched.said()), "two censuses")
    change(moods, "ill")
    watched.until_said("+host-disk-failing@nvme0n1")
    change(moods, "well")
    watched.until_said("+host-disk-failing@nvme0n1", "-host-disk-failing@nvme0n1")
    assert all(signal.detail["monitor"] for signal in watched.signals)
    assert 0 <= watched.monitors.worked()["disks"] < 100


@pytest.mark.parametrize("mood", ["hang", "slow", "raise", "wrong"])
def test_a_monitor_that_does_not_work_is_dead_alone(watched: Watched, moods: Path, mood: str) -> None:
    change(moods, "ill")
    watched.until_said("+host-disk-failing@nvme0n1", "=monitor-census@disks")
    change(moods, mood)
    watched.until_said("+monitor-dead@disks")
    reason = {"hang": "deadline", "slow": "deadline", "raise": "does not answer", "wrong": "ZeroDivisionError"}[mood]
    assert reason in next(one for one in watched.signals if one.code == "dead").message
    pid = watched.pid()
    change(moods, "ill", "services")
    watched.until(lambda: watched.said().count("+host-disk-failing@nvme0n1") == 2, "the other one works")
    for ends in range(1, 6):
        change(moods, "well", "services")
        watched.until(partial(watched.counts, "-host-disk-failing@nvme0n1", ends), "it ends")
        change(moods, "ill", "services")
        watched.until(partial(watched.counts, "+host-disk-failing@nvme0n1", ends + 2), "it begins")
    change(moods, "well", "services")
    watched.until(partial(watched.counts, "-host-disk-failing@nvme0n1", 6), "it ends")
    if mood == "slow":  # what it finds after its deadline is old: five more such looks bring it back to no life
        watched.until(
            lambda: (moods.parent / "looks").exists() and int((moods.parent / "looks").read_text()) > 5, "slow looks"
        )
    assert "-monitor-dead@disks" not in watched.said()
    change(moods, "well")
    watched.until_said("+monitor-dead@disks", "-monitor-dead@disks", "-host-disk-failing@nvme0n1", BOTH[0])
    assert watched.pid() == pid, "nothing was started anew for it"
    assert "+monitor-dead@services" not in watched.said()


def test_a_library_that_prints_does_not_speak_in_our_name(watched: Watched, moods: Path) -> None:
    change(moods, "print")
    watched.until(lambda: set(BOTH) <= set(watched.said()), "two censuses")
    change(moods, "ill")
    watched.until_said("+host-disk-failing@nvme0n1")
    assert not [said for said in watched.said() if "dead" in said]


def test_a_killed_process_is_all_monitors_dead_until_the_next_one(watched: Watched, moods: Path) -> None:
    change(moods, "ill")
    watched.until_said("+host-disk-failing@nvme0n1", "=monitor-census@disks")
    watched.until_said("=monitor-census@services")
    first = watched.pid()
    os.kill(first, signal.SIGKILL)
    watched.until_said("+monitor-dead@disks", "+monitor-dead@services")
    change(moods, "well")
    watched.until_said("-monitor-dead@disks", "-host-disk-failing@nvme0n1", "=monitor-census@disks")
    watched.until_said("-monitor-dead@services", "=monitor-census@services")
    assert watched.pid() != first


def test_a_silent_process_is_replaced(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "SILENT_S", 1.0)
    watched.until(lambda: set(BOTH) <= set(watched.said()), "two censuses")
    first = watched.pid()
    os.kill(first, signal.SIGSTOP)
    watched.until_said("+monitor-dead@disks", "-monitor-dead@disks")
    assert watched.pid() != first


@pytest.mark.parametrize(
    "code",
    [
        "print('hello')",
        'print(\'{"said":"look","monitor":"disks","standing":[{"name":"gpu-on-fire"}]}\')',
        'print(\'{"said":"look","monitor":5}\')',
        "import sys; sys.stdout.write('x' * 300000); sys.stdout.flush(); import time; time.sleep(60)",
        "",
    ],
)
def test_a_process_that_talks_nonsense_is_ended(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(child_module, "BACKOFF_S", (3600.0, 3600.0))
    hello = (
        '{"said":"hello","monitors":[{"name":"disks","period_s":30.0,"deadline_s":5.0}]}\\n'
        '{"said":"look","monitor":"disks"}'
    )
    watched = Watched(lambda gpus: (sys.executable, "-c", f"print('{hello}', flush=True)\n{code}"))
    try:
        watched.until_said("=monitor-census@disks", "+monitor-dead@disks")
        assert watched.monitors.fileno() is None
        watched.until(lambda: not watched.monitors.pids(), "nobody is left behind")
    finally:
        watched.monitors.close()


def test_a_process_that_cannot_be_started_is_no_error_of_the_agent() -> None:
    monitors = ChildMonitors(lambda gpus: ("/nonexistent/python",), at=lambda: 0.0)
    assert list(monitors.step(0.0)) == []
    assert monitors.fileno() is None
    monitors.close()


def test_three_that_cannot_be_killed_are_the_most(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs in the kernel cannot be made here; one that is merely not killed stands for it."""
    monkeypatch.setattr("subprocess.Popen.kill", lambda self: None)
    monkeypatch.setattr("ostler.agent.monitors.child.SILENT_S", 1.0)
    watched.until(lambda: set(BOTH) <= set(watched.said()), "two censuses")
    seen: set[int] = set()
    while len(seen) < child_module.LEFT_BEHIND:
        watched.until(lambda: watched.monitors.fileno() is not None, "a process")
        pid = next(iter(watched.monitors.pids() - seen))
        watched.until(lambda: watched.monitors.worked().get("disks", -1.0) >= 0, "it works")
        seen.add(pid)
        os.kill(pid, signal.SIGSTOP)
        watched.until(lambda: watched.monitors.fileno() is None, "it is given up")
    count = len(watched.signals)
    for later in range(1, 10):
        watched.signals += watched.monitors.step(time.monotonic() + 0.3 * later)
        assert watched.monitors.fileno() is None, "no fourth one"
    assert len(watched.signals) == count, "said once"
    monkeypatch.undo()
    for pid in seen:
        os.kill(pid, signal.SIGKILL)
    watched.until(lambda: len(watched.monitors.pids()) <= 1 and watched.monitors.fileno() is not None, "a fresh one")


# ── with all real monitors ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def made(tmp_path: Path) -> Machine:
    return Machine(tmp_path, gpus=2)


@pytest.fixture
def gpus(made: Machine) -> Iterator[Watched]:
    watching = Watched(lambda count: command(made.root, ("gpu",), count, None), made.environment)
    yield watching
    watching.monitors.close()


def holds_the_library(pid: int) -> bool:
    return "libnvidia-ml" in Path(f"/proc/{pid}/maps").read_text()


def test_all_monitors_of_this_machine_introduce_themselves() -> None:
    watched = Watched(lambda gpus: command(Path("/"), (), gpus, None))
    try:
        watched.until(lambda: set(watched.monitors.worked()) == set(MONITORS), "all of them")
        status = Path(f"/proc/{watched.pid()}/status").read_text()
        assert "ostler-monitors" in status.splitlines()[0]
        assert os.getpriority(os.PRIO_PROCESS, watched.pid()) >= 10
    finally:
        watched.monitors.close()
    assert set(NAMES) == set(MONITORS)


def test_the_gpus_are_watched_and_known_by_their_serial_numbers(made: Machine, gpus: Watched) -> None:
    told: list[int] = []
    gpus.monitors.on_serials = lambda: told.append(1)
    gpus.until_said("=monitor-census@gpu")
    assert holds_the_library(gpus.pid())
    readings = gpus.monitors.readings()
    assert readings is not None and readings.devices == tuple(made.addresses)
    assert gpus.monitors.readings() is None, "the same are not sent twice"
    assert gpus.monitors.serials()[made.addresses[1]].serial == "1652322000001"
    assert told == [1]


def test_the_process_keeps_small_and_loads_nothing_of_the_server(gpus: Watched) -> None:
    gpus.until_said("=monitor-census@gpu")
    lines = Path(f"/proc/{gpus.pid()}/status").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    assert resident < 24 * 1024, f"{resident} KiB"


def test_it_lets_go_of_the_gpus_and_takes_them_again(gpus: Watched) -> None:
    gpus.until_said("=monitor-census@gpu")
    gpus.monitors.hold()
    assert not gpus.monitors.let_go()
    gpus.until(gpus.monitors.let_go, "it lets go")
    pid = gpus.pid()
    gpus.monitors.resume()
    gpus.until_said("=monitor-census@gpu", "=monitor-census@gpu")
    assert gpus.pid() == pid
    assert not [said for said in gpus.said() if "dead" in said]


def test_killed_while_it_is_held_it_starts_again_afterwards(gpus: Watched) -> None:
    gpus.until_said("=monitor-census@gpu")
    gpus.monitors.hold()
    gpus.monitors.kill()
    gpus.until(gpus.monitors.let_go, "it is gone")
    assert gpus.monitors.fileno() is None
    gpus.monitors.resume()
    gpus.until_said("=monitor-census@gpu", "=monitor-census@gpu")
    assert not [said for said in gpus.said() if "dead" in said]


def test_the_process_ends_with_the_agent(made: Machine) -> None:
    """Its standard input is the leash: the agent may be killed at any time."""
    watched = Watched(lambda count: command(made.root, ("gpu",), count, None), made.environment)
    watched.until_said("=monitor-census@gpu")
    process = watched.monitors._process
    assert process is not None and process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0
    watched.monitors.close()
