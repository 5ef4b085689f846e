"""`ostler events …`: the ledger, as it is and as it grows. Talks to `/v1/events`."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, TypeAlias

import typer

from ostler.cli import output
from ostler.cli.client import Client
from ostler.cli.output import Json
from ostler.core.errors import Unavailable

events_app = typer.Typer(add_completion=False, no_args_is_help=True, help="What Ostler publishes: the event ledger.")

Type: TypeAlias = Annotated[str | None, typer.Option("--type", help="A type, or 'node.*'.")]
Subject: TypeAlias = Annotated[str | None, typer.Option(help="Only about this node, incident, ticket, …")]
After: TypeAlias = Annotated[str | None, typer.Option(help="A cursor: only what came after it.")]


@events_app.command("list")
def list_events(
    type: Type = None,
    subject: Subject = None,
    after: After = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    json: Json = False,
) -> None:
    """The ledger in its order (with --json: JSON Lines)."""
    size = 1000 if limit is None else min(limit, 1000)
    found = Client.from_environment().pages("/v1/events", type=type, subject=subject, after=after, limit=size)
    wanted = islice(found, limit)
    if json:
        output.print_lines(wanted)
        return
    rows = (
        (event["position"], output.clock(event["time"]), event["type"], event["subject"], event["seq"], _short(event))
        for event in wanted
    )
    output.table(("CURSOR", "TIME", "TYPE", "SUBJECT", "SEQ", "DATA"), rows, empty="No event.")


@events_app.command()
def tail(type: Type = None, subject: Subject = None, after: After = None, json: Json = False) -> None:
    """Events as they come, until interrupted (with --json: JSON Lines). With --after: first those since then."""
    for event in _stream(Client.from_environment(), type=type, subject=subject, after=after):
        if json:
            output.print_lines([event])
        else:
            output.say(
                f"{output.clock(event['time'])}  {event['type']}  {event['subject']}#{event['seq']}  {_short(event)}"
            )


def _stream(client: Client, **params: object) -> Iterator[dict[str, Any]]:
    kind = ""
    for line in client.lines("/v1/events/stream", **params):
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data" and kind == "error":
            raise Unavailable(f"The stream ended: {jsonlib.loads(value)['detail']}")
        elif name == "data":
            yield jsonlib.loads(value)


def _short(event: dict[str, Any]) -> str:
    """The payload in one line, without what the other columns say."""
    told = {name: value for name, value in event["data"].items() if value is not None and value != event["subject"]}
    return "  ".join(f"{name}={output.clean(value)}" for name, value in told.items())[:200]
