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
    state: Annotated[str | None, typer.Option(help="open, claimed, verifying, done or unfinished.")] = None,
    node: Annotated[str | None, typer.Option(help="Only this node's.")] = None,
    place: Annotated[str | None, typer.Option(help="Only there: the first parts of site/row/rack/U.")] = None,
    subject: Annotated[str | None, typer.Option(help="node, cable or switch.")] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only what you have.")] = False,
    json: Json = False,
) -> None:
    """Tickets, newest first (with --json: JSON Lines)."""
    asked = {"state": state, "node": node, "place": place, "subject": subject, "mine": "true" if mine else None}
    found = Client.from_environment().pages("/v1/tickets", **asked)
    if json:
        output.print_lines(found)
        return
    rows = (
        (
            ticket["id"],
            ticket["state"],
            output.when(ticket["opened_at"]),
            ticket["place"] or ticket["slot"],
            ticket["cause"],
            ticket["assignee"],
            ticket["instruction"],
        )
        for ticket in found
    )
    output.table(("TICKET", "STATE", "OPENED", "PLACE", "CAUSE", "WHO", "DO"), rows, empty="No ticket.")


@tickets_app.command()
def show(ticket: Ticket, json: Json = False) -> None:
    """One ticket: what to do where, step by step, and what was done before."""
    _print(Client.from_environment().get(_path(ticket)), json)


@tickets_app.command()
def claim(
    ticket: Ticket,
    force: Annotated[str, typer.Option(help="Why you do it although it is not safe to touch.")] = "",
    json: Json = False,
) -> None:
    """Take a ticket: until it is done, nothing powers, flashes or boots its nodes."""
    _print(Client.from_environment().post(f"{_path(ticket)}/claim", {"force": force} if force else None), json)


@tickets_app.command()
def unclaim(
    ticket: Ticket,
    reason: Annotated[str, typer.Option(help="Why; needed to take it from somebody else.")] = "",
    json: Json = False,
) -> None:
    """Give a ticket back."""
    _print(Client.from_environment().post(f"{_path(ticket)}/unclaim", {"reason": reason} if reason else None), json)


@tickets_app.command()
def done(
    ticket: Ticket,
    evidence: Annotated[str, typer.Option(help="What was found and done.", show_default=False)],
    json: Json = False,
) -> None:
    """Say what was done. It closes the ticket, or lets it wait until the fabric shows it."""
    _print(Client.from_environment().post(f"{_path(ticket)}/done", {"evidence": evidence}), json)


@tickets_app.command()
def withdraw(
    ticket: Ticket,
    reason: Annotated[str, typer.Option(help="Why no evidence will come, for the audit log.", show_default=False)],
    json: Json = False,
) -> None:
    """Close a ticket that nothing can prove any more: its fabric is gone, its design was wrong."""
    _print(Client.from_environment().post(f"{_path(ticket)}/withdraw", {"reason": reason}), json)


@tickets_app.command()
def note(
    ticket: Ticket,
    text: Annotated[str, typer.Argument(help="What the next one should know.", show_default=False)],
    json: Json = False,
) -> None:
    """Leave a note on a ticket."""
    _print(Client.from_environment().post(f"{_path(ticket)}/comment", {"text": text}), json)


def _print(ticket: dict[str, Any], json: bool) -> None:
    if json:
        output.print_json(ticket)
        return
    from ostler.tickets import words

    times = {
        name.removesuffix("_at"): ticket[name] and f"{output.clock(ticket[name])} UTC"
        for name in ("opened_at", "updated_at", "seen_at", "claimed_at", "verifying_at", "closed_at")
    }
    names = ("id", "state", "subject", "cause", "instruction", "place", "slot", "node_id", "assignee")
    shown: dict[str, object] = {name: ticket[name] or None for name in names}
    harms = ticket["harms"]
    shown["harms"] = ", ".join((*harms.get("nodes", ()), *filter(None, [harms.get("workload")]))) or None
    shown["touch"] = words.safety(ticket["safe"]) if ticket["key"] else None
    shown["proof"] = "a clean snapshot of the fabric closes it" if ticket["proof"] == "fabric" else None
    shown["came back"] = f"{ticket['recurrence']} ×" if ticket["recurrence"] else None
    shown["suspect"] = ticket["recommended"] if ticket["recurrence"] and ticket["recommended"] else None
    output.facts({**shown, **times})
    for number, step in enumerate(ticket["steps"], 1):
        output.say(f"{number}. {output.clean(words.step(step))}")
    for one in ticket["notes"]:
        output.say(f"note {output.clock(one['at'])} {output.clean(one['by'])}: {output.clean(one['text'])}")
    for past in ticket["history"]:
        said = past["closing"].get("evidence", "")
        output.say(f"before {output.clock(past['closed_at'])} {output.clean(past['cause'])}: {output.clean(said)}")
    for title in ("evidence", "closing"):
        for name, value in (ticket[title] or {}).items():
            output.say(f"{title} {output.clean(name)}: {output.clean(value)}")


def _path(ticket: str) -> str:
    return f"/v1/tickets/{quote(ticket, safe='')}"
