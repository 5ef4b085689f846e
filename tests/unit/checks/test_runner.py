"""A check in a process of its own: what ends it, and what its end says. Real processes, real signals."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ostler.checks import registry, runner
from ostler.checks.model import CheckVerdict
from ostler.checks.registry import Check
from ostler.checks.runner import Stopped, arguments_of, run_apart, stoppable
from ostler.core.errors import BadInput, NotFound

PASSED, FAILED, INCONCLUSIVE = CheckVerdict.PASSED, CheckVerdict.FAILED, CheckVerdict.INCONCLUSIVE


@pytest.fixture
def behaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Makes `ostler.checks` of the child a script: what a check does when it is not well-behaved."""

    def make(script: str) -> None:
        package = tmp_path / "ostler" / "checks"
        package.mkdir(parents=True)
        (tmp_path / "ostler" / "__init__.py").touch()
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(f"import json, os, signal, sys, time\nNAME = sys.argv[1]\n{script}\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    yield make


def passing(verdict: str = "passed", name: str = "NAME") -> str:
    return f"print(json.dumps({{'name': {name}, 'verdict': '{verdict}', 'measured': {{'n': 1}}, 'message': ''}}))"


def test_a_real_check_runs_apart() -> None:
    result = run_apart("cpu-arith", {"seconds": "0.5"}, 60.0)
    assert (result.verdict, result.name) == (PASSED, "cpu-arith")
    assert run_apart("gpu-present", {}, 60.0).verdict is INCONCLUSIVE


def test_bad_arguments_come_back_as_one_line() -> None:
    with pytest.raises(BadInput, match=r"^seconds: must be between"):
        run_apart("cpu-arith", {"seconds": "-1"}, 60.0)
    with pytest.raises(NotFound):
        run_apart("nope", {}, 60.0)
    with pytest.raises(BadInput, match="takes no 'x'"):
        arguments_of(registry.find("cpu-arith"), ["x=1"])
    with pytest.raises(BadInput, match="is no KEY=VALUE"):
        arguments_of(registry.find("cpu-arith"), ["x"])


@pytest.mark.parametrize(
    ("script", "verdict", "says"),
    [
        (passing(), PASSED, ""),
        (f"{passing('failed')}; sys.exit(1)", FAILED, ""),
        (f"{passing()}; sys.exit(1)", INCONCLUSIVE, "contradict"),
        (passing("failed"), INCONCLUSIVE, "contradict"),
        (passing(name="'other'"), INCONCLUSIVE, "contradict"),
        (f"{passing()}; sys.stdout.flush(); os.kill(os.getpid(), 11)", INCONCLUSIVE, "killed by signal 11"),
        (f"{passing()}; sys.exit(7)", INCONCLUSIVE, "exit status 7"),
        ("print('[' * 100000)", INCONCLUSIVE, "without a result"),
        ("sys.stderr.write('CUDA went away\\n'); sys.exit(1)", INCONCLUSIVE, "CUDA went away"),
        ("sys.stderr.write('CUDA \\x1b[2Jwent\\n'); sys.exit(1)", INCONCLUSIVE, "CUDA  [2Jwent"),
        ("", INCONCLUSIVE, "without a result"),
        (f"{passing()}; sys.stdout.flush(); time.sleep(1000)", INCONCLUSIVE, "was ended"),
    ],
)
def test_only_a_check_that_ended_by_itself_has_a_verdict(
    script: str, verdict: CheckVerdict, says: str, behaves: object
) -> None:
    assert callable(behaves)
    behaves(script)
    result = run_apart("cpu-arith", {}, 0.5, grace_s=1.5)
    assert (result.verdict, says in result.message) == (verdict, True), result.message


def test_what_a_check_started_is_ended_with_it(behaves: object, tmp_path: Path) -> None:
    assert callable(behaves)
    note = tmp_path / "pid"
    behaves(
        "import subprocess\nother = subprocess.Popen(['sleep', '1000'])\n"
        f"open({str(note)!r}, 'w').write(str(other.pid))\n{passing()}"
    )
    assert run_apart("cpu-arith", {}, 30.0).verdict is PASSED
    with contextlib.suppress(ProcessLookupError):  # gone already
        other = os.pidfd_open(int(note.read_text()))
        assert select.select([other], [], [], 60.0)[0] == [other]
        os.close(other)


def test_a_check_that_cannot_be_killed_has_no_verdict(behaves: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(behaves)
    behaves(passing())
    kill = runner._kill
    monkeypatch.setattr(runner, "_kill", lambda running: kill(running) and False)
    result = run_apart("cpu-arith", {}, 30.0)
    assert (result.verdict, "the driver holds it" in result.message) == (INCONCLUSIVE, True)


def test_a_stop_while_a_check_is_being_cleaned_up_is_not_lost(behaves: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(behaves)
    behaves(passing())
    kill = runner._kill

    def stopped_meanwhile(running: subprocess.Popen[bytes]) -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        return kill(running)

    monkeypatch.setattr(runner, "_kill", stopped_meanwhile)
    with pytest.raises(Stopped), stoppable():
        run_apart("cpu-arith", {}, 30.0)


def test_a_stop_while_a_check_is_being_started_ends_it_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[bytes]] = []
    begin = subprocess.Popen

    def stopped_meanwhile(*arguments: Any, **more: Any) -> subprocess.Popen[bytes]:
        begun.append(begin(*arguments, **more))
        os.kill(os.getpid(), signal.SIGTERM)
        return begun[-1]

    monkeypatch.setattr(subprocess, "Popen", stopped_meanwhile)
    with pytest.raises(Stopped), stoppable():
        run_apart("cpu-arith", {}, 600.0)
    assert begun[0].returncode == -signal.SIGKILL


def test_a_stop_is_raised_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped, stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.status == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_check_ends_with_the_process_that_asked_for_it() -> None:
    """Even a kill -9 of the caller leaves nothing running."""
    check = (
        "import time; from ostler.checks.runner import end_with_parent; end_with_parent();"
        "print('ready', flush=True); time.sleep(1000)"
    )
    asker = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {check!r}], stdout=subprocess.PIPE, start_new_session=True)\n"
        "child.stdout.readline(); print(child.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        (sys.executable, "-c", asker), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        child = os.pidfd_open(int(running.stdout.readline()))
        running.kill()
        running.wait()
    assert select.select([child], [], [], 60.0)[0] == [child]
    os.close(child)


def test_a_check_is_found_by_function() -> None:
    check = Check("x", "ostler.checks.gpu.bandwidth:nvlink_p2p", "", 1.0, {})
    with pytest.raises(BadInput, match="device"):
        check.run({"device": "x"}, 1.0)
