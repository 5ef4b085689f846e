"""`ostler rma …`: parts on their way to the vendor and back. Talks to `/v1/rma`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote

import typer

from ostler.cli import output
from ostler.cli.client import Client
from ostler.cli.output import Json
from ostler.core.errors import BadInput

rma_app = typer.Typer(add_completion=False, no_args_is_help=True, help="Replacements and vendor cases.")

Case: TypeAlias = Annotated[str, typer.Argument(help="The case's id.", show_default=False)]
Reason: TypeAlias = Annotated[str, typer.Option(help="Why, in one line.", show_default=False)]


@rma_app.command("list")
def list_cases(
    all: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
    node: Annotated[str | None, typer.Option(help="Only this node's.")] = None,
    json: Json = False,
) -> None:
    """Open cases, newest first (with --json: JSON Lines)."""
    found = Client.from_environment().pages("/v1/rma", open=None if all else "true", node=node)
    if json:
        output.print_lines(found)
        return
    rows = (
        (
            one["id"],
            one["state"],
            output.when(one["opened_at"]),
            one["part"],
            one["serial"],
            one["vendor_case"],
            one["summary"],
        )
        for one in found
    )
    output.table(("CASE", "STATE", "OPENED", "PART", "SERIAL", "VENDOR'S", "WHY"), rows, empty="No case.")


@rma_app.command()
def show(case: Case, json: Json = False) -> None:
    """One case with its evidence."""
    _print(Client.from_environment().get(_path(case)), json)


@rma_app.command("open")
def open_case(
    node: Annotated[str, typer.Argument(help="The node's name, id or serial number.", show_default=False)],
    part: Annotated[str, typer.Option(help="gpu, nic, psu, disk, cpu, baseboard or chassis.", show_default=False)],
    reason: Reason,
    name: Annotated[str, typer.Option(help="Which one, e.g. its PCI address.")] = "",
    override: Annotated[bool, typer.Option("--override", help="Although its thresholds are not breached.")] = False,
    json: Json = False,
) -> None:
    """Request a part's replacement: a case, and a ticket for a technician."""
    body = {"part": part, "name": name, "reason": output.need_reason(reason), "override": override}
    path = f"/v1/nodes/{quote(node, safe='')}/replacement"
    _print(Client.from_environment().post(path, body), json)


@rma_app.command()
def ship(
    case: Case,
    reason: Reason,
    vendor_case: Annotated[str | None, typer.Option(help="The vendor's number.")] = None,
    json: Json = False,
) -> None:
    """The part is on its way."""
    _advance(case, {"state": "shipped", "reason": reason, "vendor_case": vendor_case}, json)


@rma_app.command()
def receive(
    case: Case,
    reason: Reason,
    serial: Annotated[str | None, typer.Option(help="The new part's serial number.")] = None,
    json: Json = False,
) -> None:
    """The replacement is here."""
    _advance(case, {"state": "replaced", "reason": reason, "replacement_serial": serial}, json)


@rma_app.command()
def refuse(case: Case, reason: Reason, json: Json = False) -> None:
    """The vendor does not replace it."""
    _advance(case, {"state": "refused", "reason": reason}, json)


@rma_app.command()
def export(
    case: Case,
    to: Annotated[Path | None, typer.Option("--output", "-o", help="File; - is standard output.")] = None,
) -> None:
    """The evidence for the vendor as one gzipped tar."""
    packed = Client.from_environment().download(f"{_path(case)}/bundle")
    target = to or Path(f"{case}.tar.gz")
    if str(target) == "-":
        sys.stdout.buffer.write(packed)
        return
    if target.exists():
        raise BadInput("The file is there already; name another one.", where=str(target))
    target.write_bytes(packed)
    output.say(f"{target}: {len(packed)} bytes")


def _advance(case: str, body: dict[str, Any], json: bool) -> None:
    body["reason"] = output.need_reason(body["reason"])
    given = {name: value for name, value in body.items() if value is not None}
    _print(Client.from_environment().post(_path(case), given), json)


def _print(case: dict[str, Any], json: bool) -> None:
    if json:
        output.print_json(case)
        return
    names = ("id", "state", "part", "serial", "node_id", "summary", "vendor_case", "replacement_serial", "actor")
    output.facts({name: case[name] for name in names})
    for name, value in case["evidence"].items():
        output.say(f"evidence {output.clean(name)}: {output.clean(value)}")


def _path(case: str) -> str:
    return f"/v1/rma/{quote(case, safe='')}"
