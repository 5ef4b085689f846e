"""`ostler maintenance …`: planned work on nodes and racks. Talks to `/v1/maintenance`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote

import typer

from ostler.cli import output
from ostler.cli.client import Client
from ostler.cli.output import Json
from ostler.core.errors import BadInput

maintenance_app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Planned and immediate maintenance, with notice to the users."
)

Window: TypeAlias = Annotated[str, typer.Argument(help="The maintenance's id.", show_default=False)]


@maintenance_app.command("list")
def list_windows(
    all: Annotated[bool, typer.Option("--all", help="Past ones too.")] = False,
    node: Annotated[str | None, typer.Option(help="Only what concerns this node.")] = None,
    json: Json = False,
) -> None:
    """Upcoming and current maintenance (with --json: JSON Lines)."""
    found = Client.from_environment().pages("/v1/maintenance", open=None if all else "true", node=node)
    if json:
        output.print_lines(found)
        return
    rows = (
        (
            one["id"],
            one["state"],
            one["kind"],
            one["scope"],
            output.when(one["starts_at"]),
            one["actor"],
            one["summary"],
        )
        for one in found
    )
    output.table(("MAINTENANCE", "STATE", "KIND", "SCOPE", "STARTS", "WHO", "WHAT"), rows, empty="No maintenance.")


@maintenance_app.command()
def show(window: Window, json: Json = False) -> None:
    """One maintenance, and how far each of its nodes is."""
    _print(Client.from_environment().get(_path(window)), json)


@maintenance_app.command()
def plan(
    scope: Annotated[str, typer.Argument(help="node:NAME, rack:NAME or another domain.", show_default=False)],
    reason: Annotated[str, typer.Option(help="What is done, in one line.", show_default=False)],
    start: Annotated[str | None, typer.Option(help="When, e.g. 2026-12-01T02:00Z; now when left out.")] = None,
    end: Annotated[str | None, typer.Option(help="When its nodes should be back.")] = None,
    kind: Annotated[str, typer.Option(help="planned, immediate or retirement.")] = "planned",
    json: Json = False,
) -> None:
    """Announce maintenance; at its start the nodes are cordoned and drained."""
    body: dict[str, Any] = {"scope": scope, "kind": kind, "summary": output.need_reason(reason)}
    for name, text in (("starts_at", start), ("ends_at", end)):
        if text is not None:
            body[name] = _moment(text, f"--{name.removesuffix('s_at')}")
    _print(Client.from_environment().post("/v1/maintenance", body), json)


@maintenance_app.command()
def finish(
    window: Window,
    evidence: Annotated[str, typer.Option(help="What was done.", show_default=False)],
    json: Json = False,
) -> None:
    """The work is done: its nodes come back through a test."""
    _print(Client.from_environment().post(f"{_path(window)}/finish", {"evidence": evidence}), json)


@maintenance_app.command()
def cancel(
    window: Window, reason: Annotated[str, typer.Option(help="Why.", show_default=False)], json: Json = False
) -> None:
    """Call it off, while no node is out of service for it."""
    _print(Client.from_environment().post(f"{_path(window)}/cancel", {"reason": output.need_reason(reason)}), json)


def _moment(text: str, option: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"'{text[:40]}' is no moment; write it as 2026-12-01T02:00Z.", where=option) from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _print(window: dict[str, Any], json: bool) -> None:
    if json:
        output.print_json(window)
        return
    names = ("id", "state", "kind", "scope", "summary", "actor")
    times = {name.removesuffix("_at"): window[name] and f"{output.clock(window[name])} UTC" for name in _TIMES}
    output.facts({**{name: window[name] for name in names}, **times})
    names_of = _names_of(list(window["nodes"]))
    for node_id, how in window["nodes"].items():
        output.say(f"{output.clean(names_of.get(node_id, node_id))}  {output.clean(how)}")


def _names_of(node_ids: list[str]) -> dict[str, str]:
    """Id → name of the nodes of a window that a person reads through; a larger one is shown by ids."""
    if len(node_ids) > _MOST_NAMES:
        return {}
    client = Client.from_environment()
    return {node_id: client.get(f"/v1/nodes/{quote(node_id, safe='')}")["name"] for node_id in node_ids}


_MOST_NAMES = 100
_TIMES = ("starts_at", "ends_at", "started_at", "finished_at")


def _path(window: str) -> str:
    return f"/v1/maintenance/{quote(window, safe='')}"
