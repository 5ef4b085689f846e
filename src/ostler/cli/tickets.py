"""`ostler tickets …`: a technician's work. Talks to `/v1/tickets`."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias
from urllib.parse import quote

import typer

from ostler.cli import output
from ostler.cli.client import Client
from ostler.cli.output import Json

tickets_app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Technician work: one cause, one place, one instruction."
)

Ticket: TypeAlias = Annotated[str, typer.Argument(help="The ticket's id.", show_default=False)]


@tickets_app.command("list")
def list_tickets(
    state: Annotated[str | None, typer.Option(help="open, claimed or done.")] = None,
    node: Annotated[str | None, typer.Option(help="Only this node's.")] = None,
    json: Json = False,
) -> None:
    """Tickets, newest first (with --json: JSON Lines)."""
    found = Client.from_environment().pages("/v1/tickets", state=state, node=node)
    if json:
        output.print_lines(found)
        return
    rows = (
        (
            ticket["id"],
            ticket["state"],
            output.when(ticket["opened_at"]),
            ticket["slot"],
            ticket["cause"],
            ticket["assignee"],
            ticket["instruction"],
        )
        for ticket in found
    )
    output.table(("TICKET", "STATE", "OPENED", "SLOT", "CAUSE", "WHO", "DO"), rows, empty="No ticket.")


@tickets_app.command()
def show(ticket: Ticket, json: Json = False) -> None:
    """One ticket with its evidence."""
    _print(Client.from_environment().get(_path(ticket)), json)


@tickets_app.command()
def claim(ticket: Ticket, json: Json = False) -> None:
    """Take a ticket: until it is done, nothing powers, flashes or boots its node."""
    _print(Client.from_environment().post(f"{_path(ticket)}/claim"), json)


@tickets_app.command()
def done(
    ticket: Ticket,
    evidence: Annotated[str, typer.Option(help="What was found and done.", show_default=False)],
    json: Json = False,
) -> None:
    """Close a ticket with its evidence."""
    _print(Client.from_environment().post(f"{_path(ticket)}/done", {"evidence": evidence}), json)


def _print(ticket: dict[str, Any], json: bool) -> None:
    if json:
        output.print_json(ticket)
        return
    times = {
        name.removesuffix("_at"): ticket[name] and f"{output.clock(ticket[name])} UTC"
        for name in ("opened_at", "claimed_at", "closed_at")
    }
    shown = {name: ticket[name] for name in ("id", "state", "cause", "instruction", "slot", "node_id", "assignee")}
    output.facts({**shown, **times})
    for title in ("evidence", "closing"):
        for name, value in (ticket[title] or {}).items():
            output.say(f"{title} {output.clean(name)}: {output.clean(value)}")


def _path(ticket: str) -> str:
    return f"/v1/tickets/{quote(ticket, safe='')}"
