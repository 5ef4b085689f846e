"""`ostler audit …`: check and export the audit log. Talks to `/v1/audit`, or reads an exported file.

`verify` trusts nobody's arithmetic but its own: it reads every entry, hashes it again, and compares root and head.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ostler.audit import verification
from ostler.audit.model import Verdict
from ostler.cli import output
from ostler.cli.client import Client
from ostler.cli.output import Json
from ostler.core.errors import BadInput

audit_app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="What was done, by whom, why: checked and exported."
)

_ENTRY = ("id", "at", "actor", "action", "subject", "reason", "request_id", "detail", "position", "leaf")


@audit_app.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="An export; left out: the server's log.", show_default=False)
    ] = None,
    root: Annotated[str | None, typer.Option(help="The root that the log must have, noted earlier elsewhere.")] = None,
    json: Json = False,
) -> None:
    """Recompute the whole log. Exit 1, with the first bad position, if anything was changed."""
    verdict = _verify_server() if file is None else _verify_file(file)
    if root is not None and verdict.bad is None and verdict.root != root.strip().lower():
        verdict = Verdict(verdict.size, verdict.root, 1, "the root is not the given one: an earlier entry was changed")
    if json:
        output.print_json({"ok": verdict.bad is None, **asdict(verdict)})
    elif verdict.bad is None:
        output.say(f"{verdict.size} entries, every one as it was sealed. Root {verdict.root}")
    else:
        output.say(f"Position {verdict.bad}: {verdict.why}")
    if verdict.bad is not None:
        raise typer.Exit(1)


@audit_app.command()
def export() -> None:
    """Every sealed entry as JSON Lines, on the standard output; 'ostler audit verify FILE' checks it."""
    for item in Client.from_environment().pages("/v1/audit", limit=1000):
        entry = verification.entry_from({name: item[name] for name in _ENTRY}, "/v1/audit")
        sys.stdout.write(verification.export_line(entry) + "\n")


def _verify_server() -> Verdict:
    client = Client.from_environment()
    head = client.get("/v1/audit/head")
    checker = verification.Checker()
    for item in client.pages("/v1/audit", limit=1000):
        if checker.size == head["size"]:
            break  # sealed since we asked for the head
        if not checker.add(verification.entry_from({name: item[name] for name in _ENTRY}, "/v1/audit")):
            return checker.verdict()
    if checker.size != head["size"]:
        why = f"the log ends at {checker.size}, but its head counts {head['size']}: entries were removed"
        return Verdict(checker.size, checker.root, checker.size + 1, why)
    if checker.root != head["root"]:
        return Verdict(checker.size, checker.root, 1, "the head's root is not that of the entries")
    # The server also compares every earlier head and inner node, which only it has.
    told = client.get("/v1/audit/verify")
    return Verdict(checker.size, checker.root, told["bad"], told["why"])


def _verify_file(file: Path) -> Verdict:
    def lines() -> Iterator[bytes]:
        with file.open("rb") as source:
            yield from source

    try:
        return verification.verify_lines(lines(), name=str(file))
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}.", where=str(file)) from None
