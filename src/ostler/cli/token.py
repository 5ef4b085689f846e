"""`ostler token …`: API tokens. Talks to `/v1/tokens`.

On a first start there is no token yet: put one in the server's environment as `OSTLER_ADMIN_TOKEN` and in yours as
`OSTLER_TOKEN`, and make the others with it.
"""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote

import typer

from ostler.cli import output
from ostler.cli.client import Client
from ostler.cli.output import Json
from ostler.core.errors import BadInput

token_app = typer.Typer(add_completion=False, no_args_is_help=True, help="API tokens with roles.")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"([0-9]{1,6})([smhd])")


@token_app.command()
def create(
    name: Annotated[str, typer.Argument(help="What or whom it is for, e.g. ci.", show_default=False)],
    role: Annotated[str, typer.Option(help="viewer, technician, operator, admin, or tenant.")] = "viewer",
    tenant: Annotated[str | None, typer.Option(help="With the role tenant: whose.")] = None,
    expires: Annotated[
        str | None, typer.Option(help="How long it lives: 90d, 12h, 30m. Left out: until revoked.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit log.")] = "",
    json: Json = False,
) -> None:
    """Make a token. Its secret is printed this once."""
    wish = {"name": name, "role": role, "tenant": tenant, "expires_in": _seconds(expires), "reason": reason}
    made = Client.from_environment().post("/v1/tokens", wish)
    if json:
        output.print_json(made)
        return
    output.facts({key: made[key] for key in ("id", "name", "role", "tenant", "expires_at")})
    output.say(f"\n{made['secret']}\n\nThis is shown once. Use it as OSTLER_TOKEN, or 'Authorization: Bearer …'.")


@token_app.command("list")
def list_tokens(json: Json = False) -> None:
    """Every token, without its secret (with --json: JSON Lines)."""
    found = Client.from_environment().pages("/v1/tokens")
    if json:
        output.print_lines(found)
        return
    rows = (
        (
            token["id"],
            token["name"],
            token["role"],
            token["tenant"],
            token["created_by"],
            output.when(token["created_at"]),
            "revoked" if token["revoked_at"] else output.when(token["expires_at"]),
        )
        for token in found
    )
    output.table(("TOKEN", "NAME", "ROLE", "TENANT", "MADE BY", "MADE", "EXPIRES"), rows, empty="No token yet.")


@token_app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="The token's id (not its secret).", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why; kept in the audit log.")] = "",
    json: Json = False,
) -> None:
    """From now on the token opens nothing."""
    if token.startswith("ost_"):
        raise BadInput("That is a token's secret; give its id, 'token_…', from 'ostler token list'.", where="TOKEN")
    gone = Client.from_environment().delete(f"/v1/tokens/{quote(token, safe='')}", reason=reason)
    if json:
        output.print_json(gone)
    else:
        output.say(f"{gone['id']} ({output.clean(gone['name'])}) is revoked.")


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    match = _SPAN.fullmatch(text)
    if match is None:
        raise BadInput(f"'{text}' is no length of time; write 90d, 12h or 30m.", where="--expires")
    return float(int(match[1]) * _SECONDS[match[2]])
