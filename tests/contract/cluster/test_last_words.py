"""The first process of an idle run's container, run for real: what it leaves behind, and that signals reach the checks."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ostler.adapters.cluster.last_words import LIMIT

PYTHON = sys.executable


def start(log: Path, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [PYTHON, "-m", "ostler.adapters.cluster.last_words", str(log), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("status", [0, 1, 42])
def test_the_last_line_and_the_exit_status(tmp_path: Path, status: int) -> None:
    script = f"import sys; print('a'); print('{{\"b\": 1}}'); print(); sys.stderr.write('no'); sys.exit({status})"
    process = start(tmp_path / "log", PYTHON, "-c", script)
    output, trouble = process.communicate()
    assert process.returncode == status
    assert (tmp_path / "log").read_bytes() == b'{"b": 1}'
    assert output == b'a\n{"b": 1}\n\n' and trouble == b"no"


def test_arguments_are_no_shell_words(tmp_path: Path) -> None:
    process = start(tmp_path / "log", PYTHON, "-c", "import sys; print(sys.argv[1:])", "a b", "; exit 7", "$HOME")
    process.communicate()
    assert (tmp_path / "log").read_text() == "['a b', '; exit 7', '$HOME']"


def test_no_more_than_a_kubelet_hands_on(tmp_path: Path) -> None:
    process = start(tmp_path / "log", PYTHON, "-c", "print('a' * 9000 + 'end')")
    process.communicate()
    left = (tmp_path / "log").read_bytes()
    assert len(left) == LIMIT == 4096 and left.endswith(b"aend")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_told_to_stop_tells_the_checks_and_leaves_no_result(tmp_path: Path, number: signal.Signals) -> None:
    child = (
        "import signal, subprocess, sys, time; "
        "grandchild = subprocess.Popen([sys.executable, '-c', 'import signal; print(0, flush=True); signal.pause()']); "
        "print('passed', flush=True); signal.pause()"
    )
    process = start(tmp_path / "log", PYTHON, "-c", child)
    assert process.stdout is not None
    assert sorted([process.stdout.readline(), process.stdout.readline()]) == [b"0\n", b"passed\n"]
    process.send_signal(number)
    process.communicate()  # ends only when the grandchild is gone too, which holds the pipe
    assert process.returncode == 128 + number
    assert not (tmp_path / "log").exists()


def test_a_command_that_dies_or_is_not_there(tmp_path: Path) -> None:
    process = start(tmp_path / "log", PYTHON, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    process.communicate()
    assert process.returncode == 128 + signal.SIGSEGV
    process = start(tmp_path / "log", "/no/such/command")
    assert b"/no/such/command: No such file" in process.communicate()[1] and process.returncode == 127
    process = start(tmp_path / "log")
    assert b"usage" in process.communicate()[1] and process.returncode == 2
