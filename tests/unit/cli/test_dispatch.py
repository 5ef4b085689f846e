"""The `ostler` command itself: what it loads, how it fails, how it is quiet."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import pytest
import typer

from ostler import cli
from ostler.cli import COMMANDS, Command, main
from ostler.core.errors import BadInput, Forbidden, Refused, Unreachable

HEAVY = ("sqlalchemy", "alembic", "fastapi", "starlette", "uvicorn", "pydantic", "jinja2", "torch", "psycopg")


@pytest.mark.parametrize("arguments", [["agent", "--help"], ["scan", "--help"], ["--help"]])
def test_light_commands_load_neither_database_nor_web_server(arguments: list[str]) -> None:
    program = (
        "import sys; from ostler.cli import main; status = main(sys.argv[1:]);"
        f"print('LOADED', *[name for name in {HEAVY!r} if name in sys.modules]); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (0, "LOADED", "")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in COMMANDS.values():
        assert f"  {command.name} " in shown
        assert command.does in shown


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_every_command_is_where_the_table_says(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    module, _, name = command.target.partition(":")
    assert find_spec(module) is not None, f"{module} does not exist"
    assert hasattr(import_module(module), name)
    assert main([command.name, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ostler 0.")


def test_nothing_asked_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage: ostler COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nodse"], "ostler: no command 'nodse' (did you mean 'nodes'?); 'ostler --help' lists them"),
        (["\x1b[2J"], "ostler: no command '\ufffd[2J'; 'ostler --help' lists them"),
        (["nodes", "show"], "ostler: nodes show: Missing argument 'node'; 'ostler nodes show --help' explains"),
        (
            ["nodes", "list", "--zzz"],
            "ostler: nodes list: No such option: --zzz; 'ostler nodes list --help' explains",
        ),
        (["nodes", "fly"], "ostler: nodes: No such command 'fly'; 'ostler nodes --help' explains"),
        (["pause", "--reason", "x"], "ostler: Say what: --all, --rack RACK or --node NODE, and one of them only."),
        (["pause", "--all"], "ostler: --reason: Say why: this is kept in the audit log."),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr() == ("", f"{line}\n")


Register = Callable[[Callable[[], None]], None]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Makes a function the command `try`."""

    def make(function: Callable[[], None]) -> None:
        monkeypatch.setattr(sys.modules[__name__], "tried", function, raising=False)
        monkeypatch.setitem(cli.COMMANDS, "try", Command("try", f"{__name__}:tried", "tries"))

    return make


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (BadInput("No such rack.\nTry r1.", where="rack"), 2, "ostler: rack: No such rack. Try r1."),
        (Refused("Not from test to production."), 1, "ostler: Not from test to production."),
        (Unreachable("No answer.", where="http://x"), 1, "ostler: http://x: No answer."),
        (Forbidden(), 2, "ostler: You may not do this."),
        (FileNotFoundError(2, "No such file or directory", "a.toml"), 1, "ostler: a.toml: No such file or directory"),
        (BadInput("rack \x1b]0;owned\x07"), 2, "ostler: rack \ufffd]0;owned\ufffd"),
        (KeyboardInterrupt(), 130, None),
        (typer.Exit(3), 3, None),
        (typer.Abort(), 130, None),
    ],
)
def test_errors_become_a_line_and_a_status(
    error: BaseException, status: int, line: str | None, register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    register(fail)
    assert main(["try"]) == status
    assert capsys.readouterr() == ("", "" if line is None else f"{line}\n")


def test_a_closed_pipe_is_quiet() -> None:
    shell = f"set -o pipefail; {sys.executable} -m ostler --help | true; echo $?"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_interrupted_while_it_waits_is_quiet() -> None:
    # The wake-up descriptor keeps a signal that comes just before the wait: signal.pause() would miss it.
    program = (
        "import os, signal, sys; from ostler import cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # who runs the tests in the background ignores it
        "def wait():\n"
        "    out, into = os.pipe(); os.set_blocking(into, False); signal.set_wakeup_fd(into)\n"
        "    print('waiting', flush=True); os.read(out, 1); signal.pause()\n"
        "cli.COMMANDS['try'] = cli.Command('try', '__main__:wait', ''); sys.exit(cli.main(['try']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.readline() == "waiting\n"
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130
        assert running.stderr.read() == ""


def test_interrupted_while_it_loads_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(_command: Command) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_loaded", load)
    assert main(["nodes", "list"]) == 130
    assert capsys.readouterr() == ("", "")
