"""`ostler pause`, `ostler resume`, `ostler brake`: hold automation, see and set its limits. Talks to `/v1/brake`.

`pause --all --file PATH` needs no server: it makes the file `pause` in the server's data folder, which every disruptive
call looks for.
"""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from ostler.cli import output
from ostler.cli.client import Client
from ostler.cli.output import Json, Reason
from ostler.core.errors import BadInput, Conflict, Unavailable, Unreachable

brake_app = typer.Typer(
    add_completion=False, invoke_without_command=True, help="The brake: limits, live permits, pauses."
)

All: TypeAlias = Annotated[bool, typer.Option("--all", help="The whole fleet.")]
Rack: TypeAlias = Annotated[str | None, typer.Option("--rack", help="One rack.", show_default=False)]
Node: TypeAlias = Annotated[str | None, typer.Option("--node", help="One node.", show_default=False)]
File: TypeAlias = Annotated[
    Path | None,
    typer.Option("--file", help="The pause file (DATA/pause): works without server and database.", show_default=False),
]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def pause_command(
    all_: All = False,
    rack: Rack = None,
    node: Node = None,
    file: File = None,
    last: Annotated[
        str | None, typer.Option("--for", help="How long: 30m, 2h, 1d. Left out: until resumed.", show_default=False)
    ] = None,
    reason: Reason = "",
) -> None:
    """Hold everything automatic: nothing disruptive starts until 'ostler resume'."""
    scope = _scope(all_, rack, node)
    why = output.need_reason(reason)
    if file is not None:
        _only_whole_fleet(scope)
        if last is not None:
            raise BadInput("A pause file holds until it is removed; leave --for out.", where="--for")
        _write(file, why)
        output.say(f"Paused by {file}; 'ostler resume --all --file {file}' lifts it.")
        return
    body: dict[str, Any] = {"scope": scope, "reason": why}
    if last is not None:
        body["seconds"] = parse_span(last)
    try:
        Client.from_environment().post("/v1/pause", body)
    except Unreachable as error:
        hint = "To pause without it, on its machine: 'ostler pause --all --file DATA/pause'."
        raise Unreachable(f"{error.message} {hint}", where=error.where) from error
    output.say(f"Paused: {output.clean(scope)}.")


def resume_command(
    all_: All = False, rack: Rack = None, node: Node = None, file: File = None, reason: Reason = ""
) -> None:
    """Lift a pause. Decisions that went stale meanwhile are not replayed."""
    scope = _scope(all_, rack, node)
    if file is not None:
        _only_whole_fleet(scope)
        try:
            file.unlink()
        except FileNotFoundError:
            raise Conflict("There is no such file; nothing is paused by it.", where=str(file)) from None
        except OSError as error:
            raise Unavailable(f"Cannot remove it: {error.strerror}.", where=str(file)) from None
        output.say(f"Lifted: {file} is gone.")
        return
    Client.from_environment().post("/v1/resume", {"scope": scope, "reason": output.need_reason(reason)})
    output.say(f"Resumed: {output.clean(scope)}.")


@brake_app.callback()
def show(context: typer.Context, json: Json = False) -> None:
    """Limits, live permits, pauses."""
    if context.invoked_subcommand is not None:
        return
    found = Client.from_environment().get("/v1/brake")
    if json:
        output.print_json(found)
        return
    for pause in found["pauses"]:
        until = f", until {output.clock(pause['until'])} UTC" if pause["until"] else ""
        output.say(
            f"PAUSED {output.clean(pause['scope'])} by {output.clean(pause['actor'])} {output.when(pause['since'])}"
            f"{until}: {output.clean(pause['reason'])}"
        )
    rules = (
        (
            rule["group"],
            None if rule["share"] is None else f"{100 * rule['share']:g} %",
            rule["at_once"],
            rule["per_window"],
            output.span(rule["window_s"]),
        )
        for rule in found["rules"]
    )
    output.table(("GROUP", "SHARE", "AT ONCE", "PER WINDOW", "WINDOW"), rows=rules, empty="No limits are set.")
    permits = (
        (permit["action"], permit["node_id"], output.when(permit["granted_at"]), permit["actor"], permit["reason"])
        for permit in found["permits"]
    )
    output.say("")
    output.table(("PERMIT FOR", "NODE", "GRANTED", "BY", "REASON"), permits, empty="No permit is out.")


@brake_app.command("set")
def set_limits(
    source: Annotated[
        typer.FileText,
        typer.Argument(help="A JSON file with 'rules', as 'ostler brake --json' prints it; - for stdin."),
    ],
    reason: Reason = "",
) -> None:
    """Set all limits at once."""
    try:
        rules = jsonlib.load(source)["rules"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadInput('This is no JSON of the form {"rules": […]}.', where=source.name) from None
    Client.from_environment().put("/v1/brake", {"rules": rules, "reason": output.need_reason(reason)})
    output.say(f"{len(rules)} limits are set.")


def parse_span(text: str, where: str = "--for") -> float:
    """Seconds of `90s`, `30m`, `2h`, `1d`. Raises `BadInput`."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isascii() or not number.isdigit() or not int(number):
        raise BadInput(f"'{text}' is no length of time; write 90s, 30m, 2h or 1d.", where=where)
    return int(number) * _UNITS[unit]


def _scope(all_: bool, rack: str | None, node: str | None) -> str:
    chosen = [
        scope
        for scope, given in (("fleet", all_), (f"rack:{rack}", rack is not None), (f"node:{node}", node is not None))
        if given
    ]
    if len(chosen) != 1:
        raise BadInput("Say what: --all, --rack RACK or --node NODE, and one of them only.")
    return chosen[0]


def _only_whole_fleet(scope: str) -> None:
    if scope != "fleet":
        raise BadInput("A pause file holds the whole fleet; use --all with it.", where="--file")


def _write(path: Path, reason: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(f"{' '.join(reason.split())}\n")
    except FileExistsError:
        raise Conflict("The file is there already; automation is paused by it.", where=str(path)) from None
    except OSError as error:
        raise Unavailable(f"Cannot write it: {error.strerror}.", where=str(path)) from None
