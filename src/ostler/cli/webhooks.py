"""`ostler webhooks …`: who is told, and whether it arrived. Talks to `/v1/webhooks`.

A secret is never an argument, where other users of the machine would see it: it comes from a file, from a prompt, or is
made here and printed once.
"""

from __future__ import annotations

import secrets
import sys
import time
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote

import typer

from ostler.cli import output
from ostler.cli.client import Client
from ostler.cli.output import Json
from ostler.core.errors import BadInput

webhooks_app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Signed webhooks: who is told, and whether it arrived."
)

Webhook: TypeAlias = Annotated[str, typer.Argument(help="The webhook's id.", show_default=False)]
SecretFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--secret-file", help="File with the signing secret, '-' for the standard input; left out: one is made."
    ),
]

_OPEN = ("due", "queued")


@webhooks_app.command()
def add(
    url: Annotated[str, typer.Argument(help="Where to send, https://…", show_default=False)],
    event: Annotated[
        list[str] | None, typer.Option("--event", "-e", help="A type, 'node.*', or '*'; repeatable.")
    ] = None,
    secret_file: SecretFile = None,
    json: Json = False,
) -> None:
    """Subscribe a URL to events."""
    secret, made_here = _secret(secret_file)
    made = Client.from_environment().post("/v1/webhooks", {"url": url, "events": event or ["*"], "secret": secret})
    _print_with_secret(made, secret if made_here else None, json)


@webhooks_app.command("list")
def list_webhooks(json: Json = False) -> None:
    """Every webhook (with --json: JSON Lines)."""
    found = Client.from_environment().pages("/v1/webhooks")
    if json:
        output.print_lines(found)
        return
    rows = (
        (
            hook["id"],
            hook["url"],
            " ".join(hook["events"]),
            _health(hook),
            hook["tenant"],
            output.when(hook["created_at"]),
        )
        for hook in found
    )
    output.table(("WEBHOOK", "URL", "EVENTS", "STATE", "TENANT", "MADE"), rows, empty="No webhook.")


@webhooks_app.command()
def test(
    webhook: Webhook,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the outcome.")] = 20.0,
    json: Json = False,
) -> None:
    """Send a test event now and say what came of it. Exit 1 if it did not arrive."""
    client = Client.from_environment()
    sent = client.post(f"{_path(webhook)}/test")
    until = time.monotonic() + wait
    delivery = None
    while True:
        page = client.get(f"{_path(webhook)}/deliveries", limit=100)
        delivery = next((item for item in page["items"] if item["id"] == sent["delivery_id"]), None)
        tried = delivery is not None and (delivery["attempts"] or delivery["state"] not in _OPEN)
        if tried or time.monotonic() >= until:
            break
        time.sleep(0.1)
    arrived = delivery is not None and delivery["state"] == "delivered"
    if json:
        output.print_json({"arrived": arrived, **sent, "delivery": delivery})
    elif arrived and delivery is not None:
        last = delivery["attempts"][-1]
        output.say(f"It arrived: HTTP {last['status']} after {last['milliseconds']} ms.")
    elif delivery is not None and delivery["attempts"]:
        output.say(f"It did not arrive: {output.clean(delivery['attempts'][-1]['error'])}. Ostler goes on trying.")
    else:
        output.say(f"Nothing was heard within {wait:g} s; see 'ostler webhooks deliveries {webhook}'.")
    if not arrived:
        raise typer.Exit(1)


@webhooks_app.command()
def deliveries(
    webhook: Webhook,
    state: Annotated[str | None, typer.Option(help="queued, due, delivered or dead.")] = None,
    json: Json = False,
) -> None:
    """What was sent, newest first, and how the last try went (with --json: JSON Lines with every try)."""
    found = Client.from_environment().pages(f"{_path(webhook)}/deliveries", state=state)
    if json:
        output.print_lines(found)
        return
    rows = (
        (
            item["id"],
            item["state"],
            f"{item['subject']}#{item['seq']}",
            item["tries"],
            item["attempts"][-1]["status"] if item["attempts"] else None,
            item["attempts"][-1]["error"] if item["attempts"] else None,
            output.when(item["created_at"]),
            output.when(item["due_at"]),
        )
        for item in found
    )
    columns = ("DELIVERY", "STATE", "EVENT", "TRIES", "HTTP", "ERROR", "MADE", "NEXT TRY")
    output.table(columns, rows, empty="Nothing was sent yet.")


@webhooks_app.command()
def replay(
    webhook: Webhook,
    delivery: Annotated[
        list[str] | None, typer.Option("--delivery", help="This one; repeatable. Left out: all dead ones.")
    ] = None,
    json: Json = False,
) -> None:
    """Send again what was given up."""
    done = Client.from_environment().post(f"{_path(webhook)}/replay", {"deliveries": delivery or None})
    if json:
        output.print_json(done)
    else:
        output.say(f"{done['replayed']} will be sent again.")


@webhooks_app.command()
def rotate(webhook: Webhook, secret_file: SecretFile = None, json: Json = False) -> None:
    """Sign with a new secret; the old one signs beside it for a day. Teach the receiver the new one first."""
    secret, made_here = _secret(secret_file)
    changed = Client.from_environment().post(f"{_path(webhook)}/rotate", {"secret": secret})
    _print_with_secret(changed, secret if made_here else None, json)


@webhooks_app.command()
def enable(webhook: Webhook) -> None:
    """Send again to a disabled webhook; what waits is sent at once."""
    output.say(f"{_set(webhook, True)['id']} is enabled.")


@webhooks_app.command()
def disable(webhook: Webhook) -> None:
    """Send nothing for now; what is open waits, new events are not kept for it."""
    output.say(f"{_set(webhook, False)['id']} is disabled.")


@webhooks_app.command()
def remove(webhook: Webhook) -> None:
    """Unsubscribe for good."""
    Client.from_environment().delete(_path(webhook))
    output.say(f"{webhook} is removed.")


def _set(webhook: str, enabled: bool) -> dict[str, Any]:
    changed: dict[str, Any] = Client.from_environment().patch(_path(webhook), {"enabled": enabled})
    return changed


def _secret(file: Path | None) -> tuple[str, bool]:
    """The signing secret, and whether it was made here."""
    if file is None:
        return secrets.token_hex(32), True
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise BadInput(f"cannot be read: {why}.", where=str(file)) from None
    return text.strip(), False


def _print_with_secret(hook: dict[str, Any], secret: str | None, json: bool) -> None:
    if json:
        output.print_json(hook if secret is None else {**hook, "secret": secret})
        return
    output.facts({"id": hook["id"], "url": hook["url"], "events": " ".join(hook["events"]), "state": _health(hook)})
    if secret is not None:
        output.say(f"\n{secret}\n\nThis signing secret is shown once; the receiver needs it.")


def _health(hook: dict[str, Any]) -> str:
    if not hook["enabled"]:
        return f"disabled: {output.clean(hook['disabled_why'])}"
    if hook["failures"]:
        return f"failing for {output.when(hook['failing_since']).removesuffix(' ago')} ({hook['failures']} tries)"
    return "enabled"


def _path(webhook: str) -> str:
    return f"/v1/webhooks/{quote(webhook, safe='')}"
