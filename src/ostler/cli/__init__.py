"""The `ostler` command: one table of subcommands, each loaded only when it is asked for, and one way to fail.

`main` is the entry point (pyproject.toml). A subcommand is a Typer app or a plain function in a module of its own, so
`ostler agent` and `ostler scan` load neither the database nor the web server. Whatever goes wrong ends as one line on
standard error and an exit status: 0 done, 1 found or failed, 2 bad usage or input, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ostler.core.errors import OstlerError

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""


@dataclass(frozen=True)
class Command:
    """A subcommand: where it is and what it does, in one line for `ostler --help`."""

    name: str
    target: str
    does: str


SECTIONS: tuple[tuple[str, tuple[Command, ...]], ...] = (
    (
        "Run",
        (
            Command("demo", "ostler.cli.demo:demo_command", "the whole system with a simulated fleet, for a look"),
            Command("serve", "ostler.cli.serve:serve_command", "the control plane"),
            Command("agent", "ostler.cli.agent:agent_command", "the agent of one node"),
            Command("twin", "ostler.cli.twin:twin_command", "a simulated fleet that speaks the real protocols"),
        ),
    ),
    (
        "See and do",
        (
            Command("nodes", "ostler.cli.nodes:nodes_app", "list, show, why, history; certify, move, cordon, reboot"),
            Command("findings", "ostler.cli.findings:findings_app", "what diagnosis found: list, clear"),
            Command("tickets", "ostler.cli.tickets:tickets_app", "technician work: list, claim, done"),
            Command(
                "fabric", "ostler.cli.fabric:fabric_app", "InfiniBand: check, import, look, map, rounds; offline too"
            ),
            Command("maintenance", "ostler.cli.maintenance:maintenance_app", "planned work: plan, finish, cancel"),
            Command("rma", "ostler.cli.rma:rma_app", "replacements and vendor cases: open, ship, receive, export"),
            Command("brake", "ostler.cli.brake:brake_app", "limits of everything disruptive, and what is let through"),
            Command("pause", "ostler.cli.brake:pause_command", "hold automation: fleet, rack or node; also by a file"),
            Command("resume", "ostler.cli.brake:resume_command", "lift a pause"),
            Command("events", "ostler.cli.events:events_app", "what happened: tail, list"),
            Command("webhooks", "ostler.cli.webhooks:webhooks_app", "who is told: add, test, deliveries, replay"),
        ),
    ),
    (
        "Bring in",
        (
            Command("adopt", "ostler.cli.adopt:adopt_command", "take in a running fleet without touching it"),
            Command("provision", "ostler.cli.provision:provision_app", "what a node would be served at its first boot"),
        ),
    ),
    (
        "Offline",
        (
            Command("scan", "ostler.cli.scan:scan_command", "find hardware faults in kernel logs"),
            Command("checks", "ostler.cli.checks:checks_app", "active tests of this machine: list, run, plan"),
            Command("replay", "ostler.cli.replay:replay_command", "a recorded incident through the current policy"),
        ),
    ),
    (
        "Administer",
        (
            Command("token", "ostler.cli.token:token_app", "API tokens: create, list, revoke"),
            Command("audit", "ostler.cli.audit:audit_app", "the audit log: verify, export"),
            Command("db", "ostler.cli.db:db_app", "the database: migrate, backup, restore, check"),
        ),
    ),
)

COMMANDS: dict[str, Command] = {command.name: command for _, commands in SECTIONS for command in commands}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Never raises for what a user did."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _dispatch(given)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has enough. Python would complain once more when it flushes at exit: give it nowhere to do so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0 if given else 2
    if given[0] in ("--version", "-V"):
        from ostler import __version__

        sys.stdout.write(f"ostler {__version__}\n")
        return 0
    command = COMMANDS.get(given[0])
    if command is None:
        return _complain(f"no command '{_printable(given[0])}'{_close_to(given[0])}; 'ostler --help' lists them", 2)
    return _run(command, given[1:])


def _run(command: Command, given: list[str]) -> int:
    import typer

    try:
        answer = _loaded(command).main(args=given, prog_name=f"ostler {command.name}", standalone_mode=False)
    except OstlerError as error:
        return _complain(str(error), error.exit_code)
    except typer.Exit as leave:
        return leave.exit_code
    except typer.Abort:
        return INTERRUPTED
    except _usage_error() as error:
        return _complain(_usage_line(error), 2)
    except SystemExit as leave:  # Typer's answer to a closed pipe; its streams are quiet from there on
        return leave.code if isinstance(leave.code, int) else 1
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", 1)
    return answer if isinstance(answer, int) and not isinstance(answer, bool) else 0


def _loaded(command: Command) -> Any:
    """The subcommand as a command that can be run: a Typer app as it is, a function as an app of one."""
    import typer
    from typer.main import get_command

    module, _, name = command.target.partition(":")
    target = getattr(import_module(module), name)
    if isinstance(target, typer.Typer):
        app = target
    else:
        app = typer.Typer(add_completion=False)
        app.command(help=target.__doc__)(target)
    return get_command(app)


def _usage_error() -> type[Exception]:
    """The base of Typer's complaints about arguments; Typer exports only some of them by name."""
    import typer

    return next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _usage_line(error: Any) -> str:
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "") or "ostler"
    message = str(error.format_message()).rstrip(".") or "a command is missing"
    return f"{path.removeprefix('ostler ')}: {message}; '{path} --help' explains"


def _complain(message: str, status: int) -> int:
    """One line on standard error, whatever the message holds."""
    line = " ".join(part.strip() for part in message.splitlines() if part.strip())
    try:
        sys.stderr.write(f"ostler: {_printable(line)}\n")
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    return status


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _close_to(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def usage() -> str:
    """`ostler --help`: every command, loading none."""
    lines = [
        "Usage: ostler COMMAND [ARGUMENTS]",
        "",
        "From power-on to production, and within specification ever after.",
    ]
    width = max(map(len, COMMANDS))
    for title, commands in SECTIONS:
        lines += ["", f"{title}:"]
        lines += [f"  {command.name:<{width}}  {command.does}" for command in commands]
    lines += [
        "",
        "'ostler COMMAND --help' explains one. Commands about a server read OSTLER_URL (http://127.0.0.1:8470) and",
        "OSTLER_TOKEN. Exit status: 0 done, 1 found something or failed, 2 bad usage or input.",
        "",
    ]
    return "\n".join(lines)
