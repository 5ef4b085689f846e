"""`ostler findings …`: what diagnosis made of signals, and a person's word that it is over. Talks to `/v1/findings`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from ostler.cli import output
from ostler.cli.client import Client
from ostler.cli.output import Json, Reason

findings_app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="What diagnosis found, how sure it is, and what it asks for."
)


@findings_app.command("list")
def list_findings(
    node: Annotated[str | None, typer.Option(help="Only this node's.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    json: Json = False,
) -> None:
    """Active findings, newest first (with --json: JSON Lines)."""
    found = Client.from_environment().pages("/v1/findings", node=node, active=not everything, limit=500)
    if json:
        output.print_lines(found)
        return
    rows = (
        (
            one["id"],
            one["fault"],
            one["device"],
            one["severity"],
            one["confidence"],
            one["action"],
            one["count"],
            output.when(one["last_at"]),
            f"cleared by {one['cleared_by']}" if one["cleared_at"] else one["message"],
        )
        for one in found
    )
    columns = ("FINDING", "FAULT", "ON", "SEVERITY", "CONFIDENCE", "ASKS FOR", "TIMES", "LAST", "SAYS")
    output.table(columns, rows, empty="No finding.")


@findings_app.command()
def clear(
    finding: Annotated[str, typer.Argument(help="The finding's id.", show_default=False)],
    reason: Reason = "",
    json: Json = False,
) -> None:
    """End a verdict by your word; what still stands is found again."""
    body = {"reason": output.need_reason(reason)}
    found = Client.from_environment().post(f"/v1/findings/{quote(finding, safe='')}/clear", body)
    if json:
        output.print_json(found)
        return
    output.say(f"{output.clean(found['fault'])} is cleared by {output.clean(found['cleared_by'])}.")
