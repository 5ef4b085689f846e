"""The agent as its own process, as a node runs it: joins, follows, is killed, is told no."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ostler.agent.join import IdentityStore
from ostler.wire.agent import AgentSettings, Order, Verdict
from tests.flow.agent.collector import Authority, Collector, Memory

COMMAND = (
    sys.executable,
    "-c",
    "import typer; from ostler.cli.agent import agent_command; typer.run(agent_command)",
)
LINE = (
    "2026-11-20T12:00:00.000000+00:00 gpu-1 kernel: NVRM: Xid (PCI:0000:{:02x}:00): 79, GPU has fallen off the bus.\n"
)

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def seed(tmp_path: Path, collector: Collector) -> Path:
    path = tmp_path / "seed.json"
    document = {
        "server": collector.url,
        "token": "token-1",
        "nonce": "n-1",
        "ca_sha256": collector.authority.sha256,
        "ca_pem": collector.authority.pem,
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "kern.log"
    path.touch()
    return path


@pytest.fixture
def start(tmp_path: Path, seed: Path, log: Path) -> Iterator[Start]:
    """Starts an agent on one state folder; kills what is left at the end."""
    made: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        words = (
            "--seed",
            str(seed),
            "--state-dir",
            str(tmp_path / "state"),
            "--file",
            str(log),
            "--verbose",
            "--no-monitors",
        )
        child = subprocess.Popen(
            (*COMMAND, *words, *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        made.append(child)
        return child

    yield begin
    for child in made:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def write(log: Path, numbers: range) -> None:
    with log.open("a") as file:
        file.writelines(LINE.format(number) for number in numbers)


def wait_for_signals(collector: Collector, count: int) -> None:
    memory = collector.memory
    memory.wait_until(lambda: len(memory.signals()) >= count, f"{count} signals; there are {len(memory.signals())}")


def test_joins_follows_and_stops_cleanly(start: Start, collector: Collector, log: Path, tmp_path: Path) -> None:
    child = start()
    memory = collector.memory
    memory.wait_until(lambda: bool(memory.reports), "a report")
    write(log, range(3))
    wait_for_signals(collector, 3)
    child.send_signal(signal.SIGHUP)  # nothing to read again, and no reason to end
    write(log, range(3, 5))
    wait_for_signals(collector, 5)
    child.send_signal(signal.SIGTERM)
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 0, output
    assert "Traceback" not in output
    assert [s.device for s in memory.signals()] == [f"0000:{number:02x}:00" for number in range(5)]
    assert memory.joined[0].token == "token-1"
    assert (tmp_path / "state/identity.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_killed_while_the_server_is_away_and_nothing_is_lost(
    start: Start, collector: Collector, log: Path, seed: Path, tmp_path: Path
) -> None:
    memory = collector.memory
    child = start()
    memory.wait_until(lambda: bool(memory.reports), "a report")
    write(log, range(2))
    wait_for_signals(collector, 2)
    collector.stop()
    write(log, range(2, 6))
    spool = next((tmp_path / "state/spool").glob("*.jsonl"))
    while spool.read_bytes().count(b'{"s":') < 4:
        assert child.poll() is None
        os.sched_yield()
    child.kill()
    child.communicate()
    write(log, range(6, 9))  # while no agent lives
    seed.unlink()  # a joined node needs none
    collector.start()
    start()
    wait_for_signals(collector, 9)
    boot = memory.boot()
    assert [s.device for s in boot.signals] == [f"0000:{number:02x}:00" for number in range(9)]
    assert [s.seq for s in boot.signals] == list(range(1, 10))
    assert (boot.gaps, boot.holes) == ([], [])
    assert len(memory.joined) == 1


def test_the_ca_may_come_from_the_server_if_its_hash_is_right(start: Start, collector: Collector, seed: Path) -> None:
    document = json.loads(seed.read_text())
    del document["ca_pem"]
    seed.write_text(json.dumps(document))
    start()
    memory = collector.memory
    memory.wait_until(lambda: bool(memory.reports), "a report")


@pytest.mark.parametrize("where", ["seed", "server"])
def test_a_forged_ca_never_sees_the_token(
    start: Start, collector: Collector, seed: Path, tmp_path: Path, where: str
) -> None:
    folder = tmp_path / "forged"
    folder.mkdir()
    forger = Collector(Authority(folder, "forged ca"))
    try:
        document = json.loads(seed.read_text())
        document["server"] = forger.url
        if where == "seed":
            document["ca_pem"] = forger.authority.pem
        else:
            del document["ca_pem"]
        seed.write_text(json.dumps(document))
        child = start()
        output, _ = child.communicate(timeout=60)
    finally:
        forger.stop()
    assert child.returncode == 2
    assert "another server, or someone in between" in output
    assert output.count("\n") == 1
    assert forger.memory.joined == []


def test_a_server_of_another_ca_gets_no_report(
    start: Start, collector: Collector, seed: Path, log: Path, tmp_path: Path
) -> None:
    """The true CA is pinned; whoever took over the address shows another one."""
    folder = tmp_path / "forged"
    folder.mkdir()
    forger = Collector(Authority(folder, "forged ca"))
    try:
        child = start("--server", forger.url)
        assert child.stdout is not None
        line = child.stdout.readline()
    finally:
        forger.stop()
    assert "this is not the server that the node joined" in line
    assert forger.memory.joined == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"token": "used"}, "the join token has expired"),
        ({"mac": "02:00:00:00:00:99"}, "this seed is for the machine with MAC 02:00:00:00:00:99"),
        ({"server": "http://127.0.0.1:1"}, "server: text that does not match"),
        ({"token": 7}, "token: expected text, found an integer"),
        ({"ca_sha256": "0" * 64}, "does not have the SHA-256"),
    ],
)
def test_a_bad_seed_is_one_clear_line(start: Start, seed: Path, change: dict[str, object], says: str) -> None:
    seed.write_text(json.dumps(json.loads(seed.read_text()) | change))
    child = start()
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 2
    assert says in output
    assert output.startswith("ostler agent: ")
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--seed", "/nonexistent/seed.json"), "there is no seed"),
        (("--seed", "http://127.0.0.1:1/seed"), "the seed cannot be fetched"),
        (("--allow", "format-disk"), "there is no verb 'format-disk'"),
        (("--server", "ftp://x"), "is no address of a server"),
        (("--state-dir", "/proc/nope"), "the state folder cannot be used"),
        (("--ca-sha256", "xyz"), "expected 64 lower-case hexadecimal digits"),
    ],
)
def test_bad_usage_is_one_clear_line(start: Start, arguments: tuple[str, ...], says: str) -> None:
    child = start(*arguments)
    assert child.stdout is not None
    line = child.stdout.readline()
    assert says in line
    assert "Traceback" not in line


def test_two_agents_on_one_state_folder(start: Start, collector: Collector) -> None:
    start()
    collector.memory.wait_until(lambda: bool(collector.memory.reports), "a report")
    second = start()
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    assert "another agent already runs" in output


@pytest.mark.parametrize(
    ("days", "says"), [(1, "is not valid yet by this node's clock"), (-1, "has expired by this node's clock")]
)
def test_a_clock_that_is_off_is_named(start: Start, collector: Collector, days: int, says: str) -> None:
    day = datetime.timedelta(days=days)
    now = datetime.datetime.now(datetime.UTC)
    collector.stop()
    key = {"begins": now + day - datetime.timedelta(hours=1), "ends": now + day + datetime.timedelta(hours=1)}
    collector.authority.issue("server", **key)
    collector.start()
    child = start()
    assert child.stdout is not None
    assert says in child.stdout.readline()


def _renewals(memory: Memory, count: int) -> bool:
    return len(memory.renewals) >= count


def test_killed_while_it_renews_it_has_a_pair_that_works(
    start: Start, collector: Collector, seed: Path, tmp_path: Path
) -> None:
    """Every life renews at once, and is killed at another moment of it."""
    memory, store = collector.memory, IdentityStore(tmp_path / "state")
    memory.lives = [(-1, 0.2)] * 12
    pairs = set()
    for number in range(6):
        child = start()
        memory.wait_until(partial(_renewals, memory, number + 1), "a renewal")
        for _ in range(number * 2000):
            os.sched_yield()
        child.kill()
        child.communicate()
        identity = store.load()
        assert identity is not None
        identity.context()
        pairs.add(identity.key_pem)
        seed.unlink(missing_ok=True)  # a joined node needs none
    reports = len(memory.reports)
    start()
    memory.wait_until(lambda: len(memory.reports) > reports, "a report of the last life")
    assert len(memory.joined) == 1
    assert len(pairs) > 1, "some of the lives were long enough to renew"


def test_the_agent_stays_small_while_it_joins_and_renews(start: Start, collector: Collector) -> None:
    memory = collector.memory
    memory.lives = [(-1, 0.2)]
    memory.settings = AgentSettings(heartbeat_s=0.2)
    child = start()
    memory.wait_until(lambda: len(set(memory.certificates)) == 2, "a report with the renewed certificate")
    proc = Path(f"/proc/{child.pid}")
    assert "cryptography" not in (proc / "maps").read_text(), "the library stays in the process that made the key"
    resident = next(line for line in (proc / "status").read_text().splitlines() if line.startswith("VmRSS"))
    assert int(resident.split()[1]) < 60 * 1024


def test_an_ended_certificate_is_named_once_and_a_fresh_seed_helps(
    start: Start, collector: Collector, seed: Path
) -> None:
    memory = collector.memory
    memory.lives = [(-3, -1)]
    child = start()
    assert child.stdout is not None
    while "give it a fresh seed" not in (line := child.stdout.readline()):
        assert line
    assert "certificate" in line and "boot this node again" in line
    assert "Traceback" not in line
    child.kill()
    memory.token = "token-2"
    seed.write_text(json.dumps(json.loads(seed.read_text()) | {"token": "token-2"}))
    start()
    memory.wait_until(lambda: bool(memory.reports), "a report")
    assert [request.token for request in memory.joined] == ["token-1", "token-2"]


def test_orders_run_in_a_process_of_their_own_if_they_are_allowed(start: Start, collector: Collector) -> None:
    memory = collector.memory
    memory.settings = AgentSettings(heartbeat_s=0.2, verbs=("run-check", "reboot"))
    memory.orders = [
        Order("o1", "run-check", {"check": "cpu-arith", "seconds": 0.5}),
        Order("o2", "run-check", {"check": "gpu-present", "expected": 3}),
        Order("o4", "run-check", {"check": "nonsense"}),
        Order("o5", "reboot"),
        Order("o6", "run-check", {"check": "cpu-arith", "surprise": "x"}),
    ]
    start("--allow", "run-check")
    memory.wait_until(lambda: len({result.order_id for result in memory.results}) == 5, "five results")
    results = {result.order_id: result for result in memory.results}
    assert results["o1"].verdict is Verdict.PASSED
    assert results["o1"].measured["cores"]
    assert results["o2"].verdict is Verdict.FAILED
    assert results["o4"].verdict is Verdict.FAILED
    assert "no check is called" in results["o4"].message
    assert results["o5"].verdict is Verdict.REFUSED
    assert results["o6"].verdict is Verdict.FAILED
    assert len(memory.results) == 5, "each result once"


def test_the_agent_loads_nothing_heavy() -> None:
    code = (
        "import sys; import ostler.agent.run, ostler.agent.agent, ostler.agent.join, ostler.checks.registry;"
        "heavy = {'httpx', 'httpx2', 'sqlalchemy', 'fastapi', 'starlette', 'pydantic', 'torch', 'redfish', 'structlog',"
        "'cryptography', 'requests', 'numpy', 'yaml', 'asyncio', 'typer', 'rich'} & set(sys.modules);"
        "ours = {m for m in sys.modules if m.startswith('ostler.')};"
        "allowed = ('ostler.core', 'ostler.faults', 'ostler.wire', 'ostler.checks', 'ostler.agent');"
        "print(sorted(heavy), sorted(m for m in ours if not m.startswith(allowed)))"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"
